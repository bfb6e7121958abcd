"""Pi's sub-agents, forks, resumes and the parts of a spool: joined, and counted once."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from pathlib import Path

import pytest

from pi_spools import (
    NOW_NS,
    SESSION,
    START_MS,
    Spool,
    calls,
    keep,
    last,
    named,
    outline,
    read,
    told,
)
from tachograph import questions
from tachograph.model import FORK, SUBAGENT
from tachograph.scan import Scan
from tachograph.store.duckdb import DuckStore, open_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckStore]:
    """A store of the test's own."""
    kept = open_store(tmp_path / "store", lambda: NOW_NS)
    yield kept
    kept.close()


def with_sub_agent(folder: Path, is_child_told: bool = True) -> list[Path]:
    """A session whose tool starts another Pi, which starts a third."""
    usage = {"input": 10, "output": 4, "cacheRead": 90, "cacheWrite": 10, "cost": 0.002, "turns": 1}
    parent, child = Spool(), Spool(200, "child-session", START_MS + 500)
    grandchild = Spool(300, "grandchild-session", START_MS + 600)
    parent.open().ask().line("turn_start", turn=0).answer(stop="toolUse")
    parent.line("tool_start", id="t;1", name="subagent", args={})
    child.open(parent=f"{SESSION};t;1;{parent.opened_ms};100", parent_alive=True, subagent="scout").ask()
    child.line("turn_start", turn=0).answer(stop="toolUse").line("tool_start", id="t2", name="subagent")
    grandchild.open(parent=f"child-session;t2;{child.opened_ms};200", subagent="digger").ask().turn().settle().end()
    agents = [{"agent": "digger", "usage": usage, "model": "anthropic/claude-sonnet-4-5"}]
    child.line("tool_end", id="t2", name="subagent", isError=False, subagents=agents)
    child.line("turn_end", turn=0, outcome="completed").settle().end()
    agents = [{"agent": "scout", "usage": usage, "model": "anthropic/claude-sonnet-4-5"}]
    parent.line("tool_end", 3000.0, id="t;1", name="subagent", isError=False, subagents=agents)
    parent.line("turn_end", turn=0, outcome="completed").settle().end()
    return [s.write(folder) for s in ((parent, child, grandchild) if is_child_told else (parent,))]


def test_sub_agents_lie_in_the_tool_run_that_started_them(tmp_path: Path, store: DuckStore) -> None:
    """In one trace, however many processes there are; their calls count once."""
    paths = with_sub_agent(tmp_path)
    batches = [read(path) for path in paths]
    spans = [span for batch in batches for span in batch.spans]
    assert len({span.trace_id for span in spans}) == 1
    ids = {span.span_id for span in spans}
    assert [span.name for span in spans if span.parent_id not in ids] == ["session"]
    lineage = {told(s).session_id: (told(s).parent_session_id, told(s).lineage, told(s).subagent) for s in spans}
    assert lineage == {
        SESSION: ("", "", ""),
        "child-session": (SESSION, SUBAGENT, "scout"),
        "grandchild-session": ("child-session", SUBAGENT, "digger"),
    }
    keep(store, *batches)
    assert [line.strip() for line in outline(store, SESSION)].count("sub-agent scout") == 1
    sessions = store.scan(Scan("sessions", {"session_id": "session_id", "calls": "calls"}))
    assert dict(zip(*sessions.data.values(), strict=True)) == dict.fromkeys(lineage, 1)


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_a_parents_sum_of_its_children_is_no_call(tmp_path: Path, store: DuckStore, order: tuple[int, ...]) -> None:
    batches = [read(path) for path in with_sub_agent(tmp_path)]
    keep(store, *(batches[i] for i in order), *(read(tmp_path / f"{int(START_MS)}-100-1.jsonl") for _ in "again"))
    totals = questions.usage(store, "agent")["totals"]
    assert (totals["calls"], totals["failed_calls"], totals["input_tokens"], totals["partial"]) == (3, 0, 300, 0)


