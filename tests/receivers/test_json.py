"""OTLP in JSON: its quirks one by one, and that it gives what the protobuf of the same data gives."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otlp_messages import REQUESTS, STYLES, Style, message, to_json
from tachograph.errors import Rejected
from tachograph.model import Batch
from tachograph.receivers import otlp

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"


def told(batch: Batch) -> str:
    """All that a batch holds, to compare: NaN is NaN here, and a source is what it says."""
    plain = msgspec.to_builtins(batch)
    return repr({key: value for key, value in plain.items() if key not in ("digest", "size")})


@pytest.mark.parametrize("signal", list(REQUESTS))
@given(data=st.data(), style=STYLES)
def test_json_and_protobuf_of_the_same_data_are_the_same_batch(signal: str, data: st.DataObject, style: Style) -> None:
    made = data.draw(message(REQUESTS[signal].DESCRIPTOR))
    from_protobuf = otlp.decode(signal, made.SerializeToString(), otlp.PROTOBUF)
    from_json = otlp.decode(signal, to_json(made, style), otlp.JSON)
    if made.ByteSize():
        assert told(from_json) == told(from_protobuf)


def traces(**span: Any) -> bytes:
    """A request with one span, of which the test says what matters."""
    base = {"traceId": TRACE, "spanId": SPAN, "name": "chat"}
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [base | span]}]}]}).encode()


def decoded(**span: Any) -> Any:
    (one,) = otlp.decode("traces", traces(**span), otlp.JSON).spans
    return one


def attribute(value: Any) -> Any:
    return decoded(attributes=[{"key": "k", "value": value}]).attributes["k"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"intValue": "155"}, 155),
        ({"intValue": 203}, 203),
        ({"intValue": "-9223372036854775808"}, -(1 << 63)),
        ({"intValue": 5.0}, 5),
        ({"doubleValue": 1}, 1.0),
        ({"doubleValue": "NaN"}, {"$double": "NaN"}),
        ({"doubleValue": "-Infinity"}, {"$double": "-Infinity"}),
        ({"boolValue": False}, False),
        ({"stringValue": ""}, ""),
        ({"stringValue": "null"}, "null"),
        ({"bytesValue": "aGk="}, {"$bytes": "aGk="}),
        ({}, None),
        (None, None),
        ({"stringValue": None, "intValue": "7"}, 7),
        ({"arrayValue": {}}, []),
        ({"arrayValue": {"values": [{"intValue": "1"}, {"stringValue": "a"}, {}]}}, [1, "a", None]),
        ({"kvlistValue": {"values": [{"key": "a", "value": {"intValue": 1}}, {"key": "b"}]}}, {"a": 1, "b": None}),
        ({"newValue": 5}, None),
    ],
)
def test_values(value: Any, expected: Any) -> None:
    came = attribute(value)
    assert came == expected
    assert type(came) is type(expected)


def test_ids_in_any_case_become_lower_case() -> None:
    span = decoded(traceId=TRACE.upper(), spanId=SPAN.upper(), parentSpanId=SPAN.upper())
    assert (span.trace_id, span.span_id, span.parent_id) == (TRACE, SPAN, SPAN)


@pytest.mark.parametrize(("kind", "expected"), [(3, 3), ("SPAN_KIND_CLIENT", 3), ("3", 3), (None, 0), (77, 77)])
def test_enums_by_number_or_name(kind: Any, expected: int) -> None:
    span = decoded(kind=kind, status={"code": "STATUS_CODE_ERROR", "message": "no"})
    assert span.kind == expected
    assert type(span.kind) is int
    assert (span.status_code, span.status_message) == (2, "no")


def test_null_is_the_same_as_absent_and_unknown_keys_are_ignored() -> None:
    names = ("traceState", "kind", "startTimeUnixNano", "attributes", "events", "links", "status", "droppedLinksCount")
    nothing: dict[str, Any] = dict.fromkeys((*names, "parentSpanId", "flags"))
    body = json.loads(traces(**nothing, novelty={"a": [1]}))
    body["resourceSpans"][0] |= {"resource": None, "entityRefs": []}
    body["later"] = {}
    assert told(otlp.decode("traces", json.dumps(body).encode(), otlp.JSON)) == told(
        otlp.decode("traces", traces(), otlp.JSON)
    )


@pytest.mark.parametrize("media", ["application/json", "Application/JSON; charset=utf-8", "application/json;x"])
def test_the_media_type_is_compared_without_case_and_parameters(media: str) -> None:
    assert len(otlp.decode("traces", traces(), media).spans) == 1


@pytest.mark.parametrize("media", ["", "text/plain", "application/jsonl", "application/grpc"])
def test_another_media_type_is_415(media: str) -> None:
    with pytest.raises(Rejected, match="expected application/x-protobuf or application/json") as caught:
        otlp.decode("traces", traces(), media)
    assert caught.value.status == 415


@pytest.mark.parametrize(
    ("span", "message_"),
    [
        ({"name": 5}, "request body: $.resourceSpans[0].scopeSpans[0].spans[0].name: got int; expected str"),
        ({"startTimeUnixNano": "soon"}, "spans[0].startTimeUnixNano: got str; expected int"),
        ({"startTimeUnixNano": -1}, "spans[0].startTimeUnixNano: Expected int >= 0"),
        ({"kind": "CLIENT"}, "spans[0].kind: got 'CLIENT'; expected a number or one of SPAN_KIND_UNSPECIFIED"),
        ({"kind": 1.5}, "spans[0].kind: got 1.5; expected a number"),
        ({"kind": 1 << 40}, "spans[0].kind: got 1099511627776; expected a number"),
        ({"attributes": {"key": "k"}}, "spans[0].attributes: got object; expected array"),
        (
            {"attributes": [{"key": "k", "value": {"intValue": "9223372036854775808"}}]},
            "value.intValue: Expected int <=",
        ),
        ({"attributes": [{"key": "k", "value": {"intValue": True}}]}, "value.intValue: got bool; expected int"),
        ({"attributes": [{"key": "k", "value": {"bytesValue": "!"}}]}, "value.bytesValue: Invalid base64"),
        ({"attributes": [{"key": "k", "value": "v"}]}, "attributes[0].value: got str; expected object"),
        ({"events": [{"timeUnixNano": 1.5}]}, "events[0].timeUnixNano: got float; expected int"),
        ({"droppedAttributesCount": 1 << 32}, "droppedAttributesCount: Expected int <= 4294967295"),
    ],
)
def test_a_wrong_type_is_named_by_its_path(span: dict[str, Any], message_: str) -> None:
    with pytest.raises(Rejected) as caught:
        otlp.decode("traces", traces(**span), otlp.JSON)
    assert message_ in caught.value.what
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"5",
        b"{",
        b"nonsense",
        b'{"resourceSpans": [}',
        b"\xff",
        b'"\xff"',
        b"[" * 100_000,
        b"{}x",
    ],
)
def test_what_is_no_request_is_rejected(body: bytes) -> None:
    with pytest.raises(Rejected) as caught:
        otlp.decode("traces", body, otlp.JSON)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("escaped", "expected"),
    [
        (r"a\ud83d", "a\ufffd"),
        (r"\udE00b", "\ufffdb"),
        (r"\ud83d\ud83d\ude00", "\ufffd\U0001f600"),
        (r"\\ud83d \ud83d\ude00", "\\ud83d \U0001f600"),
        (r"\\\ud83d", "\\\ufffd"),
    ],
)
def test_half_an_emoji_costs_one_character_and_not_the_request(escaped: str, expected: str) -> None:
    body = traces(name="NAME").replace(b"NAME", escaped.encode())
    assert otlp.decode("traces", body, otlp.JSON).spans[0].name == expected


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {"intValue": 1}
    for _ in range(depth):
        value = {"arrayValue": {"values": [value]}}
    return value


def test_a_value_nested_too_deep_costs_its_record_only() -> None:
    body = json.loads(traces(attributes=[{"key": "k", "value": nested(65)}]))
    good = json.loads(traces(attributes=[{"key": "k", "value": nested(64)}]))
    spans = body["resourceSpans"][0]["scopeSpans"][0]["spans"]
    spans += good["resourceSpans"][0]["scopeSpans"][0]["spans"]
    batch = otlp.decode("traces", json.dumps(body).encode(), otlp.JSON)
    assert (len(batch.spans), batch.rejected) == (1, 1)
    assert "deeper than 64" in batch.reasons[0]


def test_ids_that_are_none_cost_their_record_only() -> None:
    for id_ in ("zz" * 16, TRACE[:-1], "", None, "0" * 32, "SOdfHBb3TK6ESOsjHIAxnA=="):
        batch = otlp.decode("traces", traces(traceId=id_), otlp.JSON)
        assert (batch.spans, batch.rejected) == ([], 1)
        assert "expected 32 hex digits" in batch.reasons[0]


@pytest.mark.parametrize("body", [b'{"resource_spans": []}', b'{"resourceLogs": []}'])
def test_a_body_without_its_records_is_not_told_that_it_is_kept(body: bytes) -> None:
    with pytest.raises(Rejected, match='no "resourceSpans"; expected an OTLP traces request'):
        otlp.decode("traces", body, otlp.JSON)


@pytest.mark.parametrize("body", [b"{}", b'{"resourceSpans": []}', b'{"resourceSpans": null}'])
def test_an_empty_request_succeeds(body: bytes) -> None:
    assert otlp.response("traces", otlp.decode("traces", body, otlp.JSON), otlp.JSON) == b"{}"


def test_answers_are_in_json_with_64_bit_numbers_as_strings() -> None:
    for signal, key in (("traces", "rejectedSpans"), ("metrics", "rejectedDataPoints"), ("logs", "rejectedLogRecords")):
        batch = Batch(rejected=7, reasons=["one", "two"])
        assert json.loads(otlp.response(signal, batch, otlp.JSON)) == {
            "partialSuccess": {key: "7", "errorMessage": "one; two; and 5 more"}
        }
    assert json.loads(otlp.status(3, "no", "application/json; charset=utf-8")) == {"code": 3, "message": "no"}
