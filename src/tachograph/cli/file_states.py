"""What `doctor` says of the files that agents write: how many, read until when, and whether they are followed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import tzinfo
from typing import TYPE_CHECKING

import msgspec

from tachograph.cli import running
from tachograph.cli.formats import count, moment, size
from tachograph.cli.tables import Column
from tachograph.config import Settings, surroundings
from tachograph.scan import Reader, Scan

if TYPE_CHECKING:
    from tachograph.registry import AgentFiles

COLUMNS = (
    Column("files of"),
    Column("kind", rank=2),
    Column("files", True),
    Column("size", True, 1),
    Column("written until"),
    Column("read until"),
    Column("state", width_min=10),
)
_REFUSED_SHOWN = 3


class FileState(msgspec.Struct):
    """The files of one kind: when the newest was written, and the newest of those that are read to their end."""

    agent: str
    origin: str
    files: int = 0
    size_bytes: int = 0
    unread: int = 0
    written_ns: int = 0
    read_ns: int = 0
    is_live: bool = False
    refused: dict[str, str] = msgspec.field(default_factory=dict)


def look(chosen: Settings, reader: Reader, found: running.Running | None) -> list[FileState]:
    """The state of every kind of file of which there are any."""
    from tachograph.registry import HOOKS, TRANSCRIPTS

    rows = reader.scan(Scan("positions", {"path": "path", "position": "position"})).data
    positions = dict(zip(rows["path"], rows["position"], strict=True))
    states = [_state(kind, chosen, positions) for kind in (*TRANSCRIPTS, *HOOKS)]
    live = {(told["agent"], told["origin"]): told for told in running.Server(found).followed()} if found else {}
    for state in states:
        told = live.get((state.agent, state.origin))
        state.is_live = told is not None
        state.refused = told["refused"] if told else {}
    return [state for state in states if state.files]


def _state(kind: AgentFiles, chosen: Settings, positions: dict[str, str]) -> FileState:
    from tachograph.lines import position_of
    from tachograph.store.identity import clean_text

    state = FileState(kind.agent, kind.origin)
    for path in kind.discover(surroundings(chosen)):
        try:
            told = path.stat()
        except OSError:
            continue  # gone again
        state.files += 1
        state.size_bytes += told.st_size
        state.written_ns = max(state.written_ns, told.st_mtime_ns)
        token = positions.get(clean_text(str(path)), "")
        is_read = bool(token) if kind.beside else position_of(token).offset == told.st_size
        state.unread += not is_read
        if is_read:
            state.read_ns = max(state.read_ns, told.st_mtime_ns)
    return state


def rows(states: Sequence[FileState], found: running.Running | None, zone: tzinfo) -> Iterator[list[str]]:
    """The table's rows."""
    for state in states:
        yield [
            state.agent,
            "plug-in" if state.origin == "hook" else "its own",
            count(state.files),
            size(state.size_bytes),
            moment(state.written_ns, zone),
            moment(state.read_ns, zone) if state.read_ns else "never",
            _word(state, found),
        ]


def _word(state: FileState, found: running.Running | None) -> str:
    left = f", {count(state.unread)} not read to the end" if state.unread else ""
    if state.is_live:
        return f"followed{left}"
    return ("not followed: the setting follow" if found else "tachograph up reads them") + left


def refusals(states: Sequence[FileState]) -> Iterator[str]:
    """A line for each file that was set aside, and why; of many only the first."""
    for state in states:
        for path, why in list(state.refused.items())[:_REFUSED_SHOWN]:
            yield f"{state.agent}: {path}: not read: {why}"
        if len(state.refused) > _REFUSED_SHOWN:
            yield f"{state.agent}: {len(state.refused) - _REFUSED_SHOWN} more files not read: tachograph doctor --json"
