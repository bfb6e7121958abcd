"""Codex CLI: log events tell each call, spans are mostly the program's own internals."""

from __future__ import annotations

from typing import Final

from tachograph.dialects.table import Dialect, Dollars, Ms, Record
from tachograph.model import MODEL_CALL, PROMPT, STEP, TOOL_RUN, Event, Meaning
from tachograph.vocabulary import text, truth, whole

NAME = "codex"
# The one span that stands for a model call among several of its name is the one with usage.
_CALL_SPAN: Final = "handle_responses"


def finish(record: Record, meaning: Meaning) -> None:
    """Which of the many records are calls and tool runs; all other spans are internals."""
    attributes = record.attributes
    meaning.provider = meaning.provider or "openai"
    if isinstance(record, Event):
        _finish_event(record, meaning)
        return
    if record.name == _CALL_SPAN:
        meaning.role, meaning.is_call = (MODEL_CALL, True) if meaning.usage else (STEP, False)
        # It begins with the last piece of the answer, not with the request.
        meaning.is_rollup = meaning.is_timed = False
    elif record.name == "session_task.turn":
        meaning.role, meaning.is_rollup, meaning.is_call = PROMPT, True, meaning.usage is not None
    elif attributes.get("codex.tool.phase") or record.name == "mcp.tools.call":
        meaning.role = TOOL_RUN
        server = text(attributes.get("mcp.server.name"))
        if server and meaning.tool_name:
            meaning.tool_name = f"mcp__{server}__{meaning.tool_name}"
    else:
        meaning.usage, meaning.is_call = None, False
    meaning.is_noise = meaning.role == STEP
    meaning.operation = "chat" if meaning.role == MODEL_CALL else ""


def _finish_event(event: Event, meaning: Meaning) -> None:
    status = meaning.http_status or 0
    meaning.is_call = False
    if event.name == "codex.sse_event":
        # A stream that breaks off tells so instead of its tokens; its request was told as a success.
        meaning.is_error = text(event.attributes.get("event.kind")) == "response.failed"
        meaning.is_call = meaning.usage is not None or meaning.is_error
        meaning.is_timed = False
        meaning.role = MODEL_CALL if meaning.is_call else STEP
        meaning.is_noise = not meaning.is_call
        meaning.operation = "chat" if meaning.is_call else ""
    elif event.name == "codex.api_request":
        # A request that succeeded announces a call: its tokens are told when its stream completes, if that is exported.
        failed = status >= 400 or (status == 0 and bool(event.attributes.get("error.message")))
        meaning.is_error = failed
        meaning.is_call = str(event.attributes.get("endpoint", "/responses")).endswith("/responses")
        meaning.is_rollup = meaning.is_call and not failed
        meaning.role = MODEL_CALL if meaning.is_call and failed else STEP
        meaning.operation = "chat" if meaning.is_call else ""
        meaning.is_noise = not meaning.is_call
        meaning.error_type = str(status) if failed and status else meaning.error_type
        # The attempt starts from 0 here and counts inside one request only.
        meaning.attempt = (whole(event.attributes.get("attempt"), most=100) or 0) + 1
    elif event.name in ("codex.tool_result", "codex.user_prompt"):
        meaning.is_error = truth(event.attributes.get("success")) is False
        space = text(event.attributes.get("tool_namespace"))
        name = meaning.tool_name.removeprefix(space)
        if name:
            meaning.tool_name = f"{space}__{name}" if space.startswith("mcp__") else name
    elif event.name not in ("codex.conversation_starts", "codex.tool_decision", "codex.turn_cost"):
        meaning.is_noise = True


CODEX = Dialect(
    name=NAME,
    agent=NAME,
    scopes=("codex", "codex_*"),
    services=("codex_cli_rs", "codex_exec", "codex-cli", "codex"),
    names=("codex.",),
    fields={
        "session_id": ("conversation.id", "thread_id", "session.id"),
        "prompt_id": ("turn.id", "turn_id"),
        "user": ("enduser.id", "user.email", "user.account_id"),
        "provider": ("gen_ai.provider.name", "provider_name"),
        "request_model": ("model", "slug"),
        "input": ("input_token_count", "gen_ai.usage.input_tokens", "codex.turn.token_usage.input_tokens"),
        "output": ("output_token_count", "gen_ai.usage.output_tokens", "codex.turn.token_usage.output_tokens"),
        "cache_read": (
            "cached_token_count",
            "gen_ai.usage.cache_read.input_tokens",
            "codex.turn.token_usage.cached_input_tokens",
        ),
        "cache_write": (
            "cache_write_token_count",
            "gen_ai.usage.cache_write.input_tokens",
            "codex.turn.token_usage.cache_write_input_tokens",
        ),
        "reasoning": (
            "reasoning_token_count",
            "codex.usage.reasoning_output_tokens",
            "codex.turn.token_usage.reasoning_output_tokens",
        ),
        "cost_nanousd": (Dollars("usage.estimated_usd"),),  # of a whole turn
        "duration_ns": (Ms("duration_ms"),),
        "ttft_ns": (Ms("ttft_ms"),),
        "tool_name": ("tool_name", "tool.name"),
        "tool_call_id": ("call_id", "tool.call_id"),
        "http_status": ("http.response.status_code",),
    },
    named_roles={
        "codex.sse_event": MODEL_CALL,
        "codex.api_request": MODEL_CALL,
        "codex.tool_result": TOOL_RUN,
        "codex.user_prompt": PROMPT,
        "handle_responses": STEP,
    },
    contents={"prompt": ("prompt",), "arguments": ("arguments",), "result": ("output",)},
    masks=("[REDACTED]",),
    finish=finish,
)
