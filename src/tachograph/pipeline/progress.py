"""How far each destination is: its cursor, its counts, what it must remember, and what it refused; kept in one file."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from tachograph.errors import ConfigError, Corrupt
from tachograph.telemetry import say

FILE_NAME: Final = "forwarding.sqlite3"
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS destinations (name TEXT PRIMARY KEY, state BLOB NOT NULL, rewind INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS memory (destination TEXT, key TEXT, value BLOB NOT NULL, PRIMARY KEY (destination, key))
    WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS refused (id INTEGER PRIMARY KEY, destination TEXT NOT NULL, letter BLOB NOT NULL,
    is_wanted INTEGER NOT NULL DEFAULT 0);
"""


class State(Struct, omit_defaults=True):
    """How far one destination is; times in nanoseconds, 0 = never."""

    cursor: int = 0  # everything up to this commit was sent, or set aside
    sent: int = 0  # records that were taken
    refused: int = 0  # records that will never be taken: see Letter
    lost: int = 0  # records (spans, events and points) that retention forgot before they were sent
    lost_ns: int = 0  # the last time that some were
    requests: int = 0
    failures: int = 0  # in a row, since the last answer that was good
    failed: int = 0  # requests that did not go well, in all
    retry_ns: int = 0  # not before
    answer: str = ""  # the last one
    answered_ns: int = 0
    taken_ns: int = 0  # the last time that something was taken
    is_refusing: bool = False  # until the operator has acted
    passed: int = -1  # records that came in up to the cursor, in all; -1 = nobody has counted
    window: int = 200  # about how many records are sent before the cursor is kept


class Letter(Struct, omit_defaults=True):
    """Records that a destination refused: their keys and the commits that brought them, not what they hold."""

    keys: list[str]
    first_seq: int
    last_seq: int
    route: str
    answer: str
    time_ns: int
    rejected: int  # of the records: all, or as many as the destination says without naming them
    id: int = 0
    destination: str = ""
    is_wanted: bool = False  # somebody asked to send it again


