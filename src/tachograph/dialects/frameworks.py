"""Python and JavaScript instrumentations: OpenLLMetry, OpenInference, Vercel AI SDK, pydantic-ai, LangSmith, and
the frameworks' own spans (CrewAI, Haystack)."""

from __future__ import annotations

import ast
import re
from typing import Any, Final

import msgspec

from tachograph.dialects.table import Dialect, Dollars, Ms, Record, Seconds
from tachograph.model import AGENT, MODEL_CALL, STEP, TOOL_RUN, TURN, Attributes, Meaning
from tachograph.vocabulary import FINISH_REASONS, text, tokens

_ASSOCIATED: Final = "traceloop.association.properties."
# Longer texts are no token details.
_DETAILS_CHARS: Final = 16_384

_REQUEST_TYPES: Final = {"chat": "chat", "completion": "text_completion", "embedding": "embeddings"}


def _openllmetry(record: Record, meaning: Meaning) -> None:
    """Up to 0.4 the operation stood in `llm.request.type`; a tool's name is that of its entity."""
    if meaning.role == TOOL_RUN and not meaning.tool_name:
        meaning.tool_name = text(record.attributes.get("traceloop.entity.name"))
    meaning.operation = meaning.operation or _REQUEST_TYPES.get(text(record.attributes.get("llm.request.type")), "")


OPENLLMETRY = Dialect(
    name="openllmetry",
    scopes=(
        "opentelemetry.instrumentation.openai.v1",
        "opentelemetry.instrumentation.openai.v0",
        "opentelemetry.instrumentation.openai_agents",
        "opentelemetry.instrumentation.anthropic",
        "opentelemetry.instrumentation.langchain",
        "opentelemetry.instrumentation.llamaindex",
        "opentelemetry.instrumentation.bedrock",
        "opentelemetry.instrumentation.haystack",
        "traceloop*",
    ),
    signatures=("traceloop.span.kind", "traceloop.workflow.name", "llm.request.type"),
    fields={
        "session_id": (
            _ASSOCIATED + "session_id",
            "gen_ai.conversation.id",
            "session.id",
            _ASSOCIATED + "thread_id",
            _ASSOCIATED + "chat_id",
        ),
        "user": (_ASSOCIATED + "user_id", "gen_ai.user", "enduser.id", "user.id"),
        "provider": ("gen_ai.provider.name", "gen_ai.system", _ASSOCIATED + "ls_provider"),
        "request_model": ("gen_ai.request.model", "llm.request.model", _ASSOCIATED + "ls_model_name"),
        "response_model": ("gen_ai.response.model", "llm.response.model"),
        "reasoning": ("gen_ai.usage.reasoning_tokens", "llm.usage.reasoning_tokens"),
        "is_streaming": ("gen_ai.is_streaming", "llm.is_streaming", "gen_ai.request.stream"),
        "finish_reason": ("gen_ai.response.finish_reasons", "gen_ai.completion.0.finish_reason"),
        "tool_name": ("gen_ai.tool.name",),
        "subagent": ("gen_ai.agent.name",),
    },
    roles={
        "traceloop.span.kind": {"workflow": AGENT, "agent": AGENT, "tool": TOOL_RUN, "task": STEP},
        "llm.request.type": {"completion": MODEL_CALL, "chat": MODEL_CALL, "embedding": MODEL_CALL, "rerank": STEP},
    },
    contents={
        "input": ("traceloop.entity.input", "gen_ai.task.input"),
        "output": ("traceloop.entity.output", "gen_ai.task.output"),
        "tools": ("llm.request.functions.*",),
    },
    finish=_openllmetry,
)


_OI_IDS: Final = re.compile(r'"(?:id|response_id)"\s*:\s*"((?:chatcmpl-|resp_|msg_)[A-Za-z0-9_-]+)"')


def _openinference(record: Record, meaning: Meaning) -> None:
    """The response id stands only inside output.value; a model call span of a step that called nothing is none."""
    attributes = record.attributes
    if meaning.role == MODEL_CALL:
        found = _OI_IDS.search(text(attributes.get("output.value"))[:20_000])
        if found:
            meaning.response_id = found.group(1)
        if attributes.get("openinference.span.kind") == "EMBEDDING":
            meaning.operation = "embeddings"
            meaning.is_call = meaning.usage is not None or meaning.is_error
        else:
            meaning.operation = meaning.operation or "chat"
            answered = any(key.startswith(("llm.output_messages.", "llm.finish_reason")) for key in attributes)
            meaning.is_call = meaning.usage is not None or meaning.is_error or answered or bool(meaning.response_id)
            meaning.role = MODEL_CALL if meaning.is_call else STEP
    elif meaning.role == TOOL_RUN:
        meaning.operation = "execute_tool"
        meaning.tool_name = meaning.tool_name or record.name
    metadata = attributes.get("metadata")
    if isinstance(metadata, str) and not (meaning.session_id and meaning.user):
        try:
            found_in = msgspec.json.decode(metadata)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return
        if isinstance(found_in, dict):
            meaning.session_id = meaning.session_id or text(found_in.get("session_id") or found_in.get("thread_id"))
            meaning.user = meaning.user or text(found_in.get("user_id"))


