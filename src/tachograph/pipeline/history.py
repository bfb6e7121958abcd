"""Reads the files that agents have written as fast as the machine can: in processes of its own, many at once."""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from tachograph.errors import Busy, TachographError
from tachograph.lines import position_of
from tachograph.model import Batch, Event, Point, Source, Span
from tachograph.pipeline.road import stages
from tachograph.registry import AgentFiles

# From here on starting processes, a third of a second each, costs less than it saves.
ALONE_BYTES: Final = 24 * 1024 * 1024
# Small files are read several at once: what it costs to hand them over is then shared.
PORTION_BYTES: Final = 2 * 1024 * 1024
PORTION_FILES: Final = 16
# Read and not yet committed, in bytes of the files: each is in memory several times over.
FLIGHT_BYTES: Final = 16 * 1024 * 1024
READERS_MAX: Final = 3  # the one process that commits has no work for more

_ENCODE: Final = msgspec.msgpack.Encoder().encode
_DECODE: Final = msgspec.msgpack.Decoder(Batch).decode
_NOBODY: Final = Source({})


class HistoryFile:
    """A file and how far it was read: `since` is the position after which nothing is durable yet."""

    __slots__ = ("is_touched", "kind", "path", "refused", "since", "size_bytes")

    def __init__(self, kind: int, path: Path, size_bytes: int, since: str) -> None:
        self.kind = kind  # its place among the kinds
        self.path = path
        self.size_bytes = size_bytes
        self.since = since
        self.is_touched = False  # something new was read of it
        self.refused = ""

    @property
    def is_read(self) -> bool:
        """Whether it was read to its end, so far as can be told without opening it."""
        return 0 < self.size_bytes == position_of(self.since).offset

    @property
    def left_bytes(self) -> int:
        """About how much is still to be read."""
        return max(0, self.size_bytes - position_of(self.since).offset)


class Sink(Protocol):
    """Where batches go."""

    def submit(self, batch: Batch) -> Future[int]:
        """Take a batch; the future is its commit."""
        ...


class Told(NamedTuple):
    """What a reader found in one piece: the batch, packed, or why there is none."""

    after: str = ""
    sources: bytes = b""
    places: bytes = b""
    batch: bytes = b""
    refused: str = ""


class Flying(NamedTuple):
    """A piece that was read and is not yet known to be durable."""

    file: HistoryFile
    after: str
    size_bytes: int
    kept: Future[int]


Task = tuple[int, str, str]  # kind, path, position


