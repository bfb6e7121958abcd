"""Tool runs: one row each, whoever tells of them, in whatever order, and however often."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import duckdb
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from made import MONDAY_NS, SECOND_NS, batch, event, opened, rows, span
from tachograph import ledger
from tachograph.model import Call, Content, Event, Meaning, Span
from tachograph.store.connection import DATABASE_NAME
from tachograph.store.duckdb import DuckStore
from tachograph.store.tool_runs import Telling, matched

TRACE = "ab" * 16


def unpriced(_: Call) -> None:
    """No price."""


def kept(store: DuckStore, *records: Span | Event, **fields: Any) -> None:
    """Commit the records and settle."""
    made = batch(*records, **fields)
    ledger.report(made)
    store.commit([made])
    while ledger.settle(store, unpriced):
        pass


def run(**fields: Any) -> Meaning:
    return Meaning(role="tool_run", **{"session_id": "s1", "tool_name": "bash", **fields})


def runs(store: DuckStore) -> list[dict[str, Any]]:
    return rows(store, "SELECT * FROM tool_runs ORDER BY end_ns, run_id")


def counters(store: DuckStore) -> list[dict[str, Any]]:
    return rows(store, "SELECT session_id, tool_runs, tool_errors FROM sessions WHERE tool_runs > 0 ORDER BY 1")


def counted(store: DuckStore) -> list[dict[str, Any]]:
    return rows(
        store,
        "SELECT session_id, count(*) AS tool_runs, count_if(is_error) AS tool_errors FROM tool_runs"
        " GROUP BY 1 ORDER BY 1",
    )


def test_one_run_of_three_origins_takes_the_best_of_each(tmp_path: Path) -> None:
    told: list[Span | Event] = [
        event(
            12, origin="transcript", contents=[Content("result", "output", ["four" * 25])],
            meaning=run(tool_call_id="t1", duration_ns=9 * SECOND_NS, is_error=True, error_message="exit 1"),
        ),
        span(10, trace_id=TRACE, meaning=run(tool_call_id="t1"), end_ns=MONDAY_NS + 12 * SECOND_NS),
        event(11, meaning=run(tool_call_id="t1", duration_ns=SECOND_NS, result_bytes=90, subagent="scout")),
    ]  # fmt: skip
    with opened(tmp_path) as store:
        for record in told:
            kept(store, record)
        (row,) = runs(store)
        assert (row["tool_name"], row["tool_call_id"], row["subagent"]) == ("bash", "t1", "scout")
        assert (row["trace_id"], row["span_id"]) == (TRACE, f"{10:016x}")
        assert (row["start_ns"], row["end_ns"]) == (MONDAY_NS + 10 * SECOND_NS, MONDAY_NS + 11 * SECOND_NS)
        assert row["duration_ns"] == SECOND_NS, "the log tells the run alone, without the wait"
        assert (row["is_error"], row["error_message"]) == (True, "exit 1")
        assert (row["arguments_bytes"], row["result_bytes"]) == (None, 100), "the text is longer than the log says"
        assert row["origins"] == '["log","span","transcript"]'
        assert counters(store) == [{"session_id": "s1", "tool_runs": 1, "tool_errors": 1}]


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ([event(14, origin="transcript", meaning=run())], 1),
        ([event(16, origin="transcript", meaning=run())], 2),  # too late
        ([event(11, origin="transcript", meaning=run(tool_name="read"))], 2),
        ([event(11, origin="transcript", meaning=run(tool_name="BASH"))], 1),
        ([event(11, meaning=run())], 2),  # the same origin again
        ([event(11, origin="transcript", meaning=run(session_id="s2"))], 2),
        ([event(11, origin="transcript", meaning=run()), event(12, origin="transcript", meaning=run())], 2),
        ([event(11, origin="transcript", meaning=run()), event(12, origin="hook", meaning=run())], 1),
    ],
)
@pytest.mark.parametrize("call_id", ["", "t1"])
def test_without_an_id_the_tool_and_the_time_tell(
    tmp_path: Path, others: list[Event], expected: int, call_id: str
) -> None:
    first = event(10, meaning=run(tool_call_id=call_id))
    for name, order in (("forth", [first, *others]), ("back", [*others, first])):
        with opened(tmp_path / name) as store:
            for record in order:
                kept(store, record)
            assert len(runs(store)) == expected, name
            assert counters(store) == counted(store)


def test_what_comes_again_is_the_same_run(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        for failed in (True, True, False):
            kept(store, span(1, trace_id=TRACE, meaning=run(is_error=failed)), event(2, meaning=run()))
        (row,) = runs(store)
        assert row["is_error"] is False, "the last version of the span counts"
        assert counters(store) == counted(store) == [{"session_id": "s1", "tool_runs": 1, "tool_errors": 0}]


def test_a_run_follows_its_trace_and_its_session(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        loose = Meaning(role="tool_run", tool_name="bash", tool_call_id="t1")
        agent = Meaning(role="agent")
        kept(store, span(1, trace_id=TRACE, meaning=loose), span(2, trace_id=TRACE, meaning=agent))
        assert [row["session_id"] for row in runs(store)] == [f"trace:{TRACE}"]
        kept(store, span(3, trace_id=TRACE, meaning=Meaning(session_id="s1", project="shop", user="ann")))
        assert [(row["session_id"], row["project"], row["user"]) for row in runs(store)] == [("s1", "shop", "ann")]
        named = Meaning(session_id="s1", project="mill")
        kept(store, event(4, meaning=named), event(5, meaning=named))
        assert [row["project"] for row in runs(store)] == ["mill"], "what most records of the session say"
        assert counters(store) == counted(store)


def test_the_demo_goes_with_its_runs(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        kept(store, event(1, meaning=run(tool_call_id="t1")), is_demo=True)
        kept(store, event(50, meaning=run(tool_call_id="t2", session_id="s2")))
        assert [row["is_demo"] for row in runs(store)] == [True, False]
        store.clear_demo()
        assert [row["session_id"] for row in runs(store)] == ["s2"]
        assert rows(store, "SELECT DISTINCT session_id AS id FROM tool_tellings") == [{"id": "s2"}]


class Told(NamedTuple):
    """One record of a tool run; with few values, so that records meet."""

    origin: str
    at: int  # half seconds
    name: str
    call_id: str
    is_error: bool
    session: str


_TOLD = st.builds(
    Told,
    st.sampled_from(["span", "log", "hook", "transcript"]),
    st.integers(1, 60),
    st.sampled_from(["bash", "Bash", "read", ""]),
    st.sampled_from(["", "", "", "t1", "t2", "t3"]),
    st.booleans(),
    st.sampled_from(["s1", "s1", "s2", ""]),
)


def _record(told: Told) -> Span | Event:
    meaning = Meaning(
        role="tool_run", session_id=told.session, tool_name=told.name, tool_call_id=told.call_id, is_error=told.is_error
    )
    end_ns = MONDAY_NS + told.at * SECOND_NS // 2
    number = crc32(repr(told._replace(is_error=False)).encode()) + 1
    if told.origin == "span":
        return span(number, trace_id=TRACE, meaning=meaning, start_ns=end_ns - 1000, end_ns=end_ns)
    trace = TRACE if told.session == "" else ""
    return event(number, trace_id=trace, origin=told.origin, meaning=meaning, time_ns=end_ns)


def _state(store: DuckStore) -> list[list[dict[str, Any]]]:
    assert counters(store) == counted(store)
    return [rows(store, "SELECT * EXCLUDE (seq) FROM tool_runs ORDER BY run_id"), counters(store)]


# Each example opens two stores: no shrinking, which would open thousands.
@settings(max_examples=20, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(
    told=st.lists(_TOLD, min_size=2, max_size=16, unique_by=lambda one: one._replace(is_error=False)),
    data=st.data(),
)
def test_runs_are_the_same_in_any_order_and_however_cut(told: list[Told], data: st.DataObject) -> None:
    order = data.draw(st.permutations([*told, *told[:3]]))
    cuts = data.draw(st.lists(st.booleans(), min_size=len(order), max_size=len(order)))
    with tempfile.TemporaryDirectory() as home, opened(Path(home, "a")) as store, opened(Path(home, "b")) as whole:
        kept(whole, *map(_record, told))
        part: list[Span | Event] = []
        for one, is_cut in zip(order, cuts, strict=True):
            part.append(_record(one))
            if is_cut:
                kept(store, *part)
                part = []
        kept(store, *part)
        assert _state(store) == _state(whole)


def _one(telling: int, origin: str, end_s: int | None, run_key: int = 0) -> Telling:
    return Telling(
        telling, 1, run_key or telling, origin, "t" if run_key else "", None if end_s is None else end_s * SECOND_NS
    )


def test_matching_leaves_as_few_runs_as_can_be() -> None:
    told = [_one(1, "log", 10), _one(2, "log", 11), _one(3, "transcript", 12), _one(4, "transcript", 16)]
    assert matched(told) == {1: 1, 2: 2, 3: 1, 4: 2}
    assert matched([_one(1, "log", None), _one(2, "hook", None)]) == {1: 1, 2: 2}, "an unknown end fits nothing"
    assert matched([_one(9, "log", 10, 7), _one(1, "log", 10)]) == {1: 1}, "an origin tells of a run once"


def test_a_store_from_before_the_table_gets_its_runs(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        kept(
            store,
            span(1, trace_id=TRACE, meaning=run(tool_call_id="t1")),
            event(2, meaning=run(is_error=True)),
            event(2, trace_id=TRACE, origin="hook", meaning=run(session_id="")),
            event(30, meaning=run(tool_name="read")),
        )
        expected = _state(store)
    with duckdb.connect(tmp_path / DATABASE_NAME) as con:
        con.execute("DROP TABLE tool_runs")
        con.execute("DROP TABLE tool_tellings")
        con.execute("UPDATE sessions SET tool_runs = 77, tool_errors = 77")
        con.execute("UPDATE meta SET value = '1' WHERE key = 'schema_version'")
    for _ in range(2):
        with opened(tmp_path) as store:
            assert _state(store) == expected
            assert rows(store, "SELECT value FROM meta WHERE key = 'tool_runs_due'") == []
    with opened(tmp_path) as store:
        kept(store, event(31, origin="transcript", meaning=run(tool_name="read")))
        assert len(runs(store)) == len(expected[0])
