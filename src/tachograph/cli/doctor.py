"""Say what arrives from whom and since when, what is missing, and the line that turns it on; exit 1 if something is."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import tzinfo
from typing import TYPE_CHECKING, Any

from tachograph import connections, registry
from tachograph.cli import connecting, file_states, running
from tachograph.cli.arguments import add_json, settings
from tachograph.cli.formats import count, duration, moment
from tachograph.cli.periods import add_timezone, clock, timezone_name
from tachograph.cli.tables import Column, write_json, write_lines, write_table
from tachograph.config import surroundings

if TYPE_CHECKING:
    from tachograph.cli.connecting import Found
    from tachograph.config import Settings
    from tachograph.questions import Arrival, Finding

# A line that sets variables, as shells take it.
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*=")

EXAMPLES = ("tachograph doctor", "tachograph doctor --json")

_COLUMNS = (
    Column("service", width_min=12, width_good=22),
    Column("agent", rank=2),
    Column("signal"),
    Column("records", True),
    Column("first", rank=3),
    Column("last"),
    Column("understood as", rank=1, width_min=8, width_good=13),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `doctor`."""
    parser.add_argument("--connect", action="store_true", help="how to connect each agent, whether or not it sends")
    add_timezone(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the findings; 1 where there are any."""
    from tachograph import questions
    from tachograph.cli.reading import demo_told, open_reader

    chosen = settings(arguments)
    zone = questions.zone_of(timezone_name(arguments))
    found = running.find(chosen.home)
    agents = connecting.look(chosen)
    with open_reader(chosen) as reader:
        arrived = questions.arrivals(reader)
        missing = questions.findings(reader, arrived, has_content=chosen.content != "none")
        files = file_states.look(chosen, reader, found)
        firsts = {
            one.connection.name: questions.first_since(reader, one.connection.agent, one.state.since_ns)
            for one in agents
            if one.state.is_connected
        }
        demo = demo_told(reader)
    if demo:  # it is there only as long as nothing real has come
        arrived, missing, firsts = [], [], dict.fromkeys(firsts)
    if arguments.json:
        more = {"is_demo": bool(demo), "connections": _connections(agents, firsts), "files": files}
        write_json(_as_json(str(chosen.home), found, arrived, missing) | more)
        return 1 if missing else 0
    write_lines([f"home    {chosen.home}", f"server  {_server(found)}", ""])
    if arrived:
        write_table(_COLUMNS, [row for arrival in arrived for row in _rows(arrival, zone)])
    else:
        write_lines(["nothing has arrived yet", *demo])
    if files:
        write_lines([""])
        write_table(file_states.COLUMNS, list(file_states.rows(files, found, zone)))
    said = [*file_states.refusals(files), *_proof(agents, firsts, chosen, zone), *_findings(missing, agents)]
    if arguments.connect or not (arrived or firsts):
        said += _connect(chosen)
    write_lines(_here(line, chosen) for line in said)
    return 1 if missing else 0


def _here(line: str, chosen: Settings) -> str:
    """The line with the addresses that the doors really have."""
    for usual, setting in (("127.0.0.1:4318", chosen.otlp_http), ("127.0.0.1:4317", chosen.otlp_grpc)):
        line = line.replace(usual, running.reachable(setting)) if setting else line
    return line


def _server(found: running.Running | None) -> str:
    if found is None:
        return "not running: tachograph up"
    pages = "" if found.is_relay else found.web
    doors = [found.otlp_http, found.otlp_grpc and f"grpc {found.otlp_grpc}", pages and f"pages {pages}"]
    who = "a relay running" if found.is_relay else "running"
    return f"{who} as process {found.pid}: " + (", ".join(door for door in doors if door) or "no doors")


def _rows(arrival: Arrival, zone: tzinfo) -> Iterator[list[str]]:
    name = f"{arrival.service} {arrival.version}".strip()
    for signal, came in sorted(arrival.signals.items()):
        yield [
            name,
            ", ".join(arrival.agents),
            signal,
            count(came.count),
            moment(came.first_ns, zone),
            moment(came.last_ns, zone),
            ", ".join(arrival.dialects),
        ]
        name = ""


def _proof(agents: Sequence[Found], firsts: Mapping[str, int | None], chosen: Settings, zone: tzinfo) -> Iterator[str]:
    """Of each connected agent, whether its first data has come; of the others that are here, how to connect them."""
    shown = [one for one in agents if one.connection.name in firsts or one.state.is_partly or one.state.trouble]
    if shown:
        yield ""
    for one in shown:
        yield f"{one.connection.name}: {_stands(one, firsts.get(one.connection.name), zone)}"
        if firsts.get(one.connection.name) is None:
            yield from (f"    {note}" for note in connecting.notes(one, chosen, surroundings(chosen).environment))
    others = [one.connection.name for one in agents if one.is_installed and one not in shown]
    if others:
        yield ""
        yield f"not connected: {', '.join(others)}"
        yield f"    tachograph connect {' '.join(others)}"


def _stands(one: Found, first_ns: int | None, zone: tzinfo) -> str:
    """How one agent stands, in a sentence."""
    if not one.state.is_connected:
        return one.state.trouble or f"{connecting.word(one)}: tachograph connect {one.connection.name}"
    since = f"connected {duration(clock() - one.state.since_ns)} ago" if one.state.since_ns else "connected"
    if first_ns is None:
        return f"{since}, waiting for its first data: start {one.connection.title} anew"
    return f"{since}, first data arrived {moment(first_ns, zone, with_seconds=True)}"


def _connections(agents: Sequence[Found], firsts: Mapping[str, int | None]) -> list[dict[str, Any]]:
    return [
        connecting.as_json(one, None) | {"first_ns": firsts.get(one.connection.name)}
        for one in agents
        if one.is_installed or one.connection.name in firsts
    ]


def _findings(missing: Sequence[Finding], agents: Sequence[Found]) -> Iterator[str]:
    names = {one.connection.agent: one.connection.name for one in agents if not one.state.is_connected}
    for finding in missing:
        yield ""
        yield f"{finding.who}: {finding.what}"
        yield from (f"    {_line(line)}" for line in finding.lines)
        if finding.where:
            yield f"    in {finding.where}"
        if finding.agent in names:
            yield f"    or: tachograph connect {names[finding.agent]}"


def _line(line: str) -> str:
    """A line to set as it is typed: variables have to be exported to reach the agent."""
    return f"export {line}" if _VARIABLE.match(line) else line


def _connect(chosen: Settings) -> Iterator[str]:
    """For each agent the command that connects it, and what to write by hand where that is preferred."""
    where, target = surroundings(chosen), connecting.target_of(chosen)
    yield ""
    yield "to connect an agent, with tachograph up running:"
    for connection in registry.CONNECTIONS:
        yield ""
        yield f"{connection.name}: tachograph connect {connection.name}"
        for path, text in connections.by_hand(connection, where, target):
            yield f"  or by hand, in {path}:"
            yield from (f"    {connecting.masked(line, chosen.ingest_token)}" for line in text.splitlines())
    yield ""
    yield "any OpenTelemetry SDK, in the environment of the program:"
    yield f"    {_line(connections.ANY_SDK)}"


def _as_json(
    home: str, found: running.Running | None, arrived: Sequence[Arrival], missing: Sequence[Finding]
) -> dict[str, Any]:
    server = None
    if found is not None:
        server = {name: getattr(found, name) for name in ("pid", "version", "web", "otlp_http", "otlp_grpc")}
    return {"home": home, "server": server, "arrivals": arrived, "findings": missing}
