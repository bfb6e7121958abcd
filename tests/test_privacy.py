"""What a destination may have: no secret in any mode, nobody's name in `redacted`, no text at all in `none`."""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tachograph.destinations import PRIVACY_MODES
from tachograph.model import SLOTS, Batch, Content, Event, Meaning, Point, Source, Span
from tachograph.pipeline.privacy import fit, fit_row, fit_text, masked, pseudonym

KEY = "sk-" + "ant-api03-" + "Ab3dEfGh1jKlMn0pQrStUv9xYz2BcD"  # put together: no scanner takes it for a leak
MAIL = "Ada.Lovelace@example.org"
HOME = "/home/ada-lovelace/work"
WORDS = "the quick brown fox"
CANARY = f"{WORDS} {KEY} of {MAIL} in {HOME}"

each_mode = pytest.mark.parametrize("mode", PRIVACY_MODES)


def whole(slot: str = "input") -> Batch:
    """A record of each kind with the canary in every place that can hold a text."""
    source = Source({"service.name": "x", "error.message": CANARY, "path": HOME}, scope_attributes={"prompt": CANARY})
    inner = [{"time_ns": 1, "name": "exception", "attributes": {"exception.message": CANARY, "user.email": MAIL}}]
    attributes = {"prompt": CANARY, "error": CANARY, "user.id": "ada", "nested": {"a": [{"message": CANARY}]}}
    contents = [
        Content(slot, "gen_ai.input.messages", [CANARY]),
        Content(slot, "", [CANARY]),
        Content("", "x", [CANARY]),
    ]
    span = Span(source, "a" * 32, "b" * 16, "", "chat", 1, 1, 2, dict(attributes), 2, CANARY, events=inner)
    span.links = [{"trace_id": "", "span_id": "", "attributes": {"content": CANARY}}]
    event = Event(source, 1, "said", dict(attributes), body={"text": CANARY, "other": [CANARY, {"b": CANARY, "n": 1}]})
    span.contents, event.contents = contents, [Content(c.slot, c.key, list(c.pieces)) for c in contents]
    point = Point(source, "tokens", {"user.id": "ada", "error": CANARY}, 1, "sum", value=1)
    return Batch(spans=[span], events=[event], points=[point])


def written(batch: Batch) -> str:
    records: list[Span | Event | Point] = [*batch.spans, *batch.events, *batch.points]
    return msgspec.json.encode([batch, [record.source for record in records]]).decode()


@each_mode
@pytest.mark.parametrize("slot", SLOTS)
def test_a_canary_in_every_place(mode: str, slot: str) -> None:
    batch = whole(slot)
    assert KEY in written(batch)
    fit(batch, mode)
    text = written(batch)
    assert KEY not in text
    assert (MAIL in text) == (mode == "full")
    assert ("ada-lovelace" in text) == (mode == "full")
    assert ('"ada"' in text) == (mode == "full")
    assert (WORDS in text) == (mode != "none")


@each_mode
def test_doing_it_twice_changes_nothing_more(mode: str) -> None:
    batch = whole()
    fit(batch, mode)
    once = written(batch)
    fit(batch, mode)
    assert written(batch) == once


def test_none_keeps_what_is_no_text() -> None:
    attributes = {"gen_ai.response.finish_reason": "stop", "error.type": "timeout", "gen_ai.usage.input_tokens": 5}
    span = Span(
        Source({"service.name": "x"}), "a" * 32, "b" * 16, "", "chat", 1, 1, 2, {**attributes, "prompt": "four"}
    )
    fit(Batch(spans=[span]), "none")
    assert span.attributes == {**attributes, "prompt.size_bytes": 4}


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("mail ada@example.org, please", "ada"),
        ("<Ada.L+x@mail.example.co.uk>", "Ada"),
        ("https://ada%40x@example.org/", "ada"),
        ("/home/ada/x", "ada"),
        ("file:///Users/ada", "ada"),
        (r"C:\Users\Ada Lovelace\x", "Lovelace"),
        (r'{"path": "C:\\Users\\Ada Lovelace\\x"}', "Lovelace"),
        ("~/.claude/projects/-home-ada-work/1.jsonl", "ada"),
        ("-Users-ada-work", "ada"),
    ],
)
def test_people_are_masked(text: str, hidden: str) -> None:
    assert hidden not in masked(text)
    assert masked(masked(text)) == masked(text)


@pytest.mark.parametrize(
    "text",
    [
        "git@github.com:acme/web.git",
        "left-pad@1.3.0",
        "claude-sonnet-4@20250514",
        "npm i @scope/name",
        "homes",
        "a @ b",
    ],
)
def test_what_only_looks_like_people_stays(text: str) -> None:
    assert masked(text) == text


def test_one_person_is_one_pseudonym() -> None:
    row = fit_row({"user": "Ada@example.org", "error_message": "of ada@example.org"}, "redacted")
    assert row == {"user": pseudonym("ada@example.org"), "error_message": f"of {pseudonym('ada@example.org')}"}
    assert re.fullmatch("user-[0-9a-f]{12}", row["user"])
    assert pseudonym(row["user"]) == row["user"]
    assert pseudonym("") == ""


@each_mode
@given(
    text=st.lists(st.sampled_from([KEY, MAIL, HOME, '"', "\\", "\n", "{", "}", ",", " ", "é", "\ud800", "x=", "://"]))
)
def test_texts_made_of_canaries(mode: str, text: list[str]) -> None:
    """Whatever stands around them, blanks apart: a name that is glued to something else is another name."""
    given_text = " ".join(text)
    found = fit_text(given_text, mode)
    assert KEY not in found
    if mode != "full":
        assert "ada-lovelace" not in found
        assert MAIL not in found
    if mode == "none":
        assert found == ""


@each_mode
@given(
    text=st.text(max_size=300),
    wrap=st.sampled_from([lambda t: t, lambda t: [t], lambda t: {"a": t}, lambda t: {"a": [{"message": t}]}]),
)
def test_any_text_anywhere(mode: str, text: str, wrap: Callable[[str], object]) -> None:
    event = Event(Source({}), 1, "x", {"y": wrap(f"{text} {KEY} {text}")}, body=wrap(text))
    fit(Batch(events=[event]), mode)
    assert KEY not in str(event)


@pytest.mark.parametrize("mode", ["full", "redacted", "none"])
def test_what_a_record_means_is_no_way_round(mode: str) -> None:
    meaning = Meaning(user="ada", error_message="no such file: /home/ada/plan.txt", session_id="s1")
    event = Event(Source({}), 1, "e", {}, meaning=meaning)
    fit(Batch(events=[event]), mode)
    assert event.meaning is not None
    assert event.meaning.session_id == "s1"
    assert (event.meaning.user == "ada") is (mode == "full")
    assert ("plan" in event.meaning.error_message) is (mode != "none")
    assert ("ada" in event.meaning.error_message) is (mode == "full")
