"""What every forwarder does, whatever its destination does: nothing lost, nothing that was answered doubled."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest

from deliveries import SESSIONS, Trip, fill
from fillings import NOON, SECOND
from kinds import KINDS, Subject
from sink import GOOD, GrpcSink, Reply, Request, Sink
from tachograph.destinations import Destination
from tachograph.forwarders.contract import CALLS, STEPS, Step
from tachograph.pipeline.progress import FILE_NAME, Progress, Remembered
from tachograph.pipeline.routing import feeds_from
from tachograph.registry import FORWARDERS
from tachograph.store.contract import Store
from tachograph.store.duckdb import open_store

LATER = NOON + 3600 * SECOND  # everything was committed long ago
TIMEOUT_S = 60.0
PARTS_MAX = 4  # several requests of a window


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with closing(open_store(tmp_path_factory.mktemp("contract") / "store", lambda: NOON)) as opened:
        fill(opened)
        yield opened


@pytest.fixture(params=sorted(KINDS), scope="module")
def tested(request: pytest.FixtureRequest) -> Subject:
    return KINDS[request.param]


@pytest.fixture
def sink(tested: Subject) -> Iterator[Sink | GrpcSink]:
    with tested.sink() as opened:
        yield opened


def trip(tmp_path: Path, store: Store, tested: Subject, sink: Sink | GrpcSink, timeout_s: float = TIMEOUT_S) -> Trip:
    options = dict(tested.options(sink.url, timeout_s))
    to = Destination("acme", tested.name or "plain", "acme", options=options, parts_max=PARTS_MAX)
    return Trip(tmp_path, store, lambda one: tested.kind.make(one, {}), to, LATER)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, store: Store, tested: Subject) -> list[str]:
    """The keys that come where nothing goes wrong, in order."""
    with tested.sink() as good:
        going = trip(tmp_path_factory.mktemp("expected"), store, tested, good)
        going.run()
        going.end()
        assert going.delivery.state.cursor == store.sequence()
        return tested.received(good.taken)


def first_seen(keys: list[str]) -> list[str]:
    return list(dict.fromkeys(keys))


def test_every_kind_is_tested() -> None:
    assert {one.name for one in KINDS.values() if one.name} == set(FORWARDERS)


def test_all_of_it_comes_once(expected: list[str]) -> None:
    assert len(expected) >= SESSIONS
    assert set(Counter(expected).values()) == {1}


def test_nobody_gets_the_demo(tmp_path: Path, tested: Subject, sink: Sink | GrpcSink) -> None:
    with closing(open_store(tmp_path / "store", lambda: NOON)) as store:
        fill(store, sessions=1, is_demo=True)
        going = trip(tmp_path, store, tested, sink)
        going.run()
        going.end()
        assert going.delivery.state.cursor == store.sequence()
    assert tested.received(sink.taken) == []


def test_a_full_stop_and_a_new_start_repeat_nothing(
    tmp_path: Path, store: Store, tested: Subject, sink: Sink | GrpcSink, expected: list[str]
) -> None:
    going = trip(tmp_path, store, tested, sink)
    going.run()
    going.killed()
    going.run()
    going.end()
    assert tested.received(sink.taken) == expected


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(Reply(500, b"no"), id="500"),
        pytest.param(Reply(503), id="503"),
        pytest.param(Reply(429, headers={"Retry-After": "7"}), id="429"),
        pytest.param(Reply(200, how="drop"), id="drop"),
        pytest.param(Reply(401, b"who are you?"), id="401"),
    ],
)
def test_what_is_not_taken_is_sent_again_in_order(
    tmp_path: Path, store: Store, tested: Subject, sink: Sink | GrpcSink, expected: list[str], reply: Reply
) -> None:
    """Of three requests one goes wrong, and nothing was taken of it."""
    numbers = count()
    sink.reply = lambda _: reply if next(numbers) % 3 == 1 else GOOD
    going = trip(tmp_path, store, tested, sink)
    going.run()
    going.end()
    assert first_seen(tested.received(sink.taken)) == expected
    assert len(tested.received(sink.taken)) == len(expected), "nothing is doubled that was not taken"
    assert going.delivery.state.refused == 0
    assert going.delivery.state.failed > 0


@pytest.mark.parametrize("how", ["break_off", "stall"])
def test_what_was_taken_and_not_answered_comes_again(
    tmp_path: Path, store: Store, tested: Subject, sink: Sink | GrpcSink, expected: list[str], how: str
) -> None:
    """The sink has it, the sender cannot know: the same keys come again."""
    if how == "break_off" and tested.sink is GrpcSink:
        pytest.skip("gRPC has no half an answer")
    numbers = count()
    sink.reply = lambda _: Reply(how=how) if next(numbers) == 2 else GOOD
    going = trip(tmp_path, store, tested, sink, 1.0 if how == "stall" else TIMEOUT_S)
    going.run()
    going.end()
    assert first_seen(tested.received(sink.taken)) == expected


def test_an_hour_away(
    tmp_path: Path, store: Store, tested: Subject, sink: Sink | GrpcSink, expected: list[str]
) -> None:
    going = trip(tmp_path, store, tested, sink)
    sink.reply = lambda _: GOOD if len(sink.taken) < 1 else Reply(how="drop")
    going.run(lambda: going.delivery.state.failures > 0)
    sink.reply = lambda _: GOOD
    sink.down()
    back_ns = going.now_ns + 3600 * SECOND
    going.run(lambda: going.now_ns >= back_ns)
    tries = going.delivery.state.failures
    assert 10 < tries < 40, "more and more seldom"
    sink.up()
    going.run()
    going.end()
    assert tested.received(sink.taken) == expected
    assert going.delivery.state.failures == 0


def test_a_body_that_is_too_large_is_halved(
    tmp_path: Path, store: Store, tested: Subject, sink: Sink | GrpcSink, expected: list[str]
) -> None:
    largest = max(len(body) for body in _bodies(tmp_path, store, tested))
    sink.reply = lambda request: Reply(413) if len(request.body) > largest * 0.6 else GOOD
    going = trip(tmp_path, store, tested, sink)
    going.run()
    going.end()
    assert going.delivery.state.refused == 0
    assert Counter(tested.received(sink.taken)) == Counter(expected)


def _bodies(tmp_path: Path, store: Store, tested: Subject) -> list[bytes]:
    home = tmp_path / "bodies"
    home.mkdir()
    with tested.sink() as good:
        going = trip(home, store, tested, good)
        going.run()
        going.end()
        return [request.body for request in good.taken]


@pytest.mark.parametrize("status", [400, 413])
def test_a_record_that_nobody_wants_costs_only_itself_and_can_be_sent_again(
    tmp_path: Path, store: Store, tested: Subject, sink: Sink | GrpcSink, expected: list[str], status: int
) -> None:
    if tested.is_summed:
        pytest.skip("what is refused of a sum is in the next one")
    bad = set(expected[3 :: len(expected) // 3])
    sink.reply = lambda request: Reply(status, b"bad") if bad & set(tested.received([request])) else GOOD
    going = trip(tmp_path, store, tested, sink)
    going.run()
    assert Counter(tested.received(sink.taken)) == Counter(key for key in expected if key not in bad)
    assert going.delivery.state.refused == len(bad)
    assert len(going.progress.letters("acme")) == len(bad)
    sink.reply = lambda _: GOOD
    assert going.progress.want("acme") == len(bad)
    going.run()
    letters = going.progress.letters("acme")
    going.end()
    assert set(tested.received(sink.taken)) == set(expected)
    assert going.delivery.state.refused == 0 and not letters


@pytest.mark.parametrize("after", [1, 2, 4])
def test_a_killed_process_sends_one_window_again(
    tmp_path: Path, store: Store, tested: Subject, sink: Sink | GrpcSink, expected: list[str], after: int
) -> None:
    going = trip(tmp_path, store, tested, sink)

    def reply(_: Request) -> Reply:
        return GOOD if len(sink.taken) < after else Reply(503)

    sink.reply = reply
    going.run(lambda: going.delivery.state.failures > 0)
    going.killed()
    sink.reply = lambda _: GOOD
    going.run()
    going.end()
    assert first_seen(tested.received(sink.taken)) == expected


def test_what_went_once_goes_again_when_asked(
    tmp_path: Path, store: Store, tested: Subject, sink: Sink | GrpcSink, expected: list[str]
) -> None:
    going = trip(tmp_path, store, tested, sink)
    going.run()
    going.progress.rewind("acme", 0)
    going.run()
    going.end()
    assert tested.received(sink.taken) == expected * 2


def test_nothing_comes_of_a_destination_for_other_agents(
    tmp_path: Path, store: Store, tested: Subject, sink: Sink | GrpcSink
) -> None:
    going = trip(tmp_path, store, tested, sink)
    going.end()
    to = Destination("acme", "plain", "acme", options=going.destination.options, agents=("nobody",))
    going = Trip(tmp_path, store, going.make, to, LATER)
    going.run()
    going.end()
    assert tested.received(sink.taken) == []
    assert going.delivery.state.cursor == store.sequence()


def test_what_is_made_of_calls_and_steps_is_of_one_signal(
    tmp_path: Path, store: Store, tested: Subject, sink: Sink | GrpcSink
) -> None:
    """A destination for that signal alone misses none of it."""
    going = trip(tmp_path, store, tested, sink)
    going.end()
    signal = going.delivery.forwarder.derived_signal
    found = {}
    for signals in ((signal,), tuple(one for one in ("traces", "logs", "metrics") if one != signal)):
        to = Destination("acme", tested.name or "plain", "acme", options=going.destination.options, signals=signals)
        feeds = feeds_from(store)(to, going.delivery.forwarder)
        with closing(Progress(tmp_path / FILE_NAME)) as progress:
            memory = Remembered(progress, "acme")
            items = [item for feed in feeds for some in feed.read(0, store.sequence(), memory) for item in some]
        found[signals] = {type(item.record) for item in items} & {Step, dict}
    wanted = {STEPS: Step, CALLS: dict}
    assert [*found.values()] == [{wanted[one] for one in going.delivery.forwarder.feeds if one in wanted}, set()]


def test_probing_leaves_no_trace(tmp_path: Path, store: Store, tested: Subject, sink: Sink | GrpcSink) -> None:
    going = trip(tmp_path, store, tested, sink)
    going.delivery.forwarder.probe()
    going.end()
    assert sink.requests and tested.received(sink.taken) == []


def test_running_numbers_stay_in_step(tmp_path: Path, store: Store) -> None:
    """What a forwarder remembers moves with the cursor: no number is left out or used twice, whatever happens."""
    replies = [GOOD, Reply(503), GOOD, Reply(503), Reply(503)]
    with Sink() as sink:
        going = trip(tmp_path, store, KINDS["plain"], sink)
        for _ in range(3):
            left = iter(replies)
            sink.reply = lambda _: next(left, GOOD)  # noqa: B023 - it is used only in this turn
            going.run(lambda: next(left, None) is None)  # noqa: B023
            going.killed()
        going.run()
        going.end()
        numbers: dict[str, list[int]] = {}
        for request in sink.taken:
            for value in json.loads(request.body):
                numbers.setdefault(request.path, []).append(value["number"])
    for found in numbers.values():
        assert sorted(set(found)) == list(range(1, len(set(found)) + 1))
