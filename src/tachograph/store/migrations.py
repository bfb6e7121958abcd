"""Brings a store of an older version to this one, step by step, and sets aside what is no store at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import duckdb

from tachograph.errors import ConfigError, Corrupt
from tachograph.store import ddl
from tachograph.store.catching_up import TOOL_RUNS_DUE
from tachograph.store.relations import value
from tachograph.store.schema import TABLES, VERSION
from tachograph.store.settling import transaction

Con = duckdb.DuckDBPyConnection


def _make_tool_runs(con: Con) -> None:
    """To version 2: tool runs have a table, which is made once the views over all days are there."""
    con.execute("INSERT INTO meta VALUES (?, '1')", [TOOL_RUNS_DUE])


# A step brings a store from the version before its number to its number. It may do what SQL can; columns and tables
# that are only new need none, `_add_what_is_missing` sees to them.
STEPS: Final[dict[int, Callable[[Con], None]]] = {2: _make_tool_runs}


def migrate(con: Con, steps: dict[int, Callable[[Con], None]] | None = None, newest: int = VERSION) -> None:
    """Make every table that is missing and every step up to `newest`, each in a transaction of its own.

    Raises ConfigError where the store was written by a newer Tachograph: it is left as it is.
    """
    steps = STEPS if steps is None else steps
    found = version(con)
    if found is not None and found > newest:
        raise ConfigError(
            f"store: got schema version {found}; expected at most {newest}: it was written by a newer Tachograph",
            "pip install --upgrade tachograph, or point TACHOGRAPH_HOME to another folder",
        )
    for number in range((newest if found is None else found) + 1, newest + 1):
        with transaction(con):
            con.execute(ddl.create_table("meta"))
            if number in steps:
                steps[number](con)
            _set_version(con, number)
    with transaction(con):
        _add_what_is_missing(con)
        if found is None:
            _set_version(con, newest)


def version(con: Con) -> int | None:
    """The version of the schema that the store was written with; None for an empty database."""
    tables = {row[0] for row in con.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
    if not tables & {"meta", "commits", ddl.physical("spans")}:
        return None
    if "meta" not in tables:
        return 0
    return int(value(con, "SELECT value FROM meta WHERE key = 'schema_version'") or 0)


def _set_version(con: Con, number: int) -> None:
    con.execute(ddl.create_table("meta"))
    con.execute("DELETE FROM meta WHERE key = 'schema_version'")
    con.execute("INSERT INTO meta VALUES ('schema_version', ?)", [str(number)])


def _add_what_is_missing(con: Con) -> None:
    """Add the tables, columns and views that the schema has and the database has not."""
    for table, columns in TABLES.items():
        con.execute(ddl.create_table(table))
        name = ddl.physical(table)
        present = {row[0] for row in con.execute(f"SELECT name FROM pragma_table_info('{name}')").fetchall()}
        for column in columns:
            if column.name not in present:
                default = " DEFAULT ''" if column.type == "text" else ""
                con.execute(f'ALTER TABLE {name} ADD COLUMN "{column.name}" {ddl.TYPES[column.type]}{default}')


# What DuckDB says of a file that is no database, is cut off or was overwritten, in its own words.
_UNREADABLE: Final = (
    "not a valid DuckDB database file",
    "Could not read enough bytes",
    "Corrupt database file",
    "Failure while replaying WAL",
)


def is_unreadable(error: BaseException | None) -> bool:
    """Whether an error at opening says that the file itself is wrong, not the disk or the moment."""
    return isinstance(error, duckdb.Error) and any(sign in str(error) for sign in _UNREADABLE)


def set_aside(path: Path, error: BaseException | None, now_ns: int) -> Corrupt:
    """Rename a file that is no database, and its log, out of the way; returns the error that tells of it.

    Nothing is deleted: what can be saved of it is for people to judge.
    """
    kept = path.with_name(f"{path.name}.corrupt-{now_ns // 1_000_000_000}")
    path.rename(kept)
    log = path.with_name(path.name + ".wal")
    if log.exists():
        log.rename(kept.with_name(kept.name + ".wal"))
    return Corrupt(
        f"{path}: got a file that DuckDB cannot read ({str(error).splitlines()[0]}); expected a database."
        f" It is kept as {kept.name}",
        "start again for a new store, or restore a backup into an empty home: tachograph restore FOLDER",
    )
