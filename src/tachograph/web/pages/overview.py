"""The first page: what was used and what it cost over a period, by model, by agent, and the newest sessions."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from tachograph.connections import ANY_SDK
from tachograph.questions import TIMES, usage
from tachograph.questions import sessions as list_sessions
from tachograph.registry import CONNECTIONS
from tachograph.scan import Agg, Reader, Scan
from tachograph.web import units
from tachograph.web.charts import COLOURS, Bar, Stack, parts_bar, share_bar, stacked
from tachograph.web.pages.sessions import kind_of, with_costs
from tachograph.web.rendering import DEFAULT_OTLP, Look, Site, look_of, render

_NEWEST: Final = 12
_TABLE_ROWS: Final = 8
_NANO: Final = 1_000_000_000
OTHER: Final = "other models"


class Range(NamedTuple):
    """A period to look at: the width of its buckets, how many of them make one bar, and how many days it has."""

    name: str
    words: str
    width: str
    per_bar: int
    days: int | None


RANGES: Final = {
    one.name: one
    for one in (
        Range("24h", "24 hours", "hour", 1, 1),
        Range("7d", "7 days", "hour", 4, 7),
        Range("30d", "30 days", "day", 1, 30),
        Range("all", "all time", "day", 1, None),
    )
}
# What the chart shows -> (words, how a value is written, which counters of a row it adds up).
SHOWS: Final[dict[str, tuple[str, Callable[[float], str], tuple[str, ...]]]] = {
    "cost": ("Cost", lambda value: units.money(round(value)), ("cost_usd",)),
    "tokens": ("Tokens", lambda value: units.tokens(round(value)), ("input_tokens", "output_tokens")),
    "calls": ("Calls", lambda value: units.count(round(value)), ("calls", "failed_calls")),
}


def overview(site: Site, request: Request) -> Response:
    """The page; `?range=` and `?show=` choose, what is unknown among them is the default."""
    sequence = site.reader.sequence()
    look = look_of(site, request)
    range_ = RANGES.get(request.query_params.get("range", ""), RANGES["7d"])
    show = request.query_params.get("show", "cost")
    show = show if show in SHOWS else "cost"
    since_ns, edges, width = _period(site.reader, range_, look)
    by_time = usage(site.reader, (width, "model"), since_ns, timezone=look.timezone)
    models = usage(site.reader, "model", since_ns)
    agents = usage(site.reader, "agent", since_ns)
    totals = models["totals"]
    chart = _chart(by_time["rows"], models["rows"], edges, width, show, range_.per_bar)
    words, shown, _ = SHOWS[show]
    newest = list_sessions(site.reader, since_ns=since_ns, limit=_NEWEST)
    return render(
        site, request, "overview.html",
        sequence=sequence, look=look, is_empty=not newest and _is_empty(site.reader),
        connect=_connect(site.otlp), otlp=site.otlp, ranges=RANGES.values(), range=range_, shows=SHOWS, show=show,
        totals=totals, cost_nanousd=nanousd(totals["cost_usd"]), costs=_costs(totals), token_bar=_token_bar(totals),
        chart=chart, chart_svg=stacked(chart, shown, f"{words} over time by model"), peak=shown(chart.peak),
        first_label=edges[0] if edges else "", last_label=edges[-1] if edges else "",
        models=_table(models["rows"], "model"), agents=_table(agents["rows"], "agent"),
        more_models=max(0, len(models["rows"]) - _TABLE_ROWS), more_agents=max(0, len(agents["rows"]) - _TABLE_ROWS),
        sessions=with_costs(site.reader, newest),
    )  # fmt: skip


def nanousd(usd: float | None) -> int | None:
    """Dollars as they come in JSON back to nano-dollars."""
    return None if usd is None else round(usd * _NANO)


def priced(row: dict[str, Any]) -> dict[str, Any]:
    """A row of `usage` with its cost as pages show it."""
    return row | {"cost_nanousd": nanousd(row["cost_usd"]), "cost_kind": kind_of(row)}


def _is_empty(reader: Reader) -> bool:
    return not reader.scan(Scan("sessions", {"n": Agg("count")})).data["n"][0]


def _connect(otlp: str) -> dict[str, tuple[list[str], str]]:
    """How agents and programs are connected, with the address that this server really has."""
    return {
        "agents": (
            [f"tachograph connect {one.name}" for one in CONNECTIONS],
            "a terminal, for those that you use",
        ),
        "any OpenTelemetry SDK": ([ANY_SDK.replace(DEFAULT_OTLP, otlp)], "the environment of the program"),
    }


def _period(reader: Reader, range_: Range, look: Look) -> tuple[int | None, list[str], str]:
    """When the period starts (None = with everything), the labels of its buckets, and their width."""
    now = datetime.fromtimestamp(look.now_ns / _NANO, look.zone)
    if range_.days is None:
        return _all_time(reader, now)
    if range_.width == "hour" and range_.days == 1:
        start = now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=23)
    else:
        start = now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=range_.days - 1)
    return int(start.timestamp()) * _NANO, _labels(start, now, range_.width), range_.width


def _all_time(reader: Reader, now: datetime) -> tuple[None, list[str], str]:
    first = reader.scan(Scan("calls", {"first": Agg("min", "start_ns")})).data["first"][0]
    start = datetime.fromtimestamp(first / _NANO, now.tzinfo) if first else now
    days = (now - start).days
    width = "day" if days < 100 else "week" if days < 700 else "month"
    # 20 years: one call with a broken clock must not draw a bar for every week since 1970.
    start = max(start, now - timedelta(days=7305)).replace(hour=0, minute=0, second=0, microsecond=0)
    return None, _labels(start, now, width), width


def _labels(start: datetime, now: datetime, width: str) -> list[str]:
    """Every bucket from start to now by the name that `usage` gives it."""
    step = timedelta(hours=1) if width == "hour" else timedelta(days=1)
    labels: dict[str, None] = {}
    at = start
    while at <= now:
        labels[at.strftime(TIMES[width])] = None
        at += step
    return list(labels)


def _chart(
    rows: list[dict[str, Any]], models: list[dict[str, Any]], edges: list[str], width: str, show: str, per_bar: int
) -> Stack:
    """Bars of the largest models, the rest as one; calls outside the edges (clocks ahead) fall off the chart."""
    counters = SHOWS[show][2]
    scale = _NANO if show == "cost" else 1
    largest = sorted(models, key=lambda row: -sum(row[c] or 0 for c in counters))
    names = [row["model"] for row in largest[: COLOURS - 1]]
    series = names + ([OTHER] if len(largest) > len(names) else [])
    at_of = {label: number // per_bar for number, label in enumerate(edges)}
    bars = [Bar(label, [0.0] * len(series)) for label in edges[::per_bar]]
    for row in rows:
        at = at_of.get(row[width])
        if at is not None:
            place = names.index(row["model"]) if row["model"] in names else len(series) - 1
            bars[at].values[place] += sum(row[c] or 0 for c in counters) * scale
    return Stack([name or "unknown model" for name in series], bars)


def _costs(totals: dict[str, Any]) -> list[tuple[str, str, int]]:
    """What the cost is made of: (kind, what that means, nano-dollars), only the parts that there are."""
    kinds = (
        ("billed", "as the provider or gateway billed it", "cost_billed_usd"),
        ("estimated", "the agent's own estimate", "cost_source_estimate_usd"),
        ("computed", "computed here from tokens and list prices", "cost_computed_usd"),
        ("plan", "notional: covered by a subscription plan, not money spent", "cost_notional_usd"),
    )
    return [(kind, what, nanousd(totals[name]) or 0) for kind, what, name in kinds if totals[name]]


def _token_bar(totals: dict[str, Any]) -> dict[str, Any]:
    """Tokens by kind, disjoint; the uncached rest is unknown where the input is."""
    read, write = totals["cache_read_tokens"] or 0, totals["cache_write_tokens"] or 0
    given = totals["input_tokens"]
    uncached = None if given is None else max(0, given - read - write)
    reasoning = totals["reasoning_tokens"] or 0
    output = totals["output_tokens"] or 0
    parts = [
        ("part-uncached", uncached or 0),
        ("part-cache-read", read),
        ("part-cache-write", write),
        ("part-output", max(0, output - reasoning)),
        ("part-reasoning", reasoning),
    ]
    svg = parts_bar(parts, lambda value: units.tokens(round(value)), "tokens by kind")
    return {"svg": svg, "uncached": uncached, "parts": parts}


def _table(rows: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """Rows by cost, then tokens, with a bar of each one's share of the largest."""

    def size(row: dict[str, Any]) -> float:
        return row["cost_usd"] or 0.0

    peak = max(map(size, rows), default=0.0)
    ordered = sorted(rows, key=lambda row: (-size(row), -(row["input_tokens"] or 0), row[name]))
    return [priced(row) | {"name": row[name], "bar": share_bar(size(row), peak)} for row in ordered[:_TABLE_ROWS]]
