"""How often tools ran, how long they took, how they failed and how much they gave back: each run counted once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from tachograph.questions.counting import TIMES, bucket_name
from tachograph.scan import Agg, Bucket, Condition, Match, Reader, Scan

_SECOND_NS: Final = 1_000_000_000
# Bands of durations, each up to so many nanoseconds, the last one open.
BANDS_NS: Final = tuple(round(seconds * _SECOND_NS) for seconds in (0.01, 0.1, 1, 10, 60, 600))
RUN_COLUMNS: Final = (
    *("run_id", "tool_name", "tool_call_id", "session_id", "trace_id", "span_id", "agent", "subagent", "project"),
    *("channel", "user", "team", "start_ns", "end_ns", "duration_ns", "is_error", "error_type", "error_message"),
    *("arguments_bytes", "result_bytes", "origins"),
)
_COUNTED: Final[dict[str, Agg]] = {
    "runs": Agg("count"),
    "errors": Agg("count_if_true", "is_error"),
    "timed": Agg("count", "duration_ns"),
    "mean_ns": Agg("avg", "duration_ns"),
    "p50_ns": Agg("quantile", "duration_ns", 0.5),
    "p95_ns": Agg("quantile", "duration_ns", 0.95),
    "max_ns": Agg("max", "duration_ns"),
    "total_ns": Agg("sum", "duration_ns"),
    "result_bytes_max": Agg("max", "result_bytes"),
    "sessions": Agg("count_distinct", "session_id"),
    "last_ns": Agg("max", "end_ns"),
}
_WHOLE: Final = ("mean_ns", "p50_ns", "p95_ns", "max_ns", "total_ns")


# The keys of a row of `tools` after what it is grouped by.
COUNTERS: Final = (*_COUNTED, "error_share", "session_share")


def during(since_ns: int | None = None, until_ns: int | None = None) -> tuple[Condition, ...]:
    """Conditions of the runs that ended in [since, until)."""
    since = (Match("end_ns", ">=", since_ns),) if since_ns is not None else ()
    until = (Match("end_ns", "<", until_ns),) if until_ns is not None else ()
    return (*since, *until)


def tools(reader: Reader, where: Sequence[Condition] = (), by: str = "tool_name") -> list[dict[str, Any]]:
    """One row for each tool (or agent, project, ...), the most used first; durations are None where none is known.

    `error_share` is of its runs; `session_share` of the sessions that ran any of them.
    """
    asked = tuple(where)
    rows = reader.scan(Scan("tool_runs", {by: by, **_COUNTED}, asked, (by,), (("runs", True), (by, False)))).rows()
    sessions = reader.scan(Scan("tool_runs", {"n": Agg("count_distinct", "session_id")}, asked)).data["n"][0]
    for row in rows:
        row.update({name: None if row[name] is None else round(row[name]) for name in _WHOLE})
        row["error_share"] = row["errors"] / row["runs"]
        row["session_share"] = row["sessions"] / sessions if sessions else None
    return rows


def over_time(
    reader: Reader, where: Sequence[Condition], width: str, timezone: str = "UTC"
) -> list[tuple[str, str, int]]:
    """Bucket (named as `usage` names it), tool and number of runs."""
    select: dict[str, Any] = {
        "at": Bucket("end_ns", width, timezone), "tool": "tool_name", "runs": Agg("count"),
    }  # fmt: skip
    asked = (*where, Match("end_ns", "not_null"))
    rows = reader.scan(Scan("tool_runs", select, asked, ("at", "tool"))).rows()
    return [(bucket_name(row["at"], TIMES[width], timezone), row["tool"], row["runs"]) for row in rows]


def top(reader: Reader, where: Sequence[Condition], column: str, limit: int) -> list[dict[str, Any]]:
    """The runs with the largest known value of a column: duration_ns or result_bytes."""
    select: dict[str, Any] = {name: name for name in RUN_COLUMNS}
    asked = (*where, Match(column, "not_null"))
    return reader.scan(
        Scan("tool_runs", select, asked, order_by=((column, True), ("run_id", False)), limit=limit)
    ).rows()


def newest(reader: Reader, where: Sequence[Condition], limit: int, offset: int = 0) -> list[dict[str, Any]]:
    """Runs, the newest first; those whose end nobody told are last."""
    select: dict[str, Any] = {name: name for name in RUN_COLUMNS}
    order = (("end_ns", True), ("run_id", False))
    return reader.scan(Scan("tool_runs", select, tuple(where), order_by=order, limit=limit, offset=offset)).rows()


def errors(reader: Reader, where: Sequence[Condition], limit: int = 20) -> list[dict[str, Any]]:
    """What failed runs say, the most frequent first; "" = their source says nothing."""
    select: dict[str, Any] = {
        "error_type": "error_type", "error_message": "error_message", "runs": Agg("count"),
        "sessions": Agg("count_distinct", "session_id"), "last_ns": Agg("max", "end_ns"),
    }  # fmt: skip
    asked = (*where, Match("is_error", "=", True))
    group = ("error_type", "error_message")
    return reader.scan(Scan("tool_runs", select, asked, group, (("runs", True), ("last_ns", True)), limit)).rows()


def spread(reader: Reader, where: Sequence[Condition]) -> list[dict[str, Any]]:
    """How many runs took how long: bands from `from_ns` up to `to_ns` (None = open)."""
    rows: list[dict[str, Any]] = []
    for start, end in zip((0, *BANDS_NS), (*BANDS_NS, None), strict=True):
        until = (Match("duration_ns", "<", end),) if end is not None else ()
        asked = (*where, Match("duration_ns", ">=", start), *until)
        runs = reader.scan(Scan("tool_runs", {"n": Agg("count")}, asked)).data["n"][0]
        rows.append({"from_ns": start, "to_ns": end, "runs": runs})
    return rows
