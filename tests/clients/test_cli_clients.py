"""Real agents, connected by one command: the ledger says what the model's server billed, however it came to know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cli_agents import AGENTS, PROMPT, REFUSED, SCENARIO, Agent, Place
from fake_llm import FakeLlm

pytestmark = pytest.mark.clients

each_agent = pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent.name)
# What each agent sends by itself; all of them write files as well.
SIGNALS = {
    "openclaw": {"traces", "logs"},
    "pi": {"traces", "metrics", "hooks"},
    "claude-code": {"traces", "logs", "metrics"},
    "codex": {"traces", "logs", "metrics"},
    "gemini": {"traces", "logs", "metrics"},
    "copilot": {"traces", "metrics"},
    "opencode": {"traces", "logs"},
}

# OpenCode asks a small model for a title and keeps the title alone: no file of its tells of that call.
UNWRITTEN = {"opencode": "gpt-4o-mini"}


def billed(llm: FakeLlm, without: str = "") -> dict[str, int]:
    """What the server answered, as `usage` counts it, but for the calls of one model."""
    calls = [record for record in llm.billed if record["model"] != without]
    done = [record["usage"] for record in calls if record["status"] == 200]
    return {
        "calls": len(done),
        "failed_calls": len(calls) - len(done),
        "input_tokens": sum(usage["input"] + usage["cache_read"] + usage["cache_write"] for usage in done),
        "cache_read_tokens": sum(usage["cache_read"] for usage in done),
        "output_tokens": sum(usage["output"] for usage in done),
    }


def told(place: Place) -> dict[str, Any]:
    """The same as the ledger says it."""
    totals = place.answer("usage")["totals"]
    names = ("calls", "failed_calls", "input_tokens", "cache_read_tokens", "output_tokens")
    return {name: totals[name] for name in names}


@each_agent
def test_what_is_billed_is_in_the_ledger(agent: Agent, tmp_path: Path) -> None:
    with FakeLlm(SCENARIO) as llm:
        place = Place(agent, tmp_path / "place", llm.url)
        before = place.files()
        with place.server():
            (connected,) = place.answer("connect", agent.name)["agents"]
            assert connected["changed"]
            done = place.run()
            assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
            place.tachograph("import")
            assert told(place) == billed(llm)
            assert billed(llm)["calls"] >= 2
            (session,) = place.answer("sessions")["sessions"]
            assert PROMPT in session["title"]
            assert session["tool_runs"] == 1
            arrived = place.doctor()
            (proof,) = [one for one in arrived["connections"] if one["agent"] == agent.name]
            assert proof["connected"]
            assert proof["first_ns"] >= proof["since_ns"]
            signals = {signal for service in arrived["arrivals"] for signal in service["signals"]}
            assert signals == SIGNALS[agent.name] | {"transcripts"}
            place.tachograph("connect", agent.name, "--undo")
    after = place.files()
    assert {name: after.get(name) for name in before} == before
    assert not [name for name in after if name not in before and b"tachograph" in after[name]]


@each_agent
def test_a_refused_attempt_is_no_answer(agent: Agent, tmp_path: Path) -> None:
    """A provider refuses once, then a tool fails: what it answered is counted once, and nothing is made of the rest."""
    with FakeLlm(SCENARIO) as llm:
        place = Place(agent, tmp_path / "place", llm.url)
        with place.server():
            place.tachograph("connect", agent.name)
            done = place.run(REFUSED)
            assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
            place.tachograph("import")
            truth, said = billed(llm), told(place)
            assert truth["failed_calls"] >= 1
            assert said.pop("failed_calls") <= truth.pop("failed_calls")  # not every agent tells of each attempt
            assert said == truth


@each_agent
def test_files_alone_tell_the_same(agent: Agent, tmp_path: Path) -> None:
    """Without a server, and without being connected: what the agent writes is read afterwards."""
    with FakeLlm(SCENARIO) as llm:
        place = Place(agent, tmp_path / "place", llm.url)
        done = place.run()
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        place.tachograph("import")
        truth = billed(llm, UNWRITTEN.get(agent.name, ""))
        assert told(place) == truth
        assert truth["calls"] == 2
        place.tachograph("import")
        assert told(place) == truth
