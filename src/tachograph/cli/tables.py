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
_TYPED: Final = "    "  # what begins with it is a line to copy
_COLUMNS_UNKNOWN: Final = 100  # of a terminal that does not say how wide it is


class Column(NamedTuple):
    """A column: its heading, whether it holds numbers, and how it gives way in a narrow terminal.

    Columns with the highest `rank` go first, rank 0 stays; a column with `width_min` is shortened down to that before
    any goes. One with `width_good` is shortened below that only when no other may go: what it tells apart would look
    the same.
    """

    heading: str
    is_number: bool = False
    rank: int = 0
    width_min: int = 0
    width_good: int = 0


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
    """Write sentences, folded between words in a terminal; what is indented far is there to be copied, and whole."""
    limit = terminal_width() if sys.stdout.isatty() else None
    for line in lines:
        shown = printable(line)
        is_folded = limit is not None and not shown.startswith(_TYPED)
        sys.stdout.write("\n".join(folded(shown, limit) if is_folded and limit else [shown]) + "\n")


def write_whole(lines: Iterable[str]) -> None:
    """Write lines that are copied or run: nothing is cut or folded, however narrow the terminal is."""
    sys.stdout.writelines(printable(line) + "\n" for line in lines)


def write_cut(lines: Iterable[str]) -> None:
    """Write lines of which many follow each other, each cut at the edge of a terminal."""
    limit = terminal_width() if sys.stdout.isatty() else None
    for line in lines:
        shown = printable(line)
        sys.stdout.write((shorten(shown, limit) if limit else shown) + "\n")


def folded(text: str, columns: int) -> list[str]:
    """The text in lines that fit, broken at blanks only: an id or an address that is longer than that stays whole."""
    indent = text[: len(text) - len(text.lstrip(" "))]
    lines = [""]
    for word in text[len(indent) :].split(" "):
        begun = lines[-1]
        if begun and width(f"{indent}{begun} {word}") > columns:
            lines.append(word)
        else:
            lines[-1] = f"{begun} {word}" if begun else word
    return [indent + line for line in lines]


def terminal_width() -> int:
    """Columns of the terminal."""
    return shutil.get_terminal_size((_COLUMNS_UNKNOWN, 24)).columns


def fit(columns: Sequence[Column], widths: Sequence[int], available: int) -> list[int]:
    """Widths that fit: flexible columns get shorter first, then columns are left out (0), the highest rank first."""
    fitted = list(widths)
    while True:
        excess = _cut(fitted, [max(column.width_min, column.width_good) for column in columns], available)
        if excess <= 0:
            return fitted
        droppable = [i for i, column in enumerate(columns) if fitted[i] and column.rank]
        if not droppable:
            _cut(fitted, [column.width_min for column in columns], available)
            return fitted
        fitted[max(droppable, key=lambda i: (columns[i].rank, i))] = 0
        # What gave way may have its room back.
        fitted = [w if kept else 0 for w, kept in zip(widths, fitted, strict=True)]


def _cut(widths: list[int], least: Sequence[int], available: int) -> int:
    """Shorten those that have a least width, the widest first; how much is too much even then."""
    excess = sum(w + len(_GAP) for w in widths if w) - len(_GAP) - available
    for i in sorted((i for i, w in enumerate(widths) if least[i] and w > least[i]), key=lambda i: -widths[i]):
        cut = max(0, min(excess, widths[i] - least[i]))
        widths[i] -= cut
        excess -= cut
    return excess


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