OPENINFERENCE = Dialect(
    name="openinference",
    scopes=("openinference.*",),
    signatures=("openinference.span.kind",),
    fields={
        "provider": ("llm.provider", "llm.system", "gen_ai.provider.name"),
        "request_model": ("llm.request.model_name", "llm.model_name", "embedding.model_name"),
        "response_model": ("llm.response.model_name", "llm.model_name"),
        "input": ("llm.token_count.prompt", "gen_ai.usage.input_tokens"),
        "output": ("llm.token_count.completion", "gen_ai.usage.output_tokens"),
        "cache_read": (
            "llm.token_count.prompt_details.cache_read",
            "llm.token_count.prompt_details.cache_input",
            "gen_ai.usage.cache_read.input_tokens",
        ),
        "cache_write": ("llm.token_count.prompt_details.cache_write", "gen_ai.usage.cache_write.input_tokens"),
        "reasoning": ("llm.token_count.completion_details.reasoning",),
        "cost_nanousd": (Dollars("llm.cost.total"),),
        "finish_reason": ("llm.finish_reason", "gen_ai.response.finish_reasons"),
        "tool_name": ("tool.name", "gen_ai.tool.name"),
        "tool_call_id": ("tool.id", "tool_call.id", "message.tool_call_id"),
        "subagent": ("agent.name", "gen_ai.agent.name"),
    },
    roles={
        "openinference.span.kind": {
            "LLM": MODEL_CALL,
            "EMBEDDING": MODEL_CALL,
            "AGENT": AGENT,
            "TOOL": TOOL_RUN,
            "CHAIN": STEP,
            "RETRIEVER": STEP,
            "RERANKER": STEP,
            "GUARDRAIL": STEP,
            "EVALUATOR": STEP,
            "PROMPT": STEP,
            "DECISION": STEP,
            "UNKNOWN": STEP,
        }
    },
    contents={
        "input": ("input.value", "llm.input_messages.*", "llm.prompts", "llm.prompts.*", "embedding.embeddings.*"),
        "output": ("output.value", "llm.output_messages.*", "llm.choices.*", "retrieval.documents.*"),
        "tools": ("llm.tools.*",),
        "arguments": ("tool.parameters",),
    },
    finish=_openinference,
)


def _vercel(record: Record, meaning: Meaning) -> None:
    """The outer span repeats the sum of its inner calls."""
    attributes = record.attributes
    operation = text(attributes.get("ai.operationId"))
    if operation.startswith("ai.embed"):
        meaning.operation = "embeddings"
    elif meaning.role == TOOL_RUN:
        meaning.operation = "execute_tool"
    elif operation and meaning.role in (MODEL_CALL, AGENT):
        meaning.operation = "chat"
    if meaning.usage is not None and meaning.provider in ("anthropic", "aws.bedrock", "gcp.vertex_ai"):
        _before_6(attributes, meaning)
    if meaning.role != MODEL_CALL and meaning.usage is not None:
        meaning.is_call = meaning.is_rollup = True


def _before_6(attributes: Attributes, meaning: Meaning) -> None:
    """Versions 3 to 5 give Anthropic's input tokens as they come, the cache beside them and the written part only in
    the provider's own metadata; from 6 on they are inclusive and have details."""
    if any(key.startswith(("ai.usage.inputTokenDetails.", "gen_ai.usage.cache_")) for key in attributes):
        return
    told = _details(attributes.get("ai.response.providerMetadata")).get("anthropic")
    told = told if isinstance(told, dict) else {}
    read = attributes.get("ai.usage.cachedInputTokens", told.get("cacheReadInputTokens"))
    written = told.get("cacheCreationInputTokens")
    usage = meaning.usage
    if usage is None or (read is None and written is None):
        return
    given = {
        "input": usage.input_total,
        "output": usage.output,
        "reasoning": usage.reasoning,
        "cache_read": read,
        "cache_write": written,
    }
    meaning.usage = tokens(given, False, True)


