"""Tables on stdout: fitted to a terminal, whole and plain in a pipe, JSON where asked for."""

from __future__ import annotations

import shutil
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from tachograph.cli.formats import printable

_GAP: Final = "  "
_ELLIPSIS: Final = "…"
_COLUMNS_UNKNOWN: Final = 100  # of a terminal that does not say how wide it is


class Column(NamedTuple):
    """A column: its heading, whether it holds numbers, and how it gives way in a narrow terminal.

    Columns with the highest `rank` go first, rank 0 stays; a column with `width_min` is shortened down to that before
    any goes.
    """

    heading: str
    is_number: bool = False
    rank: int = 0
    width_min: int = 0


def write_json(value: Any) -> None:
    """Write one value as indented JSON."""
    import msgspec

    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def write_table(columns: Sequence[Column], rows: Iterable[Sequence[str]], footer: Sequence[str] = ()) -> None:
    """Write a table with a heading, and with a last row that is set apart."""
    cells = [[printable(cell) for cell in row] for row in rows]
    total = [[printable(cell) for cell in footer]] if footer else []
    heading = [column.heading for column in columns]
    every = [heading, *cells, *total]
    widths = [max(map(width, column)) for column in zip(*every, strict=True)]
    if sys.stdout.isatty():
        widths = fit(columns, widths, terminal_width())
    paint = _Paint(sys.stdout.isatty())
    lines = [paint.dim(_line(columns, heading, widths))]
    lines += [_line(columns, row, widths) for row in cells]
    lines += [paint.bold(_line(columns, row, widths)) for row in total]
    sys.stdout.write("\n".join(lines) + "\n")


def write_lines(lines: Iterable[str]) -> None:
    """Write lines of text, cut at the edge of a terminal."""
    limit = terminal_width() if sys.stdout.isatty() else None
    for line in lines:
        shown = printable(line)
        sys.stdout.write((shorten(shown, limit) if limit else shown) + "\n")


def terminal_width() -> int:
    """Columns of the terminal."""
    return shutil.get_terminal_size((_COLUMNS_UNKNOWN, 24)).columns


def fit(columns: Sequence[Column], widths: Sequence[int], available: int) -> list[int]:
    """Widths that fit: flexible columns get shorter first, then columns are left out (0), the highest rank first."""
    fitted = list(widths)
    while True:
        excess = sum(w + len(_GAP) for w in fitted if w) - len(_GAP) - available
        if excess <= 0:
            return fitted
        for i in _widest_first(columns, fitted):
            cut = min(excess, fitted[i] - max(columns[i].width_min, 1))
            fitted[i] -= cut
            excess -= cut
        if excess <= 0:
            return fitted
        droppable = [i for i, column in enumerate(columns) if fitted[i] and column.rank]
        if not droppable:
            return fitted
        fitted[max(droppable, key=lambda i: (columns[i].rank, i))] = 0
        # What gave way may have its room back.
        fitted = [w if kept else 0 for w, kept in zip(widths, fitted, strict=True)]


def _widest_first(columns: Sequence[Column], widths: Sequence[int]) -> list[int]:
    flexible = [i for i, column in enumerate(columns) if column.width_min and widths[i] > column.width_min]
    return sorted(flexible, key=lambda i: -widths[i])


def _line(columns: Sequence[Column], cells: Sequence[str], widths: Sequence[int]) -> str:
    parts = []
    for column, cell, size in zip(columns, cells, widths, strict=True):
        if size:
            shown = shorten(cell, size)
            padding = " " * (size - width(shown))
            parts.append(padding + shown if column.is_number else shown + padding)
    return _GAP.join(parts).rstrip()


def width(text: str) -> int:
    """Columns that a text takes: East Asian wide characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(_width(c) for c in text)


def _width(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def shorten(text: str, columns: int) -> str:
    """The text, its end replaced by an ellipsis where it takes more than so many columns."""
    if width(text) <= columns:
        return text
    kept, used = [], len(_ELLIPSIS)
    for character in text:
        used += _width(character)
        if used > columns:
            break
        kept.append(character)
    return "".join(kept) + _ELLIPSIS


class _Paint:
    """Weight of lines, where the terminal has it and its owner does not mind (NO_COLOR)."""

    def __init__(self, is_terminal: bool) -> None:
        self._is_on = is_terminal and _is_colour_wanted()

    def dim(self, text: str) -> str:
        return f"\x1b[2m{text}\x1b[0m" if self._is_on else text

    def bold(self, text: str) -> str:
        return f"\x1b[1m{text}\x1b[0m" if self._is_on else text


def _is_colour_wanted() -> bool:
    from rich.console import Console  # knows NO_COLOR, TERM=dumb and the terminals of Windows

    console = Console()
    return console.color_system is not None and not console.no_color
