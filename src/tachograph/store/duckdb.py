"""The embedded store: one DuckDB database in the data folder, one process, any number of threads."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, Final

import duckdb
import msgspec

from tachograph.errors import Busy, QueryError, Rejected, TachographError
from tachograph.model import Batch, Report
from tachograph.scan import Columns, Scan
from tachograph.store import backup, catching_up, folder, migrations, retention, settling
from tachograph.store.checkpointing import Checkpointer, checkpoint
from tachograph.store.committing import Committer
from tachograph.store.compile import compile_scan
from tachograph.store.connection import DATABASE_NAME, LOG_NAME, Connection
from tachograph.store.contract import Settlement, Unsettled
from tachograph.store.identity import clean_text
from tachograph.store.relations import told
from tachograph.store.room import room_of

Con = duckdb.DuckDBPyConnection

MEMORY_BYTES: Final = 768 << 20  # of DuckDB's buffers: enough for months on one machine; it spills what exceeds it
_INTERRUPT_EVERY_S: Final = 0.05
_TEXTS: Final = "SELECT hash, text FROM contents WHERE hash IN (SELECT unnest(?))"


class DuckStore:
    """The Store of contract.py on DuckDB.

    Writing is serialised by two locks: commits only append, settling and tidying work on what is committed, so that
    neither waits for the other; who needs both takes the settling lock first. Every question runs on a cursor of its
    own, and sees the last commit. In a small process questions wait for one another, after both locks; a commit waits
    for none of them.
    """

    def __init__(
        self, path: Path, clock: Callable[[], int], memory_bytes: int | None = None, read_only: bool = False
    ) -> None:
        self.path = path
        self._clock = clock
        self._is_read_only = read_only
        self._room = room_of(memory_bytes or MEMORY_BYTES)
        self._is_prepared = False
        self._committing = threading.Lock()
        self._settling = threading.RLock()
        self._asking: AbstractContextManager[object] = threading.RLock() if self._room.is_one_by_one else nullcontext()
        self._lock = folder.FolderLock(path, is_shared=read_only)
        try:
            self._connection = self._open(memory_bytes or MEMORY_BYTES)
        except BaseException:
            self._lock.release()
            raise
        self._checkpointer = Checkpointer(path / LOG_NAME, self._room.log_bytes, self._checkpoint)

    def _open(self, memory_bytes: int) -> Connection:
        """Open the database; a file that is none is set aside, so that the next start finds a free place."""
        database = self.path / DATABASE_NAME
        if not self._is_read_only and database.exists() and not database.stat().st_size:
            database.unlink()  # killed before DuckDB wrote its first byte
        try:
            return Connection(self.path, memory_bytes, self._is_read_only, self._opened)
        except TachographError as error:
            if self._is_read_only or not migrations.is_unreadable(error.__cause__):
                raise
            raise migrations.set_aside(database, error.__cause__, self._clock()) from error

    def _opened(self, con: Con) -> None:
        """Bring a newly opened database up to date, and learn what is in it."""
        if not self._is_read_only and not self._is_prepared:
            migrations.migrate(con)
            retention.adopt(con, self.path)
            catching_up.catch_up(con)
        self._is_prepared = True  # opened again on a full disk it must still be readable: nothing is written then
        self._committer = Committer(con, self._room)

    def commit(self, batches: Sequence[Batch]) -> int:
        """Store.commit. Raises Rejected for what no table can hold."""
        with self._committing:
            try:
                with self._connection.cursor() as cursor:
                    seq = self._committer.commit(cursor, batches, self._clock())
                self._checkpointer.notice()
                return seq
            except QueryError as error:
                raise Rejected(f"{self.path}: {error.what}") from error
            except Busy:
                self._connection.is_usable()  # so that the next commit finds it open again
                raise

    def _sort(self) -> None:
        """Bring what has landed into the tables before somebody reads; on a full disk it stays where it is safe."""
        if self._committer.landed.parcels and not self._is_read_only:
            with self._committing:
                try:
                    with self._connection.cursor() as cursor:
                        self._committer.sort(cursor)
                except Busy:
                    self._connection.is_usable()  # so that what is already in the tables can be read

    def sequence(self) -> int:
        """Reader.sequence."""
        return self._committer.seq

    def scan(self, scan: Scan) -> Columns:
        """Reader.scan."""
        compiled = compile_scan(scan)
        self._sort()
        with self._asking, self._connection.cursor() as cursor:
            rows = cursor.execute(compiled.sql, compiled.parameters).fetchall()
        answer = _columns(list(scan.select), rows)
        for name in compiled.json_names:
            answer.data[name] = [None if text is None else _decode(text) for text in answer.data[name]]
        return answer

    def texts(self, hashes: Sequence[str]) -> dict[str, str]:
        """Reader.texts."""
        self._sort()
        with self._asking, self._connection.cursor() as cursor:
            return told(cursor.execute(_TEXTS, [[clean_text(name) for name in hashes]]))

    def sql(self, query: str, limit: int | None = None, stop: threading.Event | None = None) -> Columns:
        """Reader.sql: one statement, in a transaction that cannot write, on a connection that reaches no other file."""
        query = clean_text(query)
        self._sort()
        with self._connection.cursor() as cursor, _stopped_by(stop, cursor):
            try:
                _check_reading(cursor.extract_statements(query))
                cursor.execute("BEGIN TRANSACTION READ ONLY")
                cursor.execute(query)
                names = _unique([column[0] for column in cursor.description or ()])
                return _columns(names, cursor.fetchall() if limit is None else cursor.fetchmany(limit))
            except _OWN:
                raise
            except duckdb.InterruptException as error:
                raise QueryError("sql: the query was stopped before its answer was there") from error
            except duckdb.Error as error:
                raise _query_error(query, str(error)) from error

    def unsettled(self, limit: int) -> Unsettled:
        """Store.unsettled."""
        self._sort()
        with self._settling, self._asking, self._connection.cursor() as cursor:
            return settling.unsettled(cursor, limit)

    def reports(
        self, keys: Collection[int] = (), traces: Collection[str] = (), ids: Collection[str] = ()
    ) -> list[Report]:
        """Store.reports."""
        with self._asking, self._connection.cursor() as cursor:
            return settling.reports(cursor, keys, traces, ids)

    def parents(self, traces: Collection[str]) -> dict[str, dict[str, str]]:
        """Store.parents."""
        self._sort()
        with self._asking, self._connection.cursor() as cursor:
            return settling.parents(cursor, traces)

    def settle(self, settlement: Settlement) -> None:
        """Store.settle."""
        with self._settling, self._asking, self._connection.cursor() as cursor:
            settling.settle(cursor, settlement)

    def positions(self) -> dict[str, str]:
        """Store.positions."""
        self._sort()
        with self._connection.cursor() as cursor:
            return dict(cursor.execute("SELECT path, position FROM positions").fetchall())

    def forget(self, before_ns: int | None = None, bytes_max: int | None = None) -> int:
        """Store.forget."""
        self._sort()
        with self._settling, self._connection.cursor() as cursor:
            return retention.forget(
                cursor, self.path, self._clock(), before_ns, bytes_max, self.size_bytes, self._committing
            )

    def clear_demo(self) -> int:
        """Store.clear_demo."""
        self._sort()
        with self._settling, self._committing, self._connection.cursor() as cursor:
            removed = retention.clear_demo(cursor, self.path)
            self._committer = Committer(cursor, self._room)  # it took texts and digests for kept that are gone now
            return removed

    def backup(self, target: Path) -> None:
        """Store.backup."""
        with self._settling, self._connection.cursor() as cursor:
            backup.backup(cursor, self.path, target, self._committing)

    def tidy(self) -> None:
        """Store.tidy."""
        self._sort()
        with self._settling, self._connection.cursor() as cursor:
            retention.tidy(cursor, self.path, self._clock())

    def _checkpoint(self) -> None:
        """Between settlements, which delete and update; commits only append."""
        with self._settling, self._asking, self._connection.cursor() as cursor:
            checkpoint(cursor)

    def size_bytes(self) -> int:
        """Store.size_bytes."""
        return folder.size_bytes(self.path)

    def close(self) -> None:
        """Store.close; safe to call twice."""
        self._checkpointer.close()
        with suppress(TachographError):
            self._sort()
        if not self._is_read_only:
            with suppress(TachographError):  # a log that cannot be worked in now is read at the next start
                self._checkpoint()
        with self._settling, self._committing:
            self._connection.close()
            self._lock.release()


_decode: Final = msgspec.json.Decoder().decode
_READING: Final = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)
# Of DuckDB's errors these are the store's own; the others say what is wrong with the question.
_OWN: Final = (
    duckdb.OutOfMemoryException,
    duckdb.IOException,
    duckdb.FatalException,
    duckdb.InternalException,
    duckdb.SerializationException,
)
_POINTER: Final = re.compile(r"^(LINE (\d+): )(.*)\n( *)\^", re.MULTILINE)


def open_store(
    folder: Path, clock: Callable[[], int], memory_bytes: int | None = None, read_only: bool = False
) -> DuckStore:
    """Open the store in a folder, making both where there is none.

    `clock` gives nanoseconds since 1970. Raises ConfigError where another process has the folder or the store is of a
    newer version, Corrupt where the file is not a database.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return DuckStore(folder, clock, memory_bytes, read_only)


