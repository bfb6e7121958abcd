"""How fast and how reliably each model answered, what a call of it costs, and who answered instead of whom."""

from __future__ import annotations

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from tachograph.questions.performance import fallbacks, performance
from tachograph.web import exporting
from tachograph.web.asking import Asked
from tachograph.web.pages.overview import priced
from tachograph.web.rendering import Site, render
from tachograph.web.tables import Column, Row, Table

# What the address may order by -> key of a row.
ORDERS: Final = {
    "cost": "cost_nanousd",
    "calls": "calls",
    "failed": "failed_calls",
    "p50": "p50_ns",
    "p95": "p95_ns",
    "p99": "p99_ns",
    "ttft": "ttft_p50_ns",
    "speed": "tokens_per_s",
    "cache": "cache_share",
    "each": "cost_per_call_nanousd",
    "name": "model",
}


def models(site: Site, request: Request) -> Response:
    """The page; `?q=`, the period and `?order=` choose, `?format=` gives a file."""
    sequence = site.reader.sequence()
    asked = Asked(site, request, default_range="30d")
    period = asked.period()
    where = asked.where("calls")
    rows = [priced(row) | {"wrong": _wrong(row)} for row in performance(site.reader, "model", *period[:2], where)]
    if exporting.wanted(asked):
        return exporting.file_of(asked, "models", rows)
    order = asked.order(ORDERS, "cost")
    table = Table(_columns(asked), ordered(rows, ORDERS[order[0]], order[1]), asked, order, caption="Models")
    switched = Table(_fallback_columns(asked), fallbacks(site.reader, *period[:2], where), asked, is_exportable=False)
    return render(
        site, request, "models.html",
        sequence=sequence, look=asked.look, asked=asked, period=period, table=table, switched=switched,
    )  # fmt: skip


def ordered(rows: list[dict[str, Any]], key: str, is_descending: bool) -> list[dict[str, Any]]:
    """Rows by a value; those without one come last, whichever way."""
    known = [row for row in rows if row[key] is not None]
    known.sort(key=lambda row: row[key], reverse=is_descending)
    return known + [row for row in rows if row[key] is None]


def _wrong(row: dict[str, Any]) -> str:
    return ", ".join(f"{kind} {count}" for kind, count in row["errors"][:3])


def _columns(asked: Asked) -> list[Column]:
    def name(row: Row) -> str:
        return asked.narrowed("/calls", "model", row["model"]) if row["model"] else ""

    return [
        Column("model", "Model", order="name", href=name),
        Column("calls", "Calls", "count", order="calls", what="that went well"),
        Column("failed_calls", "Failed", "failed", order="failed", under=lambda row: row["wrong"]),
        Column("p50_ns", "p50", "duration", order="p50", what="half of the calls took at most so long"),
        Column("p95_ns", "p95", "duration", order="p95", rank="mid"),
        Column("p99_ns", "p99", "duration", order="p99", rank="wide"),
        Column(
            "ttft_p50_ns", "First token", "duration", order="ttft", rank="wide", what="median, where a source tells it"
        ),
        Column(
            "tokens_per_s",
            "Tokens/s",
            "rate",
            order="speed",
            rank="wide",
            what="output tokens by the time of the calls",
        ),
        Column(
            "cache_share", "Cache", "share", order="cache", rank="mid", what="of the input tokens, read from the cache"
        ),
        Column("cost_per_call_nanousd", "Cost a call", "cost", order="each", rank="wide"),
        Column("cost_nanousd", "Cost", "cost", order="cost"),
    ]


def _fallback_columns(asked: Asked) -> list[Column]:
    def behind(row: Row) -> str:
        return asked.narrowed("/calls", "response_model", row["served"])

    return [
        Column("requested", "Asked for"),
        Column("served", "Answered", href=behind),
        Column("calls", "Calls", "count"),
        Column("cost_nanousd", "Cost", "cost"),
        Column("last_ns", "Last", "time", rank="mid"),
    ]