VERCEL = Dialect(
    name="vercel-ai",
    scopes=("ai",),
    names=("ai.",),
    signatures=("ai.operationId",),
    fields={
        "session_id": ("session.id", "ai.telemetry.metadata.sessionId", "ai.settings.context.sessionId"),
        "user": ("ai.telemetry.metadata.userId", "ai.settings.context.userId", "user.id"),
        "subagent": ("gen_ai.agent.name", "ai.telemetry.functionId"),
        "provider": ("gen_ai.provider.name", "ai.model.provider", "gen_ai.system"),
        "request_model": ("gen_ai.request.model", "ai.model.id"),
        "response_model": ("gen_ai.response.model", "ai.response.model"),
        "response_id": ("gen_ai.response.id", "ai.response.id"),
        "input": ("gen_ai.usage.input_tokens", "ai.usage.inputTokens", "ai.usage.promptTokens", "ai.usage.tokens"),
        "output": ("gen_ai.usage.output_tokens", "ai.usage.outputTokens", "ai.usage.completionTokens"),
        "cache_read": (
            "gen_ai.usage.cache_read.input_tokens",
            "ai.usage.inputTokenDetails.cacheReadTokens",
            "ai.usage.cachedInputTokens",
        ),
        "cache_write": (
            "gen_ai.usage.cache_creation.input_tokens",
            "gen_ai.usage.cache_write.input_tokens",
            "ai.usage.inputTokenDetails.cacheWriteTokens",
        ),
        "reasoning": ("ai.usage.outputTokenDetails.reasoningTokens", "ai.usage.reasoningTokens"),
        "finish_reason": ("gen_ai.response.finish_reasons", "ai.response.finishReason"),
        "ttft_ns": (Ms("ai.response.msToFirstChunk"), Seconds("gen_ai.client.operation.time_to_first_chunk")),
        "tool_name": ("ai.toolCall.name", "gen_ai.tool.name", "tool.name"),
        "tool_call_id": ("ai.toolCall.id", "gen_ai.tool.call.id", "tool.call_id"),
    },
    roles={
        "ai.operationId": {
            "ai.generateText": AGENT,
            "ai.streamText": AGENT,
            "ai.generateObject": AGENT,
            "ai.streamObject": AGENT,
            "ai.embed": STEP,
            "ai.embedMany": STEP,
            "ai.generateText.doGenerate": MODEL_CALL,
            "ai.streamText.doStream": MODEL_CALL,
            "ai.generateObject.doGenerate": MODEL_CALL,
            "ai.streamObject.doStream": MODEL_CALL,
            "ai.embed.doEmbed": MODEL_CALL,
            "ai.embedMany.doEmbed": MODEL_CALL,
            "ai.toolCall": TOOL_RUN,
        },
        "gen_ai.operation.name": {"agent_step": TURN},
    },
    contents={
        "input": ("ai.prompt.messages", "ai.prompt"),
        "tools": ("ai.prompt.tools",),
        "output": ("ai.response.text", "ai.response.object", "ai.response.toolCalls"),
        "arguments": ("ai.toolCall.args",),
        "result": ("ai.toolCall.result",),
    },
    finish=_vercel,
)

PYDANTIC_AI = Dialect(
    name="pydantic-ai",
    scopes=("pydantic-ai",),
    fields={
        "subagent": ("gen_ai.agent.name", "agent_name"),
        "prompt_id": ("gen_ai.agent.call.id",),
        "cost_nanousd": (Dollars("operation.cost"),),
        "request_model": ("gen_ai.request.model", "model_name"),
    },
    # Version 2 named its spans so, before they had operations.
    named_roles={"agent run": AGENT, "running tool": TOOL_RUN},
    contents={
        "arguments": ("tool_arguments",),
        "result": ("tool_response",),
        "output": ("final_result",),
        "input": ("pydantic_ai.all_messages",),
    },
)


def _langsmith(record: Record, meaning: Meaning) -> None:
    """The Python exporter writes token details as the repr of a dict, the JavaScript one as JSON."""
    if meaning.role == TOOL_RUN and not meaning.tool_name:
        meaning.tool_name = record.name
    given: dict[str, Any] = {
        "input": record.attributes.get("gen_ai.usage.input_tokens"),
        "output": record.attributes.get("gen_ai.usage.output_tokens"),
    }
    details = _details(record.attributes.get("gen_ai.usage.input_token_details"))
    given["cache_read"], given["cache_write"] = details.get("cache_read"), details.get("cache_creation")
    given["reasoning"] = _details(record.attributes.get("gen_ai.usage.output_token_details")).get("reasoning")
    if any(given[name] is not None for name in ("cache_read", "cache_write", "reasoning")):
        meaning.usage = tokens(given, True, True)


