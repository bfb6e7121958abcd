"""Pi's session files: a tree of entries, every branch of which was paid for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tachograph.config import Surroundings
from tachograph.lines import Page, items, read_lines, record, time_ns, told, words
from tachograph.model import FORK, MODEL_CALL, PROMPT, SESSION, STEP, TOOL_RUN, Batch, Content, Meaning, Usage
from tachograph.transcripts.blocks import asked, plain
from tachograph.transcripts.pi_origins import enter, origins
from tachograph.vocabulary import FINISH_REASONS, provider, tokens, whole

NAME: Final = "pi"
_PENDING_MAX: Final = 200
_MESSAGE_MAX: Final = 2000
# A failed attempt's message begins with the HTTP status: `429 {...}`, `503: {...}`.
_STATUS: Final = re.compile(r"^\s*([45]\d\d)\b")
# The end of what the shell tool gives back where a command failed.
_EXIT_CODE: Final = re.compile(r"Command exited with code (\d{1,5})\s*$")
_TAIL_CHARS: Final = 60
# Entries that tell of a change, and what of it.
_CHANGES: Final = {"model_change": ("provider", "modelId"), "thinking_level_change": ("thinkingLevel",)}


def discover(where: Surroundings) -> Iterator[Path]:
    """The session files of Pi's folder."""
    variable = "PI_CODING_AGENT_DIR" if where.environment.get("PI_CODING_AGENT_DIR") else "PI_AGENT_DIR"
    for folder in where.folders(variable, ".pi/agent"):
        yield from folder.glob("sessions/*/*.jsonl")


def read(path: Path, since: str) -> tuple[Batch, str]:
    """The prompts, model calls and tool runs of the lines after `since`, and the position after them."""
    return read_lines(path, since, NAME, understand)


def is_mine(path: Path, first: dict[str, Any]) -> bool:
    """Whether a file whose first line is this is one of Pi's."""
    return first.get("type") == "session" and "version" in first and "cwd" in first


def understand(line: dict[str, Any], state: dict[str, Any], page: Page) -> None:
    """Add what one entry tells; OpenClaw writes its sessions the same way."""
    kind, when = words(line.get("type")), time_ns(line.get("timestamp"))
    if kind == "session":
        state.update(cwd=words(line.get("cwd")), chain=origins(line, when, page.path))
    enter(when, state)
    if kind == "message":
        message = record(line.get("message"))
        tell = _MESSAGES.get(words(message.get("role")))
        if tell is not None:
            tell(line, message, when, state, page)
    elif kind in _CHANGES:
        _change(line, kind, when, state, page)
    elif kind == "session_info" and words(line.get("name")):
        _add(page, "session_name", when, Meaning(role=SESSION), line, told("title", line["name"]))
    elif kind in ("usage", "compaction", "branch_summary"):
        _aside(line, kind, when, state, page)


def _change(line: dict[str, Any], kind: str, when: int, state: dict[str, Any], page: Page) -> None:
    if kind == "model_change":
        state.update(provider=words(line.get("provider")), model=words(line.get("modelId")))
    facts = {key: line[key] for key in _CHANGES[kind] if words(line.get(key))}
    _add(page, kind, when, Meaning(role=STEP), line, **facts)


def _aside(line: dict[str, Any], kind: str, when: int, state: dict[str, Any], page: Page) -> None:
    """Cache warming and summaries: calls of their own, which no message tells of; older versions hide their usage."""
    summary = told("response", words(line.get("summary")))
    if record(line.get("usage")):
        given = {
            "model": line.get("model") or state.get("model"),
            "provider": line.get("provider") or state.get("provider"),
        }
        meaning = _meaning(line, {**given, "usage": line["usage"]})
        _add(page, words(line.get("kind")) or kind, when, meaning, line, summary)
    elif kind != "usage":
        _add(page, kind, when, Meaning(role=STEP), line, summary)


def _add(
    page: Page, name: str, when: int, meaning: Meaning, line: dict[str, Any], *contents: Content, **more: Any
) -> None:
    """Add an event with the prompt and the origin of its entry."""
    state = page.state
    meaning.prompt_id = state.get("prompt", "")
    if state.get("origin"):
        meaning.parent_session_id, meaning.lineage = state["origin"], FORK
    page.add(
        name,
        when,
        meaning,
        {**{key: line[key] for key in ("id", "parentId") if words(line.get(key))}, **more},
        *contents,
    )


