"""How large the context of sessions was, call by call: the input tokens of their own calls in order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from tachograph.scan import Agg, Bucket, Condition, Match, Reader, Scan

# A session with more calls than this is read in buckets of time: a list must not read a million calls for its lines.
_CALLS_MAX: Final = 200
_POINTS: Final = 64  # at least so many buckets over the time of a session, at most eight times as many
_STEP: Final = 8
_NANO: Final = 1_000_000_000
_TRACE: Final = "trace:"

Row = Mapping[str, Any]


def contexts(reader: Reader, rows: Iterable[Row]) -> dict[str, list[int]]:
    """Session -> input tokens of its calls in order, cache included; calls of sub-agents within it are left out.

    `rows` are those of `sessions`. A session whose calls are all a sub-agent's is that sub-agent's own. Of a long
    session each value is the largest of a stretch of time. Sessions of which nothing is known are missing.
    """
    groups: dict[int, list[Row]] = {}
    for row in rows:
        groups.setdefault(_width_s(row), []).append(row)
    found: dict[str, list[int]] = {}
    for width_s, group in groups.items():
        during = _alive(group)
        for is_traces in (False, True):
            ids = [row["session_id"] for row in group if row["session_id"].startswith(_TRACE) == is_traces]
            if ids:
                found |= _read(reader, ids, is_traces, width_s, during)
    return found


def _alive(rows: Sequence[Row]) -> tuple[Condition, ...]:
    """When the calls of these sessions began, as conditions: a store in order of time then reads little else."""
    starts, ends = [row["start_ns"] for row in rows], [row["end_ns"] for row in rows]
    if not rows or None in starts or None in ends:
        return ()
    return (Match("start_ns", ">=", min(starts)), Match("start_ns", "<=", max(ends)))


def _width_s(row: Row) -> int:
    """The width of the buckets that a session is read in, 0 = call by call; few widths, so few questions."""
    if (row["calls"] or 0) + (row["failed_calls"] or 0) <= _CALLS_MAX:
        return 0
    duration_s = max(0, (row["end_ns"] or 0) - (row["start_ns"] or 0)) // _NANO
    width = 1
    while duration_s // (width * _STEP) >= _POINTS:
        width *= _STEP
    return width


def _read(
    reader: Reader, ids: Sequence[str], is_traces: bool, width_s: int, during: tuple[Condition, ...]
) -> dict[str, list[int]]:
    column = "trace_id" if is_traces else "session_id"
    values = [id_.removeprefix(_TRACE) for id_ in ids] if is_traces else list(ids)
    select: dict[str, Any] = {"id": column, "subagent": "subagent", "at": "start_ns", "tokens": "input_tokens"}
    grouped: tuple[str, ...] = ()
    if width_s:
        select |= {"at": Bucket("start_ns", width_s), "tokens": Agg("max", "input_tokens")}
        grouped = ("id", "subagent", "at")
    where: tuple[Condition, ...] = (Match(column, "in", values), Match("input_tokens", "not_null"), *during)
    data = reader.scan(Scan("calls", select, where, grouped, (("at", False),))).data
    own: dict[str, list[int]] = {}
    others: dict[str, list[int]] = {}
    for id_, subagent, tokens in zip(data["id"], data["subagent"], data["tokens"], strict=True):
        (others if subagent else own).setdefault(f"{_TRACE}{id_}" if is_traces else id_, []).append(tokens)
    return others | own
