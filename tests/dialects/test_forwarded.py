"""What another Tachograph says that a record means: taken whole, or not at all."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tachograph import registry
from tachograph.dialects.forwarded import taken, texts
from tachograph.model import MODEL_CALL, Batch, Event, Meaning, Source, Usage
from tachograph.vocabulary import LAYOUT_KEY, MEANING_KEY, ORIGIN_KEY

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


def laid_out(layout: str, **more: str) -> Event:
    attributes = {MEANING_KEY: msgspec.json.encode(MEANING).decode(), LAYOUT_KEY: layout, **more}
    event = Event(Source({}, "transcript.pi"), 1, "assistant", attributes, body="said")
    registry.normalise(Batch(events=[event]))
    return event


def test_texts_are_cut_as_they_were() -> None:
    texts_told = [["thinking", "thoughts", "thoughts", [2, 1]], ["input", "x", "x", None], ["output", "", "", [4]]]
    layout = msgspec.json.encode({"added": ["session.id"], "texts": texts_told}).decode()
    event = laid_out(layout, thoughts="abc", x="[1,{}]", title="stays", **{"session.id": "s1"})
    assert (event.attributes, event.body) == ({"title": "stays"}, None)
    assert [(one.slot, one.key, one.pieces, one.is_list) for one in event.contents or ()] == [
        ("thinking", "thoughts", ["ab", "c"], False),
        ("input", "x", ["1", "{}"], True),
        ("output", "", ["said"], False),
    ]


def test_nothing_but_what_we_add_is_taken_away() -> None:
    event = laid_out('{"added":["session.id","title"],"texts":[]}', title="stays")
    assert (event.attributes, event.body, event.contents) == ({"title": "stays"}, "said", None)


@given(st.text() | st.lists(st.tuples(st.text(), st.text(), st.text(), st.none() | st.lists(st.integers()))))
def test_any_layout(told: object) -> None:
    layout = told if isinstance(told, str) else msgspec.json.encode({"added": [], "texts": told}).decode()
    event = Event(Source({}), 1, "e", {LAYOUT_KEY: layout, "": "a", "0": "[1]"}, body="text")
    found = texts(event)
    assert found is None or all(isinstance(piece, str) for one in found for piece in one.pieces)
