"""Charts as SVG made on the server: no script, no style attribute, colours by class, numbers in titles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from markupsafe import Markup, escape
from msgspec import Struct, field

COLOURS: Final = 8  # series-0 .. series-7 in the style sheet; the last one is "other"
_WIDTH: Final = 1000
_HEIGHT: Final = 100
_SLOT_FILL: Final = 0.78  # the rest is the gap between two bars


class Bar(Struct):
    """One bucket of a bar chart: its label, and one value for each series."""

    label: str
    values: list[float]


class Stack(Struct):
    """A chart of stacked bars; `series` are the names in the order of the values."""

    series: list[str]
    bars: list[Bar] = field(default_factory=list)

    @property
    def peak(self) -> float:
        """The highest bar."""
        return max((sum(bar.values) for bar in self.bars), default=0.0)


def stacked(stack: Stack, shown: Callable[[float], str], name: str) -> Markup:
    """Bars over time, stretched to the width they get; each bar's title has its numbers."""
    peak = stack.peak or 1.0
    slot = _WIDTH / max(1, len(stack.bars))
    width = slot * _SLOT_FILL
    parts = [
        f'<svg class="stack" viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(name)}">'
    ]
    parts += [f'<path class="grid" d="M0 {y}H{_WIDTH}"/>' for y in (0.5, 25, 50, 75)]
    for at, bar in enumerate(stack.bars):
        parts.append(_bar(stack.series, bar, at * slot, slot, width, peak, shown))
    parts.append("</svg>")
    return Markup("".join(parts))  # every text in it was escaped


def _bar(
    series: Sequence[str], bar: Bar, left: float, slot: float, width: float, peak: float, shown: Callable[[float], str]
) -> str:
    total = sum(bar.values)
    lines = [f"{bar.label}: {shown(total)}"]
    rects: list[str] = []
    y = float(_HEIGHT)
    for number, (name, value) in enumerate(zip(series, bar.values, strict=True)):
        if value <= 0:
            continue
        height = value / peak * _HEIGHT
        y -= height
        x = left + (slot - width) / 2
        rects.append(
            f'<rect class="series-{number % COLOURS}" x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" '
            f'height="{height:.2f}"/>'
        )
        lines.append(f"{name}  {shown(value)}")
    title = escape("\n".join(lines))
    hit = f'<rect class="hit" x="{left:.2f}" y="0" width="{slot:.2f}" height="{_HEIGHT}"/>'
    return f"<g><title>{title}</title>{''.join(rects)}{hit}</g>"


def curves(series: Sequence[tuple[str, Sequence[float | None]]], name: str) -> Markup:
    """Lines over time, stretched to the width they get: (class, values) of each; a None is a gap."""
    peak = max((value for _, values in series for value in values if value is not None), default=0.0) or 1.0
    parts = [
        f'<svg class="stack" viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(name)}">'
    ]
    parts += [f'<path class="grid" d="M0 {y}H{_WIDTH}"/>' for y in (0.5, 25, 50, 75, 99.5)]
    parts += [f'<path class="curve {escape(class_)}" d="{_curve(values, peak)}"/>' for class_, values in series]
    parts.append("</svg>")
    return Markup("".join(parts))  # every text in it was escaped


def _curve(values: Sequence[float | None], peak: float) -> str:
    """The path of a line; what stands alone between two gaps is a short stroke."""
    step = _WIDTH / max(1, len(values) - 1)
    drawn: list[str] = []
    for at, value in enumerate(values):
        if value is not None:
            is_first = not at or values[at - 1] is None
            drawn.append(f"{'M' if is_first else 'L'}{at * step:.0f} {99.5 - value / peak * 99:.1f}")
            if is_first:
                drawn.append("h1")
    return "".join(drawn)


def parts_bar(parts: Sequence[tuple[str, float]], shown: Callable[[float], str], name: str) -> Markup:
    """One horizontal bar of parts of a whole: (class, value) from the left."""
    total = sum(value for _, value in parts) or 1.0
    out = [
        f'<svg class="parts" viewBox="0 0 {_WIDTH} 10" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(name)}">'
    ]
    x = 0.0
    for class_, value in parts:
        width = value / total * _WIDTH
        if width > 0:
            title = f"{class_.removeprefix('part-').replace('-', ' ')} {shown(value)}"
            out.append(
                f'<rect class="{escape(class_)}" x="{x:.2f}" y="0" width="{width:.2f}" height="10">'
                f"<title>{escape(title)}</title></rect>"
            )
        x += width
    out.append("</svg>")
    return Markup("".join(out))  # every text in it was escaped


def share_bar(value: float | None, peak: float) -> Markup:
    """A thin bar for one row of a table, against the largest of its column."""
    width = 0.0 if not value or peak <= 0 else max(4.0, value / peak * _WIDTH)
    return Markup(
        f'<svg class="share" viewBox="0 0 {_WIDTH} 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect x="0" y="0" width="{width:.1f}" height="10"/></svg>'
    )


class Mark(Struct):
    """One bar of a time strip: `lane` counts from the top, `class_` colours it."""

    lane: int
    class_: str
    start_ns: int
    end_ns: int
    title: str


def joined(marks: Sequence[Mark], start_ns: int, end_ns: int) -> list[Mark]:
    """The marks in time, those of a lane and colour that would touch on the screen drawn as one."""
    near_ns = max(1, end_ns - start_ns) // _WIDTH
    found: list[Mark] = []
    last: dict[tuple[int, str], tuple[Mark, int]] = {}
    for mark in sorted(marks, key=lambda one: one.start_ns):
        key = (mark.lane, mark.class_)
        before, count = last.get(key, (None, 0))
        if before is not None and mark.start_ns <= before.end_ns + near_ns:
            before.end_ns = max(before.end_ns, mark.end_ns)
            before.title = f"{count + 1} close together"
            last[key] = (before, count + 1)
        else:
            found.append(mark)
            last[key] = (mark, 1)
    return found


def strip(marks: Sequence[Mark], start_ns: int, end_ns: int, lanes: int, name: str) -> Markup:
    """When things ran: one lane for each kind, time from left to right."""
    span = max(1, end_ns - start_ns)
    out = [
        f'<svg class="strip" viewBox="0 0 {_WIDTH} {lanes * 12}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(name)}">'
    ]
    for mark in marks:
        x = max(0, mark.start_ns - start_ns) / span * _WIDTH
        width = max(1.5, (mark.end_ns - mark.start_ns) / span * _WIDTH)
        out.append(
            f'<rect class="{escape(mark.class_)}" x="{min(x, _WIDTH - 1.5):.2f}" y="{mark.lane * 12 + 1}" '
            f'width="{width:.2f}" height="10"><title>{escape(mark.title)}</title></rect>'
        )
    out.append("</svg>")
    return Markup("".join(out))  # every text in it was escaped


def waterfall_bar(start: float, width: float, class_: str) -> Markup:
    """One bar of a waterfall; `start` and `width` are parts (0..1) of the whole trace."""
    left = min(max(start, 0.0), 1.0) * 100
    wide = max(0.25, min(width, 1.0) * 100)
    return Markup(
        f'<svg class="fall" aria-hidden="true"><rect class="{escape(class_)}" x="{min(left, 99.75):.3f}%" y="25%" '
        f'width="{wide:.3f}%" height="50%" rx="2"/></svg>'
    )
