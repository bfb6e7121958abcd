"""Say how far each destination is, try it, or send it something once more; with a running server or without.

status: how far each one is; exit 1 where one takes nothing until somebody acts, is away or busy, has refused something
that is kept, or has lost some in the last day. test: ask each whether it would take something; exit 1 where one would
not. backfill: begin again at a time. refused: what destinations would not take. retry: send that again. drop: give it
up. forget: drop all that is kept for one that was removed. A running server or relay is asked, and does what is wanted;
else the files and this environment say what there is, and the next start does it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from tachograph.cli import running
from tachograph.cli.arguments import add_json, settings
from tachograph.cli.formats import clock_time, count, duration, moment, plural
from tachograph.cli.periods import add_timezone, clock, parse, timezone_name
from tachograph.cli.tables import Column, write_json, write_lines, write_table
from tachograph.config import Settings, surroundings
from tachograph.errors import ConfigError, QueryError

if TYPE_CHECKING:
    from tachograph.destinations import Destination
    from tachograph.pipeline.forwarding import Standing
    from tachograph.pipeline.progress import Letter, Progress
    from tachograph.pipeline.roster import Probe

EXAMPLES = ("tachograph forward status", "tachograph forward backfill acme --since 7d")

_T = TypeVar("_T")
_NONE = "nothing is forwarded: [forwarders.NAME] in tachograph.toml says where to"
_SHOWN: Final = 1000  # refused pieces in a table; as JSON all
_EVERY: Final = -1
_RESTING: Final = ("off", "loop", "removed")
_STATUS = (
    Column("destination", width_min=8, width_good=16),
    Column("kind", rank=5),
    Column("to", rank=4, width_min=12),
    Column("state"),
    Column("behind", True),
    Column("by", True, 6),
    Column("sent", True, 2),
    Column("refused", True),
    Column("lost", True),
    Column("privacy", rank=7),
    Column("only", rank=3, width_min=8),
    Column("last answer", rank=1, width_min=16),
)
_REFUSED = (
    Column("id", True),
    Column("destination", width_min=8, width_good=16),
    Column("when", rank=2),
    Column("of", rank=3),
    Column("records", True),
    Column("first", rank=4, width_min=12),
    Column("answer", width_min=20),
)
_MEANT: Final = {
    "refusing": "refusing: it takes nothing until somebody acts, as on a wrong key or address",
    "waiting": "waiting: it is away or busy; nobody has to act",
    "off": "off: enabled = false",
    "loop": "loop: it is this server, so nothing is sent there",
    "removed": "removed: the settings know it no more, and what is kept for it waits",
}


class _Told(NamedTuple):
    """Where all destinations stand, and who says so: server, relay or files."""

    by: str
    standings: list[Standing]

    @property
    def names(self) -> list[str]:
        """Every name that may be given."""
        return [one.name for one in self.standings]

    def chosen(self, name: str) -> list[Standing]:
        """All of them, or the one of a name; raises ConfigError, which lists the names that there are."""
        from tachograph.pipeline.roster import unknown

        found = [one for one in self.standings if name in ("", one.name, one.identity)]
        if name and not found:
            raise unknown(name, self.names)
        return found


def arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `forward`."""
    deeds = ", ".join(_DEEDS)
    parser.add_argument(
        "what", metavar="WHAT", choices=list(_DEEDS), nargs="?", default="status", help=f"one of {deeds}"
    )
    parser.add_argument(
        "name", metavar="NAME", nargs="?", default="", help="of a destination; for retry, drop: or an id"
    )
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

    zone = questions.zone_of(timezone_name(arguments))
    told = _told(chosen)
    found = told.chosen(arguments.name)
    if arguments.json:
        shown = [_as_json(one) for one in found]
        write_json({"is_running": told.by != "files", "told_by": told.by, "destinations": shown})
    elif found:
        _write_status(found, zone)
    else:
        write_lines([_NONE])
    if not arguments.json:
        write_lines([_SAID[told.by]])
    return 1 if any(map(_is_troubled, found)) else 0


_SAID: Final = {
    "server": "told by the running server",
    "relay": "told by the running relay",
    "files": "no server is running: told by the files and this environment, and nothing is sent until one is",
}


