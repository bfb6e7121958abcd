"""What providers answer on the wire: one scripted answer in the formats of Anthropic, OpenAI and Gemini."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

Json = dict[str, Any]


class Usage(NamedTuple):
    """Tokens of one call, disjoint; reasoning is part of the output."""

    input: int
    cache_read: int
    cache_write: int
    output: int
    reasoning: int

    @property
    def input_total(self) -> int:
        """Input as providers with inclusive counts tell it."""
        return self.input + self.cache_read + self.cache_write


class Answer(NamedTuple):
    """What the model says, before it has the form of an API."""

    id: str  # unique within a server; each API puts its prefix before it
    model: str
    text: str
    thinking: str
    tools: list[tuple[str, str, Any]]  # id, name, arguments
    stop: str  # in OpenAI's words, "" = what the content says
    chunks: int
    usage: Usage
    request: Json


class Sse(NamedTuple):
    """One event of a stream; `is_content` counts for scripts that drop a stream after some of it."""

    data: Json | str
    name: str = ""
    is_content: bool = False


def pieces(text: str, count: int) -> list[str]:
    """A text in at most so many pieces."""
    size = -(-len(text) // max(1, count)) or 1
    return [text[i : i + size] for i in range(0, len(text), size)]


# Anthropic Messages


def anthropic_id(answer: Answer) -> str:
    """The id of a message."""
    return f"msg_{answer.id}"


def anthropic(answer: Answer) -> Json:
    """A message as it is answered without streaming."""
    content: list[Json] = []
    if answer.thinking:
        content.append({"type": "thinking", "thinking": answer.thinking, "signature": "ZmFrZQ=="})
    if answer.text:
        content.append({"type": "text", "text": answer.text})
    content += [
        {"type": "tool_use", "id": f"toolu_{i}", "name": name, "input": given} for i, name, given in answer.tools
    ]
    words = {"stop": "end_turn", "tool_calls": "tool_use", "length": "max_tokens", "": ""}
    usage = answer.usage
    return {
        "id": anthropic_id(answer),
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "content": content,
        "stop_reason": words.get(answer.stop, answer.stop) or ("tool_use" if answer.tools else "end_turn"),
        "stop_sequence": None,
        "usage": {
            "input_tokens": usage.input,
            "cache_creation_input_tokens": usage.cache_write,
            "cache_read_input_tokens": usage.cache_read,
            "output_tokens": usage.output,
        },
    }


def anthropic_stream(answer: Answer) -> Iterator[Sse]:
    """The same as a stream: usage comes in two parts, as there."""
    whole = anthropic(answer)
    start = {**whole, "content": [], "stop_reason": None, "usage": {**whole["usage"], "output_tokens": 1}}
    yield Sse({"type": "message_start", "message": start}, "message_start")
    for index, block in enumerate(whole["content"]):
        empty, deltas = _anthropic_block(block, answer.chunks)
        yield Sse({"type": "content_block_start", "index": index, "content_block": empty}, "content_block_start")
        for delta in deltas:
            yield Sse({"type": "content_block_delta", "index": index, "delta": delta}, "content_block_delta", True)
        yield Sse({"type": "content_block_stop", "index": index}, "content_block_stop")
    delta = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    usage = {"output_tokens": answer.usage.output}
    yield Sse({"type": "message_delta", "delta": delta, "usage": usage}, "message_delta")
    yield Sse({"type": "message_stop"}, "message_stop")


def _anthropic_block(block: Json, chunks: int) -> tuple[Json, list[Json]]:
    """A content block as it is announced, and the deltas that fill it."""
    if block["type"] == "text":
        return {**block, "text": ""}, [{"type": "text_delta", "text": piece} for piece in pieces(block["text"], chunks)]
    if block["type"] == "thinking":
        signed = {"type": "signature_delta", "signature": block["signature"]}
        thought = {"type": "thinking_delta", "thinking": block["thinking"]}
        return {**block, "thinking": "", "signature": ""}, [thought, signed]
    given = pieces(json.dumps(block["input"]), 2)
    return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": piece} for piece in given]


# OpenAI Chat Completions


def chat_id(answer: Answer) -> str:
    """The id of a completion."""
    return f"chatcmpl-{answer.id}"


def chat(answer: Answer) -> Json:
    """A completion as it is answered without streaming."""
    message: Json = {"role": "assistant", "content": answer.text or None}
    if answer.tools:
        message["tool_calls"] = [_chat_tool(*tool) for tool in answer.tools]
    return {
        "id": chat_id(answer),
        "object": "chat.completion",
        "created": 1_795_000_000,
        "model": answer.model,
        "choices": [{"index": 0, "message": message, "finish_reason": _chat_stop(answer)}],
        "usage": _chat_usage(answer.usage),
    }


def chat_stream(answer: Answer) -> Iterator[Sse]:
    """The same as a stream; usage only for who asks for it, as there."""
    whole = chat(answer)
    frame = {key: whole[key] for key in ("id", "created", "model")} | {"object": "chat.completion.chunk"}

    def chunk(delta: Json, stop: str | None = None, is_content: bool = True) -> Sse:
        choice = {"index": 0, "delta": delta, "finish_reason": stop}
        return Sse({**frame, "choices": [choice]}, is_content=is_content)

    yield chunk({"role": "assistant", "content": ""}, is_content=False)
    yield from (chunk({"reasoning_content": piece}) for piece in pieces(answer.thinking, 3))
    yield from (chunk({"content": piece}) for piece in pieces(answer.text, answer.chunks))
    for index, tool in enumerate(answer.tools):
        call = _chat_tool(*tool)
        begun = {**call, "index": index, "function": {**call["function"], "arguments": ""}}
        yield chunk({"tool_calls": [begun]})
        for piece in pieces(call["function"]["arguments"], 2):
            yield chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    yield chunk({}, _chat_stop(answer), is_content=False)
    if (answer.request.get("stream_options") or {}).get("include_usage"):
        yield Sse({**frame, "choices": [], "usage": whole["usage"]})
    yield Sse("[DONE]")


def _chat_tool(call_id: str, name: str, given: Any) -> Json:
    return {"id": f"call_{call_id}", "type": "function", "function": {"name": name, "arguments": json.dumps(given)}}


def _chat_stop(answer: Answer) -> str:
    return answer.stop or ("tool_calls" if answer.tools else "stop")


def _chat_usage(usage: Usage) -> Json:
    return {
        "prompt_tokens": usage.input_total,
        "completion_tokens": usage.output,
        "total_tokens": usage.input_total + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read, "cache_write_tokens": usage.cache_write},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    }


# OpenAI Responses


def responses_id(answer: Answer) -> str:
    """The id of a response."""
    return f"resp_{answer.id}"


def responses(answer: Answer) -> Json:
    """A response as it is answered without streaming."""
    output: list[Json] = []
    if answer.thinking:
        summary = [{"type": "summary_text", "text": answer.thinking}]
        output.append(
            {"id": f"rs_{answer.id}", "type": "reasoning", "summary": summary, "encrypted_content": "ZmFrZQ=="}
        )
    if answer.text:
        part = {"type": "output_text", "text": answer.text, "annotations": [], "logprobs": []}
        output.append(
            {"id": f"msg_{answer.id}", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
        )
    output += [_responses_tool(answer.request, *tool) for tool in answer.tools]
    usage = answer.usage
    return {
        "id": responses_id(answer),
        "object": "response",
        "created_at": 1_795_000_000,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": answer.model,
        "output": output,
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": {
            "input_tokens": usage.input_total,
            "input_tokens_details": {"cached_tokens": usage.cache_read},
            "output_tokens": usage.output,
            "output_tokens_details": {"reasoning_tokens": usage.reasoning},
            "total_tokens": usage.input_total + usage.output,
        },
    }


def responses_stream(answer: Answer) -> Iterator[Sse]:
    """The same as a stream of numbered events."""
    whole = responses(answer)
    begun = {**whole, "status": "in_progress", "output": [], "usage": None}
    events: list[tuple[str, Json, bool]] = [
        ("response.created", {"response": begun}, False),
        ("response.in_progress", {"response": begun}, False),
    ]
    for index, item in enumerate(whole["output"]):
        added, filling = _responses_item(item, index, answer.chunks)
        events.append(("response.output_item.added", {"output_index": index, "item": added}, False))
        events += filling
        events.append(("response.output_item.done", {"output_index": index, "item": item}, False))
    events.append(("response.completed", {"response": whole}, False))
    for number, (name, data, is_content) in enumerate(events):
        yield Sse({"type": name, "sequence_number": number, **data}, name, is_content)


def _responses_item(item: Json, index: int, chunks: int) -> tuple[Json, list[tuple[str, Json, bool]]]:
    """An output item as it is announced, and the events that fill it."""
    at = {"item_id": item["id"], "output_index": index}
    if item["type"] == "message":
        part = item["content"][0]
        inner = {**at, "content_index": 0}
        filling = [("response.content_part.added", {**inner, "part": {**part, "text": ""}}, False)]
        for piece in pieces(part["text"], chunks):
            filling.append(("response.output_text.delta", {**inner, "delta": piece, "logprobs": []}, True))
        filling.append(("response.output_text.done", {**inner, "text": part["text"], "logprobs": []}, False))
        filling.append(("response.content_part.done", {**inner, "part": part}, False))
        return {**item, "status": "in_progress", "content": []}, filling
    if item["type"] == "function_call":
        given = item["arguments"]
        filling = [
            ("response.function_call_arguments.delta", {**at, "delta": given}, True),
            ("response.function_call_arguments.done", {**at, "arguments": given, "name": item["name"]}, False),
        ]
        return {**item, "status": "in_progress", "arguments": ""}, filling
    return item, []


def _responses_tool(request: Json, call_id: str, name: str, given: Any) -> Json:
    """A tool call in the form that the request declared the tool in."""
    declared = request.get("tools") or []
    call = {"call_id": f"call_{call_id}", "status": "completed"}
    if any(tool.get("type") == "custom" and tool.get("name") == name for tool in declared):
        text = given if isinstance(given, str) else json.dumps(given)
        return {"id": f"ctc_{call_id}", "type": "custom_tool_call", "name": name, "input": text, **call}
    if name == "local_shell":
        action = {"type": "exec", "command": given.get("command"), "env": {}}
        return {"id": f"lsh_{call_id}", "type": "local_shell_call", "action": action, **call}
    made = {"id": f"fc_{call_id}", "type": "function_call", "name": name, "arguments": json.dumps(given), **call}
    for space in declared:
        for tool in space.get("tools") or [] if space.get("type") == "namespace" else []:
            if name == f"{space['name']}__{tool['name']}":
                return {**made, "namespace": space["name"], "name": tool["name"]}
    return made


# Gemini generateContent


def gemini_id(answer: Answer) -> str:
    """The id of a response."""
    return answer.id


def gemini(answer: Answer) -> Json:
    """A response as it is answered without streaming."""
    return _gemini_frame(answer, _gemini_parts(answer), is_last=True)


def gemini_stream(answer: Answer) -> Iterator[Sse]:
    """The same as a stream: a frame for each part, the last one with usage."""
    parts = _gemini_parts(answer)
    for index, part in enumerate(parts):
        yield Sse(_gemini_frame(answer, [part], is_last=index == len(parts) - 1), is_content=True)


def _gemini_parts(answer: Answer) -> list[Json]:
    wanted = answer.request.get("generationConfig") or {}
    if (wanted.get("responseJsonSchema") or wanted.get("responseSchema")) and not answer.tools:
        # What the CLI's own router and loop checks ask for.
        told = {"reasoning": "scripted", "next_speaker": "user", "model_choice": "pro", "complexity_score": 20}
        return [{"text": json.dumps(told | {"complexity_reasoning": "scripted", "corrected_target_snippet": ""})}]
    parts: list[Json] = [{"text": answer.thinking, "thought": True}] if answer.thinking else []
    parts += [{"text": piece} for piece in pieces(answer.text, answer.chunks)]
    parts += [{"functionCall": {"id": f"fc{i}", "name": name, "args": given}} for i, name, given in answer.tools]
    return parts or [{"text": ""}]


def _gemini_frame(answer: Answer, parts: list[Json], is_last: bool) -> Json:
    candidate: Json = {"content": {"role": "model", "parts": parts}, "index": 0}
    frame: Json = {"candidates": [candidate], "modelVersion": answer.model, "responseId": gemini_id(answer)}
    if is_last:
        usage = answer.usage
        candidate["finishReason"] = {"length": "MAX_TOKENS"}.get(answer.stop, "STOP")
        frame["usageMetadata"] = {
            "promptTokenCount": usage.input_total,
            "candidatesTokenCount": usage.output - usage.reasoning,
            "totalTokenCount": usage.input_total + usage.output,
            "cachedContentTokenCount": usage.cache_read,
            "thoughtsTokenCount": usage.reasoning,
        }
    return frame


class Api(NamedTuple):
    """One provider's API: how it answers at once, and as a stream."""

    response_id: Callable[[Answer], str]
    whole: Callable[[Answer], Json]
    stream: Callable[[Answer], Iterator[Sse]]


APIS = {
    "anthropic": Api(anthropic_id, anthropic, anthropic_stream),
    "chat": Api(chat_id, chat, chat_stream),
    "responses": Api(responses_id, responses, responses_stream),
    "gemini": Api(gemini_id, gemini, gemini_stream),
}
