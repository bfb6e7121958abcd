"""The list of sessions, newest first, with a filter and pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from tachograph.questions import sessions as list_sessions
from tachograph.questions import usage
from tachograph.scan import Agg, Match, Reader, Scan
from tachograph.web.rendering import Site, look_of, render

PAGE_ROWS: Final = 50
# What the address may order by -> column of sessions.
ORDERS: Final = {
    "newest": "end_ns",
    "cost": "cost_nanousd",
    "tokens": "input_tokens",
    "calls": "calls",
    "failed": "failed_calls",
}
_TEXT_CHARS_MAX: Final = 200
_KINDS: Final = (
    ("cost_billed_usd", "billed"),
    ("cost_source_estimate_usd", "source_estimate"),
    ("cost_computed_usd", "computed"),
    ("cost_notional_usd", "notional"),
)


def sessions(site: Site, request: Request) -> Response:
    """The page; `?q=` filters, `?order=` and `?page=` move about."""
    sequence = site.reader.sequence()
    look = look_of(site, request)
    asked = request.query_params
    text = asked.get("q", "").strip()[:_TEXT_CHARS_MAX]
    order = asked.get("order", "newest")
    order = order if order in ORDERS else "newest"
    number = int(asked["page"]) if asked.get("page", "").isdecimal() and len(asked["page"]) < 7 else 1
    number = max(1, number)
    found = list_sessions(
        site.reader,
        text=text,
        order_by=(ORDERS[order], True),
        limit=PAGE_ROWS + 1,
        offset=(number - 1) * PAGE_ROWS,
    )
    total = site.reader.scan(Scan("sessions", {"n": Agg("count")})).data["n"][0]
    return render(
        site, request, "sessions.html",
        sequence=sequence, look=look, sessions=with_costs(site.reader, found[:PAGE_ROWS]), total=total,
        text=text, order=order, orders=ORDERS, page=number, has_more=len(found) > PAGE_ROWS,
    )  # fmt: skip


def with_costs(reader: Reader, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The sessions, each with `ok_calls` and `cost_kind`: billed, ..., notional, mixed, "" where nothing is priced."""
    ids = [row["session_id"] for row in rows]
    traces = [id_.removeprefix("trace:") for id_ in ids if id_.startswith("trace:")]
    kinds: dict[str, str] = {}
    for where in (Match("session_id", "in", ids), Match("trace_id", "in", traces)):
        if where.value:
            kinds |= {row["session"]: kind_of(row) for row in usage(reader, "session", where=(where,))["rows"]}
    return [row | {"cost_kind": kinds.get(row["session_id"], ""), "ok_calls": row["calls"] or 0} for row in rows]


def kind_of(row: dict[str, Any]) -> str:
    """What the cost of a row of `usage` is made of; "" where nothing is priced."""
    kinds = [kind for name, kind in _KINDS if row[name]]
    return kinds[0] if len(kinds) == 1 else "mixed" if kinds else ""
