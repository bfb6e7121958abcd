"""Where each number of a call comes from: every field with the report it was taken from and what others say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from tachograph.errors import QueryError
from tachograph.questions.lookup import call
from tachograph.scan import Match, Reader, Scan

# Field shown -> where a report has it, which is also its name in the call's provenance (`a.b` is b within a).
_TOKENS: Final = {
    "input_uncached_tokens": "usage.input_uncached",
    "cache_read_tokens": "usage.cache_read",
    "cache_write_tokens": "usage.cache_write",
    "cache_write_1h_tokens": "usage.cache_write_1h",
    "output_tokens": "usage.output",
    "reasoning_tokens": "usage.reasoning",
}
_PLAIN: Final = (
    *("session_id", "prompt_id", "agent", "subagent", "user", "team", "project", "channel", "repository", "branch"),
    *("host", "tenant", "environment", "operation", "provider", "request_model", "response_model", "response_id"),
    *("request_id", "http_status", "error_type", "error_message", "finish_reason", "is_streaming", "ttft_ns"),
    "attempt",
)
_TIMES: Final = ("start_ns", "end_ns")
# What makes two reports tell of the same call, best first, for people: (field, words).
_IDS: Final = {
    "response_id": "the provider's response id",
    "request_id": "the provider's request id",
    "message_id": "the agent's message id",
    "span": "the span",
}
_REPORT_COLUMNS: Final = ("report_id", "origin", "trace_id", "span_id", "session_id", "report")


def explain(reader: Reader, call_id: str) -> dict[str, Any]:
    """How a call was made of its reports; raises QueryError for an id that no call has.

    `call`: its row. `fields`: `{"field", "value", "report_id", "others": [{"report_id", "value"}]}` for everything that
    is known of it, where `report_id` is "" for what no single report says and others are the reports that say
    something else. `reports`: each `{"report_id", "origin", "name", "service", "dialect", "start_ns", "end_ns",
    "trace_id", "span_id", "is_rollup"}`, the one with most say first. `shared`: why they are one call: `{"id",
    "words", "value", "report_ids"}`; a report in none of them was matched by session, tokens, model and time.
    `price`: `{"cost_nanousd", "cost_kind", "is_notional", "source", "note", "told": [{"report_id", "cost_nanousd",
    "cost_kind"}]}`.
    """
    row = call(reader, call_id)
    if row is None:
        raise QueryError(f'call: got "{call_id}"; expected the id of a call', "tachograph show last")
    reports = _reports(reader, row["reports"] or [])
    return {
        "call": row,
        "fields": _fields(row, reports),
        "reports": [_told(report) for report in reports],
        "shared": _shared(reports),
        "price": _price(row, reports),
    }


def _reports(reader: Reader, ids: Sequence[str]) -> list[dict[str, Any]]:
    """The call's reports in the order of their say; one that is no longer kept is left out."""
    if not ids:
        return []
    scan = Scan("reports", {name: name for name in _REPORT_COLUMNS}, (Match("report_id", "in", list(ids)),))
    found = {row["report_id"]: row for row in reader.scan(scan).rows()}
    return [found[report_id] for report_id in ids if report_id in found]


def _fields(row: Mapping[str, Any], reports: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    provenance = row["provenance"] or {}
    names = {name: name for name in (*_TIMES, *_PLAIN)} | _TOKENS
    fields = []
    for name, path in names.items():
        told = [(report["report_id"], value) for report in reports if (value := _value(report, path)) is not None]
        value = row[name]
        if value in (None, "") and not told:
            continue
        chosen = provenance.get(path, "")
        others = [{"report_id": r, "value": other} for r, other in told if r != chosen and other != value]
        fields.append({"field": name, "value": value, "report_id": chosen, "others": others})
    return fields


def _value(report: Mapping[str, Any], path: str) -> Any:
    """What a report says about a field, None where it says nothing."""
    told = report["report"] or {}
    if path in _TIMES:
        return told.get(path)
    within: Any = told.get("meaning") or {}
    for part in path.split("."):
        within = (within or {}).get(part)
    return None if within == "" else within


def _told(report: Mapping[str, Any]) -> dict[str, Any]:
    told = report["report"] or {}
    meaning = told.get("meaning") or {}
    return {
        "report_id": report["report_id"],
        "origin": report["origin"],
        "name": told.get("name", ""),
        "service": told.get("service", ""),
        "dialect": meaning.get("dialect", ""),
        "start_ns": told.get("start_ns"),
        "end_ns": told.get("end_ns"),
        "trace_id": report["trace_id"],
        "span_id": report["span_id"],
        "is_rollup": bool(meaning.get("is_rollup")),
    }


def _shared(reports: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The ids that more than one report names."""
    found: dict[tuple[str, str], list[str]] = {}
    for report in reports:
        for name in _IDS:
            value = f"{report['trace_id']}/{report['span_id']}" if name == "span" else _value(report, name)
            if value and (name != "span" or report["span_id"]):
                found.setdefault((name, value), []).append(report["report_id"])
    return [
        {"id": name, "words": _IDS[name], "value": value, "report_ids": ids}
        for (name, value), ids in found.items()
        if len(ids) > 1
    ]


def _price(row: Mapping[str, Any], reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    told = [
        {
            "report_id": report["report_id"],
            "cost_nanousd": cost,
            "cost_kind": _value(report, "cost_kind") or "",
        }
        for report in reports
        if (cost := _value(report, "cost_nanousd")) is not None
    ]
    return {
        "cost_nanousd": row["cost_nanousd"],
        "cost_kind": row["cost_kind"],
        "is_notional": bool(row["is_notional"]),
        "source": row["price_source"],
        "note": row["price_note"],
        "told": told,
    }
