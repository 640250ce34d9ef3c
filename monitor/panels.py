"""What the dashboards are made of: panels over Prometheus, in one look."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from grafana_foundation_sdk.builders import common, dashboard, heatmap, prometheus, stat, table, timeseries
from grafana_foundation_sdk.models.common import (
    BigValueGraphMode,
    GraphTresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    Threshold,
    ThresholdsMode,
    VariableRefresh,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
AT = 'instance=~"$instance"'
RATE = "[$__rate_interval]"
Target = tuple[str, str]
"""An expression, and its legend."""
Panel = Any
"""A builder of the SDK; its types share no base that says so."""
WIDE, HALF, THIRD, QUARTER = 24, 12, 8, 6


def _query(expr: str, legend: str, ref: int) -> prometheus.Dataquery:
    return prometheus.Dataquery().expr(expr).legend_format(legend).ref_id(chr(ord("A") + ref)).datasource(SOURCE)


def _base(panel: Panel, title: str, unit: str, width: int, height: int, text: str) -> Panel:
    panel = panel.title(title).datasource(SOURCE).span(width).height(height).unit(unit)
    return panel.description(text) if text else panel


def lines(
    title: str, *targets: Target, unit: str = "short", width: int = HALF, stacked: bool = False, text: str = "",
    limits: Sequence[tuple[float, str]] = (),
) -> Panel:  # fmt: skip
    """Time series; `limits`: values from which on it is bad, with colours."""
    panel = _base(timeseries.Panel(), title, unit, width, 8, text).min(0)
    panel = panel.show_points(VisibilityMode.NEVER).line_width(1).fill_opacity(25 if stacked else 5)
    panel = panel.legend(
        common.VizLegendOptions()
        .show_legend(True)
        .display_mode(LegendDisplayMode.TABLE)
        .placement(LegendPlacement.BOTTOM)
        .calcs(["mean", "max"])
    )
    panel = panel.tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL))
    if limits:
        steps = [Threshold(color="transparent"), *(Threshold(value=v, color=c) for v, c in limits)]
        panel = panel.thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
        panel = panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(GraphTresholdsStyleMode.DASHED))
    for i, (expr, legend) in enumerate(targets):
        panel = panel.with_target(_query(expr, legend, i))
    return panel


def number(
    title: str, expr: str, *, unit: str = "short", width: int = QUARTER, text: str = "",
    limits: Sequence[tuple[float, str]] = (),
) -> Panel:  # fmt: skip
    panel = _base(stat.Panel(), title, unit, width, 4, text).graph_mode(BigValueGraphMode.AREA)
    steps = [Threshold(color="text"), *(Threshold(value=v, color=c) for v, c in limits)]
    panel = panel.thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
    return panel.with_target(_query(expr, "", 0))


def heat(title: str, metric: str, selector: str, *, text: str = "") -> Panel:
    panel = _base(heatmap.Panel(), title, "s", HALF, 8, text).calculate(False)
    asked = _query(f"sum by (le) (increase({metric}_bucket{{{selector}}}{RATE}))", "{{le}}", 0)
    return panel.with_target(asked.format(PromQueryFormat.HEATMAP))


def rows(
    title: str, columns: Sequence[tuple[str, str, str]], *, width: int = WIDE, hidden: Sequence[str] = (),
    text: str = "",
) -> Panel:  # fmt: skip
    """A row for each set of labels; columns: an expression, the column's name, its unit."""
    panel = _base(table.Panel(), title, "short", width, 9, text)
    for i, (expr, name, unit) in enumerate(columns):
        panel = panel.with_target(_query(expr, name, i).instant().format(PromQueryFormat.TABLE))
        value = f"Value #{chr(ord('A') + i)}" if len(columns) > 1 else "Value"
        panel = panel.override_by_name(
            value, [DynamicConfigValue("displayName", name), DynamicConfigValue("unit", unit)]
        )
    panel = panel.with_transformation(DataTransformerConfig(id_val="merge", options={}))
    gone = dict.fromkeys(("Time", "__name__", "instance", "job", "database", *hidden), True)
    return panel.with_transformation(DataTransformerConfig(id_val="organize", options={"excludeByName": gone}))


def mean(sum_: str, count: str, selector: str, by: str) -> str:
    return f"sum by ({by}) (rate({sum_}{{{selector}}}{RATE})) / sum by ({by}) (rate({count}{{{selector}}}{RATE}))"


def quantile(q: float, metric: str, selector: str, by: str = "") -> str:
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, sum by ({labels}) (rate({metric}_bucket{{{selector}}}{RATE})))"


def top(expr: str, n: int = 10) -> str:
    return f"topk({n}, {expr})"


def variable(name: str, query: str) -> dashboard.QueryVariable:
    variable = (
        dashboard.QueryVariable(name).datasource(SOURCE).query(query).refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
    )
    return variable.multi(True).include_all(True).all_value(".*")


def board(title: str, uid: str, text: str) -> dashboard.Dashboard:
    """An empty page with the variables, links and annotations that all have."""
    page = dashboard.Dashboard(f"dbperf: {title}").uid(uid).description(text).tags(["dbperf"]).readonly()
    page = page.time("now-1h", "now").refresh("30s").timezone("browser").tooltip(DashboardCursorSync.CROSSHAIR)
    page = page.link(
        dashboard.DashboardLink("dbperf").type(DashboardLinkType.DASHBOARDS).tags(["dbperf"]).keep_time(True)
    )
    page = page.with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    page = page.with_variable(variable("instance", "label_values(dbperf_up, instance)"))
    return page.annotation(
        dashboard.AnnotationQuery()
        .name("Load stages")
        .datasource(SOURCE)
        .enable(True)
        .icon_color("purple")
        .expr(f"dbperf_load_mark_timestamp_seconds{{{AT}}} * 1000")
    )


def with_panels(page: dashboard.Dashboard, *panels: Panel) -> dashboard.Dashboard:
    """The page with its panels."""
    for panel in panels:
        page = page.with_panel(panel)
    return page
