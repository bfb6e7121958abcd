"""The rows of a table as a file: CSV, JSON Lines or Parquet; all rows of the filter, not only those of the page."""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import duckdb
import msgspec
from starlette.background import BackgroundTask
from starlette.responses import FileResponse, Response, StreamingResponse

from tachograph.scan import Any_, Condition, Match, Op, Reader, Scan
from tachograph.web.asking import Asked

Row = dict[str, Any]

MEDIA: Final = {
    "csv": "text/csv; charset=utf-8",
    "jsonl": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
}
_AT_ONCE: Final = 5000  # rows read from the store at a time
# A spreadsheet takes a cell that begins so for a formula, which may call out: such a text gets an apostrophe before it.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
_ENCODE: Final = msgspec.json.Encoder().encode


def wanted(asked: Asked) -> str:
    """The form that the address asks for, "" = the page."""
    form = asked.params.get("format", "")
    return form if form in MEDIA else ""


def file_of(asked: Asked, name: str, columns: Sequence[str], rows: Iterable[Row]) -> Response:
    """The answer with all rows; its file is called after the table and the day.

    `columns` are the keys that every row has: a file without rows has them too.
    """
    form = wanted(asked)
    day = datetime.fromtimestamp(asked.look.now_ns / 1e9, asked.look.zone)
    headers = {"Content-Disposition": f'attachment; filename="tachograph-{name}-{day:%Y-%m-%d}.{form}"'}
    if form == "parquet":
        return _parquet(columns, rows, headers)
    lines = _csv(columns, rows) if form == "csv" else (_ENCODE(row) + b"\n" for row in rows)
    return StreamingResponse(lines, media_type=MEDIA[form], headers=headers)


def all_rows(
    reader: Reader,
    table: str,
    columns: Sequence[str],
    where: Sequence[Condition],
    order: tuple[str, bool],
    key: tuple[str, bool],
    at_once: int = _AT_ONCE,
) -> Iterator[Row]:
    """All rows of a table in the order of a view, so many at a time; those without a value come last.

    `key` is a column that each row has of its own, for rows of one value; True with a column is descending.
    """
    by, is_descending = order
    here: Op = "<=" if is_descending else ">="
    beyond: Op = "<" if is_descending else ">"
    after: Op = "<" if key[1] else ">"
    valued, valueless = (*where, Match(by, "not_null")), (*where, Match(by, "is_null"))

    def next_of_values(last: Row) -> tuple[Condition, ...]:
        is_next = Any_((Match(by, beyond, last[by]), Match(key[0], after, last[key[0]])))
        return (Match(by, here, last[by]), is_next)

    def next_of_none(last: Row) -> tuple[Condition, ...]:
        return (Match(key[0], after, last[key[0]]),)

    def pages(asked: tuple[Condition, ...], following: Callable[[Row], tuple[Condition, ...]]) -> Iterator[Row]:
        select: dict[str, Any] = {name: name for name in columns}
        more: tuple[Condition, ...] = ()
        while page := reader.scan(Scan(table, select, (*asked, *more), (), (order, key), at_once)).rows():
            yield from page
            more = following(page[-1])

    yield from pages(valued, next_of_values)
    yield from pages(valueless, next_of_none)


def _csv(columns: Sequence[str], rows: Iterable[Row]) -> Iterator[bytes]:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([_cell(name) for name in columns])
    for row in rows:
        writer.writerow([_cell(row[name]) for name in columns])
        if text.tell() > 1 << 16:
            yield _taken(text)
    yield _taken(text)


def _taken(text: io.StringIO) -> bytes:
    written = text.getvalue().encode("utf-8", "replace")
    text.seek(0)
    text.truncate()
    return written


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return "'" + value if value.startswith(_FORMULA) else value
    return _ENCODE(value).decode() if isinstance(value, list | dict) else value


def _parquet(columns: Sequence[str], rows: Iterable[Row], headers: dict[str, str]) -> Response:
    """Written by DuckDB from JSON lines on disk: memory stays bounded, and types are found in all rows."""
    folder = tempfile.TemporaryDirectory(prefix="tachograph-")
    lines, target = Path(folder.name) / "rows.jsonl", Path(folder.name) / "rows.parquet"
    with lines.open("wb") as file:
        count = sum(file.write(_ENCODE(row) + b"\n") > 0 for row in rows)
    with duckdb.connect() as con:
        if count:
            source = "SELECT * FROM read_json(?, format = 'newline_delimited', sample_size = -1)"
            con.execute(f"COPY ({source}) TO '{target}' (FORMAT parquet, COMPRESSION zstd)", [str(lines)])
        else:
            named = ", ".join('NULL AS "' + name.replace('"', '""') + '"' for name in columns)
            con.execute(f"COPY (SELECT {named} LIMIT 0) TO '{target}' (FORMAT parquet)")
    return FileResponse(target, media_type=MEDIA["parquet"], headers=headers, background=BackgroundTask(folder.cleanup))
