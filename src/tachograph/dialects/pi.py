"""Pi's telemetry extensions: pi-otel-telemetry, @damngamerz/pi-otel, and those whose spans are called `pi.*`;
input tokens exclude the cache."""

from __future__ import annotations

import re
from typing import Final

from tachograph.dialects.table import Dialect, Dollars, Ms, Record
from tachograph.model import AGENT, MODEL_CALL, PROMPT, SESSION, STEP, TOOL_RUN, TURN, Event, Meaning
from tachograph.vocabulary import truth

NAME = "pi"
# <timestamp>_<session id>.jsonl: the extension gives the session file's path for its id.
_SESSION_FILE: Final = re.compile(r"_([0-9a-f]{8}-[0-9a-f-]{27})\.jsonl$")


def _failed(meaning: Meaning) -> None:
    """A call that used nothing is a failed attempt, which these extensions export as a success with zeros."""
    usage = meaning.usage
    if usage is not None and not usage.input_total and not usage.output:
        meaning.usage = None
        meaning.is_call = meaning.is_error = True
        meaning.cost_nanousd, meaning.cost_kind = None, ""


def finish_otel(record: Record, meaning: Meaning) -> None:
    """A turn is one model call and its tool runs; the session's totals repeat the turns'."""
    if meaning.session_id == "ephemeral":
        meaning.session_id = ""  # what every session without a file is called
    found = _SESSION_FILE.search(meaning.session_id)
    if found:
        meaning.session_id = found.group(1)
    model = str(record.attributes.get("llm.model") or "")
    if "/" in model:
        meaning.provider, _, meaning.request_model = model.partition("/")
    if record.name == "agent.turn":
        meaning.is_rollup, meaning.is_call = False, meaning.usage is not None
        meaning.operation = "chat"
        _failed(meaning)
    if truth(record.attributes.get("tool.is_error")):
        meaning.is_error = True


PI_OTEL_TELEMETRY = Dialect(
    name="pi-otel-telemetry",
    agent=NAME,
    scopes=("pi-otel-extension", "pi-coding-agent"),
    services=("pi-coding-agent",),
    fields={
        "environment": ("deployment.environment.name", "deployment.environment", "environment"),
        "request_model": (),
        "input": ("llm.usage.input_tokens",),
        "output": ("llm.usage.output_tokens",),
        "cache_read": ("llm.usage.cache_read_tokens",),
        "cache_write": ("llm.usage.cache_write_tokens",),
        "tool_name": ("tool.name",),
        "tool_call_id": ("tool.call_id",),
        "duration_ns": (Ms("tool.duration_ms"),),
    },
    named_roles={"session": SESSION, "agent.prompt": PROMPT, "agent.turn": TURN, "tool.*": TOOL_RUN},
    contents={"arguments": ("tool.args_summary",)},
    is_input_inclusive=False,
    finish=finish_otel,
)


def finish_damngamerz(record: Record, meaning: Meaning) -> None:
    """Its agent span is the prompt; the cache parts stand beside the input tokens."""
    if record.name.startswith("invoke_agent"):
        meaning.role = PROMPT
    elif record.name.startswith("execute_tool"):
        meaning.role = TOOL_RUN
    elif meaning.role == STEP and record.name == "pi turn":
        meaning.role = TURN
    if meaning.role == MODEL_CALL:
        _failed(meaning)
    if meaning.role == MODEL_CALL and meaning.http_status is not None and meaning.http_status >= 400:
        meaning.is_error = True


DAMNGAMERZ_PI_OTEL = Dialect(
    name="damngamerz-pi-otel",
    agent=NAME,
    scopes=("@damngamerz/pi-otel",),
    fields={
        "subagent": (),
        "provider": ("gen_ai.provider.name",),
        "cache_read": ("pi.usage.cache_read_tokens",),
        "cache_write": ("pi.usage.cache_write_tokens",),
        "cost_nanousd": (Dollars("pi.cost.usd"),),
    },
    is_input_inclusive=False,
    finish=finish_damngamerz,
)


def finish_spans(record: Record, meaning: Meaning) -> None:
    """A failed call has the status of the answer, but not of the span."""
    if isinstance(record, Event):  # says again that a call or a tool failed
        meaning.role, meaning.is_call = STEP, False
        return
    if meaning.role == MODEL_CALL:
        meaning.operation = "chat"
        _failed(meaning)
        if meaning.http_status is not None and meaning.http_status >= 400:
            meaning.is_error = True
    elif meaning.role == TOOL_RUN and not meaning.tool_name:
        meaning.tool_name = record.name.removeprefix("pi.tool").lstrip(".: ").partition("(")[0]


# NikiforovAll/pi-otel (calls with tokens) and @devkade/pi-opentelemetry (no calls, no tokens on spans).
PI_SPANS = Dialect(
    name="pi-spans",
    agent=NAME,
    names=("pi.interaction", "pi.session", "pi.agent", "pi.turn", "pi.llm_request", "pi.tool"),
    fields={
        "session_id": ("pi.session.id", "session.id", "gen_ai.conversation.id"),
        "subagent": (),
        "cost_nanousd": (Dollars("pi.cost.usd"),),
        # Its `gen_ai.response.id` is the header x-request-id.
        "response_id": (),
        "request_id": ("gen_ai.response.id",),
        "tool_name": ("gen_ai.tool.name", "tool.name"),
        "tool_call_id": ("gen_ai.tool.call.id", "tool.call_id"),
    },
    named_roles={
        "pi.interaction": PROMPT,
        "pi.session*": SESSION,
        "pi.agent": AGENT,
        "pi.turn": TURN,
        "pi.llm_request": MODEL_CALL,
        "pi.tool*": TOOL_RUN,
    },
    is_input_inclusive=False,
    finish=finish_spans,
)
