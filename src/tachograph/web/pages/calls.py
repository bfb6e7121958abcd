"""The model calls behind a number: newest first, by any column, with the filter of the address."""

from __future__ import annotations

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from tachograph.questions.lookup import CALL_COLUMNS
from tachograph.scan import Scan
from tachograph.web import exporting
from tachograph.web.asking import Asked
from tachograph.web.naming import names_of
from tachograph.web.rendering import Site, path_of, render
from tachograph.web.tables import Column, Row, Table

PAGE_ROWS: Final = 100
# What the address may order by -> column of calls.
ORDERS: Final = {
    "newest": "start_ns",
    "cost": "cost_nanousd",
    "input": "input_tokens",
    "output": "output_tokens",
    "duration": "duration_ns",
    "ttft": "ttft_ns",
    "model": "model",
    "agent": "agent",
    "status": "status",
}


def calls(site: Site, request: Request) -> Response:
    """The page; `?q=` filters, `?order=` and `?page=` move about, `?format=` gives a file of all."""
    sequence = site.reader.sequence()
    asked = Asked(site, request, default_range="all")
    period = asked.period()
    where = asked.during("calls", period)
    order = asked.order(ORDERS, "newest")
    by, key = (ORDERS[order[0]], order[1]), ("call_id", True)
    if exporting.wanted(asked):
        rows = exporting.all_rows(site.reader, "calls", CALL_COLUMNS, where, by, key)
        return exporting.file_of(asked, "calls", CALL_COLUMNS, rows)
    select: dict[str, Any] = {name: name for name in CALL_COLUMNS if name not in ("reports", "provenance")}
    found = site.reader.scan(
        Scan(
            "calls", select, where,
            order_by=(by, key), limit=PAGE_ROWS + 1, offset=(asked.page - 1) * PAGE_ROWS,
        )
    ).rows()  # fmt: skip
    shown = found[:PAGE_ROWS]
    names = names_of(site.reader, map(_session, shown))
    table = Table(
        _columns(asked), [row | {"session": names.get(_session(row), "")} for row in shown], asked, order,
        "No model call fits.", "Model calls", page=asked.page, has_more=len(found) > PAGE_ROWS,
    )  # fmt: skip
    return render(
        site, request, "calls.html", sequence=sequence, look=asked.look, asked=asked, period=period, table=table
    )


def _session(row: Row) -> str:
    return row["session_id"] or (f"trace:{row['trace_id']}" if row["trace_id"] else "")


def _columns(asked: Asked) -> list[Column]:
    def model(row: Row) -> str:
        return path_of("calls", row["call_id"])

    def session(row: Row) -> str:
        id_ = _session(row)
        return path_of("sessions", id_) if id_ else ""

    def outcome(row: Row) -> str:
        return "" if row["status"] == "ok" else str(row["error_type"] or row["error_message"])

    return [
        Column("model", "Model", order="model", href=model, under=lambda row: row["subagent"] or row["agent"]),
        Column("status", "Status", "status", order="status", under=outcome),
        Column("session", "Session", rank="wide", href=session, missing="its trace"),
        Column("input_tokens", "Input", "tokens", order="input", rank="mid"),
        Column("cache_read_tokens", "Cached", "tokens", rank="wide", what="of the input, read from the cache"),
        Column("output_tokens", "Output", "tokens", order="output", rank="mid"),
        Column("duration_ns", "Took", "duration", order="duration", rank="mid"),
        Column("ttft_ns", "First token", "duration", order="ttft", rank="wide"),
        Column("cost_nanousd", "Cost", "cost", order="cost"),
        Column("start_ns", "When", "time", order="newest", rank="mid"),
    ]
