"""The OpenTelemetry GenAI conventions in their three generations, which stand behind every other dialect."""

from __future__ import annotations

from typing import Final

from tachograph import vocabulary
from tachograph.dialects.table import Dialect, Names, Seconds
from tachograph.model import AGENT, MODEL_CALL, STEP, TOOL_RUN

# Where people and products say who and where: read from the record, its scope and its resource.
IDENTITY: Final[dict[str, Names]] = {**vocabulary.IDENTITY}

STANDARD: Final[dict[str, Names]] = {
    "prompt_id": ("prompt.id",),
    "subagent": ("gen_ai.agent.name", "gen_ai.agent.id"),
    "operation": ("gen_ai.operation.name",),
    "provider": ("gen_ai.provider.name", "gen_ai.system"),
    "request_model": ("gen_ai.request.model",),
    "response_model": ("gen_ai.response.model",),
    "response_id": ("gen_ai.response.id",),
    "request_id": ("anthropic.request.id",),
    "input": ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"),
    "output": ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens"),
    "cache_read": (
        "gen_ai.usage.cache_read.input_tokens",
        "gen_ai.usage.cache_read_input_tokens",
        "gen_ai.usage.cache_read_tokens",
        "gen_ai.usage.details.cache_read_tokens",
    ),
    "cache_write": (
        "gen_ai.usage.cache_write.input_tokens",
        "gen_ai.usage.cache_creation.input_tokens",
        "gen_ai.usage.cache_creation_input_tokens",
        "gen_ai.usage.cache_write_input_tokens",
        "gen_ai.usage.cache_write_tokens",
        "gen_ai.usage.details.cache_write_tokens",
    ),
    "cache_write_1h": ("anthropic.usage.cache_creation.ephemeral_1h_input_tokens",),
    "reasoning": (
        "gen_ai.usage.reasoning.output_tokens",
        "gen_ai.usage.reasoning_tokens",
        "gen_ai.usage.details.reasoning_tokens",
    ),
    "service_tier": (
        "openai.response.service_tier",
        "gen_ai.openai.response.service_tier",
        "anthropic.response.service_tier",
        "openai.request.service_tier",
        "gen_ai.openai.request.service_tier",
    ),
    "finish_reason": ("gen_ai.response.finish_reasons", "anthropic.message.stop_reason"),
    "is_streaming": ("gen_ai.request.stream", "gen_ai.is_streaming"),
    "ttft_ns": (
        Seconds("gen_ai.response.time_to_first_chunk"),
        Seconds("gen_ai.client.operation.time_to_first_chunk"),
    ),
    "http_status": ("http.response.status_code",),
    "tool_name": ("gen_ai.tool.name",),
    "tool_call_id": ("gen_ai.tool.call.id",),
    "error_type": ("error.type",),
    "error_message": ("exception.message", "error.message"),
}

CONTENTS: Final[dict[str, tuple[str, ...]]] = {
    "input": ("gen_ai.input.messages", "gen_ai.prompt", "gen_ai.prompt.*"),
    "output": ("gen_ai.output.messages", "gen_ai.completion", "gen_ai.completion.*"),
    "system": ("gen_ai.system_instructions",),
    "tools": ("gen_ai.tool.definitions",),
    "arguments": ("gen_ai.tool.call.arguments",),
    "result": ("gen_ai.tool.call.result",),
}

ROLES: Final[dict[str, dict[str, str]]] = {
    "gen_ai.operation.name": {
        "chat": MODEL_CALL,
        "text_completion": MODEL_CALL,
        "generate_content": MODEL_CALL,
        "embeddings": MODEL_CALL,
        "invoke_agent": AGENT,
        "create_agent": STEP,
        "invoke_workflow": AGENT,
        "execute_tool": TOOL_RUN,
    },
    # A call over MCP carries no tool call id: where it stands inside an execute_tool span, the tree shows it there.
    "mcp.method.name": {"tools/call": TOOL_RUN},
}

DETAILS: Final = "gen_ai.client.inference.operation.details"

GENAI = Dialect(
    name="genai",
    scopes=(
        "opentelemetry.instrumentation.genai.*",
        "opentelemetry.instrumentation.openai_v2",
        "opentelemetry.instrumentation.google_genai",
        "opentelemetry.instrumentation.vertexai",
        "com.anthropic.sdk.*",
    ),
    signatures=("gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.system"),
    named_roles={DETAILS: MODEL_CALL},
)
