"""Writes spans, events and points as OTLP requests (protobuf and JSON): what `receivers.otlp` reads, the other way."""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

import msgspec
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from tachograph.model import Attributes, Event, Point, Source, Span

_Record = TypeVar("_Record", Span, Event, Point)
_INT64: Final = range(-(2**63), 2**63)
# Ids are bytes in protobuf and hex in OTLP/JSON, where the protobuf library writes base64.
_ID_FIELDS: Final = frozenset(("traceId", "spanId", "parentSpanId"))
_ENCODE: Final = msgspec.json.Encoder().encode


def traces(spans: Sequence[Span]) -> ExportTraceServiceRequest:
    """A request with these spans, grouped by who sent them."""
    request = ExportTraceServiceRequest()
    for source, some in _by_source(spans):
        group = request.resource_spans.add(resource=_resource(source), schema_url=source.resource_schema_url)
        scoped = group.scope_spans.add(scope=_scope(source), schema_url=source.scope_schema_url)
        for span in some:
            _span(scoped.spans.add(), span)
    return request


def logs(events: Sequence[Event]) -> ExportLogsServiceRequest:
    """A request with these events, grouped by who sent them."""
    request = ExportLogsServiceRequest()
    for source, some in _by_source(events):
        group = request.resource_logs.add(resource=_resource(source), schema_url=source.resource_schema_url)
        scoped = group.scope_logs.add(scope=_scope(source), schema_url=source.scope_schema_url)
        for event in some:
            _event(scoped.log_records.add(), event)
    return request


def metrics(points: Sequence[Point]) -> ExportMetricsServiceRequest:
    """A request with these points, grouped by who sent them and by metric."""
    request = ExportMetricsServiceRequest()
    for source, some in _by_source(points):
        group = request.resource_metrics.add(resource=_resource(source), schema_url=source.resource_schema_url)
        scoped = group.scope_metrics.add(scope=_scope(source), schema_url=source.scope_schema_url)
        known: dict[tuple[Any, ...], Metric] = {}
        for point in some:
            key = (point.name, point.unit, point.description, point.type, point.temporality, point.is_monotonic)
            metric = known.get(key)
            if metric is None:
                metric = known[key] = scoped.metrics.add(
                    name=point.name, unit=point.unit, description=point.description, metadata=_pairs(point.metadata)
                )
            _point(metric, point)
    return request


def to_json(request: Message) -> bytes:
    """A request in OTLP/JSON: ids in hex, enums as numbers, 64-bit integers as text (OTLP specification, JSON)."""
    told = MessageToDict(request, use_integers_for_enums=True)
    stack: list[Any] = [told]
    while stack:
        value = stack.pop()
        if isinstance(value, list):
            stack.extend(value)
        elif isinstance(value, dict):
            for name in _ID_FIELDS & value.keys():
                value[name] = b64decode(value[name]).hex()
            stack.extend(value.values())
    return _ENCODE(told)


def any_value(value: Any) -> AnyValue:
    """A plain JSON value as an AnyValue; an integer beyond 64 bits becomes a text, as no other type holds it whole."""
    if isinstance(value, str):
        return AnyValue(string_value=_clean(value))
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value) if value in _INT64 else AnyValue(string_value=str(value))
    if isinstance(value, float):
        return AnyValue(double_value=value)
    made = AnyValue()
    if isinstance(value, list):
        made.array_value.values.extend(any_value(one) for one in value)
        made.array_value.SetInParent()
    elif isinstance(value, dict) and value.keys() == {"$double"}:
        made.double_value = _number(value)
    elif isinstance(value, dict) and value.keys() == {"$bytes"} and (found := _bytes(value["$bytes"])) is not None:
        made.bytes_value = found
    elif isinstance(value, dict):
        made.kvlist_value.values.extend(_pairs(value))
        made.kvlist_value.SetInParent()
    return made


def _by_source(records: Iterable[_Record]) -> list[tuple[Source, list[_Record]]]:
    """The records by their source, in order of appearance; sources are compared by identity, as batches share them."""
    found: dict[int, tuple[Source, list[_Record]]] = {}
    for record in records:
        found.setdefault(id(record.source), (record.source, []))[1].append(record)
    return list(found.values())


def _resource(source: Source) -> Resource:
    return Resource(attributes=_pairs(source.resource), dropped_attributes_count=source.resource_dropped)


def _scope(source: Source) -> InstrumentationScope:
    return InstrumentationScope(
        name=_clean(source.scope_name),
        version=_clean(source.scope_version),
        attributes=_pairs(source.scope_attributes),
        dropped_attributes_count=source.scope_dropped,
    )


def _pairs(attributes: Attributes | None) -> list[KeyValue]:
    return [KeyValue(key=_clean(key), value=any_value(value)) for key, value in (attributes or {}).items()]


