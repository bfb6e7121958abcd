"""What forwarding costs: CPU of a destination's thread and records a second, for each kind, to a sink on loopback."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from contextlib import closing
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "forwarders"))

import load

from kinds import KINDS, Subject
from tachograph import ledger
from tachograph.destinations import Destination
from tachograph.pipeline.delivering import Delivery
from tachograph.pipeline.progress import FILE_NAME, Progress
from tachograph.pipeline.road import stages
from tachograph.pipeline.routing import feeds_from
from tachograph.pricing import Prices
from tachograph.receivers import otlp
from tachograph.store.contract import Store
from tachograph.store.duckdb import open_store

REQUEST_SPANS = 500


def main() -> None:
    """Print a line for each kind."""
    parser = argparse.ArgumentParser(description="CPU and throughput of every forwarder")
    parser.add_argument("--spans", type=int, default=10_000)
    parser.add_argument("--kind", choices=sorted(KINDS), action="append")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, closing(open_store(Path(folder), time.time_ns)) as store:
        fill(store, given.spans)
        for name in given.kind or sorted(KINDS):
            measure(store, Path(folder), name, KINDS[name], given.spans)


def fill(store: Store, spans: int) -> None:
    """Commit the load and settle it."""
    for body in load.requests(spans // REQUEST_SPANS, REQUEST_SPANS):
        batch = otlp.decode("traces", body, "application/x-protobuf")
        for stage in stages("redacted"):
            stage(batch)
        store.commit([batch])
    price = Prices(None).price
    while ledger.settle(store, price):
        pass


def measure(store: Store, folder: Path, name: str, subject: Subject, spans: int) -> None:
    """Send all that there is to a sink."""
    with subject.sink() as sink, closing(Progress(folder / f"{name.replace('/', ' ')} {FILE_NAME}")) as progress:
        options = dict(subject.options(sink.url, 60.0))
        to = Destination(name, subject.name or "plain", "bench", options=options)
        forwarder = subject.kind.make(to, {})
        clock = partial(int, time.time_ns() + 3600 * 10**9)
        delivery = Delivery(name, forwarder, feeds_from(store)(to, forwarder), store, progress, clock, lambda: 0.5)
        progress.rewind(name, 0)
        cpu, wall = time.thread_time(), time.perf_counter()
        while delivery.round() == 0:
            pass
        cpu, wall = time.thread_time() - cpu, time.perf_counter() - wall
        delivery.close()
        state, size = delivery.state, sum(len(request.body) for request in sink.taken)
    told = f"{state.sent:7} records in {state.requests:4} requests, {size / 1e6:6.1f} MB unpacked"
    print(f"{name:16} {told}, {cpu / spans * 1e6:6.1f} us CPU a span, {spans / wall:8.0f} spans a second", flush=True)


if __name__ == "__main__":
    main()
