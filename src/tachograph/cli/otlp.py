"""Write model calls as OpenTelemetry's GenAI conventions say them: one span for each call, or the client metrics.

OTLP/JSON, one request a line, ready for any OTLP/HTTP backend: names are the same for every agent, each call stands
once, with tokens and cost as the ledger has them. Texts (prompts, answers) are left out. With --trace it is the spans
of one trace instead, as they came and with their texts.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from tachograph.cli.arguments import add_json, add_where, conditions, settings
from tachograph.cli.periods import add_period, period, timezone_name
from tachograph.errors import ConfigError, QueryError

if TYPE_CHECKING:
    from tachograph.scan import Condition, Reader

EXAMPLES = ("tachograph otlp traces --since today", "tachograph otlp metrics --since 7d --where agent:codex")

_AT_ONCE: Final = 5000  # calls: some megabytes in memory, and a request that backends take (usually 4 to 20 MiB)


def arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `otlp`."""
    parser.add_argument("signal", choices=("traces", "metrics"), help="spans of the calls, or their metrics")
    parser.add_argument("--trace", metavar="ID", default="", help="the spans of this trace as they came (traces only)")
    add_period(parser)
    add_where(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write the requests."""
    from tachograph import otlp_messages, questions
    from tachograph.cli.reading import open_reader
    from tachograph.questions import conventions
    from tachograph.scan import Match

    if arguments.trace:
        return _trace(arguments)
    since, until = period(arguments, questions.zone_of(timezone_name(arguments)))
    when = [Match("start_ns", ">=", since)] if since is not None else []
    when += [Match("start_ns", "<", until)] if until is not None else []
    with open_reader(settings(arguments)) as reader:
        pages = _pages(reader, (*when, *conditions(reader, arguments.where, "calls")))
        if arguments.signal == "traces":
            for page in pages:
                _write(otlp_messages.to_json(otlp_messages.traces(conventions.spans(page))))
        elif points := conventions.points(chain.from_iterable(pages)):
            _write(otlp_messages.to_json(otlp_messages.metrics(points)))
    return 0


def _trace(arguments: argparse.Namespace) -> int:
    """Write the spans of one trace."""
    from tachograph import otlp_messages
    from tachograph.cli.reading import open_reader
    from tachograph.questions.kept_spans import kept_spans

    if arguments.signal != "traces" or arguments.since or arguments.until or arguments.where:
        raise ConfigError("--trace: got it with metrics, a period or --where; expected traces and it alone")
    is_known = False
    with open_reader(settings(arguments)) as reader:
        for page in kept_spans(reader, arguments.trace):
            is_known = True
            _write(otlp_messages.to_json(otlp_messages.traces(page)))
    if not is_known:
        raise QueryError(f'--trace: got "{arguments.trace}"; no span of such a trace is kept', "tachograph sessions")
    return 0


def _pages(reader: Reader, where: Sequence[Condition]) -> Iterator[list[dict[str, Any]]]:
    """All calls in order of their ids, so many at once."""
    from tachograph.questions.lookup import CALL_COLUMNS
    from tachograph.scan import Match, Scan

    last = ""
    while True:
        asked = (*where, Match("call_id", ">", last))
        select = {name: name for name in CALL_COLUMNS}
        page = reader.scan(Scan("calls", dict(select), asked, order_by=(("call_id", False),), limit=_AT_ONCE)).rows()
        if not page:
            return
        yield page
        last = page[-1]["call_id"]


def _write(request: bytes) -> None:
    sys.stdout.write(request.decode() + "\n")
