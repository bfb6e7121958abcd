"""Databases of agents: read while they are written, without a trace, and whatever is in them."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tachograph.errors import Rejected
from tachograph.lines import Page
from tachograph.model import STEP, Batch, Meaning
from tachograph.transcripts import copilot, opencode, sqlite


def ask(database: sqlite3.Connection, page: Page) -> bool:
    """Reads the numbers of a table, two at a time."""
    after = (page.state.get("last", 0),)
    rows = database.execute("SELECT n FROM t WHERE n > ? ORDER BY n LIMIT 2", after).fetchall()
    for row in rows:
        if not isinstance(row["n"], int):
            raise Rejected("not a number")
        page.state["last"] = row["n"]
        if row["n"] > 0:
            page.add(str(row["n"]), row["n"], Meaning(role=STEP), {})
    return len(rows) == 2


def read(path: Path, since: str = "") -> tuple[Batch, str]:
    """One reading of such a table."""
    return sqlite.read_tables(path, since, "agent", ask)


def names(path: Path) -> list[str]:
    """All that is told, reading by reading."""
    found: list[str] = []
    position = ""
    while True:
        batch, after = read(path, position)
        if after == position:
            return found
        found += [event.name for event in batch.events]
        position = after


@contextmanager
def writing(path: Path, *numbers: int) -> Iterator[sqlite3.Connection]:
    """A program that has its database open, as agents do."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = wal")
        database.execute("CREATE TABLE IF NOT EXISTS t (n INTEGER)")
        database.executemany("INSERT INTO t VALUES (?)", [(n,) for n in numbers])
        yield database


def looks(folder: Path) -> dict[str, tuple[int, int]]:
    """All files of a folder, and how they look; not their bytes: closing a file gives up its locks."""
    return {p.name: (p.stat().st_size, p.stat().st_mtime_ns) for p in folder.iterdir() if p.is_file()}


def test_read_while_it_is_written(tmp_path: Path) -> None:
    """The agent goes on writing under an open reading, and is not kept waiting by it."""
    path = tmp_path / "a.db"
    with writing(path, 1, 2, 3) as agent:
        before = looks(tmp_path)
        assert names(path) == ["1", "2", "3"]
        assert looks(tmp_path) == before
        agent.execute("PRAGMA busy_timeout = 0")
        agent.execute("BEGIN IMMEDIATE")
        agent.execute("INSERT INTO t VALUES (4)")
        assert names(path) == ["1", "2", "3"]
        with sqlite.opened(path) as database:
            assert len(database.execute("SELECT n FROM t").fetchall()) == 3
            agent.execute("COMMIT")
        assert names(path) == ["1", "2", "3", "4"]


def test_pieces(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with writing(path, 1, 2, 3) as agent:
        first, position = read(path)
        second, after = read(path, position)
        assert [e.name for e in first.events] == ["1", "2"] and [e.name for e in second.events] == ["3"]
        assert first.digest and second.digest and first.digest != second.digest
        assert first.positions == {str(path): position} and second.positions == {str(path): after}
        assert read(path, after)[1] == after
        agent.execute("INSERT INTO t VALUES (4)")
        assert [e.name for e in read(path, after)[0].events] == ["4"]


def test_rows_that_tell_nothing_do_not_end_a_reading(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with writing(path, -6, -5, -4, -3, -2, -1, 7):
        state = '{"state":{"last":-9}}'
        assert [e.name for e in read(path, state)[0].events] == ["7"]


@pytest.mark.parametrize("beside", [("-wal", "-shm"), ("-wal",), ()])
def test_what_a_crash_left(tmp_path: Path, beside: tuple[str, ...]) -> None:
    """With its log and index all is seen; without them what is in the file; and never a file more or other."""
    path, left = tmp_path / "a.db", tmp_path / "left"
    left.mkdir()
    with writing(path, 1, 2) as agent:
        agent.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        agent.execute("INSERT INTO t VALUES (3)")
        for ending in ("", *beside):
            shutil.copy2(tmp_path / f"a.db{ending}", left)
    before = {p.name: p.read_bytes() for p in left.iterdir()}
    assert names(left / "a.db") == (["1", "2", "3"] if "-shm" in beside else ["1", "2"])
    assert {p.name: p.read_bytes() for p in left.iterdir()} == before


def test_a_database_without_a_log(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path)) as agent:
        agent.execute("CREATE TABLE t (n INTEGER)")
        agent.execute("INSERT INTO t VALUES (1)")
        agent.commit()
        assert names(path) == ["1"]
        agent.execute("INSERT INTO t VALUES (2)")
        assert names(path) == ["1"]
        agent.commit()
        agent.execute("BEGIN EXCLUSIVE")
        batch, position = read(path, "")
        assert (batch.events, position) == ([], "")  # left for the next reading
        agent.rollback()
    assert names(path) == ["1", "2"]


@pytest.mark.parametrize(
    "content", [b"", b"{}\n", b"SQLite format 3\0", b"SQLite format 3\0" + bytes(84) + b"x" * 4000]
)
def test_what_is_no_database(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(content)
    with pytest.raises(Rejected):
        read(path)
    assert not opencode.is_mine(path, {}) and not copilot.is_mine(path, {})
    with pytest.raises(Rejected):
        read(tmp_path / "none.db")


def test_a_database_of_another_shape(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with writing(path, 1) as agent:
        agent.execute("DROP TABLE t")
        with pytest.raises(Rejected, match="agent's database"):
            read(path)


@settings(max_examples=60)
@given(st.data())
def test_damaged_bytes(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """A page changed anywhere: rows, nothing or Rejected."""
    path = tmp_path_factory.mktemp("damaged") / "a.db"
    with closing(sqlite3.connect(path)) as agent:
        agent.execute("CREATE TABLE t (n INTEGER)")
        agent.executemany("INSERT INTO t VALUES (?)", [(n,) for n in range(1, 50)])
        agent.commit()
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(16, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(100, len(content)))])
    try:
        batch, _ = read(path)
    except Rejected:
        return
    assert all(event.name for event in batch.events)


@given(st.text(max_size=60))
def test_any_position(tmp_path_factory: pytest.TempPathFactory, token: str) -> None:
    """A position that is none, or of a version that is no longer known, is the start."""
    path = tmp_path_factory.mktemp("position") / "a.db"
    with writing(path, 1):
        assert [e.name for e in read(path, token)[0].events] == ["1"]
