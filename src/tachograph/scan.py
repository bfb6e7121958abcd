"""What flows out: a Scan asks one table a question, Columns answer it; the only way the readers reach the store.

A Scan is data, not SQL: each engine compiles it in its own dialect, with every value as a parameter.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Op = Literal["=", "!=", "<", "<=", ">", ">=", "in", "contains", "prefix", "is_null", "not_null"]
Function = Literal["count", "sum", "min", "max", "avg", "count_distinct", "quantile", "any", "count_if_true"]


@dataclass(frozen=True, slots=True)
class Match:
    """One condition: `column op value`. `contains` and `prefix` compare text without regard to case.

    `column` is a column of the table or `attributes["some.key"]` written as `attributes.some.key`. `in` takes a list
    or a Scan of one column; comparisons take a Field too.
    """

    column: str
    op: Op
    value: Any = None


@dataclass(frozen=True, slots=True)
class Field:
    """Another column of the same row, in place of a value to compare with."""

    column: str


@dataclass(frozen=True, slots=True)
class Any_:
    """At least one of the conditions holds."""

    matches: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Not_:
    """The condition does not hold: it is false, or nothing is known of it."""

    condition: Condition


Condition = Match | Any_ | Not_


@dataclass(frozen=True, slots=True)
class Agg:
    """An aggregate over the rows of a group, of these over the ones that `where` holds for.

    `argument` is the quantile (0..1) for `quantile`.
    """

    function: Function
    column: str = ""
    argument: float | None = None
    where: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class Bucket:
    """The start of the time bucket that a nanosecond column falls in, in nanoseconds.

    `width` is `minute`, `hour`, `day`, `week` or `month` (calendar units, in `timezone`), or a number of seconds.
    """

    column: str
    width: str | int
    timezone: str = "UTC"


@dataclass(frozen=True, slots=True)
class Scan:
    """A question to one table: what to select (name -> column, Agg or Bucket), of which rows, grouped and ordered.

    `group_by` names entries of `select`; `order_by` likewise (or columns), with True for descending.
    """

    table: str
    select: dict[str, str | Agg | Bucket]
    where: tuple[Condition, ...] = ()
    group_by: tuple[str, ...] = ()
    order_by: tuple[tuple[str, bool], ...] = ()
    limit: int | None = None
    offset: int = 0


@dataclass(slots=True)
class Columns:
    """The answer: one list per name, all of one length. NULL is None; JSON columns come parsed."""

    names: list[str]
    data: dict[str, list[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.data[self.names[0]]) if self.names else 0

    def rows(self) -> list[dict[str, Any]]:
        """The same as a list of one dict per row."""
        columns = (self.data[name] for name in self.names)
        return [dict(zip(self.names, row, strict=True)) for row in zip(*columns, strict=True)]


class Reader(Protocol):
    """What pages, commands, detectors and forwarders know of the store."""

    def scan(self, scan: Scan) -> Columns:
        """Answer a scan; raises QueryError for an unknown table, column or time zone."""
        ...

    def texts(self, hashes: Sequence[str]) -> dict[str, str]:
        """Texts of contents by hash; a hash that is not there (retention, privacy) is left out."""
        ...

    def sql(self, query: str, limit: int | None = None, stop: threading.Event | None = None) -> Columns:
        """Answer a read-only SQL query in the engine's own dialect; raises QueryError.

        Where `stop` is set, by another thread, it is given up; a reader in another process may not hear of that.
        """
        ...

    def sequence(self) -> int:
        """The newest commit, 0 for an empty store: what a live view compares to know that something came."""
        ...
