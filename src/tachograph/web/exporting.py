"""The rows of a table as a file: CSV, JSON Lines or Parquet; all rows of the filter, not only those of the page."""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import duckdb
import msgspec
from starlette.background import BackgroundTask
from starlette.responses import FileResponse, Response, StreamingResponse

from tachograph.scan import Condition, Match, Reader, Scan
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


def file_of(asked: Asked, name: str, rows: Iterable[Row]) -> Response:
    """The answer with all rows; its file is called after the table and the day."""
    form = wanted(asked)
    day = datetime.fromtimestamp(asked.look.now_ns / 1e9, asked.look.zone)
    headers = {"Content-Disposition": f'attachment; filename="tachograph-{name}-{day:%Y-%m-%d}.{form}"'}
    if form == "parquet":
        return _parquet(rows, headers)
    lines = _csv(rows) if form == "csv" else (_ENCODE(row) + b"\n" for row in rows)
    return StreamingResponse(lines, media_type=MEDIA[form], headers=headers)


def all_rows(reader: Reader, table: str, key: str, columns: Sequence[str], where: Sequence[Condition]) -> Iterator[Row]:
    """All rows of a table in order of a key that each has of its own, so many at a time."""
    last = ""
    while True:
        asked = (*where, Match(key, ">", last))
        select: dict[str, Any] = {name: name for name in columns}
        page = reader.scan(Scan(table, select, asked, order_by=((key, False),), limit=_AT_ONCE)).rows()
        if not page:
            return
        yield from page
        last = page[-1][key]


def _csv(rows: Iterable[Row]) -> Iterator[bytes]:
    text = io.StringIO()
    writer = csv.writer(text)
    for number, row in enumerate(rows):
        if number == 0:
            writer.writerow(row)
        writer.writerow([_cell(value) for value in row.values()])
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


def _parquet(rows: Iterable[Row], headers: dict[str, str]) -> Response:
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
            con.execute(f"COPY (SELECT NULL AS empty LIMIT 0) TO '{target}' (FORMAT parquet)")
    return FileResponse(target, media_type=MEDIA["parquet"], headers=headers, background=BackgroundTask(folder.cleanup))
