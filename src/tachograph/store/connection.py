"""Holds the database open for all threads, and opens it anew where an error of the disk has invalidated it."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import duckdb

from tachograph.errors import Busy, Corrupt, QueryError, TachographError
from tachograph.store.room import SMALL_BYTES

Con = duckdb.DuckDBPyConnection

DATABASE_NAME: Final = "tachograph.duckdb"
LOG_NAME: Final = DATABASE_NAME + ".wal"
SEALED_NAME: Final = "sealed"
# Commits are not held up by checkpoints of `checkpointing`; should these fail, DuckDB's own, at which everyone waits
# (6 ms a MB), keeps the log within what the next start reads again in a second.
LOG_BYTES_MAX: Final = "512MiB"

_OPTIONS: Final = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_unsigned_extensions": "false",
    "checkpoint_threshold": LOG_BYTES_MAX,
}

# With so little memory each thread's own buffers count, and what is free goes back to the system at once.
_SMALL: Final[dict[str, str | bool | int]] = {
    "threads": 1,
    "allocator_background_threads": True,
    "allocator_flush_threshold": "1MiB",
}


class Connection:
    """The one connection to the database of a folder; every question runs on a cursor of it.

    `opened` is called with each new connection before anyone else uses it. DuckDB invalidates a database whose log it
    could not write, and keeps it so while any cursor is left: the next use then waits for these and opens it again.
    """

    def __init__(self, path: Path, memory_bytes: int, is_read_only: bool, opened: Callable[[Con], None]) -> None:
        self.path = path
        self._memory_bytes = memory_bytes
        self._is_read_only = is_read_only
        self._opened = opened
        self._changed = threading.Condition()
        self._cursors = 0
        self._is_closed = False
        self._is_broken = False
        self._con: Con | None = None
        with self.explained():
            self._open()

    @contextmanager
    def cursor(self) -> Iterator[Con]:
        """A cursor of one's own for the length of the block; DuckDB's errors come out as ours."""
        with self.explained():
            cursor = self._take()
            try:
                yield cursor
            finally:
                self._give(cursor)

    def close(self) -> None:
        """Close the database once nobody uses it; safe to call twice."""
        with self._changed:
            self._is_closed = True
            self._changed.wait_for(lambda: not self._cursors)
            self._shut()

    def is_usable(self) -> bool:
        """Whether the database still answers; where it does not, it is opened again by the next use."""
        try:
            with self.cursor() as cursor:
                cursor.execute("SELECT 1").fetchall()
        except TachographError:
            return False
        return not self._is_broken

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn DuckDB's errors into ours, and notice those after which the database has to be opened again."""
        try:
            yield
        except duckdb.Error as error:
            if isinstance(error, duckdb.FatalException | duckdb.InternalException):
                self._is_broken = True
            raise explain(error, self.path) from error

    def _take(self) -> Con:
        with self._changed:
            if self._is_closed:
                raise Busy(f"{self.path}: the store is closed", "start it again")
            self._changed.wait_for(lambda: not self._must_open() or not self._cursors)
            if self._must_open():
                self._shut()
                self._open()
            assert self._con is not None
            cursor = self._con.cursor()
            self._cursors += 1
            return cursor

    def _must_open(self) -> bool:
        return self._is_broken or self._con is None

    def _give(self, cursor: Con) -> None:
        cursor.close()
        with self._changed:
            self._cursors -= 1
            self._changed.notify_all()

    def _open(self) -> None:
        con = connect(self.path, self._memory_bytes, self._is_read_only)
        try:
            self._opened(con)
        except BaseException:
            con.close()
            raise
        self._con, self._is_broken = con, False

    def _shut(self) -> None:
        if self._con is not None:
            self._con.close()
            self._con = None


def connect(path: Path, memory_bytes: int, is_read_only: bool = False) -> Con:
    """A connection to the database in the folder that reaches no other file but sealed ones, and no network."""
    sealed = path / SEALED_NAME
    sealed.mkdir(exist_ok=True)
    options: dict[str, str | bool | int | float | list[str]] = {
        **_OPTIONS,
        "memory_limit": f"{memory_bytes // 1024}KiB",
    }
    if memory_bytes <= SMALL_BYTES:
        options |= _SMALL
    con = duckdb.connect(path / DATABASE_NAME, read_only=is_read_only, config=options)
    try:
        _confine(con, sealed)
    except BaseException:
        con.close()
        raise
    return con


def _confine(con: Con, sealed: Path) -> None:
    """Lock the settings; all connections of a process to one file share them, so it may have been done."""
    if con.execute("SELECT current_setting('lock_configuration')").fetchall()[0][0]:
        return
    con.execute("SET allowed_directories = ['" + str(sealed.resolve()).replace("'", "''") + "/']")
    con.execute("SET enable_external_access = false")
    # At its end DuckDB would write everything anew that checkpoints beside commits left in small pieces: seconds.
    con.execute("PRAGMA disable_checkpoint_on_shutdown")
    con.execute("SET lock_configuration = true")


_OF_THE_DISK: Final = (duckdb.IOException, duckdb.FatalException, duckdb.InternalException)
# A commit that the disk refuses is told of as a failed transaction.
_DISK_SAYS: Final = ("Could not write file", "Could not truncate file", "Could not fsync", "No space left")


def explain(error: duckdb.Error, path: Path) -> TachographError:
    """Our error for one of DuckDB's: who has to act, and what helps."""
    said = str(error).split("\n\n")[0].strip()
    if isinstance(error, duckdb.OutOfMemoryException):
        return Busy(f"{path}: {said}", "ask for less at once, or give it more with memory_bytes")
    if isinstance(error, duckdb.SerializationException):
        return Corrupt(f"{path}: {said}", "restore a backup; the file is left as it is")
    if isinstance(error, _OF_THE_DISK) or any(sign in said for sign in _DISK_SAYS):
        free = shutil.disk_usage(path).free
        return Busy(f"{path}: {said} ({free} bytes are free)", "free some space; it goes on by itself", retry_after_s=5)
    if isinstance(error, duckdb.TransactionException):
        return Busy(f"{path}: {said}", "send it again in a moment")
    return QueryError(said)