def test_a_child_that_nothing_else_tells_of_counts_by_its_sum(tmp_path: Path, store: DuckStore) -> None:
    keep(store, *(read(path) for path in with_sub_agent(tmp_path, is_child_told=False)))
    totals = questions.usage(store, "agent")["totals"]
    assert (totals["calls"], totals["input_tokens"], totals["partial"]) == (2, 210, 1)
    lines = outline(store, SESSION)
    at = lines.index("      tool.subagent")
    assert lines[at + 1] == "        claude-sonnet-4-5 ok"


def test_a_daemon_that_outlived_its_parent_is_no_sub_agent(tmp_path: Path) -> None:
    spool = Spool(200).open(parent=f"other;t1;{START_MS};100", parent_alive=False).ask().turn().settle()
    assert {told(span).lineage for span in read(spool.write(tmp_path)).spans} == {""}


def test_a_fork_says_where_it_comes_from(tmp_path: Path) -> None:
    spool = Spool().open().ask().turn().settle().line("session_shutdown", reason="fork")
    spool.session = "01a1fb6a-6bf8-7481-9aa4-068b2a1c2bec"
    origin = f"/home/dev/.pi/agent/sessions/x/2026-11-21T00-00-18-142Z_{SESSION}.jsonl"
    spool.line("session_start", reason="fork", parent_session=origin)
    spool.line("session_start", reason="fork", parent_session=origin).ask().turn().settle().end()
    batch = read(spool.write(tmp_path))
    first, second = named(batch, "session")
    assert (told(first).lineage, told(second).lineage) == ("", FORK)
    assert told(second).parent_session_id == SESSION
    assert first.trace_id != second.trace_id
    assert len(calls(batch)) == 2


def test_a_reload_goes_on_with_the_session(tmp_path: Path) -> None:
    spool = Spool().open().ask().turn().settle().line("session_shutdown", reason="reload")
    spool.line("session_start", reason="reload").ask().turn().settle().end()
    batch = read(spool.write(tmp_path))
    assert len(named(batch, "session")) == 1
    assert [p.name for p in batch.points].count("pi.session.duration") == 1


def test_a_session_that_is_left_and_resumed_by_one_process(tmp_path: Path) -> None:
    spool = Spool().open().ask().turn().settle().line("session_shutdown", reason="resume")
    spool.line("session_start", reason="resume").ask().turn().settle().end()
    batch = read(spool.write(tmp_path))
    assert len(batch.spans) == len({span.span_id for span in batch.spans})
    assert len(named(batch, "session")) == len(named(batch, "agent.prompt")) == 2


def test_a_file_that_goes_on_in_another_part(tmp_path: Path) -> None:
    """What was open is closed by the next part: same ids, one call, one prompt."""
    whole = Spool().open().ask().line("turn_start", turn=0).answer(stop="toolUse")
    prompt_ms, turn_ms = (next(x["t"] for x in whole.lines if x["e"] == e) for e in ("input", "turn_start"))
    at = len(whole.lines)
    whole.tool("call_1").line("turn_end", turn=0, outcome="completed").settle().end()
    second = Spool()
    carry = {
        "open_t": whole.opened_ms,
        "session_t": whole.opened_ms,
        "prompts": 1,
        "turns": 1,
        "prompt_t": prompt_ms,
        "turn_t": turn_ms,
        "turn_index": 0,
    }
    second.now_ms = whole.lines[at]["t"] - 1
    second.line("open", v=1, part=2, pid=100, pi="1.5.2", cwd="/home/dev/shop", carry=carry)
    second.lines += whole.lines[at:]
    expected = {s.span_id: (s.name, s.parent_id, s.end_ns) for s in read(whole.write(tmp_path)).spans}
    whole.lines = whole.lines[:at]
    parts = [read(whole.write(tmp_path)), read(second.write(tmp_path, part=2))]
    assert {i: (s.name, s.parent_id, s.end_ns) for i, s in last(parts).items()} == expected
    assert sum(p.name == "pi.prompts" for batch in parts for p in batch.points) == 1
