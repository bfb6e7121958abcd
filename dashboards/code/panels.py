"""The few forms that panels have, and a board that they are put on."""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

from grafana_foundation_sdk.builders import dashboard, loki, piechart, prometheus, stat, table, timeseries
from grafana_foundation_sdk.builders.common import (
    ReduceDataOptions,
    StackingConfig,
    TableSortByFieldState,
    VizLegendOptions,
    VizTooltipOptions,
)
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    DataSourceRef,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataTransformerConfig,
    DynamicConfigValue,
    FieldColorModeId,
    GridPos,
    Threshold,
    ThresholdsMode,
    VariableOption,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.piechart import PieChartLegendValues
from grafana_foundation_sdk.models.prometheus import PromQueryFormat
from queries import CALLS, TOOLS, Queries, labels_of

METRICS: Final = DataSourceRef(type_val="prometheus", uid="${metrics}")
LOGS: Final = DataSourceRef(type_val="loki", uid="${logs}")
TAGS: Final = ["tachograph"]
WIDTH: Final = 24
PAGES: Final = "http://127.0.0.1:4319"  # where Tachograph's pages are, unless they were put elsewhere
_FAILING: Final = ((None, "green"), (0.01, "yellow"), (0.05, "red"))  # a share of what was tried
_NAME: Final = re.compile(r"max_over_time\((\w+)\{")
# What is chosen at the top: the metric whose labels are offered, and what it is called.
_OFFERED: Final = {
    "agent": (CALLS, "Agent"), "provider": (CALLS, "Provider"), "model": (CALLS, "Model"),
    "project": (CALLS, "Project"), "channel": (CALLS, "Channel"), "tool": (TOOLS, "Tool"),
}  # fmt: skip

Panel = Any  # the SDK's builders have no type of their own in common


class Column(NamedTuple):
    """One query of a table."""

    expr: str
    name: str
    unit: str = "short"


def _query(expr: str, legend: str = "", *, is_instant: bool = False) -> prometheus.Dataquery:
    made = prometheus.Dataquery().expr(expr).legend_format(legend or "__auto").datasource(METRICS).ref_id("A")
    return made.instant() if is_instant else made.range()


def _thresholds(steps: tuple[tuple[float | None, str], ...]) -> dashboard.ThresholdsConfig:
    made = [Threshold(value=value, color=color) for value, color in steps]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(made)


def number(title: str, expr: str, unit: str = "short", what: str = "", decimals: int | None = None) -> Panel:
    """One number of the whole time that is shown."""
    made = stat.Panel().title(title).description(what).unit(unit).height(4).span(4).datasource(METRICS).no_value("0")
    made = made.with_target(_query(expr, title, is_instant=True)).graph_mode(BigValueGraphMode.NONE)
    made = made.color_mode(BigValueColorMode.VALUE).thresholds(_thresholds(((None, "text"),)))
    made = made.reduce_options(ReduceDataOptions().calcs(["lastNotNull"]))
    return made.decimals(decimals) if decimals is not None else made


def failing(title: str, expr: str, what: str = "") -> Panel:
    """A share of what failed, in the colour that it deserves."""
    made = number(title, expr, "percentunit", what, 1)
    return made.thresholds(_thresholds(_FAILING))