def _details(value: Any) -> dict[str, Any]:
    """A dict from its JSON, or from the text that Python prints of it; {} where it is neither."""
    if not isinstance(value, str):
        return value if isinstance(value, dict) else {}
    if len(value) > _DETAILS_CHARS:
        return {}
    for read in (msgspec.json.decode, ast.literal_eval):
        try:
            found = read(value)
        except (msgspec.DecodeError, ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            continue
        return found if isinstance(found, dict) else {}
    return {}


LANGSMITH = Dialect(
    name="langsmith",
    scopes=("langsmith*",),
    signatures=("langsmith.span.kind", "langsmith.trace.name"),
    fields={
        "session_id": ("langsmith.metadata.session_id", "langsmith.metadata.thread_id", "gen_ai.conversation.id"),
        "project": ("langsmith.trace.session_name",),
        "user": ("langsmith.metadata.user_id",),
        "is_streaming": ("langsmith.request.streaming",),
    },
    roles={
        "langsmith.span.kind": {
            "llm": MODEL_CALL,
            "tool": TOOL_RUN,
            "embedding": MODEL_CALL,
            "chain": STEP,
            "agent": AGENT,
        }
    },
    finish=_langsmith,
)


def _crewai(record: Record, meaning: Meaning) -> None:
    """An agent's run used its model, but no span tells of the calls; the crew's own totals count them twice
    (crewai 1.15.30: 6 requests told for 3), so they are kept as attributes and never billed."""
    if meaning.role == TOOL_RUN and any(key.startswith("crewai.tool.failure.") for key in record.attributes):
        meaning.is_error = True
    if record.name.endswith(".agent") and meaning.request_model and meaning.usage is None:
        meaning.is_call = meaning.is_rollup = True


CREWAI = Dialect(
    name="crewai",
    scopes=("crewai", "opentelemetry.instrumentation.crewai*"),
    services=("crewai",),
    signatures=("crewai.crew.id", "crewai.agent.id", "crewai.task.id"),
    fields={"subagent": ("gen_ai.agent.name", "crewai.agent.role"), "user": ("crewai.principal.id", "user.id")},
    roles={
        "gen_ai.operation.name": {"execute_task": STEP},
        "traceloop.span.kind": {"workflow": AGENT, "agent": AGENT, "tool": TOOL_RUN, "task": STEP},
    },
    named_roles={"crewai.workflow": AGENT},
    contents={"output": ("traceloop.entity.output", "crewai.crew.result", "crewai.crew.tasks_output")},
    finish=_crewai,
)


def _haystack(record: Record, meaning: Meaning) -> None:
    """With content tracing on, what a generator answers says its model and usage; without, it is a step like others."""
    meaning.is_error = meaning.is_error or bool(record.attributes.get("haystack.tool.error"))
    output = record.attributes.get("haystack.component.output")
    if meaning.usage is not None or not (isinstance(output, str) and '"usage"' in output):
        return
    try:
        replies = msgspec.json.decode(output, type=_Answered).replies
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return
    told = next((reply.meta for reply in replies if reply.meta.usage), None)
    if told is None:
        return
    given = told.usage
    meaning.usage = tokens(
        {
            "input": given.get("prompt_tokens", given.get("input_tokens")),
            "output": given.get("completion_tokens", given.get("output_tokens")),
            "cache_read": _details(given.get("prompt_tokens_details")).get("cached_tokens"),
            "reasoning": _details(given.get("completion_tokens_details")).get("reasoning_tokens"),
        },
        True,
        True,
    )
    if meaning.usage is not None:
        meaning.role, meaning.is_call, meaning.is_rollup = MODEL_CALL, True, False
        meaning.operation, meaning.response_model = "chat", told.model
        meaning.finish_reason = FINISH_REASONS.get(told.finish_reason.lower(), told.finish_reason)


class _Meta(msgspec.Struct):
    model: str = ""
    finish_reason: str = ""
    usage: dict[str, Any] = {}


class _Reply(msgspec.Struct):
    meta: _Meta = msgspec.field(default_factory=_Meta)


class _Answered(msgspec.Struct):
    replies: list[_Reply] = []


HAYSTACK = Dialect(
    name="haystack",
    scopes=("haystack",),
    names=("haystack.",),
    fields={
        "subagent": ("haystack.agent.name", "gen_ai.agent.name"),
        "tool_name": ("haystack.tool.name", "gen_ai.tool.name"),
        "tool_call_id": ("haystack.tool.call.id",),
        "error_message": ("haystack.tool.error",),
    },
    named_roles={
        "haystack.agent.run": AGENT,
        "haystack.pipeline.run": AGENT,
        "haystack.agent.step.tool": TOOL_RUN,
        "haystack.tool.run": TOOL_RUN,
        "haystack.agent.step": TURN,
    },
    noise=("haystack.tracing.auto_enable",),
    contents={
        "input": ("haystack.component.input", "haystack.pipeline.input_data"),
        "output": ("haystack.component.output", "haystack.pipeline.output_data"),
        "arguments": ("haystack.agent.step.tool.input",),
        "result": ("haystack.agent.step.tool.output",),
    },
    finish=_haystack,
)
