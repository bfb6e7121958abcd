"""What connecting changes in one settings file, as pure functions of its text: conflicts, applied, undone."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from tachograph.connections.json_edit import JsonFormat
from tachograph.connections.json_scan import COMMENTED, JSON5, PLAIN, RELAXED
from tachograph.connections.toml_edit import TomlFormat
from tachograph.errors import ConfigError


class Format(Protocol):
    """A kind of settings file. Edits keep every byte that they need not change; a path is made of names and indices."""

    def parse(self, text: str, name: str) -> dict[str, Any]:
        """What the text says; raises ConfigError with the line where it says nothing."""
        ...

    def put(self, text: str, path: Sequence[str | int], value: Any) -> str:
        """The text with a value at a path, whatever stands there now."""
        ...

    def remove(self, text: str, path: Sequence[str | int]) -> str:
        """The text without what stands at a path."""
        ...


JSON: Final = JsonFormat(PLAIN)
JSON_WITH_COMMENTS: Final = JsonFormat(COMMENTED)
JSON_RELAXED: Final = JsonFormat(RELAXED)
JSON_5: Final = JsonFormat(JSON5)
TOML: Final = TomlFormat()


class _Absent:
    """That nothing stands somewhere, told apart from null."""

    def __repr__(self) -> str:
        return "nothing"


ABSENT: Final = _Absent()


class Entry(NamedTuple):
    """One setting of an agent: where it stands and what it has to be.

    ABSENT says that nothing may stand there, because it would win over our settings. With `is_item` the value is one
    item of a list, whatever else is in it. With `is_left` nothing is wanted now, but what we once put there is ours to
    take back. With `is_soft` what the user has chosen stays. `is_ours` knows what connecting wrote at an earlier time,
    with another address for instance; the entry that has it tells whether an agent is connected at all.
    """

    path: tuple[str, ...]
    value: Any
    is_ours: Callable[[Any], bool] | None = None
    is_item: bool = False
    is_left: bool = False
    is_soft: bool = False

    def is_from_us(self, found: Any) -> bool:
        """Whether a value that was found is one that connecting writes."""
        return (self.is_ours is not None and self.is_ours(found)) or is_same(found, self.value)


class Edit(Protocol):
    """What is changed in one file. `before` is its text from before we first changed it, None where we have not."""

    @property
    def path(self) -> Path:
        """The file."""
        ...

    @property
    def backup(self) -> Path:
        """Where its text from before is kept."""
        ...

    def conflicts(self, text: str, before: str | None) -> list[str]:
        """What somebody else has set there and connecting would change; one sentence each."""
        ...

    def applied(self, text: str, before: str | None) -> str:
        """The text with all that is wanted; the same text where it has it."""
        ...

    def undone(self, text: str, before: str | None) -> str:
        """The text without what connecting did; what was changed since stays."""
        ...

    def is_there(self, text: str) -> bool:
        """Whether some of what connecting writes is there, with whatever address."""
        ...

    def is_untouched(self, text: str, before: str) -> bool:
        """Whether the text is what connecting made of `before`, with whatever address, and nothing else changed."""
        ...


def backup_of(path: Path, agent: str = "") -> Path:
    """Where the text of a settings file from before is kept; `agent` where several change the same file."""
    return path.with_name(f"{path.name}.tachograph-{agent}-backup" if agent else f"{path.name}.tachograph-backup")


@dataclass(frozen=True)
class SettingsEdit:
    """An edit of a file that holds settings by name."""

    path: Path
    format: Format
    entries: tuple[Entry, ...]

    @property
    def backup(self) -> Path:
        """See Edit."""
        return backup_of(self.path)

    def conflicts(self, text: str, before: str | None) -> list[str]:
        """See Edit."""
        settings, was = self._parse(text), self._parse(before or "")
        said = []
        for entry in self.entries:
            found = look_up(settings, entry.path)
            if found is ABSENT or entry.is_item or entry.is_soft or not _lacks(entry, found):
                continue
            if before is None or not entry.is_from_us(found) or is_same(found, look_up(was, entry.path)):
                said.append(f"{'.'.join(entry.path)} is {_shown(found, entry.path[-1])}")
        return said

    def applied(self, text: str, before: str | None) -> str:
        """See Edit. Raises ConfigError where the file is built in a way that cannot take it."""
        expected, was = copy.deepcopy(self._parse(text)), self._parse(before or "")
        new = text
        for entry in self.entries:
            found = look_up(expected, entry.path)
            if entry.is_left and before is not None:
                new = self._restore(new, entry, expected, was)
            is_chosen = entry.is_soft and (before is None or is_same(found, look_up(was, entry.path)))
            if not _lacks(entry, found) or (is_chosen and found is not ABSENT):
                continue
            self._check_place(expected, entry.path)
            if entry.value is ABSENT:
                new = self.format.remove(new, entry.path)
                _take(expected, entry.path)
            else:
                new = self._put(new, entry, expected)
        return self._checked(new, expected)

    def undone(self, text: str, before: str | None) -> str:
        """See Edit."""
        was = self._parse(before or "")
        expected = copy.deepcopy(self._parse(text))
        new = text
        for entry in reversed(self.entries):
            new = self._restore(new, entry, expected, was)
        return self._checked(new, expected)

    def is_there(self, text: str) -> bool:
        """See Edit."""
        settings = self._parse(text)
        telling = [entry for entry in self.entries if entry.is_ours is not None and not entry.is_left]
        return any(
            entry.is_from_us(item) for entry in telling for item in _items(look_up(settings, entry.path), entry.is_item)
        )

    def is_untouched(self, text: str, before: str) -> bool:
        """See Edit."""
        settings, was = self._parse(text), self._parse(before)
        once = []
        for entry in self.entries:
            found = look_up(settings, entry.path)
            if entry.is_item:
                ours = [item for item in _items(found, True) if entry.is_from_us(item)]
                once.append(entry._replace(value=ours[-1] if ours else entry.value, is_left=not ours))
            elif entry.value is ABSENT and found is ABSENT:
                once.append(entry)
            elif found is not ABSENT and not is_same(found, look_up(was, entry.path)) and entry.is_from_us(found):
                once.append(entry._replace(value=found, is_left=False, is_soft=False))
        return replace(self, entries=tuple(once)).applied(before, None) == text

    def _parse(self, text: str) -> dict[str, Any]:
        return self.format.parse(text, str(self.path))

    def _check_place(self, settings: Any, path: Sequence[str]) -> None:
        """Raise ConfigError where something on the way holds no settings."""
        for n, key in enumerate(path[:-1], start=1):
            settings = settings.get(key, {})
            if not isinstance(settings, dict):
                where = ".".join(path[:n])
                raise ConfigError(
                    f"{self.path}: {where}: got {_shown(settings, where)}; expected settings within it",
                    f"take {where} out; the file was not changed",
                )

    def _put(self, text: str, entry: Entry, expected: dict[str, Any]) -> str:
        """Put one setting into the text and into what is expected of it."""
        found = look_up(expected, entry.path)
        if not entry.is_item:
            _give(expected, entry.path, entry.value)
            return self.format.put(text, entry.path, entry.value)
        if not isinstance(found, list):
            if found is not ABSENT:
                where = ".".join(entry.path)
                raise ConfigError(
                    f"{self.path}: {where}: got {_shown(found, where)}; expected a list",
                    f"take {where} out; the file was not changed",
                )
            _give(expected, entry.path, [entry.value])
            return self.format.put(text, entry.path, [entry.value])
        older = [n for n, item in enumerate(found) if entry.is_ours is not None and entry.is_ours(item)]
        place = older[0] if older else len(found)
        found[place : place + 1] = [entry.value]
        return self.format.put(text, (*entry.path, place), entry.value)

    def _restore(self, text: str, entry: Entry, expected: dict[str, Any], was: dict[str, Any]) -> str:
        """Bring one setting back to what it was, where it still is what connecting made of it."""
        found, old = look_up(expected, entry.path), look_up(was, entry.path)
        if entry.is_item:
            for n in reversed(range(len(found) if isinstance(found, list) else 0)):
                if entry.is_from_us(found[n]) and not (isinstance(old, list) and found[n] in old):
                    del found[n]
                    text = self.format.remove(text, (*entry.path, n))
            return self._prune(text, entry.path, expected, was)
        is_removed = entry.value is ABSENT and found is ABSENT
        if is_same(found, old) or not (is_removed or (found is not ABSENT and entry.is_from_us(found))):
            return text
        if old is not ABSENT:
            _give(expected, entry.path, old)
            return self.format.put(text, entry.path, old)
        _take(expected, entry.path)
        return self._prune(self.format.remove(text, entry.path), entry.path[:-1], expected, was)

    def _prune(self, text: str, path: tuple[str, ...], expected: dict[str, Any], was: dict[str, Any]) -> str:
        """Take away what connecting made on the way and is now empty."""
        while path and look_up(expected, path) in ({}, []) and look_up(was, path) is ABSENT:
            _take(expected, path)
            text = self.format.remove(text, path)
            path = path[:-1]
        return text

    def _checked(self, text: str, expected: dict[str, Any]) -> str:
        """The text, if it says what it has to: better no edit than a wrong one."""
        if not is_same(self._parse(text), expected):
            raise ConfigError(
                f"{self.path}: cannot be edited as it is written; it was not changed",
                "edit it by hand: tachograph doctor --connect",
            )
        return text


def is_same(left: Any, right: Any) -> bool:
    """Whether two values of settings are the same; true is not 1, and the order of names does not matter."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(is_same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(is_same, left, right))
    return type(left) is type(right) and (left == right or (left != left and right != right))


