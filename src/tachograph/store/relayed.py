"""Whether only relays have ever opened a store: a mark beside it, which whoever else opens it takes away."""

from __future__ import annotations

from pathlib import Path
from typing import Final

NAME: Final = "only-relays"


def mark(home: Path) -> None:
    """A relay has made the store."""
    (home / NAME).touch(mode=0o600)


def unmark(home: Path) -> None:
    """Somebody else opens it: what it holds is theirs to see for as long as the settings say."""
    (home / NAME).unlink(missing_ok=True)


def is_marked(home: Path) -> bool:
    """Whether nobody but relays has opened it."""
    return (home / NAME).exists()
