"""Questions to a store of millions of spans: pages and commands over the real server, in milliseconds.

`--make SPANS` fills the store first, over 30 days (3 million take some ten minutes); without a folder it is a temporary
one of 300,000 spans.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import load
from intake import Server

from tachograph import ledger, questions, redaction, registry
from tachograph.model import Batch
from tachograph.pricing import Prices
from tachograph.receivers import otlp
from tachograph.scan import Agg, Match, Scan
from tachograph.store.duckdb import open_store

ROUNDS = 7
SPANS = 512
GROUP = 8
DAYS = 30


def make(home: Path, spans: int) -> None:
    """Fill a store with `spans` spans over the last thirty days, through the stages and the ledger."""
    now = time.time_ns()
    start = now - DAYS * 86_400_000_000_000
    step = (now - start) // (spans // load.SPANS_PER_TRACE + 1)
    prices = Prices(None)
    store = open_store(home, time.time_ns)
    group: list[Batch] = []
    for number, body in enumerate(load.requests(spans // SPANS, SPANS, start_ns=start, step_ns=step)):
        batch = otlp.decode("traces", body, otlp.PROTOBUF)
        registry.normalise(batch)
        redaction.redact(batch, "redacted")
        ledger.report(batch)
        group.append(batch)
        if len(group) == GROUP:
            store.commit(group)
            group = []
        if number % 128 == 0:
            while ledger.settle(store, prices.price):
                pass
            print(f"\r{number * SPANS:,} spans", end="", file=sys.stderr, flush=True)
    store.commit(group)
    while ledger.settle(store, prices.price):
        pass
    store.tidy()
    store.close()
    print(file=sys.stderr)


def timed(name: str, ask: Callable[[], object]) -> None:
    """Print the median and the worst of several rounds, after one that is not counted."""
    ask()
    taken = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        ask()
        taken.append((time.perf_counter() - start) * 1e3)
    print(f"{name:34} {statistics.median(taken):8.1f} ms  worst {max(taken):8.1f}", flush=True)


def page(port: int, path: str) -> bytes:
    """Get one page."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path, headers={"Host": f"127.0.0.1:{port}"})
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200:
        raise SystemExit(f"{path}: {answer.status} {body[:200]!r}")
    connection.close()
    return body


def main() -> None:
    """Print how long each question takes."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--make", type=int, metavar="SPANS")
    given = parser.parse_args()
    if given.folder is not None:
        ask(given.folder, given.make or 0)
        return
    with tempfile.TemporaryDirectory() as folder:
        ask(Path(folder), given.make or 300_000)


def ask(folder: Path, spans: int) -> None:
    """Fill the store where that is wanted, and put every question to it."""
    if spans:
        make(folder, spans)
    store = open_store(folder, time.time_ns)
    total = store.scan(Scan("spans", {"n": Agg("count")})).data["n"][0]
    calls = store.scan(Scan("calls", {"n": Agg("count")})).data["n"][0]
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{total:,} spans, {calls:,} calls, {size / total:.0f} bytes a span on disk")
    trace = store.scan(Scan("spans", {"id": "trace_id"}, limit=1, offset=total // 2)).data["id"][0]
    session = store.scan(Scan("sessions", {"id": "session_id"}, limit=1, offset=5)).data["id"][0]
    whole = {
        column: column for column in ("span_id", "parent_id", "name", "start_ns", "end_ns", "attributes", "contents")
    }
    timed("trace by id, with attributes", lambda: store.scan(Scan("spans", whole, (Match("trace_id", "=", trace),))))
    timed("newest sessions", lambda: questions.sessions(store, limit=50))
    timed("usage by day and model", lambda: questions.usage(store, ("day", "model")))
    timed("text search, a word that is there", lambda: questions.search(store, load.WORDS[40]))
    timed("text search, a word that is not", lambda: questions.search(store, "zyzzyva-not-there"))
    store.close()
    server = Server(folder)
    try:
        print(f"ready after {server.ready_s:.2f} s, {server.memory_bytes() / 1e6:.0f} MB")
        for name, path in (
            ("Overview, 7 days", "/"),
            ("Overview, 30 days", "/?range=30d"),
            ("Sessions", "/sessions"),
            ("one session", f"/sessions/{urllib.request.quote(session, safe='')}"),
            ("one trace", f"/traces/{trace}"),
        ):
            timed(f"page: {name}", lambda path=path: page(server.web, path))
        print(f"memory afterwards {server.memory_bytes() / 1e6:.0f} MB")
    finally:
        server.stop()


if __name__ == "__main__":
    main()
