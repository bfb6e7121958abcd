"""What tools did: runs, errors, time and size; one tool's own view; the slowest runs and the biggest results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from tachograph.questions.tools import COUNTERS, errors, newest, over_time, spread, tools, top
from tachograph.questions.tools import during as in_period
from tachograph.scan import Condition, Match
from tachograph.web import exporting, units
from tachograph.web.asking import Asked, Period, term
from tachograph.web.naming import names_of
from tachograph.web.pages.models import ordered
from tachograph.web.plots import Plot, Series, plot
from tachograph.web.rendering import Site, path_of, render
from tachograph.web.tables import Column, Row, Table

# What the address may order by -> key of a row.
ORDERS: Final = {
    "runs": "runs",
    "errors": "errors",
    "failing": "error_share",
    "mean": "mean_ns",
    "p50": "p50_ns",
    "p95": "p95_ns",
    "max": "max_ns",
    "total": "total_ns",
    "biggest": "result_bytes_max",
    "sessions": "session_share",
    "name": "tool_name",
}
_COLOURS: Final = 7
_OTHER: Final = "all other"
_LIST_ROWS: Final = 10
_RUNS_SHOWN: Final = 50
_SECOND_NS: Final = 1_000_000_000


def tools_page(site: Site, request: Request) -> Response:
    """The page; `?tool=` shows one tool, `?q=`, the period and `?order=` choose, `?format=` gives a file.

    Of one tool it has the runs as well, or with `?failed=yes` those that failed.
    """
    sequence = site.reader.sequence()
    asked = Asked(site, request, default_range="30d")
    period = asked.period()
    tool = asked.params.get("tool")
    where: tuple[Condition, ...] = (*asked.where("tool_runs"), *in_period(period.since_ns, period.until_ns))
    if tool is not None:
        where = (*where, Match("tool_name", "=", tool))
    rows = tools(site.reader, where)
    order = asked.order(ORDERS, "runs")
    listed = ordered(rows, ORDERS[order[0]], order[1])
    if exporting.wanted(asked):
        return exporting.file_of(asked, "tools", ("tool_name", *COUNTERS), listed)
    table = Table(_columns(asked), listed, asked, order, "No tool ran in this period.", "Tools")
    return render(
        site, request, "tools.html",
        sequence=sequence, look=asked.look, asked=asked, period=period, table=table, tool=tool,
        chart=_chart(asked, period, over_time(site.reader, where, period.width, asked.look.timezone), rows),
        slowest=_runs(asked, top(site.reader, where, "duration_ns", _LIST_ROWS), "Slowest runs"),
        biggest=_runs(asked, top(site.reader, where, "result_bytes", _LIST_ROWS), "Biggest results"),
        failed=asked.params.get("failed") == "yes",
        own=None if tool is None else _own(site, asked, where),
    )  # fmt: skip


def _own(site: Site, asked: Asked, where: tuple[Condition, ...]) -> dict[str, Any]:
    """What only one tool's view has: its errors by kind, how long runs take, and who runs it."""
    bands = [row | {"band": _band(row), "share": row["runs"]} for row in spread(site.reader, where)]
    groups = [
        Table(
            [
                Column(by, by.capitalize(), missing="not told", href=_narrowing(asked, by)),
                Column("runs", "Runs", "count", href=_narrowing(asked, by)),
                Column("errors", "Errors", "failed", href=_narrowing(asked, by, failed="yes")),
                Column("p50_ns", "p50", "duration"),
                Column("p95_ns", "p95", "duration", rank="mid"),
            ],
            tools(site.reader, where, by)[:20], asked, caption=f"By {by}", is_exportable=False,
        )
        for by in ("agent", "project")
    ]  # fmt: skip
    told = [row | {"what": row["error_message"] or row["error_type"]} for row in errors(site.reader, where)]
    return {
        "runs": _newest(site, asked, where),
        "errors": Table(
            [
                Column("what", "Error", missing="not told", under=lambda row: _kind(row)),
                Column("runs", "Runs", "count", href=lambda row: _saying(asked, row)),
                Column("sessions", "Sessions", "count", rank="mid"),
                Column("last_ns", "Last", "time", rank="mid"),
            ],
            told, asked, empty="No run failed in this period.", caption="Errors", is_exportable=False,
        ),
        "spread": Table(
            [
                Column("band", "A run took"),
                Column("runs", "Runs", "count", href=lambda row: _lasting(asked, row)),
                Column("share", "", "bar"),
            ],
            bands if any(row["runs"] for row in bands) else [], asked,
            empty="No source says how long these runs took.", caption="Durations", is_exportable=False,
        ),
        "groups": groups,
    }  # fmt: skip


def _newest(site: Site, asked: Asked, where: tuple[Condition, ...]) -> Table:
    """The runs of one tool, a page of them."""
    is_failed = asked.params.get("failed") == "yes"
    wanted = (*where, Match("is_error", "=", True)) if is_failed else where
    rows = newest(site.reader, wanted, _RUNS_SHOWN + 1, (asked.page - 1) * _RUNS_SHOWN)
    empty = "No run failed in this period." if is_failed else "No run in this period."
    table = _runs(asked, rows[:_RUNS_SHOWN], "Runs", empty)
    table.page, table.has_more = asked.page, len(rows) > _RUNS_SHOWN
    return table


