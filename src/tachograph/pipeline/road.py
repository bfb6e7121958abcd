"""The whole way in: the stages that make a batch fit to be kept, and the group commit that makes it durable."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Final, NamedTuple

from tachograph.errors import Busy, TachographError
from tachograph.ledger import report
from tachograph.model import Batch
from tachograph.pipeline.settler import Clock, Settler
from tachograph.redaction import redact
from tachograph.registry import normalise
from tachograph.store.contract import Store
from tachograph.telemetry import Telemetry, say

Stage = Callable[[Batch], None]

RECORDS_PER_COMMIT: Final = 4096  # from here on DuckDB's insert gains little and senders wait longer
BYTES_PER_COMMIT: Final = 96 * 1024 * 1024  # in memory, where records take several times their bytes on the wire
BATCH_OVERHEAD_BYTES: Final = 1024  # of a batch that holds next to nothing: the queue is bounded for these too
GATHER_SHARE: Final = 4  # gathering takes a quarter of the last commit's time at most ...
GATHER_S_MAX: Final = 0.01  # ... and never long enough to be felt
CLOSE_S: Final = 30.0  # for the last commits; then the process ends and the senders, unanswered, send again


def stages(content: str) -> tuple[Stage, ...]:
    """What every batch goes through before it is kept, in this order; each changes the batch in place.

    1. `normalise` first: what a record means, and which of its texts are content, is read from it as it came.
    2. `redact` before anything else sees the batch: no secret reaches the disk, and none the reports.
    3. `report` last: reports are kept for ever, so they are made of what may be kept.

    Pricing is not among them: a price is that of a call, whose tokens are known once its reports are merged, so the
    ledger prices while it settles.
    """
    return (normalise, partial(redact, mode=content), report)


class Waiting(NamedTuple):
    """A batch on its way to the disk, and the promise its sender waits for."""

    batch: Batch
    kept: Future[int]
    size_bytes: int


class Road:
    """Takes batches from any thread, commits those that wait together, and keeps the ledger up to date.

    `settle` works one portion of what was committed into calls and says whether more is left. `clock` only goes
    forward (nanoseconds). `has_demo`: the store holds the demo, which goes with the first real commit. `settles`: the
    ledger is kept up to date without being asked. The road owns two threads from here until `close`; the store belongs
    to the caller, who closes it after the road.
    """

    def __init__(
        self,
        store: Store,
        stages: Sequence[Stage],
        settle: Callable[[], bool],
        clock: Clock,
        telemetry: Telemetry,
        queue_bytes_max: int,
        has_demo: bool = False,
        settles: bool = True,
    ) -> None:
        self._store = store
        self._stages = tuple(stages)
        self._clock = clock
        self._telemetry = telemetry
        self._queue_bytes_max = queue_bytes_max
        self._queue: deque[Waiting] = deque()
        self._queued_bytes = 0
        self._has_demo = has_demo
        self._is_closing = False
        self._expected = 0
        self._gather_s = 0.0
        self._changed = threading.Condition()
        self.settler = Settler(store, settle, clock, telemetry, settles)
        self._writer = threading.Thread(target=self._write, name="road-writer", daemon=True)
        self._writer.start()

    @property
    def queued_bytes(self) -> int:
        """What was taken and is not yet on disk."""
        return self._queued_bytes

    def submit(self, batch: Batch) -> Future[int]:
        """Take a batch through the stages and queue it; the future is its commit, once that is durable.

        Raises Busy at once where too much is waiting, and lets through what a stage raises. The future may fail with
        Busy or Corrupt, as the store does. The caller must not use the batch afterwards.
        """
        size_bytes = max(batch.size, BATCH_OVERHEAD_BYTES)
        self._reserve(size_bytes)
        try:
            for stage in self._stages:
                stage(batch)
        except BaseException:
            self._release(size_bytes)
            raise
        kept: Future[int] = Future()
        if is_empty(batch):
            self._release(size_bytes)
            kept.set_result(self._store.sequence())
            return kept
        self._telemetry.count_batch("received", batch)
        kept.set_running_or_notify_cancel()  # a sender who gives up cannot cancel what is on its way
        with self._changed:
            if self._is_closing:
                self._queued_bytes -= size_bytes
                raise Busy("road: closing down", "send it again in a moment", retry_after_s=2)
            self._queue.append(Waiting(batch, kept, size_bytes))
            self._changed.notify()
        return kept

    def close(self) -> None:
        """Take nothing more, commit what waits, settle what can be settled quickly; safe to call twice."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self._writer.join(CLOSE_S)
        self.settler.close()

    def _reserve(self, size_bytes: int) -> None:
        """Room in the queue, before any work is done for it; one batch of any size fits into an empty queue."""
        with self._changed:
            if self._is_closing:
                raise Busy("road: closing down", "send it again in a moment", retry_after_s=2)
            if (waiting := self._queued_bytes) and waiting + size_bytes > self._queue_bytes_max:
                self._telemetry.count("busy", "queue")
                raise Busy(
                    f"queue: got {size_bytes} bytes beside {waiting}; expected {self._queue_bytes_max} at most",
                    "send it again in a moment; queue_bytes_max is the limit",
                )
            self._queued_bytes += size_bytes

    def _release(self, size_bytes: int) -> None:
        with self._changed:
            self._queued_bytes -= size_bytes

    def _write(self) -> None:
        """The writer thread: whatever came while one commit ran shares the next."""
        while group := self._take_group():
            started = self._clock()
            self._commit(group)
            self._expect(group, self._clock() - started)
            self._release(sum(waiting.size_bytes for waiting in group))
            self.settler.notice()
            if group[0].batch.is_demo:
                self._has_demo = True
            elif self._has_demo and any(map(_records, group)):
                self._clear_demo()

    def _take_group(self) -> list[Waiting]:
        """What is committed next, waiting for it; empty when the road is closed and all is written.

        The demo is committed apart from real data, so that it can be cleared without a trace.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._is_closing)
            self._changed.wait_for(lambda: len(self._queue) >= self._expected or self._is_closing, self._gather_s)
            group: list[Waiting] = []
            records = size_bytes = 0
            while self._queue and records < RECORDS_PER_COMMIT and size_bytes < BYTES_PER_COMMIT:
                if group and self._queue[0].batch.is_demo != group[0].batch.is_demo:
                    break
                records += _records(self._queue[0])
                size_bytes += self._queue[0].size_bytes
                group.append(self._queue.popleft())
            return group

    def _expect(self, group: list[Waiting], took_ns: int) -> None:
        """How many batches to gather for the next commit, and for how long.

        A small commit costs nearly the same for one batch as for many. Those who were just answered come back at once
        while others wait already, so without gathering two halves of the senders take turns, and each pays for both.
        """
        is_small = sum(map(_records, group)) < RECORDS_PER_COMMIT // 4
        self._expected = len(group) + len(self._queue) if is_small else 0
        self._gather_s = min(took_ns / GATHER_SHARE / 1e9, GATHER_S_MAX)

    def _commit(self, group: list[Waiting]) -> None:
        """Commit a group and answer everyone in it.

        Where the group fails for any other reason than a store that is busy, one bad batch must not fail its
        neighbours: each is then tried alone.
        """
        started = self._clock()
        try:
            sequence = self._store.commit([waiting.batch for waiting in group])
        except Busy as busy:
            self._telemetry.count("busy", "store")
            _fail(group, busy)
        except Exception as error:  # noqa: BLE001 - whatever it is, senders have to be told and the writer has to live
            if len(group) == 1:
                self._refuse(group[0], error)
            else:
                for waiting in group:
                    self._commit([waiting])
        else:
            self._telemetry.took("commit", self._clock() - started)
            for waiting in group:
                self._telemetry.count_batch("committed", waiting.batch)
                waiting.kept.set_result(sequence)

    def _clear_demo(self) -> None:
        """With real data there is no trace of the demo: it goes as soon as something real was committed."""
        try:
            self._store.clear_demo()
            self._has_demo = False
        except TachographError as error:
            say("warning", f"demo: not cleared yet: {error}")

    def _refuse(self, waiting: Waiting, error: Exception) -> None:
        """A batch that cannot be kept: a bug of ours if it is none of our errors, and then said aloud."""
        self._telemetry.count("failed", type(error).__name__)
        if not isinstance(error, TachographError):
            say("error", f"commit: {type(error).__name__}: {error}")
        _fail([waiting], error)


def is_empty(batch: Batch) -> bool:
    """Whether there is nothing in it to keep."""
    return not (batch.spans or batch.events or batch.points or batch.positions or batch.reports)


def _records(waiting: Waiting) -> int:
    batch = waiting.batch
    return len(batch.spans) + len(batch.events) + len(batch.points)


def _fail(group: Sequence[Waiting], error: Exception) -> None:
    for waiting in group:
        waiting.kept.set_exception(error)
