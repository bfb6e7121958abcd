"""Ask the store in SQL, read-only; docs/sql.md describes its tables: calls, sessions, spans, events and the rest."""

from __future__ import annotations

import argparse
import csv
import sys

from tachograph.cli.arguments import add_json, number, settings
from tachograph.cli.formats import text
from tachograph.cli.tables import Column, write_json, write_table
from tachograph.errors import QueryError
from tachograph.scan import Columns

EXAMPLES = (
    'tachograph sql "select model, count(*) from calls group by all"',
    'tachograph sql --csv "select * from sessions" > sessions.csv',
)
_LIMIT = 1000


def arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `sql`."""
    parser.add_argument("query", help="the query, or - to read it from stdin")
    parser.add_argument("--limit", metavar="N", type=number, default=_LIMIT, help=f"at most N rows (default: {_LIMIT})")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--csv", action="store_true", help="write CSV")
    add_json(form)


def run(arguments: argparse.Namespace) -> int:
    """Print the answer."""
    from tachograph.cli.reading import open_reader

    query = sys.stdin.read() if arguments.query == "-" else arguments.query
    if not query.strip():
        raise QueryError("query: got nothing; expected a SQL query", 'tachograph sql "select * from sessions"')
    with open_reader(settings(arguments)) as reader:
        answer = reader.sql(query, arguments.limit)
    _write(answer, arguments)
    if len(answer) == arguments.limit:
        print(f"tachograph: the first {arguments.limit} rows; more with --limit", file=sys.stderr)
    return 0


def _write(answer: Columns, arguments: argparse.Namespace) -> None:
    if arguments.json:
        write_json(answer.rows())
        return
    rows = ([text(row[name]) for name in answer.names] for row in answer.rows())
    if arguments.csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(answer.names)
        writer.writerows(rows)
    else:
        write_table([_column(answer, name) for name in answer.names], rows)


def _column(answer: Columns, name: str) -> Column:
    is_number = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in answer.data[name] if v is not None)
    return Column(name, is_number, width_min=0 if is_number else 8)
