"""What another Tachograph says that a record means: taken whole, or not at all."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tachograph import registry
from tachograph.dialects.forwarded import taken
from tachograph.model import MODEL_CALL, Batch, Event, Meaning, Source, Usage
from tachograph.vocabulary import MEANING_KEY, ORIGIN_KEY

MEANING = Meaning("pi", MODEL_CALL, session_id="s1", usage=Usage(1, output=2), is_call=True, cost_nanousd=3)


def read(told: str, origin: str = "transcript") -> Event:
    attributes = {MEANING_KEY: told, ORIGIN_KEY: origin, "output": "yes", "id": "1"}
    event = Event(Source({}, "transcript.pi"), 1, "assistant", attributes)
    registry.normalise(Batch(events=[event]))
    return event


def test_what_was_meant_comes_out_again() -> None:
    event = read(msgspec.json.encode(MEANING).decode())
    assert event.meaning == MEANING
    assert event.origin == "transcript"
    assert event.attributes == {"id": "1"}
    assert [(one.slot, one.pieces) for one in event.contents or ()] == [("output", ["yes"])]


@pytest.mark.parametrize(
    "told",
    [
        "",
        "[1]",
        "{",
        '{"role": "king"}',
        '{"failed_attempts": 101}',
        '{"cost_nanousd": -1}',
        '{"cost_nanousd": 9999999999999999999999}',
        '{"usage": {"output": -5}}',
        '{"lineage": 7}',
        '{"agent": "' + "x" * 70_000 + '"}',
    ],
)
def test_what_cannot_be_meant_is_read_like_any_other_record(told: str) -> None:
    event = read(told)
    assert event.origin == "log"
    assert event.meaning is not None
    assert event.meaning.dialect == "genai"


def test_an_origin_that_there_is_not() -> None:
    assert read(msgspec.json.encode(MEANING).decode(), "metric").origin == "log"


@given(st.dictionaries(st.sampled_from([MEANING_KEY, ORIGIN_KEY]), st.text() | st.integers() | st.lists(st.text())))
def test_any_attributes(attributes: dict[str, object]) -> None:
    before = dict(attributes)
    assert taken(attributes) is not None or attributes == before