class Progress:
    """The file; safe to use from any thread, and from commands while a server runs.

    Raises ConfigError where it cannot be read or written, as on a full disk: then it is as it was before. Raises
    Corrupt where it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._path = path
        with self._told():
            self._db = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            if (found := self._db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
                raise sqlite3.DatabaseError(found)
            self._db.executescript(_TABLES)
        path.chmod(0o600)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if type(error) is sqlite3.DatabaseError:  # its subclasses are about the disk, locks and questions
                self._db.close()
                raise Corrupt(f"{self._path}: is damaged: {error}; expected how far each destination is") from error
            what = f"{self._path}: cannot be read or written: {error}; expected a file to write to, and room for it"
            raise ConfigError(what, "make room on the disk, and check who may write there") from error

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._db.close()

    def names(self) -> list[str]:
        """Every destination that ever had a state."""
        return [str(row[0]) for row in self._rows("SELECT name FROM destinations ORDER BY name")]

    def state(self, name: str) -> State | None:
        """Of one destination, None where it never began."""
        rows = self._rows("SELECT state FROM destinations WHERE name = ?", name)
        return msgspec.msgpack.decode(rows[0][0], type=State) if rows else None

    def rewound(self, name: str) -> int | None:
        """The commit that somebody asked to begin again after, None where nobody did."""
        rows = self._rows("SELECT rewind FROM destinations WHERE name = ?", name)
        return rows[0][0] if rows else None

    def rewind(self, name: str, after_seq: int) -> None:
        """Ask a destination to begin again after a commit; it does before its next round, wherever it runs."""
        empty = msgspec.msgpack.encode(State())
        with self._lock, self._told():
            self._db.execute(
                "INSERT INTO destinations VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET rewind = excluded.rewind",
                (name, empty, after_seq),
            )

    def save(
        self,
        name: str,
        state: State,
        memory: Iterable[tuple[str, bytes | None]] = (),
        letters: Sequence[Letter] = (),
        is_rewound: bool = False,
        forgotten: Iterable[int] = (),
    ) -> None:
        """Keep all of it in one transaction. `is_rewound`: the wish to begin again is fulfilled.

        `forgotten` are letters that were sent again, or cannot be any more.
        """
        with self._lock, self._told(), self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute(
                "INSERT INTO destinations VALUES (?, ?, NULL) ON CONFLICT (name) DO UPDATE SET state = excluded.state",
                (name, msgspec.msgpack.encode(state)),
            )
            if is_rewound:
                self._db.execute("UPDATE destinations SET rewind = NULL WHERE name = ?", (name,))
            for key, value in memory:
                self._remember(name, key, value)
            for letter in letters:
                self._db.execute(
                    "INSERT INTO refused (destination, letter) VALUES (?, ?)", (name, msgspec.msgpack.encode(letter))
                )
            self._db.executemany("DELETE FROM refused WHERE id = ?", [(one,) for one in forgotten])

    def forget(self, name: str) -> None:
        """Be as if a destination had never begun."""
        with self._lock, self._told(), self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("DELETE FROM destinations WHERE name = ?", (name,))
            self._db.execute("DELETE FROM memory WHERE destination = ?", (name,))
            self._db.execute("DELETE FROM refused WHERE destination = ?", (name,))

    def _remember(self, name: str, key: str, value: bytes | None) -> None:
        if value is None:
            self._db.execute("DELETE FROM memory WHERE destination = ? AND key = ?", (name, key))
        else:
            self._db.execute("INSERT OR REPLACE INTO memory VALUES (?, ?, ?)", (name, key, value))

    def recall(self, name: str, key: str) -> bytes | None:
        """One remembered value."""
        rows = self._rows("SELECT value FROM memory WHERE destination = ? AND key = ?", name, key)
        return rows[0][0] if rows else None

    def recall_keys(self, name: str, prefix: str) -> list[str]:
        """The keys of remembered values that begin with `prefix`."""
        asked = "SELECT key FROM memory WHERE destination = ? AND key >= ? AND key < ? ORDER BY key"
        return [str(row[0]) for row in self._rows(asked, name, prefix, prefix + "\U0010ffff")]

    def letters(self, name: str = "", is_wanted: bool = False, limit: int = 1000, offset: int = 0) -> list[Letter]:
        """What was refused, newest first; `is_wanted`: only what somebody asked to send again, oldest first.

        `limit` -1: all.
        """
        asked = "SELECT id, destination, is_wanted, letter FROM refused WHERE (? = '' OR destination = ?)"
        order = "ASC" if is_wanted else "DESC"
        asked = f"{asked} AND is_wanted >= ? ORDER BY id {order} LIMIT ? OFFSET ?"
        rows = self._rows(asked, name, name, int(is_wanted), limit, offset)
        return [_letter(*row) for row in rows]

    def count_letters(self, name: str) -> int:
        """How many there are of one destination."""
        return int(self._rows("SELECT count(*) FROM refused WHERE destination = ?", name)[0][0])

    def want(self, name: str = "", letter_id: int | None = None) -> int:
        """Ask to send refused records again: all of a destination's ("" = of all), or one letter. How many letters."""
        with self._lock, self._told():
            asked = "UPDATE refused SET is_wanted = 1 WHERE (? = '' OR destination = ?) AND (? IS NULL OR id = ?)"
            return self._db.execute(asked, (name, name, letter_id, letter_id)).rowcount

    def drop(self, name: str = "", letter_id: int | None = None) -> int:
        """Give up refused records: all of a destination's ("" = of all), or one letter. How many letters."""
        with self._lock, self._told():
            asked = "DELETE FROM refused WHERE (? = '' OR destination = ?) AND (? IS NULL OR id = ?)"
            return self._db.execute(asked, (name, name, letter_id, letter_id)).rowcount

    def _rows(self, asked: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._lock, self._told():
            return self._db.execute(asked, values).fetchall()


def open_progress(path: Path) -> Progress:
    """The file, anew where it is damaged: recording must not stop for what is only about forwarding.

    The damaged one is set aside. Where each destination was is lost with it: they begin with what comes now.
    """
    try:
        return Progress(path)
    except Corrupt as error:
        aside = next(one for n in range(1, 1000) if not (one := path.with_name(f"{path.name}.damaged-{n}")).exists())
        for ending in ("-wal", "-shm", ""):
            part = path.with_name(path.name + ending)
            if part.exists():
                part.rename(aside.with_name(aside.name + ending))
        say(
            "warning",
            f"{error.what}. It is set aside as {aside.name}, and every destination begins with what comes from now on:"
            " `tachograph forward backfill NAME --since …` sends what they have missed",
        )
        return Progress(path)


@contextmanager
def backed_up(home: Path, target: Path) -> Iterator[None]:
    """Copy the file of a home into `target`, which is there afterwards: as it was before what is done meanwhile.

    A cursor must never be ahead of the store that is copied with it: what lies between would never be sent.
    """
    if not (home / FILE_NAME).exists():
        yield
        return
    with closing(sqlite3.connect(":memory:")) as held:
        with closing(sqlite3.connect(home / FILE_NAME, timeout=10)) as running:
            running.backup(held)
        yield
        _write(held, target / FILE_NAME)


def restored(source: Path, home: Path) -> None:
    """Bring back the file of a backup, where it has one."""
    if (source / FILE_NAME).exists():
        with closing(sqlite3.connect(source / FILE_NAME)) as kept:
            _write(kept, home / FILE_NAME)


def _write(held: sqlite3.Connection, path: Path) -> None:
    with closing(sqlite3.connect(path)) as copy:
        held.backup(copy)
    path.chmod(0o600)


def _letter(letter_id: int, destination: str, is_wanted: int, packed: bytes) -> Letter:
    letter = msgspec.msgpack.decode(packed, type=Letter)
    letter.id, letter.destination, letter.is_wanted = letter_id, destination, bool(is_wanted)
    return letter


class Remembered:
    """A destination's memory during one round: what is put shows at once and is kept only with the cursor.

    `told` is in it for this round alone.
    """

    def __init__(self, progress: Progress, name: str, told: Mapping[str, bytes] | None = None) -> None:
        self._progress = progress
        self._name = name
        self._told = told or {}
        self.changes: dict[str, bytes | None] = {}

    def get(self, key: str) -> bytes | None:
        """Memory.get."""
        if key in self.changes:
            return self.changes[key]
        if key in self._told:
            return self._told[key]
        return self._progress.recall(self._name, key)

    def put(self, key: str, value: bytes | None) -> None:
        """Memory.put."""
        self.changes[key] = value

    def keys(self, prefix: str) -> list[str]:
        """Memory.keys."""
        kept = {*self._progress.recall_keys(self._name, prefix), *(k for k in self.changes if k.startswith(prefix))}
        return sorted(key for key in kept if self.changes.get(key, b"") is not None)
