"""What each tool did: runs, errors, how long they took and how much they gave back, each run counted once."""

from __future__ import annotations

import argparse
from typing import Any

from tachograph.cli.arguments import add_json, add_where, conditions, number, settings
from tachograph.cli.formats import count, duration, size
from tachograph.cli.periods import add_period, period, timezone_name
from tachograph.cli.tables import Column, write_json, write_lines, write_table

EXAMPLES = ("tachograph tools --since 7d", "tachograph tools --by project --where tool:bash --json")

_BY = {"tool": "tool_name", "agent": "agent", "subagent": "subagent", "project": "project", "user": "user"}
_COLUMNS = (
    Column("runs", True), Column("errors", True), Column("failing", True, 3), Column("mean", True, 5),
    Column("p50", True, 2), Column("p95", True, 1), Column("slowest", True, 6), Column("total", True, 4),
    Column("biggest result", True, 7), Column("sessions", True, 8),
)  # fmt: skip


def arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `tools`."""
    parser.add_argument("--by", metavar="NAME", choices=tuple(_BY), default="tool", help=f"one of {', '.join(_BY)}")
    add_period(parser)
    add_where(parser)
    parser.add_argument("--limit", metavar="N", type=number, help="only the first N rows")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the tools, the most used first."""
    from tachograph.cli.reading import demo_told, open_reader
    from tachograph.questions import zone_of
    from tachograph.questions.tools import during, tools

    since, until = period(arguments, zone_of(timezone_name(arguments)))
    by = _BY[arguments.by]
    with open_reader(settings(arguments)) as reader:
        where = (*conditions(reader, arguments.where, "tool_runs"), *during(since, until))
        rows = tools(reader, where, by)[: arguments.limit]
        demo = demo_told(reader)
    if arguments.json:
        write_json(rows)
    elif rows:
        write_table([Column(arguments.by, width_min=8, width_good=20), *_COLUMNS], [_cells(row, by) for row in rows])
        write_lines(demo)
    else:
        write_lines(["no tool runs; tachograph doctor says what arrives"])
    return 0


def _cells(row: dict[str, Any], by: str) -> list[str]:
    biggest = row["result_bytes_max"]
    return [
        str(row[by]) or "-",
        count(row["runs"]),
        count(row["errors"]),
        f"{row['error_share']:.1%}",
        *(duration(row[name]) for name in ("mean_ns", "p50_ns", "p95_ns", "max_ns", "total_ns")),
        "unknown" if biggest is None else size(biggest),
        count(row["sessions"]),
    ]
