"""What was refused and is sent again: together, in turn with what is new, and given up where somebody says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from deliveries import Trip, fill
from fillings import NOON, SECOND
from kinds import KINDS
from plain import received
from sink import GOOD, Reply, Sink
from tachograph.destinations import Destination
from tachograph.store.contract import Store
from tachograph.store.duckdb import open_store

LATER = NOON + 3600 * SECOND
BAD = Reply(400, b"bad")
BROKEN = Reply(500, b"oh")


@pytest.fixture
def clock() -> list[int]:
    return [NOON]


@pytest.fixture
def store(tmp_path: Path, clock: list[int]) -> Iterator[Store]:
    with closing(open_store(tmp_path / "store", lambda: clock[0])) as opened:
        fill(opened, 2, 2)
        yield opened


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink() as opened:
        yield opened


@pytest.fixture
def going(tmp_path: Path, store: Store, sink: Sink) -> Iterator[Trip]:
    kind = KINDS["plain"].kind
    to = Destination("acme", "plain", "acme", options={"url": sink.url, "timeout": 60.0})
    made = Trip(tmp_path, store, lambda one: kind.make(one, {}), to, LATER)
    yield made
    made.end()


def refused(going: Trip, sink: Sink) -> set[str]:
    """Have all of it refused, and asked for again; its keys."""
    sink.reply = lambda _: BAD
    going.run()
    keys = set(received(sink.requests))
    assert len(keys) == len(going.progress.letters("acme")) == going.delivery.state.refused > 20
    assert going.progress.want("acme") == len(keys)
    sink.requests.clear()
    return keys


def test_they_go_together(going: Trip, store: Store, sink: Sink) -> None:
    pieces = len(refused(going, sink))
    sink.reply = lambda _: GOOD
    going.run()
    assert len(received(sink.taken)) == len(set(received(sink.taken))) == pieces
    assert len(sink.requests) < pieces / 4, "not one by one"
    assert going.delivery.state.refused == 0 and not going.progress.letters("acme")


def test_they_do_not_hold_up_what_is_new(going: Trip, store: Store, sink: Sink) -> None:
    old = refused(going, sink)
    fill(store, 1, 1, first=7, at_ns=LATER)
    sink.reply = lambda request: BROKEN if set(received([request])) & old else GOOD
    going.run()
    assert going.delivery.state.cursor == store.sequence()
    assert "spans" in " ".join(received(sink.taken)), "what is new went"


@pytest.mark.parametrize("status", [400, 500])
def test_what_is_refused_again_is_kept_again(going: Trip, store: Store, sink: Sink, status: int) -> None:
    pieces = len(refused(going, sink))
    sink.reply = lambda _: Reply(status, b"still not")
    going.run()
    letters = going.progress.letters("acme")
    assert sum(letter.rejected for letter in letters) == going.delivery.state.refused == pieces
    assert all("still not" in letter.answer for letter in letters)
    assert not going.progress.letters("acme", is_wanted=True), "once for each time that somebody asks"
    sink.reply = lambda _: GOOD
    going.progress.want("acme")
    going.run()
    assert len(set(received(sink.taken))) == pieces and going.delivery.state.refused == 0


def test_one_that_is_bad_among_many_costs_only_itself(going: Trip, store: Store, sink: Sink) -> None:
    pieces = len(refused(going, sink))
    bad = next(one.keys[0] for one in going.progress.letters("acme") if one.route == "events")
    sink.reply = lambda request: BROKEN if any(bad in key for key in received([request])) else GOOD
    going.run()
    (left,) = going.progress.letters("acme")
    assert left.keys == [bad] and going.delivery.state.refused == 1
    assert len(set(received(sink.taken))) == pieces - 1


def test_what_is_gone_is_lost(going: Trip, store: Store, sink: Sink, clock: list[int]) -> None:
    refused(going, sink)
    clock[0] += 9 * 86400 * SECOND
    assert store.forget(clock[0]) == 1
    sink.reply = lambda _: GOOD
    going.run()
    state = going.delivery.state
    assert state.lost > 0 and state.lost_ns >= LATER and state.refused == 0


def test_what_is_dropped_is_sent_no_more(going: Trip, store: Store, sink: Sink) -> None:
    pieces = len(refused(going, sink))
    one = going.progress.letters("acme")[0]
    assert going.progress.drop("", one.id) == 1
    assert going.progress.drop("other") == 0
    assert going.progress.drop("acme") == pieces - 1
    sink.reply = lambda _: GOOD
    going.run()
    assert not sink.requests


def test_what_a_killed_process_had_set_aside_is_counted_once(going: Trip, store: Store, sink: Sink) -> None:
    """It is busy half-way: that is kept, and what was refused until then only with the window."""
    sink.reply = lambda _: BAD if len(sink.requests) < 20 else Reply(503)
    going.run(lambda: going.delivery.state.failures > 0)
    going.killed()
    sink.reply = lambda _: BAD
    going.run()
    letters = going.progress.letters("acme")
    assert going.delivery.state.refused == sum(letter.rejected for letter in letters) > 20
    sink.reply = lambda _: GOOD
    going.progress.want("acme")
    going.run()
    assert going.delivery.state.refused == 0
