"""Gemini CLI: each call twice in the logs, once as a span; output tokens exclude thoughts."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from tachograph.dialects.genai import DETAILS
from tachograph.dialects.table import Dialect, Ms, Record
from tachograph.model import AGENT, MODEL_CALL, PROMPT, STEP, TOOL_RUN, Event, Meaning, Span
from tachograph.vocabulary import text, truth

NAME = "gemini-cli"
_REQUEST: Final = "gen_ai.input.messages"
# Where the JSON that an error message carries along begins, and what leads to it.
_JSON: Final = re.compile(r"[\s:.]*(with response:)?\s*[\[{]", re.DOTALL)


def finish(record: Record, meaning: Meaning) -> None:
    """The details event comes once for the request (no call) and once for the response."""
    # Its log record of the call says `gcp.gen_ai`, nothing else says anything; one call has one provider.
    meaning.provider = "gcp.gemini" if meaning.provider in ("", "gcp.gen_ai") else meaning.provider
    meaning.user = meaning.user or text(record.attributes.get("installation.id"))
    if record.name == DETAILS:
        meaning.is_call = meaning.usage is not None or bool(meaning.response_id)
        meaning.role = MODEL_CALL if meaning.is_call else STEP
    if record.name == "gemini_cli.api_error":
        meaning.is_call = meaning.is_error = True
    if truth(record.attributes.get("success")) is False:
        meaning.is_error = True
    if isinstance(record, Event) and meaning.role == STEP and record.name not in ("gemini_cli.config",):
        meaning.is_noise = True
    if meaning.role == MODEL_CALL:
        meaning.operation = "chat"
    elif meaning.role == TOOL_RUN:
        meaning.operation = "execute_tool"
        if isinstance(record, Span):
            _unpack(record, meaning)
    meaning.error_message = _plain(meaning.error_message)


def _unpack(span: Span, meaning: Meaning) -> None:
    """The arguments of a tool lie in an envelope, which says for which prompt it ran; its ids are told elsewhere.

    What is kept of the envelope stands in an attribute, so that the span says the same when it is read again.
    """
    request = _object(span.attributes.get(_REQUEST))
    if "args" in request:
        meaning.prompt_id = meaning.prompt_id or text(request.get("prompt_id"))
        if meaning.prompt_id:
            span.attributes.setdefault("prompt_id", meaning.prompt_id)
        span.attributes[_REQUEST] = msgspec.json.encode(request["args"]).decode()


def _plain(message: str) -> str:
    """An error message without the JSON that it carries along; the message in it where there is nothing else."""
    found = _JSON.search(message)
    if found is None:
        return message
    inner = _object(message[found.end() - 1 :].strip()).get("error")
    said = text(inner.get("message")) if isinstance(inner, dict) else ""
    return said or message[: found.start()] or message


def _object(value: Any) -> dict[str, Any]:
    """The JSON object that a text holds, else an empty one."""
    try:
        found = msgspec.json.decode(value) if isinstance(value, str) and value.startswith("{") else {}
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


GEMINI_CLI = Dialect(
    name=NAME,
    agent=NAME,
    scopes=("gemini-cli",),
    services=("gemini-cli",),
    names=("gemini_cli.",),
    fields={
        "user": ("enduser.id", "user.email"),
        "prompt_id": ("prompt_id",),
        "request_model": ("gen_ai.request.model", "model"),
        "input": ("input_token_count", "gen_ai.usage.input_tokens"),
        "output": ("output_token_count", "gen_ai.usage.output_tokens"),
        "cache_read": ("cached_content_token_count", "gen_ai.usage.cache_read.input_tokens"),
        "reasoning": ("thoughts_token_count",),
        "duration_ns": (Ms("duration_ms"),),
        "finish_reason": ("gen_ai.response.finish_reasons", "finish_reasons"),
        "tool_name": ("function_name", "gen_ai.tool.name"),
        "tool_call_id": ("gen_ai.tool.call_id", "gen_ai.tool.call.id"),
        "result_bytes": ("content_length",),
        "http_status": ("http.status_code", "status_code"),
        "error_type": ("error.type", "error_type"),
        "error_message": ("error.message", "error"),
        "subagent": (),
    },
    roles={
        "gen_ai.operation.name": {
            "llm_call": MODEL_CALL,
            "tool_call": TOOL_RUN,
            "schedule_tool_calls": STEP,
            "user_prompt": PROMPT,
            "system_prompt": STEP,
            "agent_call": AGENT,
        }
    },
    named_roles={
        "gemini_cli.api_response": MODEL_CALL,
        "gemini_cli.api_error": MODEL_CALL,
        "gemini_cli.tool_call": TOOL_RUN,
        "gemini_cli.user_prompt": PROMPT,
        DETAILS: MODEL_CALL,
    },
    contents={
        "prompt": ("prompt",),
        "input": ("request_text",),
        "output": ("response_text",),
        "arguments": ("function_args",),
    },
    noise=("schedule_tool_calls",),  # wraps the tools of one answer
    is_output_inclusive=False,
    finish=finish,
)