def _is_troubled(one: Standing) -> bool:
    if one.word in _RESTING:
        return False
    return one.word in ("refusing", "waiting") or one.refused_kept > 0 or one.has_lost_lately


def _as_json(one: Standing) -> dict[str, Any]:
    from msgspec import structs

    return structs.asdict(one) | {"state": structs.asdict(one.state)}


def _write_status(found: Sequence[Standing], zone: tzinfo) -> None:
    rows = [_row(one, zone) for one in found]
    is_told = [column.heading not in ("lost", "only") or any(row[at] for row in rows) for at, column in _numbered()]
    columns = [column for at, column in _numbered() if is_told[at]]
    write_table(columns, [[cell for cell, told in zip(row, is_told, strict=True) if told] for row in rows])
    write_lines(["behind: commits that are not sent yet; refused: pieces that can be sent again; sent, lost: records"])
    if any(one.state.lost for one in found):
        write_lines(["lost: retention forgot them before they were sent"])
    write_lines(f"{one.name}: {one.state.answer}" for one in found if _is_failing(one))
    words = {one.word for one in found}
    write_lines(meant for word, meant in _MEANT.items() if word in words)
    for one in found:
        if one.word == "removed":
            at = f"kept: {plural(one.refused_kept, 'refused piece')}; it was sent all up to commit {one.state.cursor}"
            write_lines([f"{one.name}: {at}"])
            write_lines([f"    name it {one.name} again to go on, or drop it: tachograph forward forget {one.name}"])


def _numbered() -> list[tuple[int, Column]]:
    return list(enumerate(_STATUS))


def _row(one: Standing, zone: tzinfo) -> list[str]:
    state = one.state
    answer = "" if _is_failing(one) else state.answer  # that stands below, whole
    when = moment(state.answered_ns, zone) if state.answered_ns else ""
    answered = f"{answer} ({when})" if answer and when else answer or when or "-"
    is_away = one.word in ("waiting", "refusing") and state.retry_ns
    again = f", again {_soon(state.retry_ns, zone)}" if is_away else ""
    lag = duration(one.lag_ns) if one.lag_commits else "-"
    sums = [count(one.lag_commits), lag, count(state.sent), count(one.refused_kept)]
    lost = count(state.lost) if state.lost else ""
    signals = () if len(one.signals) == _SIGNALS else one.signals
    only = ", ".join((*one.agents, *one.projects, *signals))
    return [one.name, one.kind, one.address, one.word + again, *sums, lost, one.privacy, only, answered]


def _is_failing(one: Standing) -> bool:
    """Whether its last answer is what somebody has to read."""
    return one.word not in _RESTING and bool(one.state.answer) and _is_troubled(one)


def _soon(time_ns: int, zone: tzinfo) -> str:
    """A time to come: of the next hours only the time of day."""
    is_near = time_ns - clock() < _HALF_DAY_NS
    return clock_time(time_ns, zone) if is_near else moment(time_ns, zone, with_seconds=True)


_HALF_DAY_NS: Final = 43_200_000_000_000
_SIGNALS: Final = 3  # traces, logs, metrics: all that there are


def _test(arguments: argparse.Namespace, chosen: Settings) -> int:
    from msgspec import structs

    found = _probes(chosen, arguments.name)
    if arguments.json:
        write_json({"destinations": [structs.asdict(one) | {"is_good": one.word != "bad"} for one in found]})
    else:
        write_lines(_tested(found) if found else [_NONE])
    return 1 if any(one.word == "bad" for one in found) else 0


def _probes(chosen: Settings, name: str) -> list[Probe]:
    import msgspec

    from tachograph.pipeline import roster

    def asked(server: running.Server) -> list[Probe]:
        return msgspec.json.decode(server.probes(name), type=list[roster.Probe])

    told = _asked(chosen, asked)
    if told is not None:
        return told[1]
    known, loops = _known(chosen)
    environment = surroundings(chosen).environment
    return [roster.probe(one, loops, environment) for one in roster.chosen(known, name)]


_TESTED: Final = {
    "good": "would take it",
    "bad": "would not take it",
    "off": "is not asked: enabled = false",
    "loop": "is this server: nothing is sent there",
}


