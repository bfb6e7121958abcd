"""Messages of every shape become blocks that one can read, and any text becomes something."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tachograph.web import messages

SHAPES: list[tuple[Any, list[tuple[str, str, str]]]] = [
    ({"role": "user", "content": "hi"}, [("user", "text", "hi")]),
    ({"role": "assistant", "parts": [{"type": "text", "content": "hi"}]}, [("assistant", "text", "hi")]),
    ({"role": "model", "parts": [{"text": "hi"}]}, [("assistant", "text", "hi")]),
    ({"message": {"role": "user", "content": "hi"}}, [("user", "text", "hi")]),
    (
        [{"type": "text", "text": "a"}, {"type": "thinking", "thinking": "b"}],
        [("", "text", "a"), ("", "thinking", "b")],
    ),
    ({"type": "tool_use", "name": "bash", "input": {"command": "ls"}}, [("assistant", "tool_call", "command: ls")]),
    ({"type": "toolCall", "name": "bash", "arguments": {"command": "ls"}}, [("assistant", "tool_call", "command: ls")]),
    ({"type": "tool_result", "content": [{"type": "text", "text": "out"}]}, [("tool", "tool_result", "out")]),
    ({"role": "tool", "content": "out"}, [("tool", "tool_result", "out")]),
    (
        {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": '{"a": "b"}'}}]},
        [("assistant", "tool_call", "a: b")],
    ),
    ({"functionResponse": {"name": "f", "response": "r"}}, [("tool", "tool_result", "r")]),
]


@pytest.mark.parametrize(("value", "blocks"), SHAPES)
def test_known_shapes(value: Any, blocks: list[tuple[str, str, str]]) -> None:
    message = messages.read(json.dumps(value))
    assert [(block.role, block.kind, block.text) for block in message.blocks] == blocks


def test_plain_text_is_the_text() -> None:
    assert messages.read("{not json", "user").blocks == [messages.Block("user", "text", "{not json")]
    assert messages.first_text(messages.read("words")) == "words"


def test_a_long_text_is_cut_and_says_so() -> None:
    block = messages.read("x" * 30_000).blocks[0]
    assert len(block.text) == 20_000 and block.is_cut


KEYS = st.sampled_from(
    ["role", "type", "content", "parts", "text", "message", "tool_calls", "function", "name", "input"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["user", "tool_use", "thinking"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_any_json_gives_blocks(value: Any) -> None:
    message = messages.read(json.dumps(value))
    assert message.blocks
    assert all(isinstance(block.text, str) and isinstance(block.name, str) for block in message.blocks)


@given(st.text())
def test_any_text_gives_blocks(text: str) -> None:
    assert messages.read(text).blocks
    assert messages.read("[" * 2000 + text).blocks
