"""Claude Code's transcripts: one line per content block, so one answer stands on several lines with the same ids."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tachograph.config import Surroundings
from tachograph.lines import Page, items, read_lines, record, time_ns, told, words
from tachograph.model import MODEL_CALL, PROMPT, STEP, TOOL_RUN, Batch, Meaning
from tachograph.vocabulary import FINISH_REASONS, tokens, whole

NAME: Final = "claude-code"
_CLOUDS: Final = {"msg_bdrk_": "aws.bedrock", "msg_vrtx_": "gcp.vertex_ai"}
# Tool calls whose result has not come yet, carried from one reading to the next; more than these are forgotten.
_PENDING_MAX: Final = 200


def discover(where: Surroundings) -> Iterator[Path]:
    """The sessions of all projects, their sub-agents' files included."""
    config = where.environment.get("XDG_CONFIG_HOME") or ".config"
    for folder in where.folders("CLAUDE_CONFIG_DIR", ".claude", f"{config}/claude"):
        yield from (folder / "projects").rglob("*.jsonl")


def read(path: Path, since: str) -> tuple[Batch, str]:
    """The prompts, model calls and tool runs of the lines after `since`, and the position after them."""
    return read_lines(path, since, NAME, _understand)


def is_mine(path: Path, first: dict[str, Any]) -> bool:
    """Whether a file whose first line is this is one of Claude Code's."""
    kind = first.get("type")
    if kind == "summary":  # of the session that this one goes on with
        return "leafUuid" in first
    return kind == "file-history-snapshot" or ("sessionId" in first and isinstance(kind, str) and kind != "session")


def _understand(line: dict[str, Any], state: dict[str, Any], page: Page) -> None:
    for key, name in (("sessionId", "session"), ("cwd", "cwd"), ("gitBranch", "branch"), ("version", "version")):
        if words(line.get(key)):
            state[name] = line[key]
    kind = line.get("type")
    if kind == "assistant":
        _answer(line, state, page)
    elif kind == "user":
        _input(line, state, page)
    elif kind == "system" and words(line.get("content")):
        meaning = Meaning(role=STEP, is_noise=True)
        page.add("system", time_ns(line.get("timestamp")), meaning, _ids(line), told("response", line["content"]))


def _ids(line: dict[str, Any]) -> dict[str, Any]:
    return {key: line[key] for key in ("uuid", "parentUuid", "isSidechain", "agentId", "subtype") if line.get(key)}


def _subagent(line: dict[str, Any]) -> str:
    return words(line.get("agentId"))


def _answer(line: dict[str, Any], state: dict[str, Any], page: Page) -> None:
    message = record(line.get("message"))
    model, when = words(message.get("model")), time_ns(line.get("timestamp"))
    if model == "<synthetic>" or line.get("isApiErrorMessage"):
        meaning = Meaning(role=STEP, is_error=True, subagent=_subagent(line), error_type="api_error")
        page.add("api_error_message", when, meaning, _ids(line), told("response", message.get("content")))
        return
    given = record(message.get("usage"))
    parts = record(given.get("cache_creation"))
    usage = tokens(
        {
            "input": given.get("input_tokens"),
            "output": given.get("output_tokens"),
            "cache_read": given.get("cache_read_input_tokens"),
            "cache_write": given.get("cache_creation_input_tokens"),
            "cache_write_1h": parts.get("ephemeral_1h_input_tokens"),
            "reasoning": record(given.get("output_tokens_details")).get("thinking_tokens"),
        },
        is_input_inclusive=False,
        is_output_inclusive=True,
    )
    stop = words(message.get("stop_reason"))
    fast = given.get("speed") == "fast"
    meaning = Meaning(
        role=MODEL_CALL,
        is_call=usage is not None,
        operation="chat",
        provider=_provider(words(message.get("id"))),
        request_model=model,
        response_model=model,
        response_id=words(message.get("id")),
        request_id=words(line.get("requestId")),
        usage=usage,
        subagent=_subagent(line),
        service_tier="fast" if fast else words(given.get("service_tier")),
        finish_reason=FINISH_REASONS.get(stop.lower(), stop),
        cost_nanousd=whole(line.get("costUSD"), 1_000_000_000),
        cost_kind="source_estimate" if whole(line.get("costUSD"), 1_000_000_000) is not None else "",
    )
    blocks = items(message.get("content"))
    pending = state.setdefault("tools", {})
    for block in blocks:
        if block.get("type") == "tool_use" and words(block.get("id")) and len(pending) < _PENDING_MAX:
            pending[block["id"]] = [words(block.get("name")), when, block.get("input")]
    page.add("assistant", when, meaning, _ids(line), told("output", message.get("content")))


def _provider(message_id: str) -> str:
    """Who answered, by the id: the clouds put their own mark behind `msg_`."""
    return next((name for mark, name in _CLOUDS.items() if message_id.startswith(mark)), "anthropic")


def _input(line: dict[str, Any], state: dict[str, Any], page: Page) -> None:
    content = record(line.get("message")).get("content")
    when = time_ns(line.get("timestamp"))
    results = [block for block in items(content) if block.get("type") == "tool_result"]
    pending = state.setdefault("tools", {})
    for block in results:
        call_id = words(block.get("tool_use_id"))
        name, started, given = pending.pop(call_id, ("", when, None))
        meaning = Meaning(
            role=TOOL_RUN,
            tool_name=name,
            tool_call_id=call_id,
            is_error=block.get("is_error") is True,
            duration_ns=max(0, when - started),
            subagent=_subagent(line),
        )
        page.add(
            "tool_result", when, meaning, _ids(line), told("arguments", given), told("result", block.get("content"))
        )
    if not results and content and not line.get("isMeta"):
        # A sub-agent's first line is the task that its parent gave it, not something the user asked.
        is_user = not line.get("isSidechain") and not line.get("agentId")
        meaning = Meaning(role=PROMPT if is_user else STEP, subagent=_subagent(line))
        page.add("user", when, meaning, _ids(line), told("prompt", content))
