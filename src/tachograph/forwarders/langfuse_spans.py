"""A step as Langfuse reads spans: observation type, input and output, usage, cost, session, user, tags."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, Final

from tachograph import __version__
from tachograph.forwarders import steps
from tachograph.forwarders.contract import Step
from tachograph.model import AGENT, MODEL_CALL, PROMPT, TOOL_RUN, TURN, Source, Span

Row = dict[str, Any]

_ID_CHARS: Final = 200  # of sessions, users and tags: Langfuse's SDKs refuse longer ones
_ENVIRONMENT_CHARS: Final = 40
_NAME_CHARS: Final = 500
_MESSAGE_CHARS: Final = 10_000
_FIELD_BYTES: Final = 900_000  # Langfuse may cut a field of more than 1 MB, and cut JSON is no JSON
_INTERNAL, _CLIENT, _ERROR = 1, 3, 2  # OTLP SpanKind and StatusCode
_TYPES: Final = {PROMPT: "agent", AGENT: "agent", TURN: "chain", MODEL_CALL: "generation", TOOL_RUN: "tool"}
# The keys that Langfuse's price table has.
_USAGE: Final = {
    "input": "input",
    "cache_read": "input_cached_tokens",
    "cache_write": "input_cache_creation",
    "cache_write_5m": "input_cache_creation_5m",
    "cache_write_1h": "input_cache_creation_1h",
    "output": "output",
    "reasoning": "output_reasoning_tokens",
}
# Of a trace, and of a model call: metadata under the names that the ledger has.
_TRACE_FACTS: Final = ("agent", "project", "repository", "branch", "host", "team", "tenant")
_CALL_FACTS: Final = (
    *("call_id", "provider", "request_model", "response_id", "finish_reason", "http_status", "attempt", "retry_of"),
    *("usage_status", "cost_kind", "price_source"),
)


class Shaping:
    """What the settings add to each span."""

    def __init__(self, environment: str = "", release: str = "", tags: Iterable[str] = ()) -> None:
        self._environment = environment
        self._release = release
        self._tags = [_short(tag) for tag in tags]
        self._sources: dict[str, Source] = {}

    def span(self, step: Step) -> Span:
        """The step as a span with valid ids; nothing in it can make Langfuse refuse the request that it is in."""
        is_client = step.role == MODEL_CALL
        attributes = {name: value for name, value in self._attributes(step).items() if value not in ("", None, [])}
        return Span(
            self._source(step),
            trace_id=steps.trace_of(step),
            span_id=steps.span_of(step),
            parent_id=steps.parent_of(step),
            name=steps.name_of(step)[:_NAME_CHARS],
            kind=_CLIENT if is_client else _INTERNAL,
            start_ns=step.start_ns,
            end_ns=max(step.start_ns, step.end_ns),
            attributes=attributes,
            status_code=_ERROR if step.is_error else 0,
            status_message=step.error_message[:_MESSAGE_CHARS],
        )

    def _source(self, step: Step) -> Source:
        agent = steps.fact(step, "agent") or "unknown_service"
        if agent not in self._sources:
            self._sources[agent] = Source({"service.name": agent}, "tachograph", __version__)
        return self._sources[agent]

    def _attributes(self, step: Step) -> Row:
        told: Row = {
            "langfuse.observation.type": _type(step),
            "langfuse.observation.level": _level(step),
            "langfuse.observation.status_message": (step.error_message or step.error_type)[:_MESSAGE_CHARS],
            "session.id": _short(step.session_id),
            "user.id": _short(steps.fact(step, "user")),
            "langfuse.trace.tags": self._tags_of(step),
            "langfuse.environment": _environment(self._environment or steps.fact(step, "environment")),
            "langfuse.release": self._release,
            "langfuse.trace.name": _trace_name(step),
        }
        for name in _TRACE_FACTS:
            told[f"langfuse.trace.metadata.{name}"] = steps.fact(step, name)
        told |= _input_and_output(step)
        told |= _call(step)
        meta = {"prompt_id": step.prompt_id, "subagent": step.subagent, "tool_call_id": step.tool_call_id}
        meta["error_type"] = step.error_type
        meta["recorded_trace_id"] = step.trace_id if step.is_later_prompt else ""
        if step.role in (PROMPT, AGENT, TURN):
            meta["is_over"] = "true" if step.is_over else "false"  # told again, with true, when it is
        return told | {f"langfuse.observation.metadata.{name}": value for name, value in meta.items()}

    def _tags_of(self, step: Step) -> list[str]:
        """Agent, channel, how the session comes from another, and the settings' own."""
        facts = (("agent", "agent"), ("channel", "channel"), ("session", "lineage"))
        tags = [_short(f"{word}:{steps.fact(step, name)}") for word, name in facts if steps.fact(step, name)]
        return list(dict.fromkeys(tags + self._tags))


def size_of(span: Span) -> int:
    """About how many bytes a span is."""
    return 400 + sum(
        len(key) + (len(value) if isinstance(value, str) else 100) for key, value in span.attributes.items()
    )


def _type(step: Step) -> str:
    is_embedding = step.call is not None and step.call.get("operation") == steps.EMBEDDINGS
    return "embedding" if is_embedding else _TYPES.get(step.role, "span")


def _level(step: Step) -> str:
    status = (step.call or {}).get("status")
    if status == "aborted":
        return "WARNING"  # somebody stopped it
    return "ERROR" if step.is_error or status == "failed" else "DEFAULT"


def _trace_name(step: Step) -> str:
    """The same on each step of a trace; of one that no prompt or agent is at the top of, none."""
    if step.root_role == PROMPT:
        return str(step.session.get("agent") or "prompt")
    return steps.name_of(step)[:_NAME_CHARS] if steps.is_root(step) and step.role == AGENT else ""