def lines(
    title: str, unit: str, *targets: tuple[str, str], what: str = "", span: int = 12, is_stacked: bool = False
) -> Panel:
    """What changes with time."""
    made = (
        timeseries.Panel().title(title).description(what).unit(unit).height(8).span(span).datasource(METRICS).min(0)
        .fill_opacity(40 if is_stacked else 10).line_width(1).show_points(VisibilityMode.AUTO)
        .color_scheme(dashboard.FieldColor().mode(FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
        .tooltip(VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
        .legend(
            VizLegendOptions().display_mode(LegendDisplayMode.TABLE).placement(LegendPlacement.BOTTOM)
            .show_legend(True).calcs(["max", "lastNotNull"]).sort_by("Max").sort_desc(True)
        )
    )  # fmt: skip
    if is_stacked:
        made = made.stacking(StackingConfig().mode(StackingMode.NORMAL).group("A"))
    for number_, (expr, legend) in enumerate(targets):
        made = made.with_target(_query(expr, legend).ref_id(chr(ord("A") + number_)))
    return made


def pie(title: str, expr: str, legend: str, unit: str = "short", what: str = "", span: int = 8) -> Panel:
    """Parts of a whole."""
    made = piechart.Panel().title(title).description(what).unit(unit).height(8).span(span).datasource(METRICS)
    made = made.with_target(_query(expr, legend, is_instant=True)).legend(
        piechart.PieChartLegendOptions().display_mode(LegendDisplayMode.TABLE).placement(LegendPlacement.RIGHT)
        .show_legend(True).values([PieChartLegendValues.VALUE, PieChartLegendValues.PERCENT])
    )  # fmt: skip
    return made.reduce_options(ReduceDataOptions().calcs(["lastNotNull"]))


def rows(title: str, labels: dict[str, str], *columns: Column, link: str = "", what: str = "") -> Panel:
    """A table of several queries, a column each, the first of them the one that it is sorted by.

    `labels` are what its rows are told apart by, with their headings; the first leads to the page `link`.
    """
    made = table.Panel().title(title).description(what).height(9).span(WIDTH).datasource(METRICS).no_value("")
    names, order = dict(labels), {name: at for at, name in enumerate(labels)}
    for at, column in enumerate(columns):
        letter = chr(ord("A") + at)
        asked = _query(column.expr, column.name, is_instant=True).format(PromQueryFormat.TABLE)
        made = made.with_target(asked.ref_id(letter))
        names[f"Value #{letter}"], order[f"Value #{letter}"] = column.name, len(labels) + at
        made = made.override_by_name(column.name, _column(column))
    shown = {"excludeByName": {"Time": True}, "renameByName": names, "indexByName": order}
    made = made.with_transformation(DataTransformerConfig(id_val="merge", options={}))
    made = made.with_transformation(DataTransformerConfig(id_val="organize", options=shown))
    if link:
        made = made.override_by_name(
            next(iter(labels.values())), [_links("Calls in Tachograph", "${tachograph}" + link)]
        )
    return made.sort_by([TableSortByFieldState().display_name(columns[0].name).desc(True)])


def _column(column: Column) -> list[DynamicConfigValue]:
    told = [DynamicConfigValue(id_val="unit", value=column.unit)]
    if column.name == "Failed":
        steps = [{"value": value, "color": color} for value, color in _FAILING]
        told.append(DynamicConfigValue(id_val="thresholds", value={"mode": "absolute", "steps": steps}))
        told.append(DynamicConfigValue(id_val="custom.cellOptions", value={"type": "color-text"}))
    return told


def _links(title: str, url: str) -> DynamicConfigValue:
    return DynamicConfigValue(id_val="links", value=[{"title": title, "url": url, "targetBlank": True}])


# What stands in a line of Loki, with its heading, in the order of the columns.
_LOGGED: Final = {
    "Time": "Time", "session_id": "Session", "trace_id": "Trace", "agent": "Agent", "project": "Project",
    "model": "Model", "status": "Status", "error_type": "Error", "cost_usd": "Cost", "duration_s": "Duration",
    "input_tokens": "Input tokens", "output_tokens": "Output tokens",
}  # fmt: skip


def logged(title: str, expr: str, what: str = "") -> Panel:
    """A table of lines in Loki; ids lead to the pages of Tachograph and to Tempo."""
    made = table.Panel().title(title).description(what).height(12).span(WIDTH).datasource(LOGS)
    made = made.with_target(loki.Dataquery().expr(expr).ref_id("A").query_type("range").max_lines(500).datasource(LOGS))
    made = made.with_transformation(
        DataTransformerConfig(id_val="extractFields", options={"source": "Line", "format": "json", "keepTime": True})
    )
    shown = {
        "includeByName": dict.fromkeys(_LOGGED, True), "renameByName": _LOGGED,
        "indexByName": {name: at for at, name in enumerate(_LOGGED)},
    }  # fmt: skip
    made = made.with_transformation(DataTransformerConfig(id_val="organize", options=shown))
    made = _sessions_linked(made).override_by_name("Trace", [_traced()])
    return made.override_by_name("Cost", _column(Column("", "", "currencyUSD"))).override_by_name(
        "Duration", _column(Column("", "", "s"))
    )


def ranked(title: str, expr: str, labels: dict[str, str], value: Column, what: str = "") -> Panel:
    """A table of one number for each session, asked of Loki."""
    made = table.Panel().title(title).description(what).height(12).span(WIDTH).datasource(LOGS)
    made = made.with_target(loki.Dataquery().expr(expr).ref_id("A").query_type("instant").datasource(LOGS))
    names = {**labels, "Value #A": value.name}
    shown = {
        "excludeByName": {"Time": True}, "renameByName": names,
        "indexByName": {name: at for at, name in enumerate(names)},
    }  # fmt: skip
    made = made.with_transformation(DataTransformerConfig(id_val="organize", options=shown))
    made = _sessions_linked(made).override_by_name(value.name, _column(value))
    return made.sort_by([TableSortByFieldState().display_name(value.name).desc(True)])


def _sessions_linked(made: Panel) -> Panel:
    return made.override_by_name(
        "Session", [_links("Session in Tachograph", "${tachograph}/sessions/${__value.raw:percentencode}")]
    )


def _traced() -> DynamicConfigValue:
    asked = (
        '{"datasource":"${traces}","queries":[{"refId":"A","queryType":"traceql","query":"${__value.raw}"}],'
        '"range":{"from":"${__from}","to":"${__to}"}}'
    )
    links = [
        ("Trace in Tachograph", "${tachograph}/traces/${__value.raw:percentencode}"),
        ("Trace in Tempo", f"/explore?left={asked}"),
    ]
    told = [{"title": title, "url": url, "targetBlank": True} for title, url in links]
    return DynamicConfigValue(id_val="links", value=told)


class Board:
    """A dashboard while panels are put on it, from left to right; `ask` makes its queries."""

    def __init__(self, uid: str, title: str, what: str, ask: Queries, *, has_logs: bool = False) -> None:
        self.ask, self._panels, self._x, self._y, self._height = ask, 0, 0, 0, 0
        self.made = (
            dashboard.Dashboard(title).uid(f"tachograph-{uid}").description(what).tags(TAGS).editable().refresh("1m")
            .time("now-24h", "now").timezone("browser").tooltip(DashboardCursorSync.CROSSHAIR)
            .with_variable(dashboard.DatasourceVariable("metrics").label("Metrics").type("prometheus"))
            .link(
                dashboard.DashboardLink("Dashboards").type(DashboardLinkType.DASHBOARDS).tags(TAGS)
                .as_dropdown(True).keep_time(True).include_vars(True)
            )
            .link(
                dashboard.DashboardLink("Tachograph").type(DashboardLinkType.LINK).icon("external link")
                .tooltip("Its own pages").url("${tachograph}/").target_blank(True)
            )
        )  # fmt: skip
        if has_logs:
            self.made = self.made.with_variable(dashboard.DatasourceVariable("logs").label("Logs").type("loki"))
            self.made = self.made.with_variable(dashboard.DatasourceVariable("traces").label("Traces").type("tempo"))
        for name in ask.chosen:
            self.made = self.made.with_variable(self._choice(name))
        pages = dashboard.TextBoxVariable("tachograph").label("Tachograph").default_value(PAGES)
        self.made = self.made.with_variable(
            pages.description("Where its pages are, for links.").current(VariableOption(True, PAGES, PAGES))
        )

    def _choice(self, name: str) -> dashboard.QueryVariable:
        """A variable with all its values, any number of which can be chosen; what has no value is in All."""
        metric, label = _OFFERED[name]
        before = Queries(self.ask.chosen[: self.ask.chosen.index(name)], self.ask.agent)
        asked = f"label_values({metric}{{{before.where(metric)}}}, {labels_of(metric)[name]})"
        return (
            dashboard.QueryVariable(name).label(label).datasource(METRICS).definition(asked)
            .query({"query": asked, "refId": f"{name}s", "qryType": 1}).refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(VariableSort.ALPHABETICAL_CASE_INSENSITIVE_ASC).multi(True).include_all(True).all_value(".*")
            .current(VariableOption(True, ["All"], ["$__all"]))
        )  # fmt: skip

    def row(self, title: str) -> None:
        """A heading, under which a new line begins."""
        self._begin_line()
        self._panels += 1
        self.made = self.made.with_row(
            dashboard.Row(title).id(self._panels).grid_pos(GridPos(x=0, y=self._y, w=WIDTH, h=1))
        )
        self._y += 1

    def put(self, *panels: Panel) -> None:
        """Panels beside those before them while there is room."""
        for panel in panels:
            built = panel.build()
            if self._x + built.grid_pos.w > WIDTH:
                self._begin_line()
            self._panels += 1
            place = GridPos(x=self._x, y=self._y, w=built.grid_pos.w, h=built.grid_pos.h)
            self.made = self.made.with_panel(panel.id(self._panels).grid_pos(place).description(self._described(built)))
            self._x += place.w
            self._height = max(self._height, place.h)

    def _begin_line(self) -> None:
        self._x, self._y, self._height = 0, self._y + self._height, 0

    def _described(self, built: Any) -> str:
        """What a panel says of itself, and what is chosen at the top without being heeded by it."""
        told = built.description or ""
        metrics = {name for target in built.targets for name in _NAME.findall(target.expr)}
        deaf = [name for name in self.ask.chosen if any(name not in labels_of(metric) for metric in metrics)]
        if not deaf:
            return told
        several = [f"{name}s" for name in deaf]
        listed = " and ".join(filter(None, (", ".join(several[:-1]), several[-1])))
        return f"{told} Of all {listed}, whatever is chosen.".strip()
