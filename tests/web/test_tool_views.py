"""Tool runs as people read them: the same run from each agent gives the same view, and any text gives some view."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tachograph.web import diffs, messages
from tachograph.web.diffs import Line
from tachograph.web.tool_views import ToolView, view

CHANGED = [Line("del", "teh"), Line("add", "the")]


def seen(tool: str, arguments: Any, *results: str) -> ToolView:
    """The view of a run whose arguments are an object or a text."""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return view(tool, [text], [messages.read(one, "tool") for one in results], results)


@pytest.mark.parametrize(
    ("tool", "arguments", "result", "output", "code"),
    [
        ("Bash", {"command": "ls -la", "description": "list"}, "a\nb", "a\nb", None),
        ("Bash", "ls -la", "a", "a", None),
        ("bash", {"command": "ls -la"}, '{"type":"text","text":"a\\n\\nCommand exited with code 2"}', "a", 2),
        ("exec_command", {"cmd": "ls -la"}, "Process exited with code 3\nOutput:\na", "a", 3),
        ("bash", {"command": "ls -la"}, "a\n<shellId: 0 completed with exit code 0>", "a", 0),
        ("run_shell_command", {"command": "ls -la"}, '{"output": "a", "exitCode": 1}', "a", 1),
        ("bash", {"command": "ls -la"}, '{"title": "t", "metadata": {"exit": 4}, "output": "a"}', "a", 4),
        ("shell", {"command": ["ls", "-la"]}, "a", "a", None),
        ("bash", {"command": "ls -la"}, '{"stdout": "a", "stderr": "oops", "code": 1}', "oops", 1),
    ],
)
def test_a_command_has_its_output_and_exit_code(
    tool: str, arguments: Any, result: str, output: str, code: int | None
) -> None:
    made = seen(tool, arguments, result)
    assert (made.kind, made.command, made.exit_code) == ("command", "ls -la", code)
    assert output in made.output
    assert "{" not in made.output


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("Edit", {"file_path": "a.md", "old_string": "teh", "new_string": "the", "replace_all": False}),
        ("edit", {"path": "a.md", "old_str": "teh", "new_str": "the"}),
        ("edit", {"path": "a.md", "edits": [{"oldText": "teh", "newText": "the"}]}),
        ("replace", {"file_path": "a.md", "instruction": "fix", "old_string": "teh", "new_string": "the"}),
        ("apply_patch", "*** Begin Patch\n*** Update File: a.md\n@@\n-teh\n+the\n*** End Patch\n"),
        ("apply_patch", {"patchText": "*** Begin Patch\n*** Update File: a.md\n@@\n-teh\n+the\n*** End Patch"}),
        ("apply_patch", {"input": "--- a.md\n+++ a.md\n@@ -1 +1 @@\n-teh\n+the\n"}),
    ],
)
def test_an_edit_is_a_change_of_a_file(tool: str, arguments: Any) -> None:
    made = seen(tool, arguments, "ok")
    assert made.kind == "edit"
    assert "a.md" in made.headline or any("a.md" in line.text for line in made.change)
    assert [line for line in made.change if line.kind in ("add", "del")] == CHANGED


def test_other_tools_say_in_a_line_what_they_were_asked() -> None:
    assert seen("Write", {"file_path": "a.md", "content": "one\ntwo"}).change == [
        Line("add", "one"),
        Line("add", "two"),
    ]
    assert seen("read", {"path": "a.md", "limit": 3}).headline == "a.md"
    assert seen("read", {"path": "a.md", "limit": 3}).rest == '{\n  "limit": 3\n}'
    assert seen("Grep", {"pattern": "TODO", "path": "src"}).headline == "TODO"
    assert seen("WebFetch", {"url": "https://a.example", "prompt": "sum"}).headline == "https://a.example"
    assert seen("Agent", {"description": "Scan", "prompt": "scan all"}).task == "scan all"
    plan = {"plan": [{"step": "one", "status": "completed"}, {"step": "two", "status": "in_progress"}]}
    made = seen("update_plan", plan)
    assert (made.headline, made.todos) == ("1 of 2 done", [("completed", "one"), ("in_progress", "two")])
    labelled = seen("mcp__demo__add", '[TOOL INPUT: mcp__demo__add]\n{"a":2,"b":40}', "[TOOL RESULT: x]\n42")
    assert (labelled.kind, labelled.headline, labelled.output) == ("plain", "a: 2  b: 40", "42")


def test_what_was_long_is_cut_and_says_so() -> None:
    assert diffs.between("a\n" * 3_000, "b\n" * 3_000)[-1] == Line("hunk", "… 5,600 more lines")
    assert seen("bash", {"command": "x"}, "y" * 50_000).is_cut


def test_lines_far_from_a_change_are_left_out() -> None:
    old = "\n".join(str(number) for number in range(100))
    lines = diffs.between(old, old.replace("50", "fifty"))
    assert [line.text for line in lines if line.kind == "same"] == ["47", "48", "49", "51", "52", "53"]


_KEYS: Any = st.sampled_from(
    ["command", "path", "edits", "oldText", "newText", "patch", "todos", "content", "status", "output", "exit_code",
     "metadata", "type", "source", "data", "mimeType", "image_url", "url", "stderr"]
)  # fmt: skip
_VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS | st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
_TOOLS: Any = st.sampled_from(["bash", "Edit", "apply_patch", "Write", "TodoWrite", "read", "task", "", "x__y"])


@given(_TOOLS | st.text(max_size=9), _VALUES, _VALUES, st.text(max_size=80))
def test_any_arguments_and_result_give_a_view(tool: str, arguments: Any, result: Any, words: str) -> None:
    texts = [json.dumps(arguments), words]
    results = [json.dumps(result), words]
    made = view(tool, texts, [messages.read(one, "tool") for one in results], results)
    assert made.exit_code is None or isinstance(made.exit_code, int)
    assert all(isinstance(one, str) for one in (made.headline, made.command, made.output, made.rest, made.task))
    assert all(isinstance(words, str) for pair in made.todos for words in pair)


@given(st.text(max_size=300), st.text(max_size=300))
def test_a_change_has_every_line_that_changed(old: str, new: str) -> None:
    lines = diffs.between(old, new)
    if old.splitlines() == new.splitlines():
        assert lines == []
    assert len([line for line in lines if line.kind != "add"]) <= len(old.splitlines()) + len(lines)
    assert {line.text for line in lines if line.kind == "add"} <= set(new.splitlines())
    assert {line.text for line in lines if line.kind == "del"} <= set(old.splitlines())


@pytest.mark.parametrize(
    ("part", "is_shown"),
    [
        ({"type": "image", "data": "iVBORw0KGgo=", "mimeType": "image/png"}, True),
        ({"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": "iVBORw0KGgo="}}, True),
        ({"type": "image_url", "image_url": {"url": "data:image/webp;base64,iVBORw0KGgo="}}, True),
        ({"inlineData": {"mimeType": "image/gif", "data": "iVBORw0KGgo="}}, True),
        ({"type": "image_url", "image_url": {"url": "https://a.example/x.png"}}, False),
        ({"type": "image", "data": "PHN2Zz48L3N2Zz4=", "mimeType": "image/svg+xml"}, False),
        ({"type": "image", "data": "javascript:alert(1)", "mimeType": "image/png"}, False),
        ({"type": "image", "data": 'iVBORw0KGgo="onerror="x', "mimeType": "image/png"}, False),
    ],
)
def test_only_images_that_were_kept_and_cannot_act_are_shown(part: dict[str, Any], is_shown: bool) -> None:
    text = json.dumps({"role": "user", "content": [{"type": "text", "text": "look"}, part]})
    assert any(block.data for block in messages.read(text).blocks) is is_shown
    assert (messages.image_of(text, 0) is not None) is is_shown
