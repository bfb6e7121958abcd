"""OTLP out: whatever the receivers read of a recording is written so that they read the same again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from recordings import CAPTURES
from tachograph import otlp_messages
from tachograph.cli.recordings import parts_of, read
from tachograph.model import Batch, Event, Source
from tachograph.receivers import otlp

BODIES = [part for part in parts_of([CAPTURES]) if part.signal]
WRITERS: dict[str, tuple[str, Callable[[Sequence[Any]], Message]]] = {
    "traces": ("spans", otlp_messages.traces),
    "logs": ("events", otlp_messages.logs),
    "metrics": ("points", otlp_messages.metrics),
}


def records(batch: Batch, signal: str) -> list[Any]:
    """The records of the signal in an order that grouping does not change."""
    return sorted(map(msgspec.to_builtins, getattr(batch, WRITERS[signal][0])), key=repr)


@pytest.mark.parametrize("media_type", ["application/x-protobuf", "application/json"])
@pytest.mark.parametrize("folder", sorted({part.path.parent for part in BODIES}), ids=lambda path: path.name)
def test_what_was_read_is_written_so_that_it_is_read_again(folder: Path, media_type: str) -> None:
    for part in (part for part in BODIES if part.path.parent == folder):
        for batch in read(part):
            message = WRITERS[part.signal][1](getattr(batch, WRITERS[part.signal][0]))
            is_json = media_type.endswith("json")
            body = otlp_messages.to_json(message) if is_json else message.SerializeToString()
            again = otlp.decode(part.signal, body, media_type)
            assert not again.rejected
            assert records(again, part.signal) == records(batch, part.signal)


WORDS = st.sampled_from([{"$double": name} for name in ("NaN", "Infinity", "-Infinity")] + [{"$bytes": "AP8="}])
PLAIN = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text()
    | st.floats(allow_nan=False, allow_infinity=False) | WORDS
)  # fmt: skip
KEYS = st.text(min_size=1, max_size=9).filter(lambda key: not key.startswith("$"))
VALUES = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)


@given(VALUES)
def test_every_value_comes_back(value: Any) -> None:
    event = Event(Source({"service.name": "a"}), 1, "e", {"key": value}, body=value)
    message = otlp_messages.logs([event])
    told = otlp.decode("logs", message.SerializeToString(), "application/x-protobuf").events[0]
    assert told.attributes == {"key": value} and told.body == value


def test_what_no_type_holds_becomes_text() -> None:
    assert otlp_messages.any_value(2**70).string_value == str(2**70)
    assert otlp_messages.any_value("half \ud800").string_value == "half ?"
    assert otlp_messages.any_value({"$bytes": "no base64"}).kvlist_value.values[0].key == "$bytes"
