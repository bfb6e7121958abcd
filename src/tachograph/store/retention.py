"""Moves past days out of the database into Parquet files, and takes away what is older than wanted.

A day is the UTC day of the commits, not of what they tell: `seq` then cuts it out exactly, nothing is ever added to a
day that is over, and an import of last year's transcripts is kept as long as anything that came today. Settled commits
only. What a sealed file holds is registered in `sealed`; a file that is not is left over from a crash and goes at the
next opening, so that at every moment each row is in one place.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import duckdb

from tachograph.errors import Corrupt
from tachograph.store import sessions
from tachograph.store.checkpointing import checkpoint
from tachograph.store.ddl import BIG, TYPES, create_table, physical
from tachograph.store.relations import value
from tachograph.store.schema import TABLES
from tachograph.store.settling import transaction, watermark

Con = duckdb.DuckDBPyConnection

DAY_NS: Final = 86_400 * 1_000_000_000
_MONDAY_NS: Final = 4 * DAY_NS  # 1970-01-05
SEALED_NAME: Final = "sealed"
# Days younger than this stay in the database, where late spans of a trace and re-sent ones are found fast.
HOT_DAYS: Final = 2
# In this order a sealed file is written: what one looks for lies together, so that row groups can be skipped.
_ORDER: Final = {
    "spans": "trace_id, start_ns",
    "events": "time_ns",
    "samples": "series_id, time_ns",
    "contents": "hash",
}
_ROW_GROUP: Final = 24_576  # small enough that a trace by id reads little, large enough to compress
FORGOTTEN: Final = "forgotten_seq"
FORGOTTEN_RECORDS: Final = "forgotten_records"  # all of them, those of the demo not counted
# Tables whose rows go with the commits that brought them, beside the big ones.
_OF_COMMITS: Final = (
    "reports",
    "report_keys",
    "calls",
    "call_reports",
    "session_facts",
    "tool_tellings",
    "tool_runs",
    "digests",
)


class Day(NamedTuple):
    """A UTC day and the commits made in it."""

    start_ns: int
    first_seq: int
    last_seq: int

    @property
    def name(self) -> str:
        """As in 2026-11-21."""
        return datetime.fromtimestamp(self.start_ns // 1_000_000_000, UTC).strftime("%Y-%m-%d")


def days(con: Con, after_seq: int, until_seq: int) -> list[Day]:
    """The days of the commits after `after_seq` up to `until_seq`, oldest first.

    A clock that was set back may put a later commit into an earlier day: it counts to the newest day before it, so
    that days stay ranges of `seq`.
    """
    rows = con.execute(
        """
        SELECT start_ns, min(seq), max(seq) FROM (
            SELECT seq, max(time_ns // $day * $day) OVER (ORDER BY seq) AS start_ns
            FROM commits WHERE seq > $after AND seq <= $until
        ) GROUP BY start_ns ORDER BY start_ns
        """,
        {"day": DAY_NS, "after": after_seq, "until": until_seq},
    ).fetchall()
    return [Day(*row) for row in rows]


def adopt(con: Con, folder: Path) -> None:
    """Make the views over the hot tables and the sealed files, after removing files that no commit registered.

    To be called once when the store is opened for writing. Raises Corrupt where a registered file is missing.
    """
    known = {row[0] for row in con.execute("SELECT path FROM sealed").fetchall()}
    root = folder / SEALED_NAME
    for path in root.rglob("*") if root.is_dir() else ():
        if path.is_file() and path.relative_to(folder).as_posix() not in known:
            path.unlink()
    make_views(con, folder)


def make_views(con: Con, folder: Path) -> None:
    """Make each big table's view: its hot rows and those of every sealed file.

    Files of one set of columns are read together; what a file from before a migration lacks is filled in.
    """
    rows = con.execute("SELECT name, path FROM sealed ORDER BY first_seq").fetchall()
    files = {path: folder / path for _, path in rows}
    for path, file in files.items():
        if not file.is_file():
            raise Corrupt(
                f"{file}: got no such file; expected a sealed day, {path}",
                "put the file back, or restore the store from a backup",
            )
    present = _columns_of(con, list(files.values()))
    for table in BIG:
        names = ", ".join(f'"{column.name}"' for column in TABLES[table])
        parts = [f"SELECT {names} FROM {physical(table)}"]
        groups: dict[tuple[str, ...], list[str]] = {}
        for name, path in rows:
            if name == table:
                file_name = str(files[path].resolve())
                groups.setdefault(present[file_name], []).append(_literal(file_name))
        for columns, literals in groups.items():
            selected = ", ".join(_selected(column.name, column.type, columns) for column in TABLES[table])
            parts.append(f"SELECT {selected} FROM read_parquet([{', '.join(literals)}])")
        con.execute(f"CREATE OR REPLACE VIEW {table} AS {' UNION ALL '.join(parts)}")


def _columns_of(con: Con, files: list[Path]) -> dict[str, tuple[str, ...]]:
    """File name -> the columns that the file has."""
    if not files:
        return {}
    literals = ", ".join(_literal(str(file.resolve())) for file in files)
    rows = con.execute(f"SELECT file_name, list(name) FROM parquet_schema([{literals}]) GROUP BY file_name").fetchall()
    return {name: tuple(sorted(columns)) for name, columns in rows}


def _selected(name: str, kind: str, present: Iterable[str]) -> str:
    if name in present:
        return f'"{name}"'
    return f"""{"''" if kind == "text" else "NULL"}::{TYPES[kind]} AS "{name}\""""


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def seal_due(con: Con, folder: Path, now_ns: int) -> int:
    """Seal every settled day that ended more than HOT_DAYS ago; returns how many there were."""
    hot = [value(con, f"SELECT min(seq) FROM {physical(table)}") for table in BIG]
    first = min((seq for seq in hot if seq is not None), default=None)
    if first is None:
        return 0
    settled = watermark(con)
    newest_ns = now_ns // DAY_NS * DAY_NS - HOT_DAYS * DAY_NS
    due = [day for day in days(con, first - 1, settled + 1) if day.start_ns + DAY_NS <= newest_ns]
    due = [day for day in due if day.last_seq <= settled]
    for day in due:
        seal(con, folder, day)
    return len(due)


def seal(con: Con, folder: Path, day: Day) -> None:
    """Move the rows of a day into one file a table.

    The files are durable before the one transaction that registers them and deletes the rows: a crash in between
    leaves files that `adopt` removes.
    """
    written = [row for table in BIG if (row := _write(con, folder, table, day)) is not None]
    if not written:
        return
    with transaction(con):
        for table, *_ in written:
            con.execute(f"DELETE FROM {physical(table)} WHERE seq BETWEEN ? AND ?", [day.first_seq, day.last_seq])
        con.executemany("INSERT INTO sealed VALUES (?, ?, ?, ?, ?, ?, ?)", written)
        make_views(con, folder)
    con.execute("CHECKPOINT")


def _write(con: Con, folder: Path, table: str, day: Day) -> tuple[str, str, int, int, int, int, str] | None:
    """Write a day's rows of a table; returns the row of `sealed`, None where there is nothing."""
    where = f"seq BETWEEN {day.first_seq} AND {day.last_seq}"
    rows = value(con, f"SELECT count(*) FROM {physical(table)} WHERE {where}")
    if not rows:
        return None
    file = folder / SEALED_NAME / table / f"{day.name}.parquet"
    if file.exists():
        file = file.with_name(f"{day.name}-{day.first_seq}.parquet")
    size = write_parquet(con, f"SELECT * FROM {physical(table)} WHERE {where} ORDER BY {_ORDER[table]}", file)
    return table, day.name, day.first_seq, day.last_seq, rows, size, file.relative_to(folder).as_posix()


def write_parquet(con: Con, query: str, file: Path) -> int:
    """Write the answer of a query as a Parquet file that is durable when this returns; returns its bytes."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    con.execute(
        f"COPY ({query}) TO {_literal(str(partial.resolve()))}"
        f" (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {_ROW_GROUP})"
    )
    fsync(partial)
    partial.replace(file)
    fsync(file.parent)
    return file.stat().st_size


def fsync(path: Path) -> None:
    """Make a file or the names in a folder durable (Windows cannot open folders, and need not)."""
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def forget(
    con: Con,
    folder: Path,
    now_ns: int,
    before_ns: int | None,
    bytes_max: int | None,
    size_bytes: Callable[[], int],
    committing: AbstractContextManager[Any],
) -> int:
    """Store.forget. Today stays in any case, and so does what is not settled yet.

    `committing` keeps commits out while the database file is compacted.
    """
    settled = watermark(con)
    forgotten = int(value(con, "SELECT value FROM meta WHERE key = ?", [FORGOTTEN]) or 0)
    today_ns = now_ns // DAY_NS * DAY_NS
    kept = [day for day in days(con, forgotten, settled) if day.start_ns < today_ns]
    old = [day for day in kept if before_ns is not None and day.start_ns + DAY_NS <= before_ns]
    if old:
        _forget_until(con, folder, old[-1])
        compact(con, committing)
    removed = len(old)
    for day in kept[removed:]:
        if bytes_max is None or size_bytes() <= bytes_max:
            break
        _forget_until(con, folder, day)
        compact(con, committing)
        removed += 1
    return removed


def _forget_until(con: Con, folder: Path, day: Day) -> None:
    """Remove the day and all before it, in one transaction; the files of sealed days go after it."""
    last = day.last_seq
    # A text is kept once a week, by whichever day brought it first: it may go when the week is over.
    week_ns = (day.start_ns + DAY_NS - _MONDAY_NS) // (7 * DAY_NS) * (7 * DAY_NS) + _MONDAY_NS
    of_week = value(con, "SELECT max(seq) FROM commits WHERE time_ns < ? AND seq <= ?", [week_ns, last]) or 0
    with transaction(con):
        _count_forgotten(con, last)
        gone = con.execute(
            "SELECT path FROM sealed WHERE last_seq <= if(name = 'contents', $week, $last)",
            {"week": of_week, "last": last},
        ).fetchall()
        con.execute(
            "DELETE FROM sealed WHERE last_seq <= if(name = 'contents', $week, $last)", {"week": of_week, "last": last}
        )
        for table in BIG:
            con.execute(f"DELETE FROM {physical(table)} WHERE seq <= ?", [of_week if table == "contents" else last])
        for table in _OF_COMMITS:
            con.execute(f"DELETE FROM {table} WHERE seq <= ?", [last])
        con.execute("DELETE FROM trace_parts WHERE last_seq <= ?", [last])
        con.execute(
            "DELETE FROM trace_sessions WHERE trace_key NOT IN (SELECT trace_key FROM trace_parts)",
        )
        # The newest commit's row stays, and the weeks' whose texts are kept: numbers are never given twice.
        con.execute("DELETE FROM commits WHERE seq <= ? AND seq < (SELECT max(seq) FROM commits)", [of_week])
        con.execute("DELETE FROM meta WHERE key = ?", [FORGOTTEN])
        con.execute("INSERT INTO meta VALUES (?, ?)", [FORGOTTEN, str(last)])
        make_views(con, folder)
        _forget_sessions(con, last)
    for (path,) in gone:
        (folder / path).unlink(missing_ok=True)
    con.execute("CHECKPOINT")


def _count_forgotten(con: Con, last: int) -> None:
    """Keep how many records are gone: the rows of their commits say so only until the week is over."""
    known = dict(
        con.execute("SELECT key, value FROM meta WHERE key IN (?, ?)", [FORGOTTEN, FORGOTTEN_RECORDS]).fetchall()
    )
    counted = "SELECT coalesce(sum(spans + events + points), 0) FROM commits WHERE seq > ? AND seq <= ? AND NOT is_demo"
    records = int(known.get(FORGOTTEN_RECORDS, 0)) + int(value(con, counted, [int(known.get(FORGOTTEN, 0)), last]))
    con.execute("DELETE FROM meta WHERE key = ?", [FORGOTTEN_RECORDS])
    con.execute("INSERT INTO meta VALUES (?, ?)", [FORGOTTEN_RECORDS, str(records)])


def _forget_sessions(con: Con, last: int) -> None:
    """Count those sessions anew that began before; of most of them nothing is left."""
    rows = con.execute(
        "SELECT session_id FROM session_states WHERE coalesce((state->>'first_seq')::BIGINT, 0) <= ?", [last]
    ).fetchall()
    dead = {
        row[0]
        for row in con.execute(
            "SELECT session_id FROM session_states WHERE coalesce((state->>'last_seq')::BIGINT, 0) <= ?"
            " AND session_id NOT IN (SELECT session_id FROM calls)",
            [last],
        ).fetchall()
    }
    sessions.remove(con, dead)
    if alive := {row[0] for row in rows} - dead:
        sessions.recount(con, alive)


def compact(con: Con, committing: AbstractContextManager[Any]) -> None:
    """Give disk back: DuckDB frees a row group only when all of it is deleted, and cuts the file off only at its end.

    Tables that are mostly deleted rows are written anew, and if then more than half of the file is free all others are,
    into the free blocks at its front. One transaction, nothing is committed meanwhile: a crash leaves the old tables.
    """
    con.execute("CHECKPOINT")
    with committing:
        _write_anew(con, [table for table in TABLES if _is_mostly_deleted(con, physical(table))])
        block, total, used, free = con.execute(
            "SELECT block_size, total_blocks, used_blocks, free_blocks FROM pragma_database_size()"
        ).fetchall()[0]
        if free > total / 2 and free * block > COMPACT_FREE_BYTES and used * block < COMPACT_USED_BYTES:
            _write_anew(con, list(TABLES))


COMPACT_FREE_BYTES: Final = 4 << 20  # less is not worth writing everything anew
COMPACT_USED_BYTES: Final = 1 << 30  # commits wait for some seconds a GiB; what is free will be used again anyway
_DELETED_MIN: Final = 2048


def _is_mostly_deleted(con: Con, table: str) -> bool:
    """Rows are numbered through, deleted ones included, as long as their row group is not freed."""
    last, rows = con.execute(f"SELECT coalesce(max(rowid) + 1, 0), count(*) FROM {table}").fetchall()[0]
    return bool(last > max(2 * rows, _DELETED_MIN))


def _write_anew(con: Con, tables: list[str]) -> None:
    if not tables:
        return
    with transaction(con):
        for table in tables:
            name = physical(table)
            con.execute(f"ALTER TABLE {name} RENAME TO {name}_old")
            con.execute(create_table(table))
            names = ", ".join(f'"{column.name}"' for column in TABLES[table])
            con.execute(f"INSERT INTO {name} ({names}) SELECT {names} FROM {name}_old")
            con.execute(f"DROP TABLE {name}_old")
    con.execute("CHECKPOINT")
    con.execute("CHECKPOINT")  # the first one frees the blocks, the second cuts off those at the end


_SOURCES_IN_USE: Final = " UNION ALL ".join(f"SELECT source_id FROM {table}" for table in ("spans", "events", "series"))


def clear_demo(con: Con, folder: Path) -> int:
    """Store.clear_demo. The commits stay as empty ones, since numbers are never given twice.

    A text that the demo brought first stays where other records refer to it.
    """
    count = "SELECT coalesce(sum(spans + events + points), 0)::BIGINT FROM commits WHERE is_demo"
    removed: int = value(con, count)
    demo = "SELECT seq FROM commits WHERE is_demo"
    with transaction(con):
        gone = _clear_sealed(con, folder, demo)
        referred = " UNION ALL ".join(
            f"SELECT unnest(regexp_extract_all(contents, '[A-Za-z0-9_-]{{22}}')) AS hash FROM {table}"
            f" WHERE contents <> '[]' AND seq NOT IN ({demo})"
            for table in ("spans", "events")
        )
        con.execute(f"DELETE FROM contents_hot WHERE seq IN ({demo}) AND hash NOT IN (SELECT hash FROM ({referred}))")
        stale = con.execute("SELECT session_id FROM sessions WHERE is_demo").fetchall()
        con.execute("DELETE FROM call_reports WHERE call_id IN (SELECT call_id FROM calls WHERE is_demo)")
        con.execute("DELETE FROM calls WHERE is_demo")
        con.execute("DELETE FROM report_keys WHERE report_id IN (SELECT report_id FROM reports WHERE is_demo)")
        con.execute("DELETE FROM positions WHERE seq IN (SELECT seq FROM commits WHERE is_demo)")
        for table in ("spans_hot", "events_hot", "samples_hot", "reports", "digests"):
            con.execute(f"DELETE FROM {table} WHERE seq IN ({demo})")
        con.execute(f"DELETE FROM trace_parts WHERE first_seq IN ({demo}) AND last_seq IN ({demo})")
        con.execute("DELETE FROM series WHERE series_id NOT IN (SELECT series_id FROM samples)")
        con.execute(f"DELETE FROM sources WHERE source_id NOT IN ({_SOURCES_IN_USE})")
        con.execute("UPDATE commits SET spans = 0, events = 0, points = 0, is_demo = false WHERE is_demo")
        sessions.recount(con, {row[0] for row in stale})
        con.execute("DELETE FROM trace_sessions WHERE session_id NOT IN (SELECT session_id FROM sessions)")
    for path in gone:
        path.unlink(missing_ok=True)
    con.execute("CHECKPOINT")
    return removed


def _clear_sealed(con: Con, folder: Path, demo: str) -> list[Path]:
    """Write sealed files that hold demo records anew without them; returns the files that are to go afterwards."""
    rows = con.execute(
        f"SELECT name, day, first_seq, last_seq, path FROM sealed AS s WHERE name <> 'contents'"
        f" AND EXISTS (SELECT 1 FROM ({demo}) AS d WHERE d.seq BETWEEN s.first_seq AND s.last_seq)"
    ).fetchall()
    gone = []
    for name, day, first, last, path in rows:
        old = folder / path
        source = f"read_parquet({_literal(str(old.resolve()))})"
        con.execute("DELETE FROM sealed WHERE path = ?", [path])
        kept = value(con, f"SELECT count(*) FROM {source} WHERE seq NOT IN ({demo})")
        if kept:
            new = old.with_name(f"{old.stem}-real.parquet")
            query = f"SELECT * FROM {source} WHERE seq NOT IN ({demo}) ORDER BY {_ORDER[name]}"
            size = write_parquet(con, query, new)
            row = [name, day, first, last, kept, size, new.relative_to(folder).as_posix()]
            con.execute("INSERT INTO sealed VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        gone.append(old)
    make_views(con, folder)
    return gone


def tidy(con: Con, folder: Path, now_ns: int) -> None:
    """Store.tidy: checkpoint, seal what is due."""
    checkpoint(con)
    seal_due(con, folder, now_ns)
