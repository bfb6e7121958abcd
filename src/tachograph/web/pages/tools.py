"""What tools did: runs, errors, time and size; one tool's own view; the slowest runs and the biggest results."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from tachograph.questions.tools import COUNTERS, errors, over_time, spread, tools, top
from tachograph.questions.tools import during as in_period
from tachograph.scan import Condition, Match
from tachograph.web import exporting, units
from tachograph.web.asking import Asked, Period
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


def tools_page(site: Site, request: Request) -> Response:
    """The page; `?tool=` shows one tool, `?q=`, the period and `?order=` choose, `?format=` gives a file."""
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
        own=None if tool is None else _own(site, asked, where),
    )  # fmt: skip


def _own(site: Site, asked: Asked, where: tuple[Condition, ...]) -> dict[str, Any]:
    """What only one tool's view has: its errors by kind, how long runs take, and who runs it."""
    bands = [row | {"band": _band(row), "share": row["runs"]} for row in spread(site.reader, where)]
    groups = [
        Table(
            [
                Column(by, by.capitalize(), missing="not told", href=_narrowing(asked, by)),
                Column("runs", "Runs", "count"),
                Column("errors", "Errors", "failed"),
                Column("p50_ns", "p50", "duration"),
                Column("p95_ns", "p95", "duration", rank="mid"),
            ],
            tools(site.reader, where, by)[:20], asked, caption=f"By {by}", is_exportable=False,
        )
        for by in ("agent", "project")
    ]  # fmt: skip
    told = [row | {"what": row["error_message"] or row["error_type"]} for row in errors(site.reader, where)]
    return {
        "errors": Table(
            [
                Column("what", "Error", missing="not told", under=lambda row: _kind(row)),
                Column("runs", "Runs", "count"),
                Column("sessions", "Sessions", "count", rank="mid"),
                Column("last_ns", "Last", "time", rank="mid"),
            ],
            told, asked, empty="No run failed in this period.", caption="Errors", is_exportable=False,
        ),
        "spread": Table(
            [Column("band", "A run took"), Column("runs", "Runs", "count"), Column("share", "", "bar")],
            bands if any(row["runs"] for row in bands) else [], asked,
            empty="No source says how long these runs took.", caption="Durations", is_exportable=False,
        ),
        "groups": groups,
    }  # fmt: skip


def _narrowing(asked: Asked, by: str) -> Any:
    return lambda row: asked.narrowed("/tools", by, row[by]) if row[by] else ""


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
        return asked.link(tool=row["tool_name"])

    def behind(row: Row) -> str:
        return asked.narrowed("/sessions", "tool", row["tool_name"]) if row["tool_name"] else ""

    return [
        Column("tool_name", "Tool", order="name", href=one, missing="not named"),
        Column("runs", "Runs", "count", order="runs", what="each once, however many sources told of it"),
        Column("errors", "Errors", "failed", order="errors"),
        Column("error_share", "Failing", "share", order="failing", rank="mid", what="errors of its runs"),
        Column("mean_ns", "Mean", "duration", order="mean", rank="wide", what="of runs whose duration is told"),
        Column("p50_ns", "p50", "duration", order="p50", rank="mid", what="half of the runs took at most so long"),
        Column("p95_ns", "p95", "duration", order="p95"),
        Column("max_ns", "Slowest", "duration", order="max", rank="wide"),
        Column("total_ns", "Total", "duration", order="total", rank="mid", what="time of all its runs together"),
        Column("result_bytes_max", "Biggest result", "bytes", order="biggest", rank="wide"),
        Column(
            "session_share", "Sessions", "share", order="sessions", rank="wide", href=behind,
            what="of the sessions that ran a tool",
        ),
    ]  # fmt: skip


def _runs(asked: Asked, rows: list[dict[str, Any]], caption: str) -> Table:
    def step(row: Row) -> str:
        if row["trace_id"] and row["span_id"]:
            return path_of("traces", row["trace_id"]) + "?" + urlencode({"node": f"{row['trace_id']}:{row['span_id']}"})
        return path_of("sessions", row["session_id"])

    def session(row: Row) -> str:
        return path_of("sessions", row["session_id"])

    columns = [
        Column("tool_name", "Tool", href=step, missing="not named", under=lambda row: row["error_message"]),
        Column("session_id", "Session", href=session, rank="mid"),
        Column("duration_ns", "Took", "duration"),
        Column("result_bytes", "Result", "bytes"),
        Column("end_ns", "When", "time", rank="wide"),
    ]
    return Table(columns, rows, asked, empty="No run tells it.", caption=caption, is_exportable=False)
