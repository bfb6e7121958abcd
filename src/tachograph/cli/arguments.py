"""Flags that several commands share, and the filters that people type."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Final

from tachograph.config import Settings, load
from tachograph.errors import ConfigError
from tachograph.scan import Match, Op

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


def add_json(parser: argparse.ArgumentParser) -> None:
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


def matches(conditions: Sequence[str]) -> tuple[Match, ...]:
    """The conditions of --where; raises ConfigError for one that is none."""
    return tuple(_match(text) for text in conditions)


def _match(text: str) -> Match:
    for sign, op in _OPERATORS:
        name, found, value = text.partition(sign)
        if found and name.strip().replace("_", "").replace(".", "").isalnum():
            column = name.strip()
            return Match(_NAMES.get(column, column), op, _value(value.strip()))
    raise ConfigError(
        f'command line: --where: got "{text}"; expected FIELD=VALUE, or with !=, ~, <, <=, >, >=',
        "--where agent=claude-code",
    )


def _value(text: str) -> str | int | float | bool:
    """A number or a truth value where the text is one; columns of text compare with the text of it."""
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def settings(arguments: argparse.Namespace) -> Settings:
    """The settings of this process as far as this command has flags for them."""
    return load({"home": arguments.home})