def _runs_link(asked: Asked, terms: str = "", **changes: str | None) -> str:
    """The address of one tool's runs that these terms hold for as well."""
    return asked.link("/tools", q=f"{asked.filter} {terms}".strip() or None, **changes) + "#runs"


def _narrowing(asked: Asked, by: str, failed: str | None = None) -> Callable[[Row], str]:
    return lambda row: _runs_link(asked, term(by, row[by]), failed=failed)


def _saying(asked: Asked, row: Row) -> str:
    """The runs that failed with this; those that say nothing stand among all that failed."""
    said = str(row["error_message"] or row["error_type"])
    return _runs_link(asked, term("error", said) if said else "", failed="yes")


def _lasting(asked: Asked, row: Row) -> str:
    """The runs of a band of durations."""
    terms = f"duration>={row['from_ns'] / _SECOND_NS:g}"
    return _runs_link(asked, terms if row["to_ns"] is None else f"{terms} duration<{row['to_ns'] / _SECOND_NS:g}")


def _kind(row: Row) -> str:
    return str(row["error_type"]) if row["error_message"] else ""


def _band(row: Row) -> str:
    start, end = row["from_ns"], row["to_ns"]
    if end is None:
        return f"{units.duration(start)} or more"
    return f"{units.duration(start)} to {units.duration(end)}" if start else f"under {units.duration(end)}"


def _chart(asked: Asked, period: Period, counted: list[tuple[str, str, int]], rows: list[dict[str, Any]]) -> Any:
    """Bars of the most used tools, the rest as one."""
    names = [row["tool_name"] for row in rows][:_COLOURS]
    labels = period.labels[:: period.per_bar]
    place_of = {label: at // period.per_bar for at, label in enumerate(period.labels)}
    others = [_OTHER] if len(rows) > len(names) else []
    values: dict[str, list[float | None]] = {name: [0.0] * len(labels) for name in [*names, *others]}
    for label, name, runs in counted:
        at = place_of.get(label)
        if at is not None:
            line = values[name if name in names else _OTHER]
            line[at] = (line[at] or 0.0) + runs
    series = [
        Series(name or "not named", values[name], str(at), asked.link(tool=name) if at < len(names) else "")
        for at, name in enumerate(values)
    ]
    made = Plot("stack", "count", labels, series)
    words = f"{units.plural(sum(row['runs'] for row in rows), 'tool run')}"
    return plot(made, "Tool runs over time by tool", words) if made.peak else ""


def _columns(asked: Asked) -> list[Column]:
    def one(row: Row) -> str:
        return asked.link(tool=row["tool_name"], failed=None)

    def part(name: str) -> Callable[[Row], str]:
        return lambda row: f"{one(row)}#{name}"

    def runs(row: Row) -> str:
        return _runs_link(asked, tool=row["tool_name"], failed=None)

    def failed(row: Row) -> str:
        return _runs_link(asked, tool=row["tool_name"], failed="yes")

    def behind(row: Row) -> str:
        return asked.narrowed("/sessions", "tool", row["tool_name"]) if row["tool_name"] else ""

    return [
        Column("tool_name", "Tool", order="name", href=one, missing="not named"),
        Column("runs", "Runs", "count", order="runs", what="each once, however many sources told of it", href=runs),
        Column("errors", "Errors", "failed", order="errors", href=failed),
        Column("error_share", "Failing", "share", order="failing", rank="mid", what="errors of its runs"),
        Column("mean_ns", "Mean", "duration", order="mean", rank="wide", what="of runs whose duration is told"),
        Column("p50_ns", "p50", "duration", order="p50", rank="mid", what="half of the runs took at most so long"),
        Column("p95_ns", "p95", "duration", order="p95"),
        Column("max_ns", "Slowest", "duration", order="max", rank="wide", href=part("slowest")),
        Column("total_ns", "Total", "duration", order="total", rank="mid", what="time of all its runs together"),
        Column(
            "result_bytes_max", "Biggest result", "bytes", order="biggest", rank="wide", missing="–",
            href=part("biggest"),
        ),
        Column(
            "session_share", "Sessions", "share", order="sessions", rank="wide", href=behind,
            what="of the sessions that ran a tool",
        ),
    ]  # fmt: skip


def _runs(asked: Asked, rows: list[dict[str, Any]], caption: str, empty: str = "No run tells it.") -> Table:
    def step(row: Row) -> str:
        if row["trace_id"] and row["span_id"]:
            return path_of("traces", row["trace_id"]) + "?" + urlencode({"node": f"{row['trace_id']}:{row['span_id']}"})
        return path_of("sessions", row["session_id"]) if row["session_id"] else ""

    def session(row: Row) -> str:
        return path_of("sessions", row["session_id"]) if row["session_id"] else ""

    names = names_of(asked.site.reader, (row["session_id"] for row in rows))
    shown = [row | {"session": names.get(row["session_id"], row["session_id"])} for row in rows]
    columns = [
        Column("tool_name", "Tool", href=step, missing="not named", under=lambda row: row["error_message"]),
        Column("session", "Session", href=session, rank="mid", under=lambda row: row["agent"]),
        Column("duration_ns", "Took", "duration"),
        Column("result_bytes", "Result", "bytes"),
        Column("end_ns", "When", "time", rank="wide"),
    ]
    return Table(columns, shown, asked, empty=empty, caption=caption, is_exportable=False)
