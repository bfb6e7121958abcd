"""Cursors: where an answer ended, as a text that the next request gives back; nothing is skipped or told twice."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any, Final, NamedTuple

import msgspec

from tachograph.errors import QueryError
from tachograph.scan import Any_, Condition, Match, Not_
from tachograph.store.schema import TABLES

_INT64: Final = range(-(2**63), 2**63)
_OFFSET_MAX: Final = 10_000_000


class Order(NamedTuple):
    """What the rows of a table are ordered by: a column, then the id that each row has of its own, up or down."""

    table: str
    column: str
    is_descending: bool
    key: str
    is_key_descending: bool

    @property
    def by(self) -> tuple[tuple[str, bool], ...]:
        """The same as a Scan says it."""
        return ((self.column, self.is_descending), (self.key, self.is_key_descending))


def cursor_after(order: Order, row: dict[str, Any]) -> str:
    """The cursor of what comes after a row."""
    return _written([order.column, order.is_descending, row[order.column], row[order.key]])


def after(order: Order, cursor: str) -> tuple[Condition, ...]:
    """The rows after a cursor's, as conditions; new rows before it change nothing. Raises QueryError."""
    if not cursor:
        return ()
    told = _read(cursor)
    if len(told) != 4 or told[:2] != [order.column, order.is_descending] or not isinstance(told[3], str):
        raise _wrong(cursor)
    value, id_ = told[2:]
    if not _fits(order, value):
        raise _wrong(cursor)
    further = Match(order.key, "<" if order.is_key_descending else ">", id_)
    if value is None:  # what is unknown comes last
        return (Match(order.column, "is_null"), further)
    beyond = Match(order.column, "<" if order.is_descending else ">", value)
    same = _both(Match(order.column, "=", value), further)
    return (Any_((beyond, same, Match(order.column, "is_null"))),)


def offset_of(cursor: str) -> int:
    """How many entries of a list were told before; raises QueryError."""
    told = _read(cursor) if cursor else [0]
    if len(told) != 1 or type(told[0]) is not int or not 0 <= told[0] <= _OFFSET_MAX:
        raise _wrong(cursor)
    return int(told[0])


def cursor_at(offset: int, total: int) -> str | None:
    """The cursor of the entries from an offset on, None where there are none."""
    return _written([offset]) if offset < total else None


def _both(one: Condition, other: Condition) -> Condition:
    return Not_(Any_((Not_(one), Not_(other))))


def _fits(order: Order, value: Any) -> bool:
    """Whether a value may stand in the column."""
    if value is None:
        return True
    kind = next(column.type for column in TABLES[order.table] if column.name == order.column)
    return isinstance(value, str) if kind == "text" else type(value) is int and value in _INT64


def _written(told: list[Any]) -> str:
    return urlsafe_b64encode(msgspec.json.encode(told)).decode().rstrip("=")


def _read(cursor: str) -> list[Any]:
    try:
        return msgspec.json.decode(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)), type=list[Any])
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise _wrong(cursor) from None


def _wrong(cursor: str) -> QueryError:
    return QueryError(
        f'cursor: got "{cursor[:100]}"; expected `next` of an answer to the same question', "leave it out to begin anew"
    )
