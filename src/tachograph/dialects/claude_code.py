"""Claude Code, 1.0 to 2.1: spans, log events and metrics; input tokens exclude the cache."""

from __future__ import annotations

from tachograph.dialects.table import Dialect, Dollars, Ms, Record
from tachograph.model import AGENT, MODEL_CALL, PROMPT, STEP, TOOL_RUN, Meaning, Span
from tachograph.vocabulary import truth

NAME = "claude-code"


def finish(record: Record, meaning: Meaning) -> None:
    """What no table can say: earlier attempts, success flags that are strings, sub-agents by id."""
    attributes = record.attributes
    name = record.name.removeprefix("claude_code.")
    if name == "llm_request" or name == "api_error":
        # One span tells of all attempts; log events tell of the last one only, with the number it had.
        meaning.failed_attempts = max(0, (meaning.attempt or 1) - 1)
    if truth(attributes.get("success")) is False:
        meaning.is_error = True
    if name in ("api_error", "api_retries_exhausted"):
        meaning.is_error = True
        meaning.is_call = name == "api_error"
    if name == "tool" and isinstance(record, Span):
        meaning.tool_name = str(attributes.get("tool_name") or meaning.tool_name)
    if name == "interaction":
        meaning.operation = "invoke_agent"


CLAUDE_CODE = Dialect(
    name=NAME,
    agent=NAME,
    scopes=("com.anthropic.claude_code*",),
    services=("claude-code",),
    names=("claude_code.",),
    fields={
        "user": ("user.email", "user.id"),
        "request_model": ("model",),
        "subagent": ("agent.name", "agent_id", "subagent_type"),
        "request_id": ("request_id", "gen_ai.response.id"),
        "response_id": (),
        "message_id": ("message.id",),
        "input": ("input_tokens",),
        "output": ("output_tokens",),
        "cache_read": ("cache_read_tokens",),
        "cache_write": ("cache_creation_tokens",),
        "cache_write_1h": ("cache_creation_1h_tokens",),
        "cost_nanousd": (Dollars("cost_usd"),),
        "ttft_ns": (Ms("ttft_ms"),),
        "duration_ns": (Ms("duration_ms"),),
        "finish_reason": ("stop_reason", "gen_ai.response.finish_reasons"),
        "service_tier": ("speed",),
        "attempt": ("attempt",),
        "http_status": ("status_code",),
        "tool_name": ("tool_name", "gen_ai.tool.name"),
        "tool_call_id": ("tool_use_id", "gen_ai.tool.call.id"),
        "error_type": ("error.type", "error_type", "error_class"),
        "error_message": ("error",),
    },
    named_roles={
        "claude_code.interaction": PROMPT,
        "claude_code.llm_request": MODEL_CALL,
        "claude_code.tool": TOOL_RUN,
        "claude_code.tool.*": STEP,
        "claude_code.subagent.spawn": AGENT,
        "api_request": MODEL_CALL,
        "api_error": MODEL_CALL,
        "tool_result": TOOL_RUN,
        "user_prompt": PROMPT,
    },
    contents={
        "prompt": ("user_prompt", "prompt", "prompt_text"),
        "response": ("response", "response.model_output"),
        "system": ("system_prompt", "system_prompt_preview"),
        "tools": ("tools", "tool"),
        "arguments": ("tool_input", "tool_parameters", "full_command", "file_path"),
        "input": ("new_context", "system_reminders"),
    },
    is_input_inclusive=False,
    masks=("<REDACTED>", "custom", "custom_skill", "mcp_tool"),
    finish=finish,
)
