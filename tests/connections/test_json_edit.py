"""Edits of JSON settings: they say what they have to, and what is not changed keeps its bytes."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tachograph.connections.edits import JSON, JSON_5, JSON_RELAXED, JSON_WITH_COMMENTS, is_same
from tachograph.connections.json_edit import JsonFormat
from tachograph.connections.json_scan import JSON5, PLAIN, RELAXED, scan
from tachograph.errors import ConfigError
from writing import objects, paths, scalars, values, written


def put_into(settings: dict[str, Any], path: list[str], value: Any) -> dict[str, Any] | None:
    """What the settings are after the edit, None where something on the way holds no settings."""
    expected = place = copy.deepcopy(settings)
    for key in path[:-1]:
        place = place.setdefault(key, {})
        if not isinstance(place, dict):
            return None
    place[path[-1]] = value
    return expected


def skeleton(text: str) -> str:
    """Everything but space and commas."""
    return re.sub(r"[\s,]", "", text)


@given(st.data(), objects, paths, values, st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_put_and_remove(
    data: st.DataObject, settings: dict[str, Any], path: list[str], value: Any, eol: str, is_relaxed: bool
) -> None:
    text = data.draw(written(settings, eol, is_relaxed))
    editor = JSON_RELAXED if is_relaxed else JSON
    assert is_same(editor.parse(text, "x"), settings)
    expected = put_into(settings, path, value)
    if expected is None:
        return
    after = editor.put(text, path, value)
    assert is_same(editor.parse(after, "x"), expected)
    if path[0] not in settings:
        # Nothing of what was there is lost: the new text is the old one with one piece more, and maybe a comma.
        at = skeleton(text)
        new = skeleton(after)
        assert new.startswith(at[: common(at, new)])
        assert new.endswith(at[common(at, new) :])
        undone = editor.remove(after, path[:1])
        assert is_same(editor.parse(undone, "x"), settings)
        assert skeleton(undone) == at
        assert [line.strip() for line in comments(undone)] == [line.strip() for line in comments(text)]


def common(left: str, right: str) -> int:
    """How long two texts are the same."""
    return next((n for n, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))


def comments(text: str) -> list[str]:
    """The comments that `written` puts in."""
    return re.findall(r"// note[^\n\r]*|/\* a: \[1, \{ \*/|/\* two\r?\n  lines \*/", text)


@given(st.data(), objects)
def test_remove(data: st.DataObject, settings: dict[str, Any]) -> None:
    text = data.draw(written(settings))
    for key in settings:
        after = JSON_RELAXED.remove(text, [key])
        assert is_same(JSON_RELAXED.parse(after, "x"), {k: v for k, v in settings.items() if k != key})
    assert JSON_RELAXED.remove(text, ["not there", "at all"]) == text


@given(st.data(), st.lists(scalars, max_size=4), scalars)
def test_items(data: st.DataObject, items: list[Any], item: Any) -> None:
    text = data.draw(written({"list": items}))
    after = JSON_RELAXED.put(text, ["list", len(items)], item)
    assert is_same(JSON_RELAXED.parse(after, "x"), {"list": [*items, item]})
    for n in range(len(items) + 1):
        fewer = JSON_RELAXED.parse(JSON_RELAXED.remove(after, ["list", n]), "x")["list"]
        assert is_same(fewer, [*items, item][:n] + [*items, item][n + 1 :])


@given(st.text(st.sampled_from("{}[]:,\"'/*\\\n\r \tu0a1-+.eE\u2028x"), max_size=30) | st.text(max_size=20))
def test_any_text_gives_settings_or_our_error(text: str) -> None:
    for editor in (JSON, JSON_WITH_COMMENTS, JSON_RELAXED, JSON_5):
        try:
            settings = editor.parse(text, "settings.json")
        except ConfigError as error:
            assert error.what.startswith("settings.json:")
            continue
        if not text.strip():
            continue
        assert is_same(editor.parse(editor.put(text, ["new"], 1), "x"), settings | {"new": 1})


@given(st.data(), values)
def test_reads_json_as_the_standard_library(data: st.DataObject, value: Any) -> None:
    text = data.draw(written(value, is_relaxed=False))
    assert is_same(scan(text, PLAIN, "x").value, json.loads(text))
    for cut in range(1, min(len(text), 12)):
        broken = text[:cut]
        try:
            expected = json.loads(broken)
        except ValueError:
            with pytest.raises(ConfigError):
                scan(broken, PLAIN, "x")
        else:
            assert is_same(scan(broken, PLAIN, "x").value, expected)


def test_json5() -> None:
    text = """// settings
    {unquoted: 'it\\'s', "quoted": "a\\
b", $_x1: +0x1F, 'half': .5, "inf": -Infinity, list: [1, 2,], /* last */ nul: null,}"""
    assert JSON_5.parse(text, "x") == {
        "unquoted": "it's",
        "quoted": "ab",
        "$_x1": 31,
        "half": 0.5,
        "inf": float("-inf"),
        "list": [1, 2],
        "nul": None,
    }
    for grammar in (PLAIN, RELAXED):
        with pytest.raises(ConfigError):
            scan(text, grammar, "x")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('{\n  "a": 1\n  "b": 2\n}', 3),
        ('{\n  "a": 1,\n}', 3),
        ('{"a": tru}', 1),
        ('{\n\n"a": "x\n"}', 3),
        ("[1]\n", 1),
        ('{"a": 1}\n\n}', 3),
        ('{"a": 01}', 1),
        ('{"a": "\\x"}', 1),
        ('{"a": 1', 1),
        ("{} // no", 1),
        ("[" * 1000, 1),
    ],
)
def test_says_the_line(text: str, line: int) -> None:
    with pytest.raises(ConfigError, match=rf"^/some/settings.json:{line}: got .*; expected "):
        JSON.parse(text, "/some/settings.json")


