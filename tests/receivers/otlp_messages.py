"""Any OTLP message for Hypothesis, and a writer of OTLP/JSON that shares nothing with the decoder."""

from __future__ import annotations

import base64
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

DATA = Path(__file__).parents[1] / "data" / "otlp"
RECORDINGS = sorted(DATA.iterdir())

REQUESTS: dict[str, type[Message]] = {
    "traces": ExportTraceServiceRequest,
    "metrics": ExportMetricsServiceRequest,
    "logs": ExportLogsServiceRequest,
}

_DEPTH_MAX = 9
_IDS = {"trace_id": 16, "span_id": 8, "parent_span_id": 8}
_BITS = {
    FieldDescriptor.TYPE_INT32: (-(1 << 31), (1 << 31) - 1),
    FieldDescriptor.TYPE_SINT32: (-(1 << 31), (1 << 31) - 1),
    FieldDescriptor.TYPE_UINT32: (0, (1 << 32) - 1),
    FieldDescriptor.TYPE_FIXED32: (0, (1 << 32) - 1),
    FieldDescriptor.TYPE_INT64: (-(1 << 63), (1 << 63) - 1),
    FieldDescriptor.TYPE_SFIXED64: (-(1 << 63), (1 << 63) - 1),
    FieldDescriptor.TYPE_UINT64: (0, (1 << 64) - 1),
    FieldDescriptor.TYPE_FIXED64: (0, (1 << 64) - 1),
}
_LARGE = {
    FieldDescriptor.TYPE_INT64,
    FieldDescriptor.TYPE_SFIXED64,
    FieldDescriptor.TYPE_UINT64,
    FieldDescriptor.TYPE_FIXED64,
}


def signal_and_media(path: Path) -> tuple[str, str]:
    """What a recording is, from its name: `client-signal.pb` or `.json`."""
    return path.stem.rpartition("-")[2], "application/json" if path.suffix == ".json" else "application/x-protobuf"


def _scalar(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.name in _IDS:
        right = st.binary(min_size=_IDS[field.name], max_size=_IDS[field.name])
        return st.one_of(right, right, right, right, st.just(bytes(_IDS[field.name])), st.binary(max_size=20))
    if field.type == FieldDescriptor.TYPE_STRING:
        return st.one_of(
            st.sampled_from(["event.name", "gen_ai.system", "x"]), st.text(max_size=8), st.just("long " * 40)
        )
    if field.type == FieldDescriptor.TYPE_BYTES:
        return st.binary(max_size=8)
    if field.type == FieldDescriptor.TYPE_BOOL:
        return st.booleans()
    if field.type == FieldDescriptor.TYPE_DOUBLE:
        return st.floats()
    if field.type == FieldDescriptor.TYPE_ENUM:
        assert field.enum_type is not None
        return st.sampled_from([value.number for value in field.enum_type.values])
    low, high = _BITS[field.type]
    return st.one_of(st.integers(0, 300), st.integers(0, 300_000), st.integers(low, high))


@st.composite
def message(draw: st.DrawFn, descriptor: Any, depth: int = 0) -> Message:
    """Any message of a type, with some of its fields set, and at most one of each oneof."""
    made = GetMessageClass(descriptor)()
    chosen = {one.name: draw(st.sampled_from([None, *one.fields])) for one in descriptor.oneofs}
    for field in descriptor.fields:
        oneof = field.containing_oneof
        if (chosen[oneof.name] is not field) if oneof else not draw(st.integers(0, 5)):
            continue
        if field.message_type is None:
            value = _scalar(field)
        elif depth < _DEPTH_MAX:
            value = message(field.message_type, depth + 1)
        else:
            continue
        if field.is_repeated:
            getattr(made, field.name).extend(draw(st.lists(value, min_size=1, max_size=2)))
        elif field.message_type is None:
            setattr(made, field.name, draw(value))
        else:
            getattr(made, field.name).CopyFrom(draw(value))
    return made


@dataclass(frozen=True)
class Style:
    """The ways in which exporters differ that all mean the same."""

    has_string_integers: bool
    has_upper_ids: bool
    has_enum_names: bool
    indent: int | None


STYLES = st.builds(Style, st.booleans(), st.booleans(), st.booleans(), st.sampled_from([None, 2]))


def to_json(made: Message, style: Style) -> bytes:
    """The message in OTLP/JSON."""
    return json.dumps(_object(made, style), indent=style.indent, allow_nan=False).encode()


def _object(made: Message, style: Style) -> dict[str, Any]:
    written: dict[str, Any] = {}
    for field, value in made.ListFields():
        written[field.json_name] = (
            [_plain(field, one, style) for one in value] if field.is_repeated else _plain(field, value, style)
        )
    return written


def _plain(field: FieldDescriptor, value: Any, style: Style) -> Any:
    if field.message_type is not None:
        return _object(value, style)
    if field.name in _IDS:
        return value.hex().upper() if style.has_upper_ids else value.hex()
    if field.type == FieldDescriptor.TYPE_BYTES:
        return base64.b64encode(value).decode()
    if field.type == FieldDescriptor.TYPE_ENUM and style.has_enum_names:
        assert field.enum_type is not None
        return field.enum_type.values_by_number[value].name
    if field.type in _LARGE and style.has_string_integers:
        return str(value)
    if field.type == FieldDescriptor.TYPE_DOUBLE and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
