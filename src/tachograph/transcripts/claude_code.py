"""Claude Code's transcripts: one line per content block, so one answer stands on several lines with the same ids."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tachograph.config import Surroundings
from tachograph.lines import Page, items, read_decoded, record, time_ns, told, words
from tachograph.model import MODEL_CALL, SESSION, STEP, Batch, Meaning
from tachograph.transcripts import claude_code_input as given
from tachograph.transcripts.blocks import plain
from tachograph.transcripts.claude_code_lines import Line, decode, text_of
from tachograph.transcripts.claude_code_places import add, enter, follow
from tachograph.vocabulary import FINISH_REASONS, tokens, whole

NAME: Final = "claude-code"
_CLOUDS: Final = {"msg_bdrk_": "aws.bedrock", "msg_vrtx_": "gcp.vertex_ai"}
# Requests and tool calls whose answer has not come yet, carried from one reading to the next; the oldest go first.
_REQUESTS_MAX: Final = 50
_PENDING_MAX: Final = 200
_MESSAGE_MAX: Final = 2000
_STATUS: Final = re.compile(r"API Error(?: \(|: )([45]\d\d)\b")
# What the system lines tell with numbers.
_MEASURES: Final = {"trigger": "trigger", "preTokens": "tokens_before", "postTokens": "tokens_after"}


def discover(where: Surroundings) -> Iterator[Path]:
    """The sessions of all projects, their sub-agents' files included."""
    config = where.environment.get("XDG_CONFIG_HOME") or ".config"
    for folder in where.folders("CLAUDE_CONFIG_DIR", ".claude", f"{config}/claude"):
        yield from (folder / "projects").rglob("*.jsonl")


def read(path: Path, since: str) -> tuple[Batch, str]:
    """The prompts, model calls and tool runs of the lines after `since`, and the position after them."""
    return read_decoded(path, since, NAME, decode, _understand)


def is_mine(path: Path, first: dict[str, Any]) -> bool:
    """Whether a file whose first line is this is one of Claude Code's."""
    kind = first.get("type")
    if kind == "summary":  # of the session that this one goes on with
        return "leafUuid" in first
    return kind == "file-history-snapshot" or ("sessionId" in first and isinstance(kind, str) and kind != "session")


def _understand(line: Line, state: dict[str, Any], page: Page) -> None:
    enter(line, state)
    kind = line.type
    if kind == "assistant":
        _answer(line, state, page)
    elif kind == "user":
        given.understand(line, state, page)
    elif kind == "system":
        _system(line, page)
    elif kind == "attachment":
        given.queued(line, page)
    elif kind == "api-request":
        _request(line, state)
    else:
        _name(line, state)
    if "title" in state and state.get("session") and (when := time_ns(line.timestamp)):
        add(page, "session_name", when, Meaning(role=SESSION), Line(), told("title", state.pop("title")))


def _request(line: Line, state: dict[str, Any]) -> None:
    """When the newest versions sent a request."""
    if isinstance(line.id, str):
        requests = state.setdefault("requests", {})
        requests[line.id] = time_ns(line.timestamp)
        if len(requests) > _REQUESTS_MAX:
            del requests[next(iter(requests))]


def _name(line: Line, state: dict[str, Any]) -> None:
    """What the session is called; a name that the user gave is not replaced by one that Claude Code made up."""
    if words(line.custom_title):
        state["title"], state["has_name"] = line.custom_title, True
    elif not state.get("has_name") and (title := words(line.ai_title) or words(line.summary)):
        state["title"] = title


def _system(line: Line, page: Page) -> None:
    when, subtype = time_ns(line.timestamp), words(line.subtype)
    if subtype == "api_error":
        error = record(line.error)
        _failure(line, whole(error.get("status"), 1, 599), words(error.get("formatted") or error.get("message")), page)
        return
    told_of = record(line.compact_metadata)
    more = {name: told_of[key] for key, name in _MEASURES.items() if isinstance(told_of.get(key), str | int)}
    duration = line.duration_ms if line.duration_ms is not None else told_of.get("durationMs")
    meaning = Meaning(role=STEP, is_noise=True, duration_ns=whole(duration, 1_000_000))
    if words(line.content) or meaning.duration_ns is not None:
        add(page, subtype or "system", when, meaning, line, told("response", words(line.content)), **more)


