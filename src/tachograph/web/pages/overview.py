"""The first page: what was used and what it cost over a period, against the one before, by whatever one likes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from tachograph.connections import ANY_SDK
from tachograph.questions import sessions as list_sessions
from tachograph.questions import usage
from tachograph.questions.activity import Outlook, activity, outlook
from tachograph.registry import CONNECTIONS
from tachograph.scan import Agg, Reader, Scan
from tachograph.web import units
from tachograph.web.asking import Asked, Period, term
from tachograph.web.charts import Bar, Stack, parts_bar, share_bar, stacked
from tachograph.web.pages.sessions import kind_of, with_costs
from tachograph.web.plots import Plot, Series, Unit, plot, rounded
from tachograph.web.rendering import DEFAULT_OTLP, Site, render

_LISTED: Final = 8
_NANO: Final = 1_000_000_000
_COLOURS: Final = 7  # named series of a chart; the rest is one more
_OTHER: Final = "others"
SHOWS: Final[dict[str, tuple[str, Unit, tuple[str, ...]]]] = {
    "cost": ("Cost", "dollars", ("cost_usd",)),
    "tokens": ("Tokens", "tokens", ("input_tokens", "output_tokens")),
    "calls": ("Calls", "count", ("calls", "failed_calls")),
}
# What the chart can be split by -> how people call several of it.
SPLITS: Final = {
    "model": "models",
    "agent": "agents",
    "project": "projects",
    "channel": "channels",
    "user": "users",
    "team": "teams",
}


_WRITTEN: Final[dict[Unit, Callable[[float], str]]] = {
    "dollars": lambda value: units.money(round(value * _NANO)),
    "tokens": lambda value: units.tokens(round(value)),
    "count": lambda value: units.count(round(value)),
}


# Of less than this in the period before a change says nothing, by unit; money in nano-dollars.
LEAST: Final = {"count": 10, "tokens": 1000, "money": _NANO // 100, "share": 0}


class Figure(NamedTuple):
    """One number of the period with what it was in the period before, None where there is nothing to compare."""

    name: str
    value: float | int | None
    before: float | int | None
    unit: str  # money | tokens | count | share
    href: str
    what: str = ""

    @property
    def change(self) -> str:
        """How it stands to the period before; "" where that says nothing."""
        return units.change(self.value, self.before, is_share=self.unit == "share", least=LEAST[self.unit])


def overview(site: Site, request: Request) -> Response:
    """The page; `?range=`, `?q=`, `?show=` and `?by=` choose, what is unknown among them is the default."""
    sequence = site.reader.sequence()
    asked = Asked(site, request)
    where = asked.where("calls")
    period = asked.period()
    show, split = asked.choice("show", SHOWS, "cost"), asked.choice("by", SPLITS, "model")
    by_time = usage(site.reader, (period.width, split), period.since_ns, period.until_ns, where, asked.look.timezone)
    totals = by_time["totals"]
    before = asked.before(period)
    earlier = usage(site.reader, (), *before, where)["totals"] if before else None
    sessions_where = asked.where("sessions")
    newest = list_sessions(site.reader, period.since_ns, period.until_ns, sessions_where, limit=_LISTED)
    costly = list_sessions(
        site.reader, period.since_ns, period.until_ns, sessions_where, order_by=("cost_nanousd", True), limit=_LISTED
    )
    shown = with_costs(site.reader, [*newest, *(row for row in costly if row["cost_nanousd"])])
    now = activity(site.reader, period.since_ns, period.until_ns, sessions_where)
    was = activity(site.reader, *before, sessions_where) if before else None
    ahead = outlook(site.reader, asked.look.now_ns, asked.look.timezone, where)
    return render(
        site, request, "overview.html",
        sequence=sequence, look=asked.look, asked=asked, period=period,
        is_empty=not newest and _is_empty(site.reader), connect=_connect(site.otlp), otlp=site.otlp,
        shows=SHOWS, show=show, splits=SPLITS, split=split, totals=totals,
        cost=_cost(totals, earlier),
        costs=_costs(asked, totals), unpriced_href=_behind(asked, "/sessions", "unpriced_calls>0"),
        partial_href=_behind(asked, "/sessions", "partial_calls>0"), token_bar=_token_bar(totals),
        figures=_figures(asked, totals, earlier, now, was),
        chart=_chart(asked, by_time["rows"], period, show, split),
        groups=[_group(asked, by_time["rows"], split), _group(asked, *_other(site, asked, period, split))],
        ahead=ahead, today=_today(ahead), costly=shown[len(newest) :], sessions=shown[: len(newest)],
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


def _cost(totals: dict[str, Any], earlier: dict[str, Any] | None) -> Figure:
    before = nanousd(earlier["cost_usd"]) if earlier else None
    return Figure("Cost", nanousd(totals["cost_usd"]), before, "money", "")


def _figures(
    asked: Asked,
    totals: dict[str, Any],
    earlier: dict[str, Any] | None,
    now: dict[str, int],
    was: dict[str, int] | None,
) -> list[Figure]:
    """The numbers of the period in the order of the page, each with the address of what is behind it."""

    def of(name: str) -> int | None:
        return earlier[name] if earlier else None

    def was_of(name: str) -> int | None:
        return was[name] if was else None

    calls, sessions = asked.link("/calls"), asked.link("/sessions")
    failed = _behind(asked, "/calls", "error:true")
    prompts, runs = _behind(asked, "/sessions", "prompts>0"), _behind(asked, "/sessions", "tools>0")
    bad_runs = _behind(asked, "/sessions", "tool_errors>0")
    whole = "of the sessions that were alive in the period, whole"
    return [
        Figure("calls", totals["calls"], of("calls"), "count", calls, "model calls that went well"),
        Figure(
            "failed", totals["failed_calls"], of("failed_calls"), "count", failed, "calls that failed or were aborted"
        ),
        Figure("cache hits", _share(totals), _share(earlier), "share", calls, "input tokens that came from the cache"),
        Figure("sessions", now["sessions"], was_of("sessions"), "count", sessions, "alive in the period"),
        Figure("prompts", now["prompts"], was_of("prompts"), "count", prompts, whole),
        Figure("tool runs", now["tool_runs"], was_of("tool_runs"), "count", runs, whole),
        Figure("tool errors", now["tool_errors"], was_of("tool_errors"), "count", bad_runs, whole),
    ]


def _share(totals: dict[str, Any] | None) -> float | None:
    if not totals or totals["cache_read_tokens"] is None or not totals["input_tokens"]:
        return None
    return float(totals["cache_read_tokens"] / totals["input_tokens"])


def size_of(row: dict[str, Any], counters: Sequence[str]) -> float:
    """What a row of `usage` adds to a chart of these counters."""
    return float(sum(row[counter] or 0 for counter in counters))


def _chart(asked: Asked, rows: list[dict[str, Any]], period: Period, show: str, split: str) -> dict[str, Any]:
    """Bars of the largest of a split, the rest as one; calls outside the period (clocks ahead) fall off the chart."""
    words, unit, counters = SHOWS[show]
    sums: dict[str, float] = {}
    for row in rows:
        sums[row[split]] = sums.get(row[split], 0.0) + size_of(row, counters)
    names = sorted(sums, key=lambda name: (-sums[name], name))
    largest = names[:_COLOURS]
    labels = period.labels[:: period.per_bar]
    place_of = {label: at // period.per_bar for at, label in enumerate(period.labels)}
    values = {name: [0.0] * len(labels) for name in [*largest, *([_OTHER] if len(names) > len(largest) else [])]}
    for row in rows:
        at = place_of.get(row[period.width])
        if at is not None:
            values[row[split] if row[split] in largest else _OTHER][at] += size_of(row, counters)
    series = [
        Series(
            name or f"unknown {split}",
            rounded(values[name]),
            "7" if name == _OTHER and name not in largest else str(at),
            asked.narrowed("/calls", split, name) if name in largest and name else "",
        )
        for at, name in enumerate(values)
    ]
    made = Plot("stack", unit, labels, series)
    name = f"{words} over time by {split}"
    bars = [Bar(label, [one[at] for one in values.values()]) for at, label in enumerate(labels)]
    drawn = stacked(Stack([one.name for one in series], bars), _WRITTEN[unit], name)
    return {"svg": plot(made, name, drawn), "peak": made.peak}


def _other(site: Site, asked: Asked, period: Period, split: str) -> tuple[list[dict[str, Any]], str]:
    """The second table of the page: by agent, or by model where agents are the first."""
    name = "agent" if split != "agent" else "model"
    where = asked.where("calls")
    return usage(site.reader, name, period.since_ns, period.until_ns, where)["rows"], name


def _group(asked: Asked, rows: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """The rows of one dimension by cost, then tokens, with a bar of each one's share of the largest."""
    merged: dict[str, dict[str, Any]] = {}
    for row in rows:
        known = merged.setdefault(row[name], {})
        for key, value in row.items():
            if isinstance(value, int | float) and not key.endswith("_ns"):
                known[key] = (known.get(key) or 0) + value
            elif value is None:
                known.setdefault(key, None)
    for key, row in merged.items():
        row[name] = key
    ordered = sorted(merged.values(), key=lambda r: (-(r["cost_usd"] or 0), -(r["input_tokens"] or 0), r[name]))
    peak = max((row["cost_usd"] or 0.0 for row in ordered), default=0.0)
    listed = [
        priced(row)
        | {
            "name": row[name],
            "bar": share_bar(row["cost_usd"] or 0.0, peak),
            "href": asked.narrowed("/sessions", name, row[name]) if row[name] else "",
            "calls_href": _behind(asked, "/calls", f"{term(name, row[name])} status=ok"),
            "failed_href": _behind(asked, "/calls", f"{term(name, row[name])} error:true"),
        }
        for row in ordered[:_LISTED]
    ]
    return {
        "name": name,
        "rows": listed,
        "more": max(0, len(ordered) - _LISTED),
        "href": asked.link("/models" if name == "model" else f"/by/{name}"),
    }


