"""Where a text stands: the prompts, answers, tool arguments and results that contain it, and whose they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from tachograph.scan import Agg, Bucket, Match, Reader, Scan

# What one hit shows of the record it stands in, by table.
_RECORDS: Final = {
    "spans": {"trace_id": "trace_id", "span_id": "span_id", "time_ns": "start_ns"},
    "events": {"trace_id": "trace_id", "span_id": "span_id", "event_id": "event_id", "time_ns": "time_ns"},
}
_SHOWN: Final = ("seq", "name", "role", "session_id", "agent", "tool_name", "contents")
_AROUND: Final = 80  # characters shown before and after what was searched for: two lines of a terminal


def search(reader: Reader, text: str, limit: int = 50, since_ns: int | None = None) -> list[dict[str, Any]]:
    """Texts that contain `text` in any case, newest first, at most `limit`; with `since_ns` those kept since then.

    Each hit: `hash`, `excerpt`, `position` of the match in characters, `bytes` and `records`: the records that first
    brought it, as `{"table", "trace_id", "span_id", "event_id", "session_id", "time_ns", "name", "role", "slot", ...}`.
    Agents send their history again with each call; the text is kept once, and so it is found once.
    """
    if not text:
        return []
    since = () if since_ns is None else (Match("time_ns", ">=", since_ns),)
    scan = Scan(
        "contents",
        {"hash": "hash", "seq": "seq", "bytes": "bytes", "text": "text"},
        (*since, Match("text", "contains", text)),
        order_by=(("seq", True), ("hash", False)),
        limit=limit,
    )
    hits = reader.scan(scan).rows()
    records = _records(reader, {hit["seq"] for hit in hits})
    return [_hit(hit, text, records.get((hit["seq"], hit["hash"]), [])) for hit in hits]


def _hit(hit: dict[str, Any], text: str, records: list[dict[str, Any]]) -> dict[str, Any]:
    whole = hit["text"]
    position = max(0, whole.lower().find(text.lower()))
    start, end = max(0, position - _AROUND), position + len(text) + _AROUND
    excerpt = ("…" if start else "") + whole[start:end] + ("…" if end < len(whole) else "")
    return {
        "hash": hit["hash"],
        "excerpt": excerpt,
        "position": position,
        "bytes": hit["bytes"],
        "records": records,
    }


def _records(reader: Reader, sequences: Iterable[int]) -> dict[tuple[int, str], list[dict[str, Any]]]:
    """(commit, hash) -> the records of those commits that carry the text."""
    wanted = sorted(sequences)
    found: dict[tuple[int, str], list[dict[str, Any]]] = {}
    if not wanted:
        return found
    for table, columns in _RECORDS.items():
        select: dict[str, str | Agg | Bucket] = {**columns, **{name: name for name in _SHOWN}}
        where = (Match("seq", "in", wanted), Match("contents", "not_null"))
        for record in reader.scan(Scan(table, select, where, order_by=(("time_ns", False),))).rows():
            contents = record.pop("contents")
            sequence = record.pop("seq")
            for slot, hash_ in _hashes(contents):
                hit = {"table": table, "slot": slot} | record
                found.setdefault((sequence, hash_), []).append(hit)
    _name_sessions(reader, [hit for hits in found.values() for hit in hits])
    return found


def _hashes(contents: Any) -> Iterable[tuple[str, str]]:
    for content in contents or ():
        for hash_ in content["hashes"]:
            yield content["slot"], hash_


def _name_sessions(reader: Reader, hits: Sequence[dict[str, Any]]) -> None:
    """Give records that name no session the one of their trace."""
    nameless = sorted({hit["trace_id"] for hit in hits if hit["trace_id"] and not hit["session_id"]})
    if not nameless:
        return
    scan = Scan(
        "trace_sessions",
        {"trace_id": "trace_id", "session_id": "session_id"},
        (Match("trace_id", "in", nameless),),
    )
    sessions = {row["trace_id"]: row["session_id"] for row in reader.scan(scan).rows()}
    for hit in hits:
        hit["session_id"] = hit["session_id"] or sessions.get(hit["trace_id"], "")
