"""What forwarding costs: CPU of a destination's thread and records a second, for each kind, to a sink on loopback.

With --growing: what it costs while one long session goes on, a few spans every five seconds.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "forwarders"))

import load

from kinds import KINDS, Subject
from tachograph import ledger
from tachograph.destinations import Destination
from tachograph.model import PROMPT, TOOL_RUN, Batch, Meaning, Source, Span
from tachograph.pipeline.delivering import Delivery
from tachograph.pipeline.progress import FILE_NAME, Progress
from tachograph.pipeline.road import stages
from tachograph.pipeline.routing import feeds_from
from tachograph.pricing import Prices
from tachograph.receivers import otlp
from tachograph.store.contract import Store
from tachograph.store.duckdb import open_store

REQUEST_SPANS = 500
SECOND_NS = 1_000_000_000
START_NS = 1_795_000_000 * SECOND_NS
GROWS_SPANS = 10  # of the long session, every
GROWS_NS = 5 * SECOND_NS
GROWS_TIMES = 60


def main() -> None:
    """Print a line for each kind."""
    parser = argparse.ArgumentParser(description="CPU and throughput of every forwarder")
    parser.add_argument("--spans", type=int, default=10_000)
    parser.add_argument("--kind", choices=sorted(KINDS), action="append")
    parser.add_argument("--growing", type=int, metavar="SPANS", help="a session of so many spans that goes on")
    given = parser.parse_args()
    if given.growing:
        for name in given.kind or ["langfuse", "posthog", "otlp normalised"]:
            grow(name, KINDS[name], given.growing)
        return
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


def session(number: int, spans: int, now_ns: int) -> Batch:
    """So many tool runs of one session, one after the other, in the trace of its one prompt."""
    source = Source({"service.name": "bench-agent"})
    made = Batch()
    for place in range(number, number + spans):
        role = PROMPT if place == 0 else TOOL_RUN
        meaning = Meaning(dialect="pi", role=role, agent="pi", session_id="long", tool_name="bash")
        meaning.tool_call_id = f"t{place}" if place else ""
        ids = ("ab" * 16, f"{place + 1:016x}", f"{1:016x}" if place else "")
        start_ns = now_ns + place * 1_000_000
        made.spans.append(Span(source, *ids, role, 1, start_ns, start_ns + 900_000, {}, meaning=meaning))
    return made


def grow(name: str, subject: Subject, spans: int) -> None:
    """Send a long session while it goes on: CPU for what is there already, then for each look and each new span."""
    now_ns = START_NS
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        store = stack.enter_context(closing(open_store(folder, lambda: now_ns)))
        sink = stack.enter_context(subject.sink())
        progress = stack.enter_context(closing(Progress(folder / FILE_NAME)))
        to = Destination(name, subject.name or "plain", "bench", options=dict(subject.options(sink.url, 60.0)))
        forwarder = subject.kind.make(to, {})
        feeds = feeds_from(store)(to, forwarder)
        delivery = Delivery(name, forwarder, feeds, store, progress, lambda: now_ns, lambda: 0.5)
        told, costs = 0, []
        for new in (spans, *[GROWS_SPANS] * GROWS_TIMES):
            store.commit([session(told, new, now_ns)])
            while ledger.settle(store, Prices(None).price):
                pass
            told += new
            now_ns += GROWS_NS
            cpu = time.thread_time()
            while delivery.round() == 0:
                pass
            costs.append(time.thread_time() - cpu)
        delivery.close()
    after = sum(costs[1:])
    print(
        f"{name:16} {spans} spans: {costs[0] / spans * 1e6:6.1f} us CPU a span; then {GROWS_TIMES} times {GROWS_SPANS}:"
        f" {after / GROWS_TIMES / GROWS_SPANS * 1e6:8.1f} us CPU a span,"
        f" {after / GROWS_TIMES / GROWS_NS * 1e11:5.2f} % of a CPU, {delivery.state.sent} records",
        flush=True,
    )


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
