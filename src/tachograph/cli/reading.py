"""The store of a home, asked or fed: through the running server where there is one, else opened by the command."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from tachograph.cli import running
from tachograph.cli.periods import clock
from tachograph.config import Settings
from tachograph.model import Batch
from tachograph.scan import Agg, Match, Reader, Scan
from tachograph.store import relayed

if TYPE_CHECKING:
    from tachograph.pricing import Prices
    from tachograph.store.contract import Store

DEMO: Final = "demo data: gone as soon as real data comes, or with tachograph demo --clear"
_PRICES_FILE: Final = "prices.toml"  # in the home: what the operator pays, where it is not the list price


class Sink(Protocol):
    """Where batches go: the road of this process, or that of the running server."""

    def submit(self, batch: Batch) -> Future[int]:
        """Take a batch, not to be used afterwards; the future is its commit."""
        ...


class RemoteSink:
    """The road of a running server."""

    def __init__(self, server: running.Server) -> None:
        self._server = server

    def submit(self, batch: Batch) -> Future[int]:
        """As Sink.submit; waits for the answer."""
        kept: Future[int] = Future()
        kept.set_result(self._server.commit(batch))
        return kept


@contextmanager
def open_reader(settings: Settings, is_settled: bool = True) -> Iterator[Reader]:
    """A reader that knows everything acknowledged so far; raises ConfigError where another command has the store.

    Without `is_settled` what came last may not be worked into calls yet, which spares loading what does that.
    """
    relayed.unmark(settings.home)
    found = running.find(settings.home)
    if found is not None:
        server = running.Server(found)
        if is_settled:
            server.settle()
        yield server
        return
    from tachograph.server import open_store

    with closing(open_store(settings, clock)) as store:
        if is_settled:
            _settle(store, _prices(settings))
        yield store


def demo_told(reader: Reader) -> list[str]:
    """The line that a command ends with whose numbers are the demo's; none where they are real."""
    where = (Match("is_demo", "=", True),)
    found = reader.scan(Scan("sessions", {"n": Agg("count")}, where)).data["n"][0]
    return [DEMO] if found else []


def _settle(store: Store, prices: Prices) -> None:
    from tachograph.ledger import settle

    while settle(store, prices.price):
        pass


class Desk(NamedTuple):
    """A store to be fed and asked: of this process, or of the running server."""

    sink: Sink
    reader: Reader
    settle: Callable[[], None]  # work what was submitted and is durable into calls
    content: str | None  # the privacy setting, where batches have to be brought through the stages before they come


@contextmanager
def open_sink(settings: Settings) -> Iterator[Sink]:
    """A road into the store; on leaving, all that was submitted is committed, and settled where the road is ours."""
    with open_desk(settings) as desk:
        yield desk.sink


@contextmanager
def open_desk(settings: Settings, is_staged: bool = False) -> Iterator[Desk]:
    """A road into the store and a reader of it; on leaving it is as with `open_sink`.

    `is_staged`: whoever feeds it brings the batches through the stages, if `Desk.content` asks for it.
    """
    relayed.unmark(settings.home)
    found = running.find(settings.home)
    if found is not None:
        server = running.Server(found)
        yield Desk(RemoteSink(server), server, server.settle, None)
        server.settle()
        return
    from tachograph.ledger import settle
    from tachograph.pipeline import Road, stages
    from tachograph.server import has_demo, open_store
    from tachograph.telemetry import Telemetry

    with closing(open_store(settings, clock)) as store:
        work = partial(settle, store, _prices(settings).price)
        road = Road(
            store,
            () if is_staged else stages(settings.content),
            work,
            time.monotonic_ns,
            Telemetry(),
            settings.queue_bytes_max,
            has_demo=has_demo(store),
        )

        def settle_all() -> None:
            while work():
                pass

        with closing(road):
            yield Desk(road, store, settle_all, settings.content if is_staged else None)
        settle_all()


def _prices(settings: Settings) -> Prices:
    from tachograph.pricing import Prices

    overrides = settings.home / _PRICES_FILE
    return Prices(overrides if overrides.exists() else None)
