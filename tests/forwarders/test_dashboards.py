"""Dashboards: built as committed, and each query asked of a real Prometheus that our own remote write has filled."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from fillings import Filling
from real_prometheus import SECOND, Server, deliver, fill, program, prometheus
from tachograph.config import Address, Placed, Settings
from tachograph.destinations import Destination
from tachograph.forwarders import prometheus as kind
from tachograph.model import Usage
from tachograph.pipeline.progress import FILE_NAME, Progress
from tachograph.scan import Agg, Match, Scan
from tachograph.server import Server as Tachograph
from tachograph.store.contract import Store
from tachograph.store.duckdb import open_store

ROOT = Path(__file__).parents[2]
BOARDS = sorted((ROOT / "dashboards").glob("*.json"))
PATIENCE_S = 60
NOW_NS = 1_767_229_620 * SECOND  # 2026-01-01 01:07 UTC: always the same, so that samples always lie the same
AGO_S = 400  # all recordings end then, and were committed a minute later


class Filled(NamedTuple):
    """A store, a Prometheus that was told all of it, and a time to ask at that no sample has."""

    store: Store
    server: Server
    at_s: float


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    program("prometheus")
    folder = tmp_path_factory.mktemp("dashboards")
    with closing(open_store(folder / "store", lambda: NOW_NS - (AGO_S - 60) * SECOND)) as store:
        fill(store, NOW_NS - AGO_S * SECOND)
        with prometheus(folder) as server:
            options = {"url": f"{server.url}/api/v1/write", "spellings": "both"}
            forwarder = kind.make(Destination("p", "prometheus", "p", options=options), {})
            delivery = deliver(store, forwarder, folder, NOW_NS)
            assert delivery.state.refused == 0 and delivery.state.failures == 0, delivery.state
            delivery.close()
            yield Filled(store, server, NOW_NS / SECOND - 1.2345)


def panels(board: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The title and query of everything that is asked of Prometheus."""
    for panel in board["panels"]:
        yield from panels({"panels": panel.get("panels", [])})
        if (panel.get("datasource") or {}).get("type") == "prometheus":
            for target in panel.get("targets", []):
                yield panel["title"], target["expr"].replace("$__range", "1h").replace("$__rate_interval", "5m")


def test_what_is_committed_is_what_is_built(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(ROOT / "dashboards" / "code"), str(tmp_path)], check=True)
    built = {path.name: path.read_text("utf-8") for path in tmp_path.glob("*.json")}
    committed = {path.name: path.read_text("utf-8") for path in BOARDS}
    assert built.keys() == committed.keys()
    for name, text in built.items():
        assert text == committed[name], f"dashboards/{name} is not what its code says: make dashboards"


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_every_panel_has_an_answer(path: Path, filled: Filled) -> None:
    asked = list(panels(json.loads(path.read_text("utf-8"))))
    assert asked
    # A window of 5 minutes says what is new now: it is asked for when the recordings ended.
    empty = []
    for title, query in asked:
        at_s = filled.at_s - AGO_S + 100 if "[5m]" in query else filled.at_s
        found = [one for one in filled.server.ask(query, at_s) if one["value"][1] != "NaN"]
        if not found:
            empty.append(f"{title}: {query}")
    assert empty == []


@pytest.mark.parametrize("agent", ["", "claude-code", "pi", "codex", "openclaw"])
@pytest.mark.parametrize(
    ("metric", "aggregate", "factor"),
    [
        ("gen_ai_usage_cost_USD_total", Agg("sum", "cost_nanousd"), 1e-9),
        ("gen_ai_usage_input_tokens_total", Agg("sum", "input_tokens"), 1),
        ("gen_ai_usage_output_tokens_total", Agg("sum", "output_tokens"), 1),
        ("gen_ai_usage_cache_read_input_tokens_total", Agg("sum", "cache_read_tokens"), 1),
        ("tachograph_calls_total", Agg("count", "call_id"), 1),
        ("gen_ai_client_operation_duration_seconds_sum", Agg("sum", "duration_ns"), 1e-9),
        ("gen_ai_client_operation_duration_seconds_count", Agg("count", "duration_ns"), 1),
    ],
)
def test_numbers_are_those_of_the_ledger(
    metric: str, aggregate: Agg, factor: float, agent: str, filled: Filled
) -> None:
    where = (Match("agent", "=", agent),) if agent else ()
    [row] = filled.store.scan(Scan("calls", {"n": aggregate}, where)).rows()
    series = f'{metric}{{agent="{agent}"}}' if agent else metric
    told = filled.server.ask(f"sum(max_over_time({series}[1h]) - min_over_time({series}[1h]))", filled.at_s)
    if row["n"] is None:
        assert told == [], "what no source told is no 0"
    else:
        assert float(told[0]["value"][1]) == pytest.approx(row["n"] * factor, rel=1e-9)


def test_tools_are_those_of_the_ledger(filled: Filled) -> None:
    told = filled.server.ask("sum by (agent) (last_over_time(tachograph_tool_runs_total[1h]))", filled.at_s)
    rows = filled.store.scan(
        Scan("sessions", {"agent": "agent", "n": Agg("sum", "tool_runs")}, group_by=("agent",))
    ).rows()
    found = {one["metric"]["agent"]: float(one["value"][1]) for one in told}
    expected = {row["agent"]: row["n"] for row in rows if row["n"]}
    assert found == expected


@pytest.mark.parametrize("accept", ["text/plain", "application/openmetrics-text; version=1.0.0"])
def test_metrics_are_scraped(home: Path, accept: str) -> None:
    """What `/metrics` shows is well-formed by promtool's judgement."""
    promtool = program("promtool")
    home.mkdir(parents=True, exist_ok=True)
    with closing(open_store(home, lambda: NOW_NS - AGO_S * SECOND)) as store:
        filling = Filling(store)
        filling.call(usage=Usage(input_uncached=10, output=5), at_ns=NOW_NS - 2 * AGO_S * SECOND)
        filling.done()
    with closing(Progress(home / FILE_NAME)) as progress:
        progress.rewind("prometheus", 0)
    tables = {"prometheus": Placed({"scrape": True}, "tachograph.toml:1: forwarders.prometheus")}
    server = Tachograph(
        Settings(
            home=home, otlp_http=None, otlp_grpc=None, web=Address("127.0.0.1", 0), forwarders=tables, follow="off"
        ),
        clock=lambda: NOW_NS,
    )
    server.start()
    try:
        until = time.monotonic() + PATIENCE_S
        text = ""
        while "gen_ai_usage_input_tokens_total{" not in text and time.monotonic() < until:
            time.sleep(0.2)
            text = _scraped(server.addresses["web"].port, accept)
        again = _scraped(server.addresses["web"].port, accept)
    finally:
        server.stop()
    assert 'gen_ai_usage_input_tokens_total{agent="tester"' in text
    assert _first(text, "gen_ai_usage_input_tokens_total{").endswith(" 0"), "new to this scraper"
    assert _first(again, "gen_ai_usage_input_tokens_total{").endswith(" 10")
    assert text.endswith("# EOF\n") == ("openmetrics" in accept)
    if "openmetrics" not in accept:  # promtool 2.42 knows the older format
        subprocess.run([promtool, "check", "metrics"], input=text, text=True, capture_output=True, check=True)


def _first(text: str, start: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(start))


def _scraped(port: int, accept: str) -> str:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)) as connection:
        connection.request("GET", "/metrics", headers={"accept": accept})
        response = connection.getresponse()
        body = response.read().decode()
        assert response.status == 200, body[:300]
        assert (response.getheader("content-type") or "").startswith(accept.partition(";")[0])
        return body
