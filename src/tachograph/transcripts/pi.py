"""Pi's session files: a tree of entries, every branch of which was paid for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tachograph.config import Surroundings
from tachograph.lines import Page, items, read_lines, record, time_ns, told, words
from tachograph.model import MODEL_CALL, PROMPT, TOOL_RUN, Batch, Meaning, Usage
from tachograph.vocabulary import FINISH_REASONS, provider, tokens, whole

NAME: Final = "pi"
_PENDING_MAX: Final = 200
# A failed attempt's message begins with the HTTP status: `429 {...}`, `503: {...}`.
# <timestamp>_<session id>.jsonl
_FILE_ID: Final = re.compile(r"_([0-9a-f]{8}-[0-9a-f-]{27})\.jsonl$")
_STATUS: Final = re.compile(r"^\s*([45]\d\d)\b")


def discover(where: Surroundings) -> Iterator[Path]:
    """The session files of Pi's folder."""
    variable = "PI_CODING_AGENT_DIR" if where.environment.get("PI_CODING_AGENT_DIR") else "PI_AGENT_DIR"
    for folder in where.folders(variable, ".pi/agent"):
        yield from folder.glob("sessions/*/*.jsonl")


def read(path: Path, since: str) -> tuple[Batch, str]:
    """The prompts, model calls and tool runs of the lines after `since`, and the position after them."""
    return read_lines(path, since, NAME, _understand)


def is_mine(path: Path, first: dict[str, Any]) -> bool:
    """Whether a file whose first line is this is one of Pi's."""
    return first.get("type") == "session" and "version" in first and "cwd" in first


def _understand(line: dict[str, Any], state: dict[str, Any], page: Page) -> None:
    kind, when = line.get("type"), time_ns(line.get("timestamp"))
    if kind == "session":
        origin = _FILE_ID.search(words(line.get("parentSession")))
        state.update(own=words(line.get("id")), cwd=words(line.get("cwd")), begun=when)
        state["parent"] = origin.group(1) if origin else ""
    # A fork begins with its parent's history, entries and ids as they were: they are the parent's.
    is_copy = bool(state.get("parent")) and 0 < when < int(state.get("begun") or 0)
    state["session"] = state.get("parent" if is_copy else "own", "")
    if kind == "model_change":
        state.update(provider=words(line.get("provider")), model=words(line.get("modelId")))
    elif kind == "message":
        message = record(line.get("message"))
        understand = {"user": _prompt, "assistant": _answer, "toolResult": _tool}.get(words(message.get("role")))
        if understand is not None:
            understand(line, message, when, state, page)
    elif kind in ("usage", "compaction", "branch_summary") and record(line.get("usage")):
        # Cache warming and summaries are calls of their own, which no message tells of.
        given = {
            "model": line.get("model") or state.get("model"),
            "provider": line.get("provider") or state.get("provider"),
        }
        _billed(line, {**given, "usage": line["usage"]}, words(line.get("kind")) or str(kind), when, page)


def _prompt(line: dict[str, Any], message: dict[str, Any], when: int, state: dict[str, Any], page: Page) -> None:
    page.add("user", when, Meaning(role=PROMPT), _ids(line), told("prompt", message.get("content")))


def _ids(line: dict[str, Any]) -> dict[str, Any]:
    return {key: line[key] for key in ("id", "parentId") if words(line.get(key))}


def _answer(line: dict[str, Any], message: dict[str, Any], when: int, state: dict[str, Any], page: Page) -> None:
    pending = state.setdefault("tools", {})
    for block in items(message.get("content")):
        if block.get("type") == "toolCall" and words(block.get("id")) and len(pending) < _PENDING_MAX:
            pending[block["id"]] = [words(block.get("name")), when, block.get("arguments")]
    meaning = _meaning(line, message)
    stop = words(message.get("stopReason"))
    meaning.finish_reason = FINISH_REASONS.get(stop.lower(), stop)
    meaning.response_id = words(message.get("responseId"))
    meaning.response_model = words(message.get("responseModel"))
    started = time_ns(message.get("timestamp"))
    measured = whole(message.get("durationMs"), 1_000_000)
    meaning.duration_ns = measured if measured is not None else max(0, when - started) if started else None
    if stop in ("error", "aborted"):
        meaning.is_error = True
        meaning.error_message = words(message.get("errorMessage"))[:2000]
        status = _STATUS.match(meaning.error_message)
        meaning.http_status = int(status.group(1)) if status else None
        meaning.error_type = status.group(1) if status else stop
        if meaning.usage is not None and not meaning.usage.input_total and not meaning.usage.output:
            meaning.usage = None  # zeros stand for "never told"
    page.add("assistant", when, meaning, _ids(line), told("output", message.get("content")))


def _meaning(line: dict[str, Any], message: dict[str, Any]) -> Meaning:
    """A model call's meaning from anything that carries provider, model and usage."""
    given = record(message.get("usage"))
    cost = record(given.get("cost"))
    total = whole(cost.get("total"), 1_000_000_000)
    return Meaning(
        role=MODEL_CALL,
        is_call=True,
        operation="chat",
        provider=provider(words(message.get("provider"))),
        request_model=words(message.get("model")),
        message_id=words(line.get("id")),
        usage=_usage(given),
        cost_nanousd=total or None,
        cost_kind="" if not total else "billed" if cost.get("totalFromProvider") is True else "source_estimate",
    )


def _usage(given: dict[str, Any]) -> Usage | None:
    return tokens(
        {
            "input": given.get("input"),
            "output": given.get("output"),
            "cache_read": given.get("cacheRead"),
            "cache_write": given.get("cacheWrite"),
            "cache_write_1h": given.get("cacheWrite1h"),
            "reasoning": given.get("reasoning"),
        },
        is_input_inclusive=False,
        is_output_inclusive=True,
    )


def _billed(line: dict[str, Any], given: dict[str, Any], name: str, when: int, page: Page) -> None:
    page.add(name, when, _meaning(line, given), _ids(line))


def _tool(line: dict[str, Any], message: dict[str, Any], when: int, state: dict[str, Any], page: Page) -> None:
    call_id = words(message.get("toolCallId"))
    name, started, given = state.setdefault("tools", {}).pop(call_id, ("", when, None))
    measured = whole(message.get("durationMs"), 1_000_000)
    meaning = Meaning(
        role=TOOL_RUN,
        tool_name=words(message.get("toolName")) or name,
        tool_call_id=call_id,
        is_error=message.get("isError") is True,
        duration_ns=measured if measured is not None else max(0, when - started),
    )
    page.add("tool_result", when, meaning, _ids(line), told("arguments", given), told("result", message.get("content")))
    if record(message.get("usage")):
        nested = {"usage": message["usage"], "model": state.get("model"), "provider": state.get("provider")}
        _billed({**line, "id": words(line.get("id")) + ":usage"}, nested, "tool_usage", when, page)
