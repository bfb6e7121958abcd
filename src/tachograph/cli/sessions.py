"""List sessions, the newest first: who, about what, how many calls and tokens, what they cost."""

from __future__ import annotations

import argparse
from typing import Any

from tachograph.cli.arguments import add_json, add_where, conditions, number, settings
from tachograph.cli.formats import count, duration, moment, nanousd
from tachograph.cli.periods import add_period, period, timezone_name
from tachograph.cli.tables import Column, write_json, write_lines, write_table

EXAMPLES = ("tachograph sessions --since today", 'tachograph sessions "fix the parser" --where agent:pi --json')

_ORDERS = {"newest": ("end_ns", True), "cost": ("cost_nanousd", True), "tokens": ("input_tokens", True)}
_COLUMNS = (
    Column("session", width_min=12),
    Column("ended", rank=2),
    Column("took", True, 7),
    Column("agent", rank=1, width_min=8),
    Column("project", rank=6, width_min=8),
    Column("about", rank=3, width_min=16),
    Column("calls", True, 1),
    Column("failed", True, 5),
    Column("tools", True, 8),
    Column("input", True, 4),
    Column("output", True, 4),
    Column("cost", True),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `sessions`."""
    parser.add_argument("text", nargs="?", default="", help="only those that have it in id, title, agent, project, ...")
    add_period(parser)
    add_where(parser)
    parser.add_argument("--sort", choices=list(_ORDERS), default="newest", help="by what (default: newest)")
    parser.add_argument("--limit", metavar="N", type=number, default=30, help="at most N (default: 30)")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the sessions."""
    from tachograph import questions
    from tachograph.cli.reading import open_reader

    zone = questions.zone_of(timezone_name(arguments))
    since, until = period(arguments, zone)
    order = _ORDERS[arguments.sort]
    with open_reader(settings(arguments)) as reader:
        where = conditions(reader, arguments.where, "sessions")
        found = questions.sessions(reader, since, until, where, arguments.text, order, arguments.limit)
    if arguments.json:
        write_json({"sessions": [row | {"cost_usd": _usd(row)} for row in found]})
    elif found:
        write_table(_COLUMNS, [_cells(row, zone) for row in found])
    else:
        write_lines(["no sessions; tachograph doctor says what arrives"])
    return 0


def _usd(row: dict[str, Any]) -> float | None:
    return None if row["cost_nanousd"] is None else row["cost_nanousd"] / 1e9


def _marks(row: dict[str, Any]) -> str:
    marks = {"[demo]": row["is_demo"], "[sub-agent]": row["lineage"] == "subagent", "[fork]": row["lineage"] == "fork"}
    return "".join(f"{mark} " for mark, is_so in marks.items() if is_so)


def _cells(row: dict[str, Any], zone: Any) -> list[str]:
    took = duration(row["end_ns"] - row["start_ns"]) if row["start_ns"] and row["end_ns"] else "unknown"
    return [
        row["session_id"],
        moment(row["end_ns"], zone),
        took,
        row["agent"] or "-",
        row["project"] or "-",
        _marks(row) + (row["title"] or "-"),
        count(row["calls"]),
        count(row["failed_calls"]),
        count(row["tool_runs"]),
        count(row["input_tokens"]),
        count(row["output_tokens"]),
        nanousd(row["cost_nanousd"]),
    ]
