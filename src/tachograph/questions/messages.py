"""Kept texts as the GenAI conventions write messages, from every shape that providers and instrumentations send."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from tachograph.vocabulary import decoded

Json = dict[str, Any]

_DEPTH: Final = 5  # messages in parts in messages: deeper stays the JSON it is
_ROLES: Final = {
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "model": "assistant",
    "ai": "assistant",
    "system": "system",
    "developer": "system",
    "tool": "tool",
    "function": "tool",
    "toolresult": "tool",
}
# Kinds of parts, in lower case and without what joins the words: tool_use, toolCall, tool-call.
_CALLS: Final = frozenset(("tooluse", "toolcall", "functioncall", "servertooluse", "customtoolcall"))
_RESULTS: Final = frozenset(
    ("toolresult", "toolcallresponse", "functioncalloutput", "customtoolcalloutput", "websearchtoolresult")
)
_THOUGHTS: Final = frozenset(("thinking", "reasoning", "redactedthinking", "summarytext"))
_WORDS: Final = frozenset(("text", "inputtext", "outputtext", "refusal"))
_WRAPPERS: Final = ("message", "kwargs", "data", "content")  # one message within something around it


def read(texts: Iterable[str], role: str) -> list[Json]:
    """The messages of kept texts, `[{"role", "parts": [{"type", ...}]}]`; `role` is that of what names none.

    Parts are text, reasoning, tool_call and tool_call_response; what is none of them stays as it was. Texts that name
    no role are parts of one message.
    """
    found: list[Json] = []
    is_open = False
    for text in texts:
        for message, has_role in _messages(decoded(text), role, 0):
            if is_open and not has_role and found[-1]["role"] == message["role"]:
                found[-1]["parts"] += message["parts"]
            else:
                found.append(message)
            is_open = not has_role
    return found


def words(messages: Iterable[Json]) -> str:
    """What is written in messages, without thoughts and tools."""
    parts = (part for message in messages for part in message["parts"])
    return "\n\n".join(part["content"] for part in parts if part.get("type") == "text" and part["content"])


def _messages(value: Any, role: str, depth: int) -> Iterator[tuple[Json, bool]]:
    """Each message with whether it names its role."""
    if isinstance(value, list):
        for one in value:
            yield from _messages(one, role, depth + 1)
    elif isinstance(value, dict) and depth <= _DEPTH:
        listed = next((value[key] for key in ("messages", "candidates") if isinstance(value.get(key), list)), None)
        inner = next((value[key] for key in _WRAPPERS if _is_message(value.get(key))), None)
        said = _role(value)
        if listed is not None:
            yield from _messages(listed, role, depth + 1)
        elif inner is not None and not ("parts" in value or "tool_calls" in value):
            yield from _messages(inner, said or role, depth + 1)
        elif parts := list(_parts_of_message(value, said or role, depth)):
            yield {"role": said or _implied(parts, role), "parts": parts}, bool(said)
    elif value not in (None, ""):
        yield {"role": role, "parts": list(_parts(value, depth))}, False


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and any(key in value for key in ("role", "content", "parts"))


def _role(value: Json) -> str:
    said = value.get("role") or (value.get("type") if "content" in value else None)
    return _ROLES.get(said.lower().replace("_", ""), "") if isinstance(said, str) else ""


def _implied(parts: list[Json], role: str) -> str:
    """Who says such parts, where nobody is named."""
    types = {part.get("type") for part in parts}
    if types == {"tool_call_response"}:
        return "tool"
    return "assistant" if types <= {"tool_call", "reasoning"} else role


def _parts_of_message(value: Json, role: str, depth: int) -> Iterator[Json]:
    if _type(value) in _CALLS | _RESULTS | _THOUGHTS or "functionCall" in value or "functionResponse" in value:
        yield _part(value, depth)
        return
    for key in ("reasoning_content", "reasoning", "thinking"):
        if isinstance(value.get(key), str) and value[key]:
            yield {"type": "reasoning", "content": value[key]}
    body = next((value[key] for key in ("parts", "content", "contents", "text") if value.get(key)), None)
    if role == "tool" and "parts" not in value and body is not None and not _holds_results(body):
        id_ = _first_text(value, "tool_call_id", "toolCallId", "call_id", "id")
        yield _response(id_, _plain(body))
    elif body is not None:
        yield from _parts(body, depth)
    calls = value.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        if isinstance(call, dict):
            yield _call(call)
    if body is None and not calls and not _role(value):
        yield _part(value, depth)


def _holds_results(body: Any) -> bool:
    return isinstance(body, list) and any(isinstance(one, dict) and _type(one) in _RESULTS for one in body)


def _parts(value: Any, depth: int) -> Iterator[Json]:
    if isinstance(value, list) and depth <= _DEPTH:
        for one in value:
            yield from _parts(one, depth + 1)
    elif isinstance(value, dict):
        yield _part(value, depth)
    elif isinstance(value, str):
        if value:
            yield {"type": "text", "content": value}
    elif value is not None:
        yield {"type": "text", "content": msgspec.json.encode(value).decode()}


def _type(value: Json) -> str:
    return str(value.get("type") or "").lower().replace("_", "").replace("-", "")


def _part(value: Json, depth: int) -> Json:
    type_ = _type(value)
    if type_ in _CALLS or "functionCall" in value:
        return _call(value)
    if type_ in _RESULTS or "functionResponse" in value:
        return _result(value)
    if type_ in _THOUGHTS or value.get("thought") is True:
        return {
            "type": "reasoning",
            "content": _first_text(value, "content", "thinking", "text", "reasoning", "summary"),
        }
    said = next((value[key] for key in ("content", "text", "refusal") if isinstance(value.get(key), str)), None)
    if said is not None and (type_ in _WORDS or not type_):
        return {"type": "text", "content": said}
    is_named = isinstance(value.get("type"), str) and value["type"] not in ("", "text")  # a text has its content
    return value if is_named else {**value, "type": "other"}


def _call(value: Json) -> Json:
    keys = ("function", "functionCall", "function_call", "tool_call")
    function = next((value[key] for key in keys if isinstance(value.get(key), dict)), value)
    arguments = next((function[key] for key in ("arguments", "input", "args") if key in function), None)
    return {
        "type": "tool_call",
        "id": _first_text(value, "call_id", "id", "toolCallId", "tool_call_id") or _first_text(function, "id"),
        "name": _first_text(function, "name", "toolName") or _first_text(value, "name"),
        "arguments": decoded(arguments) if isinstance(arguments, str) else arguments,
    }


def _result(value: Json) -> Json:
    given = value.get("functionResponse")
    inner = given if isinstance(given, dict) else value
    body = next((inner[key] for key in ("response", "result", "output", "content") if key in inner), None)
    id_ = _first_text(inner, "tool_use_id", "call_id", "toolCallId", "tool_call_id", "id")
    return _response(id_, _plain(body))


def _response(id_: str, response: Any) -> Json:
    return {"type": "tool_call_response", "id": id_, "response": response}


def _plain(body: Any) -> Any:
    """A list of texts as one text; anything else as it is."""
    if isinstance(body, list):
        parts = list(_parts(body, 1))
        if parts and all(part["type"] == "text" for part in parts):
            return "\n".join(part["content"] for part in parts)
    return body


def _first_text(value: Json, *keys: str) -> str:
    """The first of these that is a text, or a list of texts (a summary in parts)."""
    for key in keys:
        found = value.get(key)
        if isinstance(found, list):
            found = words([{"parts": list(_parts(found, 1))}]) or "\n".join(
                part["content"] for part in _parts(found, 1) if isinstance(part.get("content"), str)
            )
        if isinstance(found, str) and found:
            return found
    return ""
