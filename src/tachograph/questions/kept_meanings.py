"""What hooks and files said of their records, put back whole: no attribute of such a record tells it again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from tachograph.lines import SCOPES
from tachograph.model import Event, Meaning, Report, Span, Usage
from tachograph.questions.kept_records import Row
from tachograph.scan import Agg, Bucket, Match, Reader, Scan

_TOKENS: Final = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")
# What only the reports of calls keep.
_OF_REPORTS: Final = (
    *("is_cut_short", "cost_nanousd", "cost_kind", "is_notional", "service_tier", "is_streaming", "is_timed"),
    *("attempt", "failed_attempts", "duration_ns"),
)
_FIELDS: Final = tuple(one for one in Meaning.__struct_fields__ if one not in ("usage", *_OF_REPORTS))
_DECODE: Final = msgspec.json.Decoder(Report)
_IDS: Final = {"events": "event_id", "spans": "span_id"}
_Record = tuple[Row, Any]


def put_meanings(reader: Reader, table: str, records: Sequence[_Record]) -> None:
    """Set the meaning of those records of a page (with their rows) that hooks and files told of, in place."""
    mine = [(row, record) for row, record in records if is_told(record)]
    if not mine:
        return
    id_ = _IDS[table]
    within = (
        Match("seq", ">=", min(row["seq"] for row, _ in mine)),
        Match("seq", "<=", max(row["seq"] for row, _ in mine)),
    )
    names: dict[str, str | Agg | Bucket] = {name: name for name in ("seq", id_, *_FIELDS, *_TOKENS, "duration_ns")}
    ids = Match(id_, "in", sorted({row[id_] for row, _ in mine}))
    told = {(row["seq"], row[id_]): row for row in reader.scan(Scan(table, names, (*within, ids))).rows()}
    reports = _reports(reader, within) if any(row["is_call"] for row in told.values()) else {}
    for row, record in mine:
        found = told[row["seq"], row[id_]]
        record.meaning = _meaning(found, table)
        if record.meaning.is_call:
            _complete(record.meaning, reports.get(_place(row["seq"], record), ()))


def is_told(record: Span | Event) -> bool:
    """Whether a hook or a file told of it, which only its reader understands."""
    if isinstance(record, Event) and record.origin != "log":
        return True
    return record.source.scope_name.startswith(tuple(SCOPES.values()))


def _meaning(row: Row, table: str) -> Meaning:
    meaning = Meaning(**{name: row[name] for name in _FIELDS if row[name] is not None})
    if table == "events":  # of a span it is but its length
        meaning.duration_ns = row["duration_ns"]
    whole, read, write, output, reasoning = (row[name] for name in _TOKENS)
    if any(row[name] is not None for name in _TOKENS):
        uncached = None if whole is None else max(0, whole - (read or 0) - (write or 0))
        meaning.usage = Usage(uncached, read, write, output=output, reasoning=reasoning)
    return meaning


def _reports(reader: Reader, within: Iterable[Match]) -> dict[tuple[Any, ...], list[Report]]:
    found: dict[tuple[Any, ...], list[Report]] = {}
    for row in reader.scan(Scan("reports", {"seq": "seq", "report": "report"}, tuple(within))).rows():
        given = row["report"]
        report = msgspec.convert(given, Report) if isinstance(given, dict) else _DECODE.decode(given)
        place = (row["seq"], report.trace_id, report.span_id) if report.origin == "span" else None
        found.setdefault(place or (row["seq"], report.origin, report.service, report.name), []).append(report)
    return found


def _place(seq: int, record: Span | Event) -> tuple[Any, ...]:
    if isinstance(record, Span):
        return seq, record.trace_id, record.span_id
    return seq, record.origin, record.source.scope_name, record.name


def _complete(meaning: Meaning, reports: Iterable[Report]) -> None:
    """Add what the columns of a record do not hold, from the report that was made of it."""
    report = next((one for one in reports if _is_of(one.meaning, meaning)), None)
    if report is None:
        return
    for name in _OF_REPORTS:
        if name != "duration_ns" or report.origin == "span":
            setattr(meaning, name, getattr(report.meaning, name))
    if meaning.usage is not None and report.meaning.usage is not None:
        meaning.usage.cache_write_1h = report.meaning.usage.cache_write_1h


def _is_of(report: Meaning, meaning: Meaning) -> bool:
    """Whether a report was made of a record; where lines of one answer made one, its usage may have grown."""
    names = ("session_id", "request_model", "response_model", "response_id", "request_id", "message_id", "http_status")
    if any(getattr(report, name) != getattr(meaning, name) for name in names):
        return False
    one, other = report.usage, meaning.usage
    if one is None or other is None:
        return one is other
    same = (one.input_total, one.cache_read, one.cache_write) == (
        other.input_total,
        other.cache_read,
        other.cache_write,
    )
    return same and (bool(meaning.response_id) or one.output == other.output)
