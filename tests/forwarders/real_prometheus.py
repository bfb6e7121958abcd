"""Debian's Prometheus and promtool, run for real where they are there, and a store filled with all recordings."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

from recordings import CAPTURES, MANIFEST, requests, transcripts
from tachograph import ledger, redaction, registry
from tachograph.destinations import Destination
from tachograph.forwarders.contract import Forwarder
from tachograph.model import Batch, Meaning
from tachograph.pipeline.delivering import Delivery
from tachograph.pipeline.progress import FILE_NAME, Progress
from tachograph.pipeline.routing import feeds_from
from tachograph.pricing import Prices
from tachograph.store.contract import Store

SECOND = 1_000_000_000
_FOLDER = os.environ.get("TACHOGRAPH_PROMETHEUS", "")  # read once: tests see nothing of the environment
_IS_REQUIRED = os.environ.get("TACHOGRAPH_CLIENTS_REQUIRED") == "1"


def program(name: str) -> str:
    """The path of `prometheus` or `promtool`; skips where it is not there."""
    found = shutil.which(name, path=_FOLDER) if _FOLDER else shutil.which(name, path=os.defpath + ":/usr/local/bin")
    return found or _unavailable(f"{name} is not installed")


def _unavailable(why: str) -> NoReturn:
    if _IS_REQUIRED:
        pytest.fail(why)
    pytest.skip(why)


class Server:
    """A Prometheus that listens on this machine."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, query: str, at_s: float) -> list[dict[str, Any]]:
        """The answer to a query at a time; raises ValueError with what the server says of a wrong one."""
        return self._get("query", {"query": query, "time": f"{at_s:.3f}"})

    def ask_range(self, query: str, start_s: float, end_s: float, step_s: int) -> list[dict[str, Any]]:
        """The answer to a query over a range."""
        return self._get("query_range", {"query": query, "start": start_s, "end": end_s, "step": step_s})

    def names(self) -> list[str]:
        """The names of all metrics that it has."""
        with urlopen(f"{self.url}/api/v1/label/__name__/values", timeout=20) as answer:
            return list(json.loads(answer.read())["data"])

    def _get(self, what: str, asked: dict[str, Any]) -> list[dict[str, Any]]:
        try:
            with urlopen(f"{self.url}/api/v1/{what}?{urlencode(asked)}", timeout=20) as answer:
                return list(json.loads(answer.read())["data"]["result"])
        except URLError as error:
            said = error.read().decode() if hasattr(error, "read") else str(error)
            raise ValueError(f"{asked['query']}: {said}") from None


@contextmanager
def prometheus(folder: Path, config: str = "{}") -> Iterator[Server]:
    """A server with an empty store, taking remote write; `config` is what its file says."""
    path = program("prometheus")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "prometheus.yml").write_text(config, encoding="utf-8")
    command = [
        path, f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}", "--web.enable-remote-write-receiver", "--log.level=error",
    ]  # fmt: skip
    with (folder / "prometheus.log").open("w") as log:
        running = subprocess.Popen(command, stdout=log, stderr=log)
    server = Server(f"http://127.0.0.1:{port}")
    try:
        while not _is_ready(server) and running.poll() is None:
            time.sleep(0.1)
        assert running.poll() is None, (folder / "prometheus.log").read_text()
        yield server
    finally:
        running.terminate()
        running.wait()


def _is_ready(server: Server) -> bool:
    try:
        with urlopen(f"{server.url}/-/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def fill(store: Store, end_ns: int) -> None:
    """Commit every recording and settle it, all moved so that each ends at `end_ns`."""
    prices = Prices()
    folders = [CAPTURES / name for name in sorted(MANIFEST) if MANIFEST[name].get("requests")]
    known: set[str] = set()
    for folder in [*folders, *sorted(path for path in (CAPTURES / "pi").iterdir() if path.is_dir())]:
        batches = [*requests(folder), *transcripts(folder)]
        for batch in batches:
            registry.normalise(batch)
        sessions = {m.session_id for b in batches for m in _meanings(b) if m and m.session_id}
        if sessions & known:
            continue  # the parts of one session would be moved by different times
        known |= sessions
        moved(batches, end_ns)
        for batch in batches:
            redaction.redact(batch, "redacted")
            ledger.report(batch)
            store.commit([batch])
    while ledger.settle(store, prices.price):
        pass


def _meanings(batch: Batch) -> list[Meaning | None]:
    return [span.meaning for span in batch.spans] + [event.meaning for event in batch.events]


def moved(batches: list[Batch], end_ns: int) -> None:
    """Move all times of these records by the same, so that the last of them is `end_ns`."""
    ends = [s.end_ns for b in batches for s in b.spans] + [e.time_ns for b in batches for e in b.events]
    ends += [p.time_ns for b in batches for p in b.points]
    if not ends:
        return
    by = end_ns - max(ends)
    for batch in batches:
        for span in batch.spans:
            span.start_ns, span.end_ns = span.start_ns + by, span.end_ns + by
        for event in batch.events:
            event.time_ns += by if event.time_ns else 0
            event.observed_ns += by if event.observed_ns else 0
        for point in batch.points:
            point.time_ns += by
            point.start_ns += by if point.start_ns else 0


def deliver(store: Store, forwarder: Forwarder, folder: Path, now_ns: int, name: str = "test") -> Delivery:
    """Send all that the store has, quiet sessions too."""
    destination = Destination(name, name, name, privacy="none")
    progress = Progress(folder / FILE_NAME)
    progress.rewind(name, 0)
    feeds = feeds_from(store)(destination, forwarder)
    delivery = Delivery(name, forwarder, feeds, store, progress, lambda: now_ns, lambda: 0.5)
    while delivery.round() == 0:
        pass
    return delivery
