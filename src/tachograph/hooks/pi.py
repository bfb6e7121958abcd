"""Pi, live: what its extension appends to the spool -> session, prompts, turns, model calls and tool runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from tachograph.config import Surroundings
from tachograph.hooks import pi_calls, pi_steps
from tachograph.hooks.pi_run import SESSIONS_MAX, Run, State, carry, process_of, restored, run_of
from tachograph.hooks.pi_telling import Telling
from tachograph.hooks.spans import short
from tachograph.lines import Page, read_lines, record, time_ns
from tachograph.model import Batch, Event, Meaning
from tachograph.vocabulary import whole

NAME: Final = "pi"

Step = Callable[[Telling, Run, dict[str, Any], int], None]


def discover(where: Surroundings) -> Iterator[Path]:
    """The files of the spool, oldest first: a later part tells how an earlier one went on."""
    yield from sorted((where.spool / NAME).glob("*.jsonl"))


def is_mine(path: Path, first: dict[str, Any]) -> bool:
    """Whether a file whose first line is this was written by the extension."""
    return first.get("e") == "open" and "pi" in first and "pid" in first


def read(path: Path, since: str) -> tuple[Batch, str]:
    """What the lines after `since` tell, and the position after them."""
    reading = Reading()
    return read_lines(path, since, NAME, reading.understand, origin="hook", finish=reading.finish)


# What begins something, or tells of a call, is worth a session that nothing was heard of before.
_BEGINNINGS: Final[dict[str, Step]] = {
    "session_start": pi_steps.facts,
    "input": pi_steps.asked,
    "agent_start": pi_steps.agent_started,
    "turn_start": pi_steps.turn_started,
    "message_end": pi_calls.answered,
    "tool_start": pi_steps.tool_started,
    "tool_end": pi_steps.tool_ended,
    "request": pi_calls.request,
    "model_select": pi_steps.model_changed,
    "compact_start": pi_calls.aside_begun,
    "compact_end": pi_calls.compacted,
    "tree_start": pi_calls.aside_begun,
    "tree": pi_calls.branched,
    "usage": pi_calls.used,
    "user_bash": pi_steps.bash,
}
_STEPS: Final[dict[str, Step]] = {
    **_BEGINNINGS,
    "http": pi_calls.http,
    "response": pi_calls.response,
    "first": pi_calls.first,
    "message_entry": pi_calls.entered,
    "turn_end": pi_steps.turn_ended,
    "agent_end": pi_steps.agent_stopped,
    "agent_settled": pi_steps.agent_settled,
    "thinking_level_select": pi_steps.thinking_changed,
    "compact_failed": pi_calls.compaction_failed,
    "cache_warming": pi_steps.cache_warming,
    "user_bash_end": pi_steps.bash_ended,
    "ui_prompt_start": pi_steps.waiting,
    "ui_prompt_end": pi_steps.waited,
    "session_info_changed": pi_steps.session_named,
    "session_shutdown": pi_steps.session_ended,
}


class Reading:
    """One piece of a spool file, line by line."""

    def __init__(self) -> None:
        self._told: tuple[State, Telling] | None = None

    def understand(self, line: dict[str, Any], state: dict[str, Any], page: Page) -> None:
        """Make the records of one line."""
        known, telling = self._begun(state, page)
        event, session, t = line.get("e"), short(line.get("s")), time_ns(line.get("t"))
        if not isinstance(event, str) or not t:
            return
        if event == "open":
            known.process = process_of(line, page.path)
            telling.know(known.process)
        if event == "lost":
            _lost(telling, session, line, t)
            return
        run = known.runs.get(session)
        if run is None:
            if not session or (event != "open" and event not in _BEGINNINGS):
                return
            run = known.runs[session] = _begin(telling, known, session, t)
        run.last_ns = t
        if event == "open":
            if carried := record(line.get("carry")):
                carry(known.process, run, carried)
            pi_steps.facts(telling, run, line, t)
        elif event in _STEPS:
            _STEPS[event](telling, run, line, t)
            if not run.span_id:
                del known.runs[session]

    def finish(self, page: Page) -> None:
        """Let go out what was held back, and show what is open."""
        if self._told is None:
            return
        known, telling = self._told
        for run in known.runs.values():
            pi_steps.show_open(telling, run)
        telling.release_all()
        page.state["spool"] = msgspec.to_builtins(known)

    def _begun(self, state: dict[str, Any], page: Page) -> tuple[State, Telling]:
        if self._told is None:
            known = restored(state)
            self._told = (known, Telling(page, known.process))
        return self._told


def _begin(telling: Telling, known: State, session: str, t: int) -> Run:
    """A session that is new to this file; the one that was left behind first makes room for it."""
    while len(known.runs) >= SESSIONS_MAX:
        run = known.runs.pop(next(iter(known.runs)))
        pi_steps.session_ended(telling, run, {}, run.last_ns)
    return run_of(known.process, session, t)


def _lost(telling: Telling, session: str, line: dict[str, Any], t: int) -> None:
    """Lines that never reached this file."""
    facts = {"pi.lost.why": short(line.get("why")), "pi.lost.error": short(line.get("error"))}
    amounts = {f"pi.lost.{name}": whole(line.get(name)) for name in ("bytes", "lines")}
    told = {name: value for name, value in {**facts, **amounts}.items() if value not in (None, "")}
    meaning = Meaning(dialect=NAME, agent=NAME, session_id=session)
    telling.page.events.append(Event(telling.source, t, "spool.lost", told, origin="hook", meaning=meaning))
