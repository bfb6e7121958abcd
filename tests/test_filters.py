"""The filter language: what each term finds, what it says of a wrong one, what it offers to go on with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fillings import NOON, SECOND, Filling
from tachograph.errors import QueryError
from tachograph.model import PROMPT, TOOL_RUN, Content, Meaning, Usage
from tachograph.questions import calls_of, filters, sessions
from tachograph.questions.wire import scan_from_json, scan_to_json
from tachograph.scan import Reader, Scan
from tachograph.store.duckdb import open_store
from tachograph.store.schema import TABLES

USED = Usage(input_uncached=10, cache_read=100, output=7)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """Three sessions: `pi` with a tool and a failure, `copilot` that cost more, and a trace without a session."""
    folder = tmp_path_factory.mktemp("filters")
    with closing(open_store(folder, lambda: NOON)) as kept:
        filling = Filling(kept)
        filling.call("big", NOON, USED, session_id="one", agent="pi", project="parser", subagent="scout")
        filling.call("small", NOON + SECOND, USED, session_id="one", agent="pi", is_error=True, error_type="429")
        filling.call("big", NOON, USED, session_id="two", agent="copilot", cost_nanousd=2 * SECOND, cost_kind="billed")
        filling.call("free", NOON, USED, trace_id="f" * 32, agent="script", request_id="r")
        said = [Content("prompt", "", ["mend the parser, please"])]
        filling.event("user", Meaning(role=PROMPT, session_id="one", agent="pi", prompt_id="p"), said)
        filling.event("tool", Meaning(role=TOOL_RUN, session_id="one", agent="pi", tool_name="bash"))
        filling.event(
            "tool", Meaning(role=TOOL_RUN, session_id="two", agent="copilot", tool_name="bash_output"), at_ns=NOON + 1
        )
        yield filling.done()


def found(store: Reader, text: str) -> list[str]:
    """The sessions that a filter finds."""
    rows = sessions(store, where=filters.conditions(store, text, "sessions"), order_by=("session_id", False))
    return [row["session_id"][:5] for row in rows]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["one", "trace", "two"]),
        ("agent:pi", ["one"]),
        ("agent:pi,copilot", ["one", "two"]),
        ("-agent:pi", ["trace", "two"]),
        ("agent!=pi", ["trace", "two"]),
        ("agent~pi", ["one", "two"]),
        ("agent:co*", ["two"]),
        ("model:BIG", ["one", "two"]),
        ("model=bi", []),
        ("model=big", ["one", "two"]),
        ("model!=big", ["trace"]),
        ("cost>0.5", ["two"]),
        ("cost<=50c cost>0", ["one"]),
        ("cost>=$2", ["two"]),
        ("input>0.1k", ["one", "trace", "two"]),
        ("calls:1", ["one", "trace", "two"]),
        ("failed>0", ["one"]),
        ("tool:bash", ["one"]),
        ("tool:bash*", ["one", "two"]),
        ("tool~output", ["two"]),
        ("error:true", ["one"]),
        ("error:false", ["trace", "two"]),
        ("error:429", ["one"]),
        ("-error:true agent:copilot", ["two"]),
        ('"mend the parser"', ["one"]),
        ("parser", ["one"]),
        ("-parser", ["trace", "two"]),
        ("session:tw", ["two"]),
        ("title:mend", ["one"]),
        ("spans>1", ["one"]),  # a column by its own name
        ("is_demo:false agent:pi", ["one"]),
    ],
)
def test_a_filter_finds_sessions(store: Reader, text: str, expected: list[str]) -> None:
    columns = {column.name: column.type for column in TABLES["sessions"]}
    where = filters.conditions(store, text, "sessions", columns)
    rows = sessions(store, where=where, order_by=("session_id", False))
    assert [row["session_id"][:5] for row in rows] == expected
    again = scan_from_json(scan_to_json(Scan("sessions", {"id": "session_id"}, where)))
    assert len(store.scan(again)) == len(expected)  # asked of a running server it is the same question


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("status:failed", 1),
        ("duration>=1s", 4),
        ("duration>1s", 0),
        ("duration:1000ms", 4),
        ("subagent:sco", 1),
        ("tool:bash", 2),
        ("error:429", 1),
        ("error:true", 1),
        ("parser", 2),
    ],
)
def test_a_filter_finds_calls(store: Reader, text: str, expected: int) -> None:
    assert len(calls_of(store, where=filters.conditions(store, text, "calls"))) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("agent:pi colour:red", "character 10: got field 'colour'; expected one of agent, "),
        ("agnet:pi", "try|agent:pi"),
        ("cost>much", "character 1: cost: got 'much'; expected a number"),
        ("cost~1", "got cost~; expected cost with"),
        ("agent>pi", "got agent>; expected agent with :, =, != or ~"),
        ("agent:", "got 'agent:'; expected a value"),
        ('agent:pi "no end', "character 10"),
        ("duration>3w", "expected a number, with ms, s, m, h or nothing after it"),
        ("is_demo:maybe", "expected true or false"),
        ("lineage:subagnt", "try|lineage:subagent"),
        ("lineage:zzz", "got 'zzz'; expected subagent, fork or resume"),
        ("duration>3w", "try|duration>30s"),
    ],
)
def test_a_wrong_filter_is_told_where_it_is_wrong(store: Reader, text: str, said: str) -> None:
    columns = {column.name: column.type for column in TABLES["sessions"]}
    table: filters.Table = "calls" if text.startswith("duration") else "sessions"
    with pytest.raises(QueryError) as caught:
        filters.conditions(store, text, table, columns)
    assert said.removeprefix("try|") in (caught.value.hint if said.startswith("try|") else caught.value.what)


@given(st.text(max_size=60) | st.text(alphabet='ab:=<>!~-"\\, 0.', max_size=30))
def test_any_text_is_a_filter_or_an_error(text: str) -> None:
    try:
        terms = filters.parse(text)
    except QueryError:
        return
    assert all(term.values for term in terms) and bool(terms) == bool(text.strip())


@pytest.mark.parametrize(
    ("text", "offered"),
    [
        ("ag", ["agent:"]),
        ("agent:pi mod", ["agent:pi model:"]),
        ("-to", ["-tool:", "-tools:"]),
        ("tool:ba", ["tool:bash ", "tool:bash_output "]),
        ("agent:p", ["agent:pi ", "agent:copilot ", "agent:script "]),
        ("error:t", ["error:true "]),
        ("cost:", []),
        ("colour:r", []),
        ("agent:pi,cop", ["agent:pi,copilot "]),
        ('agent:pi project:"pars', ["agent:pi project:parser "]),
        ('"mend the parser"', []),
        ('"mend ag', []),
        ("title:me", []),
        ("session:tw", []),
        ("subagent:sc", []),  # sessions have no such field
    ],
)
def test_what_may_follow_is_offered(store: Reader, text: str, offered: list[str]) -> None:
    assert sorted(filters.complete(store, text, "sessions")) == sorted(offered)


def test_every_field_is_a_column_of_its_table() -> None:
    for table in ("sessions", "calls"):
        known = {column.name for column in TABLES[table]}
        for field in filters.FIELDS.values():
            names = {name for name in getattr(field, table).split(",") if name}
            assert names <= known


def test_an_empty_store_has_nothing_to_find(tmp_path: Path) -> None:
    with closing(open_store(tmp_path, lambda: NOON)) as empty:
        assert found(empty, 'agent:pi tool:bash error:true "text"') == []
