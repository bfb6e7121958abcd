"""Names a session as its agent does, else by the first words of its first prompt, once that is kept."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, Protocol

import duckdb
import msgspec

from tachograph.store.relations import given, texts, told

Con = duckdb.DuckDBPyConnection

LENGTH_MAX: Final = 80


class Titled(Protocol):
    """What a title is kept in (sessions.State)."""

    title: str
    title_ns: int
    title_slot: str


# The earliest prompt of a session, the earliest call with input and the latest name, by place: their texts are looked
# up only if needed.
_CANDIDATES: Final = """
SELECT session_id, title_slot, min(coalesce(at_ns, 9223372036854775807)) AS at_ns,
    arg_min(struct_pack(id := id, seq := seq), coalesce(at_ns, 9223372036854775807)) AS place
FROM fresh WHERE n = 1 AND title_slot IN ('prompt', 'input') GROUP BY session_id, title_slot
UNION ALL
SELECT session_id, title_slot, max(coalesce(at_ns, 0)) AS at_ns,
    arg_max(struct_pack(id := id, seq := seq), coalesce(at_ns, 0)) AS place
FROM fresh WHERE n = 1 AND title_slot = 'title' GROUP BY session_id, title_slot
"""


def fold(con: Con, states: Mapping[str, Titled]) -> None:
    """Give a title to the sessions whose name or first prompt came now: a prompt is better than a call's input."""
    chosen: dict[str, tuple[str, int, dict[str, Any]]] = {}
    # Slots in this order: a session that gets a prompt forgets the input that it would have been named by.
    for session, slot, at_ns, place in sorted(con.execute(_CANDIDATES).fetchall(), key=lambda row: row[1]):
        state = states[session]
        is_nearer = at_ns > state.title_ns if slot == "title" else at_ns < state.title_ns
        is_better = slot > state.title_slot or (slot == state.title_slot and is_nearer)
        if not state.title or is_better:
            chosen[session] = (slot, at_ns, place)
    if not chosen:
        return
    contents = _contents(con, [place for _, _, place in chosen.values()])
    hashes = {session: _hashes(contents.get(c[2]["id"], ""), c[0]) for session, c in chosen.items()}
    kept = _texts(con, {h for each in hashes.values() for h in each})
    for session, (slot, at_ns, _) in chosen.items():
        title = title_of([kept.get(h, "") for h in hashes[session]], slot)
        if title:
            state = states[session]
            state.title, state.title_ns, state.title_slot = title, at_ns, slot


def _contents(con: Con, places: list[dict[str, Any]]) -> dict[str, str]:
    """Record id -> its column `contents`."""
    with given(
        con,
        "given_places",
        {
            "id": texts(p["id"] for p in places),
        },
    ):
        rows = con.execute(
            "SELECT span_id, contents FROM spans SEMI JOIN given_places ON id = span_id"
            " WHERE seq BETWEEN $first AND $last"
            " UNION ALL SELECT event_id, contents FROM events SEMI JOIN given_places ON id = event_id"
            " WHERE seq BETWEEN $first AND $last",
            {"first": min(p["seq"] for p in places), "last": max(p["seq"] for p in places)},
        ).fetchall()
    return dict(rows)


def _hashes(contents: str, slot: str) -> list[str]:
    for content in msgspec.json.decode(contents or "[]"):
        if content.get("slot") == slot:
            return list(content.get("hashes") or ())
    return []


def _texts(con: Con, hashes: set[str]) -> dict[str, str]:
    if not hashes:
        return {}
    with given(con, "given_hashes", {"hash": texts(hashes)}):
        return told(con.execute("SELECT hash, text FROM contents SEMI JOIN given_hashes USING (hash)"))


def title_of(pieces: list[str], slot: str) -> str:
    """The first words of a prompt, or of the last message of a user among the messages of an input; on one line."""
    if slot in ("prompt", "title"):
        return _shorten(" ".join(_words(_parsed(piece)) for piece in pieces))
    for piece in reversed(pieces):
        message = _parsed(piece)
        messages = message if isinstance(message, list) else [message]
        for one in reversed(messages):
            if isinstance(one, str) or (isinstance(one, dict) and one.get("role", "user") in ("user", "human")):
                title = _shorten(_words(one))
                if title:
                    return title
    return ""


def _parsed(piece: str) -> Any:
    """The JSON value that a piece holds, or the piece itself where it is plain text."""
    if piece.lstrip()[:1] not in ("{", "["):
        return piece
    try:
        return msgspec.json.decode(piece)
    except (msgspec.DecodeError, RecursionError):
        return piece


def _words(value: Any, depth: int = 0) -> str:
    """The text of a message: strings and the `text`, `content` or `parts` of what is nested, the last that is no tag.

    Agents put their own notes (<system-reminder>, <environment_context>) before what the user wrote.
    """
    if isinstance(value, str):
        return value
    if depth > 8:
        return ""
    if isinstance(value, dict):
        found = (value.get(key) for key in ("text", "content", "parts", "message", "prompt"))
        return next((words for one in found if (words := _words(one, depth + 1))), "")
    if isinstance(value, list):
        parts = [words for one in value if (words := _words(one, depth + 1))]
        written = [words for words in parts if not words.lstrip().startswith("<")]
        return (written or parts or [""])[-1]
    return ""


# What an agent puts before the user's words: whole <tagged>...</tagged> notes.
_NOTES: Final = re.compile(r"^(<([\w-]+)[^>]*>.*?</\2>\s*)+")


def _shorten(text: str) -> str:
    """One line of at most LENGTH_MAX characters, cut between words where that is possible."""
    line = " ".join(text[: LENGTH_MAX * 20].split())
    line = _NOTES.sub("", line) or line
    if len(line) <= LENGTH_MAX:
        return line
    cut = line[: LENGTH_MAX - 1]
    return (cut.rsplit(" ", 1)[0] if " " in cut[LENGTH_MAX // 2 :] else cut).rstrip() + "…"
