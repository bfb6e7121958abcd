"""Finds where each value stands in JSON settings, with comments and trailing commas where their reader takes them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, NoReturn

from tachograph.errors import ConfigError

_DEPTH_MAX: Final = 100  # of objects in one another; no settings file comes near


class Grammar(NamedTuple):
    """What a reader of JSON takes beyond JSON itself."""

    name: str
    has_comments: bool = False
    has_trailing_commas: bool = False
    is_json5: bool = False


PLAIN: Final = Grammar("JSON")
COMMENTED: Final = Grammar("JSON with comments", has_comments=True)
RELAXED: Final = Grammar("JSON with comments and trailing commas", has_comments=True, has_trailing_commas=True)
JSON5: Final = Grammar("JSON5", has_comments=True, has_trailing_commas=True, is_json5=True)


@dataclass(slots=True)
class Node:
    """A value and where it stands: from `start` to before `end`; what an object or list holds is in `elements`."""

    start: int
    end: int
    value: Any
    elements: list[Element] = field(default_factory=list)

    def find(self, key: str | int) -> int | None:
        """Which element has that key; readers take the last of several. None where none has, or the place is free."""
        if isinstance(key, int):
            return key if isinstance(self.value, list) and 0 <= key < len(self.elements) else None
        places = range(len(self.elements) - 1, -1, -1)
        return next((n for n in places if self.elements[n].key == key), None)


@dataclass(slots=True)
class Element:
    """One member of an object, or one item of a list (its key is None): where it starts, and its comma (-1 = none)."""

    start: int
    key: str | None
    key_end: int
    node: Node
    comma: int = -1


def scan(text: str, grammar: Grammar, name: str) -> Node:
    """The whole document; raises ConfigError with the line of what is wrong. `name` is what the file is called."""
    return _Scanner(text, grammar, name).document()


_SPACE: Final = re.compile(r"[ \t\r\n]+")
_SPACE_JSON5: Final = re.compile("[ \t\r\n\v\f\xa0\ufeff\u2028\u2029\u1680\u2000-\u200a\u202f\u205f\u3000]+")
_NUMBER: Final = re.compile(r"-?(?:0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?(?![\w.$])", re.ASCII)
_NUMBER_JSON5: Final = re.compile(
    r"[+-]?(?:0[xX][0-9a-fA-F]+|Infinity|NaN|(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)(?![\w.$])", re.ASCII
)
_WORDS: Final = {"true": True, "false": False, "null": None}
_WORD: Final = re.compile(r"(?:true|false|null)(?![\w$])")
_NAME_JSON5: Final = re.compile(r"(?:[^\W\d]|[$_])[\w$\u200c\u200d]*")
_LINE_END: Final = re.compile("[\n\r\u2028\u2029]")
_ESCAPES: Final = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_ESCAPES_JSON5: Final = _ESCAPES | {"v": "\v", "0": "\0", "'": "'", "\n": "", "\u2028": "", "\u2029": ""}
_HEX: Final = re.compile(r"[0-9a-fA-F]+", re.ASCII)
_SURROGATES: Final = re.compile("[\ud800-\udbff][\udc00-\udfff]")


class _Scanner:
    """One pass over one text."""

    def __init__(self, text: str, grammar: Grammar, name: str) -> None:
        self._text = text
        self._grammar = grammar
        self._name = name
        self._space = _SPACE_JSON5 if grammar.is_json5 else _SPACE

    def document(self) -> Node:
        """The one value, with nothing but space and comments around it."""
        node = self._value(self._skip(0), 0)
        end = self._skip(node.end)
        if end < len(self._text):
            self._fail(end, "the end of the file")
        return node

    def _fail(self, at: int, expected: str) -> NoReturn:
        line = len(re.findall("\r\n|\n|\r", self._text[:at])) + 1
        came = repr(self._text[at]) if at < len(self._text) else "the end of the file"
        raise ConfigError(
            f"{self._name}:{line}: got {came}; expected {expected}",
            f"make it valid {self._grammar.name}; it was not changed",
        )

    def _skip(self, at: int) -> int:
        """After the space and comments at `at`."""
        while True:
            if match := self._space.match(self._text, at):
                at = match.end()
            if not self._grammar.has_comments or not self._text.startswith(("//", "/*"), at):
                return at
            at = self._after_comment(at)

    def _after_comment(self, at: int) -> int:
        if self._text.startswith("//", at):
            end = _LINE_END.search(self._text, at)
            return end.start() if end else len(self._text)
        close = self._text.find("*/", at + 2)
        if close < 0:
            self._fail(len(self._text), "*/ after a comment")
        return close + 2

    def _value(self, at: int, depth: int) -> Node:
        first = self._text[at : at + 1]
        if first in ("{", "["):
            if depth == _DEPTH_MAX:
                self._fail(at, f"no more than {_DEPTH_MAX} objects in one another")
            return self._container(at, depth + 1, is_object=first == "{")
        if first == '"' or (first == "'" and self._grammar.is_json5):
            value, end = self._string(at)
            return Node(at, end, value)
        if word := _WORD.match(self._text, at):
            return Node(at, word.end(), _WORDS[word[0]])
        number = (_NUMBER_JSON5 if self._grammar.is_json5 else _NUMBER).match(self._text, at)
        if number is None:
            self._fail(at, "a value")
        return Node(at, number.end(), self._number(number))

    def _number(self, match: re.Match[str]) -> int | float:
        text = match[0]
        digits = text.lstrip("+-")
        sign = -1 if text.startswith("-") else 1
        if digits[:2] in ("0x", "0X"):
            return sign * int(digits, 16)
        if digits in ("Infinity", "NaN"):
            return sign * float(digits) if digits == "Infinity" else math.nan
        if digits.isdigit() and len(digits) <= 4000:  # Python turns no longer text into a whole number
            return sign * int(digits)
        return float(text)

    def _container(self, start: int, depth: int, is_object: bool) -> Node:
        close = "}" if is_object else "]"
        elements: list[Element] = []
        at = self._skip(start + 1)
        while not self._text.startswith(close, at):
            if elements and elements[-1].comma < 0:
                self._fail(at, f"a comma or {close}")
            element = self._member(at, depth) if is_object else Element(at, None, at, self._value(at, depth))
            elements.append(element)
            at = self._skip(element.node.end)
            if self._text.startswith(",", at):
                element.comma = at
                at = self._skip(at + 1)
        if elements and elements[-1].comma >= 0 and not self._grammar.has_trailing_commas:
            self._fail(at, "one more after the comma")
        if is_object:
            return Node(start, at + 1, {element.key: element.node.value for element in elements}, elements)
        return Node(start, at + 1, [element.node.value for element in elements], elements)

    def _member(self, start: int, depth: int) -> Element:
        key, end = self._key(start)
        colon = self._skip(end)
        if not self._text.startswith(":", colon):
            self._fail(colon, "a colon after the name")
        return Element(start, key, end, self._value(self._skip(colon + 1), depth))

    def _key(self, at: int) -> tuple[str, int]:
        first = self._text[at : at + 1]
        if first == '"' or (first == "'" and self._grammar.is_json5):
            return self._string(at)
        name = _NAME_JSON5.match(self._text, at) if self._grammar.is_json5 else None
        if name is None:
            self._fail(at, "a name in double quotes")
        return name[0], name.end()

    def _string(self, start: int) -> tuple[str, int]:
        """The text of a string that starts at `start`, and where it ends."""
        quote, at, parts = self._text[start], start + 1, list[str]()
        while True:
            char = self._text[at : at + 1]
            if char == quote:
                # Two escapes of one character beyond 16 bits are that character.
                joined = _SURROGATES.sub(_joined, "".join(parts))
                return joined, at + 1
            if char == "\\":
                part, at = self._escape(at + 1)
                parts.append(part)
                continue
            if not char or char in "\n\r" or (char < " " and not self._grammar.is_json5):
                self._fail(at, f"{quote} at the end of a text, and no control character in it")
            parts.append(char)
            at += 1

    def _escape(self, at: int) -> tuple[str, int]:
        char = self._text[at : at + 1]
        if char == "u" or (char == "x" and self._grammar.is_json5):
            length = 4 if char == "u" else 2
            digits = self._text[at + 1 : at + 1 + length]
            if len(digits) < length or not _HEX.fullmatch(digits):
                self._fail(at, f"{length} hexadecimal digits")
            return chr(int(digits, 16)), at + 1 + length
        if not self._grammar.is_json5:
            if char not in _ESCAPES or not char:
                self._fail(at, "a known escape after the backslash")
            return _ESCAPES[char], at + 1
        if not char or (char.isdigit() and char != "0"):
            self._fail(at, "a known escape after the backslash")
        if char == "\r":
            return "", at + (2 if self._text.startswith("\r\n", at) else 1)
        return _ESCAPES_JSON5.get(char, char), at + 1


def _joined(pair: re.Match[str]) -> str:
    return pair[0].encode("utf-16", "surrogatepass").decode("utf-16")