@contextmanager
def _stopped_by(stop: threading.Event | None, cursor: Con) -> Iterator[None]:
    """Within the block the cursor gives up when `stop` is set; the event is set in the end in any case."""
    if stop is None:
        yield
        return
    is_done = False

    def watch() -> None:
        # Again and again: an interrupt that comes before the query has begun is lost.
        stop.wait()
        while not is_done:
            cursor.interrupt()
            time.sleep(_INTERRUPT_EVERY_S)

    watcher = threading.Thread(target=watch, name="sql-stop", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        is_done = True
        stop.set()
        watcher.join()


def _check_reading(statements: Sequence[duckdb.Statement]) -> None:
    """Let one reading statement pass."""
    got = [str(statement.type).rsplit(".", 1)[-1] for statement in statements]
    if len(statements) != 1 or statements[0].type not in _READING:
        raise QueryError(
            f"sql: got {' and '.join(got) or 'nothing'}; expected one statement that only reads",
            "SELECT, WITH, FROM, DESCRIBE, SHOW, SUMMARIZE and EXPLAIN read",
        )


def _query_error(query: str, message: str) -> QueryError:
    """DuckDB's message without its excerpt, and the position that the excerpt points to."""
    what = message.split("\n\n")[0].strip()
    found = _POINTER.search(message)
    if not found:
        return QueryError(f"sql: {what}")
    head, number, excerpt, caret = found.groups()
    lines = query.split("\n")
    if int(number) > len(lines):
        return QueryError(f"sql: {what}")
    line = lines[int(number) - 1]
    column = len(caret) - len(head)
    if excerpt.startswith("..."):  # a long line is cut to the part around the error
        column += line.find(excerpt.removeprefix("...").removesuffix("...")) - len("...")
    position = sum(len(before) + 1 for before in lines[: int(number) - 1]) + column
    return QueryError(f"sql: {what}", position=position if 0 <= column <= len(line) else None)


def _unique(names: list[str]) -> list[str]:
    """The names, with a number behind those that were there before."""
    unique: dict[str, None] = {}
    for name in names:
        candidates = (name if number == 0 else f"{name}_{number}" for number in range(len(names)))
        unique[next(candidate for candidate in candidates if candidate not in unique)] = None
    return list(unique)


def _columns(names: list[str], rows: list[tuple[Any, ...]]) -> Columns:
    values = [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in names]
    return Columns(names, dict(zip(names, values, strict=True)))
