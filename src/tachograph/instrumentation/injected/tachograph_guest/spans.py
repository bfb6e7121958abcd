"""Sees every span that ends in this program, whoever made it, and writes it down as OTLP in JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from . import places, providers

# Who and where: a call is its parent's and its baggage's where it does not say so itself.
IDENTITY = (
    *("enduser.id", "enduser.pseudo.id", "user.id", "user.email", "tenant.id", "organization.id", "team.id"),
    *("session.id", "gen_ai.conversation.id", "project.id", "channel"),
)
_SESSIONS = ("session.id", "gen_ai.conversation.id")
_MODELS = ("gen_ai.request.model", "gen_ai.response.model", "llm.model_name", "embedding.model_name")
# crewAI reports to its makers by spans of its own; they are not the program's.
_NOT_OURS = ("crewAI-telemetry",)
_TEXT_CHARS = 1_000_000
_ANCESTORS_MAX = 100

# Calls that stand alone would each be a session of their own: those of one run belong together.
run = ""
_NOTE = "_tachograph_from"


def _nowhere(line: bytes) -> None:
    """Until a spool is set."""


record: Callable[[bytes], None] = _nowhere


def tap(module: ModuleType) -> None:
    """Note where each span comes from when it starts, and write it down when it has ended."""
    from opentelemetry.baggage import get_all
    from opentelemetry.trace import get_current_span

    span_class: Any = module.Span
    started, ended = span_class.start, span_class.end

    def start(self: Any, start_time: int | None = None, parent_context: Any = None) -> None:
        started(self, start_time, parent_context)
        above = places.around(self, get_current_span(parent_context))
        setattr(self, _NOTE, (above, get_all(parent_context)))

    def end(self: Any, end_time: int | None = None) -> None:
        was_open = self.end_time is None
        ended(self, end_time)
        if was_open and self.end_time is not None:
            places.left(self)
            write(self)

    span_class.start, span_class.end = start, end


def write(span: Any) -> None:
    """Write down one span that has ended."""
    resource = dict(span.resource.attributes)
    scope = span.instrumentation_scope
    if resource.get("service.name") in _NOT_OURS or (scope is not None and scope.name in providers.silent):
        return
    line = json.dumps(_request(span, resource), separators=(",", ":"), ensure_ascii=True)
    record(line.encode() + b"\n")


def _request(span: Any, resource: dict[str, Any]) -> dict[str, Any]:
    """An ExportTraceServiceRequest with this one span."""
    if str(resource.get("service.name") or "unknown_service").startswith("unknown_service"):
        resource["service.name"] = providers.service
    resource.setdefault("process.pid", os.getpid())
    scope = span.instrumentation_scope
    scopes = {"spans": [_span(span)], "schemaUrl": getattr(scope, "schema_url", None) or ""}
    if scope is not None:
        scopes["scope"] = {"name": scope.name, "version": scope.version or ""}
    return {"resourceSpans": [{"resource": {"attributes": _pairs(resource)}, "scopeSpans": [scopes]}]}


def _span(span: Any) -> dict[str, Any]:
    context, status = span.get_span_context(), span.status
    return {
        "traceId": f"{_trace_of(span):032x}",
        "spanId": f"{context.span_id:016x}",
        "parentSpanId": f"{_parent_of(span):016x}" if _parent_of(span) else "",
        "traceState": context.trace_state.to_header() if context.trace_state else "",
        "flags": int(context.trace_flags),
        "name": span.name,
        "kind": span.kind.value + 1,  # OTLP counts from 1
        "startTimeUnixNano": str(span.start_time),
        "endTimeUnixNano": str(span.end_time),
        "attributes": _pairs(_attributes(span)),
        "events": [
            {"timeUnixNano": str(event.timestamp), "name": event.name, "attributes": _pairs(event.attributes or {})}
            for event in span.events
        ],
        "links": [
            {
                "traceId": f"{link.context.trace_id:032x}",
                "spanId": f"{link.context.span_id:016x}",
                "attributes": _pairs(link.attributes or {}),
            }
            for link in span.links
        ],
        "status": {"code": status.status_code.value, "message": _cut(status.description or "")},
        "droppedAttributesCount": span.dropped_attributes,
        "droppedEventsCount": span.dropped_events,
        "droppedLinksCount": span.dropped_links,
    }


def _parent_of(span: Any) -> int:
    """The id of the span that it lies in, 0 where it stands alone."""
    above: Any = getattr(span, _NOTE, (None,))[0]
    if hasattr(above, _NOTE):
        return int(above.get_span_context().span_id)
    return int(span.parent.span_id) if span.parent is not None else 0


def _trace_of(span: Any) -> int:
    """The trace of the outermost span that it lies in within this program."""
    at, seen = span, 0
    while hasattr(above := getattr(at, _NOTE, (None,))[0], _NOTE) and seen < _ANCESTORS_MAX:
        at, seen = above, seen + 1
    return int(at.get_span_context().trace_id)


def _attributes(span: Any) -> dict[str, Any]:
    """The span's own, and who and where from its baggage and its nearest ancestors."""
    own = dict(span.attributes or {})
    found: dict[str, Any] = {}
    at, seen = span, 0
    while at is not None and seen < _ANCESTORS_MAX:
        above, carried = getattr(at, _NOTE, (None, {}))
        for told in (getattr(at, "attributes", None) or {}, carried):
            for key in IDENTITY:
                if key in told:
                    found.setdefault(key, told[key])
        at, seen = above, seen + 1
    is_alone = not _parent_of(span) and any(key in own for key in _MODELS)
    if is_alone and not any(key in found for key in _SESSIONS):
        found["session.id"] = f"{run}-{os.getpid()}"
    return {**found, **own}


def _pairs(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": str(key), "value": _value(value)} for key, value in attributes.items()]


def _value(value: Any) -> dict[str, Any]:
    """A value as OTLP writes it in JSON."""
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        special = value != value or value in (float("inf"), float("-inf"))
        return {"doubleValue": {"nan": "NaN", "inf": "Infinity"}.get(str(value), "-Infinity") if special else value}
    if isinstance(value, (list, tuple)):
        return {"arrayValue": {"values": [_value(one) for one in value]}}
    if isinstance(value, Mapping):
        return {"kvlistValue": {"values": _pairs(value)}}
    if value is None:
        return {}
    return {"stringValue": _cut(value if isinstance(value, str) else repr(value))}


def _cut(text: str) -> str:
    """The text, its middle left out where it is larger than any page would show (images, whole files)."""
    if len(text) <= _TEXT_CHARS:
        return text
    half = _TEXT_CHARS // 2
    return f"{text[:half]}… {len(text) - 2 * half} characters left out …{text[-half:]}"
