"""Any bytes give a batch or our error, and nothing else: random, mutated from recordings, and JSON of any shape."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otlp_messages import RECORDINGS, signal_and_media
from tachograph.errors import Rejected
from tachograph.model import Batch
from tachograph.receivers import otlp

SIGNALS = st.sampled_from(otlp.SIGNALS)
MEDIA = st.sampled_from([otlp.PROTOBUF, otlp.JSON])


def survives(signal: str, body: bytes, media: str) -> None:
    """Decode, and answer: nothing but a batch or a Rejected may come of it, and the batch is one that can be kept."""
    try:
        batch = otlp.decode(signal, body, media)
    except Rejected as error:
        assert error.what
        assert otlp.status(3, error.what, media)
        return
    assert isinstance(batch, Batch)
    records: list[Any] = [*batch.spans, *batch.events, *batch.points]
    json.dumps([one.attributes for one in records], allow_nan=False).encode()
    assert all(0 <= time < 1 << 63 for span in batch.spans for time in (span.start_ns, span.end_ns))
    assert isinstance(otlp.response(signal, batch, media), bytes)


@given(signal=SIGNALS, media=MEDIA, body=st.binary(max_size=400))
def test_random_bytes(signal: str, media: str, body: bytes) -> None:
    survives(signal, body, media)


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
@settings(max_examples=60)
@given(
    cuts=st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=6), st.integers(0, 9)), min_size=1, max_size=6),
    end=st.floats(0.5, 1.5),
)
def test_mutated_recordings(path: Path, cuts: list[tuple[float, bytes, int]], end: float) -> None:
    signal, media = signal_and_media(path)
    body = bytearray(path.read_bytes())
    for where, bytes_, length in cuts:
        at = int(where * len(body))
        body[at : at + length] = bytes_
    survives(signal, bytes(body[: int(end * len(body))]), media)


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_a_recording_for_another_signal(path: Path) -> None:
    _, media = signal_and_media(path)
    for signal in otlp.SIGNALS:
        survives(signal, path.read_bytes(), media)


_KEYS = """
    resourceSpans scopeSpans spans resourceLogs scopeLogs logRecords resourceMetrics scopeMetrics metrics resource scope
    attributes key value stringValue intValue arrayValue kvlistValue values traceId spanId kind status code name body
    startTimeUnixNano gauge sum histogram exponentialHistogram summary dataPoints asInt asDouble count flags
"""
KEYS = st.sampled_from(_KEYS.split())
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["NaN", "5", "0af7651916cd43dd8448eb211c80319c", "SPAN_KIND_CLIENT", "\ud800", 1 << 64, -1]),
)
SHAPES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=25
)


@given(signal=SIGNALS, shape=st.dictionaries(KEYS, SHAPES, max_size=4))
def test_json_of_any_shape(signal: str, shape: Any) -> None:
    survives(signal, json.dumps(shape).encode(), otlp.JSON)


@pytest.mark.parametrize("path", [path for path in RECORDINGS if path.suffix == ".json"], ids=lambda path: path.stem)
@settings(max_examples=60)
@given(data=st.data())
def test_recordings_with_one_value_replaced(path: Path, data: st.DataObject) -> None:
    signal, media = signal_and_media(path)
    whole = json.loads(path.read_bytes())
    here = whole
    while True:
        key = data.draw(st.sampled_from(list(here) if isinstance(here, dict) else range(len(here))))
        if not isinstance(here[key], dict | list) or not here[key] or not data.draw(st.integers(0, 6)):
            here[key] = data.draw(SHAPES)
            break
        here = here[key]
    survives(signal, json.dumps(whole).encode(), media)


@given(header=st.text(max_size=30))
def test_any_content_type(header: str) -> None:
    try:
        assert otlp.media_type_of(header) in (otlp.PROTOBUF, otlp.JSON)
    except Rejected as error:
        assert error.status == 415
