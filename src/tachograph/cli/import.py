"""Read what agents have written into files of their own: history included, each file once, each call once.

With a running server it goes to that. A second import reads only what is new.
"""

# ruff: noqa: N999 - the command is named so, and found by its name alone
from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from tachograph.cli import periods
from tachograph.cli.arguments import add_json, settings
from tachograph.cli.formats import count, size, usd
from tachograph.cli.tables import Column, write_json, write_lines, write_table
from tachograph.errors import ConfigError
from tachograph.lines import position_of
from tachograph.scan import Scan
from tachograph.store.identity import clean_text

if TYPE_CHECKING:
    from tachograph.cli.reading import Desk
    from tachograph.config import Settings, Surroundings
    from tachograph.model import Batch
    from tachograph.pipeline.history import HistoryFile
    from tachograph.registry import AgentFiles
    from tachograph.scan import Reader

EXAMPLES = ("tachograph import", "tachograph import claude-code codex --since 30d")

_FOUND = (Column("agent"), Column("files", True), Column("size", True, 2), Column("new", True))
_COLUMNS = (
    *_FOUND,
    Column("files read", True, 1),
    Column("sessions", True),
    Column("new calls", True),
    Column("cost", True),
)
_REFUSED_SHOWN = 10
_MEMORY_BYTES = 48 << 20


class Found(NamedTuple):
    """A file that is there: its place among the kinds, when it was written last, and how far it was read."""

    kind: int
    path: Path
    size_bytes: int
    modified_ns: int
    since: str


class Imported(msgspec.Struct):
    """What was found of one agent, and what is new in the store by it; `cost_usd` None = unpriced."""

    agent: str
    files: int = 0
    size_bytes: int = 0
    read_bytes: int = 0  # new since they were read last
    files_read: int = 0
    files_older: int = 0  # than --since
    sessions: int = 0
    calls: int = 0
    cost_usd: float | None = 0.0
    refused: dict[str, str] = msgspec.field(default_factory=dict)


def arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `import`."""
    parser.add_argument("agents", metavar="AGENT", nargs="*", help="only these (default: all that have files here)")
    parser.add_argument("--since", metavar="WHEN", help="only files written since: 30d, 2026-11-01")
    parser.add_argument("--dry-run", action="store_true", help="say what would be read, and read nothing")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Import; 1 where a file could not be read, after all the others."""
    from tachograph.cli.reading import open_desk, open_reader
    from tachograph.config import surroundings

    chosen = settings(arguments)
    kinds = _kinds(arguments.agents)
    since_ns = periods.parse(arguments.since, datetime.now().astimezone(), "--since") if arguments.since else 0
    summary = Summary(kinds, since_ns)
    with open_reader(chosen, is_settled=False) as reader:
        found = summary.found(_files(kinds, surroundings(chosen), _positions(reader)))
    if found and not arguments.dry_run:
        with open_desk(_sized(chosen), is_staged=True) as desk:
            _read(found, kinds, desk, summary)
    if arguments.json:
        write_json({"agents": [told for told in summary.agents.values() if told.files]})
    else:
        _write(summary, arguments.dry_run)
    return 1 if any(told.refused for told in summary.agents.values()) else 0


def _sized(chosen: Settings) -> Settings:
    """With less memory for the store than a server gives it: an import writes, and asks nothing twice."""
    return chosen if chosen.memory_bytes else replace(chosen, memory_bytes=_MEMORY_BYTES)


def _read(found: Sequence[Found], kinds: Sequence[AgentFiles], desk: Desk, summary: Summary) -> None:
    from tachograph.cli.progress import bar
    from tachograph.pipeline.history import HistoryFile, Import

    files = [HistoryFile(one.kind, one.path, one.size_bytes, one.since) for one in found]
    before = _ledger(desk.reader)
    with bar("import", sum(file.left_bytes for file in files)) as advance:
        Import(kinds, desk.sink, desk.content, advance, summary.seen, time.sleep).run(files)
    summary.read(files)
    desk.settle()
    summary.count_calls(before, _ledger(desk.reader))


def _ledger(reader: Reader) -> dict[str, dict[str, Any]]:
    """What the ledger holds, by agent."""
    from tachograph import questions

    return {row["agent"]: row for row in questions.usage(reader, "agent")["rows"]}


