"""How fast and how reliably each model answered, what a call of it costs, and who answered instead of whom."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from tachograph.questions.performance import fallbacks, over_time, performance, unmeasured
from tachograph.scan import Condition, Match
from tachograph.web import exporting, units
from tachograph.web.asking import Asked, Period, term
from tachograph.web.pages.overview import priced
from tachograph.web.plots import Kind, Plot, Series, Unit, plot, rounded
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


_COSTS: Final = (
    ("billed", "cost_billed_usd", "2"),
    ("estimated", "cost_source_estimate_usd", "1"),
    ("computed", "cost_computed_usd", "0"),
    ("plan", "cost_notional_usd", "7"),
)
_WRITTEN: Final[dict[Unit, Callable[[float], str]]] = {
    "seconds": lambda value: units.duration(round(value * 1e9)),
    "dollars": lambda value: units.money(round(value * 1e9)),
    "count": lambda value: units.count(round(value)),
}


def models(site: Site, request: Request) -> Response:
    """The page; `?q=`, the period and `?order=` choose, `?name=` shows one model over time, `?format=` gives a file."""
    sequence = site.reader.sequence()
    asked = Asked(site, request, default_range="30d")
    period = asked.period()
    name = asked.params.get("name", "")
    where = (*asked.where("calls"), *((Match("model", "=", name),) if name else ()))
    order = asked.order(ORDERS, "cost")
    told = [_made(row) for row in performance(site.reader, "model", *period[:2], where)]
    rows = ordered(told, ORDERS[order[0]], order[1])
    if exporting.wanted(asked):
        return exporting.file_of(asked, "models", list(_made(unmeasured("model"))), rows)
    table = Table(_columns(asked), rows, asked, order, caption="Models")
    switched = Table(_fallback_columns(asked), fallbacks(site.reader, *period[:2], where), asked, is_exportable=False)
    return render(
        site, request, "models.html",
        sequence=sequence, look=asked.look, asked=asked, period=period, table=table, switched=switched,
        name=name, charts=_charts(site, asked, period, where) if name else [],
        calls=asked.narrowed("/calls", "model", name), others=asked.link(name=None),
    )  # fmt: skip


def _made(row: dict[str, Any]) -> dict[str, Any]:
    return priced(row) | {"wrong": _wrong(row)}


def ordered(rows: list[dict[str, Any]], key: str, is_descending: bool) -> list[dict[str, Any]]:
    """Rows by a value; those without one come last, whichever way."""
    known = [row for row in rows if row[key] is not None]
    known.sort(key=lambda row: row[key], reverse=is_descending)
    return known + [row for row in rows if row[key] is None]


def _wrong(row: dict[str, Any]) -> str:
    told = row["errors"][:3]
    return ", ".join(kind if len(told) == 1 else f"{count} × {kind}" for kind, count in told)


def _charts(site: Site, asked: Asked, period: Period, where: tuple[Condition, ...]) -> list[dict[str, Any]]:
    """One model over time: how fast it answered, what it cost, what failed; gaps where nothing was measured."""
    told = over_time(site.reader, period.width, *period[:2], where, asked.look.timezone)

    def values(key: str, factor: float, missing: float | None) -> list[float | None]:
        found = (told.get(label, {}).get(key) for label in period.labels)
        return rounded([missing if value is None else value * factor for value in found])

    def made(name: str, unit: Unit, kind: Kind, *series: tuple[str, str, float, float | None, str]) -> dict[str, Any]:
        rows = [Series(words, values(key, factor, none), colour) for words, key, factor, none, colour in series]
        told_of = [one for one in rows if kind == "line" or any(one.values)]
        chart = Plot(kind, unit, period.labels, told_of)
        words = f"highest {_WRITTEN[unit](chart.peak)}" if chart.peak else "nothing measured"
        return {"name": name, "figure": plot(chart, f"{name} over time", words) if chart.peak else ""}

    latencies = ((f"p{n}", f"p{n}_ns", 1e-9, None, colour) for n, colour in ((50, "0"), (95, "1"), (99, "4")))
    first = ((f"p{n}", f"ttft_p{n}_ns", 1e-9, None, colour) for n, colour in ((50, "0"), (95, "1")))
    calls = (("went well", "calls", 1, 0.0, "0"), ("failed", "failed_calls", 1, 0.0, "bad"))
    return [
        made("Latency", "seconds", "line", *latencies),
        made("Time to the first token", "seconds", "line", *first),
        made("Cost", "dollars", "stack", *((words, key, 1, 0.0, colour) for words, key, colour in _COSTS)),
        made("Calls", "count", "stack", *calls),
    ]


def _columns(asked: Asked) -> list[Column]:
    def name(row: Row) -> str:
        return asked.link(name=row["model"]) if row["model"] else ""

    def calls(row: Row, terms: str = "status=ok", order: str | None = None) -> str:
        return asked.link("/calls", q=f"{asked.filter} {term('model', row['model'])} {terms}".strip(), order=order)

    return [
        Column("model", "Model", order="name", href=name),
        Column("calls", "Calls", "count", order="calls", what="that went well", href=calls),
        Column(
            "failed_calls",
            "Failed",
            "failed",
            order="failed",
            under=lambda row: row["wrong"],
            href=lambda row: calls(row, "error:true"),
        ),
        Column("p50_ns", "p50", "duration", order="p50", rank="mid", what="half of the calls took at most so long"),
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
        Column("cost_nanousd", "Cost", "cost", order="cost", href=lambda row: calls(row, order="cost")),
    ]


def _fallback_columns(asked: Asked) -> list[Column]:
    def behind(row: Row) -> str:
        return asked.narrowed("/calls", "response_model", row["served"])

    def both(row: Row) -> str:
        terms = f"{term('request_model', row['requested'])} {term('response_model', row['served'])}"
        return asked.link("/calls", q=f"{asked.filter} {terms}".strip())

    return [
        Column("requested", "Asked for"),
        Column("served", "Answered", href=behind),
        Column("calls", "Calls", "count", href=both),
        Column("cost_nanousd", "Cost", "cost"),
        Column("last_ns", "Last", "time", rank="mid"),
    ]
