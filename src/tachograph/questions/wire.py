"""Scans and their answers as JSON, so that a command can ask a running server what it would ask a store."""

from __future__ import annotations

from typing import Any

import msgspec

from tachograph.errors import QueryError
from tachograph.scan import Agg, Any_, Bucket, Columns, Condition, Field, Match, Not_, Scan


def scan_to_json(scan: Scan) -> bytes:
    """The scan as JSON; aggregates, buckets and conditions carry a `type`, plain columns are text."""
    return msgspec.json.encode(_scan(scan))


def scan_from_json(body: bytes) -> Scan:
    """The scan that `scan_to_json` wrote; raises QueryError where the JSON is not one."""
    try:
        return _scan_from(msgspec.json.decode(body, type=_Scan))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise QueryError(f"scan: got JSON that is no scan ({error}); expected table, select, where, ...") from error


def columns_to_json(columns: Columns) -> bytes:
    """The answer as JSON: names in order, then one list for each."""
    return msgspec.json.encode({"names": columns.names, "data": columns.data})


def columns_from_json(body: bytes) -> Columns:
    """The answer that `columns_to_json` wrote; raises QueryError where the JSON is not one."""
    try:
        wire = msgspec.json.decode(body, type=_Columns)
    except msgspec.DecodeError as error:
        raise QueryError(f"answer: got JSON that is no table ({error}); expected names and data") from error
    return Columns(wire.names, wire.data)


class _Columns(msgspec.Struct):
    names: list[str]
    data: dict[str, list[Any]]


class _Agg(msgspec.Struct, tag_field="type", tag="agg"):
    function: str
    column: str = ""
    argument: float | None = None
    where: list[_Match | _Any | _Not] = []


class _Bucket(msgspec.Struct, tag_field="type", tag="bucket"):
    column: str
    width: str | int
    timezone: str = "UTC"


class _Match(msgspec.Struct, tag_field="type", tag="match"):
    column: str
    op: str
    value: Any = None
    scan: _Scan | None = None  # in place of the value, as the next
    field: str | None = None


class _Any(msgspec.Struct, tag_field="type", tag="any"):
    matches: list[_Match | _Any | _Not]


class _Not(msgspec.Struct, tag_field="type", tag="not"):
    condition: _Match | _Any | _Not


class _Scan(msgspec.Struct):
    table: str
    select: dict[str, str | _Agg | _Bucket]
    where: list[_Match | _Any | _Not] = []
    group_by: list[str] = []
    order_by: list[tuple[str, bool]] = []
    limit: int | None = None
    offset: int = 0


def _scan(scan: Scan) -> _Scan:
    return _Scan(
        table=scan.table,
        select={name: _selected(what) for name, what in scan.select.items()},
        where=[_condition(one) for one in scan.where],
        group_by=list(scan.group_by),
        order_by=list(scan.order_by),
        limit=scan.limit,
        offset=scan.offset,
    )


def _scan_from(wire: _Scan) -> Scan:
    return Scan(
        table=wire.table,
        select={name: _selected_from(what) for name, what in wire.select.items()},
        where=tuple(_condition_from(one) for one in wire.where),
        group_by=tuple(wire.group_by),
        order_by=tuple(wire.order_by),
        limit=wire.limit,
        offset=wire.offset,
    )


def _selected(what: str | Agg | Bucket) -> str | _Agg | _Bucket:
    if isinstance(what, Agg):
        return _Agg(what.function, what.column, what.argument, [_condition(one) for one in what.where])
    return _Bucket(what.column, what.width, what.timezone) if isinstance(what, Bucket) else what


def _selected_from(what: str | _Agg | _Bucket) -> str | Agg | Bucket:
    if isinstance(what, _Agg):
        # The store refuses a function that it does not know: the names are its own to check.
        where = tuple(_condition_from(one) for one in what.where)
        return Agg(what.function, what.column, what.argument, where)  # type: ignore[arg-type]
    return Bucket(what.column, what.width, what.timezone) if isinstance(what, _Bucket) else what


def _condition(one: Condition) -> _Match | _Any | _Not:
    if isinstance(one, Any_):
        return _Any([_condition(inner) for inner in one.matches])
    if isinstance(one, Not_):
        return _Not(_condition(one.condition))
    if isinstance(one.value, Scan):
        return _Match(one.column, one.op, scan=_scan(one.value))
    if isinstance(one.value, Field):
        return _Match(one.column, one.op, field=one.value.column)
    return _Match(one.column, one.op, list(one.value) if isinstance(one.value, (set, frozenset)) else one.value)


def _condition_from(one: _Match | _Any | _Not) -> Condition:
    if isinstance(one, _Any):
        return Any_(tuple(_condition_from(inner) for inner in one.matches))
    if isinstance(one, _Not):
        return Not_(_condition_from(one.condition))
    value = one.value if one.scan is None else _scan_from(one.scan)
    value = value if one.field is None else Field(one.field)
    return Match(one.column, one.op, value)  # type: ignore[arg-type]  # checked by the store, as above