def _write(summary: Summary, is_dry: bool) -> None:
    found = [told for told in summary.agents.values() if told.files]
    if not found:
        write_lines(["no files of agents found: none has been used here, or its folder is elsewhere"])
        return
    columns = _FOUND if is_dry else _COLUMNS
    write_table(columns, [_row(told, is_dry) for told in found])
    lines = []
    for told in found:
        if told.files_older:
            lines.append(f"{told.agent}: {count(told.files_older)} files are older than --since")
        shown = list(told.refused.items())[:_REFUSED_SHOWN]
        lines += [f"{told.agent}: not read: {path}: {why}" for path, why in shown]
        if len(told.refused) > len(shown):
            lines.append(f"{told.agent}: not read: {len(told.refused) - len(shown)} more; --json has all")
    if not is_dry and not any(told.read_bytes for told in found):
        lines.append("nothing new: all of it was read before")
    write_lines(lines)


def _row(told: Imported, is_dry: bool) -> list[str]:
    cells = [told.agent, count(told.files), size(told.size_bytes), size(told.read_bytes)]
    if not is_dry:
        cells += [count(told.files_read), count(told.sessions), count(told.calls), usd(told.cost_usd)]
    return cells


class Summary:
    """What was found, read and counted, by agent."""

    def __init__(self, kinds: Sequence[AgentFiles], since_ns: int) -> None:
        self.agents: dict[str, Imported] = {kind.agent: Imported(kind.agent) for kind in kinds}
        self._kinds = kinds
        self._since_ns = since_ns
        self._sessions: dict[str, set[str]] = {kind.agent: set() for kind in kinds}

    def found(self, files: Iterable[Found]) -> list[Found]:
        """Note what is there; returns what has to be read, the newest first."""
        wanted = []
        for file in files:
            told = self.agents[self._kinds[file.kind].agent]
            told.files += 1
            told.size_bytes += file.size_bytes
            offset = position_of(file.since).offset
            is_counted = offset > 0 or not file.since  # else a database's: only its reader knows what is new
            left_bytes = max(0, file.size_bytes - offset) if is_counted else 0
            if file.modified_ns < self._since_ns:
                told.files_older += 1
            elif left_bytes or not offset:
                told.read_bytes += left_bytes
                wanted.append(file)
        return sorted(wanted, key=lambda file: -file.modified_ns)

    def seen(self, file: HistoryFile, batch: Batch) -> None:
        """Note the sessions that a batch tells of."""
        known = self._sessions[self._kinds[file.kind].agent]
        meanings = [*(span.meaning for span in batch.spans), *(event.meaning for event in batch.events)]
        known.update(meaning.session_id for meaning in meanings if meaning is not None and meaning.session_id)

    def read(self, files: Iterable[HistoryFile]) -> None:
        """Note how the reading went."""
        for file in files:
            told = self.agents[self._kinds[file.kind].agent]
            told.files_read += file.is_touched
            if file.refused:
                told.refused[str(file.path)] = file.refused
        for agent, sessions in self._sessions.items():
            self.agents[agent].sessions = len(sessions)

    def count_calls(self, before: dict[str, dict[str, Any]], after: dict[str, dict[str, Any]]) -> None:
        """Note what the ledger has more than before."""
        nothing = {"calls": 0, "failed_calls": 0, "cost_usd": 0.0}
        for agent, told in self.agents.items():
            was, now = before.get(agent, nothing), after.get(agent, nothing)
            told.calls = now["calls"] + now["failed_calls"] - was["calls"] - was["failed_calls"]
            told.cost_usd = None if now["cost_usd"] is None else round(now["cost_usd"] - (was["cost_usd"] or 0.0), 9)


def _kinds(names: Sequence[str]) -> tuple[AgentFiles, ...]:
    """The kinds of files of these agents, of all where none is named; raises ConfigError."""
    from tachograph.registry import HOOKS, TRANSCRIPTS

    kinds = (*TRANSCRIPTS, *HOOKS)
    known = sorted({kind.agent for kind in kinds})
    for name in names:
        if name not in known:
            raise ConfigError(f'command line: AGENT: got "{name}"; expected some of {", ".join(known)}')
    return tuple(kind for kind in kinds if not names or kind.agent in names)


def _positions(reader: Reader) -> dict[str, str]:
    rows = reader.scan(Scan("positions", {"path": "path", "position": "position"})).data
    return dict(zip(rows["path"], rows["position"], strict=True))


def _files(kinds: Sequence[AgentFiles], here: Surroundings, positions: dict[str, str]) -> list[Found]:
    """All files that are there, each once."""
    found: dict[str, Found] = {}
    for number, kind in enumerate(kinds):
        for path in kind.discover(here):
            name = str(path)
            try:
                told = path.stat()
            except OSError:
                continue  # gone again
            if name not in found:
                since = positions.get(clean_text(name), "")
                found[name] = Found(number, path, told.st_size, told.st_mtime_ns, since)
    return list(found.values())
