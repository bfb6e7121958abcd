"""Claude Code, 1.0 to 2.1: spans, log events and metrics; input tokens exclude the cache."""

from __future__ import annotations

import msgspec

from tachograph.dialects.table import Dialect, Dollars, Ms, Record
from tachograph.model import AGENT, MODEL_CALL, PROMPT, STEP, TOOL_RUN, Meaning
from tachograph.vocabulary import text, truth

NAME = "claude-code"


def finish(record: Record, meaning: Meaning) -> None:
    """What no table can say: earlier attempts, success flags that are strings, names of MCP tools."""
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
    if name in ("llm_request", "api_request", "api_error"):
        meaning.operation = "chat"
    elif name == "interaction":
        meaning.operation = "invoke_agent"
    elif name == "mcp_server_connection" and attributes.get("status") == "failed":
        meaning.is_noise, meaning.is_error = False, True
    if attributes.get("tool_name") == "mcp_tool":
        meaning.tool_name = _mcp_tool(attributes.get("tool_parameters")) or meaning.tool_name
    # `user.id` is a hash of the installation: a person named by the operator says more.
    meaning.user = meaning.user or text(attributes.get("user.id"))


def _mcp_tool(parameters: object) -> str:
    """The name of an MCP tool as its span says it (`mcp__server__tool`), from a log record that masks it."""
    try:
        given = msgspec.json.decode(parameters) if isinstance(parameters, str) else None
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return ""
    if not isinstance(given, dict):
        return ""
    server, tool = text(given.get("mcp_server_name")), text(given.get("mcp_tool_name"))
    return f"mcp__{server}__{tool}" if server and tool else ""


CLAUDE_CODE = Dialect(
    name=NAME,
    agent=NAME,
    scopes=("com.anthropic.claude_code*",),
    services=("claude-code",),
    names=("claude_code.",),
    fields={
        "user": ("enduser.id", "user.email", "user.name"),
        "provider": ("gen_ai.provider.name", "gen_ai.system", "anthropic.provider"),
        "request_model": ("model",),
        # The id first: it stands on spans, log records and transcripts alike, the name on some records only.
        "subagent": ("agent_id", "agent.name"),
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
        "arguments_bytes": ("tool_input_size_bytes",),
        "result_bytes": ("tool_result_size_bytes",),
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
    noise=(
        *("managed_settings_resolved", "plugin_loaded", "plugin_installed", "hook_registered", "hook_plugin_metrics"),
        *("hook_execution_start", "hook_execution_complete", "retention_sweep", "feedback_survey", "auth", "tool"),
        *("mcp_server_connection", "claude_code.hook", "claude_code.mcp.rpc", "claude_code.bash.subprocess"),
    ),
    contents={
        "prompt": ("user_prompt", "prompt", "prompt_text"),
        "response": ("response", "response.model_output"),
        "system": ("system_prompt", "system_prompt_preview"),
        "tools": ("tools", "tool"),
        "arguments": ("tool_input", "tool_parameters", "full_command", "file_path"),
        "input": ("new_context", "system_reminders"),
    },
    named_contents={
        "claude_code.tool": {"new_context": "result"},
        "api_request_body": {"body": "input"},
        "api_response_body": {"body": "output"},
    },
    is_input_inclusive=False,
    masks=("<REDACTED>", "custom", "custom_skill", "mcp_tool"),
    finish=finish,
)
