"""Long outages: what retention forgets meanwhile, clocks that are set back, and destinations that are slow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from deliveries import Trip, fill
from fillings import NOON, SECOND
from kinds import KINDS
from sink import GOOD, Reply, Request, Sink
from tachograph.destinations import Destination
from tachograph.pipeline.delivering import FLUSH_S, RETRY_AFTER_S_MAX
from tachograph.pipeline.progress import State
from tachograph.store.contract import Store
from tachograph.store.duckdb import open_store

DAY = 86_400 * SECOND
EACH = 5  # records of a commit of `fill`
TESTED = ("otlp http/protobuf", "langfuse", "loki")


class Place:
    """A store whose clock is set by hand, and a trip from it."""

    def __init__(self, home: Path, sink: Sink, name: str = "otlp http/protobuf", parts_max: int = 4) -> None:
        self.now_ns = NOON
        self.store: Store = open_store(home / "store", lambda: self.now_ns)
        self.tested = KINDS[name]
        options = dict(self.tested.options(sink.url, 60.0))
        to = Destination("acme", self.tested.name, "acme", options=options, parts_max=parts_max)
        self.trip = Trip(home, self.store, lambda one: self.tested.kind.make(one, {}), to, NOON)

    @property
    def state(self) -> State:
        return self.trip.delivery.state

    def fill(self, sessions: int, first: int) -> None:
        """A commit each, now."""
        fill(self.store, sessions, 1, first, self.now_ns)

    def later(self, by_ns: int) -> None:
        self.now_ns += by_ns
        self.trip.now_ns = max(self.trip.now_ns, self.now_ns)

    def close(self) -> None:
        self.trip.end()
        self.store.close()


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink() as opened:
        yield opened


@pytest.mark.parametrize("name", TESTED)
def test_what_was_forgotten_before_it_was_sent_is_counted(tmp_path: Path, sink: Sink, name: str) -> None:
    with closing(Place(tmp_path, sink, name)) as here:
        here.fill(2, 0)
        here.later(60 * SECOND)
        here.trip.run()
        sent = here.state.sent
        assert sent and (here.state.cursor, here.state.lost) == (2, 0)
        sink.reply = lambda _: Reply(503)
        for day in range(9):  # more than a week: the rows of the commits go as well
            here.fill(1, 2 + day)
            here.later(DAY)
            here.trip.delivery.round()
        assert here.state.failures and here.store.forget(before_ns=NOON + 8 * DAY) == 8
        here.trip.delivery.round()
        assert here.state.cursor == 2 + 8, "the last day is still there"
        assert here.state.lost == 8 * EACH
        assert here.store.forget(before_ns=NOON + 30 * DAY) == 1
        here.trip.run(lambda: not here.state.failures)
        assert (here.state.lost, here.state.refused, here.state.sent) == (9 * EACH, 0, sent)
        assert (here.state.failures, here.state.retry_ns) == (0, 0), "nothing is left to wait for"
        sink.reply = lambda _: GOOD
        here.fill(1, 90)
        here.later(60 * SECOND)
        here.trip.run()
        assert here.state.sent > sent and here.state.lost == 9 * EACH


def test_what_was_forgotten_while_no_process_ran_is_counted(tmp_path: Path, sink: Sink) -> None:
    with closing(Place(tmp_path, sink)) as here:
        here.fill(2, 0)
        here.trip.run()
        here.fill(3, 2)
        here.later(10 * DAY)
        assert here.store.forget(before_ns=here.now_ns) == 1
        here.trip.killed()
        here.trip.run()
        assert here.state.lost == 3 * EACH
        here.trip.progress.rewind("acme", 0)
        here.trip.run()
        assert here.state.lost == 3 * EACH, "asked for again, and gone: not lost a second time"


def test_a_clock_that_is_set_back_makes_no_wait_longer(tmp_path: Path, sink: Sink) -> None:
    with closing(Place(tmp_path, sink)) as here:
        here.fill(1, 0)
        sink.reply = lambda _: Reply(503)
        here.trip.now_ns += DAY
        here.trip.delivery.round()
        assert here.state.retry_ns > NOON + DAY
        here.trip.now_ns = NOON
        here.trip.killed()
        sink.reply = lambda _: GOOD
        here.trip.run(lambda: here.state.sent > 0)
        assert here.trip.now_ns - NOON < 60 * SECOND


def test_a_deadline_that_is_too_far_away_is_brought_near(tmp_path: Path, sink: Sink) -> None:
    """As after a clock that was ahead, and nothing that says when it was."""
    with closing(Place(tmp_path, sink)) as here:
        here.fill(1, 0)
        here.trip.delivery.round()
        here.trip.killed()
        here.state.retry_ns = NOON + 999 * DAY
        here.fill(1, 1)
        sent = here.state.sent
        here.trip.run(lambda: here.state.sent > sent)
        assert here.trip.now_ns - NOON <= (RETRY_AFTER_S_MAX + FLUSH_S) * SECOND


def test_commits_of_a_clock_that_was_ahead_are_sent_at_once(tmp_path: Path, sink: Sink) -> None:
    with closing(Place(tmp_path, sink, "langfuse")) as here:
        here.now_ns += DAY
        here.fill(1, 0)
        here.now_ns = NOON
        here.trip.run()
        assert here.state.cursor == 1 and here.trip.now_ns < NOON + 3600 * SECOND


def test_a_stop_costs_a_slow_destination_seconds(tmp_path: Path, sink: Sink) -> None:
    """Half a second for each record: the windows become so small that starts and stops do not repeat the same."""
    with closing(Place(tmp_path, sink, parts_max=1)) as here:
        here.fill(30, 0)
        here.later(3600 * SECOND)

        def slow(_: Request) -> Reply:
            here.trip.now_ns += SECOND // 2
            return GOOD if here.trip.now_ns < stop_ns else Reply(503)

        sink.reply = slow
        total = 30 * EACH
        for _ in range(30):
            stop_ns = here.trip.now_ns + 12 * SECOND  # room for 24 records; the first window has them all
            here.trip.run(lambda: here.state.failures > 0)
            if not here.state.failures:
                break
            here.trip.killed()
            here.state.retry_ns = here.state.failures = 0
        state = here.state
        assert state.cursor == here.store.sequence() and state.window < 20
        keys = here.tested.received(sink.taken)
        assert len(set(keys)) == total and len(keys) < 1.5 * total


def test_the_windows_of_a_quick_destination_grow(tmp_path: Path, sink: Sink) -> None:
    with closing(Place(tmp_path, sink, parts_max=2000)) as here:
        for number in range(2):
            here.fill(3, 3 * number)
        here.trip.run()
        assert here.state.window > 200
        assert len(set(here.tested.received(sink.taken))) == 2 * 3 * EACH
