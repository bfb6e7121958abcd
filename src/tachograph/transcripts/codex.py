"""Codex rollouts: a usage record for each response, or (older files) running totals."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tachograph.config import Surroundings
from tachograph.lines import Page, items, read_lines, record, time_ns, told, words
from tachograph.model import MODEL_CALL, PROMPT, TOOL_RUN, Batch, Content, Meaning
from tachograph.vocabulary import tokens, whole

NAME: Final = "codex"
_PENDING_MAX: Final = 200
# The file of a sub-agent or a fork begins with its parent's token counts, written at once.
_REPLAY_NS: Final = 1_000_000_000
_CALLS: Final = ("function_call", "custom_tool_call", "local_shell_call")
_OUTPUTS: Final = ("function_call_output", "custom_tool_call_output")
_LINE_TYPES: Final = frozenset(("session_meta", "turn_context", "response_item", "event_msg", "token_usage_record"))


def discover(where: Surroundings) -> Iterator[Path]:
    """The rollouts of Codex's folder, archived ones included."""
    for folder in where.folders("CODEX_HOME", ".codex"):
        for name in ("sessions", "archived_sessions"):
            yield from (folder / name).rglob("rollout-*.jsonl")


def read(path: Path, since: str) -> tuple[Batch, str]:
    """The prompts, model calls and tool runs of the lines after `since`, and the position after them."""
    return read_lines(path, since, NAME, _understand)


def is_mine(path: Path, first: dict[str, Any]) -> bool:
    """Whether a file whose first line is this is one of Codex's."""
    return words(first.get("type")) in _LINE_TYPES and isinstance(first.get("payload"), dict)


def _understand(line: dict[str, Any], state: dict[str, Any], page: Page) -> None:
    kind, payload, when = line.get("type"), record(line.get("payload")), time_ns(line.get("timestamp"))
    if kind == "session_meta":
        _begin(payload, when, state)
    elif kind == "turn_context":
        state["model"] = words(payload.get("model")) or state.get("model", "")
        state["cwd"] = words(payload.get("cwd")) or state.get("cwd", "")
        state["turn"] = words(payload.get("turn_id"))
    elif kind == "token_usage_record":
        state["has_records"] = True
        _call(record(payload.get("usage")), words(payload.get("response_id")), "token_usage_record", when, state, page)
    elif kind == "event_msg" and payload.get("type") == "token_count":
        _count(record(payload.get("info")), when, state, page)
    elif kind == "response_item":
        _item(payload, when, state, page)


def _begin(payload: dict[str, Any], when: int, state: dict[str, Any]) -> None:
    state["session"] = words(payload.get("id")) or words(payload.get("session_id"))
    state["cwd"] = words(payload.get("cwd"))
    state["version"] = words(payload.get("cli_version"))
    state["provider"] = words(payload.get("model_provider"))
    state["branch"] = words(record(payload.get("git")).get("branch"))
    state["begun"] = when
    # Both begin with what their origin had told so far.
    state["has_replay"] = isinstance(payload.get("source"), dict) or bool(words(payload.get("forked_from_id")))


def _item(item: dict[str, Any], when: int, state: dict[str, Any], page: Page) -> None:
    kind, call_id = item.get("type"), words(item.get("call_id"))
    pending = state.setdefault("tools", {})
    if kind == "message" and item.get("role") == "user":
        text = "\n".join(words(part.get("text")) for part in items(item.get("content")))
        # Codex itself puts its environment and instructions in as user messages, always as one tagged block.
        if text and not text.lstrip().startswith("<"):
            page.add("user_message", when, Meaning(role=PROMPT, prompt_id=_turn(state)), {}, told("prompt", text))
    elif kind in ("message", "reasoning") and item.get("role") in ("assistant", None):
        state.setdefault("output", []).append(item.get("content") or item.get("summary"))
        del state["output"][:-20]
    elif kind in _CALLS and call_id and len(pending) < _PENDING_MAX:
        pending[call_id] = [words(item.get("name")), when, item.get("arguments", item.get("input", item.get("action")))]
    elif kind in _OUTPUTS:
        name, started, given = pending.pop(call_id, ("", when, None))
        meaning = Meaning(
            role=TOOL_RUN,
            tool_name=name,
            tool_call_id=call_id,
            duration_ns=max(0, when - started),
            prompt_id=_turn(state),
        )
        page.add("tool_output", when, meaning, {}, told("arguments", given), told("result", item.get("output")))


def _turn(state: dict[str, Any]) -> str:
    return words(state.get("turn"))


def _count(info: dict[str, Any], when: int, state: dict[str, Any], page: Page) -> None:
    """Older files: the last response's usage beside a running total; a repeated total is a repeated line."""
    total = record(info.get("total_token_usage"))
    if not info or state.get("has_records") or total == state.get("total"):
        return
    before = record(state.get("total"))
    state["total"] = total
    if state.get("has_replay") and when - int(state.get("begun") or 0) < _REPLAY_NS:
        return
    last = record(info.get("last_token_usage")) or _grown(before, total)
    _call(last, "", "token_count", when, state, page)


def _grown(before: dict[str, Any], total: dict[str, Any]) -> dict[str, Any]:
    """What a running total grew by, never below 0."""
    counts = {name: whole(amount) for name, amount in total.items()}
    return {name: max(0, n - (whole(before.get(name)) or 0)) for name, n in counts.items() if n is not None}


def _call(given: dict[str, Any], response_id: str, name: str, when: int, state: dict[str, Any], page: Page) -> None:
    usage = tokens(
        {
            "input": given.get("input_tokens"),
            "output": given.get("output_tokens"),
            "cache_read": given.get("cached_input_tokens"),
            "cache_write": given.get("cache_write_input_tokens"),
            "reasoning": given.get("reasoning_output_tokens"),
        },
        is_input_inclusive=True,
        is_output_inclusive=True,
    )
    if usage is None:
        return
    output = [part for parts in state.pop("output", []) for part in items(parts)]
    meaning = Meaning(
        role=MODEL_CALL,
        is_call=True,
        operation="chat",
        provider=words(state.get("provider")),
        request_model=words(state.get("model")),
        response_id=response_id,
        prompt_id=_turn(state),
        usage=usage,
        is_timed=False,
    )
    page.add(name, when, meaning, {}, told("output", output) if output else Content("output", "output", []))
