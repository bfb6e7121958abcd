"""Edits TOML settings as text, with tomlkit: what is not changed keeps its bytes, its comments and its place."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from tachograph.errors import ConfigError


class TomlFormat:
    """The editor of TOML (see edits.Format)."""

    def parse(self, text: str, name: str) -> dict[str, Any]:
        """What the settings say. Raises ConfigError."""
        try:
            return tomllib.loads(text)
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise ConfigError(f"{name}: not valid TOML: {error}", "make it valid TOML; it was not changed") from None

    def put(self, text: str, path: Sequence[str | int], value: Any) -> str:
        """The text with `value` at `path`. Raises ConfigError where the table is written in a way that has no place."""
        eol = "\r\n" if "\r\n" in text else "\n"
        table, *keys = path
        if table not in self.parse(text, "settings") and keys:
            gap = "" if not text else eol if text.endswith("\n") else 2 * eol
            return text + gap + f"[{_key(str(table))}]{eol}" + self._line(keys, value).replace("\n", eol)
        return self._edited(text, eol, path, value)

    def remove(self, text: str, path: Sequence[str | int]) -> str:
        """The text without what stands at `path`; the same text where nothing does. Raises ConfigError as `put`."""
        eol = "\r\n" if "\r\n" in text else "\n"
        new = self._edited(text, eol, path, None)
        is_gap_left = new != text and new.endswith(2 * eol) and not text.endswith(2 * eol)
        return new.removesuffix(eol) if is_gap_left else new

    def _line(self, keys: Sequence[str | int], value: Any) -> str:
        document = tomlkit.document()
        for key in reversed(keys[1:]):
            value = {key: value}
        document.add(str(keys[0]), _item(value))
        return document.as_string()

    def _edited(self, text: str, eol: str, path: Sequence[str | int], value: Any) -> str:
        """The text with `value` at `path`, or without anything there for None."""
        try:
            document = tomlkit.parse(text)
            if _edit(document, path, value):
                text = document.as_string()
        except (TOMLKitError, KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            where = ".".join(map(str, path))
            raise ConfigError(
                f"settings: {where}: cannot be edited as it is written: {error}", "edit it by hand"
            ) from None
        return text if eol == "\n" else text.replace("\r\n", "\n").replace("\n", eol)


def _edit(document: Any, path: Sequence[str | int], value: Any) -> bool:
    """Change the document in place; False where there was nothing to take away."""
    for n, key in enumerate(path[:-1]):
        if key not in document:
            if value is not None:
                document[key] = _item(_nested(path[n + 1 :], value))
            return value is not None
        document = document[key]
    if value is not None:
        document[path[-1]] = _item(value)
        return True
    if path[-1] not in document:
        return False
    del document[path[-1]]
    return True


def _nested(path: Sequence[str | int], value: Any) -> Any:
    for key in reversed(path):
        value = {key: value}
    return value


def _item(value: Any) -> Any:
    """The value as TOML writes it: tables within braces, so that they stay on the line of their name."""
    if not isinstance(value, dict):
        return tomlkit.item(value)
    table = tomlkit.inline_table()
    for key, inner in value.items():
        table[key] = _item(inner)
    return table


def _key(name: str) -> str:
    return tomlkit.key(name).as_string()
