"""OpenClaw: its own diagnostics exporter, and the observability plugin that people run beside it."""

from __future__ import annotations

from tachograph.dialects.table import Dialect, Dollars, Ms, Record
from tachograph.model import AGENT, MODEL_CALL, PROMPT, SESSION, STEP, TOOL_RUN, TURN, Event, Meaning
from tachograph.vocabulary import text, tokens

NAME = "openclaw"
_ERROR = 17  # OTLP SeverityNumber


def finish(record: Record, meaning: Meaning) -> None:
    """`observation_unit` says whether a model call span is one request or the sum of a turn."""
    if record.attributes.get("openclaw.model_call.observation_unit", "request") != "request":
        meaning.is_rollup = meaning.is_call
    if record.name == "openclaw.model.usage":
        _run_total(record, meaning)
    if meaning.is_noise:
        meaning.is_error = False
    elif isinstance(record, Event) and not record.name and record.severity < _ERROR:
        meaning.is_noise = True  # lines of the gateway's own log
    if text(record.attributes.get("openclaw.outcome")) in ("error", "failed"):
        meaning.is_error = True
    if meaning.role == MODEL_CALL:
        meaning.operation = "chat"
    elif meaning.role == TOOL_RUN:
        meaning.operation = "execute_tool"


def _run_total(record: Record, meaning: Meaning) -> None:
    """A run's total stands beside its calls, not above them, so it counts only from versions that tell of no calls:
    those have their own names for tokens, with input beside cache."""
    attributes = record.attributes
    is_alone = not any(key.startswith("gen_ai.usage.") for key in attributes)
    if is_alone:
        names = ("input", "output", "cache_read", "cache_write")
        meaning.usage = tokens({name: attributes.get(f"openclaw.tokens.{name}") for name in names}, False, True)
    meaning.is_rollup = True
    meaning.is_call = is_alone and meaning.usage is not None


OPENCLAW = Dialect(
    name=NAME,
    agent=NAME,
    scopes=("openclaw", "openclaw.*"),
    services=("openclaw", "openclaw-gateway"),
    names=("openclaw.",),
    fields={
        "session_id": ("openclaw.sessionId", "openclaw.sessionKey", "session.id", "gen_ai.conversation.id"),
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
    noise=("openclaw.liveness*", "openclaw.context*", "openclaw.queue*", "openclaw.telemetry*"),
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
