"""Flags that several commands share, and the filters that people type."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from tachograph.config import Settings, load

if TYPE_CHECKING:
    from tachograph.questions.filters import Table
    from tachograph.scan import Condition, Reader


_NUMBER_MAX: Final = 1_000_000_000


def add_json(parser: argparse._ActionsContainer) -> None:
    """The flag --json."""
    parser.add_argument("--json", action="store_true", help="write JSON")


def number(text: str) -> int:
    """A number of rows, as a flag gives it: 1 or more."""
    if not (text.isascii() and text.isdigit()) or not 0 < int(text) <= _NUMBER_MAX:
        raise argparse.ArgumentTypeError(f'got "{text}"; expected a number from 1 to {_NUMBER_MAX:,}')
    return int(text)


def add_where(parser: argparse.ArgumentParser) -> None:
    """The flag --where, which may be given several times."""
    parser.add_argument(
        "--where",
        metavar="FILTER",
        action="append",
        default=[],
        help='only what fits: agent:pi model:opus cost>0.5 tool:bash error:true "a text"; all of them, if several',
    )


def conditions(reader: Reader, filters: Sequence[str], table: Table) -> tuple[Condition, ...]:
    """What the flags --where ask of a table; raises QueryError for one that cannot be read."""
    from tachograph.questions.filters import conditions as read
    from tachograph.store.schema import TABLES

    columns = {column.name: column.type for column in TABLES[table]}
    return tuple(condition for text in filters for condition in read(reader, text, table, columns))


def settings(arguments: argparse.Namespace) -> Settings:
    """The settings of this process as far as this command has flags for them."""
    return load({"home": arguments.home})
