"""Remembers which names were met lately, within bounded memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

LATELY_MAX: Final = 50_000  # about 6 MB for 22-character names; twice that at most is kept


class Seen:
    """The names added last: all of the newest `LATELY_MAX`, and some of those before."""

    def __init__(self) -> None:
        self._new: set[str] = set()
        self._old: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._new or name in self._old

    def add(self, names: Iterable[str]) -> None:
        """Remember the names."""
        self._new.update(names)
        if len(self._new) >= LATELY_MAX:
            self._old, self._new = self._new, set()
