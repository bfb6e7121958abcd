"""Whose line it is: the session, the prompt and the sub-agent that a line of Claude Code belongs to."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from tachograph.lines import Page, record, words
from tachograph.model import FORK, RESUME, Content, Meaning
from tachograph.transcripts.claude_code_lines import Line, text_of

_SESSIONS_MAX: Final = 20  # in one file, each resumed from the one before
_AGENTS_MAX: Final = 200
_LINES_MAX: Final = 200  # of sub-agents in the file of their session, as older versions write them
_BESIDE_BYTES_MAX: Final = 65_536


class _Beside(Struct, rename="camel"):
    """What stands in the file beside a sub-agent's: `agent-<id>.meta.json`."""

    agent_type: Any = None
    tool_use_id: Any = None


def enter(line: Line, state: dict[str, Any]) -> None:
    """Take from a line what holds for the next ones: session, folder, branch, version and prompt.

    A file may begin with lines of the session that it goes on with: they are that one's, and stand in its file too.
    """
    for name, value in (("cwd", line.cwd), ("branch", line.git_branch), ("version", line.version)):
        if value and isinstance(value, str):
            # In a folder that is no repository it says HEAD, as git does where no branch is checked out.
            state[name] = "" if name == "branch" and value == "HEAD" else value
    origin = record(line.forked_from)
    session = words(line.session_id)
    if words(origin.get("sessionId")):
        session, state["is_fork"] = origin["sessionId"], True
        line.uuid = origin.get("messageUuid") or line.uuid
    if session and session != state.get("session"):
        state["session"] = session
        chain = state.setdefault("chain", [])
        if session not in chain and len(chain) < _SESSIONS_MAX:
            chain.append(session)
    if words(line.prompt_id):
        state["prompt"] = line.prompt_id


def add(page: Page, name: str, when: int, meaning: Meaning, line: Line, *contents: Content, **attributes: Any) -> None:
    """Add an event at the place that its line has."""
    state = page.state
    meaning.prompt_id = meaning.prompt_id or state.get("prompt", "")
    chain = state.get("chain", ())
    if len(chain) > 1 and state["session"] in chain[1:]:
        meaning.parent_session_id = chain[chain.index(state["session"]) - 1]
        meaning.lineage = FORK if state.get("is_fork") else RESUME
    if line.is_sidechain or line.agent_id:
        attributes["isSidechain"] = True
        meaning.subagent, meaning.parent_tool_call_id = _worker(line, page)
    for key, value in (("uuid", line.uuid), ("parentUuid", line.parent_uuid), ("agentId", line.agent_id)):
        if value and isinstance(value, str):
            attributes[key] = value
    page.add(name, when, meaning, attributes, *contents)


def is_main(line: Line) -> bool:
    """Whether a line is of the session itself, not of a sub-agent."""
    return not line.is_sidechain and not line.agent_id


def _worker(line: Line, page: Page) -> list[str]:
    """The sub-agent's name, its type where that is told, and the tool call that started it."""
    agent_id = words(line.agent_id)
    if not agent_id:
        return page.state.get("lines", {}).get(words(line.uuid)) or ["sub-agent", ""]
    known: dict[str, list[str]] = page.state.setdefault("agents", {})
    found = known.get(agent_id)
    if found is None:
        found = known[agent_id] = _read_beside(page.path, agent_id)
        if len(known) > _AGENTS_MAX:
            del known[next(iter(known))]
    return found


def _read_beside(path: Path, agent_id: str) -> list[str]:
    beside = path.with_suffix(".meta.json")
    told = _Beside()
    if path.stem == f"agent-{agent_id}":
        try:
            with beside.open("rb") as file:
                told = msgspec.json.decode(file.read(_BESIDE_BYTES_MAX), type=_Beside)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass  # older versions write none; its id is name enough then
    return [words(told.agent_type) or agent_id, words(told.tool_use_id)]


def follow(line: Line, page: Page) -> None:
    """Note which sub-agent a line is of that stands in the file of its session: that of the line before it.

    Its first line repeats the task that a tool call gave it.
    """
    if not line.is_sidechain or line.agent_id or not isinstance(line.uuid, str):
        return
    known: dict[str, list[str]] = page.state.setdefault("lines", {})
    found = known.get(words(line.parent_uuid))
    if found is None:
        found = _started(text_of(record(line.message).get("content")), page.state.get("tools", {}))
    known[line.uuid] = found
    if len(known) > _LINES_MAX:
        del known[next(iter(known))]


def _started(task: str, pending: dict[str, Any]) -> list[str]:
    for call_id, (_, _, given) in pending.items():
        if task and isinstance(given, dict) and given.get("prompt") == task:
            return [words(given.get("subagent_type")) or "sub-agent", call_id]
    return ["sub-agent", ""]