class Readers:
    """The processes that read; `content` is the setting where they also do what comes before the commit."""

    def __init__(self, kinds: Sequence[AgentFiles], content: str | None, is_alone: bool) -> None:
        self._content = content
        self._kinds = kinds
        count = min(READERS_MAX, max(1, (os.cpu_count() or 2) - 1))
        self._pool = (
            None if is_alone else ProcessPoolExecutor(count, get_context("spawn"), _begin, (tuple(kinds), content))
        )
        self.ahead = 1 if is_alone else count + 1

    def submit(self, tasks: list[Task]) -> Future[list[Told]]:
        """Have pieces read."""
        if self._pool is not None:
            return self._pool.submit(_read_all, tasks)
        done: Future[list[Told]] = Future()
        _begin(tuple(self._kinds), self._content)
        done.set_result(_read_all(tasks))
        return done

    def close(self) -> None:
        """End the processes, whatever they are at."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)


_READING: dict[str, object] = {}


def _begin(kinds: tuple[AgentFiles, ...], content: str | None) -> None:
    """Make a process ready; Ctrl-C is for the one that commits, and it does not outlive that one."""
    import multiprocessing

    parent = multiprocessing.parent_process()
    if parent is not None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    _READING.update(kinds=kinds, stages=() if content is None else stages(content))


def _end_with(parent: BaseProcess) -> None:
    """End this process when its parent has: one that was killed closes nothing, and readers would wait for ever."""
    parent.join()
    os._exit(1)


def _read_all(tasks: list[Task]) -> list[Told]:
    return [_read(*task) for task in tasks]


def _read(kind: int, path: str, since: str) -> Told:
    kinds: Sequence[AgentFiles] = _READING["kinds"]  # type: ignore[assignment]
    through: Sequence[Callable[[Batch], None]] = _READING["stages"]  # type: ignore[assignment]
    try:
        batch, after = kinds[kind].read(Path(path), since)
        if after == since:
            return Told(after=after)
        batch.positions[path] = after
        for stage in through:
            stage(batch)
        return _packed(batch, after)
    except Exception as error:  # noqa: BLE001 - whatever one file does to its reader, the others go on
        return Told(refused=str(error) if isinstance(error, TachographError) else f"{type(error).__name__}: {error}")


def _packed(batch: Batch, after: str) -> Told:
    """A batch with each of its sources written once: nearly all records share one."""
    sources: dict[int, tuple[int, Source]] = {}
    places = []
    for record in _records(batch):
        number, _ = sources.setdefault(id(record.source), (len(sources), record.source))
        places.append(number)
        record.source = _NOBODY
    return Told(after, _ENCODE([source for _, source in sources.values()]), _ENCODE(places), _ENCODE(batch))


def _unpacked(told: Told) -> Batch:
    batch = _DECODE(told.batch)
    sources = msgspec.msgpack.decode(told.sources, type=list[Source])
    for record, number in zip(_records(batch), msgspec.msgpack.decode(told.places, type=list[int]), strict=True):
        record.source = sources[number]
    return batch


def _records(batch: Batch) -> Iterator[Span | Event | Point]:
    yield from batch.spans
    yield from batch.events
    yield from batch.points


class Import:
    """One reading of many files into a sink; the next piece of a file is read once the last one is durable.

    `content` is the privacy setting where the sink expects batches that went through all stages, None where it takes
    them as they were read. `notice` is told the bytes that are done, `seen` each batch before it is sent. Less than
    `alone_bytes` are read by this process alone.
    """

    def __init__(
        self,
        kinds: Sequence[AgentFiles],
        sink: Sink,
        content: str | None,
        notice: Callable[[int], None],
        seen: Callable[[HistoryFile, Batch], None],
        pause: Callable[[float], None],
        alone_bytes: int = ALONE_BYTES,
    ) -> None:
        self._kinds = kinds
        self._sink = sink
        self._content = content
        self._notice = notice
        self._seen = seen
        self._pause = pause
        self._alone_bytes = alone_bytes
        self._pending: deque[HistoryFile] = deque()
        self._reading: dict[Future[list[Told]], list[HistoryFile]] = {}
        self._flight: deque[Flying] = deque()
        self._flight_bytes = 0

    def run(self, files: Sequence[HistoryFile]) -> None:
        """Read all there is; raises what the sink does, and what is durable by then stays and is not read again."""
        self._pending.extend(files)
        readers = Readers(self._kinds, self._content, sum(file.left_bytes for file in files) < self._alone_bytes)
        try:
            while self._pending or self._reading or self._flight:
                self._send(readers)
                on_their_way: list[Future[Any]] = [*self._reading, *(piece.kept for piece in self._flight)]
                wait(on_their_way, return_when=FIRST_COMPLETED)
                self._receive()
                self._land()
        except BrokenProcessPool:
            raise Busy(
                "import: a process that read files has ended by itself", "tachograph import goes on where it was"
            ) from None
        finally:
            readers.close()

    def _send(self, readers: Readers) -> None:
        """Hand files to the readers, as long as not too much is on its way."""
        while self._pending and len(self._reading) < readers.ahead and self._flight_bytes < FLIGHT_BYTES:
            files: list[HistoryFile] = []
            size_bytes = 0
            while self._pending and len(files) < PORTION_FILES and size_bytes < PORTION_BYTES:
                files.append(self._pending.popleft())
                size_bytes += files[-1].left_bytes
            tasks = [(file.kind, str(file.path), file.since) for file in files]
            self._reading[readers.submit(tasks)] = files

    def _receive(self) -> None:
        """Send off what has been read by now."""
        for future in [future for future in self._reading if future.done()]:
            for file, told in zip(self._reading.pop(future), future.result(), strict=True):
                self._take(file, told)

    def _take(self, file: HistoryFile, told: Told) -> None:
        if told.refused or told.after == file.since:
            file.refused = told.refused
            self._notice(file.left_bytes)
            return
        batch = _unpacked(told)
        size_bytes = batch.size
        self._seen(file, batch)
        file.is_touched = True
        self._flight.append(Flying(file, told.after, size_bytes, self._submit(batch)))
        self._flight_bytes += size_bytes

    def _submit(self, batch: Batch) -> Future[int]:
        """Send a batch off; where there is no room, it waits as long as a person would."""
        for _ in range(60):
            try:
                return self._sink.submit(batch)
            except Busy as busy:
                self._pause(busy.retry_after_s)
        return self._sink.submit(batch)

    def _land(self) -> None:
        """Note what is durable by now; the next piece of its file can be read."""
        while self._flight and self._flight[0].kept.done():
            piece = self._flight.popleft()
            piece.kept.result()
            left_bytes = piece.file.left_bytes
            piece.file.since = piece.after
            self._flight_bytes -= piece.size_bytes
            self._notice(left_bytes - piece.file.left_bytes)
            if not piece.file.is_read:
                self._pending.append(piece.file)
