"""Count model calls, tokens and cost, each call once, in total and by day, model, session or whatever a call has."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from tachograph.cli.arguments import add_json, add_where, conditions, number, settings
from tachograph.cli.formats import count, plural, usd
from tachograph.cli.periods import add_period, period, timezone_name
from tachograph.cli.tables import Column, write_json, write_lines, write_table

EXAMPLES = ("tachograph usage --by day,model --since 7d", "tachograph usage --by project --where agent:codex --json")

# Key of a row -> heading and rank; the counters that a narrow terminal can do without go first.
_COUNTERS = {
    "calls": Column("calls", True),
    "failed_calls": Column("failed", True, 3),
    "partial": Column("partial", True, 8),
    "input_tokens": Column("input", True, 1),
    "cache_read_tokens": Column("cache read", True, 4),
    "cache_write_tokens": Column("cache write", True, 6),
    "output_tokens": Column("output", True, 1),
    "reasoning_tokens": Column("reasoning", True, 7),
    "cost_usd": Column("cost", True),
    "unpriced_calls": Column("unpriced", True, 5),
}
_NAME = 18  # columns of a name, by which models are told apart
_ALWAYS = ("calls", "input_tokens", "output_tokens", "cost_usd")
_KINDS = {
    "cost_billed_usd": "billed by the provider",
    "cost_source_estimate_usd": "estimated by the source",
    "cost_computed_usd": "computed from list prices",
    "cost_notional_usd": "notional: paid by a subscription",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `usage`."""
    from tachograph.questions.counting import DIMENSIONS, TIMES

    names = ", ".join((*TIMES, *DIMENSIONS))
    parser.add_argument("--by", metavar="NAMES", default="", help=f"one or more, with commas, of {names}")
    add_period(parser)
    add_where(parser)
    parser.add_argument("--limit", metavar="N", type=number, help="only the first N rows")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the usage."""
    from tachograph import questions
    from tachograph.cli.reading import demo_told, open_reader

    timezone = timezone_name(arguments)
    since, until = period(arguments, questions.zone_of(timezone))
    by = tuple(name.strip() for name in arguments.by.split(",") if name.strip())
    with open_reader(settings(arguments)) as reader:
        where = conditions(reader, arguments.where, "calls")
        answer = questions.usage(reader, by, since, until, where, timezone)
        demo = demo_told(reader)
    answer["rows"] = answer["rows"][: arguments.limit]
    if arguments.json:
        write_json(answer)
    else:
        _print(answer, demo)
    return 0


def _print(answer: Mapping[str, Any], demo: list[str]) -> None:
    totals, rows = answer["totals"], answer["rows"]
    if not totals["calls"] and not totals["failed_calls"]:
        write_lines(["no model calls; tachograph doctor says what arrives"])
        return
    shown = [name for name in _COUNTERS if name in _ALWAYS or totals[name]]
    names = answer["by"]
    columns = [Column(name, width_min=8, width_good=_NAME) for name in names] + [_COUNTERS[name] for name in shown]
    body = [[str(row[name]) or "-" for name in names] + _cells(row, shown) for row in rows]
    footer = _cells(totals, shown)
    if names:
        write_table(columns, body, ["total", *[""] * (len(names) - 1), *footer])
    else:
        write_table(columns, [footer])
    write_lines([*_notes(totals), *demo])


def _cells(row: Mapping[str, Any], names: list[str]) -> list[str]:
    return [usd(row[name]) if name == "cost_usd" else count(row[name]) for name in names]


def _notes(totals: Mapping[str, Any]) -> list[str]:
    """What the cost is made of, and what the sums do not hold."""
    parts = [f"{usd(totals[key])} {words}" for key, words in _KINDS.items() if totals[key]]
    notes = ["cost: " + "; ".join(parts)] if parts else []
    if totals["unpriced_calls"]:
        calls = plural(totals["unpriced_calls"], "call")
        notes.append(f"unpriced: {calls} of unknown price or tokens, not in the cost")
    if totals["partial"]:
        calls = plural(totals["partial"], "call")
        notes.append(f"partial: {calls} without all their tokens, or from a source that may have lost others")
    return notes
