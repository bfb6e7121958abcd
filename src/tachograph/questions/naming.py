"""What an id means that somebody pasted: a session, a trace, a call, or the id that a provider gave to an answer."""

from __future__ import annotations

import re
from typing import Final

from tachograph.questions.lookup import Found
from tachograph.scan import Match, Reader, Scan

# Kind of what is found, what its id is called, and table, column and the column of the id that leads to it.
_IDS: Final = (
    ("session", "sessions", "session_id", "session_id"),
    ("trace", "trace_sessions", "trace_id", "trace_id"),
    ("call", "calls", "call_id", "call_id"),
    ("call", "calls", "response_id", "call_id"),
    ("call", "calls", "request_id", "call_id"),
)
_ID: Final = re.compile(r"\S{6,400}")
_MANY: Final = 6  # more of them are no jump, but a list


def named(reader: Reader, text: str) -> list[Found]:
    """What has exactly this id, else what has one that begins so; nothing for what cannot be an id.

    A beginning has at least six signs with a digit among them: a word is no id.
    """
    if not _ID.fullmatch(text):
        return []
    exact = _having(reader, text, is_whole=True)
    return exact or (_having(reader, text, is_whole=False) if re.search(r"\d", text) else [])


def _having(reader: Reader, text: str, is_whole: bool) -> list[Found]:
    found: dict[Found, None] = {}
    for kind, table, column, key in _IDS:
        scan = Scan(table, {"id": key}, _says(column, text, is_whole), limit=_MANY)
        found |= {Found(kind, id_): None for id_ in reader.scan(scan).data["id"]}
    return list(found)[:_MANY]


def _says(column: str, text: str, is_whole: bool) -> tuple[Match, ...]:
    """Two comparisons for a beginning: a pattern would read every id of a million."""
    if is_whole:
        return (Match(column, "=", text),)
    return (Match(column, ">=", text), Match(column, "<", text + chr(0x10FFFF)))
