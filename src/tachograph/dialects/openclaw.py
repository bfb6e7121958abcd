"""OpenClaw: its own diagnostics exporter, and the observability plugin that people run beside it."""

from __future__ import annotations

from tachograph.dialects.table import Dialect, Dollars, Ms, Record
from tachograph.model import AGENT, MODEL_CALL, PROMPT, SESSION, STEP, TOOL_RUN, TURN, Meaning

NAME = "openclaw"


def finish(record: Record, meaning: Meaning) -> None:
    """`observation_unit` says whether a model call span is one request or the sum of a turn."""
    if record.attributes.get("openclaw.model_call.observation_unit", "request") != "request":
        meaning.is_rollup = meaning.is_call
    if record.name == "openclaw.model.usage":
        meaning.is_rollup = True
        meaning.is_call = meaning.usage is not None
    if record.name.startswith(("openclaw.liveness", "openclaw.context", "openclaw.queue", "openclaw.telemetry")):
        meaning.is_noise = True
        meaning.is_error = False
    if record.attributes.get("openclaw.outcome") in ("error", "failed"):
        meaning.is_error = True
    if meaning.role == MODEL_CALL:
        meaning.operation = "chat"


OPENCLAW = Dialect(
    name=NAME,
    agent=NAME,
    scopes=("openclaw", "openclaw.*"),
    services=("openclaw", "openclaw-gateway"),
    names=("openclaw.",),
    fields={
        "channel": ("openclaw.channel", "channel"),
        "subagent": ("openclaw.agent", "gen_ai.agent.name"),
        "provider": ("gen_ai.provider.name", "openclaw.provider", "gen_ai.system"),
        "request_model": ("gen_ai.request.model", "openclaw.model"),
        "cache_read": ("gen_ai.usage.cache_read.input_tokens", "openclaw.tokens.cache_read"),
        "cache_write": (
            "gen_ai.usage.cache_write.input_tokens",
            "gen_ai.usage.cache_creation.input_tokens",
            "openclaw.tokens.cache_write",
        ),
        "ttft_ns": (Ms("openclaw.model_call.time_to_first_byte_ms"),),
        "tool_name": ("gen_ai.tool.name", "openclaw.toolName"),
        "error_type": ("error.type", "openclaw.errorCategory", "openclaw.failureKind"),
    },
    named_roles={
        "openclaw.run": PROMPT,
        "openclaw.harness.run": AGENT,
        "openclaw.model.call": MODEL_CALL,
        "openclaw.model.usage": STEP,
        "openclaw.tool.execution": TOOL_RUN,
    },
    contents={
        "input": ("openclaw.content.input_messages", "input.value"),
        "output": ("openclaw.content.output_messages", "output.value"),
        "system": ("openclaw.content.system_prompt",),
        "arguments": ("openclaw.content.tool_input",),
        "result": ("openclaw.content.tool_output",),
    },
    finish=finish,
)

OPENCLAW_OBSERVABILITY = Dialect(
    name="openclaw-observability",
    agent=NAME,
    scopes=("openclaw-observability",),
    fields={
        "session_id": ("openclaw.session.key", "gen_ai.conversation.id"),
        "channel": ("openclaw.channel", "channel"),
        "subagent": ("openclaw.agent.id",),
        "cost_nanousd": (Dollars("openclaw.llm.cost_usd"),),
        "tool_name": ("openclaw.tool.name", "gen_ai.tool.name"),
        "tool_call_id": ("openclaw.tool.call_id",),
    },
    named_roles={"openclaw.request": SESSION, "openclaw.agent.turn": TURN, "tool.*": TOOL_RUN},
    is_input_inclusive=False,
)