def _input_and_output(step: Step) -> Row:
    given, made = _texts(step)
    told = {"langfuse.observation.input": given, "langfuse.observation.output": made}
    if steps.is_root(step) and step.role in (PROMPT, AGENT):
        told |= {"langfuse.trace.input": given, "langfuse.trace.output": made}
    return told


def _texts(step: Step) -> tuple[str, str]:
    if step.role == MODEL_CALL:
        system = [{"role": "system", "content": step.system}] if step.system else []
        asked = system + [one for message in step.input_messages for one in _messages(message)]
        answered = [one for message in step.output_messages for one in _messages(message)]
        said = answered[0] if len(answered) == 1 else answered
        return _bounded(asked, step.tools, step.left_out), _bounded(said, [])
    if step.role == TOOL_RUN:
        return _cut(step.arguments), _cut(step.result)
    return _cut(step.prompt or step.arguments), _cut(step.answer or step.result)


def _messages(message: Row) -> list[Row]:
    """One message of the GenAI conventions in the shape that Langfuse renders: OpenAI's chat messages."""
    made: Row = {"role": message.get("role", "user")}
    said: list[Any] = []
    results: list[Row] = []
    for part in message.get("parts") or ():
        kind = part.get("type")
        if kind == "text":
            said.append(part.get("content") or "")
        elif kind == "reasoning":
            made["reasoning_content"] = "\n\n".join(filter(None, (made.get("reasoning_content"), part.get("content"))))
        elif kind == "tool_call":
            made.setdefault("tool_calls", []).append(_tool_call(part))
        elif kind == "tool_call_response":
            results.append({"role": "tool", "tool_call_id": part.get("id") or "", "content": part.get("response")})
        else:
            said.append(part)
    if all(isinstance(one, str) for one in said):
        made["content"] = "\n\n".join(said)
    else:
        made["content"] = [{"type": "text", "text": one} if isinstance(one, str) else one for one in said]
    return results if results and len(made) == 2 and not made["content"] else [made, *results]


def _tool_call(part: Row) -> Row:
    arguments = part.get("arguments")
    as_text = arguments if isinstance(arguments, str) else steps.to_json(arguments)
    return {
        "id": part.get("id") or "",
        "type": "function",
        "function": {"name": part.get("name") or "", "arguments": as_text},
    }


def _bounded(messages: Any, tools: list[Row], left_out: int = 0) -> str:
    """JSON of messages; where it is too long, the oldest are left out and their number is said.

    `left_out` are missing already.
    """
    if not messages and not tools and not left_out:
        return ""
    noted = [_note(left_out), *messages] if left_out else messages
    whole = steps.to_json({"messages": noted, "tools": tools} if tools else noted)
    if len(whole) <= _FIELD_BYTES and len(whole.encode("utf-8", "replace")) <= _FIELD_BYTES:
        return whole
    kept: list[str] = []
    listed = messages if isinstance(messages, list) else [messages]
    size = 200
    for message in reversed(listed):
        said = steps.to_json(message)
        size += len(said.encode("utf-8", "replace")) + 1
        if size > _FIELD_BYTES:
            break
        kept.append(said)
    if not kept:  # one message of that length: its start, as a text
        kept = [steps.to_json({"role": "user", "content": steps.to_json(listed[-1])[: _FIELD_BYTES // 4]})]
    note = steps.to_json(_note(left_out + len(listed) - len(kept)))
    return f"[{','.join([note, *reversed(kept)])}]"


def _note(left_out: int) -> Row:
    return {"role": "system", "content": steps.earlier_left_out(left_out)}


def _cut(text: str) -> str:
    data = text.encode("utf-8", "replace")
    return data[:_FIELD_BYTES].decode("utf-8", "ignore") if len(data) > _FIELD_BYTES else text


def _call(step: Step) -> Row:
    """Model, usage and cost. What is not known is not sent; a call without a cost is priced by Langfuse itself."""
    call = step.call
    if call is None:
        return {}
    told: Row = {"langfuse.observation.model.name": steps.model_of(call)}
    usage = {_USAGE[name]: number for name, number in steps.tokens_of(call).items()}
    if usage:
        told["langfuse.observation.usage_details"] = steps.to_json(usage)
    if call.get("cost_nanousd") is not None:
        told["langfuse.observation.cost_details"] = steps.to_json({"total": call["cost_nanousd"] / 1e9})
    if call.get("ttft_ns") is not None and step.start_ns:
        told["langfuse.observation.completion_start_time"] = _time(step.start_ns + call["ttft_ns"])
    if call.get("is_notional"):
        told["langfuse.observation.metadata.billing_mode"] = "subscription"
    for name in _CALL_FACTS:
        told[f"langfuse.observation.metadata.{name}"] = call.get(name)
    return told


def _time(at_ns: int) -> str:
    at = datetime.fromtimestamp(at_ns // 1_000_000_000, UTC).replace(microsecond=at_ns % 1_000_000_000 // 1000)
    return at.isoformat().replace("+00:00", "Z")


def _short(name: str) -> str:
    """A name of at most 200 characters; what is cut off is told apart by a hash."""
    if len(name) <= _ID_CHARS:
        return name
    tail = blake2b(name.encode("utf-8", "replace"), digest_size=8).hexdigest()
    return f"{name[: _ID_CHARS - len(tail) - 1]}-{tail}"


def _environment(name: str) -> str:
    """As Langfuse allows it: lower-case letters, digits, - and _; not beginning with its own name."""
    low = re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-")
    low = f"env-{low}" if low.startswith("langfuse") else low
    return low[:_ENVIRONMENT_CHARS]
