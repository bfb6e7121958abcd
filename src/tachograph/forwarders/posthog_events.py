"""A step as PostHog's AI events: $ai_generation, $ai_embedding, $ai_span and $ai_trace."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from msgspec import Struct, field

from tachograph import __version__
from tachograph.forwarders import steps
from tachograph.forwarders.contract import Step
from tachograph.forwarders.posthog_windows import trace_of
from tachograph.model import AGENT, MODEL_CALL, PROMPT
from tachograph.vocabulary import decoded

Row = dict[str, Any]

GENERATION: Final = "$ai_generation"
EMBEDDING: Final = "$ai_embedding"
SPAN: Final = "$ai_span"
TRACE: Final = "$ai_trace"
_NAMESPACE: Final = uuid.UUID("5f1c7a0e-3b0d-5e0a-9a5e-7ac0962a9401")  # of our events: any, but for ever the same
_DEPTH: Final = 8  # of a tool's input and output
# What PostHog's catalogue and its SDKs call the providers that the GenAI conventions name otherwise.
_PROVIDERS: Final = {
    "gcp.gemini": "gemini",
    "gcp.vertex_ai": "vertex",
    "aws.bedrock": "bedrock",
    "azure.ai.openai": "azure",
    "azure.ai.inference": "azure",
    "x_ai": "xai",
    "mistral_ai": "mistral",
    "moonshot_ai": "moonshotai",
}
_FACTS: Final = ("agent", "channel", "repository", "branch", "team", "environment", "host")
_CALL_FACTS: Final = ("call_id", "cost_kind", "usage_status", "attempt", "retry_of", "error_type")
# How dear the parts of a call are beside each other in most price lists: to part a sum whose total is known.
_INPUT_WEIGHTS: Final = {
    "input": 1.0,
    "cache_read": 0.1,
    "cache_write": 1.25,
    "cache_write_5m": 1.25,
    "cache_write_1h": 2.0,
}
_OUTPUT_WEIGHT: Final = 5.0


class Shaping(Struct, frozen=True):
    """What the settings say of each event, named as they are."""

    is_private: bool = False
    trace_grouping: str = "message"
    project_name: str = ""
    agent_name: str = ""
    distinct_id: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    max_attribute_length: int = 12_000


def events(step: Step, window: str, shaping: Shaping) -> Iterator[Row]:
    """The events of a step; `window` is the id of its session, or of the stretch of it."""
    trace_id = trace_of(step, shaping.trace_grouping, window)
    is_top = steps.is_root(step) and steps.is_trace_told_by_root(step)
    if is_top:
        yield _event(TRACE, step, trace_id, window, shaping)
    if not is_top or shaping.trace_grouping == "session":
        yield _event(_kind(step), step, trace_id, window, shaping)


def _kind(step: Step) -> str:
    if step.role != MODEL_CALL or step.call is None:
        return SPAN
    return EMBEDDING if step.call.get("operation") == steps.EMBEDDINGS else GENERATION


def _event(kind: str, step: Step, trace_id: str, window: str, shaping: Shaping) -> Row:
    told: Row = {"$ai_trace_id": trace_id, "$ai_session_id": window}
    told |= _names(step, shaping)
    told |= {"$ai_span_name": told["$ai_agent_name"] if kind == TRACE else steps.name_of(step)}
    if kind != TRACE:
        told |= {"$ai_span_id": steps.span_of(step), "$ai_parent_id": _parent(step, trace_id, shaping)}
    told |= {"$ai_latency": steps.latency_ns(step) / 1e9, "$ai_is_error": _is_error(step)}
    told |= _call(step) if kind in (GENERATION, EMBEDDING) else {"$ai_span_type": _span_type(step, kind)}
    told |= {} if shaping.is_private else _texts(kind, step, shaping.max_attribute_length)
    told |= {name: steps.fact(step, name) for name in _FACTS}
    told |= {"tachograph_step": f"{step.trace_id}:{step.span_id}", "prompt_id": step.prompt_id}
    told |= {"subagent": step.subagent}
    person = shaping.distinct_id or steps.fact(step, "user")
    if not person:
        told["$process_person_profile"] = False
    properties = {name: value for name, value in told.items() if value not in ("", None, [])}
    return {
        "event": kind,
        "distinct_id": person or window or trace_id,
        "properties": properties | dict(shaping.tags),  # last, as ever: they may replace any other
        "timestamp": _time(max(step.start_ns, step.end_ns)),
        "uuid": str(uuid.uuid5(_NAMESPACE, f"{kind}:{trace_id}:{steps.span_of(step)}")),
    }


def _names(step: Step, shaping: Shaping) -> Row:
    agent = steps.fact(step, "agent")
    project = shaping.project_name or re.split(r"[\\/]", steps.fact(step, "project").rstrip("\\/"))[-1]
    own = project or agent
    return {
        "$ai_lib": "tachograph",
        "$ai_lib_version": __version__,
        "$ai_framework": agent,
        "$ai_project_name": project,
        "$ai_agent_name": shaping.agent_name or (f"{own}/{step.subagent}" if step.subagent else own),
    }


def _parent(step: Step, trace_id: str, shaping: Shaping) -> str:
    """The span above; the trace itself where that is what is above, which is no span then."""
    if steps.is_root(step):
        return trace_id
    is_below_trace = step.parent_id == step.root_id and steps.is_trace_told_by_root(step)
    return trace_id if is_below_trace and shaping.trace_grouping != "session" else steps.parent_of(step)


def _span_type(step: Step, kind: str) -> str:
    return "" if kind == TRACE else {"tool_run": "tool", "model_call": "generation"}.get(step.role, step.role)


def _is_error(step: Step) -> bool:
    return step.is_error or (step.call or {}).get("status") == "failed"


# -- model calls ------------------------------------------------------------------------------------------------------


def _call(step: Step) -> Row:
    call = step.call or {}
    provider = str(call.get("provider") or "")
    stop = call.get("finish_reason")
    told: Row = {
        "$ai_model": steps.model_of(call),
        "$ai_provider": _PROVIDERS.get(provider, provider),
        "$ai_stop_reason": "tool_calls" if stop == "tool_call" else stop,
        "$ai_completion_id": call.get("response_id"),
        "$ai_http_status": call.get("http_status"),
        "$ai_stream": call.get("is_streaming"),
        "$ai_time_to_first_token": None if call.get("ttft_ns") is None else call["ttft_ns"] / 1e9,
        "billing_mode": "subscription" if call.get("is_notional") else "",
    }
    told |= {name: call.get(name) for name in _CALL_FACTS}
    return told | _tokens(call) | _cost(call)


def _tokens(call: Row) -> Row:
    known = steps.tokens_of(call)
    if not known:
        return {}
    told: Row = {
        "$ai_input_tokens": known.get("input"),
        "$ai_output_tokens": call.get("output_tokens"),  # reasoning included
        "$ai_reasoning_tokens": known.get("reasoning"),
        "$ai_total_tokens": _sum(call.get("input_tokens"), call.get("output_tokens")),
        "$ai_cache_read_input_tokens": known.get("cache_read"),
        "$ai_cache_creation_input_tokens": call.get("cache_write_tokens"),
        "$ai_cache_reporting_exclusive": True,  # $ai_input_tokens is what no cache had to do with
    }
    if "cache_write_1h" in known:
        told["$ai_cache_creation_5m_input_tokens"] = known["cache_write_5m"]
        told["$ai_cache_creation_1h_input_tokens"] = known["cache_write_1h"]
    return told


def _sum(*numbers: int | None) -> int | None:
    return None if None in numbers else sum(number or 0 for number in numbers)


def _cost(call: Row) -> Row:
    """What the call cost, exactly, and in two parts by the usual proportions.

    PostHog keeps a cost that it is given only where both parts are there and are not 0, else it computes its own.
    """
    total = call.get("cost_nanousd")
    if total is None:
        return {}
    told: Row = {"$ai_total_cost_usd": total / 1e9}
    known = steps.tokens_of(call)
    in_weight = sum(known.get(name, 0) * weight for name, weight in _INPUT_WEIGHTS.items())
    out_weight = (call.get("output_tokens") or 0) * _OUTPUT_WEIGHT
    if in_weight and out_weight:
        out = round(total * out_weight / (in_weight + out_weight))
        if 0 < out < total:
            told["$ai_input_cost_usd"], told["$ai_output_cost_usd"] = (total - out) / 1e9, out / 1e9
            told["cost_parts"] = "estimated"
    return told


# -- texts ------------------------------------------------------------------------------------------------------------


def _texts(kind: str, step: Step, longest: int) -> Row:
    told: Row = {"$ai_error": _cut(step.error_message or step.error_type, longest)} if _is_error(step) else {}
    if kind in (GENERATION, EMBEDDING):
        system = [{"role": "system", "content": step.system}] if step.system else []
        asked = system + [one for message in steps.asked_of(step) for one in _messages(message)]
        answered = [one for message in step.output_messages for one in _messages(message)]
        return told | {"$ai_input": asked, "$ai_output_choices": answered, "$ai_tools": step.tools}
    given, made = step.prompt or step.arguments, step.answer or step.result
    if step.role not in (PROMPT, AGENT):
        given, made = step.arguments, step.result
    return told | {
        "$ai_input_state": cut(decoded(given), longest),
        "$ai_output_state": cut(decoded(made), longest),
    }


def _messages(message: Row) -> list[Row]:
    """One message of the GenAI conventions in PostHog's shape: results of tools are messages of their own."""
    content: list[Row] = []
    results: list[Row] = []
    for part in message.get("parts") or ():
        kind = part.get("type")
        if kind == "text":
            content.append({"type": "text", "text": part.get("content") or ""})
        elif kind == "reasoning":
            content.append({"type": "thinking", "thinking": part.get("content") or ""})
        elif kind == "tool_call":
            function = {"name": part.get("name") or "", "arguments": part.get("arguments")}
            content.append({"type": "function", "id": part.get("id") or "", "function": function})
        elif kind == "tool_call_response":
            results.append({"role": "tool", "tool_call_id": part.get("id") or "", "content": part.get("response")})
        else:
            content.append(part)
    own = [{"role": message.get("role") or "user", "content": content}] if content or not results else []
    return own + results


def cut(value: Any, longest: int, depth: int = 0) -> Any:
    """A value whose texts are at most so long, and that is not nested too deeply; still JSON."""
    if isinstance(value, str):
        return _cut(value, longest)
    if isinstance(value, list | dict) and depth >= _DEPTH:
        return "[DepthLimit]"
    if isinstance(value, list):
        return [cut(one, longest, depth + 1) for one in value]
    if isinstance(value, dict):
        return {name: cut(one, longest, depth + 1) for name, one in value.items()}
    return value


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[:longest]}...[truncated {len(text) - longest} chars]"


def _time(at_ns: int) -> str:
    at = datetime.fromtimestamp(at_ns // 1_000_000_000, UTC).replace(microsecond=at_ns % 1_000_000_000 // 1000)
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")
