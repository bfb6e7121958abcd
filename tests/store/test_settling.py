"""Settling: what the ledger is given, what is kept of its answer, and sessions counted as records come."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from made import MONDAY_NS, SECOND_NS, batch, call, event, opened, rows, span
from tachograph.ledger import identity, working
from tachograph.model import Batch, Call, Content, Event, Meaning, Settlement, Span, Usage
from tachograph.store import sessions
from tachograph.store.duckdb import DuckStore

TRACE = "ab" * 16


def commit(store: DuckStore, *records: Span | Event, **fields: Any) -> None:
    """Commit the records in a batch of their own, with the reports that the road makes of them."""
    made = batch(*records, **fields)
    identity.report(made)
    store.commit([made])


def settle(store: DuckStore) -> None:
    """Let the real ledger work off everything; the price is the number of output tokens."""
    while working.settle(store, price):
        pass


def price(made: Call) -> None:
    usage = made.meaning.usage
    made.cost_nanousd, made.cost_kind = (usage.output, "computed") if usage and usage.output is not None else (None, "")


def session(store: DuckStore, session_id: str) -> dict[str, Any]:
    """The row of a session."""
    found = [row for row in rows(store, "SELECT * FROM sessions") if row["session_id"] == session_id]
    assert len(found) == 1, (session_id, found)
    return found[0]


def in_trace(number: int, meaning: Meaning, **fields: Any) -> Span:
    return span(number, trace_id=TRACE, meaning=meaning, **fields)


def test_a_trace_is_a_session_of_its_own_until_it_names_one(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        commit(store, in_trace(1, call(usage=Usage(10, 5, None, None, 3), request_model="m", agent="pi")))
        settle(store)
        alone = session(store, f"trace:{TRACE}")
        assert (alone["calls"], alone["input_tokens"], alone["cost_nanousd"], alone["agent"]) == (1, 15, 3, "pi")
        commit(store, in_trace(2, Meaning(role="agent", session_id="s1")), event(3, trace_id=TRACE))
        again = store.unsettled(10)
        assert [report.span_id for report in again.reports] == [f"{1:016x}"], "it has another session now"
        assert again.sessions == {TRACE: "s1"}
        settle(store)
        named = session(store, "s1")
        assert (named["calls"], named["spans"], named["events"], named["traces"]) == (1, 2, 1, 1)
        assert rows(store, "SELECT count(*) AS n FROM sessions") == [{"n": 1}]
        assert rows(store, "SELECT session_id FROM calls") == [{"session_id": "s1"}]


def test_of_several_sessions_the_earliest_record_binds_the_trace(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        commit(store, in_trace(5, Meaning(session_id="late")), in_trace(9, Meaning(role="tool_run")))
        settle(store)
        assert session(store, "late")["spans"] == 2
        commit(store, in_trace(3, Meaning(session_id="early")))
        settle(store)
        assert session(store, "early")["spans"] == 2, "its own and the tool run that names none"
        assert session(store, "early")["tool_runs"] == 1
        assert (session(store, "late")["spans"], session(store, "late")["tool_runs"]) == (1, 0)
        assert session(store, "late")["traces"] == 0


def test_what_comes_again_is_counted_and_shown_once(tmp_path: Path) -> None:
    told = Meaning(role="tool_run", session_id="s1")
    with opened(tmp_path) as store:
        for _ in range(3):
            commit(store, in_trace(1, told), in_trace(2, told), event(7, meaning=told))
            settle(store)
        commit(store, in_trace(4, told), event(8, meaning=told))
        commit(store, in_trace(4, told), event(8, meaning=told))
        settle(store)
        row = session(store, "s1")
        assert (row["spans"], row["events"], row["tool_runs"]) == (3, 2, 3)
        assert rows(store, "SELECT count(*) AS n FROM spans") == [{"n": 3}]
        assert rows(store, "SELECT count(*) AS n FROM events") == [{"n": 2}]


def test_a_span_that_comes_again_keeps_its_last_version(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        commit(store, in_trace(1, Meaning(session_id="s1"), name="pending", end_ns=0))
        settle(store)
        commit(store, in_trace(1, Meaning(session_id="s1"), name="done"))
        settle(store)
        assert rows(store, "SELECT name FROM spans") == [{"name": "done"}]
        assert session(store, "s1")["spans"] == 1


@pytest.mark.parametrize("at_once", [True, False])
def test_one_tool_run_told_by_several_is_one(tmp_path: Path, at_once: bool) -> None:
    run = Meaning(role="tool_run", session_id="s1", tool_call_id="call_1", is_error=True)
    other = Meaning(role="tool_run", session_id="s1", tool_call_id="call_2")
    unnamed = Meaning(role="tool_run", session_id="s1")
    prompt = Meaning(role="prompt", session_id="s1")
    parts: list[Sequence[Span | Event]] = [
        (in_trace(1, run), in_trace(2, prompt)),
        (event(3, meaning=run), event(4, meaning=other), event(5, meaning=prompt)),
        (event(6, origin="transcript", meaning=unnamed), event(7, origin="transcript", meaning=unnamed)),
        (event(8, origin="transcript", meaning=unnamed), event(9, origin="hook", meaning=prompt)),
    ]
    with opened(tmp_path) as store:
        if at_once:
            commit(store, *[record for part in parts for record in part])
            settle(store)
        for part in () if at_once else parts:
            commit(store, *part)
            settle(store)
        row = session(store, "s1")
        assert row["tool_runs"] == 3, "two by id, but the transcript tells of three"
        assert row["tool_errors"] == 1
        assert row["prompts"] == 1


def test_the_first_prompt_gives_the_title(tmp_path: Path) -> None:
    def prompt(number: int, text: str) -> Event:
        return event(number, meaning=Meaning(role="prompt", session_id="s1"), contents=[Content("prompt", "p", [text])])

    messages = [
        '{"role":"user","content":"first question"}',
        '{"role":"user","content":[{"type":"text","text":"<system-reminder>x"},{"type":"text","text":"last  one"}]}',
        '{"role":"assistant","content":"an answer"}',
    ]
    asked = in_trace(9, call(session_id="s1"), contents=[Content("input", "i", messages, is_list=True)])
    with opened(tmp_path) as store:
        commit(store, asked)
        settle(store)
        assert session(store, "s1")["title"] == "last one"
        commit(store, prompt(5, "a later\nprompt"))
        settle(store)
        assert session(store, "s1")["title"] == "a later prompt"
        commit(store, prompt(2, "the first " + "word " * 40))
        settle(store)
        title = session(store, "s1")["title"]
        assert title.startswith("the first word word") and title.endswith("word…") and len(title) <= 80
        commit(store, prompt(7, "the last"))
        settle(store)
        assert session(store, "s1")["title"] == title


def test_a_call_without_trace_and_session_makes_no_session(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        commit(store, event(1, meaning=call(response_id="resp_12345678901234567890")))
        settle(store)
        assert rows(store, "SELECT session_id FROM calls") == [{"session_id": ""}]
        assert rows(store, "SELECT * FROM sessions") == []


def test_what_is_not_settled_comes_again(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        for number in range(1, 6):
            commit(store, span(number * 10, meaning=call(session_id="s")))
        part = store.unsettled(2)
        assert (part.since, part.until, len(part.reports)) == (0, 2, 2), "whole commits, about as many as asked for"
        assert store.unsettled(2) == part
        store.settle(Settlement(part.until))
        assert store.unsettled(1000).until == 5
        store.settle(Settlement(5))
        assert store.unsettled(10).until == store.unsettled(10).since == 5
    with opened(tmp_path) as store:
        assert store.unsettled(10).since == 5


def test_calls_replace_those_that_share_a_report(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        commit(store, span(10, meaning=call()), span(20, meaning=call()), span(30, meaning=call()))
        one, two, three = (report.report_id for report in store.unsettled(10).reports)
        keys = {one: [1, 2], two: [2], three: [3]}
        first = [Call("c1", reports=[one]), Call("c2", reports=[two]), Call("c3", reports=[three])]
        store.settle(Settlement(1, keys, first))
        assert {report.report_id for report in store.reports(keys=[2])} == {one, two}
        assert [report.report_id for report in store.reports(ids=[three, "unknown"])] == [three]
        assert [report.report_id for report in store.reports(traces=[f"{2:032x}"])] == [two]
        store.settle(Settlement(1, {one: [1], two: [9]}, [Call("c1", reports=[one, two])]))
        assert rows(store, "SELECT call_id FROM calls ORDER BY 1") == [{"call_id": "c1"}, {"call_id": "c3"}]
        assert store.reports(keys=[2]) == []
        assert [report.report_id for report in store.reports(keys=[9])] == [two]
        store.settle(Settlement(1, {three: [3]}, []))
        assert rows(store, "SELECT call_id FROM calls") == [{"call_id": "c1"}], "a report in no call any more"


def test_parents_of_settled_and_new_spans(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        commit(store, in_trace(2, Meaning(), parent_id="root"), span(50))
        settle(store)
        commit(store, in_trace(3, Meaning(), parent_id=f"{2:016x}"))
        assert store.parents([TRACE, "unknown"]) == {
            TRACE: {f"{2:016x}": "root", f"{3:016x}": f"{2:016x}"},
            "unknown": {},
        }


# Few values, so that records meet: sessions, traces, ids and times are shared.
_MEANINGS = st.builds(
    Meaning,
    role=st.sampled_from(["", "prompt", "tool_run", "agent", "model_call"]),
    session_id=st.sampled_from(["", "", "s1", "s2"]),
    prompt_id=st.sampled_from(["", "p1"]),
    tool_call_id=st.sampled_from(["", "t1", "t2"]),
    is_error=st.booleans(),
    agent=st.sampled_from(["", "a1", "a2"]),
    user=st.sampled_from(["", "u1"]),
)
_PLACES = st.tuples(st.booleans(), st.sampled_from(["", "aa" * 16, "bb" * 16]), st.integers(1, 12), _MEANINGS)


def _record(place: tuple[bool, str, int, Meaning]) -> Span | Event:
    is_span, trace_id, number, meaning = place
    if meaning.role == "model_call":
        meaning = call(
            session_id=meaning.session_id, agent=meaning.agent, usage=Usage(number, None, None, None, number)
        )
    if is_span:
        return span(number, trace_id=trace_id or "cc" * 16, meaning=meaning)
    said = [Content("prompt", "p", [f"prompt {number}"])] if meaning.role == "prompt" else None
    return event(number, trace_id=trace_id, meaning=meaning, contents=said)


def _everything(store: DuckStore) -> list[list[dict[str, Any]]]:
    kept = rows(store, "SELECT * FROM sessions ORDER BY session_id")
    bound = rows(store, "SELECT trace_id, session_id FROM trace_sessions ORDER BY ALL")
    runs = rows(store, "SELECT * EXCLUDE (seq) FROM tool_runs ORDER BY run_id")
    return [kept, bound, runs]


# What comes again is the same record: each place is made once, and some of them are sent twice.
_SENT = st.lists(_PLACES, max_size=12, unique_by=lambda place: place[:3]).flatmap(
    lambda places: (
        st.lists(st.sampled_from(places), max_size=3).map(lambda again: [*places, *again])
        if places
        else st.just(places)
    )
)


# Each example opens two stores: no shrinking, which would open thousands.
@settings(max_examples=30, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(places=_SENT, cuts=st.lists(st.booleans(), min_size=15, max_size=15))
def test_sessions_are_the_same_however_the_records_are_cut_into_commits(
    places: list[tuple[bool, str, int, Meaning]], cuts: list[bool]
) -> None:
    with tempfile.TemporaryDirectory() as home, opened(Path(home, "a")) as store, opened(Path(home, "b")) as whole:
        part: list[Span | Event] = []
        for place, is_cut in zip(places, cuts, strict=False):
            part.append(_record(place))
            if is_cut:
                commit(store, *part)
                settle(store)
                part = []
        if part:
            commit(store, *part)
        settle(store)
        if places:
            commit(whole, *map(_record, places))
        settle(whole)
        got = _everything(store)
        assert got == _everything(whole)
        _recount(store, [row["session_id"] for row in got[0]])
        assert _everything(store) == got, "counting anew gives what was counted as it came"


def _recount(store: DuckStore, session_ids: list[str]) -> None:
    with store._connection.cursor() as cursor:
        cursor.execute("BEGIN")
        sessions.recount(cursor, session_ids)
        cursor.execute("COMMIT")


def test_demo_records_make_demo_sessions(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        commit(store, in_trace(1, call(session_id="s1")), is_demo=True)
        commit(store, span(50, meaning=call(session_id="s2")))
        assert len(store.unsettled(10).demo) == 1
        settle(store)
        assert (session(store, "s1")["is_demo"], session(store, "s2")["is_demo"]) == (True, False)


def test_times_of_a_session_span_all_its_records(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        commit(store, in_trace(4, Meaning(session_id="s1")), event(9, meaning=Meaning(session_id="s1")), event(1))
        settle(store)
        row = session(store, "s1")
        assert (row["start_ns"], row["end_ns"]) == (MONDAY_NS + 4 * SECOND_NS, MONDAY_NS + 9 * SECOND_NS)


def test_an_empty_batch_settles(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.commit([Batch(positions={"file": "10"})])
        settle(store)
        assert store.unsettled(1).since == 1


def changes(store: DuckStore) -> list[tuple[str, int, int | None]]:
    """The calls as (session, seq, changed_seq)."""
    told = rows(store, "SELECT session_id, seq, changed_seq FROM calls ORDER BY start_ns, call_id")
    return [(row["session_id"], row["seq"], row["changed_seq"]) for row in told]


def test_a_call_that_becomes_another_one_without_a_report_says_when(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        commit(store, in_trace(1, call(usage=Usage(10, 5, None, None, 3), request_model="m", agent="pi")))
        settle(store)
        assert changes(store) == [(f"trace:{TRACE}", 1, None)]
        commit(store, in_trace(2, Meaning(role="agent", session_id="s1")))
        commit(store, event(3), is_demo=True)
        settle(store)
        assert changes(store) == [("s1", 1, 2)]  # by the last commit that is no demo
        commit(store, in_trace(4, Meaning(role="turn", session_id="s1")))
        settle(store)
        assert changes(store) == [("s1", 1, 2)]


def test_what_is_worked_over_and_stays_the_same_is_no_change(tmp_path: Path) -> None:
    def told(number: int, **fields: Any) -> Span:
        meaning = call(usage=Usage(10, 5, None, None, 3), request_model="m", session_id="s1", **fields)
        return span(number, meaning=meaning, start_ns=MONDAY_NS, end_ns=MONDAY_NS + SECOND_NS)

    with opened(tmp_path) as store:
        commit(store, told(1, response_id="msg_1"))
        settle(store)
        commit(store, told(2, response_id="msg_2"))  # as many tokens at the same time: looked at together
        again = store.unsettled(10)
        assert len(again.reports) == 1
        settle(store)
        assert sorted(changes(store)) == [("s1", 1, None), ("s1", 2, None)]


def test_a_change_that_nobody_read_yet_outlives_the_next_report_of_others(tmp_path: Path) -> None:
    def late(number: int, tokens: int) -> Span:
        return in_trace(number, call(usage=Usage(10, 5, None, None, tokens), request_model="m", response_id="msg_x"))

    with opened(tmp_path) as store:
        commit(store, late(1, 3))
        settle(store)
        commit(store, in_trace(2, Meaning(role="agent", session_id="s1")))
        settle(store)
        assert changes(store) == [("s1", 1, 2)]
        commit(store, late(3, 4))  # the call has a newer report: its `seq` says so
        settle(store)
        assert changes(store) == [("s1", 3, None)]
