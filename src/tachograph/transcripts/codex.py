"""Codex rollouts: sessions, turns, prompts and tool runs; a usage record for each response, or running totals."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tachograph.config import Surroundings
from tachograph.lines import Page, items, read_lines, read_packed, record, time_ns, told, words
from tachograph.model import PROMPT, SESSION, STEP, Batch, Meaning
from tachograph.transcripts import codex_calls as calls
from tachograph.transcripts import codex_tools as tools
from tachograph.transcripts.blocks import asked
from tachograph.transcripts.codex_places import add, begin, is_copy, turn
from tachograph.vocabulary import whole

NAME: Final = "codex"
_PACKED: Final = ".zst"
_LINE_TYPES: Final = frozenset(("session_meta", "turn_context", "response_item", "event_msg", "token_usage_record"))
# What Codex itself puts in as messages of the user: tagged blocks, and the instructions of a folder.
_NOTES: Final = ("<", "# AGENTS.md instructions")
_SAID_MAX: Final = 20  # prompts of one turn
_SAID_CHARS: Final = 2000


def discover(where: Surroundings) -> Iterator[Path]:
    """The rollouts of Codex's folder, archived ones included; of two files of one name the plain, current one."""
    for folder in where.folders("CODEX_HOME", ".codex"):
        seen: set[str] = set()
        for name in ("sessions", "archived_sessions"):
            for pattern in ("rollout-*.jsonl", "rollout-*.jsonl" + _PACKED):
                for path in (folder / name).rglob(pattern):
                    if (plain_name := path.name.removesuffix(_PACKED)) not in seen:
                        seen.add(plain_name)
                        yield path


def read(path: Path, since: str) -> tuple[Batch, str]:
    """The prompts, model calls and tool runs of the lines after `since`, and the position after them."""
    if path.suffix == _PACKED:
        return read_packed(path, since, NAME, _understand)
    return read_lines(path, since, NAME, _understand)


def is_mine(path: Path, first: dict[str, Any]) -> bool:
    """Whether a file whose first line is this is one of Codex's."""
    if path.suffix == _PACKED:
        return path.name.startswith("rollout-") and path.stem.endswith(".jsonl")
    return words(first.get("type")) in _LINE_TYPES and isinstance(first.get("payload"), dict)


def _understand(line: dict[str, Any], state: dict[str, Any], page: Page) -> None:
    kind, payload, when = line.get("type"), record(line.get("payload")), time_ns(line.get("timestamp"))
    if kind == "session_meta":
        begin(payload, when, state)
    elif kind == "turn_context":
        for name in ("model", "cwd"):
            state[name] = words(payload.get(name)) or state.get(name, "")
        turn(payload, state)
    elif kind == "token_usage_record":
        calls.record_of(payload, when, state, page)
    elif kind == "event_msg":
        _event(payload, when, state, page)
    elif kind == "response_item":
        if payload.get("type") == "message" and payload.get("role") == "user":
            _user_item(payload, when, state, page)
        else:
            tools.item(payload, when, state, page)
    elif kind == "compacted" and not is_copy(when, state):
        add(page, "compacted", when, Meaning(role=STEP), told("response", words(payload.get("message"))))


def _event(payload: dict[str, Any], when: int, state: dict[str, Any], page: Page) -> None:
    kind = words(payload.get("type"))
    if kind in ("task_started", "turn_started"):
        turn(payload, state)
    elif kind == "token_count":
        calls.count(record(payload.get("info")), when, state, page)
    elif kind == "user_message":
        _prompt(words(payload.get("message")), payload.get("message"), when, state, page)
    elif kind == "item_completed":
        _completed(record(payload.get("item")), when, state, page)
    elif kind in ("task_complete", "turn_complete"):
        _end(payload, when, state, page)
    elif is_copy(when, state):
        return
    elif kind in ("turn_aborted", "context_compacted"):
        reason = words(payload.get("reason"))
        add(page, kind, when, Meaning(role=STEP), **({"reason": reason} if reason else {}))
    elif kind in ("error", "stream_error"):
        calls.failure(payload, when, page)
    elif kind == "thread_name_updated" and words(payload.get("thread_name")):
        add(page, "session_name", when, Meaning(role=SESSION), told("title", payload["thread_name"]))
    else:
        tools.ended(payload, state)


def _completed(item: dict[str, Any], when: int, state: dict[str, Any], page: Page) -> None:
    """What the newest versions tell instead of events of their own."""
    if item.get("type") == "UserMessage":
        content = item.get("content")
        _prompt("\n".join(words(part.get("text")) for part in items(content)), content, when, state, page)
    else:
        tools.ended(item, state)


def _user_item(item: dict[str, Any], when: int, state: dict[str, Any], page: Page) -> None:
    """A message that stands in the user's name; most versions tell of those that a user wrote once more."""
    content = item.get("content")
    text = "\n".join(words(part.get("text")) for part in items(content))
    if text and not text.lstrip().startswith(_NOTES):
        _prompt(text, content, when, state, page)


def _prompt(text: str, content: Any, when: int, state: dict[str, Any], page: Page) -> None:
    """What the user asked, once: it stands as a message to the model and as an event, with pictures in one of them."""
    if not text.strip() or is_copy(when, state):
        return
    said, short = state.setdefault("said", []), text.strip()[:_SAID_CHARS]
    if any(short in other or other in short for other in said):
        return
    said.append(short)
    del said[:-_SAID_MAX]
    if not state.get("has_turns"):  # older versions do not name their turns
        state["turns"] = (whole(state.get("turns")) or 0) + 1
        state["turn"] = f"turn-{state['turns']}"
    add(page, "user_message", when, Meaning(role=PROMPT), told("prompt", asked(content)))


def _end(payload: dict[str, Any], when: int, state: dict[str, Any], page: Page) -> None:
    """The end of a turn, and how long it took."""
    duration = whole(payload.get("duration_ms"), 1_000_000)
    turn(payload, state)
    if duration is not None and not is_copy(when, state):
        ttft = whole(payload.get("time_to_first_token_ms"), 1_000_000)
        add(page, "task_complete", when, Meaning(role=PROMPT, duration_ns=duration, ttft_ns=ttft))
