"""Tables of pages: columns that can be ordered by, cells with their units and links, and the same rows to export."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal

from msgspec import Struct, field

from tachograph.web import units
from tachograph.web.asking import Asked

Row = Mapping[str, Any]
Kind = Literal[
    "text",
    "status",
    "count",
    "failed",
    "tokens",
    "cost",
    "duration",
    "seconds",
    "rate",
    "time",
    "share",
    "bar",
    "markup",
    "bytes",
]
_NUMBERS: Final = frozenset(
    ("count", "failed", "tokens", "cost", "duration", "seconds", "rate", "share", "time", "bytes")
)


class Column(Struct, frozen=True):
    """One column: the key of its value in a row, its heading, how it is written, and what the address orders it by.

    `rank` says when a narrow screen drops it: "" never, "mid" under 560 pixels, "wide" under 1000. `href` gives the
    address of a cell ("" = none), `under` a second line of it. Durations are nanoseconds, costs nano-dollars, shares
    parts of 1. `under_href` gives the address of the second line.
    """

    key: str
    heading: str
    kind: Kind = "text"
    order: str = ""
    rank: str = ""
    what: str = ""  # shown when one rests on the heading
    missing: str = "unknown"
    href: Callable[[Row], str] | None = None
    under: Callable[[Row], str] | None = None
    under_href: Callable[[Row], str] | None = None

    @property
    def classes(self) -> str:
        """Classes of its cells."""
        return " ".join(
            filter(None, ("num" if self.kind in _NUMBERS else "", "bar" if self.kind == "bar" else "", self.rank))
        )


class Table(Struct):
    """Rows with their columns, as the macro `table` draws them; `empty` is said where there are none.

    `order` is what they are ordered by and whether it descends. `choose` is the key of what a row is chosen by: each
    then has a box to tick, which belongs to the form `choose` of the page.
    """

    columns: Sequence[Column]
    rows: Sequence[Row]
    asked: Asked
    order: tuple[str, bool] = ("", True)
    empty: str = "Nothing in this period."
    caption: str = ""
    page: int = 0
    has_more: bool = False
    total: int | None = None
    is_exportable: bool = True
    sum: Row | None = None
    choose: str = ""
    peaks: dict[str, float] = field(default_factory=dict)
    places: dict[str, int] = field(default_factory=dict)  # of a column of money: its decimals
    is_tagged: bool = False

    def __post_init__(self) -> None:
        rows = [*self.rows, *([self.sum] if self.sum else [])]
        self.is_tagged = any(row.get("cost_kind") for row in rows)
        for column in self.columns:
            if column.kind == "cost":
                self.places[column.key] = units.decimals(row.get(column.key) for row in rows)
            if column.kind == "bar":
                self.peaks[column.key] = max((row[column.key] or 0 for row in self.rows), default=0)

    def order_link(self, column: Column) -> str:
        """The address with the rows ordered by this column, turned round where they already are."""
        name, is_descending = self.order
        turned = "-" if name == column.order and is_descending else ""
        return self.asked.link(order=turned + column.order)

    def aria_sort(self, column: Column) -> str:
        """What assistive technology is told of a heading."""
        if not column.order or self.order[0] != column.order:
            return "none"
        return "descending" if self.order[1] else "ascending"

    def export_link(self, form: str) -> str:
        """The address of all rows in a form: csv, jsonl or parquet."""
        return self.asked.link(format=form)