def _tested(found: Sequence[Probe]) -> Iterator[str]:
    for one in found:
        yield f"{one.name}: {one.address} {_TESTED[one.word]}" + (f": {one.answer}" if one.answer else "")
        if one.hint:
            yield f"    try: {one.hint}"


def _backfill(arguments: argparse.Namespace, chosen: Settings) -> int:
    from tachograph import questions
    from tachograph.cli.reading import open_reader
    from tachograph.scan import Agg, Match, Scan

    if not arguments.name or not arguments.since:
        raise ConfigError("forward: backfill: expected a destination and a time", EXAMPLES[1])
    told = _told(chosen)
    (one,) = told.chosen(arguments.name)
    if told.by != "files":  # else variables of the server may name it, which are not there now
        _refuse_removed("backfill", one)
    zone = questions.zone_of(timezone_name(arguments))
    since = parse(arguments.since, datetime.now(zone), "--since")
    where = (Match("time_ns", ">=", since),)
    with open_reader(chosen, is_settled=False) as reader, _progress(chosen) as progress:
        row = reader.scan(Scan("commits", {"first": Agg("min", "seq"), "n": Agg("count")}, where)).rows()[0]
        if row["n"]:
            progress.rewind(one.identity, row["first"] - 1)
    if arguments.json:
        write_json({"name": one.name, "commits": row["n"]})
    else:
        write_lines([f"{one.name}: {plural(row['n'], 'commit')} to be sent once more"])
    return 0


def _refused(arguments: argparse.Namespace, chosen: Settings) -> int:
    from msgspec import structs

    from tachograph import questions

    zone = questions.zone_of(timezone_name(arguments))
    told = _told(chosen)
    (name,) = {one.identity for one in told.chosen(arguments.name)} if arguments.name else ("",)
    with _progress(chosen) as progress:
        letters = progress.letters(name, limit=_EVERY if arguments.json else _SHOWN + 1)
    names = {one.identity: one.name for one in told.standings}
    for letter in letters:
        letter.destination = names.get(letter.destination, letter.destination)
    if arguments.json:
        write_json({"refused": [structs.asdict(letter) for letter in letters]})
    elif letters:
        write_table(_REFUSED, [_cells(letter, zone) for letter in letters[:_SHOWN]])
        if len(letters) > _SHOWN:
            write_lines([f"the newest {count(_SHOWN)}; --json has all"])
        write_lines(["to send them again: tachograph forward retry; to give them up: tachograph forward drop"])
    else:
        write_lines(["nothing was refused"])
    return 0


def _cells(letter: Letter, zone: tzinfo) -> list[str]:
    when = moment(letter.time_ns, zone)
    first = letter.keys[0] if letter.keys else "-"
    answer = f"(is sent again) {letter.answer}" if letter.is_wanted else letter.answer
    return [str(letter.id), letter.destination, when, letter.route, count(letter.rejected), first, answer]


def _retry(arguments: argparse.Namespace, chosen: Settings) -> int:
    told = _told(chosen)
    with _progress(chosen) as progress:
        letter = _letter_of(arguments, told, progress)
        found = told.chosen(letter.destination if letter else arguments.name)
        if letter or arguments.name:
            _refuse_removed("retry", found[0])
        if letter:
            wanted = progress.want("", letter.id)
        else:
            wanted = sum(progress.want(one.identity) for one in found if one.word != "removed")
    _write_count(arguments, "wanted", wanted, "to be sent again")
    return 0


def _drop(arguments: argparse.Namespace, chosen: Settings) -> int:
    told = _told(chosen)
    if not arguments.name:
        raise ConfigError("forward: drop: expected a destination, or an id", "tachograph forward refused")
    with _progress(chosen) as progress:
        letter = _letter_of(arguments, told, progress)
        dropped = progress.drop("", letter.id) if letter else progress.drop(told.chosen(arguments.name)[0].identity)
    _write_count(arguments, "dropped", dropped, "dropped, and sent no more")
    return 0