def look_up(settings: Any, path: Sequence[str]) -> Any:
    """What stands at a path, ABSENT where nothing does."""
    for key in path:
        if not isinstance(settings, dict) or key not in settings:
            return ABSENT
        settings = settings[key]
    return settings


def _lacks(entry: Entry, found: Any) -> bool:
    """Whether a setting is not yet what it has to be."""
    if entry.is_left:
        return False
    if entry.is_item:
        return not (isinstance(found, list) and any(is_same(item, entry.value) for item in found))
    return not is_same(found, entry.value)


def _items(found: Any, is_item: bool) -> list[Any]:
    if is_item:
        return found if isinstance(found, list) else []
    return [] if found is ABSENT else [found]


def _give(settings: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for key in path[:-1]:
        settings = settings.setdefault(key, {})
    settings[path[-1]] = value


def _take(settings: dict[str, Any], path: Sequence[str]) -> None:
    for key in path[:-1]:
        settings = settings[key]
    settings.pop(path[-1], None)


def _shown(value: Any, name: str) -> str:
    """A value for people; what senders prove themselves with is not shown."""
    if "headers" in name.lower() or "token" in name.lower():
        return "set"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_shown(inner, str(key))}" for key, inner in value.items()) + "}"
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 80 else text[:79] + "…"
