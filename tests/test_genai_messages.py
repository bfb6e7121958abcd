"""Kept texts as messages of the GenAI conventions: every shape that somebody writes, and any other JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tachograph.questions import messages


def text(content: str) -> dict[str, str]:
    return {"type": "text", "content": content}


def call(id_: str = "t1", **arguments: Any) -> dict[str, Any]:
    return {"type": "tool_call", "id": id_, "name": "bash", "arguments": arguments}


def response(said: Any, id_: str = "t1") -> dict[str, Any]:
    return {"type": "tool_call_response", "id": id_, "response": said}


SHAPES: dict[str, tuple[Any, list[dict[str, Any]]]] = {
    "a plain text": ("hello", [{"role": "user", "parts": [text("hello")]}]),
    "conventions": (
        [{"role": "user", "parts": [{"type": "text", "content": "hello"}]}],
        [{"role": "user", "parts": [text("hello")]}],
    ),
    "chat completions": (
        [
            {"role": "developer", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "hello"}]},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "t1", "type": "function", "function": {"name": "bash", "arguments": '{"c":1}'}}],
            },
            {"role": "tool", "tool_call_id": "t1", "content": "done"},
        ],
        [
            {"role": "system", "parts": [text("be brief")]},
            {"role": "user", "parts": [text("hello")]},
            {"role": "assistant", "parts": [call(c=1)]},
            {"role": "tool", "parts": [response("done")]},
        ],
    ),
    "Anthropic": (
        [
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "x"},
                    {"type": "text", "text": "so"},
                    {"type": "tool_use", "id": "t1", "name": "bash", "input": {"c": 1}},
                ],
            },
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "ok"}]}],
            },
        ],
        [
            {"role": "assistant", "parts": [{"type": "reasoning", "content": "hm"}, text("so"), call(c=1)]},
            {"role": "user", "parts": [response("ok")]},
        ],
    ),
    "responses": (
        [
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hello"}]},
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
            {"type": "function_call", "call_id": "t1", "name": "bash", "arguments": '{"c":1}'},
            {"type": "function_call_output", "call_id": "t1", "output": "done"},
        ],
        [
            {"role": "user", "parts": [text("hello")]},
            {"role": "assistant", "parts": [{"type": "reasoning", "content": "hm"}, call(c=1)]},
            {"role": "tool", "parts": [response("done")]},
        ],
    ),
    "Gemini": (
        [
            {
                "role": "model",
                "parts": [{"text": "so"}, {"functionCall": {"id": "t1", "name": "bash", "args": {"c": 1}}}],
            },
            {
                "role": "user",
                "parts": [{"functionResponse": {"id": "t1", "name": "bash", "response": {"output": "ok"}}}],
            },
        ],
        [
            {"role": "assistant", "parts": [text("so"), call(c=1)]},
            {"role": "user", "parts": [response({"output": "ok"})]},
        ],
    ),
    "Vercel": (
        [
            {
                "role": "assistant",
                "content": [{"type": "tool-call", "toolCallId": "t1", "toolName": "bash", "input": {}}],
            },
            {"role": "tool", "content": [{"type": "tool-result", "toolCallId": "t1", "output": {"value": "ok"}}]},
        ],
        [
            {"role": "assistant", "parts": [call()]},
            {"role": "tool", "parts": [response({"value": "ok"})]},
        ],
    ),
    "LangChain": (
        {"messages": [{"type": "human", "content": "hello"}, {"kwargs": {"type": "ai", "content": "so"}}]},
        [{"role": "user", "parts": [text("hello")]}, {"role": "assistant", "parts": [text("so")]}],
    ),
    "a part of another kind": (
        [{"role": "user", "content": [{"type": "image", "source": {"data": "AAAA"}}]}],
        [{"role": "user", "parts": [{"type": "image", "source": {"data": "AAAA"}}]}],
    ),
}


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_that_somebody_writes(name: str) -> None:
    given_value, expected = SHAPES[name]
    written = given_value if isinstance(given_value, str) else json.dumps(given_value)
    assert messages.read([written], "user") == expected


@pytest.mark.parametrize("name", [name for name, (value, _) in SHAPES.items() if isinstance(value, list)])
def test_a_list_in_pieces_is_the_list(name: str) -> None:
    given_value, expected = SHAPES[name]
    assert messages.read([json.dumps(one) for one in given_value], "user") == expected


def test_texts_without_a_role_are_one_message() -> None:
    assert messages.read(["one", "two"], "assistant") == [{"role": "assistant", "parts": [text("one"), text("two")]}]


def test_what_was_read_is_read_as_it_is() -> None:
    for value, expected in SHAPES.values():
        if isinstance(value, list):
            again = messages.read([json.dumps(expected)], "user")
            assert again == expected


@pytest.mark.parametrize("written", ["{", "[1", '{"a":', "[" * 3000, '{"role":1}', "null", "\ud800{}"])
def test_what_is_no_json_is_a_text(written: str) -> None:
    for message in messages.read([written], "user"):
        assert message["role"] == "user"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(
            ("role", "type", "content", "parts", "text", "tool_calls", "function", "message", "messages", "thinking",
             "functionCall", "functionResponse", "arguments", "output", "summary", "id", "name", "kwargs", "x")
        ),
        inner | st.sampled_from(("user", "tool", "text", "tool_use", "tool_result", "reasoning", "message")),
        max_size=5,
    ),
    max_leaves=25,
)  # fmt: skip


@pytest.mark.parametrize("part", [{"type": "text"}, {"type": "text", "text": 5}, {"type": "text", "content": None}])
def test_a_text_without_words_breaks_nothing(part: Any) -> None:
    told = [{"role": "user", "content": [part]}, {"type": "tool_result", "tool_use_id": "t", "content": [part]}]
    found = messages.read([json.dumps(told)], "user")
    assert [message["parts"][0]["type"] for message in found] == ["other", "tool_call_response"]
    assert messages.words(found) == ""


@given(JSON)
def test_any_json_gives_messages(value: Any) -> None:
    for message in messages.read([json.dumps(value)], "user"):
        assert message["role"] in ("user", "assistant", "system", "tool")
        assert message["parts"]
        assert all(isinstance(part["type"], str) and part["type"] for part in message["parts"])
    assert isinstance(messages.words(messages.read([json.dumps(value)], "user")), str)
