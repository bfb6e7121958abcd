"""Agents, projects, channels, users, teams and the like: one page, the same numbers for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from tachograph.questions.performance import performance, unmeasured
from tachograph.scan import Agg, Scan
from tachograph.web import exporting
from tachograph.web.asking import Asked, Period, term
from tachograph.web.pages.models import ordered
from tachograph.web.pages.overview import priced
from tachograph.web.rendering import Site, render
from tachograph.web.tables import Column, Row, Table

# What calls and sessions can be grouped by -> what several of it are called.
DIMENSIONS: Final = {
    "agent": "Agents",
    "project": "Projects",
    "channel": "Channels",
    "user": "Users",
    "team": "Teams",
    "branch": "Branches",
    "repository": "Repositories",
    "host": "Hosts",
    "environment": "Environments",
}
_SUMS: Final = ("prompts", "tool_runs", "tool_errors")
_NONE: Final = dict.fromkeys(("sessions", *_SUMS), 0)
ORDERS: Final = {
    "cost": "cost_nanousd",
    "sessions": "sessions",
    "prompts": "prompts",
    "tools": "tool_runs",
    "calls": "calls",
    "failed": "failed_calls",
    "input": "input_tokens",
    "output": "output_tokens",
    "each": "cost_per_session_nanousd",
    "p95": "p95_ns",
    "name": "name",
}


def groups(site: Site, request: Request) -> Response:
    """The page of a dimension; `?q=`, the period and `?order=` choose, `?format=` gives a file."""
    dimension = request.path_params["dimension"]
    if dimension not in DIMENSIONS:
        raise HTTPException(404)
    sequence = site.reader.sequence()
    asked = Asked(site, request, default_range="30d")
    period = asked.period()
    rows = _rows(site, asked, period, dimension)
    order = asked.order(ORDERS, "cost")
    rows = ordered(rows, ORDERS[order[0]], order[1])
    if exporting.wanted(asked):
        columns = list(_made(unmeasured(dimension), dimension, _NONE))
        return exporting.file_of(asked, DIMENSIONS[dimension].lower(), columns, rows)
    table = Table(_columns(asked, dimension), rows, asked, order, caption=DIMENSIONS[dimension])
    return render(
        site, request, "groups.html",
        sequence=sequence, look=asked.look, asked=asked, period=period, table=table,
        dimension=dimension, dimensions=DIMENSIONS,
    )  # fmt: skip


def _rows(site: Site, asked: Asked, period: Period, dimension: str) -> list[dict[str, Any]]:
    """Each value with its calls, and with the sessions that were alive in the period."""
    where = asked.during("sessions", period)
    select: dict[str, Any] = {"name": dimension, "sessions": Agg("count"), **{name: Agg("sum", name) for name in _SUMS}}
    alive = {row["name"]: row for row in site.reader.scan(Scan("sessions", select, where, ("name",))).rows()}
    told = performance(site.reader, dimension, period.since_ns, period.until_ns, asked.where("calls"))
    return [_made(row, dimension, alive.get(row[dimension], _NONE)) for row in told]


def _made(row: dict[str, Any], dimension: str, counted: Row) -> dict[str, Any]:
    made = priced(row) | {name: counted[name] for name in _NONE} | {"name": row[dimension]}
    cost, sessions = made["cost_nanousd"], made["sessions"]
    made["cost_per_session_nanousd"] = round(cost / sessions) if cost is not None and sessions else None
    made["share"] = made["cost_nanousd"] or 0
    return made


def _columns(asked: Asked, dimension: str) -> list[Column]:
    def behind(row: Row) -> str:
        return asked.narrowed("/sessions", dimension, row["name"]) if row["name"] else ""

    def to(path: str, terms: str = "", order: str | None = None) -> Callable[[Row], str]:
        def href(row: Row) -> str:
            return asked.link(path, q=f"{asked.filter} {term(dimension, row['name'])} {terms}".strip(), order=order)

        return href

    whole = "of these sessions, whole"
    return [
        Column("name", dimension.capitalize(), order="name", href=behind, missing="not told"),
        Column("sessions", "Sessions", "count", order="sessions", what="alive in the period", href=to("/sessions")),
        Column(
            "prompts", "Prompts", "count", order="prompts", rank="wide", what=whole,
            href=to("/sessions", "prompts>0", "prompts"),
        ),
        Column(
            "tool_runs", "Tools", "count", order="tools", rank="wide", what=whole,
            href=to("/sessions", "tools>0", "tools"),
        ),
        Column("calls", "Calls", "count", order="calls", rank="mid", href=to("/calls", "status=ok")),
        Column("failed_calls", "Failed", "failed", order="failed", rank="mid", href=to("/calls", "error:true")),
        Column("input_tokens", "Input", "tokens", order="input", rank="wide"),
        Column("output_tokens", "Output", "tokens", order="output", rank="wide"),
        Column("p95_ns", "p95", "duration", order="p95", rank="wide"),
        Column("cost_per_session_nanousd", "Cost a session", "cost", order="each", rank="wide"),
        Column("cost_nanousd", "Cost", "cost", order="cost", href=to("/sessions", order="cost")),
        Column("share", "", "bar", rank="mid"),
    ]  # fmt: skip
