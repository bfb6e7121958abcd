"""What a Codex rollout says of tool runs: the call, how the run ended, and the result that the model got."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from tachograph.lines import Page, record, told, words
from tachograph.model import SESSION, SUBAGENT, TOOL_RUN, Meaning
from tachograph.transcripts.blocks import plain
from tachograph.transcripts.codex_places import add, is_copy
from tachograph.vocabulary import whole

_PENDING_MAX: Final = 200
_OUTPUT_MAX: Final = 20  # messages and reasoning of one response
_CALLS: Final = ("function_call", "custom_tool_call", "local_shell_call")
_OUTPUTS: Final = ("function_call_output", "custom_tool_call_output")
# The head of what a command gave back, in several versions' words.
_EXIT_CODE: Final = re.compile(r"(?:^|\n)(?:Process exited with code|Exit code:) (\d{1,5})\b")
_HEAD_CHARS: Final = 400
# Starts another session; its output names it.
_SPAWN: Final = "spawn_agent"
_SPAWNED: Final = ("agent_id", "new_thread_id", "receiver_thread_id", "thread_id")
# How long a command took that runs on while the model goes on is told of its start only.
_BACKGROUND: Final = "unified_exec"


def item(payload: dict[str, Any], when: int, state: dict[str, Any], page: Page) -> None:
    """A response item that is no message of the user."""
    kind, call_id = words(payload.get("type")), words(payload.get("call_id"))
    if kind in _OUTPUTS:
        _output(call_id, payload.get("output"), when, state, page)
    elif kind == "reasoning" or (kind == "message" and payload.get("role") == "assistant"):
        _said(payload.get("content") or payload.get("summary"), when, state)
    elif kind in _CALLS and call_id:
        _said(None, when, state)
        _started(call_id, payload, when, state)
    elif kind.endswith("_call") and not is_copy(when, state):
        # Runs at the provider: there is no result of its own.
        meaning = Meaning(role=TOOL_RUN, tool_name=kind.removesuffix("_call"), tool_call_id=words(payload.get("id")))
        meaning.is_error = payload.get("status") == "failed"
        add(page, kind, when, meaning, told("arguments", payload.get("action")))


def _said(content: Any, when: int, state: dict[str, Any]) -> None:
    """Keep what a response consists of until its usage comes, and when the first of it came."""
    first, parts = state.get("output") or (when, [])
    state["output"] = [first, [*parts, plain(content)][-_OUTPUT_MAX:] if content else parts]


def _started(call_id: str, payload: dict[str, Any], when: int, state: dict[str, Any]) -> None:
    pending = state.setdefault("tools", {})
    space, name = words(payload.get("namespace")), words(payload.get("name"))
    name = f"{space}__{name}" if space.startswith("mcp__") else name or "local_shell"
    pending[call_id] = [name, when, payload.get("arguments", payload.get("input", payload.get("action"))), {}]
    if len(pending) > _PENDING_MAX:
        del pending[next(iter(pending))]


def ended(told_of: dict[str, Any], state: dict[str, Any]) -> None:
    """How a tool run ended, of an event that tells so; its result comes after it."""
    call_id = words(told_of.get("call_id")) or words(told_of.get("id"))
    waiting = state.get("tools", {}).get(call_id)
    if waiting is None:
        return
    how: dict[str, Any] = {}
    code = whole(told_of.get("exit_code"), most=2**31)
    result = record(told_of.get("result"))
    if code:
        how["code"] = code
    is_failed = told_of.get("status") in ("failed", "declined") or told_of.get("success") is False
    if is_failed or told_of.get("error") or "Err" in result or result.get("isError") or result.get("is_error"):
        how["is_error"] = True
    duration = _duration(told_of.get("duration"))
    if duration is not None and not words(told_of.get("source")).startswith(_BACKGROUND):
        how["duration_ns"] = duration
    waiting[3] = {**waiting[3], **how}


def _duration(value: Any) -> int | None:
    """Nanoseconds of a duration as Rust writes it: `{"secs": 1, "nanos": 5}`."""
    if not isinstance(value, dict):
        return None
    secs, nanos = whole(value.get("secs"), 1_000_000_000), whole(value.get("nanos"), most=10**9)
    return None if secs is None or nanos is None else secs + nanos


def _output(call_id: str, output: Any, when: int, state: dict[str, Any], page: Page) -> None:
    name, started, given, how = state.setdefault("tools", {}).pop(call_id, ("", when, None, {}))
    if is_copy(when, state):
        return
    content, success = output, None
    if isinstance(output, dict):  # some versions say beside it whether it worked
        content, success = output.get("content", output), output.get("success")
    code = how.get("code") or _code(content)
    meaning = Meaning(
        role=TOOL_RUN,
        tool_name=name,
        tool_call_id=call_id,
        duration_ns=how.get("duration_ns", max(0, when - started)),
        is_error=bool(code) or bool(how.get("is_error")) or success is False,
        error_type="exit_code" if code else "",
        error_message=f"exit code {code}" if code else "",
    )
    add(page, "tool_output", when, meaning, told("arguments", given), told("result", plain(content)))
    if name == _SPAWN:
        _spawned(call_id, content, when, page)


def _code(content: Any) -> int:
    """The exit code that the text of a result begins with; 0 where it has none."""
    if not isinstance(content, str):
        return 0
    head = content[:_HEAD_CHARS]
    found = _EXIT_CODE.search(head.partition("\nOutput:")[0])
    if found:
        return int(found[1])
    told_of = record(_parsed(content)).get("metadata") if head.startswith('{"output"') else None
    return whole(record(told_of).get("exit_code"), most=2**31) or 0


def _parsed(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


def _spawned(call_id: str, content: Any, when: int, page: Page) -> None:
    """Tell the session that a tool run started where it comes from: its own file knows its parent only."""
    answer = record(_parsed(content) if isinstance(content, str) else content)
    child = next((found for key in _SPAWNED if (found := words(answer.get(key)))), "")
    own = words(page.state.get("session"))
    if child and child != own:
        meaning = Meaning(role=SESSION, session_id=child, parent_tool_call_id=call_id)
        meaning.parent_session_id, meaning.lineage = own, SUBAGENT
        page.add("session_spawned", when, meaning, {})
