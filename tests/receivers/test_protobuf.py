"""OTLP in protobuf: each field of each record, and what is left out of a request without losing the rest."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import msgspec
import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, SeverityNumber
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, ExponentialHistogramDataPoint, Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.proto.trace.v1.trace_pb2 import Status as OtlpStatus

from otlp_messages import DATA, RECORDINGS, message, signal_and_media
from tachograph.errors import Rejected
from tachograph.model import Batch, Event, Point
from tachograph.receivers import otlp
from tachograph.receivers.otlp_values import DEPTH_MAX, read_value

TRACE = bytes(range(16))
SPAN = bytes(range(8))
HUGE = (1 << 64) - 1
DELTA = AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA
CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE


def plain(value: Any) -> Any:
    """A struct with all its fields, those at their defaults too, as dicts."""
    if isinstance(value, msgspec.Struct):
        return {name: plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


def text(key: str, value: str) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(string_value=value))


def of_spans(*spans: Span) -> Batch:
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add(schema_url="https://resource")
    group.resource.attributes.append(text("service.name", "svc"))
    group.resource.dropped_attributes_count = 1
    scoped = group.scope_spans.add(schema_url="https://scope")
    scoped.scope.name, scoped.scope.version, scoped.scope.dropped_attributes_count = "lib", "2", 3
    scoped.scope.attributes.append(text("scoped", "yes"))
    scoped.spans.extend(spans)
    return otlp.decode("traces", request.SerializeToString(), otlp.PROTOBUF)


def of_records(*records: LogRecord) -> list[Event]:
    request = ExportLogsServiceRequest()
    request.resource_logs.add().scope_logs.add().log_records.extend(records)
    return otlp.decode("logs", request.SerializeToString(), otlp.PROTOBUF).events


def of_metrics(*metrics: Metric) -> Batch:
    request = ExportMetricsServiceRequest()
    request.resource_metrics.add().scope_metrics.add().metrics.extend(metrics)
    return otlp.decode("metrics", request.SerializeToString(), otlp.PROTOBUF)


def attribute(value: AnyValue) -> Any:
    (span,) = of_spans(Span(trace_id=TRACE, span_id=SPAN, attributes=[KeyValue(key="k", value=value)])).spans
    return span.attributes["k"]


def full_span() -> Span:
    """A span with every field set."""
    span = Span(
        trace_id=TRACE,
        span_id=SPAN,
        parent_span_id=SPAN[::-1],
        trace_state="a=b",
        flags=257,
        name="chat",
        kind=Span.SPAN_KIND_CLIENT,
        start_time_unix_nano=20,
        end_time_unix_nano=10,
        attributes=[text("a", "1"), text("b", "2"), text("a", "3")],
        dropped_attributes_count=4,
        dropped_events_count=5,
        dropped_links_count=6,
    )
    span.status.code, span.status.message = OtlpStatus.STATUS_CODE_ERROR, "no"
    event = span.events.add(name="exception", time_unix_nano=7, dropped_attributes_count=8)
    event.attributes.append(text("e", "x"))
    link = span.links.add(trace_id=TRACE, span_id=SPAN, trace_state="c=d", dropped_attributes_count=9, flags=1)
    link.attributes.append(text("l", "y"))
    return span


def test_everything_a_span_says_is_kept() -> None:
    batch = of_spans(full_span())
    assert plain(batch.spans) == [
        {
            "source": {
                "resource": {"service.name": "svc"},
                "scope_name": "lib",
                "scope_version": "2",
                "scope_attributes": {"scoped": "yes"},
                "resource_schema_url": "https://resource",
                "scope_schema_url": "https://scope",
                "resource_dropped": 1,
                "scope_dropped": 3,
            },
            "trace_id": TRACE.hex(),
            "span_id": SPAN.hex(),
            "parent_id": SPAN[::-1].hex(),
            "name": "chat",
            "kind": 3,
            "start_ns": 20,
            "end_ns": 10,
            "attributes": {"a": "3", "b": "2"},
            "status_code": 2,
            "status_message": "no",
            "flags": 257,
            "trace_state": "a=b",
            "events": [{"time_ns": 7, "name": "exception", "attributes": {"e": "x"}, "dropped": 8}],
            "links": [
                {
                    "trace_id": TRACE.hex(),
                    "span_id": SPAN.hex(),
                    "trace_state": "c=d",
                    "attributes": {"l": "y"},
                    "dropped": 9,
                    "flags": 1,
                }
            ],
            "dropped_attributes": 4,
            "dropped_events": 5,
            "dropped_links": 6,
            "meaning": None,
            "contents": None,
        }
    ]


def test_the_spans_of_one_scope_share_one_source() -> None:
    first, second = of_spans(Span(trace_id=TRACE, span_id=SPAN), Span(trace_id=TRACE, span_id=SPAN[::-1])).spans
    assert first.source is second.source


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *[(AnyValue(string_value="x" * n), "x" * n) for n in (0, 1, 120, 126, 127, 128, 129, 16300, 16384, 70000)],
        (AnyValue(string_value="ä" * 300), "ä" * 300),
        *[(AnyValue(int_value=n), n) for n in (0, 1, 127, 128, 16383, 16384, (1 << 21) - 1, 1 << 21, -1, -(1 << 63))],
        (AnyValue(bool_value=True), True),
        (AnyValue(bool_value=False), False),
        (AnyValue(double_value=0.25), 0.25),
        (AnyValue(double_value=math.nan), {"$double": "NaN"}),
        (AnyValue(double_value=-math.inf), {"$double": "-Infinity"}),
        (AnyValue(bytes_value=b"\xff\0"), {"$bytes": "/wA="}),
        (AnyValue(), None),
        (AnyValue(array_value=ArrayValue()), []),
        (AnyValue(array_value=ArrayValue(values=[AnyValue(string_value="stop")])), ["stop"]),
        (AnyValue(array_value=ArrayValue(values=[AnyValue(string_value="")])), [""]),
        (AnyValue(array_value=ArrayValue(values=[AnyValue(int_value=2), AnyValue()])), [2, None]),
        (AnyValue(kvlist_value=KeyValueList(values=[text("a", "b"), KeyValue(key="c")])), {"a": "b", "c": None}),
    ],
)
def test_values(value: AnyValue, expected: Any) -> None:
    for _ in range(2):  # the second time the key is known, and the short way is taken
        came = attribute(value)
        assert came == expected
        assert type(came) is type(expected)


def test_lists_are_not_shared_by_two_spans() -> None:
    reasons = KeyValue(key="r", value=AnyValue(array_value=ArrayValue(values=[AnyValue(string_value="stop")])))
    one, two = of_spans(*[Span(trace_id=TRACE, span_id=SPAN, attributes=[reasons])] * 2).spans
    assert one.attributes == two.attributes
    assert one.attributes["r"] is not two.attributes["r"]


def test_attributes_without_key_or_value_and_with_unknown_fields() -> None:
    unknown = KeyValue.FromString(text("a", "b").SerializeToString() + b"\x7a\x01x")
    span = Span(trace_id=TRACE, span_id=SPAN, attributes=[KeyValue(), KeyValue(key="k"), unknown])
    assert of_spans(span).spans[0].attributes == {"": None, "k": None, "a": "b"}


def changed(encoded: bytes, at: int, byte: int) -> bytes:
    return encoded[: at % (len(encoded) + 1)] + bytes([byte]) + encoded[at % (len(encoded) + 1) + 1 :]


ENCODED = message(AnyValue.DESCRIPTOR, 6).map(lambda value: value.SerializeToString())
TAGS_AND_SIZES = st.sampled_from([*range(12), 0x10, 0x12, 0x18, 0x21, 0x2A, 0x80, 0x81, 0xFF])


@given(
    value=st.one_of(
        st.binary(max_size=40),
        st.lists(TAGS_AND_SIZES, max_size=14).map(bytes),
        st.builds(changed, ENCODED, st.integers(0, 30), st.integers(0, 255)),
    ),
    key=st.sampled_from([b"k", b"k" * 130]),
)
@example(value=b"\x18\x05\x01", key=b"k")
@example(value=b"\x18\x85\x85", key=b"k")
@example(value=b"\x18\x85\x05\x01", key=b"k")
@example(value=b"\x10\x02", key=b"k")
@example(value=b"\x0a\x05abc", key=b"k")
@example(value=b"\x2a\x03\x0a\x01\x0a", key=b"k")
def test_the_short_way_reads_what_the_official_parser_reads(value: bytes, key: bytes) -> None:
    pair = b"\x0a" + _varint(len(key)) + key + b"\x12" + _varint(len(value)) + value
    span = b"\x0a\x10" + TRACE + b"\x12\x08" + SPAN + b"\x4a" + _varint(len(pair)) + pair
    body = _field(1, _field(2, _field(2, span)))
    attribute(AnyValue(string_value="the key is known now"))
    try:
        expected = attribute(AnyValue.FromString(value))
    except DecodeError:
        # Broken bytes that the value does not need (a list replaced by a later field) are nobody's loss.
        with contextlib.suppress(Rejected):
            assert otlp.decode("traces", body, otlp.PROTOBUF).spans[0].attributes[key.decode()] == read_value(value)
        return
    (came,) = otlp.decode("traces", body, otlp.PROTOBUF).spans
    assert repr(came.attributes[key.decode()]) == repr(expected)


def _varint(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + _varint(number >> 7)


def _field(number: int, value: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(value)) + value


def test_ids_that_are_none_cost_their_span_only() -> None:
    good = Span(trace_id=TRACE, span_id=SPAN, parent_span_id=bytes(8), name="good")
    bad = [
        Span(span_id=SPAN, name="bad"),
        Span(trace_id=bytes(16), span_id=SPAN),
        Span(trace_id=TRACE, span_id=SPAN + b"x"),
        Span(trace_id=TRACE, span_id=bytes(8)),
        Span(trace_id=TRACE, span_id=SPAN, parent_span_id=b"abc"),
        Span(trace_id=TRACE, span_id=SPAN, start_time_unix_nano=HUGE),
        Span(trace_id=TRACE, span_id=SPAN, events=[Span.Event(time_unix_nano=HUGE)]),
    ]
    batch = of_spans(*bad, good)
    assert [(span.name, span.parent_id) for span in batch.spans] == [("good", "")]
    assert batch.rejected == len(bad)
    assert batch.reasons[0] == 'span "bad": trace id: got ""; expected 32 hex digits, not all 0'
    assert len(batch.reasons) == 5


def nested(depth: int, of_lists: bool) -> bytes:
    """An encoded AnyValue with so many lists or maps within each other, made from the inside out."""
    value = AnyValue(int_value=1).SerializeToString()
    for _ in range(depth):
        value = _field(5, _field(1, value)) if of_lists else _field(6, _field(1, _field(1, b"k") + _field(2, value)))
    return value


@pytest.mark.parametrize("of_lists", [True, False])
@pytest.mark.parametrize("depth", [DEPTH_MAX, DEPTH_MAX + 1, 3000])
def test_a_value_nested_too_deep_costs_its_record_only(depth: int, of_lists: bool) -> None:
    value = nested(depth, of_lists)
    ids = b"\x0a\x10" + TRACE + b"\x12\x08" + SPAN
    deep = ids + _field(9, _field(1, b"k") + _field(2, value))
    body = _field(1, _field(2, _field(2, ids) + _field(2, deep)))
    batch = otlp.decode("traces", body, otlp.PROTOBUF)
    if depth <= DEPTH_MAX:
        assert (len(batch.spans), batch.rejected) == (2, 0)
    else:
        assert (len(batch.spans), batch.rejected) == (1, 1)
        assert "deeper than 64" in batch.reasons[0]
    body = _field(1, _field(2, _field(2, b"\x1a\x01x") + _field(2, _field(5, value))))
    assert otlp.decode("logs", body, otlp.PROTOBUF).rejected == (depth > DEPTH_MAX)


def test_everything_a_log_record_says_is_kept() -> None:
    record = LogRecord(
        time_unix_nano=5,
        observed_time_unix_nano=6,
        severity_number=SeverityNumber.SEVERITY_NUMBER_INFO,
        severity_text="INFO",
        body=AnyValue(string_value="hello"),
        attributes=[text("k", "v")],
        dropped_attributes_count=2,
        flags=1,
        trace_id=TRACE,
        span_id=SPAN,
        event_name="gen_ai.choice",
    )
    (event,) = of_records(record)
    kept = plain(event)
    del kept["source"]
    assert kept == {
        "time_ns": 5,
        "name": "gen_ai.choice",
        "attributes": {"k": "v"},
        "body": "hello",
        "observed_ns": 6,
        "severity": 9,
        "severity_text": "INFO",
        "trace_id": TRACE.hex(),
        "span_id": SPAN.hex(),
        "flags": 1,
        "dropped_attributes": 2,
        "origin": "log",
        "meaning": None,
        "contents": None,
    }


def test_a_log_record_without_a_time_has_the_time_it_was_observed() -> None:
    (event,) = of_records(LogRecord(observed_time_unix_nano=6))
    assert (event.time_ns, event.observed_ns) == (6, 6)


def test_the_attribute_names_the_event_before_the_field_does() -> None:
    record = LogRecord(event_name="event src/telemetry.rs:703", attributes=[text("event.name", "codex.api_request")])
    (event,) = of_records(record)
    assert event.name == "codex.api_request"
    assert event.attributes["event.name"] == "codex.api_request"
    odd = KeyValue(key="event.name", value=AnyValue(int_value=5))
    assert of_records(LogRecord(event_name="own", attributes=[odd]))[0].name == "own"


@pytest.mark.parametrize("wrong", [b"", b"abc", bytes(16)])
def test_a_log_record_with_wrong_ids_is_kept_without_them(wrong: bytes) -> None:
    (event,) = of_records(LogRecord(trace_id=wrong, span_id=wrong, body=AnyValue(bool_value=True)))
    assert (event.trace_id, event.span_id, event.body) == ("", "", True)


def point_of(metric: Metric) -> Point:
    (point,) = of_metrics(metric).points
    return point


def test_numbers_stay_integers_or_floats() -> None:
    metric = Metric(name="tokens", unit="{token}", description="how many", metadata=[text("m", "n")])
    metric.sum.aggregation_temporality, metric.sum.is_monotonic = DELTA, True
    one = metric.sum.data_points.add(
        start_time_unix_nano=1, time_unix_nano=2, as_int=7, flags=1, attributes=[text("model", "x")]
    )
    one.exemplars.add(
        time_unix_nano=3, as_double=0.5, trace_id=TRACE, span_id=SPAN, filtered_attributes=[text("f", "g")]
    )
    metric.sum.data_points.add(as_double=7.0)
    metric.sum.data_points.add()
    first, second, third = of_metrics(metric).points
    kept = plain(first)
    del kept["source"]
    assert kept == {
        "name": "tokens",
        "attributes": {"model": "x"},
        "time_ns": 2,
        "type": "sum",
        "unit": "{token}",
        "description": "how many",
        "temporality": 1,
        "is_monotonic": True,
        "start_ns": 1,
        "value": 7,
        "count": None,
        "sum": None,
        "min": None,
        "max": None,
        "buckets": None,
        "exemplars": [
            {
                "time_ns": 3,
                "value": 0.5,
                "trace_id": TRACE.hex(),
                "span_id": SPAN.hex(),
                "attributes": {"f": "g"},
            }
        ],
        "flags": 1,
        "metadata": {"m": "n"},
    }
    assert (type(first.value), type(second.value), third.value) == (int, float, None)


def test_a_gauge_has_no_temporality() -> None:
    metric = Metric(name="g")
    metric.gauge.data_points.add(as_double=math.nan)
    point = point_of(metric)
    assert (point.type, point.temporality, point.is_monotonic) == ("gauge", 0, False)
    assert isinstance(point.value, float)
    assert math.isnan(point.value)


def test_histograms_know_which_of_their_fields_were_sent() -> None:
    metric = Metric(name="h")
    metric.histogram.aggregation_temporality = CUMULATIVE
    metric.histogram.data_points.add(count=3, sum=0.0, min=-1.0, explicit_bounds=[1, math.inf], bucket_counts=[1, 2, 0])
    point = point_of(metric)
    assert (point.type, point.temporality) == ("histogram", 2)
    assert (point.count, point.sum, point.min, point.max) == (3, 0.0, -1.0, None)
    assert point.buckets == {"bounds": [1.0, {"$double": "Infinity"}], "counts": [1, 2, 0]}


def test_exponential_histograms() -> None:
    buckets = ExponentialHistogramDataPoint.Buckets
    metric = Metric(name="e")
    metric.exponential_histogram.aggregation_temporality = DELTA
    metric.exponential_histogram.data_points.add(
        count=9,
        sum=2.5,
        scale=-2,
        zero_count=1,
        zero_threshold=0.1,
        positive=buckets(offset=-3, bucket_counts=[1, 0, 7]),
        max=4.0,
    )
    point = point_of(metric)
    assert (point.type, point.count, point.sum, point.min, point.max) == ("exponential_histogram", 9, 2.5, None, 4.0)
    assert point.buckets == {
        "scale": -2,
        "zero_count": 1,
        "zero_threshold": 0.1,
        "positive": {"offset": -3, "counts": [1, 0, 7]},
        "negative": {"offset": 0, "counts": []},
    }


def test_summaries() -> None:
    metric = Metric(name="s")
    one = metric.summary.data_points.add(count=2, sum=3.0)
    one.quantile_values.add(quantile=0.5, value=math.nan)
    point = point_of(metric)
    assert (point.type, point.count, point.sum) == ("summary", 2, 3.0)
    assert point.buckets == {"quantiles": [[0.5, {"$double": "NaN"}]]}


@pytest.mark.parametrize("temporality", [0, 5])
def test_points_of_unknown_temporality_are_left_out_and_counted(temporality: int) -> None:
    bad = Metric(name="bad")
    bad.histogram.aggregation_temporality = temporality  # type: ignore[assignment]
    bad.histogram.data_points.add(count=1)
    bad.histogram.data_points.add(count=2)
    good = Metric(name="good")
    good.gauge.data_points.add(as_int=1)
    batch = of_metrics(bad, Metric(name="empty"), good)
    assert [point.name for point in batch.points] == ["good"]
    assert batch.rejected == 2
    assert batch.reasons == [
        f'metric "bad": aggregation temporality: got {temporality}; expected 1 (delta) or 2 (cumulative)'
    ]
    answer = ExportMetricsServiceResponse.FromString(otlp.response("metrics", batch, otlp.PROTOBUF))
    assert answer.partial_success.rejected_data_points == 2
    assert "; and 1 more" in answer.partial_success.error_message


def test_counts_that_no_column_holds_cost_their_point_only() -> None:
    metric = Metric(name="h")
    metric.histogram.aggregation_temporality = CUMULATIVE
    metric.histogram.data_points.add(count=HUGE)
    metric.histogram.data_points.add(bucket_counts=[HUGE])
    metric.histogram.data_points.add(time_unix_nano=HUGE)
    metric.histogram.data_points.add(count=1)
    batch = of_metrics(metric)
    assert (len(batch.points), batch.rejected) == (1, 3)


@pytest.mark.parametrize("key", ["name", "attribute", "known"])
def test_a_text_that_is_not_utf8_is_said_to_be_that(key: str) -> None:
    attribute(AnyValue(string_value="key k is known"))
    ids = b"\x0a\x10" + TRACE + b"\x12\x08" + SPAN
    value = _field(9, _field(1, b"never seen" if key == "attribute" else b"k") + _field(2, _field(1, b"\xff")))
    span = ids + (_field(5, b"\xff") if key == "name" else value)
    with pytest.raises(Rejected) as caught:
        otlp.decode("traces", _field(1, _field(2, _field(2, span))), otlp.PROTOBUF)
    assert caught.value.status == 400
    assert "UTF-8" in caught.value.what + caught.value.hint


def test_an_empty_body_is_an_empty_request() -> None:
    for signal in otlp.SIGNALS:
        for media in (otlp.PROTOBUF, otlp.JSON):
            batch = otlp.decode(signal, b"", media)
            assert (batch.spans, batch.events, batch.points, batch.rejected) == ([], [], [], 0)
        assert otlp.response(signal, batch, otlp.PROTOBUF) == b""


def test_errors_are_a_status_in_the_encoding_of_the_request() -> None:
    for media in ("application/x-protobuf", "Application/X-Protobuf;v=1", "text/plain"):
        assert Status.FromString(otlp.status(3, "no", media)) == Status(code=3, message="no")


def test_a_digest_names_the_bytes_and_the_signal() -> None:
    digests = [otlp.decode(signal, body, otlp.PROTOBUF).digest for signal in otlp.SIGNALS for body in (b"", b"\n\0")]
    assert len(set(digests)) == 6
    assert digests[0] == otlp.decode("traces", b"", otlp.PROTOBUF).digest


@pytest.mark.parametrize("path", [path for path in RECORDINGS if path.suffix == ".pb"], ids=lambda path: path.stem)
def test_recordings_hold_what_the_official_classes_say(path: Any) -> None:
    signal, media = signal_and_media(path)
    batch = otlp.decode(signal, path.read_bytes(), media)
    assert batch.rejected == 0
    classes: dict[str, Any] = {
        "traces": ExportTraceServiceRequest,
        "logs": ExportLogsServiceRequest,
        "metrics": ExportMetricsServiceRequest,
    }
    official = MessageToDict(classes[signal].FromString(path.read_bytes()))
    official_attributes = [_attributes(one) for one in _records(official)]
    ours: list[Any] = [*batch.spans, *batch.events, *batch.points]
    assert [one.attributes for one in ours] == official_attributes
    assert ours


def _records(official: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for group in next(iter(official.values())):
        for scoped in next(value for key, value in group.items() if key.startswith("scope")):
            for one in scoped.get("spans") or scoped.get("logRecords") or scoped["metrics"]:
                data = next(
                    (value for value in one.values() if isinstance(value, dict) and "dataPoints" in value), None
                )
                found += data["dataPoints"] if data else [one]
    return found


def _attributes(record: dict[str, Any]) -> dict[str, Any]:
    read = {"stringValue": str, "intValue": int, "boolValue": bool, "doubleValue": float}
    kept: dict[str, Any] = {}
    for pair in record.get("attributes", []):
        ((kind, value),) = pair["value"].items()
        kept[pair["key"]] = (
            read[kind](value) if kind in read else [next(iter(one.values())) for one in value.get("values", [])]
        )
    return kept


def test_there_are_recordings_of_every_signal_in_both_encodings() -> None:
    assert {signal_and_media(path) for path in DATA.iterdir()} == {
        (signal, media) for signal in otlp.SIGNALS for media in (otlp.PROTOBUF, otlp.JSON)
    }
