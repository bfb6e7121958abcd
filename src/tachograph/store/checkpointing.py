"""Moves what the log holds into the tables while commits go on, so that neither the log grows nor an answer waits."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import duckdb

from tachograph.errors import TachographError

Con = duckdb.DuckDBPyConnection

CLOSE_S: Final = 30.0


def checkpoint(con: Con) -> None:
    """Checkpoint without stopping commits, for which the caller keeps everything away that deletes or updates.

    Alone in the database a checkpoint locks every writer out until it is done. Beside an open transaction that has
    written it lets others append meanwhile; so one is held open, and rolled back.
    """
    beside = con.cursor()
    try:
        con.execute("BEGIN")
        try:
            con.execute("INSERT INTO meta (key, value) VALUES ('checkpoint', '')")
            beside.execute("CHECKPOINT")
        finally:
            con.execute("ROLLBACK")
    finally:
        beside.close()


class Checkpointer:
    """One thread that checkpoints whenever the log has grown to `size_bytes`; it lives until `close`.

    `run` does it, and raises ours where it cannot: the log then goes on growing, and it is tried again after the
    next commit.
    """

    def __init__(self, log: Path, size_bytes: int, run: Callable[[], None]) -> None:
        self._log = log
        self._size_bytes = size_bytes
        self._run = run
        self._is_due = threading.Event()
        self._is_closing = False
        self._thread = threading.Thread(target=self._work, name="store-checkpoints", daemon=True)
        self._thread.start()

    def notice(self) -> None:
        """To be called after each commit."""
        if not self._is_due.is_set() and log_bytes(self._log) >= self._size_bytes:
            self._is_due.set()

    def close(self) -> None:
        """Wait for a checkpoint under way and end the thread; safe to call twice."""
        self._is_closing = True
        self._is_due.set()
        self._thread.join(CLOSE_S)

    def _work(self) -> None:
        while self._is_due.wait() and not self._is_closing:
            try:
                self._run()
            except TachographError:
                pass  # commits meet the same disk and say so to their senders
            finally:
                if not self._is_closing:
                    self._is_due.clear()


def log_bytes(log: Path) -> int:
    """Bytes of the log, 0 where there is none."""
    try:
        return log.stat().st_size
    except FileNotFoundError:
        return 0
