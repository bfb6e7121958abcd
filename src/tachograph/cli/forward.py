"""Say how far each destination is, try it, or send it something once more; with a running server or without.

status: how far each one is; exit 1 where one takes nothing until somebody acts. test: ask each whether it would take
something; exit 1 where one would not. backfill: begin again at a time. refused: what destinations would not take.
retry: send that again. What backfill and retry ask for is done by the running server, or after the next start.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING, Any

from tachograph.cli import running
from tachograph.cli.arguments import add_json, settings
from tachograph.cli.formats import count, duration, moment
from tachograph.cli.periods import add_timezone, clock, parse, timezone_name
from tachograph.cli.tables import Column, write_json, write_lines, write_table
from tachograph.config import Settings, surroundings
from tachograph.errors import ConfigError, TachographError

if TYPE_CHECKING:
    from tachograph.destinations import Destination
    from tachograph.pipeline.forwarding import Standing
    from tachograph.pipeline.progress import Letter, Progress

EXAMPLES = ("tachograph forward status", "tachograph forward backfill acme --since 7d")

_NONE = "nothing is forwarded: [forwarders.NAME] in tachograph.toml says where to"
_STATUS = (
    Column("destination", width_min=8),
    Column("kind", rank=4),
    Column("to", rank=3, width_min=12),
    Column("state"),
    Column("behind", True),
    Column("by", True, 5),
    Column("sent", True, 2),
    Column("refused", True),
    Column("last answer", rank=1, width_min=12),
)
_REFUSED = (
    Column("id", True),
    Column("destination", width_min=8),
    Column("when", rank=2),
    Column("of", rank=3),
    Column("records", True),
    Column("first", rank=4, width_min=12),
    Column("answer", width_min=20),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `forward`."""
    deeds = ", ".join(_DEEDS)
    parser.add_argument(
        "what", metavar="WHAT", choices=list(_DEEDS), nargs="?", default="status", help=f"one of {deeds}"
    )
    parser.add_argument("name", metavar="NAME", nargs="?", default="", help="of a destination; of retry also an id")
    parser.add_argument("--since", metavar="WHEN", help="of backfill: from 7d, 24h, today, 2026-11-01, all")
    add_timezone(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Do what is asked for."""
    if arguments.since and arguments.what != "backfill":
        raise ConfigError(f"command line: --since: got it for {arguments.what}; expected it for backfill")
    return _DEEDS[arguments.what](arguments, settings(arguments))


def _status(arguments: argparse.Namespace, chosen: Settings) -> int:
    from tachograph import questions
    from tachograph.cli.reading import open_reader
    from tachograph.pipeline import routing
    from tachograph.pipeline.forwarding import standing
    from tachograph.pipeline.progress import State

    zone = questions.zone_of(timezone_name(arguments))
    found: list[Standing] = []
    wanted = _destinations(chosen, arguments.name)
    environment = surroundings(chosen).environment
    for one in wanted:
        if one.is_enabled:
            routing.route(one, environment).forwarder.close()  # raises what would stop the start
    if wanted:
        with open_reader(chosen, is_settled=False) as reader, _progress(chosen) as progress:
            for one in wanted:
                state = progress.state(one.name) or State(cursor=reader.sequence())
                told = standing(one, routing.address(one), state, reader, progress, clock())
                told.word = told.word if one.is_enabled else "off"
                found.append(told)
    is_running = running.find(chosen.home) is not None
    if arguments.json:
        write_json({"is_running": is_running, "destinations": [_told(one) for one in found]})
    elif found:
        write_table(_STATUS, [_row(one, zone) for one in found])
        write_lines(["behind: commits that are not sent yet; sent and refused: records and pieces of requests"])
        if not is_running:
            write_lines(["no server is running: nothing is sent until one is"])
    else:
        write_lines([_NONE])
    return 1 if any(one.word == "refusing" for one in found) else 0


def _told(one: Standing) -> dict[str, Any]:
    from msgspec import structs

    return structs.asdict(one) | {"state": structs.asdict(one.state)}


def _row(one: Standing, zone: tzinfo) -> list[str]:
    state = one.state
    answered = f"{state.answer} ({moment(state.answered_ns, zone)})" if state.answered_ns else "-"
    again = f", again {moment(state.retry_ns, zone, with_seconds=True)}" if one.word in ("waiting", "refusing") else ""
    lag = duration(one.lag_ns) if one.lag_commits else "-"
    sums = [count(one.lag_commits), lag, count(state.sent), count(one.refused_kept)]
    return [one.name, one.kind, one.address, one.word + again, *sums, answered]


def _test(arguments: argparse.Namespace, chosen: Settings) -> int:
    from tachograph.pipeline import routing

    environment = surroundings(chosen).environment
    found: list[dict[str, Any]] = []
    for one in _destinations(chosen, arguments.name):
        told = {"name": one.name, "kind": one.kind, "address": routing.address(one), "is_good": True, "hint": ""}
        try:
            forwarder = routing.route(one, environment).forwarder
            with closing(forwarder):
                told["answer"] = forwarder.probe().answer
        except TachographError as error:
            told |= {"is_good": False, "answer": error.what, "hint": error.hint}
        found.append(told)
    if arguments.json:
        write_json({"destinations": found})
    else:
        write_lines(_tested(found) if found else [_NONE])
    return 0 if all(one["is_good"] for one in found) else 1


def _tested(found: list[dict[str, Any]]) -> Iterator[str]:
    for one in found:
        word = "would take it" if one["is_good"] else "would not take it"
        yield f"{one['name']}: {one['address']} {word}: {one['answer']}"
        if one["hint"]:
            yield f"    try: {one['hint']}"


def _backfill(arguments: argparse.Namespace, chosen: Settings) -> int:
    from tachograph import questions
    from tachograph.cli.reading import open_reader
    from tachograph.scan import Agg, Match, Scan

    if not arguments.name or not arguments.since:
        raise ConfigError("forward: backfill: expected a destination and a time", EXAMPLES[1])
    (destination,) = _destinations(chosen, arguments.name)
    zone = questions.zone_of(timezone_name(arguments))
    since = parse(arguments.since, datetime.now(zone), "--since")
    where = (Match("time_ns", ">=", since),)
    with open_reader(chosen, is_settled=False) as reader, _progress(chosen) as progress:
        row = reader.scan(Scan("commits", {"first": Agg("min", "seq"), "n": Agg("count")}, where)).rows()[0]
        if row["n"]:
            progress.rewind(destination.name, row["first"] - 1)
    if arguments.json:
        write_json({"name": destination.name, "commits": row["n"]})
    else:
        write_lines([f"{destination.name}: {count(row['n'])} commits are sent once more"])
    return 0


def _refused(arguments: argparse.Namespace, chosen: Settings) -> int:
    from msgspec import structs

    from tachograph import questions

    zone = questions.zone_of(timezone_name(arguments))
    with _progress(chosen) as progress:
        letters = progress.letters(arguments.name)
    if arguments.json:
        write_json({"refused": [structs.asdict(letter) for letter in letters]})
    elif letters:
        write_table(_REFUSED, [_cells(letter, zone) for letter in letters])
        write_lines(["to send them again: tachograph forward retry"])
    else:
        write_lines(["nothing was refused"])
    return 0


def _cells(letter: Letter, zone: tzinfo) -> list[str]:
    when = moment(letter.time_ns, zone)
    first = letter.keys[0] if letter.keys else "-"
    return [str(letter.id), letter.destination, when, letter.route, count(letter.rejected), first, letter.answer]


def _retry(arguments: argparse.Namespace, chosen: Settings) -> int:
    name, letter_id = arguments.name, None
    if name.isascii() and name.isdigit():
        name, letter_id = "", int(arguments.name)
    with _progress(chosen) as progress:
        wanted = progress.want(name, letter_id)
    if arguments.json:
        write_json({"wanted": wanted})
    else:
        write_lines([f"{count(wanted)} refused pieces are sent again" if wanted else "nothing was refused"])
    return 0


_DEEDS = {"status": _status, "test": _test, "backfill": _backfill, "refused": _refused, "retry": _retry}


def _destinations(chosen: Settings, name: str) -> list[Destination]:
    """All of them, or the one of a name; raises ConfigError where there is none of that name."""
    from tachograph.pipeline import routing

    found = routing.known(chosen.forwarders, surroundings(chosen).environment)
    wanted = [one for one in found if name in ("", one.name)]
    if name and not wanted:
        names = ", ".join(one.name for one in found) or "none, as there is no destination"
        raise ConfigError(f'forward: got "{name}"; expected one of {names}', "tachograph forward status")
    return wanted


@contextmanager
def _progress(chosen: Settings) -> Iterator[Progress]:
    from tachograph.pipeline.progress import FILE_NAME, Progress

    chosen.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with closing(Progress(chosen.home / FILE_NAME)) as opened:
        yield opened