def _failure(line: Line, status: int | None, message: str, page: Page) -> None:
    """An attempt that failed: one that was tried again, or the last one."""
    meaning = Meaning(
        role=MODEL_CALL,
        is_call=True,
        operation="chat",
        request_id=words(line.request_id) or words(record(line.error).get("requestID")),
        attempt=whole(line.retry_attempt, most=100),
        http_status=status,
        is_error=True,
        error_type=str(status) if status else "api_error",
        error_message=message[:_MESSAGE_MAX],
    )
    add(page, "api_error", time_ns(line.timestamp), meaning, line)


def _answer(line: Line, state: dict[str, Any], page: Page) -> None:
    given.settle_command(state, page)
    follow(line, page)
    message = record(line.message)
    model, when = words(message.get("model")), time_ns(line.timestamp)
    content = message.get("content")
    if model == "<synthetic>" or line.is_api_error_message:
        _synthetic(line, when, content, page)
        return
    pending = state.setdefault("tools", {})
    for block in items(content):
        if block.get("type") == "tool_use" and isinstance(block.get("id"), str):
            pending[block["id"]] = [words(block.get("name")), when, block.get("input")]
            if len(pending) > _PENDING_MAX:
                del pending[next(iter(pending))]
    used, text = record(message.get("usage")), told("output", plain(content))
    add(page, "assistant", when, _meaning(line, message, used, when, state), line, text, **_extras(used))


def _synthetic(line: Line, when: int, content: Any, page: Page) -> None:
    """What Claude Code says itself where an answer should stand: mostly why there is none."""
    text = text_of(content)
    status = _STATUS.search(text[:_MESSAGE_MAX])
    if line.is_api_error_message and status:
        _failure(line, int(status[1]), text, page)
    else:
        is_error = bool(line.is_api_error_message)
        meaning = Meaning(role=STEP, is_error=is_error, error_type="api_error" if is_error else "")
        add(page, "api_error_message", when, meaning, line, told("response", content))


def _extras(used: dict[str, Any]) -> dict[str, Any]:
    """What else is billed, or billed differently."""
    more: dict[str, Any] = {}
    searches = record(used.get("server_tool_use")).get("web_search_requests")
    if searches and isinstance(searches, int):
        more["web_search_requests"] = searches
    if words(used.get("inference_geo")):
        more["inference_geo"] = used["inference_geo"]
    return more


def _meaning(line: Line, message: dict[str, Any], used: dict[str, Any], when: int, state: dict[str, Any]) -> Meaning:
    parts = record(used.get("cache_creation"))
    usage = tokens(
        {
            "input": used.get("input_tokens"),
            "output": used.get("output_tokens"),
            "cache_read": used.get("cache_read_input_tokens"),
            "cache_write": used.get("cache_creation_input_tokens"),
            "cache_write_1h": parts.get("ephemeral_1h_input_tokens"),
            "reasoning": record(used.get("output_tokens_details")).get("thinking_tokens"),
        },
        is_input_inclusive=False,
        is_output_inclusive=True,
    )
    model, message_id, stop = (words(message.get(key)) for key in ("model", "id", "stop_reason"))
    sent = state.get("requests", {}).get(line.request_ref, 0) if isinstance(line.request_ref, str) else 0
    cost = whole(line.cost_usd, 1_000_000_000) if line.cost_usd is not None else None
    return Meaning(
        role=MODEL_CALL,
        is_call=usage is not None,
        operation="chat",
        provider=_provider(message_id),
        request_model=model,
        response_model=model,
        response_id=message_id,
        request_id=words(line.request_id),
        usage=usage,
        duration_ns=when - sent if 0 < sent <= when else None,
        service_tier="fast" if used.get("speed") == "fast" else words(used.get("service_tier")),
        finish_reason=FINISH_REASONS.get(stop.lower(), stop),
        cost_nanousd=cost,
        cost_kind="source_estimate" if cost is not None else "",
    )


def _provider(message_id: str) -> str:
    """Who answered, by the id: the clouds put their own mark behind `msg_`."""
    return next((name for mark, name in _CLOUDS.items() if message_id.startswith(mark)), "anthropic")
