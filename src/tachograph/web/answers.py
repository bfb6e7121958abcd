"""What SQL answered, as cells of a page, as a chart and as rows of a file: any type, any size."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, NamedTuple

import msgspec

from tachograph.scan import Columns
from tachograph.web import units
from tachograph.web.plots import Kind, Plot, Series, Unit, rounded
from tachograph.web.rendering import Look, path_of

CELLS_SHOWN: Final = 4000  # on one page: a wide table shows fewer rows
ROWS_SHOWN: Final = 200
ROWS_SHOWN_MIN: Final = 20
KINDS: Final[dict[str, Kind]] = {"bars": "stack", "lines": "line", "areas": "area", "points": "scatter"}
_SERIES_MAX: Final = 8
_PLACES_MAX: Final = 500
_EXCERPT_CHARS: Final = 80
_OPENED_CHARS: Final = 4000  # of one long text, and of all of them on one page:
_PAGE_CHARS: Final = 60_000
_INT_MAX: Final = 2**63
_TIME_NS_MIN: Final = 10**17  # 1973: a smaller number of nanoseconds is a length of time
# Column of any table -> the folder of pages that its values open.
_PAGES: Final = {"session_id": "sessions", "call_id": "calls", "trace_id": "traces", "hash": "texts"}
# How a column's name ends -> the unit of its numbers, and what one of them is of it.
_UNITS: Final[tuple[tuple[str, Unit, float], ...]] = (
    ("nanousd", "dollars", 1e-9),
    ("usd", "dollars", 1.0),
    ("dollars", "dollars", 1.0),
    ("cost", "dollars", 1.0),
    ("tokens", "tokens", 1.0),
    ("_ns", "seconds", 1e-9),
    ("_ms", "seconds", 1e-3),
    ("_s", "seconds", 1.0),
    ("seconds", "seconds", 1.0),
    ("share", "share", 1.0),
)


class Cell(NamedTuple):
    """One value: its words, where it leads to, what is said of it, and the whole of a long text."""

    text: str
    href: str = ""
    title: str = ""
    rest: str = ""
    is_null: bool = False


class Sheet(NamedTuple):
    """An answer as a page shows it; `has_more` rows were found than are shown."""

    names: list[str]
    numeric: list[bool]
    rows: list[list[Cell]]
    has_more: bool


class Drawing(NamedTuple):
    """What to draw of an answer: the kind ("" = nothing), and the columns of x, y and the series ("" = one)."""

    kind: str
    x: str
    y: str
    by: str


def sheet(answer: Columns, look: Look) -> Sheet:
    """As many rows as a page holds."""
    shown = min(ROWS_SHOWN, max(ROWS_SHOWN_MIN, CELLS_SHOWN // max(1, len(answer.names))))
    numeric = [is_numeric(answer.data[name]) for name in answer.names]
    left = _PAGE_CHARS
    rows: list[list[Cell]] = []
    for values in zip(*(answer.data[name][:shown] for name in answer.names), strict=True):
        row = []
        for name, value in zip(answer.names, values, strict=True):
            made = _cell(name, value, look, left)
            left -= len(made.rest)
            row.append(made)
        rows.append(row)
    return Sheet(answer.names, numeric, rows, len(answer) > len(rows))


def rows(answer: Columns) -> Iterator[dict[str, Any]]:
    """The rows as files can hold them."""
    for values in zip(*(answer.data[name] for name in answer.names), strict=True):
        yield {name: plain(value) for name, value in zip(answer.names, values, strict=True)}


def plain(value: Any) -> Any:
    """A value of the engine as JSON has it."""
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int):
        return value if -_INT_MAX <= value < _INT_MAX else str(value)
    if isinstance(value, float | Decimal):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, date | datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes | bytearray):
        return value.hex()
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, Sequence):
        return [plain(one) for one in value]
    return str(value)


def is_numeric(values: Sequence[Any]) -> bool:
    """Whether there are numbers, and nothing else."""
    known = [value for value in values if value is not None]
    return bool(known) and all(isinstance(v, int | float | Decimal) and not isinstance(v, bool) for v in known)


def drawing(answer: Columns, asked: Mapping[str, str]) -> Drawing:
    """What the address asks to be drawn; what it leaves open is the first column that will do."""
    names = answer.names
    numbers = [name for name in names if is_numeric(answer.data[name]) and not _is_time(name, answer.data[name])]
    y = asked.get("y", "") if asked.get("y", "") in numbers else ""
    x = asked.get("x", "") if asked.get("x", "") in names else ""
    x = x or next((name for name in names if name not in numbers), names[0] if names else "")
    y = y or next((name for name in numbers if name != x), "")
    by = asked.get("by", "") if asked.get("by", "") in names else ""
    kind = asked.get("chart", "") if asked.get("chart", "") in KINDS else ""
    return Drawing(kind, x, y, by if by not in (x, y) else "")


def chart(answer: Columns, drawn: Drawing, look: Look) -> tuple[Plot | None, list[str]]:
    """The chart, and what has to be said of it; None where there are no numbers to draw."""
    if not drawn.kind or not drawn.y or not len(answer):
        return None, ["There is no column of numbers to draw."] if drawn.kind else []
    unit, size = _unit(drawn.y)
    is_sum = KINDS[drawn.kind] == "stack"
    places: dict[str, None] = {}
    found: dict[str, dict[str, float]] = {}
    repeats = 0
    series = answer.data[drawn.by] if drawn.by else [drawn.y] * len(answer)
    for x, y, by in zip(answer.data[drawn.x], answer.data[drawn.y], series, strict=True):
        label = _label(drawn.x, x, look)
        places[label] = None
        if y is None or not math.isfinite(y):
            continue
        values = found.setdefault(_label(drawn.by, by, look), {})
        repeats += label in values
        values[label] = (values.get(label, 0.0) if is_sum else 0.0) + float(y) * size
    return _plot(KINDS[drawn.kind], unit, list(places), found), _notes(len(places), len(found), repeats, is_sum)


def _plot(kind: Kind, unit: Unit, places: list[str], found: dict[str, dict[str, float]]) -> Plot:
    labels = places[:_PLACES_MAX]
    largest = sorted(found, key=lambda name: -sum(map(abs, found[name].values())))[:_SERIES_MAX]
    none = 0.0 if kind == "stack" else None
    lines = [Series(name, rounded([found[name].get(label, none) for label in labels])) for name in largest]
    return Plot(kind, unit, labels, lines)


def _notes(places: int, series: int, repeats: int, is_sum: bool) -> list[str]:
    notes = []
    if places > _PLACES_MAX:
        notes.append(f"The first {_PLACES_MAX} of {places:,} places are drawn.")
    if series > _SERIES_MAX:
        notes.append(f"The largest {_SERIES_MAX} of {series:,} series are drawn.")
    if repeats:
        how = "their sum is drawn" if is_sum else "the last of them is drawn"
        notes.append(f"Some places have several rows: {how}.")
    return notes


def _unit(name: str) -> tuple[Unit, float]:
    return next(((unit, size) for end, unit, size in _UNITS if name.lower().endswith(end)), ("count", 1.0))


def _is_time(name: str, values: Sequence[Any]) -> bool:
    return name.endswith("_ns") and any(isinstance(v, int) and v > _TIME_NS_MIN for v in values[:50])


def _label(name: str, value: Any, look: Look) -> str:
    if value is None:
        return "NULL"
    if _is_time(name, [value]):
        return units.stamp(value, look.zone)[:19].replace("T", " ")
    if isinstance(value, datetime):
        return value.isoformat(" ", "seconds").removesuffix(" 00:00:00")
    return units.excerpt(_words(value), 60) or "(empty)"


def _words(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:.10g}"
    if isinstance(value, datetime):
        return value.isoformat(" ")
    if isinstance(value, bytes | bytearray | Mapping | list | tuple):
        return msgspec.json.encode(plain(value)).decode()
    return str(value)


def _cell(name: str, value: Any, look: Look, left: int) -> Cell:
    if value is None:
        return Cell("NULL", is_null=True)
    text = _words(value)
    if name in _PAGES and isinstance(value, str) and value:
        return Cell(units.excerpt(text, 40), path_of(_PAGES[name], value), text[:200])
    if _is_time(name, [value]):
        return Cell(text, title=units.stamp(value, look.zone))
    short = units.excerpt(text, _EXCERPT_CHARS)
    is_whole = len(text) <= _EXCERPT_CHARS and "\n" not in text
    return Cell(text if is_whole else short, rest="" if is_whole or left <= 0 else text[:_OPENED_CHARS])
