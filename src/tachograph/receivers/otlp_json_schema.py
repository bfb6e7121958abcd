"""The shape of OTLP requests in JSON: what is read, of which type; everything else in a body is ignored.

Decoded with `strict=False`, which takes integers as numbers or strings and doubles as numbers or words ("NaN"), both as
OTLP has it. Enums are numbers, and by their names as well. A null is the same as an absent field, hence the None
everywhere. Names are those of the .proto files; `rename="camel"` makes the JSON keys of them.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from msgspec import Meta, Struct, json
from opentelemetry.proto.logs.v1.logs_pb2 import SeverityNumber as SeverityNumbers
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage
from opentelemetry.proto.trace.v1.trace_pb2 import Status as StatusMessage

Int32 = Annotated[int, Meta(ge=-(1 << 31), le=(1 << 31) - 1)]
UInt32 = Annotated[int, Meta(ge=0, le=(1 << 32) - 1)]
Int64 = Annotated[int, Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
UInt64 = Annotated[int, Meta(ge=0)]  # msgspec knows no larger bound than 63 bits; whoever keeps it checks it


class Kind(int):
    """A SpanKind, by number or name."""


class Code(int):
    """A StatusCode, by number or name."""


class Severity(int):
    """A SeverityNumber, by number or name."""


class Temporality(int):
    """An AggregationTemporality, by number or name."""


_ENUMS: Final[dict[type, dict[str, int]]] = {
    Kind: dict(SpanMessage.SpanKind.items()),
    Code: dict(StatusMessage.StatusCode.items()),
    Severity: dict(SeverityNumbers.items()),
    Temporality: dict(AggregationTemporality.items()),
}


def _enum(type_: type, came: Any) -> Any:
    """What msgspec asks for the types that it does not know; a ValueError becomes its error, with the JSON path."""
    names = _ENUMS[type_]
    if isinstance(came, str):
        number = names.get(came)
        if number is None and came.isascii() and came.isdigit() and len(came) < 10:
            number = int(came)
    else:
        number = came if type(came) is int and abs(came) < 1 << 31 else None
    if number is None:
        raise ValueError(f"got {came!r:.80}; expected a number or one of {', '.join(names)}")
    return type_(number)


class AnyValue(Struct, rename="camel", gc=False):
    string_value: str | None = None
    int_value: Int64 | None = None
    bool_value: bool | None = None
    double_value: float | None = None
    array_value: ArrayValue | None = None
    kvlist_value: KeyValueList | None = None
    bytes_value: bytes | None = None


class ArrayValue(Struct, gc=False):
    values: list[AnyValue] | None = None


class KeyValue(Struct, gc=False):
    key: str | None = None
    value: AnyValue | None = None


class KeyValueList(Struct, gc=False):
    values: list[KeyValue] | None = None


Attributes_ = list[KeyValue] | None


class Resource(Struct, rename="camel"):
    attributes: Attributes_ = None
    dropped_attributes_count: UInt32 | None = None


class Scope(Struct, rename="camel"):
    name: str | None = None
    version: str | None = None
    attributes: Attributes_ = None
    dropped_attributes_count: UInt32 | None = None


class Status(Struct):
    code: Code | None = None
    message: str | None = None


class SpanEvent(Struct, rename="camel"):
    time_unix_nano: UInt64 | None = None
    name: str | None = None
    attributes: Attributes_ = None
    dropped_attributes_count: UInt32 | None = None


class SpanLink(Struct, rename="camel"):
    trace_id: str | None = None
    span_id: str | None = None
    trace_state: str | None = None
    attributes: Attributes_ = None
    dropped_attributes_count: UInt32 | None = None
    flags: UInt32 | None = None


class Span(Struct, rename="camel"):
    trace_id: str | None = None
    span_id: str | None = None
    trace_state: str | None = None
    parent_span_id: str | None = None
    flags: UInt32 | None = None
    name: str | None = None
    kind: Kind | None = None
    start_time_unix_nano: UInt64 | None = None
    end_time_unix_nano: UInt64 | None = None
    attributes: Attributes_ = None
    dropped_attributes_count: UInt32 | None = None
    events: list[SpanEvent] | None = None
    dropped_events_count: UInt32 | None = None
    links: list[SpanLink] | None = None
    dropped_links_count: UInt32 | None = None
    status: Status | None = None


class ScopeSpans(Struct, rename="camel"):
    scope: Scope | None = None
    spans: list[Span] | None = None
    schema_url: str | None = None


class ResourceSpans(Struct, rename="camel"):
    resource: Resource | None = None
    scope_spans: list[ScopeSpans] | None = None
    schema_url: str | None = None


class Traces(Struct, rename="camel"):
    resource_spans: list[ResourceSpans] | None = None


class LogRecord(Struct, rename="camel"):
    time_unix_nano: UInt64 | None = None
    observed_time_unix_nano: UInt64 | None = None
    severity_number: Severity | None = None
    severity_text: str | None = None
    body: AnyValue | None = None
    attributes: Attributes_ = None
    dropped_attributes_count: UInt32 | None = None
    flags: UInt32 | None = None
    trace_id: str | None = None
    span_id: str | None = None
    event_name: str | None = None


class ScopeLogs(Struct, rename="camel"):
    scope: Scope | None = None
    log_records: list[LogRecord] | None = None
    schema_url: str | None = None


class ResourceLogs(Struct, rename="camel"):
    resource: Resource | None = None
    scope_logs: list[ScopeLogs] | None = None
    schema_url: str | None = None


class Logs(Struct, rename="camel"):
    resource_logs: list[ResourceLogs] | None = None


class Exemplar(Struct, rename="camel"):
    filtered_attributes: Attributes_ = None
    time_unix_nano: UInt64 | None = None
    as_double: float | None = None
    as_int: Int64 | None = None
    span_id: str | None = None
    trace_id: str | None = None


class NumberPoint(Struct, rename="camel"):
    attributes: Attributes_ = None
    start_time_unix_nano: UInt64 | None = None
    time_unix_nano: UInt64 | None = None
    as_double: float | None = None
    as_int: Int64 | None = None
    exemplars: list[Exemplar] | None = None
    flags: UInt32 | None = None


class HistogramPoint(Struct, rename="camel"):
    attributes: Attributes_ = None
    start_time_unix_nano: UInt64 | None = None
    time_unix_nano: UInt64 | None = None
    count: UInt64 | None = None
    sum: float | None = None
    bucket_counts: list[UInt64] | None = None
    explicit_bounds: list[float] | None = None
    exemplars: list[Exemplar] | None = None
    flags: UInt32 | None = None
    min: float | None = None
    max: float | None = None


class Buckets(Struct, rename="camel"):
    offset: Int32 | None = None
    bucket_counts: list[UInt64] | None = None


class ExponentialPoint(Struct, rename="camel"):
    attributes: Attributes_ = None
    start_time_unix_nano: UInt64 | None = None
    time_unix_nano: UInt64 | None = None
    count: UInt64 | None = None
    sum: float | None = None
    scale: Int32 | None = None
    zero_count: UInt64 | None = None
    positive: Buckets | None = None
    negative: Buckets | None = None
    flags: UInt32 | None = None
    exemplars: list[Exemplar] | None = None
    min: float | None = None
    max: float | None = None
    zero_threshold: float | None = None


class Quantile(Struct):
    quantile: float | None = None
    value: float | None = None


class SummaryPoint(Struct, rename="camel"):
    attributes: Attributes_ = None
    start_time_unix_nano: UInt64 | None = None
    time_unix_nano: UInt64 | None = None
    count: UInt64 | None = None
    sum: float | None = None
    quantile_values: list[Quantile] | None = None
    flags: UInt32 | None = None


class Gauge(Struct, rename="camel"):
    data_points: list[NumberPoint] | None = None


class Sum(Struct, rename="camel"):
    data_points: list[NumberPoint] | None = None
    aggregation_temporality: Temporality | None = None
    is_monotonic: bool | None = None


class Histogram(Struct, rename="camel"):
    data_points: list[HistogramPoint] | None = None
    aggregation_temporality: Temporality | None = None


class ExponentialHistogram(Struct, rename="camel"):
    data_points: list[ExponentialPoint] | None = None
    aggregation_temporality: Temporality | None = None


class Summary(Struct, rename="camel"):
    data_points: list[SummaryPoint] | None = None


class Metric(Struct, rename="camel"):
    name: str | None = None
    description: str | None = None
    unit: str | None = None
    gauge: Gauge | None = None
    sum: Sum | None = None
    histogram: Histogram | None = None
    exponential_histogram: ExponentialHistogram | None = None
    summary: Summary | None = None
    metadata: Attributes_ = None


class ScopeMetrics(Struct, rename="camel"):
    scope: Scope | None = None
    metrics: list[Metric] | None = None
    schema_url: str | None = None


class ResourceMetrics(Struct, rename="camel"):
    resource: Resource | None = None
    scope_metrics: list[ScopeMetrics] | None = None
    schema_url: str | None = None


class Metrics(Struct, rename="camel"):
    resource_metrics: list[ResourceMetrics] | None = None


TRACES: Final = json.Decoder(Traces, strict=False, dec_hook=_enum)
LOGS: Final = json.Decoder(Logs, strict=False, dec_hook=_enum)
METRICS: Final = json.Decoder(Metrics, strict=False, dec_hook=_enum)
