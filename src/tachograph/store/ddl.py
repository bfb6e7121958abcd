"""Makes the tables of the schema in DuckDB: the big ones as hot tables under a view, the others by their own name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tachograph.store.schema import TABLES, Column

# Past days of these are sealed into Parquet files; readers use only the view over both.
BIG: Final = ("spans", "events", "samples", "contents")

# Their JSON is compressed with zstd: on disk a third of DuckDB's own choice, for no more time. The text of contents is
# not: that would save little, and searching it would take three times as long.
PACKED: Final = (*BIG, "reports")

TYPES: Final = {
    "text": "VARCHAR",
    "json": "VARCHAR",
    "int": "BIGINT",
    "float": "DOUBLE",
    "bool": "BOOLEAN",
    "blob": "BLOB",
}


def physical(table: str) -> str:
    """The name of the table that new rows of `table` go into."""
    return f"{table}_hot" if table in BIG else table


def create_table(table: str, columns: tuple[Column, ...] | None = None) -> str:
    """The statement that makes a table; text is never NULL, so what a row does not say is ''."""
    is_packed = table in PACKED
    lines = ", ".join(_column(column, is_packed) for column in columns or TABLES[table])
    return f"CREATE TABLE IF NOT EXISTS {physical(table)} ({lines})"


def create_view(table: str) -> str:
    """The statement that makes the view of a big table while no day of it is sealed."""
    names = ", ".join(f'"{column.name}"' for column in TABLES[table])
    return f"CREATE VIEW IF NOT EXISTS {table} AS SELECT {names} FROM {physical(table)}"


def statements() -> Iterator[str]:
    """Everything that an empty database needs, and that an existing one lets pass."""
    for table in TABLES:
        yield create_table(table)
    for table in BIG:
        yield create_view(table)


def _column(column: Column, is_packed: bool) -> str:
    default = " DEFAULT ''" if column.type == "text" else ""
    compression = " USING COMPRESSION zstd" if is_packed and column.type == "json" else ""
    return f'"{column.name}" {TYPES[column.type]}{default}{compression}'
