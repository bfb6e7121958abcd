"""The list of sessions: newest first or by any column, with the filter of the address."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from tachograph.questions import sessions as list_sessions
from tachograph.questions import usage
from tachograph.questions.contexts import contexts
from tachograph.questions.filters import parse
from tachograph.questions.lookup import SESSION_COLUMNS
from tachograph.scan import Agg, Any_, Condition, Match, Not_, Reader, Scan
from tachograph.web import exporting, units
from tachograph.web.asking import Asked, term
from tachograph.web.naming import session_name, short_id
from tachograph.web.rendering import Site, path_of, render
from tachograph.web.sparks import context_line
from tachograph.web.tables import Column, Row, Table

PAGE_ROWS: Final = 100
COMPARED_MAX: Final = 5  # side by side on one screen
_CHOSEN_MAX: Final = 1000
_NONE_YET: Final = "No sessions yet: the overview says how to connect."
# A sub-agent's session is told by its parent's row; all others, and those whose parent is not kept, have their own.
_ON_THEIR_OWN: Final = Any_(
    (
        Match("lineage", "!=", "subagent"),
        Not_(Match("parent_session_id", "in", Scan("sessions", {"session_id": "session_id"}))),
    )
)
_LINEAGE_FIELDS: Final = ("session", "session_id", "lineage", "parent_session_id", "parent_tool_call_id")
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
    """The page; `?q=` filters, `?order=` and `?page=` move about, `?format=` gives a file of all, or of each `?id=`.

    Sessions of sub-agents stand with their parents, unless `?subagents=yes` or a filter for where they come from says
    otherwise; one whose parent is not kept stands for itself.
    """
    sequence = site.reader.sequence()
    asked = Asked(site, request, default_range="all")
    period = asked.period()
    every = asked.during("sessions", period)
    is_whole = asked.params.get("subagents") == "yes" or _asks_for_lineage(asked)
    where = every if is_whole else (*every, _ON_THEIR_OWN)
    if exporting.wanted(asked):
        chosen = request.query_params.getlist("id")[:_CHOSEN_MAX]
        picked = (Match("session_id", "in", chosen),) if chosen else where
        name, is_descending = asked.order(ORDERS, "newest")
        by, key = (ORDERS[name], is_descending), ("session_id", False)
        rows = exporting.all_rows(site.reader, "sessions", SESSION_COLUMNS, picked, by, key)
        return exporting.file_of(asked, "sessions", SESSION_COLUMNS, rows)
    table = _table(asked, where, "No session fits." if asked.filter or period.since_ns else _NONE_YET)
    whole = table.total if is_whole else _count(site.reader, every)
    alone = _count(site.reader, (*every, _ON_THEIR_OWN)) if is_whole else table.total
    return render(
        site, request, "sessions.html",
        sequence=sequence, look=asked.look, asked=asked, period=period, table=table,
        is_whole=is_whole, whole=whole, alone=alone, compared_max=COMPARED_MAX,
    )  # fmt: skip


def _table(asked: Asked, where: tuple[Condition, ...], empty: str) -> Table:
    reader = asked.site.reader
    name, is_descending = order = asked.order(ORDERS, "newest")
    found = _rows(reader, where, (ORDERS[name], is_descending), (asked.page - 1) * PAGE_ROWS)
    lines = contexts(reader, found[:PAGE_ROWS])
    below = subagents_of(reader, [row["session_id"] for row in found[:PAGE_ROWS]])
    shown = [
        row
        | {"context": context_line(lines.get(row["session_id"], ())), "below": below.get(row["session_id"])}
        | {"marks": _marks(row)}
        for row in with_costs(reader, found[:PAGE_ROWS])
    ]
    return Table(
        _columns(asked), shown, asked, order, empty, "Sessions",
        page=asked.page, has_more=len(found) > PAGE_ROWS, total=_count(reader, where), choose="session_id",
    )  # fmt: skip


def _rows(reader: Reader, where: tuple[Condition, ...], order: tuple[str, bool], offset: int) -> list[dict[str, Any]]:
    """The rows of a page and one more: first which they are, then the columns of these alone."""
    select: dict[str, Any] = {"session_id": "session_id", "by": order[0]}
    by = (("by", order[1]), ("session_id", False))
    ids = reader.scan(Scan("sessions", select, where, order_by=by, limit=PAGE_ROWS + 1, offset=offset)).data
    chosen = (Match("session_id", "in", ids["session_id"]),)
    return list_sessions(reader, where=chosen, order_by=order, limit=None) if ids["session_id"] else []


def _count(reader: Reader, where: tuple[Condition, ...]) -> int:
    return int(reader.scan(Scan("sessions", {"n": Agg("count")}, where)).data["n"][0])


def _asks_for_lineage(asked: Asked) -> bool:
    return asked.error is None and any(term.field in _LINEAGE_FIELDS for term in parse(asked.filter))


def _marks(row: Row) -> str:
    """What kind of session it is and where it ran, in one line."""
    id_ = "" if row["title"] or session_name(row) == row["session_id"] else short_id(row["session_id"])
    told = (id_, MARKS.get(row["lineage"], ""), "demo" if row["is_demo"] else "")
    place = (row["project"], row["branch"], row["channel"], row["user"])
    return " · ".join(part for part in (*told, *place) if part)


def _columns(asked: Asked) -> list[Column]:
    def session(row: Row) -> str:
        return path_of("sessions", row["session_id"])

    def below(row: Row) -> str:
        count, cost = row["below"] or (0, None)
        return f"+{units.money(cost)} in {units.plural(count, 'sub-agent')}" if count else ""

    def behind(row: Row) -> str:
        return asked.link("/sessions", q=term("parent_session_id", row["session_id"]))

    def tool_errors(row: Row) -> str:
        return f"{row['tool_errors']:,} failed" if row["tool_errors"] else ""

    return [
        Column("name", "Session", order="title", href=session, under=lambda row: row["marks"]),
        Column("agent", "Agent", order="agent", rank="mid", under=lambda row: row["model_names"]),
        Column("prompts", "Prompts", "count", order="prompts", rank="wide"),
        Column("ok_calls", "Calls", "count", order="calls"),
        Column("failed_calls", "Failed", "failed", order="failed", rank="mid"),
        Column("tool_runs", "Tools", "count", order="tools", rank="wide", under=tool_errors),
        Column("input_tokens", "Input", "tokens", order="tokens", rank="wide"),
        Column("output_tokens", "Output", "tokens", order="output", rank="wide"),
        Column("context", "Context", "markup", rank="wide", what="input tokens call by call, and the largest"),
        Column("took_ns", "Took", "duration", rank="wide"),
        Column("cost_nanousd", "Cost", "cost", order="cost", under=below, under_href=behind),
        Column("end_ns", "Last", "time", order="newest", rank="mid"),
    ]


def subagents_of(reader: Reader, session_ids: Sequence[str]) -> dict[str, tuple[int, int | None]]:
    """Session -> how many sessions of sub-agents it has, and what is known of their cost in nano-dollars."""
    if not session_ids:
        return {}
    where = (Match("parent_session_id", "in", list(session_ids)), Match("lineage", "=", "subagent"))
    select: dict[str, Any] = {"id": "parent_session_id", "n": Agg("count"), "cost": Agg("sum", "cost_nanousd")}
    rows = reader.scan(Scan("sessions", select, where, ("id",))).rows()
    return {row["id"]: (row["n"], None if row["cost"] is None else int(row["cost"])) for row in rows}


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
        "name": session_name(row),
        "model_names": ", ".join(models[:2]) + more,
        "took_ns": row["end_ns"] - row["start_ns"] if row["start_ns"] and row["end_ns"] else None,
    }


def kind_of(row: dict[str, Any]) -> str:
    """What the cost of a row of `usage` is made of; "" where nothing is priced."""
    kinds = [kind for name, kind in _KINDS if row[name]]
    return kinds[0] if len(kinds) == 1 else "mixed" if kinds else ""
