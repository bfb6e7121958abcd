"""Whose entry it is: a fork of Pi begins with its origin's history, entries and ids as they were."""

from __future__ import annotations

import re
from pathlib import Path, PureWindowsPath
from typing import Any, Final

import msgspec

from tachograph.lines import record, time_ns, words

# <timestamp>_<session id>.jsonl, the timestamp with dashes for what a file name may not hold.
_FILE: Final = re.compile(r"(?:(\d{4}-\d\d-\d\d)T(\d\d)-(\d\d)-(\d\d)-(\d{3})Z)?_([0-9a-f]{8}-[0-9a-f-]{27})\.jsonl$")
_DEPTH_MAX: Final = 10
_FIRST_LINE_BYTES: Final = 65_536


def origins(header: dict[str, Any], when: int, path: Path) -> list[list[Any]]:
    """The session itself, the one that it was forked from and so on: ids, and when each began.

    Origins further away than the first are known as long as the files between are there.
    """
    chain: list[list[Any]] = [[words(header.get("id")), when]]
    while len(chain) <= _DEPTH_MAX:
        parent = words(header.get("parentSession"))
        name = PureWindowsPath(parent).name  # of a path of any system
        found = _FILE.search(name)
        if found is None or any(found[6] == session for session, _ in chain):
            break
        day, hour, minute, second, milli = found.groups()[:5]
        began = time_ns(f"{day}T{hour}:{minute}:{second}.{milli}Z") if day else 0
        chain.append([found[6], began])
        header = _header(path.with_name(name)) or _header(Path(parent))
    return chain


def _header(path: Path) -> dict[str, Any]:
    """The first line of a session file; nothing where there is none."""
    try:
        if not path.is_file():
            return {}
        with path.open("rb") as file:
            return record(msgspec.json.decode(file.readline(_FIRST_LINE_BYTES)))
    except (OSError, ValueError, msgspec.DecodeError, RecursionError):  # ValueError: a path that no system takes
        return {}


def enter(when: int, state: dict[str, Any]) -> None:
    """Say whose an entry is: of the youngest session that had begun when it was made."""
    chain = state.get("chain") or [["", 0]]
    at = next((n for n, (_, began) in enumerate(chain) if when >= began), len(chain) - 1) if when else 0
    state["session"] = chain[at][0]
    state["origin"] = chain[at + 1][0] if at + 1 < len(chain) else ""
