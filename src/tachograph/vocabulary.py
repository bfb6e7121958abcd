"""What the values and words of any source stand for: numbers sent as text, token counts, providers, stop reasons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from tachograph.model import Usage

# What sources count of a model call; the parts of model.Usage before they are made disjoint.
TOKENS: Final = frozenset(("input", "output", "cache_read", "cache_write", "cache_write_1h", "reasoning"))

# How the OpenTelemetry conventions call what a session or call says of where it ran and for whom.
RESOURCE: Final = {
    "service.name": "agent",
    "host.name": "host",
    "deployment.environment.name": "environment",
    "tenant.id": "tenant",
    "vcs.repository.name": "repository",
    "vcs.ref.head.name": "branch",
}

# Provider words of other dialects and older generations -> gen_ai.provider.name.
PROVIDERS: Final[dict[str, str]] = {
    "vertex_ai": "gcp.vertex_ai",
    "vertexai": "gcp.vertex_ai",
    "vertex": "gcp.vertex_ai",
    "gemini": "gcp.gemini",
    "google": "gcp.gemini",
    "google_genai": "gcp.gemini",
    "google-genai": "gcp.gemini",
    "az.ai.inference": "azure.ai.inference",
    "az.ai.openai": "azure.ai.openai",
    "azure": "azure.ai.openai",
    "azure-openai": "azure.ai.openai",
    "azure_openai": "azure.ai.openai",
    "xai": "x_ai",
    "x-ai": "x_ai",
    "bedrock": "aws.bedrock",
    "aws": "aws.bedrock",
    "amazon-bedrock": "aws.bedrock",
    "amazon_bedrock": "aws.bedrock",
    "mistralai": "mistral_ai",
    "mistral": "mistral_ai",
    "moonshotai": "moonshot_ai",
    "openai-codex": "openai",
    "firstparty": "anthropic",
    "watsonx": "ibm.watsonx.ai",
    # Frameworks that name themselves where the provider should stand.
    "crewai": "",
    "langchain": "",
    "langgraph": "",
    "llamaindex": "",
    "llama_index": "",
    "haystack": "",
}
# Vercel says `anthropic.messages`, `openai.responses`, `xai.chat`: the provider is the part before the interface.
INTERFACES: Final = frozenset(
    (
        *("chat", "messages", "responses", "completion", "completions", "embedding", "embeddings"),
        *("textembedding", "image", "generative-ai"),
    )
)
# Where people and products say who and where: read from the record, its scope and its resource
# (so that OTEL_RESOURCE_ATTRIBUTES count as well).
IDENTITY: Final[dict[str, tuple[str, ...]]] = {
    "session_id": (
        "session.id",
        "gen_ai.conversation.id",
        "conversation.id",
        "langfuse.session.id",
        "thread.session_id",
    ),
    "user": ("enduser.id", "user.email", "user.name", "user.id", "enduser.pseudo.id", "langfuse.user.id", "user"),
    "team": ("team.id", "team.name", "team"),
    "project": ("project.name", "project.id", "project", "openinference.project.name", "service.namespace"),
    "channel": ("channel", "channel.name", "messaging.channel"),
    "repository": ("vcs.repository.name", "vcs.repository.url.full", "repository", "git.repository"),
    "branch": ("vcs.ref.head.name", "git.branch", "branch"),
    "host": ("host.name",),
    "tenant": ("tenant.id", "organization.id", "tenant"),
    "environment": ("deployment.environment.name", "deployment.environment", "langfuse.environment", "env"),
}
# Attributes by which one Tachograph tells another what hooks and files meant, which of them told it, what was added to
# the record on the way and how its texts were cut.
MEANING_KEY: Final = "tachograph.meaning"
ORIGIN_KEY: Final = "tachograph.origin"
LAYOUT_KEY: Final = "tachograph.layout"
# The largest amount (tokens, nanoseconds, nano-dollars) that is taken for one: more is no measurement.
AMOUNT_MAX: Final = 10**18
TOKENS_MAX: Final = 10**12

# Stop words of the providers -> stop | length | content_filter | tool_call | error.
FINISH_REASONS: Final[dict[str, str]] = {
    word: reason
    for reason, words in {
        "stop": "stop end_turn stop_sequence pause_turn completed",
        "length": "length max_tokens max_output_tokens model_context_window_exceeded incomplete",
        "tool_call": "tool_call tool_calls tool-calls tool_use tooluse function_call",
        "content_filter": "content_filter content-filter safety blocklist prohibited_content spii refusal "
        "content_filtered guardrail_intervened",
        "error": "error failed cancelled canceled aborted recitation malformed_function_call other",
        "": "finish_reason_unspecified in_progress queued unknown null pending",
    }.items()
    for word in words.split()
}


def provider(word: str) -> str:
    """The convention's name of a provider, from whatever a dialect calls it; "" stays ""."""
    low = word.lower()
    known = PROVIDERS.get(low)
    if known is not None:
        return known
    head, _, rest = low.partition(".")
    if rest in INTERFACES:
        return PROVIDERS.get(head, head)
    if head == "vertex" or low.startswith("google.vertex"):
        return "gcp.vertex_ai"
    return low


