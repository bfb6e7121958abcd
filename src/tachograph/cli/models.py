"""How models performed: latency, time to the first token, tokens per second, errors, what a call of them costs."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any

from tachograph.cli.arguments import add_json, add_where, conditions, settings
from tachograph.cli.formats import count, duration, nanousd, plural, usd
from tachograph.cli.periods import add_period, period, timezone_name
from tachograph.cli.tables import Column, write_json, write_lines, write_table

EXAMPLES = ("tachograph models --since 7d", "tachograph models --where agent:codex --json")

# Heading and rank, and how a row is written there; what a narrow terminal can do without goes first.
_COLUMNS: tuple[tuple[Column, Callable[[Mapping[str, Any]], str]], ...] = (
    (Column("model", width_min=12, width_good=20), lambda row: row["model"] or "-"),
    (Column("calls", True), lambda row: count(row["calls"])),
    (Column("failed", True, 3), lambda row: count(row["failed_calls"])),
    (Column("p50", True), lambda row: duration(row["p50_ns"])),
    (Column("p95", True, 1), lambda row: duration(row["p95_ns"])),
    (Column("p99", True, 6), lambda row: duration(row["p99_ns"])),
    (Column("first token", True, 4), lambda row: duration(row["ttft_p50_ns"])),
    (Column("tokens/s", True, 5), lambda row: _rate(row["tokens_per_s"])),
    (Column("cache", True, 5), lambda row: _share(row["cache_share"])),
    (Column("a call", True, 2), lambda row: nanousd(row["cost_per_call_nanousd"])),
    (Column("cost", True), lambda row: usd(row["cost_usd"])),
    (Column("errors", False, 7), lambda row: ", ".join(f"{kind} {n}" for kind, n in row["errors"][:3])),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `models`."""
    add_period(parser)
    add_where(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print each model's figures, and which of them answered instead of another."""
    from tachograph import questions
    from tachograph.cli.reading import demo_told, open_reader
    from tachograph.questions.performance import fallbacks, performance

    since, until = period(arguments, questions.zone_of(timezone_name(arguments)))
    with open_reader(settings(arguments)) as reader:
        where = conditions(reader, arguments.where, "calls")
        rows = performance(reader, "model", since, until, where)
        switched = fallbacks(reader, since, until, where)
        demo = demo_told(reader)
    if arguments.json:
        write_json({"models": rows, "fallbacks": switched})
    elif rows:
        write_table([column for column, _ in _COLUMNS], [[cell(row) for _, cell in _COLUMNS] for row in rows])
        write_lines([*_notes(switched), *demo])
    else:
        write_lines(["no model calls; tachograph doctor says what arrives"])
    return 0


def _rate(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1f}"


def _share(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1%}"


def _notes(switched: list[dict[str, Any]]) -> list[str]:
    """Which models answered instead of the ones asked for."""

    def told(row: Mapping[str, Any]) -> str:
        return f"{plural(row['calls'], 'call')} for {row['requested']}: answered by {row['served']}"

    return [told(row) for row in switched]
