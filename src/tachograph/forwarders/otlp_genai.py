"""Steps as spans of OpenTelemetry's GenAI conventions, in the names of the generation that a destination knows.

A: semantic conventions up to 1.36. B: 1.37 to 1.41. C: the conventions' own repository since. What has no name there
(cost, roles, prompts) is `tachograph.*`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec

from tachograph.forwarders import steps, temporality
from tachograph.forwarders.contract import AGAIN, Item, Memory, Step
from tachograph.model import AGENT, MODEL_CALL, PROMPT, TOOL_RUN, Attributes, Point, Source, Span
from tachograph.vocabulary import RESOURCE

SCOPE: Final = "tachograph.steps"
TOKEN_BOUNDS: Final = tuple(float(4**power) for power in range(14))
SECOND_BOUNDS: Final = tuple(0.01 * 2**power for power in range(14))
_INTERNAL, _CLIENT, _ERROR = 1, 3, 2  # OTLP SpanKind and StatusCode
_TRACE_SESSION: Final = "trace:"
# The first generation's words for providers, where they were others.
_SYSTEMS: Final = {
    "gcp.vertex_ai": "vertex_ai",
    "gcp.gemini": "gemini",
    "azure.ai.inference": "az.ai.inference",
    "azure.ai.openai": "az.ai.openai",
    "x_ai": "xai",
}
_SESSION: Final = {
    "enduser.id": "user",
    "tachograph.project": "project",
    "tachograph.team": "team",
    "tachograph.channel": "channel",
    "tachograph.session.title": "title",
}
_CALL: Final = {
    "gen_ai.request.model": "request_model",
    "gen_ai.response.model": "response_model",
    "gen_ai.response.id": "response_id",
    "gen_ai.usage.input_tokens": "input_tokens",
    "gen_ai.usage.output_tokens": "output_tokens",
    "gen_ai.usage.cache_read.input_tokens": "cache_read_tokens",
    "gen_ai.usage.cache_creation.input_tokens": "cache_write_tokens",  # what backends know, in every generation
    "gen_ai.usage.reasoning.output_tokens": "reasoning_tokens",
    "http.response.status_code": "http_status",
    "tachograph.call.id": "call_id",
    "tachograph.call.usage": "usage_status",
    "tachograph.cost.kind": "cost_kind",
}


class Conventions:
    """Writes steps in the names of one generation."""

    def __init__(self, generation: str) -> None:
        self._generation = generation
        self._sources: dict[tuple[str, ...], Source] = {}

    # -- spans ---------------------------------------------------------------------------------------------------------

    def spans(self, items: Sequence[Item]) -> Iterator[tuple[Item, Span]]:
        """A span for each step."""
        for item in items:
            if isinstance(item.record, Step):
                yield item, self._span(item.record)

    def _span(self, step: Step) -> Span:
        attributes = self._attributes(step)
        span = Span(
            self._source(step),
            trace_id=step.trace_id,
            span_id=step.span_id,
            parent_id=step.parent_id,
            name=_span_name(step),
            kind=_CLIENT if step.role == MODEL_CALL else _INTERNAL,
            start_ns=step.start_ns,
            end_ns=step.end_ns,
            attributes={name: value for name, value in attributes.items() if value not in (None, "", [])},
        )
        if step.is_error:
            span.attributes["error.type"] = step.error_type or "_OTHER"
            span.status_code, span.status_message = _ERROR, step.error_message
        if step.role == MODEL_CALL and self._generation == "A":
            span.events = self._message_events(step) or None
        return span

    def _attributes(self, step: Step) -> Attributes:
        has_session = step.session_id and not step.session_id.startswith(_TRACE_SESSION)
        told: Attributes = {
            "gen_ai.operation.name": _operation(step),
            "gen_ai.conversation.id": step.session_id if has_session else "",
            "gen_ai.agent.name": step.subagent or step.session.get("agent"),
            "tachograph.role": step.role,
            "tachograph.subagent": step.subagent,
            "tachograph.prompt.id": step.prompt_id,
        }
        told.update((name, step.session.get(column)) for name, column in _SESSION.items())
        if step.call is not None:
            told |= self._call(step.call)
        if step.role == TOOL_RUN:
            told |= {
                "gen_ai.tool.name": step.tool_name or step.name,
                "gen_ai.tool.call.id": step.tool_call_id,
                "gen_ai.tool.type": "function",
                "gen_ai.tool.call.arguments": step.arguments,
                "gen_ai.tool.call.result": step.result,
            }
        if self._generation != "A" or step.role != MODEL_CALL:
            told |= self._messages(step)
        return told

    def _call(self, call: dict[str, Any]) -> Attributes:
        told: Attributes = {name: call.get(column) for name, column in _CALL.items()}
        told |= self._provider(call)
        if self._generation == "C":
            told["gen_ai.usage.cache_write.input_tokens"] = call.get("cache_write_tokens")
        if call.get("finish_reason"):
            told["gen_ai.response.finish_reasons"] = [call["finish_reason"]]
        if call.get("is_streaming"):
            told["gen_ai.request.stream"] = True
        if call.get("ttft_ns") is not None:
            told["gen_ai.response.time_to_first_chunk"] = call["ttft_ns"] / 1e9
        if call.get("cost_nanousd") is not None:
            told["tachograph.cost.usd"] = call["cost_nanousd"] / 1e9
            told["tachograph.cost.is_notional"] = bool(call.get("is_notional"))
        return told

    def _provider(self, call: dict[str, Any]) -> Attributes:
        provider = call.get("provider") or ""
        if self._generation == "A":
            return {"gen_ai.system": _SYSTEMS.get(provider, provider)}
        return {"gen_ai.provider.name": provider}

    def _messages(self, step: Step) -> Attributes:
        asked, said = steps.asked_of(step), step.output_messages
        if step.role in (PROMPT, AGENT):
            asked = [{"role": "user", "parts": [_text(step.prompt)]}] if step.prompt else asked
            said = [{"role": "assistant", "parts": [_text(step.answer)]}] if step.answer else said
        if self._generation != "C":  # there it is said by gen_ai.response.finish_reasons alone
            reason = (step.call or {}).get("finish_reason") or "stop"
            said = [{**message, "finish_reason": reason} for message in said]
        return {
            "gen_ai.system_instructions": _json([_text(step.system)]) if step.system else "",
            "gen_ai.input.messages": _json(asked) if asked else "",
            "gen_ai.output.messages": _json(said) if said else "",
            "gen_ai.tool.definitions": _json(step.tools) if step.tools else "",
        }

    def _message_events(self, step: Step) -> list[Attributes]:
        """The messages of a call as generation A says them: an event for each."""
        system = self._provider(step.call or {})
        events: list[tuple[str, Attributes]] = []
        if step.system:
            events.append(("gen_ai.system.message", {"content": step.system}))
        for message in steps.asked_of(step):
            events += _events_of(message)
        reason = (step.call or {}).get("finish_reason") or "stop"
        for index, message in enumerate(step.output_messages):
            said = [told for _, told in _events_of(message)]
            content = _json({"role": "assistant", **(said[0] if said else {})})
            events.append(("gen_ai.choice", {"index": index, "finish_reason": reason, "message": content}))
        return [
            {
                "time_ns": step.end_ns if name == "gen_ai.choice" else step.start_ns,
                "name": name,
                "attributes": told | system,
            }
            for name, told in events
        ]

    def _source(self, step: Step) -> Source:
        """One Source for each distinct resource, so that records of one sender stay together."""
        row = {**step.session, **{name: value for name, value in (step.call or {}).items() if value}}
        key = tuple(str(row.get(column) or "") for column in RESOURCE.values())
        if key not in self._sources:
            told = {name: value for name, value in zip(RESOURCE, key, strict=True) if value}
            self._sources[key] = Source({"service.name": "unknown_service", **told}, scope_name=SCOPE)
        return self._sources[key]

    # -- metrics -------------------------------------------------------------------------------------------------------

    def points(self, items: Sequence[Item], target: int, memory: Memory) -> Iterator[tuple[Item, Point]]:
        """The client metrics of the calls among the steps, counted once each; labels are those of the conventions."""
        if memory.get(AGAIN) is not None:
            return
        made: dict[str, list[Point]] = {}
        last: dict[str, Item] = {}
        for item in items:
            step = item.record
            if isinstance(step, Step) and step.call is not None:
                for point in self._measured(step, step.call):
                    series = temporality.series_id(point)
                    made.setdefault(series, []).append(point)
                    last[series] = item
        for series, points in made.items():
            yield last[series], temporality.summed(series, points, target, memory)

    def _measured(self, step: Step, call: dict[str, Any]) -> Iterator[Point]:
        source = self._source(step)
        labels = {
            "gen_ai.operation.name": _operation(step),
            **self._provider(call),
            "gen_ai.request.model": call.get("request_model"),
            "gen_ai.response.model": call.get("response_model"),
        }
        labels = {name: value for name, value in labels.items() if value}
        failed = labels | {"error.type": step.error_type or "_OTHER"} if step.is_error else labels
        for name, unit, value, told in self._values(call, labels, failed):
            if value is not None:
                yield _point(source, name, unit, value, told, step)

    def _values(
        self, call: dict[str, Any], labels: Attributes, failed: Attributes
    ) -> Iterator[tuple[str, str, float | int | None, Attributes]]:
        duration_s, first_s = _seconds(call.get("duration_ns")), _seconds(call.get("ttft_ns"))
        if self._generation == "C":
            prefix = "gen_ai.client.inference"
            for name, column in (
                ("input_tokens", "input_tokens"),
                ("output_tokens", "output_tokens"),
                ("cache_read.input_tokens", "cache_read_tokens"),
                ("cache_write.input_tokens", "cache_write_tokens"),
                ("reasoning.output_tokens", "reasoning_tokens"),
            ):
                yield f"{prefix}.usage.{name}", "{token}", call.get(column), labels
            yield f"{prefix}.duration", "s", duration_s, failed
            yield f"{prefix}.time_to_first_chunk", "s", first_s, labels
            return
        for kind in ("input", "output"):
            told = labels | {"gen_ai.token.type": kind}
            yield "gen_ai.client.token.usage", "{token}", call.get(f"{kind}_tokens"), told
        yield "gen_ai.client.operation.duration", "s", duration_s, failed
        if self._generation == "B":
            yield "gen_ai.client.operation.time_to_first_chunk", "s", first_s, labels


def _operation(step: Step) -> str:
    if step.role == MODEL_CALL:
        return str((step.call or {}).get("operation") or "chat")
    return {TOOL_RUN: "execute_tool", PROMPT: "invoke_agent", AGENT: "invoke_agent"}.get(step.role, "")


def _span_name(step: Step) -> str:
    operation = _operation(step)
    if step.call is not None:
        return f"{operation} {step.call.get('request_model') or step.call.get('response_model') or ''}".strip()
    if step.role == TOOL_RUN:
        return f"{operation} {step.tool_name or step.name}"
    if operation:
        return f"{operation} {step.subagent or step.session.get('agent') or ''}".strip()
    return step.role or step.name


def _text(content: str) -> Attributes:
    return {"type": "text", "content": content}


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _events_of(message: dict[str, Any]) -> Iterable[tuple[str, Attributes]]:
    """A message as one event, or for each answer of a tool one."""
    parts, role = message["parts"], message["role"]
    answers = [part for part in parts if part.get("type") == "tool_call_response"]
    if answers:
        return [("gen_ai.tool.message", {"id": p.get("id", ""), "content": _plain(p.get("response"))}) for p in answers]
    told: Attributes = {"content": "\n\n".join(str(p["content"]) for p in parts if p.get("type") == "text")}
    calls = [
        {
            "id": part.get("id", ""),
            "type": "function",
            "function": {"name": part.get("name", ""), "arguments": part.get("arguments")},
        }
        for part in parts
        if part.get("type") == "tool_call"
    ]
    if calls:
        told["tool_calls"] = _json(calls)
    name = role if role in ("system", "assistant", "tool") else "user"
    return [(f"gen_ai.{name}.message", {key: value for key, value in told.items() if value})]


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else _json(value)


def _seconds(nanoseconds: int | None) -> float | None:
    return None if nanoseconds is None else nanoseconds / 1e9


def _point(source: Source, name: str, unit: str, value: float | int, labels: Attributes, step: Step) -> Point:
    """One call's value as what it adds to its series."""
    point = Point(source, name, labels, max(step.end_ns, step.start_ns), "sum", unit, temporality=temporality.DELTA)
    point.start_ns = step.start_ns
    if ".inference.usage." in name:
        point.value, point.is_monotonic = value, True
        return point
    bounds = list(SECOND_BOUNDS if unit == "s" else TOKEN_BOUNDS)
    counts = [0] * (len(bounds) + 1)
    counts[bisect_left(bounds, value)] = 1
    point.type, point.count, point.sum, point.min, point.max = "histogram", 1, float(value), value, value
    point.buckets = {"bounds": bounds, "counts": counts}
    return point
