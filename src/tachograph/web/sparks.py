"""Spark lines: how a value went, as large as a word; made on the server, no script, no style attribute."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from markupsafe import Markup, escape

from tachograph.web import units

_WIDTH: Final = 400  # five units a pixel, so that whole numbers will do
_HEIGHT: Final = 100
_BASE: Final = 88  # where the least is: a line at the very edge would be cut
_TOP: Final = 10
_MIDDLE: Final = 50
_LEVEL: Final = 50  # a line that changes by less than one part in so many is level
_POINTS_MAX: Final = 40


def context_line(values: Sequence[int]) -> Markup:
    """The context of a session call by call, its peak beside it; no line for one call, nothing for none.

    A line goes from the least to the largest: what a context is at its start, which is instructions and tools, would
    else hide how it grows. Where it hardly changes, by less than a fiftieth, it is level.
    """
    if not values:
        return Markup("")
    least, peak = min(values), max(values)
    told = Markup(
        f'<span class="spark-peak" title="the largest: {peak:,} tokens">{units.tokens(peak)}</span>'
    )  # numbers
    if len(values) == 1:
        return told
    words = f"{units.plural(len(values), 'point')}, from {units.tokens(values[0])} to {units.tokens(values[-1])} tokens"
    if peak > least:
        words += f", between {units.tokens(least)} and {units.tokens(peak)}"
    shown = _thinned(values)
    height = _BASE - _TOP if (peak - least) * _LEVEL >= max(1, peak) else 0
    foot = _BASE if height else _MIDDLE
    points = [
        (at * _WIDTH // (len(shown) - 1), foot - height * (value - least) // max(1, peak - least))
        for at, value in enumerate(shown)
    ]
    line = "L".join(f"{x} {y}" for x, y in points)
    return told + Markup(  # numbers, and words of ours
        f'<svg class="spark" viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(words)}"><title>{escape(words)}</title>'
        f'<path class="spark-area" d="M0 {_HEIGHT}L{line}L{_WIDTH} {_HEIGHT}Z"/><path d="M{line}"/></svg>'
    )


def _thinned(values: Sequence[int]) -> list[int]:
    """At most so many values, each the largest of its stretch: a peak is what one looks for."""
    if len(values) <= _POINTS_MAX:
        return list(values)
    edges = [round(at * len(values) / _POINTS_MAX) for at in range(_POINTS_MAX + 1)]
    return [max(values[start:end]) for start, end in pairwise(edges)]
