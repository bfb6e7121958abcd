"""Sends spans, logs and metrics to one OTLP destination, over HTTP or gRPC, as they came or normalised."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import msgspec
from google.protobuf.message import DecodeError, Message
from msgspec.structs import replace
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from tachograph import otlp_messages
from tachograph.destinations import Destination
from tachograph.errors import ConfigError
from tachograph.forwarders import otlp_genai, temporality
from tachograph.forwarders.contract import EVENTS, POINTS, SPANS, STEPS, Accepted, Item, Memory, Part, Step
from tachograph.forwarders.otlp import GRPC, HTTP_JSON, Connection, connection
from tachograph.forwarders.otlp_told import as_told
from tachograph.model import Event, Point, Source, Span

if TYPE_CHECKING:
    from tachograph.forwarders.http import HttpClient
    from tachograph.forwarders.otlp_grpc import GrpcClient

PARTS_MAX: Final = 2000
BYTES_MAX: Final = 3 * 1024 * 1024  # gRPC servers take 4 MiB unless told otherwise

_WRITE: Final[dict[str, Callable[[Sequence[Any]], Message]]] = {
    "traces": otlp_messages.traces,
    "logs": otlp_messages.logs,
    "metrics": otlp_messages.metrics,
}
_ANSWERS: Final[dict[str, tuple[Any, str]]] = {
    "traces": (ExportTraceServiceResponse, "rejected_spans"),
    "logs": (ExportLogsServiceResponse, "rejected_log_records"),
    "metrics": (ExportMetricsServiceResponse, "rejected_data_points"),
}
_ROUTES: Final = ((Span, "traces"), (Event, "logs"), (Point, "metrics"))
_TARGETS: Final = {"cumulative": temporality.CUMULATIVE, "delta": temporality.DELTA}


class Otlp:
    """The forwarder of one destination. Raises ConfigError for settings that do not fit together."""

    derived_signal = "traces"
    takes_changes = False
    parts_max = PARTS_MAX
    bytes_max = BYTES_MAX

    def __init__(self, destination: Destination, environment: Mapping[str, str]) -> None:
        options = destination.options
        self._signals = destination.signals
        is_normalised = options.get("shape") == "normalised"
        if is_normalised and "traces" not in self._signals:
            got = ", ".join(self._signals)
            what = (
                f"{destination.where}: signals: got {got}; expected traces among them: metrics are counted from steps"
            )
            raise ConfigError(what, 'signals = ["traces", "metrics"]')
        self._to = {signal: connection(destination, signal) for signal in self._signals}
        self._environment = environment
        self._clients: dict[str, HttpClient | GrpcClient] = {signal: self._client(signal) for signal in self._signals}
        self._target = _TARGETS.get(options.get("temporality", ""))
        self._resource: dict[str, str] = options.get("resource", {})
        self._genai = otlp_genai.Conventions(options.get("generation", "B")) if is_normalised else None
        by_signal = {"traces": SPANS, "logs": EVENTS, "metrics": POINTS}
        self.feeds: tuple[str, ...] = (STEPS,) if is_normalised else tuple(by_signal[one] for one in self._signals)

    def convert(self, items: Sequence[Item], memory: Memory) -> list[Part]:
        """Forwarder.convert."""
        if self._genai is not None:
            return self._normalised(self._genai, items, memory)
        parts = []
        for item in items:
            record = item.record
            route = next((route for kind, route in _ROUTES if isinstance(record, kind)), "")
            if route not in self._signals:
                continue
            told: list[Any] = [record]
            if isinstance(record, Span | Event):
                told = [as_told(record)]
            elif isinstance(record, Point) and self._target is not None:
                series = item.key.rpartition(":")[0]
                told = temporality.converted([(series, record)], self._target, memory)[0]
            parts += [_part(item, route, one) for one in told]
        self._forget(items, memory)
        return parts

    def _normalised(self, genai: otlp_genai.Conventions, items: Sequence[Item], memory: Memory) -> list[Part]:
        parts: list[Part] = []
        if "traces" in self._signals:
            parts += [_part(item, "traces", span) for item, span in genai.spans(items)]
        if "metrics" in self._signals:
            target = self._target or temporality.CUMULATIVE
            parts += [_part(item, "metrics", point) for item, point in genai.points(items, target, memory)]
            self._forget(items, memory)
        return parts

    @staticmethod
    def _forget(items: Sequence[Item], memory: Memory) -> None:
        """Let go of old series; the clock of one sender may be far ahead, and must not end those of the others."""
        times = [one.record.time_ns for one in items if isinstance(one.record, Point)]
        times += [one.record.end_ns for one in items if isinstance(one.record, Step)]
        if times:
            temporality.forget_old(memory, temporality.latest_ns(min(times), memory))

    def send(self, route: str, parts: Sequence[Part]) -> Accepted:
        """Forwarder.send."""
        return self._export(route, [part.value for part in self._with_resources(parts)])

    def probe(self) -> Accepted:
        """Forwarder.probe: empty requests, which the specification lets succeed."""
        answers = [self._export(signal, []) for signal in self._signals]
        return answers[0] if answers else Accepted()

    def close(self) -> None:
        """Forwarder.close."""
        for client in self._clients.values():
            client.close()

    def _with_resources(self, parts: Sequence[Part]) -> list[Part]:
        """The parts with the attributes of the settings in each resource that does not have them."""
        if not self._resource:
            return list(parts)
        made: dict[int, Source] = {}
        found = []
        for part in parts:
            source = part.value.source
            if id(source) not in made:
                made[id(source)] = replace(source, resource={**self._resource, **source.resource})
            found.append(replace(part, value=replace(part.value, source=made[id(source)])))
        return found

    def _client(self, signal: str) -> HttpClient | GrpcClient:
        to = self._to[signal]
        if to.protocol == GRPC:
            from tachograph.forwarders.otlp_grpc import GrpcClient

            return GrpcClient(to)
        from tachograph.forwarders.http import HttpClient
        from tachograph.forwarders.tls import Tls

        tls = Tls(to.certificate, to.client_certificate, to.client_key)
        return HttpClient(
            _address(to, signal), to.headers, timeout_s=to.timeout_s, tls=tls, environment=self._environment
        )

    def _export(self, signal: str, records: Sequence[Any]) -> Accepted:
        to, client = self._to[signal], self._clients[signal]
        request = _WRITE[signal](records)
        if to.protocol == GRPC:
            return _read(signal, client.export(signal, request.SerializeToString()), "OK")  # type: ignore[union-attr]
        is_json = to.protocol == HTTP_JSON
        body = otlp_messages.to_json(request) if is_json else request.SerializeToString()
        headers = {"content-type": "application/json" if is_json else "application/x-protobuf"}
        answer = client.post("", body, headers, is_gzipped=to.is_gzipped)  # type: ignore[union-attr]
        has_json = answer.headers.get("content-type", "").lower().startswith("application/json")
        return _read_json(answer.body, str(answer)) if has_json else _read(signal, answer.body, str(answer))


def _address(to: Connection, signal: str) -> str:
    """Where one signal goes: its own address as it is, or below the one of all, whose query stays behind."""
    parts = urlsplit(to.endpoint)
    path = parts.path if to.is_whole else f"{parts.path.rstrip('/')}/v1/{signal}"
    return parts._replace(path=path or "/", fragment="").geturl()


def _part(item: Item, route: str, record: Span | Event | Point) -> Part:
    return Part(item, route, record, len(msgspec.msgpack.encode(record)))


def _read(signal: str, body: bytes, status: str) -> Accepted:
    """What a good answer says of records that were left out; one that is no answer of OTLP's says nothing."""
    kind, field = _ANSWERS[signal]
    try:
        told = kind.FromString(body).partial_success
    except DecodeError:
        return Accepted(status)
    return Accepted(status, max(0, getattr(told, field)), told.error_message)


def _read_json(body: bytes, status: str) -> Accepted:
    try:
        told = msgspec.json.decode(body).get("partialSuccess") or {}
        rejected = next((int(value) for name, value in told.items() if name.startswith("rejected")), 0)
        return Accepted(status, max(0, rejected), str(told.get("errorMessage") or ""))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, AttributeError, TypeError, ValueError):
        return Accepted(status)
