"""Search prompts, answers, tool arguments and results for a text, the newest first."""

from __future__ import annotations

import argparse

from tachograph.cli.arguments import add_json, number, settings
from tachograph.cli.formats import moment
from tachograph.cli.periods import add_timezone, timezone_name
from tachograph.cli.tables import Column, write_json, write_lines, write_table

EXAMPLES = ('tachograph search "permission denied"', "tachograph search README --limit 5 --json")

_COLUMNS = (
    Column("time", rank=2),
    Column("session", rank=1, width_min=12),
    Column("where", rank=3, width_min=8),
    Column("text", width_min=20),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `search`."""
    parser.add_argument("text", help="what to look for, in any case of letters")
    parser.add_argument("--limit", metavar="N", type=number, default=20, help="at most N texts (default: 20)")
    add_timezone(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the hits."""
    from tachograph import questions
    from tachograph.cli.reading import open_reader

    zone = questions.zone_of(timezone_name(arguments))
    with open_reader(settings(arguments)) as reader:
        hits = questions.search(reader, arguments.text, arguments.limit)
    if arguments.json:
        write_json({"hits": hits})
    elif hits:
        rows = []
        for hit in hits:
            first = hit["records"][0] if hit["records"] else {}
            where = f"{first.get('role', '').replace('_', ' ')} {first.get('slot', '')}".strip()
            when = moment(first.get("time_ns"), zone)
            rows.append([when, first.get("session_id") or first.get("trace_id") or "-", where, hit["excerpt"]])
        write_table(_COLUMNS, rows)
    else:
        write_lines(["not found"])
    return 0