def _prompt(line: dict[str, Any], message: dict[str, Any], when: int, state: dict[str, Any], page: Page) -> None:
    state["prompt"] = words(line.get("id"))
    _add(page, "user", when, Meaning(role=PROMPT), line, told("prompt", asked(message.get("content"))))


def _bash(line: dict[str, Any], message: dict[str, Any], when: int, state: dict[str, Any], page: Page) -> None:
    """A command that the user ran himself."""
    code = whole(message.get("exitCode"), most=2**31)
    meaning = Meaning(role=STEP, is_error=bool(code))
    texts = (told("arguments", words(message.get("command"))), told("result", words(message.get("output"))))
    _add(page, "user_bash", when, meaning, line, *texts, **({} if code is None else {"exitCode": code}))


def _answer(line: dict[str, Any], message: dict[str, Any], when: int, state: dict[str, Any], page: Page) -> None:
    pending = state.setdefault("tools", {})
    for block in items(message.get("content")):
        if block.get("type") == "toolCall" and words(block.get("id")):
            pending[block["id"]] = [words(block.get("name")), when, block.get("arguments")]
            if len(pending) > _PENDING_MAX:
                del pending[next(iter(pending))]
    meaning = _meaning(line, message)
    stop = words(message.get("stopReason"))
    meaning.finish_reason = FINISH_REASONS.get(stop.lower(), stop)
    meaning.response_id = words(message.get("responseId"))
    meaning.response_model = words(message.get("responseModel"))
    started = time_ns(message.get("timestamp"))
    measured = whole(message.get("durationMs"), 1_000_000)
    meaning.duration_ns = measured if measured is not None else max(0, when - started) if started else None
    if stop in ("error", "aborted"):
        _fail(meaning, words(message.get("errorMessage"))[:_MESSAGE_MAX], stop)
    level = words(message.get("thinkingLevel"))
    output = told("output", plain(message.get("content")))
    _add(page, "assistant", when, meaning, line, output, **({"thinkingLevel": level} if level else {}))


def _fail(meaning: Meaning, message: str, stop: str) -> None:
    meaning.is_error, meaning.error_message = True, message
    status = _STATUS.match(message)
    meaning.http_status = int(status.group(1)) if status else None
    meaning.error_type = status.group(1) if status else stop


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
    usage = tokens(
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
    # Zeros stand for "never told": of a failed attempt, or a stream that died, which 0.73 takes for an answer.
    return usage if usage is not None and (usage.input_total or usage.output) else None


def _tool(line: dict[str, Any], message: dict[str, Any], when: int, state: dict[str, Any], page: Page) -> None:
    call_id, content = words(message.get("toolCallId")), message.get("content")
    name, started, given = state.setdefault("tools", {}).pop(call_id, ("", when, None))
    measured = whole(message.get("durationMs"), 1_000_000)
    meaning = Meaning(
        role=TOOL_RUN,
        tool_name=words(message.get("toolName")) or name,
        tool_call_id=call_id,
        is_error=message.get("isError") is True,
        duration_ns=measured if measured is not None else max(0, when - started),
    )
    if meaning.is_error and (code := _exit_code(content)):
        meaning.error_type, meaning.error_message = "exit_code", f"exit code {code}"
    _add(page, "tool_result", when, meaning, line, told("arguments", given), told("result", plain(content)))
    if record(message.get("usage")):
        nested = {"usage": message["usage"], "model": state.get("model"), "provider": state.get("provider")}
        entry = {**line, "id": words(line.get("id")) + ":usage"}
        _add(page, "tool_usage", when, _meaning(entry, nested), entry)


def _exit_code(content: Any) -> str:
    last = words(items(content)[-1].get("text")) if items(content) else words(content)
    found = _EXIT_CODE.search(last[-_TAIL_CHARS:])
    return found[1] if found else ""


_MESSAGES: Final = {"user": _prompt, "assistant": _answer, "toolResult": _tool, "bashExecution": _bash}
