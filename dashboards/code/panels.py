"""The few forms that panels have, and the queries that count what Tachograph's series say.

A total over the chosen time is the newest value of a series less its oldest: the series never go down, and a value that
comes after a silence is preceded by the old one. `increase` would add what it guesses at the edges.
"""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard, loki, piechart, prometheus, stat, table, timeseries
from grafana_foundation_sdk.builders.common import VizLegendOptions
from grafana_foundation_sdk.models.common import DataSourceRef, LegendDisplayMode, LegendPlacement
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataTransformerConfig,
    DynamicConfigValue,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

METRICS = "${metrics}"
LOGS = "${logs}"
RANGE = "$__range"
TAGS = ["tachograph"]


def total(metric: str, by: str = "", where: str = "", window: str = RANGE) -> str:
    """How much a counter grew in the window."""
    series = f"{metric}{{{where}}}"
    grown = f"max_over_time({series}[{window}]) - min_over_time({series}[{window}])"
    return f"sum by ({by}) ({grown})" if by else f"sum({grown})"


def share(metric: str, by: str, part: str, where: str = "") -> str:
    """Which part of what a counter counted has the labels `part`, from 0 to 1; 0 where nothing has."""
    some = ", ".join(filter(None, (where, part)))
    both = total(metric, by, where)
    return f"({total(metric, by, some)} or {both} * 0) / ({both} > 0)"


def quantile(at: float, histogram: str, by: str, where: str = "", window: str = RANGE) -> str:
    """A quantile of a histogram."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({at}, {total(histogram + '_bucket', labels, where, window)})"


def _metrics() -> DataSourceRef:
    return DataSourceRef(type_val="prometheus", uid=METRICS)


def _logs() -> DataSourceRef:
    return DataSourceRef(type_val="loki", uid=LOGS)


def query(expr: str, legend: str = "", *, is_instant: bool = False) -> prometheus.Dataquery:
    made = prometheus.Dataquery().expr(expr).legend_format(legend or "__auto")
    return made.instant() if is_instant else made.range()


def number(title: str, expr: str, unit: str = "short", decimals: int | None = None) -> stat.Panel:
    made = stat.Panel().title(title).unit(unit).height(4).span(4).datasource(_metrics())
    made = made.with_target(query(expr, is_instant=True)).no_value("0")
    return made.decimals(decimals) if decimals is not None else made


def lines(title: str, unit: str, *targets: tuple[str, str], span: int = 12) -> timeseries.Panel:
    made = timeseries.Panel().title(title).unit(unit).height(8).span(span).datasource(_metrics()).min(0)
    made = made.fill_opacity(10).legend(
        VizLegendOptions().display_mode(LegendDisplayMode.TABLE).placement(LegendPlacement.BOTTOM).show_legend(True)
    )
    for expr, legend in targets:
        made = made.with_target(query(expr, legend))
    return made


def pie(title: str, expr: str, legend: str, unit: str = "short", span: int = 8) -> piechart.Panel:
    made = piechart.Panel().title(title).unit(unit).height(8).span(span).datasource(_metrics())
    return made.with_target(query(expr, legend, is_instant=True))


def rows(title: str, *targets: tuple[str, str], span: int = 24) -> table.Panel:
    """A table of several queries, a column each."""
    made = table.Panel().title(title).height(8).span(span).datasource(_metrics())
    names = {"Time": ""}
    for letter, (expr, name) in zip("ABCDEFGH", targets, strict=False):
        made = made.with_target(query(expr, name, is_instant=True).format(PromQueryFormat.TABLE).ref_id(letter))
        names[f"Value #{letter}"] = name
    shown = {"excludeByName": {"Time": True}, "renameByName": names}
    return made.with_transformation(DataTransformerConfig(id_val="merge", options={})).with_transformation(
        DataTransformerConfig(id_val="organize", options=shown)
    )


def logged(title: str, expr: str) -> table.Panel:
    """A table of lines in Loki; the id of a trace leads to it in Tempo."""
    made = table.Panel().title(title).height(12).span(24).datasource(_logs()).with_target(loki.Dataquery().expr(expr))
    made = made.with_transformation(
        DataTransformerConfig(id_val="extractFields", options={"source": "Line", "format": "json"})
    )
    asked = '{"datasource":"${traces}","queries":[{"refId":"A","queryType":"traceql","query":"${__value.raw}"}]}'
    link = {"title": "Trace", "url": f"/explore?left={asked}", "targetBlank": True}
    return made.override_by_name("trace_id", [DynamicConfigValue(id_val="links", value=[link])])


def board(uid: str, title: str, what: str, *, has_logs: bool = False) -> dashboard.Dashboard:
    made = (
        dashboard.Dashboard(title).uid(f"tachograph-{uid}").description(what).tags(TAGS).editable().refresh("1m")
        .time("now-24h", "now").tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("metrics").label("Metrics").type("prometheus"))
        .link(dashboard.DashboardLink("Tachograph").type(DashboardLinkType.DASHBOARDS).tags(TAGS).as_dropdown(True).keep_time(True))
    )  # fmt: skip
    if has_logs:
        made = made.with_variable(dashboard.DatasourceVariable("logs").label("Logs").type("loki"))
        made = made.with_variable(dashboard.DatasourceVariable("traces").label("Traces").type("tempo"))
    return made
