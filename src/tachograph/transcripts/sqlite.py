"""Reads the SQLite databases that agents keep, piece by piece, while they write them and without touching a file."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import msgspec

from tachograph.errors import Busy, Rejected
from tachograph.lines import Page
from tachograph.model import Batch

# Every SQLite database begins with it: https://www.sqlite.org/fileformat.html, section 1.3.
MAGIC: Final = b"SQLite format 3\0"
_WAL_VERSION: Final = 2  # byte 19 of the header: written with a write-ahead log
# How long a reading waits for an agent that is just changing its own file.
_WAIT_S: Final = 0.2
# Virtual machine steps after which a question to a hostile file is given up: minutes of work.
_STEPS: Final = 10_000_000
_STEP_ROUNDS: Final = 200


class Place(msgspec.Struct, omit_defaults=True):
    """Where a reading ended: how the files looked then, and what the reader has to remember."""

    stamp: list[int] = msgspec.field(default_factory=list)
    state: dict[str, Any] = msgspec.field(default_factory=dict)


_DECODE: Final = msgspec.json.Decoder(Place)
_ENCODE: Final = msgspec.json.Encoder().encode

# Reads the next rows into the page and keeps in its state where it was: whether more may be left. It may raise
# sqlite3.Error.
Ask = Callable[[sqlite3.Connection, Page], bool]


def read_tables(path: Path, since: str, agent: str, ask: Ask) -> tuple[Batch, str]:
    """What the rows after `since` ("" = all) tell, and the position after them.

    A file that has not changed is not opened; one that its agent is just changing is left for the next reading.
    Raises Rejected where it is no database or not one of the shape that `ask` knows.
    """
    place, stamp = _place(since), _stamp(path)
    if since and place.stamp == stamp:
        return Batch(), since
    before = _ENCODE(place.state)
    page = Page(agent, path, place.state)
    try:
        with opened(path) as database:
            is_more = ask(database, page)
            while is_more and not page.events:
                is_more = ask(database, page)
    except Busy:
        return Batch(), since
    except sqlite3.Error as error:
        raise Rejected(f"{path.name}: cannot be read as {agent}'s database: {error}") from error
    token = _ENCODE(Place([] if is_more else stamp, page.state)).decode()
    batch = Batch(events=page.events, positions={str(path): token})
    if page.events:
        kept = _ENCODE((path.name, before, page.events))
        batch.size, batch.digest = len(kept), blake2b(kept, digest_size=16).hexdigest()
    return batch, token


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """The database, open for reading alone: its agent is never kept waiting and no file beside it appears or changes.

    Raises Rejected where it is none and Busy where it was changed meanwhile.
    """
    stamp = _stamp(path)
    with closing(_connect(path)) as database:
        rounds = iter(range(_STEP_ROUNDS))
        database.set_progress_handler(lambda: next(rounds, None) is None, _STEPS)
        database.text_factory = _text
        database.row_factory = sqlite3.Row
        try:
            database.execute("BEGIN")
            yield database
        except sqlite3.OperationalError as error:
            if "locked" in str(error) or "busy" in str(error) or stamp != _stamp(path):
                raise Busy(f"{path.name}: its agent is writing it: {error}") from error
            raise
        except sqlite3.DatabaseError as error:
            if stamp != _stamp(path):
                raise Busy(f"{path.name}: its agent is writing it: {error}") from error
            raise


def _connect(path: Path) -> sqlite3.Connection:
    """A connection that leaves no trace.

    Opening a write-ahead log for reading creates and changes the `-shm` file beside it, unless it is said to be read
    only; and without that file, or without a log, only a file that is said never to change can be opened so.
    """
    header = _header(path)
    is_logged = header[19:20] == bytes([_WAL_VERSION])
    has_log = _size(path, "-wal") > 0 and _size(path, "-shm") > 0
    how = "" if not is_logged else "&readonly_shm=1" if has_log else "&immutable=1"
    try:
        return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro{how}", uri=True, timeout=_WAIT_S)
    except sqlite3.Error as error:
        raise Rejected(f"{path.name}: cannot be opened: {error}") from error


def is_database(path: Path) -> bool:
    """Whether a file begins as SQLite databases do."""
    try:
        return _header(path).startswith(MAGIC)
    except Rejected:
        return False


def columns_of(database: sqlite3.Connection, table: str) -> set[str]:
    """The columns of a table, none where there is no such table; `table` is a name of ours."""
    return {row["name"] for row in database.execute(f"PRAGMA table_info({table})")}


def _header(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            header = file.read(100)
    except OSError as error:
        raise Rejected(f"{path.name}: cannot be read: {error.strerror}") from error
    if not header.startswith(MAGIC):
        raise Rejected(f"{path.name}: got another kind of file; expected a SQLite database")
    return header


def _place(since: str) -> Place:
    """The place that a token stands for; the start where it is none or of a shape that is no longer known."""
    try:
        return _DECODE.decode(since) if since else Place()
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return Place()


def _stamp(path: Path) -> list[int]:
    """How the database and its log look: changed, when any of these numbers does."""
    numbers = []
    for ending in ("", "-wal"):
        try:
            told = path.with_name(path.name + ending).stat()
            numbers += [told.st_size, told.st_mtime_ns, told.st_ino]
        except OSError:
            numbers += [0, 0, 0]
    return numbers


def _size(path: Path, ending: str) -> int:
    try:
        return path.with_name(path.name + ending).stat().st_size
    except OSError:
        return 0


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
