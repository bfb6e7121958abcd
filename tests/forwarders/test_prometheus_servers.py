"""What a real Prometheus makes of it: two that write, totals that begin anew, what ends, comes late, is scraped."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from fillings import SECOND, Filling
from notes import Notes
from real_prometheus import Server, program, prometheus
from tachograph.config import Address, Placed, Settings
from tachograph.destinations import Destination
from tachograph.forwarders import prometheus as kind
from tachograph.forwarders.contract import Accepted, Item
from tachograph.forwarders.prometheus import Prometheus
from tachograph.model import Point, Source, Usage
from tachograph.pipeline.progress import FILE_NAME, Progress
from tachograph.server import Server as Tachograph
from tachograph.store.duckdb import open_store

BEGAN_S = 1_767_226_000  # always the same, so that samples always lie the same
NAME = "tokens_total"
PATIENCE_S = 60


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with prometheus(tmp_path) as running:
        yield running


class Writer:
    """A Tachograph that writes to a server; `memory` is what it knows of what it wrote."""

    def __init__(self, server: Server, instance: str, memory: Notes | None = None) -> None:
        options = {"url": f"{server.url}/api/v1/write", "instance": instance}
        self._to: Prometheus = kind.make(Destination("p", "prometheus", "p", options=options), {})
        self.memory = Notes() if memory is None else memory

    def count(self, value: float, second: int, **more: Any) -> Accepted:
        """Points of a delta counter are written."""
        return self.write(Point(
            Source({"service.name": "pi"}), "tokens", {}, (BEGAN_S + second) * SECOND, "sum", temporality=1,
            is_monotonic=True, start_ns=(BEGAN_S + second - 5) * SECOND, value=value, **more,
        ))  # fmt: skip

    def write(self, point: Point) -> Accepted:
        """A point is written."""
        parts = self._to.convert([Item(f"{point.time_ns}", 1, point)], self.memory)
        return self._to.send("write", parts)

    def close(self) -> None:
        self._to.close()


def grown(series: str, window: str = "1h") -> str:
    """As the dashboards ask it."""
    told = f"{series}[{window}]"
    return f"sum(max_over_time({told}) - min_over_time({told}) unless resets({told}) > 0 or increase({told}))"


def value(server: Server, query: str, second: float) -> float | None:
    found = server.ask(query, BEGAN_S + second + 0.5)
    return float(found[0]["value"][1]) if found else None


def test_two_that_write_to_one_server_add_up(server: Server) -> None:
    with closing(Writer(server, "one")) as one, closing(Writer(server, "two")) as two:
        for second in range(100, 400, 50):
            assert one.count(10, second).rejected == 0
            assert two.count(1, second + 3).rejected == 0
    assert value(server, grown(NAME), 400) == 66
    assert value(server, grown(f'{NAME}{{instance="two"}}'), 400) == 6


def test_a_restart_loses_and_doubles_nothing(server: Server) -> None:
    with closing(Writer(server, "one")) as before:
        before.count(100, 100)
        before.count(10, 200)
    with closing(Writer(server, "one", before.memory)) as after:
        after.count(10, 200)  # what was not said to be taken is sent again
        after.count(1, 300)
    assert value(server, grown(NAME), 300) == 111
    assert value(server, f"resets({NAME}[1h])", 300) == 0


def test_totals_that_begin_anew_are_not_counted_twice(server: Server) -> None:
    """Who lost its home counts from 0: of the time that is shown, and not what was counted long before."""
    with closing(Writer(server, "one")) as before:
        before.count(1000, 100)
        before.count(1, 4000)
    with closing(Writer(server, "one")) as after:
        after.count(5, 4600)
    assert value(server, f"resets({NAME}[1h])", 4600) == 1
    told = value(server, grown(NAME), 4600)
    assert told is not None and 5 <= told <= 8, "6, and what increase guesses at the edges"
    largest = value(server, f"max_over_time({NAME}[1h]) - min_over_time({NAME}[1h])", 4600)
    assert largest == 1001, "what it would be without looking for resets"


def test_what_ends_is_gone_and_what_was_counted_stays(server: Server) -> None:
    load = Point(Source({"service.name": "pi"}), "load", {}, (BEGAN_S + 100) * SECOND, "gauge", value=3.5)
    ended = Point(Source({"service.name": "pi"}), "load", {}, (BEGAN_S + 130) * SECOND, "gauge", flags=1)
    with closing(Writer(server, "one")) as writer:
        writer.count(7, 100)
        writer.write(load)
        assert value(server, "load", 110) == 3.5
        writer.write(ended)
    assert value(server, "load", 131) is None, "not only after five minutes"
    assert value(server, NAME, 200) == 7
    assert value(server, NAME, 100 + 301) is None, "nobody has written for five minutes"
    assert value(server, grown(NAME), 1000) == 7


def test_what_comes_late_is_in_the_next_total(server: Server) -> None:
    with closing(Writer(server, "one")) as writer:
        writer.count(10, 500)
        assert writer.count(3, 200).rejected == 0, "said with the newest sample, which no server refuses"
        writer.count(1, 560)
    assert value(server, grown(NAME), 560) == 14


def test_older_samples_are_refused_and_said_so(server: Server) -> None:
    """As after `forward backfill` to a server that has newer ones."""
    with closing(Writer(server, "one")) as writer:
        writer.count(10, 500)
    with closing(Writer(server, "one")) as again:
        refused = again.count(10, 400)
        assert refused.rejected == 1 and "out of" in refused.why
        assert again.count(2, 700).rejected == 0
    assert value(server, NAME, 700) == 12, "the next total has what the refused ones counted"


def test_it_is_scraped_and_written_to_at_the_same_time(home: Path, tmp_path: Path) -> None:
    """Each of the two is whole, and `instance` tells them apart."""
    program("prometheus")
    home.mkdir(parents=True, exist_ok=True)
    now_ns = time.time_ns()
    with closing(open_store(home, time.time_ns)) as store:
        filling = Filling(store)
        filling.call(usage=Usage(input_uncached=10, output=5), at_ns=now_ns - 10 * SECOND)
        filling.done()
    with closing(Progress(home / FILE_NAME)) as progress:
        progress.rewind("prometheus", 0)
    table: dict[str, Any] = {"scrape": True, "instance": "writer"}
    scraped = tmp_path / "prometheus"
    scraped.mkdir()
    config = (
        "scrape_configs: [{job_name: tachograph, scrape_interval: 1s, honor_labels: true,"
        f" file_sd_configs: [{{files: [{scraped}/targets.json]}}]}}]"
    )
    with prometheus(scraped, config) as server:
        table["url"] = f"{server.url}/api/v1/write"
        tachograph = Tachograph(
            Settings(
                home=home, otlp_http=None, otlp_grpc=None, web=Address("127.0.0.1", 0), follow="off",
                forwarders={"prometheus": Placed(table, "tachograph.toml:1: forwarders.prometheus")},
            )
        )  # fmt: skip
        tachograph.start()
        try:
            port = tachograph.addresses["web"].port
            (scraped / "targets.json").write_text(f'[{{"targets": ["127.0.0.1:{port}"]}}]', encoding="utf-8")
            found = _by_instance(server)
            jobs = server.ask('count by (job) (gen_ai_usage_input_tokens_total{instance!="writer"})', time.time())
        finally:
            tachograph.stop()
    assert found == {"writer": 10, f"127.0.0.1:{port}": 10}
    assert [one["metric"]["job"] for one in jobs] == ["tester"], "honor_labels leaves what is told"


def _by_instance(server: Server) -> dict[str, float]:
    """What each counted, once all have."""
    query = grown("gen_ai_usage_input_tokens_total").replace("sum(", "sum by (instance) (", 1)
    until, found = time.monotonic() + PATIENCE_S, dict[str, float]()
    while sum(found.values()) < 20 and time.monotonic() < until:
        time.sleep(0.3)
        found = {one["metric"]["instance"]: float(one["value"][1]) for one in server.ask(query, time.time())}
    return found
