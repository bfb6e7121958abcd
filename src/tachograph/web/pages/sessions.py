"""The list of sessions: newest first or by any column, with the filter of the address."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from tachograph.questions import sessions as list_sessions
from tachograph.questions import usage
from tachograph.questions.lookup import SESSION_COLUMNS
from tachograph.scan import Agg, Match, Reader, Scan
from tachograph.web import exporting
from tachograph.web.asking import Asked
from tachograph.web.rendering import Site, path_of, render
from tachograph.web.tables import Column, Row, Table

PAGE_ROWS: Final = 50
# What the address may order by -> column of sessions.
ORDERS: Final = {
    "newest": "end_ns",
    "cost": "cost_nanousd",
    "tokens": "input_tokens",
    "output": "output_tokens",
    "calls": "calls",
    "failed": "failed_calls",
    "prompts": "prompts",
    "tools": "tool_runs",
    "title": "title",
    "agent": "agent",
}
_KINDS: Final = (
    ("cost_billed_usd", "billed"),
    ("cost_source_estimate_usd", "source_estimate"),
    ("cost_computed_usd", "computed"),
    ("cost_notional_usd", "notional"),
)
MARKS: Final = {"subagent": "sub-agent", "fork": "fork", "resume": "resumed", "": ""}


def sessions(site: Site, request: Request) -> Response:
    """The page; `?q=` filters, `?order=` and `?page=` move about, `?format=` gives a file of all."""
    sequence = site.reader.sequence()
    asked = Asked(site, request, default_range="all")
    period = asked.period()
    where = asked.during("sessions", period)
    if exporting.wanted(asked):
        rows = exporting.all_rows(site.reader, "sessions", "session_id", SESSION_COLUMNS, where)
        return exporting.file_of(asked, "sessions", rows)
    name, is_descending = order = asked.order(ORDERS, "newest")
    found = list_sessions(
        site.reader,
        where=where,
        order_by=(ORDERS[name], is_descending),
        limit=PAGE_ROWS + 1,
        offset=(asked.page - 1) * PAGE_ROWS,
    )
    total = site.reader.scan(Scan("sessions", {"n": Agg("count")}, where)).data["n"][0]
    shown = with_costs(site.reader, found[:PAGE_ROWS])
    empty = (
        "No session fits." if asked.filter or period.since_ns else "No sessions yet: the overview says how to connect."
    )
    table = Table(
        _columns(),
        shown,
        asked,
        order,
        empty,
        "Sessions",
        page=asked.page,
        has_more=len(found) > PAGE_ROWS,
        total=total,
    )
    return render(
        site, request, "sessions.html", sequence=sequence, look=asked.look, asked=asked, period=period, table=table
    )


def _columns() -> list[Column]:
    def session(row: Row) -> str:
        return path_of("sessions", row["session_id"])

    def place(row: Row) -> str:
        told = (MARKS.get(row["lineage"], ""), row["project"], row["branch"], row["channel"], row["user"])
        return " · ".join(part for part in told if part)

    return [
        Column("name", "Session", order="title", href=session, under=place),
        Column("agent", "Agent", order="agent", rank="mid"),
        Column("model_names", "Models", rank="wide"),
        Column("prompts", "Prompts", "count", order="prompts", rank="wide"),
        Column("ok_calls", "Calls", "count", order="calls"),
        Column("failed_calls", "Failed", "failed", order="failed", rank="mid"),
        Column("tool_runs", "Tools", "count", order="tools", rank="wide"),
        Column("input_tokens", "Input", "tokens", order="tokens", rank="wide"),
        Column("output_tokens", "Output", "tokens", order="output", rank="wide"),
        Column("took_ns", "Took", "duration", rank="wide"),
        Column("cost_nanousd", "Cost", "cost", order="cost"),
        Column("end_ns", "Last", "time", order="newest", rank="mid"),
    ]


def with_costs(reader: Reader, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The sessions, each with `ok_calls` and `cost_kind`: billed, ..., notional, mixed, "" where nothing is priced."""
    ids = [row["session_id"] for row in rows]
    traces = [id_.removeprefix("trace:") for id_ in ids if id_.startswith("trace:")]
    kinds: dict[str, str] = {}
    for where in (Match("session_id", "in", ids), Match("trace_id", "in", traces)):
        if where.value:
            kinds |= {row["session"]: kind_of(row) for row in usage(reader, "session", where=(where,))["rows"]}
    return [row | _shown(row) | {"cost_kind": kinds.get(row["session_id"], "")} for row in rows]


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """What pages show of a session besides its columns."""
    models = row["models"] or []
    more = f" +{len(models) - 2}" if len(models) > 2 else ""
    return {
        "ok_calls": row["calls"] or 0,
        "name": row["title"] or row["session_id"],
        "model_names": ", ".join(models[:2]) + more,
        "took_ns": row["end_ns"] - row["start_ns"] if row["start_ns"] and row["end_ns"] else None,
    }


def kind_of(row: dict[str, Any]) -> str:
    """What the cost of a row of `usage` is made of; "" where nothing is priced."""
    kinds = [kind for name, kind in _KINDS if row[name]]
    return kinds[0] if len(kinds) == 1 else "mixed" if kinds else ""
