"""What the spans of every plug-in have alike: ids, names, contents, and a call as the GenAI conventions say it."""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import Any, Final
from urllib.parse import unquote

from tachograph.lines import record, words
from tachograph.model import Attributes, Content, Meaning, Usage
from tachograph.vocabulary import tokens, whole

# OTLP: kinds of spans, and the status of one that failed.
INTERNAL: Final = 1
CLIENT: Final = 3
ERROR: Final = 2
IS_OPEN: Final = "tachograph.is_open"
NAME_MAX: Final = 512
MESSAGE_MAX: Final = 2000
ATTEMPTS_MAX: Final = 100
# How a message says that its call failed; its error begins with the HTTP status: `429 {...}`, `503: {...}`.
FAILED: Final = ("error", "aborted")
HTTP_STATUS: Final = re.compile(r"^\s*([45]\d\d)\b")


def short(value: Any) -> str:
    """A name or id, as much of it as one can be long: what is remembered has to stay small."""
    return words(value)[:NAME_MAX]


def digest(size_bytes: int, *parts: str | int) -> str:
    """An id that follows from what it stands for: the same for any reading, in any pieces."""
    told = "\0".join(map(str, parts)).encode("utf-8", "replace")
    return blake2b(told, digest_size=size_bytes).hexdigest()


def folder_name(path: str) -> str:
    """The last part of a path, of any system."""
    return path.replace("\\", "/").rstrip("/").rpartition("/")[2]


def resource_of(told: str) -> dict[str, str]:
    """The pairs of OTEL_RESOURCE_ATTRIBUTES: `key=value`, a comma between them, values percent-encoded."""
    pairs = (pair.partition("=") for pair in told.split(",") if "=" in pair)
    return {key.strip(): unquote(value.strip()) for key, _, value in pairs if key.strip()}


def told_of(attributes: Attributes) -> Attributes:
    """The attributes that have a value."""
    return {name: value for name, value in attributes.items() if value is not None and value != ""}


def filled(contents: tuple[Content, ...]) -> list[Content] | None:
    """The contents that hold something, None where none does."""
    return [content for content in contents if any(content.pieces)] or None


def usage_of(given: dict[str, Any], reasoning: Any) -> Usage | None:
    """The tokens of a message of Pi's agent loop, which OpenClaw is made of as well."""
    return tokens(
        {
            "input": given.get("input"),
            "output": given.get("output"),
            "cache_read": given.get("cacheRead"),
            "cache_write": given.get("cacheWrite"),
            "cache_write_1h": given.get("cacheWrite1h"),
            "reasoning": reasoning,
        },
        is_input_inclusive=False,
        is_output_inclusive=True,
    )


def take_cost(meaning: Meaning, cost: Any) -> None:
    """What a message says that its call cost: dollars in all, of the provider's bill or its own estimate."""
    total = whole(record(cost).get("total") if isinstance(cost, dict) else cost, 1_000_000_000)
    if total:
        is_billed = record(cost).get("totalFromProvider") is True
        meaning.cost_nanousd, meaning.cost_kind = total, "billed" if is_billed else "source_estimate"


def conventions(meaning: Meaning) -> Attributes:
    """A call as attributes of the GenAI conventions; what is not known is None or ""."""
    usage = meaning.usage or Usage()
    return {
        "gen_ai.operation.name": meaning.operation,
        "gen_ai.provider.name": meaning.provider,
        "gen_ai.request.model": meaning.request_model,
        "gen_ai.response.model": meaning.response_model,
        "gen_ai.response.id": meaning.response_id,
        "gen_ai.conversation.id": meaning.session_id,
        "gen_ai.response.finish_reasons": [meaning.finish_reason] if meaning.finish_reason else "",
        "http.response.status_code": meaning.http_status,
        "error.type": meaning.error_type,
        "gen_ai.response.time_to_first_chunk": None if meaning.ttft_ns is None else meaning.ttft_ns / 1e9,
        "gen_ai.usage.input_tokens": usage.input_total,
        "gen_ai.usage.output_tokens": usage.output,
        "gen_ai.usage.cache_read.input_tokens": usage.cache_read,
        "gen_ai.usage.cache_creation.input_tokens": usage.cache_write,
        "gen_ai.usage.reasoning.output_tokens": usage.reasoning,
    }
