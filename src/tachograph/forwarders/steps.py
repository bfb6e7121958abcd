"""What is told of a step whatever the destination's words for it are: valid ids, its names, its numbers."""

from __future__ import annotations

import json
import re
from hashlib import blake2b
from typing import Any, Final

import msgspec

from tachograph.forwarders.contract import Step
from tachograph.model import AGENT, MODEL_CALL, PROMPT, TOOL_RUN, TURN

Row = dict[str, Any]

_TRACE_BYTES: Final = 16
_SPAN_BYTES: Final = 8
EMBEDDINGS: Final = "embeddings"


def trace_of(step: Step) -> str:
    """The trace of one prompt: the recorded one, but for a later prompt in the same trace one of its own.

    Always a valid id, and the same for all steps of a prompt: some recorders write a whole session into one trace.
    """
    if step.is_later_prompt:
        return _made(f"{step.trace_id}\n{step.root_id}", _TRACE_BYTES)
    return _valid(step.trace_id, _TRACE_BYTES) or _made(step.trace_id or step.session_id or step.span_id, _TRACE_BYTES)


def made_trace(text: str) -> str:
    """A trace id made of a text: the same for the same."""
    return _made(text, _TRACE_BYTES)


def span_of(step: Step) -> str:
    """The step's own id, always a valid one."""
    given = step.span_id or f"{step.trace_id}\n{step.role}\n{step.name}\n{step.start_ns}"
    return _valid(given, _SPAN_BYTES) or _made(given, _SPAN_BYTES)


def parent_of(step: Step) -> str:
    """The id of the step above, as `span_of` says it; "" = none."""
    given = step.parent_id
    if not given.strip("0"):
        return ""
    return _valid(given, _SPAN_BYTES) or _made(given, _SPAN_BYTES)


def is_root(step: Step) -> bool:
    """Whether a step is at the top of its trace."""
    return not step.parent_id.strip("0")


def is_trace_told_by_root(step: Step) -> bool:
    """Whether the step at the top is a prompt or an agent at work: what a destination shows as the trace."""
    return step.root_role in (PROMPT, AGENT)


def fact(step: Step, name: str) -> str:
    """What the call says, else what the session says: agent, project, user, ...; "" = neither."""
    return str((step.call or {}).get(name) or step.session.get(name) or "")


def model_of(call: Row) -> str:
    """The model that answered, else the one that was asked for; "" = unknown."""
    return str(call.get("response_model") or call.get("request_model") or call.get("model") or "")


def name_of(step: Step) -> str:
    """The same name for the same kind of step, whatever its source calls it."""
    if step.role == MODEL_CALL and step.call is not None:
        return f"{step.call.get('operation') or 'chat'} {model_of(step.call)}".strip()
    if step.role == TOOL_RUN and step.tool_name:
        return step.tool_name
    if step.role == AGENT and step.subagent:
        return step.subagent
    return step.role if step.role in (PROMPT, TURN) else step.name or step.role


def tokens_of(call: Row) -> dict[str, int]:
    """Tokens in disjoint parts: input, cache_read, cache_write_5m, cache_write_1h (or cache_write), output, reasoning.

    `output` is without reasoning here. What is not known is left out.
    """
    told = {
        "input": call.get("input_uncached_tokens"),
        "cache_read": call.get("cache_read_tokens"),
        "cache_write": call.get("cache_write_tokens"),
        "output": call.get("output_tokens"),
        "reasoning": call.get("reasoning_tokens"),
    }
    written, hour = told["cache_write"], call.get("cache_write_1h_tokens")
    if written is not None and hour is not None:
        told["cache_write_5m"], told["cache_write_1h"] = max(0, written - hour), min(hour, written)
        del told["cache_write"]
    if told["output"] is not None:
        told["output"] = max(0, told["output"] - (told["reasoning"] or 0))
    return {name: number for name, number in told.items() if number is not None}


def asked_of(step: Step) -> list[dict[str, Any]]:
    """The messages that a model was given, and how many are missing at their beginning."""
    if not step.left_out:
        return step.input_messages
    note = {"type": "text", "content": earlier_left_out(step.left_out)}
    return [{"role": "system", "parts": [note]}, *step.input_messages]


def earlier_left_out(messages: int) -> str:
    """What stands in the place of messages that were too much."""
    return f"[{messages} earlier message{'s' if messages > 1 else ''} left out]"


def latency_ns(step: Step) -> int:
    """How long the step took: of a call, what its source measured, where it did."""
    measured = (step.call or {}).get("duration_ns")
    return int(measured) if measured is not None else max(0, step.end_ns - step.start_ns)


def to_json(value: Any) -> str:
    """JSON of plain values; what no Unicode text can hold is replaced."""
    try:
        return msgspec.json.encode(value).decode()
    except UnicodeEncodeError:
        return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace").decode()


def _valid(text: str, size: int) -> str:
    """The text as a lower-case id, "" for what is none: OTLP allows neither other lengths nor zeros."""
    low = text.lower()
    return low if re.fullmatch(rf"[0-9a-f]{{{2 * size}}}", low) and low.strip("0") else ""


def _made(text: str, size: int) -> str:
    return blake2b(text.encode("utf-8", "replace"), digest_size=size, person=b"tachograph.step").hexdigest()
