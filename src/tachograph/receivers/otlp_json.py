"""OTLP requests in JSON as batches: the same batches as their protobuf twins give."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import msgspec

from tachograph.errors import Rejected
from tachograph.model import Attributes, Batch, Event, Point, Source, Span
from tachograph.receivers import otlp_json_schema as schema
from tachograph.receivers.otlp_records import (
    WITH_TEMPORALITY,
    check_int64,
    check_point,
    check_span_ids,
    event_name,
    leave_out,
    unknown_temporality,
)
from tachograph.receivers.otlp_values import DEPTH_MAX, plain_bytes, plain_double, too_deep

# An escaped backslash, a whole surrogate pair (both to be left alone), or half a pair.
_SURROGATES: Final = re.compile(
    rb"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)
_HEX: Final = re.compile("[0-9a-f]*")


def read(signal: str, body: bytes, batch: Batch) -> None:
    """Put the records of a JSON Export*ServiceRequest into the batch; raises Rejected, naming the JSON path."""
    decoder, key, reader = _READERS[signal]
    groups = getattr(_parse(decoder, body), key)
    camel = "resource" + key.removeprefix("resource_").title()
    if groups is None and body.strip() != b"{}" and f'"{camel}"'.encode() not in body:
        # Another signal's request, or one in snake_case: a 200 would tell its sender that it is kept.
        raise Rejected(f'request body: got no "{camel}"; expected an OTLP {signal} request in lowerCamelCase')
    reader(groups or (), batch)


def _parse(decoder: msgspec.json.Decoder[Any], body: bytes) -> Any:
    try:
        try:
            return decoder.decode(body)
        except msgspec.ValidationError:
            raise
        except msgspec.DecodeError:
            # JavaScript cuts a text within an emoji and writes half of it: U+FFFD stands for it, as in other decoders.
            mended = _SURROGATES.sub(lambda match: b"\\ufffd" if match[1] else match[0], body)
            if mended == body:
                raise
            return decoder.decode(mended)
    except msgspec.ValidationError as error:
        raise Rejected(_in_words(error)) from error
    except msgspec.DecodeError as error:
        raise Rejected(f"request body: {error}; expected JSON") from error
    except UnicodeDecodeError as error:
        raise Rejected(f"request body: byte {error.start}: {error.reason}; expected UTF-8") from error
    except RecursionError as error:
        raise Rejected("request body: nested too deep; expected an OTLP request") from error


def _in_words(error: msgspec.ValidationError) -> str:
    """Where, what came, what was expected, made of "Expected `int | null`, got `str` - at `$.a[0].b`"."""
    what, _, path = str(error).partition(" - at ")
    found = re.fullmatch("Expected (.*), got (.*)", what)
    if found:
        what = f"got {found[2]}; expected {found[1].replace(' | null', '')}"
    return f"request body: {path.strip('`') or '$'}: {what.replace('`', '')}"


def _value(value: schema.AnyValue | None, depth: int = 0) -> Any:
    if value is None:
        return None
    if value.string_value is not None:
        return value.string_value
    if value.int_value is not None:
        return value.int_value
    if value.bool_value is not None:
        return value.bool_value
    if value.double_value is not None:
        return plain_double(value.double_value)
    if value.bytes_value is not None:
        return plain_bytes(value.bytes_value)
    if value.array_value is None and value.kvlist_value is None:
        return None
    if depth >= DEPTH_MAX:
        raise too_deep()
    if value.array_value is not None:
        return [_value(one, depth + 1) for one in value.array_value.values or ()]
    pairs = value.kvlist_value.values if value.kvlist_value else None
    return {one.key or "": _value(one.value, depth + 1) for one in pairs or ()}


def _attributes(pairs: list[schema.KeyValue] | None) -> Attributes:
    return {one.key or "": _value(one.value) for one in pairs or ()}


def _id(text: str | None, length: int = 0) -> str:
    """An id in lower case, "" if it is none (or not of the length, where one is asked for)."""
    id_ = (text or "").lower()
    if not _HEX.fullmatch(id_) or (length and (len(id_) != length or not id_.strip("0"))):
        return ""
    return id_


def _source(group: Any, scoped: Any) -> Source:
    resource = group.resource or schema.Resource()
    scope = scoped.scope or schema.Scope()
    return Source(
        _attributes(resource.attributes),
        scope.name or "",
        scope.version or "",
        _attributes(scope.attributes),
        group.schema_url or "",
        scoped.schema_url or "",
        resource.dropped_attributes_count or 0,
        scope.dropped_attributes_count or 0,
    )


def _read_traces(groups: Iterable[schema.ResourceSpans], batch: Batch) -> None:
    for group in groups:
        for scoped in group.scope_spans or ():
            source = _source(group, scoped)
            for span in scoped.spans or ():
                try:
                    batch.spans.append(_span(span, source))
                except Rejected as error:
                    leave_out(batch, error.what)


def _span(m: schema.Span, source: Source) -> Span:
    name = m.name or ""
    trace_id = (m.trace_id or "").lower()
    span_id = (m.span_id or "").lower()
    parent_id = (m.parent_span_id or "").lower()
    check_span_ids(name, trace_id, span_id, parent_id)
    start_ns = m.start_time_unix_nano or 0
    end_ns = m.end_time_unix_nano or 0
    check_int64(f'span "{name[:80]}": time', start_ns, end_ns)
    status = m.status or schema.Status()
    return Span(
        source,
        trace_id,
        span_id,
        parent_id if parent_id.strip("0") else "",
        name,
        int(m.kind or 0),
        start_ns,
        end_ns,
        _attributes(m.attributes),
        int(status.code or 0),
        status.message or "",
        m.flags or 0,
        m.trace_state or "",
        [_span_event(one) for one in m.events] if m.events else None,
        [_span_link(one) for one in m.links] if m.links else None,
        m.dropped_attributes_count or 0,
        m.dropped_events_count or 0,
        m.dropped_links_count or 0,
    )


def _span_event(m: schema.SpanEvent) -> Attributes:
    check_int64("span event: time", m.time_unix_nano)
    return {
        "time_ns": m.time_unix_nano or 0,
        "name": m.name or "",
        "attributes": _attributes(m.attributes),
        "dropped": m.dropped_attributes_count or 0,
    }


def _span_link(m: schema.SpanLink) -> Attributes:
    return {
        "trace_id": _id(m.trace_id),
        "span_id": _id(m.span_id),
        "trace_state": m.trace_state or "",
        "attributes": _attributes(m.attributes),
        "dropped": m.dropped_attributes_count or 0,
        "flags": m.flags or 0,
    }


def _read_logs(groups: Iterable[schema.ResourceLogs], batch: Batch) -> None:
    for group in groups:
        for scoped in group.scope_logs or ():
            source = _source(group, scoped)
            for record in scoped.log_records or ():
                try:
                    batch.events.append(_event(record, source))
                except Rejected as error:
                    leave_out(batch, error.what)


def _event(m: schema.LogRecord, source: Source) -> Event:
    observed_ns = m.observed_time_unix_nano or 0
    time_ns = m.time_unix_nano or observed_ns
    check_int64("log record: time", time_ns, observed_ns)
    attributes = _attributes(m.attributes)
    return Event(
        source,
        time_ns,
        event_name(attributes, m.event_name or ""),
        attributes,
        _value(m.body),
        observed_ns,
        int(m.severity_number or 0),
        m.severity_text or "",
        _id(m.trace_id, 32),
        _id(m.span_id, 16),
        m.flags or 0,
        m.dropped_attributes_count or 0,
    )


def _read_metrics(groups: Iterable[schema.ResourceMetrics], batch: Batch) -> None:
    for group in groups:
        for scoped in group.scope_metrics or ():
            source = _source(group, scoped)
            for metric in scoped.metrics or ():
                _read_metric(metric, source, batch)


def _read_metric(metric: schema.Metric, source: Source, batch: Batch) -> None:
    type_ = next((type_ for type_ in _FILL if getattr(metric, type_) is not None), None)
    if type_ is None:
        return  # a metric without points says nothing
    data = getattr(metric, type_)
    points: Sequence[Any] = data.data_points or ()
    temporality = int(data.aggregation_temporality or 0) if type_ in WITH_TEMPORALITY else 0
    if type_ in WITH_TEMPORALITY and temporality not in (1, 2):
        if points:
            leave_out(batch, unknown_temporality(metric.name or "", temporality), len(points))
        return
    for one in points:
        try:
            batch.points.append(_point(metric, data, type_, temporality, one, source))
        except Rejected as error:
            leave_out(batch, error.what)


def _point(metric: schema.Metric, data: Any, type_: str, temporality: int, m: Any, source: Source) -> Point:
    point = Point(
        source,
        metric.name or "",
        _attributes(m.attributes),
        m.time_unix_nano or 0,
        type_,
        metric.unit or "",
        metric.description or "",
        temporality,
        bool(data.is_monotonic) if type_ == "sum" else False,
        m.start_time_unix_nano or 0,
        flags=m.flags or 0,
        metadata=_attributes(metric.metadata) or None,
    )
    _FILL[type_](point, m)
    if type_ != "summary":
        point.exemplars = [_exemplar(one) for one in m.exemplars or ()] or None
    check_point(point)
    return point


def _exemplar(m: schema.Exemplar) -> Attributes:
    check_int64("exemplar: time", m.time_unix_nano)
    return {
        "time_ns": m.time_unix_nano or 0,
        "value": m.as_int if m.as_int is not None else None if m.as_double is None else plain_double(m.as_double),
        "trace_id": _id(m.trace_id),
        "span_id": _id(m.span_id),
        "attributes": _attributes(m.filtered_attributes),
    }


def _double(value: float | None) -> float:
    return 0.0 if value is None else value  # `or` would lose the sign of -0.0


def _fill_number(point: Point, m: schema.NumberPoint) -> None:
    point.value = m.as_int if m.as_int is not None else m.as_double


def _fill_counted(point: Point, m: schema.HistogramPoint | schema.ExponentialPoint) -> None:
    point.count = m.count or 0
    point.sum = m.sum
    point.min = m.min
    point.max = m.max


def _fill_histogram(point: Point, m: schema.HistogramPoint) -> None:
    _fill_counted(point, m)
    bounds = [plain_double(one) for one in m.explicit_bounds or ()]
    point.buckets = {"bounds": bounds, "counts": m.bucket_counts or []}


def _fill_exponential(point: Point, m: schema.ExponentialPoint) -> None:
    _fill_counted(point, m)
    positive = m.positive or schema.Buckets()
    negative = m.negative or schema.Buckets()
    point.buckets = {
        "scale": m.scale or 0,
        "zero_count": m.zero_count or 0,
        "zero_threshold": plain_double(_double(m.zero_threshold)),
        "positive": {"offset": positive.offset or 0, "counts": positive.bucket_counts or []},
        "negative": {"offset": negative.offset or 0, "counts": negative.bucket_counts or []},
    }


def _fill_summary(point: Point, m: schema.SummaryPoint) -> None:
    point.count = m.count or 0
    point.sum = _double(m.sum)
    pairs = [[plain_double(_double(one.quantile)), plain_double(_double(one.value))] for one in m.quantile_values or ()]
    point.buckets = {"quantiles": pairs}


_FILL: Final[dict[str, Callable[[Point, Any], None]]] = {
    "gauge": _fill_number,
    "sum": _fill_number,
    "histogram": _fill_histogram,
    "exponential_histogram": _fill_exponential,
    "summary": _fill_summary,
}

_READERS: Final[dict[str, tuple[msgspec.json.Decoder[Any], str, Callable[[Any, Batch], None]]]] = {
    "traces": (schema.TRACES, "resource_spans", _read_traces),
    "metrics": (schema.METRICS, "resource_metrics", _read_metrics),
    "logs": (schema.LOGS, "resource_logs", _read_logs),
}