def _today(ahead: Outlook) -> str:
    """Today's money from midnight on against the usual day, as a small chart; "" where there is no usual day."""
    if ahead.usual is None:
        return ""
    hours = [f"{hour:02}:00" for hour in range(24)]
    today: list[float | None] = [*ahead.today, *[None] * (24 - len(ahead.today))]
    series = [
        Series("today", rounded(today), "0"),
        Series(f"a usual {ahead.weekday}", rounded(ahead.usual), "7"),
    ]
    made = Plot("line", "dollars", hours, series)
    name = f"Spent today from midnight on, against a usual {ahead.weekday}"
    return plot(made, name, f"{units.money(nanousd(ahead.today[-1]))} so far today")


def _costs(asked: Asked, totals: dict[str, Any]) -> list[tuple[str, str, int, str]]:
    """What the cost is made of: (kind, what that means, nano-dollars, its calls), only the parts that there are."""
    kinds = (
        ("billed", "as the provider or gateway billed it", "cost_billed_usd", "cost_kind=billed is_notional=false"),
        (
            "estimated",
            "the agent's own estimate",
            "cost_source_estimate_usd",
            "cost_kind=source_estimate is_notional=false",
        ),
        (
            "computed",
            "computed here from tokens and list prices",
            "cost_computed_usd",
            "cost_kind=computed is_notional=false",
        ),
        (
            "plan",
            "notional: covered by a subscription plan, not money spent",
            "cost_notional_usd",
            "is_notional=true",
        ),
    )
    return [
        (kind, what, nanousd(totals[name]) or 0, _behind(asked, "/calls", terms, order="cost"))
        for kind, what, name, terms in kinds
        if totals[name]
    ]


def _behind(asked: Asked, path: str, terms: str, **changes: str) -> str:
    """The page of what is behind a number: its rows are those of the filter that the terms hold for as well."""
    return asked.link(path, q=f"{asked.filter} {terms}".strip(), **changes)


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
