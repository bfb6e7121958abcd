"""Say what arrives from whom and since when, what is missing, and the line that turns it on; exit 1 if something is."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from datetime import tzinfo
from typing import TYPE_CHECKING, Any

from tachograph.cli import running
from tachograph.cli.arguments import add_json, settings
from tachograph.cli.formats import count, moment
from tachograph.cli.periods import add_timezone, timezone_name
from tachograph.cli.tables import Column, write_json, write_lines, write_table

if TYPE_CHECKING:
    from tachograph.config import Settings
    from tachograph.questions import Arrival, Finding

# A line that sets variables, as shells take it.
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*=")

EXAMPLES = ("tachograph doctor", "tachograph doctor --json")

_COLUMNS = (
    Column("service", width_min=12),
    Column("agent", rank=2),
    Column("signal"),
    Column("records", True),
    Column("first", rank=3),
    Column("last"),
    Column("understood as", rank=1, width_min=8),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `doctor`."""
    parser.add_argument("--connect", action="store_true", help="how to connect each agent, whether or not it sends")
    add_timezone(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the findings; 1 where there are any."""
    from tachograph import questions
    from tachograph.cli.reading import open_reader

    chosen = settings(arguments)
    zone = questions.zone_of(timezone_name(arguments))
    found = running.find(chosen.home)
    with open_reader(chosen) as reader:
        arrived = questions.arrivals(reader)
        missing = questions.findings(reader, arrived, has_content=chosen.content != "none")
    if arguments.json:
        write_json(_as_json(str(chosen.home), found, arrived, missing))
        return 1 if missing else 0
    write_lines([f"home    {chosen.home}", f"server  {_server(found)}", ""])
    if arrived:
        write_table(_COLUMNS, [row for arrival in arrived for row in _rows(arrival, zone)])
    else:
        write_lines(["nothing has arrived yet"])
    said = [*_findings(missing)]
    if arguments.connect or not arrived:
        said += _connect()
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
    doors = [found.otlp_http, found.otlp_grpc and f"grpc {found.otlp_grpc}", found.web and f"pages {found.web}"]
    return f"running as process {found.pid}: " + ", ".join(door for door in doors if door)


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


def _findings(missing: Sequence[Finding]) -> Iterator[str]:
    for finding in missing:
        yield ""
        yield f"{finding.who}: {finding.what}"
        yield from (f"    {_line(line)}" for line in finding.lines)
        if finding.where:
            yield f"    in {finding.where}"


def _line(line: str) -> str:
    """A line to set as it is typed: variables have to be exported to reach the agent."""
    return f"export {line}" if _VARIABLE.match(line) else line


def _connect() -> Iterator[str]:
    from tachograph.questions import CONNECT

    yield ""
    yield "to connect an agent, with tachograph up running:"
    for name, (lines, where) in CONNECT.items():
        yield ""
        yield f"{name}, in {where}:"
        yield from (f"    {_line(line)}" for line in lines)


def _as_json(
    home: str, found: running.Running | None, arrived: Sequence[Arrival], missing: Sequence[Finding]
) -> dict[str, Any]:
    server = None
    if found is not None:
        server = {name: getattr(found, name) for name in ("pid", "version", "web", "otlp_http", "otlp_grpc")}
    return {"home": home, "server": server, "arrivals": arrived, "findings": missing}
