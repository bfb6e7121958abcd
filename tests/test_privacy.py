"""What a destination may have: no secret in any mode, nobody's name in `redacted`, no text at all in `none`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tachograph.destinations import PRIVACY_MODES
from tachograph.forwarders.contract import Step
from tachograph.model import SLOTS, Attributes, Batch, Content, Event, Meaning, Point, Source, Span
from tachograph.pipeline import wordless
from tachograph.pipeline.privacy import fit, fit_row, fit_step, fit_text, masked, pseudonym
from tachograph.registry import DIALECTS

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


# -- none: no word of a sentence, wherever it stands ------------------------------------------------------------------

SPOKEN = ("quokka", "zephyr", "mjölnir", "bivouac", "kumquat", "wharfage", "xylitol", "jugband", "noctule", "tarboosh")
GLUE = st.sampled_from([" ", "  ", "\n", "\t", ", ", "; ", " - ", "' '", '"', "\u00a0", "\u3000"])


def sentences(words_min: int) -> st.SearchStrategy[str]:
    """A sentence of so many words; what stands between them is alike."""
    some = st.lists(st.sampled_from(SPOKEN), min_size=words_min, max_size=12)
    return st.builds(lambda glue, words, end: glue.join(words) + end, GLUE, some, st.sampled_from(["", ".", "?"]))


SAID = sentences(2)
LONG = sentences(9)  # names may have a few words
OWN = st.sampled_from(
    ["acme.note", "x", "task", "query", "plan.step", "label", "cmd", "url.full", "gen_ai.tool.description"]
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    SAID | st.integers(-9, 9) | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(OWN | SAID, inner, max_size=3),
    max_leaves=6,
)
ATTRIBUTES: st.SearchStrategy[Attributes] = st.dictionaries(OWN | SAID, VALUES, max_size=4)
SOURCES = st.builds(Source, ATTRIBUTES, LONG, SAID, ATTRIBUTES, SAID, SAID)
MEANINGS = st.builds(
    Meaning, **{name: LONG for name in Meaning.__struct_fields__ if Meaning.__annotations__[name] == "str"}
)
CONTENTS = st.lists(st.builds(Content, st.sampled_from(["", *SLOTS]), OWN | SAID, st.lists(SAID)), max_size=2)
INNER = st.fixed_dictionaries({"time_ns": st.just(1), "name": LONG, "attributes": ATTRIBUTES})
LINKS = st.fixed_dictionaries({"trace_id": st.just(""), "attributes": ATTRIBUTES, "trace_state": SAID})
SPANS = st.builds(
    Span, SOURCES, st.just("a" * 32), st.just("b" * 16), st.just(""), LONG, st.integers(-1, 7), st.just(1), st.just(2),
    ATTRIBUTES, st.just(2), SAID, trace_state=SAID, events=st.lists(INNER, max_size=2),
    links=st.lists(LINKS, max_size=2), meaning=MEANINGS, contents=CONTENTS,
)  # fmt: skip
EVENTS = st.builds(
    Event, SOURCES, st.just(1), LONG, ATTRIBUTES, VALUES, severity_text=SAID, meaning=MEANINGS, contents=CONTENTS
)
POINTS = st.builds(
    Point, SOURCES, SAID, ATTRIBUTES, st.just(1), st.just("sum"), SAID, SAID, value=st.just(1), metadata=ATTRIBUTES,
    exemplars=st.lists(st.fixed_dictionaries({"attributes": ATTRIBUTES}), max_size=2),
)  # fmt: skip


def assert_unspoken(text: str) -> None:
    assert [word for word in SPOKEN if word in text] == []


@settings(phases=(Phase.generate,))  # a failure is read without being made small, which takes minutes here
@given(st.builds(Batch, st.lists(SPANS, max_size=2), st.lists(EVENTS, max_size=2), st.lists(POINTS, max_size=2)))
def test_none_leaves_no_word_of_a_sentence(batch: Batch) -> None:
    fit(batch, "none")
    once = written(batch)
    assert_unspoken(once)
    fit(batch, "none")
    assert written(batch) == once


ROW = dict.fromkeys(("call_id", "session_id", "agent", "user", "model", "error_type", "title", "price_note"), LONG)


@given(st.fixed_dictionaries({**ROW, "models": st.lists(LONG, max_size=2)}), st.lists(LONG, min_size=8, max_size=8))
def test_none_leaves_no_word_of_a_sentence_in_rows_and_steps(row: dict[str, Any], texts: list[str]) -> None:
    name, session_id, prompt_id, subagent, tool, call_id, error_type, message = texts
    step = Step("a" * 32, "b" * 16, "", "tool_run", name, 1, 2, session_id, fit_row(row, "none"), prompt_id, subagent)
    step.tool_name, step.tool_call_id, step.error_type, step.error_message = tool, call_id, error_type, message
    fit_step(step, "none")
    assert_unspoken(msgspec.json.encode(step).decode())
    assert step.name == "tool_run"
    assert step.session_id.startswith("id-")  # one session is still told from another


@each_mode
@given(text=st.sampled_from([KEY, MAIL, HOME]), around=st.sampled_from(["", "x ", "\n"]))
def test_secrets_and_people_in_steps(mode: str, text: str, around: str) -> None:
    said = f"{around}{text}"
    step = Step("a" * 32, "b" * 16, "", "tool_run", said, 1, 2, said, {}, said, said, said, said, True, said, said)
    fit_step(step, mode)
    told = msgspec.json.encode(step).decode()
    assert KEY not in told
    if mode != "full":
        assert MAIL not in told
        assert "ada-lovelace" not in told


@pytest.mark.parametrize(
    "text",
    [
        "stop", "tool_use", "claude-sonnet-4@20250514", "meta-llama/Llama-3.3-70B", "application/json", "1.2.3-rc.1",
        "2026-11-21T12:00:00.123Z", "2026-11-21 12:00:00", "-1.5e3", "+42", "0af7651916cd43dd8448eb211c80319c",
        "toolu_01AbC", "@scope/name", "https://api.example.org/v1/messages", "127.0.0.1:4318", "dGhlIHE=",
        "left-pad@1.3.0",
        "[redacted:api_key]", "user-0123456789ab", "req_011CSHoEeqs5C35K2UUqR7Fy", "GET", "linux/amd64",
        "mcp__jira__get",
    ],
)  # fmt: skip
def test_none_keeps_what_looks_like_no_text(text: str) -> None:
    event = Event(Source({"acme.x": text}), 1, "e", {"acme.x": text, "acme.y": [text, text]})
    fit(Batch(events=[event]), "none")
    assert event.attributes == {"acme.x": text, "acme.y": [text, text]}
    assert event.source.resource == {"acme.x": text}


@pytest.mark.parametrize(
    "text",
    [
        "fix it", "/etc/passwd", "./x", "../x", "~/x", "C:/x", r"C:\x", "src/app/main.py", "main.py", "plan.docx:12",
        "ada@1.2.net, x", "ada@example.org, bob@example.org", "https://example.org/?q=why", "https://ada:x@e.org/",
        "file:///x", "two\nlines", "warum?", "größe", "x" * 65, '{"a":1}', "rm -rf", "$HOME", "-rf",
        "don't", "私の計画", "-home-ada-work", "a,b", "\ud800",
    ],
)  # fmt: skip
def test_none_tells_only_the_size_of_what_may_be_a_text(text: str) -> None:
    event = Event(Source({"acme.x": text}), 1, "e", {"acme.x": text, "acme.y": {"z": text}, "acme.l": ["ok", text]})
    fit(Batch(events=[event]), "none")
    kept = event.attributes
    assert sorted(kept) == ["acme.l.size_bytes", "acme.x.size_bytes", "acme.y"]
    assert list(kept["acme.y"]) == ["z.size_bytes"]
    assert sorted(event.source.resource) == ["acme.x.size_bytes", "tachograph.resource"]
    if masked(text) == text:
        assert kept["acme.x.size_bytes"] == len(text.encode("utf-8", "replace"))


def test_none_knows_names_of_things_and_nobody() -> None:
    resource = {
        "service.name": "My Agent",
        "os.description": "Debian GNU/Linux 12",
        "process.command_args": ["x", "do it"],
    }
    attributes = {
        "gen_ai.agent.name": "Research Helper",
        "user.name": "Ada Lovelace",
        "crewai.principal.id": "Ada L",
    }
    span = Span(Source(resource, "@scope/lib", "1.0"), "a" * 32, "b" * 16, "", "chat big", 3, 1, 2, attributes)
    fit(Batch(spans=[span]), "none")
    assert span.attributes == {
        "gen_ai.agent.name": "Research Helper",
        "user.name": pseudonym("Ada Lovelace"),
        "crewai.principal.id": pseudonym("Ada L"),
    }
    assert span.source.resource.keys() == {
        "service.name", "os.description", "process.command_args.size_bytes", "tachograph.resource",
    }  # fmt: skip
    assert (span.source.scope_name, span.source.scope_version) == ("@scope/lib", "1.0")


@pytest.mark.parametrize(
    ("name", "kind", "kept"),
    [
        ("chat claude-sonnet-4@20250514", 3, "chat claude-sonnet-4@20250514"),
        ("POST /v1/messages", 3, "POST /v1/messages"),
        ("tool.bash", 1, "tool.bash"),
        ("invoke_agent Research Assistant", 1, "invoke_agent Research Assistant"),
        ("Fix: 'it'", 1, "internal"),
        ("why does my login not work", 3, "client"),
        ("two  blanks", 0, "span"),
        ("read notes.md now", 1, "internal"),
        ("a\nb", 2, "server"),
        ("x" * 65, 9, "span"),
        ("", 1, "internal"),
    ],
)
def test_none_keeps_names_of_spans_that_many_have(name: str, kind: int, kept: str) -> None:
    span = Span(Source({}), "a" * 32, "b" * 16, "", name, kind, 1, 2, {})
    fit(Batch(spans=[span]), "none")
    assert span.name == kept


def test_every_name_that_a_dialect_knows_stays() -> None:
    known = {name for one in DIALECTS for name in (*one.named_roles, *one.noise) if not name.endswith("*")}
    assert {name for name in known if not wordless.is_name(name)} == set()


def test_bytes_are_texts_too() -> None:
    event = Event(Source({}), 1, "e", {"acme.x": {"$bytes": "cXVva2th"}, "acme.y": {"$double": "NaN"}})
    fit(Batch(events=[event]), "none")
    assert event.attributes == {"acme.x.size_bytes": 6, "acme.y": {"$double": "NaN"}}


def test_a_text_cut_into_its_words_is_a_text() -> None:
    event = Event(Source({}), 1, "e", {"acme.tokens": list("abcdefghi"), "acme.few": list("abc")})
    fit(Batch(events=[event]), "none")
    assert event.attributes == {"acme.tokens.size_bytes": 37, "acme.few": ["a", "b", "c"]}


def test_what_has_no_name_to_keep_is_counted() -> None:
    source = Source({"who am I": 1}, scope_attributes={"and you": "x"})
    span = Span(source, "a" * 32, "b" * 16, "", "x", 1, 1, 2, {"fix my login": True}, dropped_attributes=1)
    span.events = [{"time_ns": 1, "name": "e", "attributes": {"a b": 1}, "dropped": 0}]
    fit(Batch(spans=[span]), "none")
    assert (span.attributes, span.dropped_attributes) == ({}, 2)
    assert (source.resource_dropped, source.scope_dropped) == (1, 1)
    assert span.events == [{"time_ns": 1, "name": "e", "attributes": {}, "dropped": 1}]


def test_the_words_of_a_body_are_counted() -> None:
    event = Event(Source({}), 1, "e", {}, body={"said": "four", "more": ["12", {"n": 1}], "three words here": 5})
    fit(Batch(events=[event]), "none")
    assert (event.body, event.attributes) == ({"more": [{"n": 1}]}, {"body.size_bytes": 6})


def test_series_that_differ_in_a_text_stay_apart() -> None:
    """Two totals under one name would be added up as one that jumps."""
    source = Source({"service.name": "x"})
    points = [Point(source, "n", {"why": why, "kind": "a"}, 1, "sum", value=1) for why in ("a b", "c d", "a b")]
    fit(Batch(points=points), "none")
    told = [point.attributes for point in points]
    assert told[0] == told[2] != told[1]
    assert [sorted(one) for one in told] == [["kind", "tachograph.series", "why.size_bytes"]] * 3
    metrics = [Point(source, name, {}, 1, "sum", value=1) for name in ("a b", "c d", "tokens.used")]
    fit(Batch(points=metrics), "none")
    assert len({point.name for point in metrics}) == 3
    assert metrics[2].name == "tokens.used"
