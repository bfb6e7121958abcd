"""Follows the files that agents write, history first read from the newest on, into the road; each piece once."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from heapq import heappop, heappush
from itertools import count
from pathlib import PurePath
from typing import Final, NamedTuple

import msgspec

from tachograph.config import Surroundings
from tachograph.errors import Busy, ConfigError, TachographError
from tachograph.lines import PIECE_BYTES, position_of, read_at_once
from tachograph.model import Batch
from tachograph.pipeline import spools
from tachograph.pipeline.watching import SECOND_NS, Clock, Watch, WatchedFile
from tachograph.registry import AgentFiles
from tachograph.store.identity import clean_text
from tachograph.telemetry import say

# Of pieces that are read and not yet committed: a few share a commit, and memory stays bounded.
FLIGHT_BYTES: Final = 24 * 1024 * 1024
LOOK_S: Final = 1.0
TURN_NS: Final = SECOND_NS  # reads for so long before it looks what else has changed
BUSY_S: Final = 1.0  # before a piece is tried again that the road had no room for
YIELDS_MAX: Final = 20  # looks in that time whether others still wait to be committed: they go first, but not for ever
SWEEP_NS: Final = 60 * SECOND_NS
CLOSE_S: Final = 30.0


class Followed(msgspec.Struct):
    """How far the reading of one kind of files is: `waiting` of `files` are not read to their end yet.

    `refused` says of files that could not be read why; they are tried again when they change.
    """

    agent: str
    origin: str
    files: int = 0
    size_bytes: int = 0
    waiting: int = 0
    refused: dict[str, str] = msgspec.field(default_factory=dict)


class Piece(NamedTuple):
    """One piece of a file on its way to the disk."""

    file: WatchedFile
    after: str
    size_bytes: int
    kept: Future[int]


def chosen(kinds: Sequence[AgentFiles], follow: str, is_personal: bool) -> tuple[AgentFiles, ...]:
    """The kinds of files that the setting `follow` wants read; raises ConfigError for an agent nobody knows.

    What our own plug-ins spool into this very home is read even where others' files are not, but for "off".
    """
    if follow == "off":
        return ()
    if follow == "all" or (follow == "auto" and is_personal):
        return tuple(kinds)
    if follow == "auto":
        return tuple(kind for kind in kinds if kind.origin == "hook")
    known = sorted({kind.agent for kind in kinds})
    for name in (wanted := follow.split(",")):
        if name not in known:
            raise ConfigError(
                f'follow: got "{name}"; expected auto, off, all, or some of {", ".join(known)}', 'follow = "all"'
            )
    return tuple(kind for kind in kinds if kind.agent in wanted)


class Positions:
    """How far each file has been read: what the store keeps, and what was committed since."""

    def __init__(self, kept: dict[str, str]) -> None:
        self._kept = kept
        self._by_name: dict[str, list[str]] = {}
        for path in kept:
            self._by_name.setdefault(PurePath(path).name, []).append(path)

    def of(self, file: WatchedFile, is_there: Callable[[str], bool]) -> str:
        """Where to go on reading a file; one that was moved goes on where it was under its old path."""
        name = clean_text(file.name)
        known = self._kept.get(name)
        if known is None:
            moved = [path for path in self._by_name.get(file.path.name, ()) if path != name and not is_there(path)]
            known = next((token for path in moved if position_of(token := self._kept.get(path, "")).head), "")
        return known

    def set(self, file: WatchedFile, token: str) -> None:
        """Note how far a file is read."""
        name = clean_text(file.name)
        if name not in self._kept:
            self._by_name.setdefault(file.path.name, []).append(name)
        self._kept[name] = token

    def forget(self, file: WatchedFile) -> None:
        """The file is no more."""
        self._kept.pop(clean_text(file.name), None)


class Follower:
    """Reads what is new in files: round by round, in one thread from `start` until `close`.

    `submit` is the road; `positions` what the store knows of files. `clock` only goes forward, `wall_clock` is that of
    the files' times; `queued_bytes` says how much waits on the road, of whomever. `busy_s` is how long it leaves the
    road alone that has no room, and at most to others. A piece has `piece_bytes`, and of those on their way there are
    `flight_bytes_max`. The position of a file goes with its data, and its next piece is read once that is durable, so
    nothing is lost and nothing is read twice.
    """

    def __init__(
        self,
        submit: Callable[[Batch], Future[int]],
        positions: Callable[[], dict[str, str]],
        queued_bytes: Callable[[], int],
        kinds: Sequence[AgentFiles],
        where: Surroundings,
        clock: Clock,
        wall_clock: Clock,
        flight_bytes_max: int = FLIGHT_BYTES,
        busy_s: float = BUSY_S,
        piece_bytes: int = PIECE_BYTES,
    ) -> None:
        self._submit = submit
        self._load = positions
        self._queued_bytes = queued_bytes
        self._kinds = tuple(kinds)
        self._clock = clock
        self._wall_clock = wall_clock
        self._flight_bytes_max = flight_bytes_max
        self._busy_s = busy_s
        self._piece_bytes = piece_bytes
        self._watch = Watch(kinds, where, clock)
        self._positions = Positions({})
        self._pending: list[tuple[int, int, WatchedFile]] = []
        self._number = count()
        self._flight: deque[Piece] = deque()
        self._flight_bytes = 0
        self._refused: dict[str, str] = {}
        self._swept_ns = clock()
        self._has_begun = self._has_looked = False
        self._is_closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)

    def start(self) -> None:
        """Have a thread read, until `close`."""
        self._thread.start()

    def close(self) -> None:
        """End after the pieces under way; safe to call twice."""
        self._is_closing.set()
        if self._thread.ident is not None:
            self._thread.join(CLOSE_S)

    def state(self) -> list[Followed]:
        """How far the reading is, by kind of file; safe to ask from any thread."""
        found = {id(kind): Followed(kind.agent, kind.origin) for kind in self._kinds}
        for file in list(self._watch.files.values()):
            told = found[id(file.kind)]
            told.files += 1
            told.size_bytes += file.size_bytes
            told.waiting += not file.is_read
            if (why := self._refused.get(file.name)) is not None:
                told.refused[file.name] = why
        return list(found.values())

    def is_idle(self) -> bool:
        """Whether all there is was read, or tried."""
        return self._has_looked and not self._pending and not self._flight

    def round(self) -> None:
        """Look what has changed, and read of it for about a second; raises Busy or Corrupt if the store does."""
        if not self._has_begun:
            self._positions = Positions(self._load())
            self._has_begun = True
        for file in self._watch.look():
            self._wants(file)
        self._has_looked = True
        self._read_for(TURN_NS)
        self._sweep()

    def _run(self) -> None:
        read_at_once(self._piece_bytes)
        while not self._is_closing.is_set():
            try:
                self.round()
            except TachographError as error:
                say("warning", f"files of agents: {error}")
                self._is_closing.wait(self._busy_s)
            if not self._pending:
                self._is_closing.wait(LOOK_S)
        while self._flight:
            self._land()

    def _wants(self, file: WatchedFile) -> None:
        """Have a file read, the newest first."""
        heappush(self._pending, (-file.modified_ns, next(self._number), file))

    def _read_for(self, duration_ns: int) -> None:
        """Read what is pending for so long, and wait for what is on its way."""
        until_ns = self._clock() + duration_ns
        while (self._pending or self._flight) and not self._is_closing.is_set():
            is_time_left = self._clock() < until_ns
            if self._pending and self._flight_bytes < self._flight_bytes_max and is_time_left:
                self._give_way()
                self._read_piece(heappop(self._pending)[2])
            elif self._flight:
                self._land()
            else:
                return

    def _give_way(self) -> None:
        """Those who send wait for their answer; history can wait for them."""
        for _ in range(YIELDS_MAX):
            if self._queued_bytes() <= self._flight_bytes + self._slack():
                return
            self._is_closing.wait(self._busy_s / YIELDS_MAX)

    def _slack(self) -> int:
        """What the road counts beyond the bytes of a piece, for each of ours."""
        return 1024 * len(self._flight)

    def _read_piece(self, file: WatchedFile) -> None:
        """Read the next piece of a file and send it off; one that is at its end is done."""
        if self._watch.files.get(file.name) is not file:
            return  # gone since
        since = self._positions.of(file, self._watch.files.__contains__)
        if not file.is_known and not file.kind.beside and 0 < file.size_bytes == position_of(since).offset:
            self._done(file, since)  # read to its end by an earlier process
            return
        try:
            batch, after = file.kind.read(file.path, since)
            if after == since:
                self._done(file, since)
                return
            batch.positions[file.name] = after
            size_bytes = batch.size
            kept = self._submit(batch)
        except Busy:
            self._wants(file)
            self._is_closing.wait(self._busy_s)
        except Exception as error:  # noqa: BLE001 - whatever one file does to its reader, the others go on
            self._refuse(file, error)
        else:
            self._flight.append(Piece(file, after, size_bytes, kept))
            self._flight_bytes += size_bytes

    def _land(self) -> None:
        """Wait for the oldest piece under way, and have the next one of its file read."""
        piece = self._flight.popleft()
        try:
            piece.kept.result()
        except Busy:
            self._is_closing.wait(self._busy_s)
            self._wants(piece.file)
        except Exception as error:  # noqa: BLE001 - what the store says of one piece must not end the thread
            self._refuse(piece.file, error)
        else:
            self._positions.set(piece.file, piece.after)
            self._wants(piece.file)
        finally:
            self._flight_bytes -= piece.size_bytes

    def _done(self, file: WatchedFile, since: str) -> None:
        file.is_read = file.is_known = True
        self._positions.set(file, since)
        self._refused.pop(file.name, None)

    def _refuse(self, file: WatchedFile, error: Exception) -> None:
        """Set a file aside until it changes, and say why, once."""
        file.is_read = True
        why = str(error) if isinstance(error, TachographError) else f"{type(error).__name__}: {error}"
        if self._refused.get(file.name) != why:
            self._refused[file.name] = why
            say("warning", f"{file.kind.agent}: {file.name}: not read: {why}")

    def _sweep(self) -> None:
        """Remove what plug-ins have spooled, once it is read and its process is gone."""
        if self._clock() - self._swept_ns < SWEEP_NS:
            return
        self._swept_ns = self._clock()
        now_ns = self._wall_clock()
        for file in list(self._watch.files.values()):
            is_done = file.kind.origin == "hook" and file.is_read and file.name not in self._refused
            if is_done and spools.is_over(file.path, now_ns - file.modified_ns):
                self._remove(file)

    def _remove(self, file: WatchedFile) -> None:
        try:
            file.path.unlink(missing_ok=True)
            self._submit(Batch(positions={file.name: ""}))
        except (OSError, TachographError) as error:
            say("warning", f"{file.name}: not removed: {error}")
            return
        self._watch.forget(file)
        self._positions.forget(file)