def number(value: Any) -> float | int | None:
    """The number that a value stands for, as int where it is whole; None where it is none (sources send strings)."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, str):
        try:
            value = float(value) if not value.lstrip("-").isdigit() else int(value)
        except ValueError:
            return None
    if isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            return None
        return int(value) if value.is_integer() else value
    return value if isinstance(value, int) else None


def truth(value: Any) -> bool | None:
    """The truth value that a value stands for ("true", 1, True); None where it is none."""
    if isinstance(value, str):
        return {"true": True, "1": True, "false": False, "0": False}.get(value.lower())
    if isinstance(value, bool | int):
        return bool(value)
    return None


def text(value: Any) -> str:
    """A value as one short text; the first element of a list."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return text(value[0]) if value else ""
    if value is None or isinstance(value, dict):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def decoded(text: str) -> Any:
    """The value of a JSON text, of an object or a list; every other text itself."""
    if text.lstrip()[:1] not in ("{", "["):
        return text
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return text


def tokens(given: Mapping[str, Any], is_input_inclusive: bool, is_output_inclusive: bool) -> Usage | None:
    """Disjoint usage from what a source counts; None where it says nothing about input and output.

    An inclusive input smaller than its cache parts is taken as exclusive (a source that contradicts itself).
    """
    counts = {name: _count(given.get(name)) for name in TOKENS}
    total, output = counts["input"], counts["output"]
    if total is None and output is None:
        return None
    cached = (counts["cache_read"] or 0) + (counts["cache_write"] or 0)
    uncached = total
    if total is not None and is_input_inclusive and total >= cached:
        uncached = total - cached
    if output is not None and not is_output_inclusive:
        output += counts["reasoning"] or 0
    return Usage(
        input_uncached=uncached,
        cache_read=counts["cache_read"],
        cache_write=counts["cache_write"],
        cache_write_1h=counts["cache_write_1h"],
        output=output,
        reasoning=counts["reasoning"],
    )


def whole(value: Any, factor: int = 1, most: int = AMOUNT_MAX) -> int | None:
    """A whole number from 0 to `most` after multiplying by `factor`; None where the value is none."""
    amount = number(value)
    if amount is None or not 0 <= amount <= most:
        return None
    scaled = round(amount * factor)
    return scaled if scaled <= most else None


def _count(value: Any) -> int | None:
    """A token count: a whole number from 0; anything else is unknown."""
    if type(value) is int:  # nearly all are, and there are many
        return value if 0 <= value <= TOKENS_MAX else None
    return whole(value, 1, TOKENS_MAX)
