"""Whatever the attributes are, a record is understood: nothing raises, nothing is lost, no amount is absurd."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tachograph import ledger, registry
from tachograph.dialects import genai
from tachograph.dialects.reading import content
from tachograph.dialects.table import Dialect
from tachograph.model import Batch, Content, Event, Meaning, Source, Span
from tachograph.registry import DIALECTS

AMOUNTS = (
    *("ttft_ns", "duration_ns", "cost_nanousd", "attempt", "failed_attempts", "http_status"),
    *("input_uncached", "cache_read", "cache_write", "cache_write_1h", "output", "reasoning"),
)
INT64_MAX = 2**63 - 1
SPECIAL: st.SearchStrategy[Any] = st.sampled_from(
    [
        *("", "[]", "[", "{}", "null", "NaN", "-1", "1e400", "9" * 30, "-0", "²", "true", "[1,", '["a",{"b":[1]}]'),
        *("[" * 3000, "{'a': 1}", "[[]]", "{[]}", "\x00", "x" * 2000, '[{"role":"user"}]' * 2),
        *({"$double": "NaN"}, {"$double": "-Infinity"}, {"$bytes": "AA=="}, [], {}, [1.5, 2], [None], [[{}]]),
        *(True, False, None, -1, 0, 2**63 - 1, -(2**63), 1.5, -0.5, 1e300, -1e300),
    ]
)
VALUES: st.SearchStrategy[Any] = SPECIAL | st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def keys_of(dialect: Dialect) -> list[str]:
    """Every attribute that the table of a dialect knows, and some that none does."""
    known: set[str] = {"unclaimed", "exception.message", "success", "tool_parameters", "metadata"}
    for fields in (genai.IDENTITY, genai.STANDARD, dialect.fields):
        known |= {spec if isinstance(spec, str) else spec.name for names in fields.values() for spec in names}
    for contents in (genai.CONTENTS, dialect.contents):
        known |= {key.replace("*", "0.x") for keys in contents.values() for key in keys}
    known |= {*genai.ROLES, *dialect.roles, *dialect.signatures}
    known |= {key for keys in dialect.named_contents.values() for key in keys}
    known |= {"gen_ai.usage.input_token_details", "ai.response.providerMetadata", "github.copilot.nano_aiu"}
    known |= {"openclaw.tokens.input", "openclaw.tokens.output", "usage.estimated_usd", "mcp.server.name"}
    return sorted(known)


def names_of(dialect: Dialect) -> list[str]:
    """Every span and event name that the table of a dialect knows, and some that none does."""
    known = {*dialect.named_roles, *dialect.named_contents, *dialect.noise, "x", "", "gen_ai.choice", "pi turn"}
    known |= {"codex.sse_event", "codex.api_request", "agent.turn", "openclaw.model.usage", "session_task.turn"}
    return sorted(name.replace("*", "x") for name in known)


@st.composite
def records(draw: st.DrawFn) -> tuple[Span | Event, dict[str, Any]]:
    """A record of some dialect with any values in its attributes, and a copy of them."""
    dialect = draw(st.sampled_from(DIALECTS))
    name = draw(st.sampled_from(names_of(dialect)))
    attributes = draw(st.dictionaries(st.sampled_from(keys_of(dialect)), VALUES, max_size=12))
    for key, values in (*genai.ROLES.items(), *dialect.roles.items()):
        if draw(st.integers(0, 3)) == 0:
            attributes[key] = draw(st.sampled_from(sorted(values)))
    scope = next((s.replace("*", "") for s in dialect.scopes), "")
    source = Source({"service.name": draw(VALUES), "team.id": draw(VALUES)}, scope_name=scope)
    record: Span | Event
    if draw(st.booleans()):
        record = Event(source, 1, name, dict(attributes), body=draw(VALUES))
    else:
        record = Span(source, "0" * 31 + "1", "0" * 15 + "1", "", name, draw(st.integers(0, 5)), 1, 2, dict(attributes))
        record.status_code = draw(st.integers(0, 2))
        told = draw(st.dictionaries(st.sampled_from(["exception.type", "exception.message", "output"]), VALUES))
        record.events = [{"time_ns": 1, "name": "exception", "attributes": told, "dropped": 0}]
    return record, attributes


def rebuilt(kept: Content) -> Any:
    """The value that a content was made of, as far as it says."""
    if kept.is_list:
        return [json.loads(piece) for piece in kept.pieces]
    assert len(kept.pieces) == 1
    return kept.pieces[0]


def same(original: Any, kept: Content) -> bool:
    """Whether a content is what an attribute was: texts exactly, JSON lists as equal JSON, all else as its JSON."""
    if kept.is_list:
        given = json.loads(original) if isinstance(original, str) else original
        return json.dumps(given, sort_keys=True) == json.dumps(rebuilt(kept), sort_keys=True)
    if isinstance(original, str):
        return bool(rebuilt(kept) == original)
    return json.dumps(original, sort_keys=True) == json.dumps(json.loads(rebuilt(kept)), sort_keys=True)


@settings(max_examples=400)
@given(records())
def test_any_attributes_are_understood_and_kept(made: tuple[Span | Event, dict[str, Any]]) -> None:
    record, attributes = made
    body = record.body if isinstance(record, Event) else None
    batch = Batch(spans=[record]) if isinstance(record, Span) else Batch(events=[record])
    registry.normalise(batch)
    ledger.report(batch)
    assert record.meaning is not None
    check_meaning(record.meaning)
    contents = record.contents or []
    taken = {kept.key: kept for kept in contents if kept.key}
    assert record.attributes.keys() | taken.keys() == attributes.keys()
    assert not record.attributes.keys() & taken.keys()
    for key, value in attributes.items():
        assert same(value, taken[key]) if key in taken else record.attributes[key] is value
    if isinstance(record, Event) and record.body is not body:
        assert record.body is None
        assert same(body, next(kept for kept in contents if not kept.key))


def check_meaning(meaning: Meaning) -> None:
    """Every field is of its type and within its bounds."""
    msgspec.convert(msgspec.to_builtins(meaning), Meaning, strict=True)
    for part in (meaning, meaning.usage):
        for name in AMOUNTS:
            amount = getattr(part, name, None)
            assert amount is None or (type(amount) is int and 0 <= amount <= INT64_MAX), name
    assert meaning.failed_attempts <= 100
    if meaning.usage is not None:
        assert (meaning.usage.input_total or 0) <= 3 * 10**12


@pytest.mark.parametrize("value", ["9" * 30, "1e30", 1e30, -5, "-5", {"$double": "NaN"}, True, [7], "7 tokens"])
def test_what_is_no_count_is_unknown(value: Any) -> None:
    attributes = {"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": value, "gen_ai.usage.output_tokens": 2}
    span = Span(Source({}), "1" * 32, "1" * 16, "", "chat m", 3, 1, 2, attributes)
    registry.normalise(Batch(spans=[span]))
    assert span.meaning is not None and span.meaning.usage is not None
    assert span.meaning.usage.input_uncached is None
    assert span.meaning.usage.output == 2


@given(VALUES)
def test_content_of_any_value_can_be_read_back(value: Any) -> None:
    assert same(value, content("", "key", value))
