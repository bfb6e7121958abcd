"""Answers that may mean that a destination is down, or that it cannot take a record: each kind finds out which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from deliveries import Trip, fill
from fillings import NOON, SECOND
from kinds import KINDS, Subject
from sink import GOOD, GrpcSink, Reply, Request, Sink
from tachograph.destinations import Destination
from tachograph.store.contract import Store
from tachograph.store.duckdb import open_store

LATER = NOON + 3600 * SECOND
BROKEN = Reply(500, b"oh")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with closing(open_store(tmp_path_factory.mktemp("doubt") / "store", lambda: NOON)) as opened:
        fill(opened)
        yield opened


@pytest.fixture(params=sorted(KINDS), scope="module")
def tested(request: pytest.FixtureRequest) -> Subject:
    return KINDS[request.param]


@pytest.fixture
def sink(tested: Subject) -> Iterator[Sink | GrpcSink]:
    with tested.sink() as opened:
        yield opened


def trip(home: Path, store: Store, tested: Subject, sink: Sink | GrpcSink, parts_max: int = 8) -> Trip:
    options = dict(tested.options(sink.url, 60.0))
    to = Destination("acme", tested.name or "plain", "acme", options=options, parts_max=parts_max)
    return Trip(home, store, lambda one: tested.kind.make(one, {}), to, LATER)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, store: Store, tested: Subject) -> list[str]:
    with tested.sink() as good:
        going = trip(tmp_path_factory.mktemp("expected"), store, tested, good)
        going.run()
        going.end()
        return tested.received(good.taken)


def breaks_on(tested: Subject, bad: set[str]) -> Callable[[Request], Reply]:
    return lambda request: BROKEN if bad & set(tested.received([request])) else GOOD


@pytest.mark.parametrize("parts_max", [1, 8, 500])
def test_an_hour_of_500_sets_nothing_aside(
    tmp_path: Path, store: Store, tested: Subject, sink: Sink | GrpcSink, expected: list[str], parts_max: int
) -> None:
    going = trip(tmp_path, store, tested, sink, parts_max)
    sink.reply = lambda _: BROKEN
    back_ns = going.now_ns + 3600 * SECOND
    going.run(lambda: going.now_ns >= back_ns)
    state = going.delivery.state
    assert len(sink.requests) < 3 * 12 + 40, "three in five minutes at most, when it has been down for long"
    assert (state.sent, state.refused, state.cursor) == (0, 0, 0) and state.failures > 10
    sink.requests.clear()
    sink.reply = lambda _: GOOD
    going.run()
    going.end()
    assert Counter(tested.received(sink.taken)) == Counter(expected), "all of it, and once"
    assert going.delivery.state.refused == 0
    assert len(sink.requests) <= len(expected) // parts_max + 12, "and in requests as large as ever"


@pytest.mark.parametrize("parts_max", [1, 8, 500])
def test_a_record_that_breaks_it_is_found_and_costs_only_itself(
    tmp_path: Path, store: Store, tested: Subject, sink: Sink | GrpcSink, expected: list[str], parts_max: int
) -> None:
    if tested.is_summed:
        pytest.skip("what is refused of a sum is in the next one")
    bad = {expected[0], expected[len(expected) // 2], expected[len(expected) // 2 + 1]}
    sink.reply = breaks_on(tested, bad)
    going = trip(tmp_path, store, tested, sink, parts_max)
    going.run()
    assert Counter(tested.received(sink.taken)) == Counter(key for key in expected if key not in bad)
    letters = going.progress.letters("acme")
    assert (going.delivery.state.refused, len(letters)) == (3, 3)
    sink.reply = lambda _: GOOD
    assert going.progress.want("acme") == 3
    going.run()
    going.end()
    assert set(tested.received(sink.taken)) == set(expected)
    assert going.delivery.state.refused == 0


def test_a_record_alone_waits_for_another(tmp_path: Path, tested: Subject, sink: Sink | GrpcSink) -> None:
    """Nothing says whether it is the record, until something else is taken."""
    if tested.is_summed:
        pytest.skip("what is refused of a sum is in the next one")
    with closing(open_store(tmp_path / "store", lambda: NOON)) as store:
        fill(store, 1, 1)
        home = tmp_path / "first"
        home.mkdir()
        with tested.sink() as good:
            going = trip(home, store, tested, good)
            going.run()
            going.end()
            first = set(tested.received(good.taken))
        sink.reply = breaks_on(tested, first)
        going = trip(tmp_path, store, tested, sink)
        going.run(lambda: going.now_ns > LATER + 900 * SECOND)
        assert (going.delivery.state.refused, going.delivery.state.sent) == (0, 0)
        for number in range(1, 5):
            fill(store, 1, 1, first=number)
            until_ns = going.now_ns + 900 * SECOND
            going.run(lambda: going.now_ns > until_ns)  # noqa: B023 - it is used only in this turn
        going.run()
        going.end()
        assert going.delivery.state.refused == len(first)
        assert len(tested.received(sink.taken)) == 4 * len(first)


def test_a_destination_that_dies_while_it_is_asked_sets_next_to_nothing_aside(
    tmp_path: Path, store: Store, tested: Subject, sink: Sink | GrpcSink, expected: list[str]
) -> None:
    """One piece is taken, and then nothing is any more: that says of one record at most that it is at fault."""
    left = iter([BROKEN, BROKEN, BROKEN, GOOD])
    sink.reply = lambda _: next(left, BROKEN)
    going = trip(tmp_path, store, tested, sink)
    going.run(lambda: going.now_ns > LATER + 900 * SECOND)
    assert len(sink.taken) == 1 and going.delivery.state.refused <= 1
    assert len(sink.requests) < 3 * 16
    sink.reply = lambda _: GOOD
    going.run()
    refused = going.delivery.state.refused
    going.end()
    came = Counter(tested.received(sink.taken))
    told_by_one = 20  # at most: a point of a histogram is a sample for each of its buckets
    assert max(came.values()) == 1 and len(came) >= len(expected) - refused * told_by_one
