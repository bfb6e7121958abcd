"""Spark lines: how a value went, as large as a word; made on the server, no script, no style attribute."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from markupsafe import Markup, escape

from tachograph.web import units

_WIDTH: Final = 400  # five units a pixel, so that whole numbers will do
_HEIGHT: Final = 100
_BASE: Final = 95  # where 0 is: a line at the very edge would be cut
_POINTS_MAX: Final = 40


def context_line(values: Sequence[int]) -> Markup:
    """The context of a session call by call, from 0 up to its peak, which stands beside it; nothing for no value."""
    if not values:
        return Markup("")
    peak = max(values)
    words = f"{units.plural(len(values), 'point')}, from {units.tokens(values[0])} to {units.tokens(values[-1])} tokens"
    shown = _thinned(values)
    last = max(1, len(shown) - 1)
    points = [(at * _WIDTH // last, _BASE - (_BASE - 10) * value // max(1, peak)) for at, value in enumerate(shown)]
    if len(points) == 1:
        points.append((_WIDTH, points[0][1]))
    line = "L".join(f"{x} {y}" for x, y in points)
    return Markup(  # numbers, and words of ours
        f'<svg class="spark" viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(words)}"><title>{escape(words)}</title>'
        f'<path class="spark-area" d="M0 {_HEIGHT}L{line}L{_WIDTH} {_HEIGHT}Z"/><path d="M{line}"/></svg>'
        f'<span class="spark-peak" title="the largest: {peak:,} tokens">{units.tokens(peak)}</span>'
    )


def _thinned(values: Sequence[int]) -> list[int]:
    """At most so many values, each the largest of its stretch: a peak is what one looks for."""
    if len(values) <= _POINTS_MAX:
        return list(values)
    edges = [round(at * len(values) / _POINTS_MAX) for at in range(_POINTS_MAX + 1)]
    return [max(values[start:end]) for start, end in pairwise(edges)]
