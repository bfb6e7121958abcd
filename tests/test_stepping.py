"""Steps: the same tree for every source, each step told once it is over, under ids that stay, and with its texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from msgspec import to_builtins

from fillings import NOON, SECOND, Filling, price
from notes import Notes
from recordings import MANIFEST, everything
from tachograph import ledger
from tachograph.destinations import Destination
from tachograph.forwarders.contract import AGAIN, Item, Step
from tachograph.model import MODEL_CALL, PROMPT, TOOL_RUN, Batch, Content, Event, Meaning, Span, Usage
from tachograph.pipeline.feeding import Calls
from tachograph.pipeline.gathering import Gathered
from tachograph.pipeline.placing import KEEP_NS
from tachograph.pipeline.stepping import Steps
from tachograph.pipeline.telling import LEFT_OUT, STEP_BYTES_MAX
from tachograph.pipeline.waiting import GROWN, LONG_RECORDS, QUIET_NS, WAIT_NS_MAX, WAIT_NS_PER_RECORD, Waiting
from tachograph.scan import Agg, Any_, Columns, Field, Match, Scan
from tachograph.store.contract import Store
from tachograph.store.duckdb import open_store
from tachograph.tree import session_tree

TRACE = "0af7651916cd43dd8448eb211c80319c"
USED = Usage(input_uncached=10, output=7)


class Bench:
    """A store, its clock, and a destination that has been told so much of it."""

    def __init__(self, folder: Path, *, takes_changes: bool = False, privacy: str = "full") -> None:
        self.now_ns = NOON
        self.store: Store = open_store(folder, lambda: self.now_ns)
        self.filling = Filling(self.store)
        to = Destination("acme", "otlp", "acme", privacy=privacy)
        self.feed = Steps(self.store, to, takes_changes=takes_changes)
        self.memory = Notes()
        self.cursor = 0

    def close(self) -> None:
        self.store.close()

    def commit(self, *batches: Batch) -> None:
        for batch in batches:
            ledger.report(batch)
        self.store.commit(list(batches))
        while ledger.settle(self.store, price):
            pass

    def told(self) -> list[Step]:
        """What the commits since the last question give."""
        until = self.store.sequence()
        found = steps(self.feed.read(self.cursor, until, self.memory))
        self.cursor = until
        return found

    def quiet(self) -> list[Step]:
        self.now_ns += 2 * QUIET_NS
        assert self.feed.is_due(self.now_ns, self.memory)
        return steps(self.feed.due(self.now_ns, self.cursor, self.memory))

    def span(self, number: int, role: str, above: int = 0, start: int = 0, end: int = 10, **meaning: object) -> Span:
        said = Meaning(dialect="pi", role=role, agent="pi", session_id="s1")
        for name, value in meaning.items():
            setattr(said, name, value)
        parent = f"{above:016x}" if above else ""
        start_ns, end_ns = NOON + start * SECOND, NOON + end * SECOND
        name = f"{role} {number}"
        span = Span(self.filling.source, TRACE, f"{number:016x}", parent, name, 1, start_ns, end_ns, {}, meaning=said)
        self.filling.batch.spans.append(span)
        return span

    def call(self, number: int, above: int = 0, start: int = 0, end: int = 10) -> Span:
        return self.span(number, MODEL_CALL, above, start, end, is_call=True, response_model="big", usage=USED)

    def done(self) -> None:
        batch, self.filling.batch = self.filling.batch, Batch()
        self.commit(batch)


def steps(read: Iterable[list[Item]]) -> list[Step]:
    found = [item.record for some in read for item in some]
    assert all(isinstance(one, Step) for one in found)
    return [one for one in found if isinstance(one, Step)]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with closing(Bench(tmp_path / "store")) as made:
        yield made


def names(told: Iterable[Step]) -> list[str]:
    return [one.name for one in told]


def test_a_tree_is_told_parents_first_with_the_ids_of_its_spans(bench: Bench) -> None:
    bench.span(1, PROMPT, prompt_id="p1")
    bench.call(2, 1, 1, 4)
    bench.span(3, TOOL_RUN, 1, 5, 8, tool_name="bash", tool_call_id="t1")
    bench.done()
    told = bench.told()
    assert names(told) == ["prompt 1", "model_call 2", "tool_run 3"]
    assert {one.trace_id for one in told} == {TRACE}
    assert [one.span_id for one in told] == [f"{number:016x}" for number in (1, 2, 3)]
    assert [one.parent_id for one in told] == ["", told[0].span_id, told[0].span_id]
    assert told[1].call is not None
    assert told[1].call["cost_nanousd"] == 1_000_000
    assert {one.prompt_id for one in told} == {"p1"}
    assert {one.session["agent"] for one in told} == {"pi"}
    assert bench.told() == []


def test_what_was_told_is_not_told_again(bench: Bench) -> None:
    bench.span(1, PROMPT)
    bench.call(2, 1)
    bench.done()
    assert len(bench.told()) == 2
    bench.call(3, 1, 20, 30)
    bench.done()
    assert names(bench.told()) == ["model_call 3"]


def test_an_open_prompt_waits_for_its_end(bench: Bench) -> None:
    bench.span(1, PROMPT, end=5).attributes["tachograph.is_open"] = True
    bench.call(2, 1)
    bench.done()
    assert names(bench.told()) == ["model_call 2"]
    bench.span(1, PROMPT, end=12)
    bench.done()
    told = bench.told()
    assert names(told) == ["prompt 1"]
    assert told[0].end_ns == NOON + 12 * SECOND


def test_an_open_prompt_is_over_when_nothing_comes(bench: Bench) -> None:
    bench.span(1, PROMPT, end=0)
    bench.call(2, 1)
    bench.done()
    assert names(bench.told()) == ["model_call 2"]
    assert not bench.feed.is_due(bench.now_ns, bench.memory)
    told = bench.quiet()
    assert names(told) == ["prompt 1"]
    assert told[0].is_over
    assert not bench.feed.is_due(bench.now_ns + QUIET_NS, bench.memory)


def test_who_takes_changes_is_told_of_open_steps_and_again(tmp_path: Path) -> None:
    with closing(Bench(tmp_path / "store", takes_changes=True)) as bench:
        bench.span(1, PROMPT, end=0)
        bench.call(2, 1, end=4)
        bench.done()
        first = bench.told()
        assert [(one.name, one.is_over) for one in first] == [("prompt 1", False), ("model_call 2", True)]
        bench.span(1, PROMPT, end=12)
        bench.done()
        again = bench.told()
        assert [(one.name, one.is_over) for one in again] == [("prompt 1", True)]
        assert again[0].span_id == first[0].span_id


def test_a_step_keeps_its_ids_when_its_span_comes_later(tmp_path: Path) -> None:
    with closing(Bench(tmp_path / "store", takes_changes=True)) as bench:
        run = Meaning(role=TOOL_RUN, session_id="s1", agent="pi", tool_name="bash", tool_call_id="t1")
        bench.filling.event("tool", run)
        bench.done()
        first = bench.told()
        bench.span(3, TOOL_RUN, 0, 0, 3, tool_name="bash", tool_call_id="t1")
        bench.done()
        again = bench.told()
        assert {one.span_id for one in first} == {one.span_id for one in again if one.role == TOOL_RUN}
        assert first[0].trace_id == again[0].trace_id


def test_without_spans_each_prompt_is_a_trace(bench: Bench) -> None:
    for number in (1, 2):
        at_ns = NOON + number * 100 * SECOND
        said = Meaning(role=PROMPT, session_id="s1", agent="pi", prompt_id=f"p{number}")
        bench.filling.event("prompt", said, [Content("prompt", "prompt", [f"ask {number}"])], at_ns)
        run = Meaning(role=TOOL_RUN, session_id="s1", agent="pi", prompt_id=f"p{number}", tool_name="bash")
        run.tool_call_id, run.duration_ns = f"t{number}", SECOND
        bench.filling.event("tool", run, [Content("result", "result", ["done"])], at_ns + 5 * SECOND)
    bench.done()
    told = [*bench.told(), *bench.quiet()]
    assert sorted(Counter(one.trace_id for one in told).values()) == [2, 2]
    by_id = {one.span_id: one for one in told}
    runs = [one for one in told if one.role == TOOL_RUN]
    assert [by_id[run.parent_id].prompt for run in runs] == ["ask 1", "ask 2"]
    assert [run.result for run in runs] == ["done", "done"]


def test_a_sub_agents_session_stands_where_it_was_started(bench: Bench) -> None:
    bench.span(1, PROMPT)
    bench.span(2, TOOL_RUN, 1, 1, 9, tool_name="task", tool_call_id="t1")
    child = Meaning(
        role=PROMPT, session_id="s2", agent="pi", parent_session_id="s1", lineage="subagent", parent_tool_call_id="t1"
    )
    bench.filling.event("prompt", child, [Content("prompt", "prompt", ["look"])], NOON + 2 * SECOND)
    bench.done()
    told = bench.told()
    assert {one.session_id for one in told} == {"s1"}
    assert {one.trace_id for one in told} == {TRACE}
    agent = next(one for one in told if one.role == "agent")
    assert agent.parent_id == f"{2:016x}"
    assert [one.parent_id for one in told if one.prompt == "look"] == [agent.span_id]
    assert len({one.span_id for one in told}) == len(told)


def test_a_call_of_no_session_is_told(bench: Bench) -> None:
    said = Meaning(role=MODEL_CALL, is_call=True, response_model="big", usage=USED, agent="pi", response_id="r1")
    bench.filling.batch.events.append(Event(bench.filling.source, NOON, "call", {}, meaning=said))
    bench.done()
    told = bench.told()
    assert [one.role for one in told] == [MODEL_CALL]
    assert told[0].session_id == ""
    assert len(told[0].trace_id) == 32


def test_a_window_that_was_read_gives_its_steps_again(bench: Bench) -> None:
    bench.span(1, PROMPT)
    bench.call(2, 1)
    bench.done()
    first = bench.told()
    kept = dict(bench.memory)
    again = steps(bench.feed.read(0, bench.cursor, bench.memory))
    assert again == first
    assert dict(bench.memory) == kept | {AGAIN: b"1"}


def test_a_call_waits_for_the_window_of_its_commit(bench: Bench) -> None:
    bench.call(1)
    bench.done()
    first = bench.store.sequence()
    bench.call(2, 0, 20, 30)
    bench.done()
    assert names(steps(bench.feed.read(0, first, bench.memory))) == ["model_call 1"]
    assert names(steps(bench.feed.read(first, bench.store.sequence(), bench.memory))) == ["model_call 2"]


@pytest.mark.parametrize(
    ("privacy", "prompt", "user"),
    [
        ("full", "mail jo@example.org", "jo@example.org"),
        ("redacted", "mail user-", "user-"),
        ("none", "", "user-"),
    ],
)
def test_texts_are_what_the_destination_may_have(tmp_path: Path, privacy: str, prompt: str, user: str) -> None:
    with closing(Bench(tmp_path / "store", privacy=privacy)) as bench:
        asked = bench.span(1, PROMPT, user="jo@example.org")
        asked.contents = [Content("prompt", "prompt", ["mail jo@example.org with sk-ant-abcdefgh12345678"])]
        failed = bench.span(
            2, MODEL_CALL, 1, is_call=True, is_error=True, error_message="jo@example.org said", user="jo@example.org"
        )
        failed.contents = [Content("input", "in", ['{"role":"user","content":"hello jo@example.org"}'], True)]
        bench.done()
        told = bench.told()
        assert told[0].prompt.startswith(prompt)
        assert (told[0].prompt == "") == (privacy == "none")
        assert told[1].call is not None
        assert told[1].call["user"].startswith(user)
        assert told[0].session["user"].startswith(user)
        everything = repr(told)
        assert "sk-ant" not in everything
        assert ("jo@example.org" in everything) == (privacy == "full")
        assert bool(told[1].input_messages) == bool(told[1].error_message) == (privacy != "none")


def test_a_long_history_is_told_with_its_newest_messages(bench: Bench) -> None:
    said = bench.call(1)
    said.contents = [
        Content("input", "in", [f'{{"role":"user","content":"{n:06d}{"x" * 10_000}"}}' for n in range(300)], True)
    ]
    bench.done()
    told = bench.told()
    found = [message["parts"][0]["content"][:6] for message in told[0].input_messages]
    assert 80 < len(found) < 110
    assert found == [f"{n:06d}" for n in range(300 - len(found), 300)]
    assert told[0].left_out == 300 - len(found)


def test_a_text_that_is_too_much_costs_no_other_and_is_said(bench: Bench) -> None:
    much = "y" * (STEP_BYTES_MAX + 1)
    call, tool, asked = bench.call(2, 1), bench.span(3, TOOL_RUN, 1, tool_name="bash"), bench.span(1, PROMPT)
    call.contents = [Content("output", "out", [much]), Content("input", "in", ['{"role":"user","content":"hi"}'], True)]
    tool.contents = [Content("arguments", "arguments", ["ls"]), Content("result", "result", [much])]
    asked.contents = [Content("prompt", "prompt", [much])]
    bench.done()
    by_role = {one.role: one for one in bench.told()}
    assert by_role[MODEL_CALL].input_messages and by_role[MODEL_CALL].left_out == 0
    assert by_role[MODEL_CALL].output_messages[0]["parts"][0]["content"] == LEFT_OUT
    assert (by_role[TOOL_RUN].arguments, by_role[TOOL_RUN].result) == ("ls", LEFT_OUT)
    assert by_role[PROMPT].prompt == LEFT_OUT


@pytest.mark.parametrize(
    "name", [name for name in sorted(MANIFEST) if not name.startswith(("pi-spool-073", "pi-spool-15"))]
)
def test_every_call_and_tool_run_of_a_recording_is_told_once(name: str, tmp_path: Path) -> None:
    with closing(Bench(tmp_path / "store")) as bench:
        told: list[Step] = []
        batches = everything(name, "full")
        for at in range(0, len(batches), 10):  # some at once, so that steps come in several windows
            bench.store.commit(batches[at : at + 10])
            while ledger.settle(bench.store, price):
                pass
            told += bench.told()
        if bench.feed.is_due(bench.now_ns + 2 * QUIET_NS, bench.memory):
            told += bench.quiet()
        assert len({one.span_id for one in told}) == len(told)
        calls = bench.store.scan(Scan("calls", {"id": "call_id"})).data["id"]
        assert sorted(one.call["call_id"] for one in told if one.call) == sorted(calls)
        by_id = {one.span_id: one for one in told}
        assert all(by_id[one.parent_id].trace_id == one.trace_id for one in told if one.parent_id)
        sessions = bench.store.scan(Scan("sessions", {"id": "session_id", "parent": "parent_session_id"}))
        runs = sum(
            session_tree(bench.store, id_).root.totals.tool_runs
            for id_, parent in zip(sessions.data["id"], sessions.data["parent"], strict=True)
            if not parent or parent not in sessions.data["id"]
        )
        assert sum(one.role == TOOL_RUN for one in told) == runs


def test_what_was_told_of_a_session_is_forgotten_long_after(bench: Bench) -> None:
    bench.span(1, PROMPT)
    bench.done()
    bench.told()
    assert bench.memory.keys("steps:told:") == ["steps:told:s1"]
    bench.now_ns += KEEP_NS - QUIET_NS
    bench.span(2, PROMPT, session_id="s2")
    bench.done()
    bench.told()
    assert bench.memory.keys("steps:told:") == ["steps:told:s1", "steps:told:s2"]
    bench.now_ns += 86_400 * SECOND
    bench.span(3, PROMPT, session_id="s2")
    bench.done()
    bench.told()
    assert bench.memory.keys("steps:told:") == ["steps:told:s2"]


# -- calls that become others ------------------------------------------------------------------------------------------


def calls(bench: Bench, since: int) -> list[tuple[str, str]]:
    """What the feed of calls gives of the commits after `since`: id and session."""
    feed = Calls(bench.store, Destination("acme", "loki", "acme"), ("seq", "call_id", "session_id"))
    read = feed.read(since, bench.store.sequence(), bench.memory)
    rows = [item.record for some in read for item in some]
    assert all(isinstance(row, dict) for row in rows)
    return [(row["call_id"], row["session_id"]) for row in rows if isinstance(row, dict)]


@pytest.mark.parametrize("takes_changes", [True, False])
def test_a_call_whose_trace_gets_a_session_later_is_told_again(tmp_path: Path, takes_changes: bool) -> None:
    with closing(Bench(tmp_path / "store", takes_changes=takes_changes)) as bench:
        bench.span(2, MODEL_CALL, 1, 1, 4, session_id="", is_call=True, response_model="big", usage=USED)
        bench.done()
        first, call = bench.told(), calls(bench, 0)
        assert [(one.role, one.session_id) for one in first] == [(MODEL_CALL, f"trace:{TRACE}")]
        before = bench.store.sequence()
        bench.span(1, PROMPT, prompt_id="p1")
        bench.done()
        assert calls(bench, before) == [(call[0][0], "s1")]
        again = [one for one in bench.told() if one.role == MODEL_CALL]
        assert [(one.session_id, one.span_id) for one in again] == [("s1", first[0].span_id)] * takes_changes
        bench.span(3, TOOL_RUN, 1, 5, 6)
        bench.done()
        assert calls(bench, bench.store.sequence() - 1) == []


def test_a_call_that_changed_while_nobody_was_there_is_told_once(bench: Bench) -> None:
    bench.span(2, MODEL_CALL, 1, 1, 4, session_id="", is_call=True, response_model="big", usage=USED)
    bench.done()
    bench.span(1, PROMPT, prompt_id="p1")
    bench.done()
    assert len(calls(bench, 0)) == 1
    assert names(bench.told()) == ["prompt 1", "model_call 2"]


# -- long sessions -----------------------------------------------------------------------------------------------------


def test_a_long_session_waits_and_is_told_all(bench: Bench) -> None:
    bench.span(1, PROMPT)
    for number in range(2, LONG_RECORDS + 2):
        bench.span(number, TOOL_RUN, 1, tool_name="bash")
    bench.done()
    assert len(bench.told()) == LONG_RECORDS + 1
    number = LONG_RECORDS + 2
    bench.now_ns += SECOND
    bench.span(number, TOOL_RUN, 1, 2, 3, tool_name="bash")
    bench.done()
    assert bench.told() == []
    assert not bench.feed.is_due(bench.now_ns, bench.memory)
    bench.now_ns += SECOND
    bench.span(number + 1, TOOL_RUN, 1, 3, 4, tool_name="bash")
    bench.done()
    assert bench.told() == []
    bench.now_ns += (LONG_RECORDS + 1) * WAIT_NS_PER_RECORD
    assert bench.feed.is_due(bench.now_ns, bench.memory)
    told = steps(bench.feed.due(bench.now_ns, bench.cursor, bench.memory))
    assert names(told) == [f"tool_run {number}", f"tool_run {number + 1}"]
    assert not bench.feed.is_due(bench.now_ns, bench.memory)


def looked(records: int, pending: bool = False) -> Waiting:
    """What is remembered after a look at a session of so many records, at 0."""
    waiting = Waiting(Notes())
    waiting.looked("s1", records, 0, (QUIET_NS, 1) if pending else None)
    return waiting


def test_a_short_session_never_waits() -> None:
    assert not looked(LONG_RECORDS - 1).has_to_wait("s1", 2, 1, 0)


def test_a_long_session_waits_for_a_time_that_its_length_sets() -> None:
    waiting = looked(2 * LONG_RECORDS)
    due_ns = 2 * LONG_RECORDS * WAIT_NS_PER_RECORD
    assert waiting.has_to_wait("s1", 2, 1, 0)
    assert waiting.has_to_wait("s1", 3, 1, due_ns - 1)
    assert not waiting.is_due(due_ns - 1)
    assert list(waiting.long_due(due_ns)) == [("s1", 3)]
    assert not looked(2 * LONG_RECORDS).has_to_wait("s1", 4, 1, due_ns)
    assert not looked(10**9).has_to_wait("s1", 4, 1, WAIT_NS_MAX)


def test_a_long_session_that_has_grown_by_a_good_part_does_not_wait() -> None:
    waiting = looked(4 * LONG_RECORDS)
    assert waiting.has_to_wait("s1", 2, 4 * LONG_RECORDS // GROWN - 1, 1)
    assert not waiting.has_to_wait("s1", 3, 1, 2)


def test_what_goes_on_while_it_waits_is_not_quiet() -> None:
    waiting = looked(100 * LONG_RECORDS, pending=True)
    assert waiting.quiet_due(QUIET_NS, 9) == [("s1", 1)]
    assert waiting.has_to_wait("s1", 2, 1, QUIET_NS - 1)
    assert waiting.quiet_due(QUIET_NS, 9) == []
    assert waiting.quiet_due(2 * QUIET_NS, 9) == [("s1", 2)]


def test_who_need_not_wait_any_more_is_forgotten() -> None:
    notes = Notes()
    waiting = Waiting(notes)
    waiting.looked("s1", LONG_RECORDS, 0, None)
    waiting.keep(1)
    assert notes.keys() == ["steps:long"]
    assert Waiting(notes).has_to_wait("s1", 2, 1, 1)
    waiting.keep(LONG_RECORDS * WAIT_NS_PER_RECORD)
    assert notes.keys() == []


# -- many sessions at once ---------------------------------------------------------------------------------------------


class Counted:
    """A store that counts what it is asked."""

    def __init__(self, store: Store) -> None:
        self.store, self.sql, self.texts, self.sequence = store, store.sql, store.texts, store.sequence
        self.asked = 0

    def scan(self, scan: Scan) -> Columns:
        self.asked += 1
        return self.store.scan(scan)


def filled(bench: Bench) -> list[str]:
    """Sessions of several recordings, those of traces and of sub-agents among them."""
    made = [name for name in sorted(MANIFEST) if not name.startswith(("pi-spool-073", "pi-spool-15"))]
    for name in made[:: max(1, len(made) // 12)]:
        bench.store.commit(everything(name, "full"))
    for number in range(20, 30):
        bench.filling.call(trace_id=f"{number:032x}", usage=USED)
    bench.span(1, PROMPT)
    bench.span(2, TOOL_RUN, 1, 1, 9, tool_name="task", tool_call_id="t1")
    child = Meaning(role=PROMPT, session_id="s2", agent="pi", parent_session_id="s1", lineage="subagent")
    bench.filling.event("prompt", child, [Content("prompt", "prompt", ["look"])], NOON + 2 * SECOND)
    bench.done()
    return [str(one) for one in bench.store.scan(Scan("sessions", {"id": "session_id"})).data["id"]]


def test_trees_of_many_sessions_are_the_same_for_a_part_of_the_questions(bench: Bench) -> None:
    sessions = filled(bench)
    assert len(sessions) > 15
    one_by_one, at_once = Counted(bench.store), Counted(bench.store)
    gathered = Gathered(at_once, sessions, records_max=10_000)
    for session_id in sessions:
        assert to_builtins(session_tree(gathered, session_id)) == to_builtins(session_tree(one_by_one, session_id))
    assert at_once.asked * 4 < one_by_one.asked


def test_questions_of_another_kind_are_asked_as_they_are(bench: Bench) -> None:
    sessions = filled(bench)
    gathered = Gathered(bench.store, sessions, records_max=10_000)
    mine, seq = Match("session_id", "=", sessions[0]), {"seq": "seq"}
    asked = [
        Scan("spans", {"n": Agg("count")}, (mine,)),
        Scan("spans", {"n": Agg("max", "seq")}, (mine,)),
        Scan(
            "spans", {"n": Agg("max", "seq"), "role": "role"}, (mine,), group_by=("role",), order_by=(("role", False),)
        ),
        Scan("spans", dict(seq), (mine, Match("start_ns", "<=", Field("end_ns"))), order_by=(("seq", False),)),
        Scan("spans", dict(seq), (Any_((mine, Match("session_id", "=", ""))),), order_by=(("seq", True),), limit=3),
        Scan("spans", dict(seq), (mine, Match("seq", ">", 1)), order_by=(("seq", False),), limit=2, offset=1),
        Scan("spans", dict(seq), (Match("session_id", "in", ["", sessions[0]]),), order_by=(("seq", False),)),
        Scan("spans", dict(seq), (Match("session_id", "=", "nobody's"),)),
        Scan("spans", dict(seq), (Match("session_id", "in", []),)),
        Scan("spans", dict(seq), (mine, Match("seq", "<", 0))),
        Scan("spans", {"n": Agg("min", "seq")}, (mine, Match("seq", "<", 0))),
        Scan("sessions", {"id": "session_id"}, order_by=(("id", False),)),
    ]
    for one in asked:
        assert gathered.scan(one) == bench.store.scan(one), one
