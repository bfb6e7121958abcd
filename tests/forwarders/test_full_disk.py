"""A full disk where is kept how far a destination is: nothing is lost or doubled, and it goes on by itself."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from deliveries import Trip, fill
from fillings import NOON, SECOND
from kinds import KINDS
from sink import GOOD, Reply, Sink
from tachograph.destinations import Destination
from tachograph.errors import ConfigError
from tachograph.pipeline.progress import FILE_NAME, Progress, State
from tachograph.store.contract import Store
from tachograph.store.duckdb import open_store

resource = pytest.importorskip("resource")  # no limits of this kind on Windows

TESTED = KINDS["otlp http/protobuf"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with closing(open_store(tmp_path_factory.mktemp("full") / "store", lambda: NOON)) as opened:
        fill(opened, sessions=1)
        yield opened


@pytest.fixture
def going(tmp_path: Path, store: Store) -> Iterator[tuple[Trip, Sink]]:
    """Ready to send all that there is: one window."""
    with Sink(lambda _: Reply(503)) as sink:
        to = Destination("acme", "otlp", "acme", options=dict(TESTED.options(sink.url, 60.0)))
        made = Trip(tmp_path, store, lambda one: TESTED.kind.make(one, {}), to, NOON + 3600 * SECOND)
        made.delivery.round()
        made.now_ns += 300 * SECOND
        sink.reply = lambda _: GOOD
        yield made, sink
        made.end()


@contextmanager
def full(home: Path) -> Iterator[None]:
    """No file grows beyond what has been written there, and what is new has to be written behind that."""
    free = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((home / f"{FILE_NAME}-wal").stat().st_size, free[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, free)


def test_what_was_sent_is_not_sent_again_when_there_is_room(going: tuple[Trip, Sink]) -> None:
    trip, sink = going
    delivery = trip.delivery
    with full(trip.home):
        for _ in range(3):
            with pytest.raises(ConfigError, match=r"forwarding.sqlite3: cannot be .*; expected .* room") as caught:
                delivery.round()
            assert "make room" in caught.value.hint
            assert delivery.state.is_refusing and "cannot be read or written" in delivery.state.answer
    assert len(TESTED.received(sink.taken)) == 25 and delivery.state.cursor == 0, "it was sent, and that is not kept"
    trip.run()
    assert len(TESTED.received(sink.taken)) == 25
    state = delivery.state
    assert (state.cursor, state.failures, state.is_refusing) == (trip.store.sequence(), 0, False)
    assert (state.lost, state.refused, state.sent) == (0, 0, 25)


def test_a_stop_while_it_is_full_sends_that_window_again(going: tuple[Trip, Sink]) -> None:
    trip, sink = going
    with full(trip.home), pytest.raises(ConfigError):
        trip.delivery.round()
    trip.killed()
    trip.run()
    came = TESTED.received(sink.taken)
    assert (len(came), len(set(came))) == (50, 25)


# Runs in a process of its own: a limit for files holds for all that it writes.
PROGRAM = """
import json, resource, sys
from pathlib import Path
from tachograph.errors import ConfigError
from tachograph.pipeline.progress import Letter, Progress, State

path, letter = Path(sys.argv[1]), Letter(["k" * 4000], 1, 1, "traces", "no", 1, 1)
progress = Progress(path)
progress.save("acme", State(cursor=1))
free = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, free[1]))
kept, said = 1, ""
try:
    while kept < 1000:
        progress.save("acme", State(cursor=kept + 1), letters=[letter])
        kept += 1
except ConfigError as error:
    said = error.what
during = progress.state("acme").cursor
resource.setrlimit(resource.RLIMIT_FSIZE, free)
progress.save("acme", State(cursor=kept + 1), letters=[letter])
print(json.dumps([kept, said, during, progress.count_letters("acme")]))
"""


def test_the_file_is_as_it_was_before_what_could_not_be_kept(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    ran = subprocess.run([sys.executable, "-c", PROGRAM, str(path)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    kept, said, during, letters = json.loads(ran.stdout)
    assert 1 < kept < 1000 and said.startswith(f"{path}: cannot be read or written: ")
    assert (during, letters) == (kept, kept)
    with closing(Progress(path)) as again:
        assert again.state("acme") == State(cursor=kept + 1)


def test_a_destination_that_is_down_and_a_disk_that_is_full(going: tuple[Trip, Sink]) -> None:
    """Each is said as long as it lasts, whichever ends first."""
    trip, sink = going
    sink.reply = lambda _: Reply(503)
    with full(trip.home):
        for _ in range(2):
            with pytest.raises(ConfigError, match="cannot be read or written"):
                trip.delivery.round()
            trip.now_ns += 300 * SECOND
    trip.delivery.round()
    assert trip.delivery.state.answer.endswith("answered 503") and not trip.delivery.state.is_refusing
    trip.now_ns += 300 * SECOND
    sink.reply = lambda _: GOOD
    trip.run()
    assert len(TESTED.received(sink.taken)) == 25 and trip.delivery.state.failures == 0