def test_the_last_of_a_name_counts() -> None:
    text = '{"a": 1, "a": 2}'
    assert JSON.parse(JSON.put(text, ["a"], 3), "x") == {"a": 3}
    assert JSON.remove(text, ["a"]) == "{}"


@pytest.mark.parametrize(
    ("editor", "before", "after"),
    [
        (JSON, "", '{\n  "a": {\n    "b": 1\n  }\n}\n'),
        (JSON, "{}", '{\n  "a": {\n    "b": 1\n  }\n}'),
        (JSON, '{"x":1}', '{"x":1,"a":{"b":1}}'),
        (JSON, '{"x": 1}', '{"x": 1, "a": {"b": 1}}'),
        (JSON, '{\n\t"x": 1\n}\n', '{\n\t"x": 1,\n\t"a": {\n\t\t"b": 1\n\t}\n}\n'),
        (JSON, '{\r\n    "x": 1\r\n}', '{\r\n    "x": 1,\r\n    "a": {\r\n        "b": 1\r\n    }\r\n}'),
        (JSON, '{\n  "a": {\n    "c": 2\n  }\n}', '{\n  "a": {\n    "c": 2,\n    "b": 1\n  }\n}'),
        (JSON, '{\n  "a": {"b": 7}\n}', '{\n  "a": {"b": 1}\n}'),
        (JSON_RELAXED, '{\n  "x": 1, // one\n}', '{\n  "x": 1, // one\n  "a": {\n    "b": 1\n  },\n}'),
        (JSON_RELAXED, '{\n  "x": 1 // one\n}', '{\n  "x": 1, // one\n  "a": {\n    "b": 1\n  }\n}'),
        (JSON_RELAXED, "{\n  // nothing yet\n}", '{\n  // nothing yet\n  "a": {\n    "b": 1\n  }\n}'),
    ],
)
def test_layout_is_kept(editor: JsonFormat, before: str, after: str) -> None:
    assert editor.put(before, ["a", "b"], 1) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{\n  "x": 1,\n  "a": 2\n}', '{\n  "x": 1\n}'),
        ('{\n  "a": 2,\n  "x": 1\n}', '{\n  "x": 1\n}'),
        ('{\n  "x": 1, // one\n  "a": [\n    2\n  ], // ours\n}', '{\n  "x": 1, // one\n // ours\n}'),
        ('{"a": 2, "x": 1}', '{"x": 1}'),
        ('{"x": 1, "a": 2}', '{"x": 1}'),
        ('{"a": 2}', "{}"),
        ('{\r\n  "x": 1,\r\n  "a": 2\r\n}', '{\r\n  "x": 1\r\n}'),
    ],
)
def test_layout_is_kept_on_removal(before: str, after: str) -> None:
    assert JSON_RELAXED.remove(before, ["a"]) == after


def test_json5_edits_keep_names_without_quotes() -> None:
    text = "{\n  gateway: { port: 1 }, // mine\n}\n"
    after = JSON_5.put(text, ["plugins", "load", "paths"], ["/x"])
    assert after.startswith("{\n  gateway: { port: 1 }, // mine\n")
    assert scan(after, JSON5, "x").value == {"gateway": {"port": 1}, "plugins": {"load": {"paths": ["/x"]}}}
    assert JSON_5.remove(after, ["plugins"]) == text
