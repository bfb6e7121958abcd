"""Edits JSON settings as text: what is not changed keeps its bytes, its comments and its place."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from tachograph.connections.json_scan import Element, Grammar, Node, scan
from tachograph.errors import ConfigError

_LINE_SPACE: Final = " \t"
Path = Sequence[str | int]


class JsonFormat:
    """The editor of one kind of JSON (see edits.Format)."""

    def __init__(self, grammar: Grammar) -> None:
        self._grammar = grammar

    def parse(self, text: str, name: str) -> dict[str, Any]:
        """What the settings say; an empty file says nothing. Raises ConfigError."""
        if not text.strip():
            return {}
        value = scan(text, self._grammar, name).value
        if not isinstance(value, dict):
            raise ConfigError(f"{name}:1: got {_kind(value)}; expected an object", "it was not changed")
        return value

    def put(self, text: str, path: Path, value: Any) -> str:
        """The text with `value` at `path`; the index after the last of a list adds to it."""
        if not text.strip():
            return _render(_nested(path, value), "", _Style("  ", "\n", False, ": ")) + "\n"
        node, parents = self._root(text), []
        for depth, key in enumerate(path):
            place = node.find(key)
            if place is None:
                new = _nested(path[depth + 1 :], value)
                return _insert(text, node, key if isinstance(key, str) else None, new, self._style(text, node))
            parents.append(node)
            node = node.elements[place].node
        style = self._style(text, parents[-1]) if parents else self._style(text, node)
        return text[: node.start] + _render(value, _indent_at(text, node.start), style) + text[node.end :]

    def remove(self, text: str, path: Path) -> str:
        """The text without what stands at `path`; the same text where nothing does."""
        while True:
            node = self._root(text)
            for key in path[:-1]:
                place = node.find(key)
                if place is None:
                    return text
                node = node.elements[place].node
            place = node.find(path[-1])
            if place is None:
                return text
            text = _cut(text, node, place)
            if isinstance(path[-1], int):
                return text  # and not the next one, which has moved up

    def _root(self, text: str) -> Node:
        return scan(text, self._grammar, "settings")

    def _style(self, text: str, node: Node) -> _Style:
        """How the file is laid out around `node`."""
        root = self._root(text)
        eol = "\r\n" if "\r\n" in text else "\n"
        first = root.elements[0] if root.elements else None
        unit = _indent_at(text, first.start) if first and _is_on_own_line(text, root) else ""
        holder = node if node.elements else root
        is_flat = bool(holder.elements) and not _is_on_own_line(text, holder)
        member = next((e for e in (*node.elements, *root.elements) if e.key is not None), None)
        colon = text[member.key_end : member.node.start] if member else ": "
        return _Style(unit or "  ", eol, is_flat, colon if not colon.strip(": ") else ": ")


class _Style:
    """How a file is laid out: its indentation, its line ends, whether an object stands on one line, its colons."""

    def __init__(self, unit: str, eol: str, is_flat: bool, colon: str) -> None:
        self.unit, self.eol, self.is_flat, self.colon = unit, eol, is_flat, colon
        self.is_compact = is_flat and not colon.endswith(" ")


def _kind(value: Any) -> str:
    return {list: "a list", str: "a text", bool: "true or false", type(None): "null"}.get(type(value), "a number")


def _nested(path: Path, value: Any) -> Any:
    """The value within the objects and lists that lead to it."""
    for key in reversed(path):
        value = {key: value} if isinstance(key, str) else [value]
    return value


def _render(value: Any, indent: str, style: _Style) -> str:
    if style.is_flat:
        return json.dumps(value, ensure_ascii=False, separators=("," if style.is_compact else ", ", style.colon))
    text = json.dumps(value, ensure_ascii=False, indent=style.unit, separators=(",", style.colon))
    return text.replace("\n", style.eol + indent)


def _insert(text: str, node: Node, key: str | None, value: Any, style: _Style) -> str:
    """The text with one more element at the end of `node`."""
    name = json.dumps(key, ensure_ascii=False) + style.colon if key is not None else ""
    if not node.elements:
        return _fill(text, node, name, value, style)
    last = node.elements[-1]
    has_comma = last.comma >= 0
    close = node.end - 1
    at = _after_remarks(text, last.comma + 1 if has_comma else last.node.end, close)
    is_own_line = _is_on_own_line(text, node)
    if is_own_line or "//" in text[last.node.end : at]:
        indent = _indent_at(text, node.elements[0].start) if is_own_line else _indent_at(text, node.start) + style.unit
        lead = style.eol + indent
    else:
        indent, lead = _indent_at(text, node.start), "" if style.is_compact else " "
    piece = lead + name + _render(value, indent, style) + ("," if has_comma else "")
    end = last.node.end
    return text[:end] + ("" if has_comma else ",") + text[end:at] + piece + text[at:]


def _fill(text: str, node: Node, name: str, value: Any, style: _Style) -> str:
    """The text with the first element of an empty object or list."""
    start, close = node.start + 1, node.end - 1
    outer = _indent_at(text, node.start)
    remarks = text[start:close].rstrip(" \t\r\n")
    if style.is_flat and not remarks:
        return text[:start] + name + _render(value, outer, style) + text[close:]
    at = start + len(remarks)
    inner = outer + style.unit
    rest = text[at:close]
    if "\n" not in rest or not remarks:
        rest = style.eol + outer
    return text[:at] + style.eol + inner + name + _render(value, inner, style) + rest + text[close:]


def _is_on_own_line(text: str, node: Node) -> bool:
    """Whether the elements stand below the bracket and not beside it."""
    return "\n" in text[node.start : node.elements[0].start]


def _indent_at(text: str, at: int) -> str:
    """The space that the line of `at` begins with."""
    line = text[text.rfind("\n", 0, at) + 1 : at]
    return line[: len(line) - len(line.lstrip(_LINE_SPACE))]


def _after_remarks(text: str, at: int, end: int) -> int:
    """After the comments that follow on the same line: they belong to what stands before them."""
    place = at
    while True:
        while place < end and text[place] in _LINE_SPACE:
            place += 1
        if text.startswith("//", place):
            stops = [stop for mark in "\n\r\u2028\u2029" if (stop := text.find(mark, place, end)) >= 0]
            return min(stops, default=end)
        if not text.startswith("/*", place):
            return at
        close = text.find("*/", place + 2) + 2
        if "\n" in text[place:close]:
            return at
        at = place = close


def _cut(text: str, node: Node, place: int) -> str:
    """The text without one element, its comma and the line it leaves empty."""
    element = node.elements[place]
    if len(node.elements) == 1 and not _without(text, element, node).strip():
        return text[: node.start + 1] + text[node.end - 1 :]
    cuts = [_with_line(text, *_span(text, element), is_last=place == len(node.elements) - 1)]
    if element.comma >= 0 and element.comma >= cuts[0][1]:
        cuts.append((element.comma, element.comma + 1))
    elif element.comma < 0 and place > 0:
        before = node.elements[place - 1].comma
        cuts.append((before, before + 1))
    for start, end in sorted(cuts, reverse=True):
        text = text[:start] + text[end:]
    return text


def _without(text: str, element: Element, node: Node) -> str:
    """What stands in an object beside its only element."""
    start, end = _span(text, element)
    return text[node.start + 1 : start] + text[end : node.end - 1].removeprefix(",")


def _span(text: str, element: Element) -> tuple[int, int]:
    """From the start of an element to its end, the comma included where only space is between."""
    end = element.node.end
    is_near = element.comma >= 0 and not text[end : element.comma].strip()
    return element.start, element.comma + 1 if is_near else end


def _with_line(text: str, start: int, end: int, is_last: bool) -> tuple[int, int]:
    """The span with the space around it that would be left over: the whole line where nothing else stands on it."""
    left, right = start, end
    while left > 0 and text[left - 1] in _LINE_SPACE:
        left -= 1
    while right < len(text) and text[right] in _LINE_SPACE:
        right += 1
    if text[left - 1 : left] == "\n" and text[right : right + 1] in ("\n", "\r"):
        return left - (2 if text[left - 2 : left] == "\r\n" else 1), right
    return (left, end) if is_last else (start, right)
