"""Where spans go that the program makes without having set up OpenTelemetry: to a provider that stands behind.

The program's own set-up, whenever it comes, finds everything as if nobody had been there before it.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

service = "python"
silent: set[str] = set()  # scopes that a chosen instrumentation already speaks for
_ours: Any = None


def ours() -> Any:
    """The provider for what we record, made when it is first needed; None where there is no OpenTelemetry SDK."""
    global _ours
    if _ours is None:
        try:
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import SpanLimits, TracerProvider
            from opentelemetry.sdk.trace.sampling import ALWAYS_ON
        except ImportError:
            return None
        resource = Resource.create()  # honours OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES
        if str(resource.attributes.get("service.name", "unknown_service")).startswith("unknown_service"):
            resource = resource.merge(Resource({"service.name": service}))
        # A sampled call would be a call not counted, and instrumentations write a message into many attributes.
        limits = SpanLimits(max_span_attributes=10_000)
        _ours = TracerProvider(ALWAYS_ON, resource, shutdown_on_exit=False, span_limits=limits)
    return _ours


def stand_behind(module: ModuleType) -> None:
    """Answer where OpenTelemetry would answer with nothing; `module` is opentelemetry.trace."""
    trace: Any = module

    class Tracer(trace.ProxyTracer):  # type: ignore[misc]
        """The program's tracer once it has a provider, ours until then."""

        @property
        def _tracer(self) -> Any:
            its = super()._tracer
            if self._real_tracer is not None or self._instrumenting_module_name in silent:
                return its
            provider = ours()
            name, version = self._instrumenting_module_name, self._instrumenting_library_version
            return its if provider is None else provider.get_tracer(name, version, self._schema_url, self._attributes)

    class Provider(trace.ProxyTracerProvider):  # type: ignore[misc]
        """Still a proxy to whoever asks whether a provider was set."""

        def get_tracer(
            self, name: str, version: str | None = None, schema_url: str | None = None, attributes: Any = None
        ) -> Any:
            """As the one that it stands for."""
            if trace._TRACER_PROVIDER is not None:
                return trace._TRACER_PROVIDER.get_tracer(name, version, schema_url, attributes)
            return Tracer(name, version, schema_url, attributes)

    trace._PROXY_TRACER_PROVIDER = Provider()
