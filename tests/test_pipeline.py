"""The road: what a 200 means, who shares a commit, and what happens when the store or a batch is bad."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import wait
from typing import cast

import pytest

from tachograph.errors import Busy, Corrupt, Rejected
from tachograph.model import Batch, Event, Source
from tachograph.pipeline import Road, Settled, Settler, Stage
from tachograph.pipeline.settler import SECOND_NS, SHARE
from tachograph.scan import Columns, Scan
from tachograph.store.contract import Store
from tachograph.telemetry import Telemetry

SOURCE = Source({})
PATIENCE_S = 60.0  # how long a test waits before it calls something stuck; nothing is asserted about speed


def batch(name: str, size: int = 0, is_demo: bool = False) -> Batch:
    return Batch(events=[Event(SOURCE, 1, name, {})], size=size, is_demo=is_demo)


class Shelf:
    """A store in memory that commits when its gate is open and fails where it is told to."""

    def __init__(self) -> None:
        self.commits: list[list[str]] = []
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Semaphore(0)
        self.fails: Callable[[list[str]], Exception | None] = lambda names: None
        self.cleared = 0
        self.settled = 0

    def commit(self, batches: Sequence[Batch]) -> int:
        self.entered.release()
        assert self.open.wait(PATIENCE_S)
        names = [event.name for batch in batches for event in batch.events]
        if error := self.fails(names):
            raise error
        self.commits.append(names)
        return len(self.commits)

    def sequence(self) -> int:
        return len(self.commits)

    def scan(self, scan: Scan) -> Columns:
        return Columns(["settled"], {"settled": [self.settled]})

    def texts(self, hashes: Sequence[str]) -> dict[str, str]:
        return {}

    def sql(self, query: str, limit: int | None = None, stop: threading.Event | None = None) -> Columns:
        return self.scan(Scan("calls", {"settled": "call_id"}))

    def clear_demo(self) -> int:
        self.cleared += 1
        return 1

    def settle_one(self) -> bool:
        self.settled = min(self.settled + 1, len(self.commits))
        return self.settled < len(self.commits)


class Hands:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()


def build(shelf: Shelf, telemetry: Telemetry, stages: tuple[Stage, ...] = (), has_demo: bool = False) -> Road:
    return Road(as_store(shelf), stages, shelf.settle_one, Hands(), telemetry, 1 << 20, has_demo)


def as_store(stand_in: object) -> Store:
    """Stand-ins have of a store what the road uses."""
    return cast("Store", stand_in)


@pytest.fixture
def road(shelf: Shelf, telemetry: Telemetry) -> Iterator[Road]:
    road = build(shelf, telemetry)
    yield road
    shelf.open.set()
    road.close()


def hold_one(road: Road, shelf: Shelf) -> None:
    """The writer is inside a commit from now on, until the gate opens."""
    shelf.open.clear()
    road.submit(batch("first"))
    assert shelf.entered.acquire(timeout=PATIENCE_S)


def test_an_answer_means_committed(road: Road, shelf: Shelf) -> None:
    assert road.submit(batch("a")).result(PATIENCE_S) == 1
    assert shelf.commits == [["a"]]


def test_nothing_is_answered_before_the_commit(road: Road, shelf: Shelf) -> None:
    hold_one(road, shelf)
    kept = road.submit(batch("a"))
    assert not kept.done()
    shelf.open.set()
    assert kept.result(PATIENCE_S) == 2


def test_what_comes_while_a_commit_runs_shares_the_next(road: Road, shelf: Shelf) -> None:
    hold_one(road, shelf)
    kept = [road.submit(batch(f"n{n}")) for n in range(100)]
    shelf.open.set()
    wait(kept, PATIENCE_S)
    assert {future.result() for future in kept} == {2}
    assert shelf.commits == [["first"], [f"n{n}" for n in range(100)]]


def test_a_commit_is_bounded(road: Road, shelf: Shelf) -> None:
    hold_one(road, shelf)
    big = [Batch(events=[Event(SOURCE, 1, f"{n}", {}) for _ in range(3000)]) for n in range(4)]
    kept = [road.submit(each) for each in big]
    shelf.open.set()
    wait(kept, PATIENCE_S)
    assert [len(names) for names in shelf.commits] == [1, 6000, 6000]


def test_stages_run_in_order_in_the_senders_thread(shelf: Shelf, telemetry: Telemetry) -> None:
    seen: list[tuple[str, str]] = []

    def stage(name: str) -> Callable[[Batch], None]:
        def run(batch: Batch) -> None:
            seen.append((name, threading.current_thread().name))
            batch.events[0].name += name

        return run

    road = build(shelf, telemetry, (stage("1"), stage("2")))
    road.submit(batch("a")).result(PATIENCE_S)
    road.close()
    here = threading.current_thread().name
    assert seen == [("1", here), ("2", here)]
    assert shelf.commits == [["a12"]]


def test_a_stage_that_refuses_leaves_no_trace(shelf: Shelf, telemetry: Telemetry) -> None:
    def refuse(batch: Batch) -> None:
        raise Rejected("no")

    road = build(shelf, telemetry, (refuse,))
    with pytest.raises(Rejected):
        road.submit(batch("a"))
    assert road.queued_bytes == 0
    road.close()
    assert shelf.commits == []


def test_over_capacity_is_busy_at_once(road: Road, shelf: Shelf, telemetry: Telemetry) -> None:
    hold_one(road, shelf)
    kept = [road.submit(batch("a", size=500_000))]
    with pytest.raises(Busy) as caught:
        road.submit(batch("b", size=600_000))
    assert caught.value.retry_after_s >= 1
    assert telemetry.counts()["busy", "queue"] == 1
    shelf.open.set()
    wait(kept, PATIENCE_S)
    assert [names for names in shelf.commits if "b" in names] == []


def test_the_queue_is_bounded_for_tiny_batches_too(road: Road, shelf: Shelf) -> None:
    hold_one(road, shelf)
    with pytest.raises(Busy):
        for _ in range(2000):
            road.submit(batch("a"))
    assert road.queued_bytes <= 1 << 20
    shelf.open.set()


def test_one_batch_larger_than_the_queue_fits_into_an_empty_one(road: Road) -> None:
    assert road.submit(batch("a", size=1 << 30)).result(PATIENCE_S) == 1


def test_room_is_given_back(road: Road) -> None:
    for _ in range(10):
        road.submit(batch("a", size=900_000)).result(PATIENCE_S)
        while road.queued_bytes:
            threading.Event().wait(0.001)


def test_an_empty_batch_needs_no_commit(road: Road, shelf: Shelf) -> None:
    assert road.submit(Batch()).result(PATIENCE_S) == 0
    assert shelf.commits == []


def test_a_busy_store_reaches_everyone_who_waits(road: Road, shelf: Shelf) -> None:
    hold_one(road, shelf)
    kept = [road.submit(batch(f"n{n}")) for n in range(3)]
    shelf.fails = lambda names: Busy("disk: full", retry_after_s=7) if "n0" in names else None
    shelf.open.set()
    for future in kept:
        error = future.exception(PATIENCE_S)
        assert isinstance(error, Busy)
        assert error.retry_after_s == 7
    assert road.submit(batch("later")).result(PATIENCE_S) == 2, "and the road goes on"


@pytest.mark.parametrize("error", [Corrupt("x"), TypeError("x"), Rejected("x")])
def test_a_bad_batch_does_not_poison_its_neighbours(road: Road, shelf: Shelf, error: Exception) -> None:
    hold_one(road, shelf)
    kept = {name: road.submit(batch(name)) for name in ("a", "bad", "c")}
    shelf.fails = lambda names: error if "bad" in names else None
    shelf.open.set()
    assert kept["bad"].exception(PATIENCE_S) is error
    assert kept["a"].result(PATIENCE_S)
    assert kept["c"].result(PATIENCE_S)
    assert shelf.commits == [["first"], ["a"], ["c"]]


def test_a_sender_who_gives_up_does_not_stop_the_commit(road: Road, shelf: Shelf) -> None:
    hold_one(road, shelf)
    kept = road.submit(batch("a"))
    assert not kept.cancel()
    shelf.open.set()
    assert kept.result(PATIENCE_S) == 2


def test_the_demo_is_committed_alone(road: Road, shelf: Shelf) -> None:
    hold_one(road, shelf)
    kept = [road.submit(batch(name, is_demo=name.startswith("d"))) for name in ("d1", "d2", "r1", "d3")]
    shelf.open.set()
    wait(kept, PATIENCE_S)
    assert shelf.commits == [["first"], ["d1", "d2"], ["r1"], ["d3"]]


def test_real_data_clears_the_demo(shelf: Shelf, telemetry: Telemetry) -> None:
    road = build(shelf, telemetry, has_demo=True)
    road.submit(batch("d", is_demo=True)).result(PATIENCE_S)
    road.submit(batch("r")).result(PATIENCE_S)
    road.submit(batch("r2")).result(PATIENCE_S)
    road.close()
    assert shelf.cleared == 1


def test_closing_commits_what_waits_and_takes_no_more(shelf: Shelf, telemetry: Telemetry) -> None:
    road = build(shelf, telemetry)
    hold_one(road, shelf)
    kept = road.submit(batch("a"))
    closer = threading.Thread(target=road.close)
    closer.start()
    while True:
        try:
            road.submit(Batch())
        except Busy:
            break
    shelf.open.set()
    closer.join(PATIENCE_S)
    assert kept.result(0) == 2
    assert shelf.commits == [["first"], ["a"]]
    road.close()


class Steps(Hands):
    """A clock on which every look takes a while, so that commits seem long and the next ones gather."""

    def __call__(self) -> int:
        self.now_ns += SECOND_NS // 10
        return self.now_ns


@pytest.mark.parametrize("clock", [Hands(), Steps()])
def test_many_senders_are_all_kept_exactly_once(shelf: Shelf, telemetry: Telemetry, clock: Hands) -> None:
    road = Road(as_store(shelf), (), shelf.settle_one, clock, telemetry, 1 << 20)

    def send(sender: int) -> None:
        for n in range(50):
            road.submit(batch(f"{sender}/{n}")).result(PATIENCE_S)

    threads = [threading.Thread(target=send, args=(sender,)) for sender in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    road.close()
    names = [name for names in shelf.commits for name in names]
    assert sorted(names) == sorted(f"{sender}/{n}" for sender in range(8) for n in range(50))


def test_counts(road: Road, telemetry: Telemetry) -> None:
    road.submit(batch("a")).result(PATIENCE_S)
    assert telemetry.counts() == {("received", "events"): 1, ("committed", "events"): 1}
    assert telemetry.durations()["commit"].runs == 1


def test_readers_see_what_was_acknowledged(road: Road, shelf: Shelf) -> None:
    reader = Settled(as_store(shelf), road.settler)
    for n in range(1, 20):
        road.submit(batch("a")).result(PATIENCE_S)
        assert reader.scan(Scan("calls", {"settled": "call_id"})).data["settled"] == [n]
    assert reader.sequence() == 19


def test_the_settler_works_without_readers(road: Road, shelf: Shelf) -> None:
    road.submit(batch("a")).result(PATIENCE_S)
    for _ in range(int(PATIENCE_S * 1000)):
        if shelf.settled == 1:
            return
        threading.Event().wait(0.001)
    pytest.fail("nobody settled")


class Backlog:
    """A store with much to settle; each portion takes a second of the clock, as the test counts it."""

    def __init__(self, portions: int) -> None:
        self.left = portions
        self.commits = 0
        self.error: Exception | None = None
        self.clock = Hands()

    def sequence(self) -> int:
        return self.commits

    def settle(self) -> bool:
        if not self.commits:
            return False
        if self.error:
            raise self.error
        self.clock.now_ns += SECOND_NS
        self.left -= 1
        return self.left > 0

    def settler(self) -> Settler:
        """One whose thread has ended: only readers work."""
        settler = Settler(as_store(self), self.settle, self.clock, Telemetry())
        settler.close()
        self.commits = 1
        return settler


def test_a_reader_does_not_wait_for_a_backlog() -> None:
    backlog = Backlog(10)
    settler = backlog.settler()
    assert not settler.catch_up(within_ns=3 * SECOND_NS)
    assert backlog.left == 7
    backlog.clock.now_ns += 1000 * SECOND_NS
    assert not settler.catch_up(within_ns=3 * SECOND_NS)
    assert backlog.left == 7, "the next reader does not even try: the thread is behind, and catching up"


def test_readers_keep_to_the_share_of_the_time_too() -> None:
    backlog = Backlog(2)
    settler = backlog.settler()
    assert settler.catch_up(within_ns=3 * SECOND_NS), "there was credit for it"
    backlog.left, backlog.commits = 1, 2
    assert not settler.catch_up(within_ns=3 * SECOND_NS), "and it is used up"
    backlog.clock.now_ns += SHARE * SECOND_NS
    assert settler.catch_up(within_ns=3 * SECOND_NS)
    assert backlog.left == 0


def test_who_rests_between_rounds_is_there_for_readers_and_at_the_end() -> None:
    backlog = Backlog(5)
    settler = Settler(as_store(backlog), backlog.settle, backlog.clock, Telemetry(), is_eager=False)
    settler.keep_up(rest_s=3600)
    backlog.commits = 1
    settler.notice()
    assert not settler.catch_up(within_ns=2 * SECOND_NS)
    assert backlog.left == 3, "the thread rests, a reader does not wait for it"
    settler.close()
    assert not settler._thread.is_alive()


@pytest.mark.parametrize("error", [Busy("disk: full"), TypeError("oops")])
def test_a_reader_is_answered_by_a_store_that_cannot_settle(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    backlog = Backlog(1)
    backlog.error = error
    settler = backlog.settler()
    assert not settler.catch_up()
    assert "settling" in capsys.readouterr().err
