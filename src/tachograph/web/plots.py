"""Charts as data for the browser's chart library, each with what stands in its place where no script runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import msgspec
from markupsafe import Markup, escape
from msgspec import Struct, field

from tachograph.web.charts import Bar, Stack, curves, stacked

Unit = Literal["dollars", "tokens", "count", "seconds", "share"]
Kind = Literal["stack", "line", "area", "scatter"]

# `</script` and `<!--` end or bend a data block; escaped like this they are the same JSON.
_ESCAPES: Final = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


class Series(Struct, omit_defaults=True):
    """One named row of values; `colour` is a number of the style sheet's series, a role of a step, or "bad".

    A value is None where nothing was measured. `href` leads to what the whole series is made of.
    """

    name: str
    values: list[float | None]
    colour: str = ""
    href: str = ""


class Plot(Struct, omit_defaults=True):
    """A chart: a label for each place, and the series; `hrefs` lead to what a place is made of.

    Values are in plain units: dollars, tokens, seconds, shares of 1. Where `is_joined`, a line goes on behind a gap.
    """

    kind: Kind
    unit: Unit
    labels: list[str]
    series: list[Series]
    hrefs: list[str] = field(default_factory=list)
    y_max: float | None = None
    is_joined: bool = False
    marks: list[dict[str, str | int]] = field(default_factory=list)  # {"at": place, "label": what happened there}

    @property
    def peak(self) -> float:
        """The highest point: of a stack the highest sum."""
        columns = zip(*(one.values for one in self.series), strict=True)
        highest = sum if self.kind == "stack" else max
        return max((highest([value or 0.0 for value in column]) for column in columns), default=0.0)


def plot(chart: Plot, name: str, fallback: Markup | str = "") -> Markup:
    """A figure for the page: the data, and a still picture until the script has drawn it.

    `fallback` is that picture, or else words that stand below a plain one.

    Nothing in it is executed: the data stands in a block that is no script, with every sign escaped that could end it.
    """
    if not isinstance(fallback, Markup):
        words = Markup('<p class="small faint">{}</p>').format(fallback) if fallback else ""
        fallback = _still(chart, name) + words
    data = msgspec.json.encode(chart).decode()
    for sign, escaped in _ESCAPES.items():
        data = data.replace(sign, escaped)
    return Markup(
        f'<div class="plot" data-plot data-name="{escape(name)}" role="img" aria-label="{escape(name)}">'
        f'<script type="application/json">{data}</script><div class="plot-still">{escape(fallback)}</div></div>'
    )


def _still(chart: Plot, name: str) -> Markup:
    if chart.kind != "stack":
        return curves([(f"ink-{one.colour or at}", one.values) for at, one in enumerate(chart.series)], name)
    columns = zip(*(one.values for one in chart.series), strict=True)
    bars = [Bar(label, [value or 0.0 for value in column]) for label, column in zip(chart.labels, columns, strict=True)]
    return stacked(Stack([one.name for one in chart.series], bars), lambda value: f"{value:.4g}", name)


def rounded(values: Sequence[float | None]) -> list[float | None]:
    """Values as short as a screen needs them: seven digits."""
    return [None if value is None else float(f"{value:.7g}") for value in values]
