"""Flags that several commands share, and the filters that people type."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Final

from tachograph.config import Settings, load
from tachograph.errors import ConfigError
from tachograph.scan import Match, Op
from tachograph.store.schema import TABLES

# Tried in this order: the longer ones first, as they begin with the shorter ones.
_OPERATORS: Final[tuple[tuple[str, Op], ...]] = (
    ("!=", "!="),
    ("<=", "<="),
    (">=", ">="),
    ("~", "contains"),
    ("=", "="),
    ("<", "<"),
    (">", ">"),
)
_NAMES: Final = {"session": "session_id", "trace": "trace_id", "call": "call_id", "prompt": "prompt_id"}


def add_json(parser: argparse._ActionsContainer) -> None:
    """The flag --json."""
    parser.add_argument("--json", action="store_true", help="write JSON")


def add_where(parser: argparse.ArgumentParser) -> None:
    """The flag --where, which may be given several times."""
    parser.add_argument(
        "--where",
        metavar="FIELD=VALUE",
        action="append",
        default=[],
        help="only where it holds: agent=pi, model~opus (contains), output_tokens>1000; all of them, if several",
    )


def matches(conditions: Sequence[str], table: str) -> tuple[Match, ...]:
    """The conditions of --where on a table; raises ConfigError for one that is none."""
    types = {column.name: column.type for column in TABLES[table]}
    return tuple(_match(text, types) for text in conditions)


def _match(text: str, types: Mapping[str, str]) -> Match:
    for sign, op in _OPERATORS:
        name, found, value = (part.strip() for part in text.partition(sign))
        if found and name.replace("_", "").replace(".", "").isalnum():
            column = _NAMES.get(name, name)
            return Match(column, op, _value(value, types.get(column, "text"), name))
    raise ConfigError(
        f'command line: --where: got "{text}"; expected FIELD=VALUE, or with !=, ~, <, <=, >, >=',
        "--where agent=claude-code",
    )


def _value(text: str, kind: str, name: str) -> str | int | float | bool:
    """The value as the column's type; raises ConfigError where it is none of that type."""
    try:
        if kind == "bool":
            return {"true": True, "false": False}[text.lower()]
        return int(text) if kind == "int" else float(text) if kind == "float" else text
    except (ValueError, KeyError):
        expected = {"bool": "true or false", "int": "a whole number", "float": "a number"}[kind]
        raise ConfigError(f'command line: --where: {name}: got "{text}"; expected {expected}') from None


def settings(arguments: argparse.Namespace) -> Settings:
    """The settings of this process as far as this command has flags for them."""
    return load({"home": arguments.home})
