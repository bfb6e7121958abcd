"""The embedded store: one DuckDB database in the data folder, one process, any number of threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import duckdb
import msgspec

from tachograph.errors import QueryError
from tachograph.model import Batch, Report
from tachograph.scan import Columns, Scan
from tachograph.store import ddl, folder, settling
from tachograph.store.committing import Committer
from tachograph.store.compile import compile_scan
from tachograph.store.contract import Settlement, Unsettled

Con = duckdb.DuckDBPyConnection

DATABASE_NAME: Final = "tachograph.duckdb"
SEALED_NAME: Final = "sealed"
MEMORY_BYTES: Final = 1 << 30
_TEXTS: Final = "SELECT hash, any_value(text) FROM contents WHERE hash IN (SELECT unnest(?)) GROUP BY hash"


class DuckStore:
    """The Store of contract.py on DuckDB.

    Writing is serialised by two locks: commits only append, settling and tidying work on what is committed, so that
    neither waits for the other. Every question runs on a cursor of its own, and sees the last commit.
    """

    def __init__(
        self, path: Path, clock: Callable[[], int], memory_bytes: int | None = None, read_only: bool = False
    ) -> None:
        self.path = path
        self._clock = clock
        self._memory_bytes = memory_bytes or MEMORY_BYTES
        self._is_read_only = read_only
        self._committing = threading.Lock()
        self._settling = threading.RLock()
        self._lock = folder.FolderLock(path, is_shared=read_only)
        try:
            self._con = connect(path, self._memory_bytes, read_only)
            self._writer = self._con.cursor()
            self._committer = Committer(self._writer)
        except BaseException:
            self._lock.release()
            raise

    def commit(self, batches: Sequence[Batch]) -> int:
        """Store.commit."""
        with self._committing:
            return self._committer.commit(self._writer, batches, self._clock())

    def sequence(self) -> int:
        """Reader.sequence."""
        return self._committer.seq

    def scan(self, scan: Scan) -> Columns:
        """Reader.scan."""
        compiled = compile_scan(scan)
        with self._cursor() as cursor:
            rows = cursor.execute(compiled.sql, compiled.parameters).fetchall()
        answer = _columns(list(scan.select), rows)
        for name in compiled.json_names:
            answer.data[name] = [None if text is None else _decode(text) for text in answer.data[name]]
        return answer

    def texts(self, hashes: Sequence[str]) -> dict[str, str]:
        """Reader.texts."""
        with self._cursor() as cursor:
            return dict(cursor.execute(_TEXTS, [list(hashes)]).fetchall())

    def sql(self, query: str, limit: int | None = None) -> Columns:
        """Reader.sql."""
        with self._cursor() as cursor:
            try:
                statements = cursor.extract_statements(query)
                if len(statements) != 1 or statements[0].type not in _READING:
                    raise QueryError("sql: got something else; expected one SELECT")
                cursor.execute("BEGIN TRANSACTION READ ONLY")
                cursor.execute(query)
                names = [column[0] for column in cursor.description or ()]
                rows = cursor.fetchall() if limit is None else cursor.fetchmany(limit)
            except duckdb.Error as error:
                raise QueryError(f"sql: {error}") from None
        return _columns(names, rows)

    def unsettled(self, limit: int) -> Unsettled:
        """Store.unsettled."""
        with self._settling, self._cursor() as cursor:
            return settling.unsettled(cursor, limit)

    def reports(
        self, keys: Collection[int] = (), traces: Collection[str] = (), ids: Collection[str] = ()
    ) -> list[Report]:
        """Store.reports."""
        with self._cursor() as cursor:
            return settling.reports(cursor, keys, traces, ids)

    def parents(self, traces: Collection[str]) -> dict[str, dict[str, str]]:
        """Store.parents."""
        with self._cursor() as cursor:
            return settling.parents(cursor, traces)

    def settle(self, settlement: Settlement) -> None:
        """Store.settle."""
        with self._settling, self._cursor() as cursor:
            settling.settle(cursor, settlement)

    def positions(self) -> dict[str, str]:
        """Store.positions."""
        with self._cursor() as cursor:
            return dict(cursor.execute("SELECT path, position FROM positions").fetchall())

    def size_bytes(self) -> int:
        """Store.size_bytes."""
        return folder.size_bytes(self.path)

    def close(self) -> None:
        """Store.close; safe to call twice."""
        with self._committing, self._settling:
            self._writer.close()
            self._con.close()
            self._lock.release()

    @contextmanager
    def _cursor(self) -> Iterator[Con]:
        cursor = self._con.cursor()
        try:
            yield cursor
        finally:
            cursor.close()


_decode: Final = msgspec.json.Decoder().decode
_READING: Final = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)


def open_store(
    folder: Path, clock: Callable[[], int], memory_bytes: int | None = None, read_only: bool = False
) -> DuckStore:
    """Open the store in a folder, making both where there is none.

    `clock` gives nanoseconds since 1970. Raises ConfigError where another process has the folder or the store is of a
    newer version, Corrupt where the file is not a database.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return DuckStore(folder, clock, memory_bytes, read_only)


def connect(path: Path, memory_bytes: int, read_only: bool) -> Con:
    """A connection to the database in the folder that can reach no other file and no network."""
    sealed = path / SEALED_NAME
    sealed.mkdir(exist_ok=True)
    con = duckdb.connect(
        path / DATABASE_NAME,
        read_only=read_only,
        config={
            "memory_limit": f"{memory_bytes // 1024}KiB",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "checkpoint_threshold": "256MB",
            "allow_unsigned_extensions": "false",
        },
    )
    con.execute(f"SET allowed_directories = [{_literal(str(sealed.resolve()) + '/')}]")
    con.execute("SET enable_external_access = false")
    con.execute("SET lock_configuration = true")
    if not read_only:
        for statement in ddl.statements():
            con.execute(statement)
    return con


def _columns(names: list[str], rows: list[tuple[Any, ...]]) -> Columns:
    values = [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in names]
    return Columns(names, dict(zip(names, values, strict=True)))


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
