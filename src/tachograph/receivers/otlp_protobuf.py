"""OTLP requests in protobuf as batches; what each field means is at its definition in tachograph.model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from google.protobuf.message import DecodeError

from tachograph.errors import Rejected
from tachograph.model import Attributes, Batch, Event, Point, Source, Span
from tachograph.receivers.otlp_records import (
    INT64_MAX,
    NO_SPAN,
    NO_TRACE,
    WITH_TEMPORALITY,
    check_int64,
    check_point,
    check_span_ids,
    event_name,
    leave_out,
    unknown_temporality,
)
from tachograph.receivers.otlp_schema import LOGS, METRICS, TRACES
from tachograph.receivers.otlp_values import Known, plain_double, read_value


def read(signal: str, body: bytes, batch: Batch) -> None:
    """Put the records of an encoded Export*ServiceRequest into the batch; raises Rejected if it is none."""
    message, reader = _READERS[signal]
    try:
        reader(message.FromString(body), batch)
    except UnicodeDecodeError as error:
        raise Rejected(
            f"request body: got a text that is not UTF-8 ({error.reason}); expected an OTLP {signal} request",
            "cut texts at characters, not at bytes",
        ) from error
    except DecodeError as error:
        raise Rejected(
            f"request body: {error}; expected an OTLP {signal} request in protobuf",
            "texts must be UTF-8; JSON needs Content-Type: application/json",
        ) from error


def _source(group: Any, scoped: Any, known: Known) -> Source:
    """Who sent the records of `scoped`, which stands in `group`; one object for all of them."""
    resource = group.resource
    scope = scoped.scope
    return Source(
        dict(map(known.__getitem__, resource.attributes)),
        scope.name,
        scope.version,
        dict(map(known.__getitem__, scope.attributes)),
        group.schema_url,
        scoped.schema_url,
        resource.dropped_attributes_count,
        scope.dropped_attributes_count,
    )


def _read_traces(request: Any, batch: Batch) -> None:
    known = Known()
    for group in request.resource_spans:
        for scoped in group.scope_spans:
            source = _source(group, scoped, known)
            for message in scoped.spans:
                try:
                    batch.spans.append(_span(message, source, known))
                except Rejected as error:
                    leave_out(batch, error.what)


def _span(m: Any, source: Source, known: Known) -> Span:
    """One span. One constructor call in field order and no call that is not needed: this is the hottest function."""
    trace_id = m.trace_id.hex()
    span_id = m.span_id.hex()
    parent_id = m.parent_span_id.hex()
    start_ns = m.start_time_unix_nano
    end_ns = m.end_time_unix_nano
    if (
        len(trace_id) != 32
        or len(span_id) != 16
        or trace_id == NO_TRACE
        or span_id == NO_SPAN
        or (parent_id and (len(parent_id) != 16 or parent_id == NO_SPAN))
    ):
        check_span_ids(m.name, trace_id, span_id, parent_id)
        parent_id = ""  # all that is left is a parent of zeros: some exporters write it for a root
    if start_ns > INT64_MAX or end_ns > INT64_MAX:
        check_int64(f'span "{m.name[:80]}": time', start_ns, end_ns)
    code = 0
    text = ""
    if m.HasField("status"):
        status = m.status
        code = status.code
        text = status.message
    events = m.events
    links = m.links
    return Span(
        source,
        trace_id,
        span_id,
        parent_id,
        m.name,
        m.kind,
        start_ns,
        end_ns,
        dict(map(known.__getitem__, m.attributes)),
        code,
        text,
        m.flags,
        m.trace_state,
        [_span_event(one, known) for one in events] if events else None,
        [_span_link(one, known) for one in links] if links else None,
        m.dropped_attributes_count,
        m.dropped_events_count,
        m.dropped_links_count,
    )


def _span_event(m: Any, known: Known) -> Attributes:
    check_int64("span event: time", m.time_unix_nano)
    return {
        "time_ns": m.time_unix_nano,
        "name": m.name,
        "attributes": dict(map(known.__getitem__, m.attributes)),
        "dropped": m.dropped_attributes_count,
    }


def _span_link(m: Any, known: Known) -> Attributes:
    return {
        "trace_id": m.trace_id.hex(),
        "span_id": m.span_id.hex(),
        "trace_state": m.trace_state,
        "attributes": dict(map(known.__getitem__, m.attributes)),
        "dropped": m.dropped_attributes_count,
        "flags": m.flags,
    }


def _read_logs(request: Any, batch: Batch) -> None:
    known = Known()
    for group in request.resource_logs:
        for scoped in group.scope_logs:
            source = _source(group, scoped, known)
            for message in scoped.log_records:
                try:
                    batch.events.append(_event(message, source, known))
                except Rejected as error:
                    leave_out(batch, error.what)


def _event(m: Any, source: Source, known: Known) -> Event:
    observed_ns = m.observed_time_unix_nano
    time_ns = m.time_unix_nano or observed_ns
    if time_ns > INT64_MAX or observed_ns > INT64_MAX:
        check_int64("log record: time", time_ns, observed_ns)
    attributes = dict(map(known.__getitem__, m.attributes))
    body = m.body
    trace_id = m.trace_id.hex()
    span_id = m.span_id.hex()
    return Event(
        source,
        time_ns,
        event_name(attributes, m.event_name),
        attributes,
        read_value(body) if body else None,
        observed_ns,
        m.severity_number,
        m.severity_text,
        trace_id if len(trace_id) == 32 and trace_id != NO_TRACE else "",
        span_id if len(span_id) == 16 and span_id != NO_SPAN else "",
        m.flags,
        m.dropped_attributes_count,
    )


def _read_metrics(request: Any, batch: Batch) -> None:
    known = Known()
    for group in request.resource_metrics:
        for scoped in group.scope_metrics:
            source = _source(group, scoped, known)
            for metric in scoped.metrics:
                _read_metric(metric, source, known, batch)


def _read_metric(metric: Any, source: Source, known: Known, batch: Batch) -> None:
    type_ = metric.WhichOneof("data")
    if type_ is None:
        return  # a metric without points says nothing
    data = getattr(metric, type_)
    temporality = data.aggregation_temporality if type_ in WITH_TEMPORALITY else 0
    points = data.data_points
    if type_ in WITH_TEMPORALITY and temporality not in (1, 2):
        if points:
            leave_out(batch, unknown_temporality(metric.name, temporality), len(points))
        return
    fill = _FILL[type_]
    for message in points:
        try:
            point = Point(
                source,
                metric.name,
                dict(map(known.__getitem__, message.attributes)),
                message.time_unix_nano,
                type_,
                metric.unit,
                metric.description,
                temporality,
                data.is_monotonic if type_ == "sum" else False,
                message.start_time_unix_nano,
                flags=message.flags,
                metadata=dict(map(known.__getitem__, metric.metadata)) or None,
            )
            fill(point, message)
            if type_ != "summary":
                point.exemplars = [_exemplar(one, known) for one in message.exemplars] or None
            check_point(point)
        except Rejected as error:
            leave_out(batch, error.what)
        else:
            batch.points.append(point)


def _exemplar(m: Any, known: Known) -> Attributes:
    check_int64("exemplar: time", m.time_unix_nano)
    kind = m.WhichOneof("value")
    return {
        "time_ns": m.time_unix_nano,
        "value": m.as_int if kind == "as_int" else plain_double(m.as_double) if kind else None,
        "trace_id": m.trace_id.hex(),
        "span_id": m.span_id.hex(),
        "attributes": dict(map(known.__getitem__, m.filtered_attributes)),
    }


def _fill_number(point: Point, m: Any) -> None:
    kind = m.WhichOneof("value")
    point.value = getattr(m, kind) if kind else None


def _fill_counted(point: Point, m: Any) -> None:
    point.count = m.count
    point.sum = m.sum if m.HasField("sum") else None
    point.min = m.min if m.HasField("min") else None
    point.max = m.max if m.HasField("max") else None


def _fill_histogram(point: Point, m: Any) -> None:
    _fill_counted(point, m)
    point.buckets = {"bounds": [plain_double(one) for one in m.explicit_bounds], "counts": list(m.bucket_counts)}


def _fill_exponential(point: Point, m: Any) -> None:
    _fill_counted(point, m)
    point.buckets = {
        "scale": m.scale,
        "zero_count": m.zero_count,
        "zero_threshold": plain_double(m.zero_threshold),
        "positive": {"offset": m.positive.offset, "counts": list(m.positive.bucket_counts)},
        "negative": {"offset": m.negative.offset, "counts": list(m.negative.bucket_counts)},
    }


def _fill_summary(point: Point, m: Any) -> None:
    point.count = m.count
    point.sum = m.sum
    quantiles = [[plain_double(one.quantile), plain_double(one.value)] for one in m.quantile_values]
    point.buckets = {"quantiles": quantiles}


_FILL: Final[dict[str, Callable[[Point, Any], None]]] = {
    "gauge": _fill_number,
    "sum": _fill_number,
    "histogram": _fill_histogram,
    "exponential_histogram": _fill_exponential,
    "summary": _fill_summary,
}

_READERS: Final[dict[str, tuple[Any, Callable[[Any, Batch], None]]]] = {
    "traces": (TRACES, _read_traces),
    "metrics": (METRICS, _read_metrics),
    "logs": (LOGS, _read_logs),
}
