"""Kept texts as blocks that one can read: messages of every shape that providers and instrumentations write."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec
from markupsafe import Markup
from msgspec import Struct, field

SHOWN_CHARS: Final = 20_000  # beyond this a block is cut on the page and linked in full
_DEPTH: Final = 4  # messages in parts in messages: deeper is shown as the JSON it is
_ROLES: Final = frozenset(("user", "assistant", "system", "developer", "tool", "model", "human", "ai", "function"))
_ROLE_NAMES: Final = {"model": "assistant", "ai": "assistant", "human": "user", "developer": "system"}
_TEXT_TYPES: Final = frozenset(("text", "inputtext", "outputtext", "refusal", "message", ""))
_THINKING_TYPES: Final = frozenset(("thinking", "reasoning", "redactedthinking", "summarytext"))
_IMAGE_TYPES: Final = frozenset(("image", "inputimage", "imageurl", "blob", "inlinedata", "media"))
_IMAGE_KINDS: Final = frozenset(("image/png", "image/jpeg", "image/gif", "image/webp"))  # none that can hold a script
_IMAGE_CHARS_MAX: Final = 4_000_000
_BASE64: Final = re.compile(r"[A-Za-z0-9+/]{8,}={0,2}")
_DATA_ADDRESS: Final = re.compile(r"data:(image/[a-z]+);base64,")
# Kinds of parts, in lower case and without what joins the words: tool_use, toolCall, tool-call.
_CALL_TYPES: Final = frozenset(("tooluse", "toolcall", "functioncall", "servertooluse", "customtoolcall"))
_RESULT_TYPES: Final = frozenset(
    ("toolresult", "toolcallresponse", "functioncalloutput", "customtoolcalloutput", "websearchtoolresult")
)


class Block(Struct):
    """One readable piece: `kind` is text, thinking, tool_call, tool_result, image or other; `role` who said it."""

    role: str
    kind: str
    text: str
    name: str = ""  # of the tool
    is_cut: bool = False
    html: Markup = Markup()  # the text as its Markdown means it, "" = as it came
    data: str = ""  # of an image, in Base64
    number: int = 0  # of an image: which one of its message


class Message(Struct):
    """The blocks of one kept text; `hash` finds it in full."""

    role: str
    blocks: list[Block] = field(default_factory=list)
    hash: str = ""


def read(text: str, role: str = "", hash_: str = "", chars: int = SHOWN_CHARS) -> Message:
    """The text as blocks of at most `chars`; what is no message of a known shape is one block of text."""
    value = _json(text)
    blocks = _blocks(value, role, 0) if isinstance(value, (dict, list)) else []
    if not blocks:
        blocks = [Block(role, "text", text)]
    for block in blocks:
        if len(block.text) > chars:
            block.text, block.is_cut = block.text[:chars], True
    for number, block in enumerate(block for block in blocks if block.data):
        block.number = number
    return Message(blocks[0].role, blocks, hash_)


def image_of(text: str, number: int) -> tuple[str, str] | None:
    """The kind and the Base64 of an image in a kept text."""
    images = [block for block in read(text).blocks if block.data]
    return (images[number].name, images[number].data) if number < len(images) else None


def first_text(message: Message) -> str:
    """The first words that somebody wrote, "" where there are none."""
    return next((b.text for b in message.blocks if b.kind == "text" and b.text.strip()), "")


def _json(text: str) -> Any:
    if not text[:1] or text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return None


def _blocks(value: Any, role: str, depth: int) -> list[Block]:
    if isinstance(value, str):
        return [Block(role, "text", value)] if value else []
    if isinstance(value, list):
        return [block for one in value for block in _blocks(one, role, depth + 1)]
    if not isinstance(value, dict) or depth > _DEPTH:
        return [Block(role, "other", _pretty(value))]
    said = value.get("role")
    if isinstance(said, str) and said.lower() in _ROLES:
        role = _ROLE_NAMES.get(said.lower(), said.lower())
    inner = value.get("message")
    if isinstance(inner, dict) and "type" not in inner:  # OpenInference and transcripts wrap the message
        return _blocks(inner, role, depth + 1)
    return _part(value, role, depth)


def _part(value: dict[str, Any], role: str, depth: int) -> list[Block]:
    type_ = str(value.get("type", "")).lower().replace("_", "").replace("-", "")
    if type_ in _CALL_TYPES or "functionCall" in value or ("function_call" in value and "content" not in value):
        return [_call(value, role)]
    if type_ in _RESULT_TYPES or "functionResponse" in value:
        return [_result(value, depth)]
    if type_ in _IMAGE_TYPES or "inlineData" in value or "inline_data" in value:
        return [_image(value, role)]
    if type_ in _THINKING_TYPES or value.get("thought") is True:
        return [Block(role, "thinking", _first(value, "thinking", "content", "text", "reasoning", "summary"))]
    blocks: list[Block] = []
    for key in ("reasoning_content", "thinking"):
        if isinstance(value.get(key), str) and value[key]:
            blocks.append(Block(role, "thinking", value[key]))
    body = next(
        (value[k] for k in ("parts", "content", "text", "contents") if value.get(k) not in (None, "", [])), None
    )
    if body is not None and (role or type_ in _TEXT_TYPES or "parts" in value):
        is_result = role in ("tool", "function")
        said = _blocks(body, role, depth + 1)
        if is_result:
            said = [Block(role, "tool_result", b.text, _name(value)) if b.kind == "text" else b for b in said]
        blocks += said
    calls = value.get("tool_calls")
    if isinstance(calls, list):
        blocks += [_call(one, role or "assistant") for one in calls if isinstance(one, dict)]
    if not blocks and not (role and set(value) <= {"role", "content", "parts", "finish_reason", "refusal"}):
        blocks.append(Block(role, "other", _pretty(value)))
    return blocks


def _image(value: dict[str, Any], role: str) -> Block:
    """An image that was kept whole; one that is elsewhere is its address as text, and never fetched."""
    names = ("source", "inlineData", "inline_data", "image_url", "imageUrl", "blob")
    inner = next((value[name] for name in names if value.get(name)), value)
    given = inner if isinstance(inner, dict) else {"data": inner}
    data = next((given[k] for k in ("data", "url", "image", "content") if isinstance(given.get(k), str)), "")
    kinds = (given.get(k, value.get(k)) for k in ("media_type", "mimeType", "mime_type", "mediaType"))
    kind = next((one for one in kinds if isinstance(one, str)), "")
    if found := _DATA_ADDRESS.match(data):
        kind, data = found[1], data[found.end() :]
    if kind not in _IMAGE_KINDS or len(data) > _IMAGE_CHARS_MAX or not _BASE64.fullmatch(data):
        about = {k: v for k, v in value.items() if not isinstance(v, str) or len(v) < 400}
        return Block(role, "other", _pretty(about), "image")
    return Block(role, "image", f"{kind}, {len(data) * 3 // 4:,} bytes", kind, data=data)


def _call(value: dict[str, Any], role: str) -> Block:
    function = next((value[k] for k in ("function", "functionCall", "function_call", "tool_call") if k in value), value)
    if not isinstance(function, dict):
        function = value
    arguments = next((function[k] for k in ("arguments", "input", "args") if k in function), None)
    return Block(role or "assistant", "tool_call", _text(arguments), _name(function) or _name(value))


def _result(value: dict[str, Any], depth: int) -> Block:
    inner = value.get("functionResponse", value)
    if not isinstance(inner, dict):
        inner = value
    body = next((inner[k] for k in ("content", "response", "result", "output") if k in inner), None)
    if isinstance(body, list):
        body = "\n".join(block.text for block in _blocks(body, "tool", depth + 1))
    return Block("tool", "tool_result", _text(body), _name(inner))


def _name(value: dict[str, Any]) -> str:
    name = value.get("name")
    return name if isinstance(name, str) else ""


def _first(value: dict[str, Any], *keys: str) -> str:
    return next((_text(value[k]) for k in keys if value.get(k)), "")


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        parsed = _json(value)
        return _pretty(parsed) if isinstance(parsed, (dict, list)) else value
    return _pretty(value)


def _pretty(value: Any) -> str:
    if isinstance(value, dict) and value and all(isinstance(v, str) for v in value.values()) and len(value) <= 3:
        # Arguments of most tools: a command or a path reads better with its line breaks than as one JSON string.
        return "\n".join(f"{key}: {text}" for key, text in value.items())
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def pretty_json(value: Any) -> str:
    """Any value of the store as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
