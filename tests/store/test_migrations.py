"""Stores of older versions, of newer ones, and files that are no store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from made import batch, opened, rows, span
from tachograph.errors import ConfigError, Corrupt
from tachograph.store import ddl, migrations
from tachograph.store.connection import DATABASE_NAME
from tachograph.store.schema import TABLES, VERSION


def old_store(folder: Path) -> None:
    """A store as version 0 wrote it: no meta, no calls, spans without some columns."""
    with duckdb.connect(folder / DATABASE_NAME) as con:
        con.execute("CREATE TABLE commits (seq BIGINT, time_ns BIGINT, spans BIGINT, events BIGINT, points BIGINT)")
        con.execute("INSERT INTO commits VALUES (1, 1762732800000000000, 1, 0, 0)")
        con.execute("CREATE TABLE spans_hot (seq BIGINT, trace_id VARCHAR, span_id VARCHAR, name VARCHAR)")
        con.execute("INSERT INTO spans_hot VALUES (1, 'aa', 'bb', 'from long ago')")
        con.execute("CREATE VIEW spans AS SELECT * FROM spans_hot")


def test_an_old_store_is_brought_up_to_date_with_its_data(tmp_path: Path) -> None:
    old_store(tmp_path)
    with opened(tmp_path) as store:
        asked = "SELECT seq, name, role, start_ns, is_call FROM spans"
        assert rows(store, asked) == [
            {"seq": 1, "name": "from long ago", "role": "", "start_ns": None, "is_call": None}
        ]
        assert rows(store, "SELECT value FROM meta WHERE key = 'schema_version'") == [{"value": str(VERSION)}]
        assert store.commit([batch(span(1))]) == 2
    with opened(tmp_path) as store:
        assert rows(store, "SELECT count(*) AS n FROM spans") == [{"n": 2}]


def test_every_table_has_every_column_of_the_schema(tmp_path: Path) -> None:
    old_store(tmp_path)
    with opened(tmp_path) as store:
        for table, columns in TABLES.items():
            kept = {row["name"] for row in rows(store, f"SELECT name FROM pragma_table_info('{table}')")}
            assert kept == {column.name for column in columns}, table


def test_steps_run_once_each_and_in_order(tmp_path: Path) -> None:
    ran: list[int] = []

    def step(number: int) -> Callable[[duckdb.DuckDBPyConnection], None]:
        return lambda con: ran.append(number)

    steps = {number: step(number) for number in (1, 2, 3)}
    with duckdb.connect(tmp_path / "x") as con:
        con.execute("CREATE TABLE commits (seq BIGINT)")
        migrations.migrate(con, steps, newest=2)
        migrations.migrate(con, steps, newest=2)
        assert ran == [1, 2]
        migrations.migrate(con, steps, newest=3)
        assert ran == [1, 2, 3]
        assert migrations.version(con) == 3


def test_a_step_that_fails_leaves_the_version_before_it(tmp_path: Path) -> None:
    def fails(con: duckdb.DuckDBPyConnection) -> None:
        con.execute("CREATE TABLE half (a BIGINT)")
        con.execute("SELECT nothing FROM nowhere")

    with duckdb.connect(tmp_path / "x") as con:
        migrations.migrate(con)
        with pytest.raises(duckdb.CatalogException):
            migrations.migrate(con, {VERSION + 1: fails}, newest=VERSION + 1)
        assert migrations.version(con) == VERSION
        assert con.execute("SELECT * FROM duckdb_tables() WHERE table_name = 'half'").fetchall() == []


def test_a_new_store_needs_no_step(tmp_path: Path) -> None:
    def never(con: duckdb.DuckDBPyConnection) -> None:
        raise AssertionError(con)

    with duckdb.connect(tmp_path / "x") as con:
        migrations.migrate(con, {VERSION: never})
        assert migrations.version(con) == VERSION
        assert con.execute(f"SELECT count(*) FROM {ddl.physical('spans')}").fetchall() == [(0,)]


def test_a_store_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    with opened(tmp_path):
        pass
    with duckdb.connect(tmp_path / DATABASE_NAME) as con:
        con.execute("UPDATE meta SET value = '99' WHERE key = 'schema_version'")
    kept = (tmp_path / DATABASE_NAME).read_bytes()
    with pytest.raises(ConfigError, match=f"99.*{VERSION}"), opened(tmp_path):
        pass
    assert (tmp_path / DATABASE_NAME).read_bytes() == kept


@pytest.mark.parametrize("damage", ["text", "cut", "overwritten"])
def test_what_is_no_database_is_set_aside_and_kept(tmp_path: Path, damage: str) -> None:
    path = tmp_path / DATABASE_NAME
    with opened(tmp_path) as store:
        store.commit([batch(*(span(number, name="x" * 300) for number in range(3000)))])
    whole = path.read_bytes()
    damaged = {
        "text": b"this is a letter to my aunt\n" * 1000,
        "cut": whole[: len(whole) // 3],
        "overwritten": b"\xff" * 12288 + whole[12288:],
    }[damage]
    path.write_bytes(damaged)
    with pytest.raises(Corrupt, match="corrupt-"), opened(tmp_path):
        pass
    (kept,) = [file for file in tmp_path.glob("*.corrupt-*") if file.suffix != ".wal"]
    assert kept.read_bytes() == damaged
    with opened(tmp_path) as store:
        assert store.commit([batch(span(1))]) == 1


def test_a_file_that_was_made_and_never_written_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / DATABASE_NAME).touch()
    with opened(tmp_path) as store:
        assert store.sequence() == 0