def _clean(text: str) -> str:
    """The text without lone surrogates, which UTF-8 cannot say."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _number(value: Any) -> float:
    """A double that may be written in words."""
    return float(value["$double"]) if isinstance(value, dict) else float(value)


def _bytes(value: Any) -> bytes | None:
    try:
        return b64decode(value, validate=True)
    except (TypeError, ValueError, binascii.Error):
        return None


def _span(m: Any, span: Span) -> None:
    m.trace_id, m.span_id = bytes.fromhex(span.trace_id), bytes.fromhex(span.span_id)
    m.parent_span_id = bytes.fromhex(span.parent_id)
    m.name, m.kind, m.trace_state, m.flags = _clean(span.name), span.kind, _clean(span.trace_state), span.flags
    m.start_time_unix_nano, m.end_time_unix_nano = span.start_ns, span.end_ns
    m.attributes.extend(_pairs(span.attributes))
    m.status.code, m.status.message = span.status_code, _clean(span.status_message)
    m.dropped_attributes_count, m.dropped_events_count = span.dropped_attributes, span.dropped_events
    m.dropped_links_count = span.dropped_links
    for told in span.events or ():
        m.events.add(
            time_unix_nano=told["time_ns"],
            name=_clean(told["name"]),
            attributes=_pairs(told["attributes"]),
            dropped_attributes_count=told.get("dropped", 0),
        )
    for link in span.links or ():
        m.links.add(
            trace_id=bytes.fromhex(link["trace_id"]),
            span_id=bytes.fromhex(link["span_id"]),
            trace_state=link.get("trace_state", ""),
            attributes=_pairs(link.get("attributes")),
            dropped_attributes_count=link.get("dropped", 0),
            flags=link.get("flags", 0),
        )


def _event(m: Any, event: Event) -> None:
    m.time_unix_nano, m.observed_time_unix_nano = event.time_ns, event.observed_ns
    m.event_name, m.severity_number, m.severity_text = _clean(event.name), event.severity, event.severity_text
    m.trace_id, m.span_id, m.flags = bytes.fromhex(event.trace_id), bytes.fromhex(event.span_id), event.flags
    m.attributes.extend(_pairs(event.attributes))
    m.dropped_attributes_count = event.dropped_attributes
    if event.body is not None:
        m.body.CopyFrom(any_value(event.body))


def _point(metric: Metric, point: Point) -> None:
    data = getattr(metric, point.type)
    if point.type in ("sum", "histogram", "exponential_histogram"):
        data.aggregation_temporality = point.temporality
    if point.type == "sum":
        data.is_monotonic = point.is_monotonic
    m = data.data_points.add(
        attributes=_pairs(point.attributes),
        time_unix_nano=point.time_ns,
        start_time_unix_nano=point.start_ns,
        flags=point.flags,
    )
    _FILL[point.type](m, point)
    for told in point.exemplars or ():
        _exemplar(m.exemplars.add(), told)


def _exemplar(m: Any, told: Attributes) -> None:
    m.time_unix_nano = told["time_ns"]
    m.trace_id, m.span_id = bytes.fromhex(told["trace_id"]), bytes.fromhex(told["span_id"])
    m.filtered_attributes.extend(_pairs(told["attributes"]))
    _set_number(m, told["value"])


def _set_number(m: Any, value: Any) -> None:
    if isinstance(value, int) and value in _INT64:
        m.as_int = value
    elif value is not None:
        m.as_double = _number(value)


def _fill_number(m: Any, point: Point) -> None:
    _set_number(m, point.value)


def _fill_counted(m: Any, point: Point) -> None:
    m.count = point.count or 0
    for name in ("sum", "min", "max"):
        value = getattr(point, name)
        if value is not None:
            setattr(m, name, value)


def _fill_histogram(m: Any, point: Point) -> None:
    _fill_counted(m, point)
    buckets = point.buckets or {}
    m.explicit_bounds.extend(map(_number, buckets.get("bounds", ())))
    m.bucket_counts.extend(buckets.get("counts", ()))


def _fill_exponential(m: Any, point: Point) -> None:
    _fill_counted(m, point)
    buckets = point.buckets or {}
    m.scale, m.zero_count = buckets.get("scale", 0), buckets.get("zero_count", 0)
    m.zero_threshold = _number(buckets.get("zero_threshold", 0.0))
    for side in ("positive", "negative"):
        told = buckets.get(side) or {}
        getattr(m, side).offset = told.get("offset", 0)
        getattr(m, side).bucket_counts.extend(told.get("counts", ()))


def _fill_summary(m: Any, point: Point) -> None:
    m.count, m.sum = point.count or 0, point.sum or 0.0
    for quantile, value in (point.buckets or {}).get("quantiles", ()):
        m.quantile_values.add(quantile=_number(quantile), value=_number(value))


_FILL: Final[dict[str, Callable[[Any, Point], None]]] = {
    "gauge": _fill_number,
    "sum": _fill_number,
    "histogram": _fill_histogram,
    "exponential_histogram": _fill_exponential,
    "summary": _fill_summary,
}