def _letter_of(arguments: argparse.Namespace, told: _Told, progress: Progress) -> Letter | None:
    """The refused piece that an id names, None where it is the name of a destination, or nothing."""
    name = arguments.name
    if not (name.isascii() and name.isdigit()) or name in told.names:
        return None
    letter = next((one for one in progress.letters(limit=_EVERY) if one.id == int(name)), None)
    if letter is None:
        names = ", ".join(told.names)
        what = f"forward: {arguments.what}: got {name}; expected the id of a refused piece or one of {names}"
        raise ConfigError(what, "tachograph forward refused")
    return letter


def _write_count(arguments: argparse.Namespace, what: str, pieces: int, done: str) -> None:
    if arguments.json:
        write_json({what: pieces})
    else:
        write_lines([f"{plural(pieces, 'refused piece')} {done}" if pieces else "nothing was refused"])


def _refuse_removed(verb: str, one: Standing) -> None:
    if one.word == "removed":
        what = f"forward: {verb}: got {one.name}, which was removed; expected one that the settings name"
        raise ConfigError(what, f"name it {one.name} again, or drop what is kept: tachograph forward forget {one.name}")


def _forget(arguments: argparse.Namespace, chosen: Settings) -> int:
    told = _told(chosen)
    if not arguments.name:
        raise ConfigError("forward: forget: expected a destination that was removed", "tachograph forward status")
    (one,) = told.chosen(arguments.name)
    if one.word != "removed":
        what = f"forward: forget: got {one.name}, which is a destination; expected one that was removed"
        raise ConfigError(what, "take it out of tachograph.toml, or its variables away, and start anew")
    with _progress(chosen) as progress:
        progress.forget(one.identity)
    if arguments.json:
        write_json({"name": one.name, "refused": one.refused_kept})
    else:
        write_lines([f"{one.name}: forgotten, with {plural(one.refused_kept, 'refused piece')}"])
    return 0


_DEEDS = {
    "status": _status,
    "test": _test,
    "backfill": _backfill,
    "refused": _refused,
    "retry": _retry,
    "drop": _drop,
    "forget": _forget,
}


def _told(chosen: Settings) -> _Told:
    """Where every destination stands: the running process knows; else what is written says it."""
    import msgspec

    from tachograph.pipeline.forwarding import Standing

    def asked(server: running.Server) -> list[Standing]:
        return msgspec.json.decode(server.forwarded(), type=list[Standing])

    told = _asked(chosen, asked)
    return _Told(*told) if told is not None else _Told("files", _by_files(chosen))


def _asked(chosen: Settings, ask: Callable[[running.Server], _T]) -> tuple[str, _T] | None:
    """The answer of the process that runs on this home, None where none does or an older one cannot say it."""
    found = running.find(chosen.home)
    if found is None:
        return None
    try:
        return "relay" if found.is_relay else "server", ask(running.Server(found))
    except QueryError:
        return None


def _by_files(chosen: Settings) -> list[Standing]:
    from tachograph.cli.reading import open_reader
    from tachograph.pipeline import routing
    from tachograph.pipeline.progress import FILE_NAME
    from tachograph.pipeline.roster import Roster

    known, loops = _known(chosen)
    environment = surroundings(chosen).environment
    for one in known:
        if one.is_enabled and not one.trouble:
            routing.route(one, environment).forwarder.close()  # raises what would stop the start
    if not known and not (chosen.home / FILE_NAME).exists():
        return []
    with open_reader(chosen, is_settled=False) as reader:
        return Roster(known, loops, reader, chosen.home, clock).standings()


def _known(chosen: Settings) -> tuple[list[Destination], set[str]]:
    """The destinations by the settings and this environment, and the names of those that lead back here."""
    from tachograph.pipeline import routing
    from tachograph.pipeline.loops import leads_to

    known = routing.known(chosen.forwarders, surroundings(chosen).environment)
    doors = [one for one in (chosen.otlp_http, chosen.otlp_grpc, chosen.web) if one]
    loops = routing.loops(known, lambda address: leads_to(address, doors))
    return known, {one.name for one in loops}


@contextmanager
def _progress(chosen: Settings) -> Iterator[Progress]:
    from tachograph.pipeline.progress import FILE_NAME, Progress

    chosen.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with closing(Progress(chosen.home / FILE_NAME)) as opened:
        yield opened
