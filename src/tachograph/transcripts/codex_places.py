"""Whose line it is: the session, the turn and the parent of a line in a Codex rollout, and what is a copy in it."""

from __future__ import annotations

import re
from typing import Any, Final

from tachograph.lines import Page, record, words
from tachograph.model import FORK, SUBAGENT, Content, Meaning

# The file of a sub-agent or a fork begins with its origin's lines, written at once.
REPLAY_NS: Final = 1_000_000_000
# Ids of version 7 begin with the time they were made at: what sorts before the session's own is older.
_UUID7: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7")


def begin(payload: dict[str, Any], when: int, state: dict[str, Any]) -> None:
    """Take over what the first line says; a later one of another session is part of the history that was copied."""
    session = words(payload.get("id")) or words(payload.get("session_id"))
    if state.get("session") not in (None, "", session):
        return
    git = record(payload.get("git"))
    state.update(
        session=session,
        cwd=words(payload.get("cwd")),
        version=words(payload.get("cli_version")),
        provider=words(payload.get("model_provider")),
        branch=words(git.get("branch")),
        repository=words(git.get("repository_url")),
    )
    state.setdefault("begun", when)
    source = payload.get("source")
    started = record(source).get("subagent")
    spawn = record(record(started).get("thread_spawn"))
    state["parent"] = words(spawn.get("parent_thread_id")) or words(payload.get("parent_thread_id"))
    state["origin"] = words(payload.get("forked_from_id"))
    names = (spawn.get("agent_role"), spawn.get("agent_nickname"), record(started).get("other"), started)
    state["worker"] = next((name for name in names if words(name)), "sub-agent") if started else ""
    state["has_replay"] = isinstance(source, dict) or bool(state["origin"])


def turn(payload: dict[str, Any], state: dict[str, Any]) -> None:
    """Take over which turn it is, where that is told."""
    found = words(payload.get("turn_id"))
    if found and found != state.get("turn"):
        state["turn"], state["has_turns"] = found, True
        state.pop("said", None)


def is_copy(when: int, state: dict[str, Any]) -> bool:
    """Whether a line is one of those that a file repeats of its origin."""
    if not state.get("has_replay"):
        return False
    session, own = words(state.get("session")), words(state.get("turn"))
    if _UUID7.match(session) and _UUID7.match(own):
        return own < session
    return when - int(state.get("begun") or 0) < REPLAY_NS


def add(page: Page, name: str, when: int, meaning: Meaning, *contents: Content, **attributes: Any) -> None:
    """Add an event with the turn and the origin of its line."""
    state = page.state
    meaning.prompt_id = meaning.prompt_id or words(state.get("turn"))
    meaning.repository = words(state.get("repository"))
    meaning.subagent = words(state.get("worker"))
    if state.get("parent"):
        meaning.parent_session_id, meaning.lineage = state["parent"], SUBAGENT
    elif state.get("origin"):
        meaning.parent_session_id, meaning.lineage = state["origin"], FORK
    page.add(name, when, meaning, attributes, *contents)
