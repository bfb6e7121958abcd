"""Dashboards: built as committed, and each query asked of a real Prometheus that our own remote write has filled."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from fillings import Filling
from ledger_series import Key, Ledger
from real_prometheus import SECOND, Server, deliver, fill, program, prometheus
from tachograph.config import Address, Placed, Settings
from tachograph.destinations import Destination
from tachograph.forwarders import prometheus as kind
from tachograph.model import Point, Source, Usage
from tachograph.pipeline.progress import FILE_NAME, Progress
from tachograph.questions import filters
from tachograph.scan import Agg, Match, Scan
from tachograph.server import Server as Tachograph
from tachograph.store.contract import Store
from tachograph.store.duckdb import open_store

ROOT = Path(__file__).parents[2]
BOARDS = sorted((ROOT / "dashboards").glob("*.json"))
PAGE = ROOT / "docs" / "destinations" / "grafana.md"
PUBLISHED = os.environ.get("TACHOGRAPH_PUBLISHED_DASHBOARDS", "")  # read once: tests see nothing of the environment
PATIENCE_S = 60
NOW_NS = 1_767_229_620 * SECOND  # 2026-01-01 01:07 UTC: always the same, so that samples always lie the same
AGO_S = 400  # all recordings end then, and were committed a minute later


class Filled(NamedTuple):
    """A store, a Prometheus that was told all of it, and a time to ask at that no sample has."""

    store: Store
    server: Server
    at_s: float

    def answers(self, query: str) -> list[dict[str, Any]]:
        """What is no NaN of the answer. A window of 5 minutes says what is new: it is asked when the recordings end."""
        at_s = self.at_s - AGO_S + 100 if "[5m]" in query else self.at_s
        return [one for one in self.server.ask(query, at_s) if one["value"][1] != "NaN"]

    def ever_answers(self, query: str) -> bool:
        """Whether it said something while the recordings ended or since."""
        found = self.server.ask_range(query, self.at_s - AGO_S - 120, self.at_s, 15)
        return any(value != "NaN" for one in found for _, value in one["values"])


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    program("prometheus")
    folder = tmp_path_factory.mktemp("dashboards")
    with closing(open_store(folder / "store", lambda: NOW_NS - (AGO_S - 60) * SECOND)) as store:
        fill(store, NOW_NS - AGO_S * SECOND)
        filling = Filling(store)  # no recording came through a channel
        used = Usage(input_uncached=10, output=5)
        filling.call(at_ns=NOW_NS - (AGO_S + 1) * SECOND, usage=used, agent="pi", channel="telegram")
        filling.batch.points += _of_an_extension(NOW_NS - (AGO_S + 1) * SECOND)
        filling.done()
        with prometheus(folder) as server:
            options = {"url": f"{server.url}/api/v1/write", "spellings": "both"}
            forwarder = kind.make(Destination("p", "prometheus", "p", options=options), {})
            delivery = deliver(store, forwarder, folder, NOW_NS)
            assert delivery.state.refused == 0 and delivery.state.failures == 0, delivery.state
            delivery.close()
            yield Filled(store, server, NOW_NS / SECOND - 1.2345)


def _of_an_extension(at_ns: int) -> list[Point]:
    """What one extension of Pi counts, as it does with its evaluation on; no recording has it."""
    source = Source({"service.name": "pi"})
    given: dict[str, Any] = {"temporality": 1, "start_ns": at_ns - SECOND}
    one = {**given, "count": 1, "sum": 0.5, "buckets": {"bounds": [1.0], "counts": [1, 0]}}
    cost = {**given, "unit": "USD", "is_monotonic": True, "value": 0.25}
    pi, judge = {"gen_ai.system": "pi"}, {"gen_ai.operation.name": "evaluate"}
    return [
        Point(source, "gen_ai.client.tool_calls_per_operation", pi, at_ns, "histogram", **one),
        Point(source, "gen_ai.evaluation.score", {"gen_ai.evaluation.name": "clarity"}, at_ns, "histogram", **one),
        Point(source, "pi.agent.cost", judge, at_ns, "sum", **cost),
    ]


GROWN = re.compile(
    r"max_over_time\((?P<series>(?P<metric>\w+)\{(?P<where>[^}]*)\}\[[$\w]+\])\) - min_over_time\((?P=series)\)"
    r" unless resets\((?P=series)\) > 0 or increase\((?P=series)\)"
)


def panels(board: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The title and query of everything that is asked of Prometheus, with all choices open."""
    for panel in board["panels"]:
        if panel.get("datasource", {}).get("type") == "prometheus":
            for target in panel["targets"]:
                yield panel["title"], unchosen(target["expr"])


def unchosen(query: str) -> str:
    """The query as Grafana sends it while nothing is chosen."""
    return re.sub(r'=~"\$\w+"', '=~".*"', query).replace("$__range", "1h")


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
    empty = [f"{title}: {query}" for title, query in asked if not filled.answers(query)]
    assert empty == []


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_every_choice_offers_what_there_is(path: Path, filled: Filled) -> None:
    """And none of them hides a panel that does not know it."""
    board = json.loads(path.read_text("utf-8"))
    for variable in board["templating"]["list"]:
        if variable["type"] != "query":
            continue
        assert variable["multi"] and variable["includeAll"] and variable["allValue"] == ".*", variable["name"]
        found = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"])
        assert found is not None
        series, label = found.groups()
        offered = filled.server.ask(f"count by ({label}) (last_over_time({unchosen(series)}[1h]))", filled.at_s)
        assert any(one["metric"].get(label) for one in offered), variable["query"]["query"]


CHOICES = {"agent": "pi", "model": "fake-large", "project": "work", "provider": "fake-openai", "tool": "bash"}


@pytest.mark.parametrize("board", ["agents", "tools", "llm-providers", "pi"])
def test_a_choice_empties_no_panel(board: str, filled: Filled) -> None:
    """What a label is not on is not narrowed by it, and its panel says so."""
    told = json.loads((ROOT / "dashboards" / f"{board}.json").read_text("utf-8"))
    for panel in told["panels"]:
        for target in panel.get("targets", []):
            query = target["expr"]
            for name, value in CHOICES.items():
                query = query.replace(f'"${name}"', f'"{value}"')
            if "cache_creation" in query or "time_to_first" in query:
                continue  # Pi told of none
            assert filled.answers(unchosen(query)), f"{panel['title']}: {query}"
        totals = [found["where"] for t in panel.get("targets", []) for found in GROWN.finditer(t["expr"])]
        is_deaf = any(f"${name}" not in where for where in totals for name in _chosen(told))
        assert is_deaf == ("whatever is chosen" in panel.get("description", "")), panel["title"]


def _chosen(board: dict[str, Any]) -> list[str]:
    return [variable["name"] for variable in board["templating"]["list"] if variable["type"] == "query"]


# Told of the steps of sessions, which have names and times of their own: only how many there are is the ledger's.
BY_STEPS = ("codex_", "pi_session_duration", "tachograph_prompt_duration", "tachograph_tool_", "pi_tool_")
OF_STEPS = {"tool_name", "error_type"}


def test_every_number_of_every_panel_is_the_ledgers(filled: Filled) -> None:
    """Whatever a query makes of them: each total in it, told apart by all that it is told apart by anywhere."""
    ledger = Ledger(filled.store)
    asked: dict[tuple[str, str, str], set[str]] = {}
    for path in BOARDS:
        for title, query in panels(json.loads(path.read_text("utf-8"))):
            assert "{" not in GROWN.sub("", query), f"{title}: what is no total is not held to the ledger: {query}"
            labels = {label for by in re.findall(r"by \(([\w, ]+)\)", query) for label in by.split(", ")}
            for found in GROWN.finditer(query):
                window = re.sub(r"\[\w+\]", "[1h]", found[0])
                asked.setdefault((found["metric"], found["where"], window), set()).update(labels - {"le"})
    wrong = {}
    for (metric, where, window), by in asked.items():
        is_by_steps = metric.startswith(BY_STEPS) and not metric.startswith("codex_turn_token")
        if is_by_steps and metric.endswith("_sum"):
            continue
        is_bucket = metric.endswith("_bucket")
        by = by - OF_STEPS if metric.startswith("tachograph_tool_") else by
        names = tuple(sorted(by)) + (("le",) if is_bucket else ())
        told = _values(filled.server.ask(f"sum by ({', '.join(names)}) ({window})", filled.at_s), names)
        expected = ledger.says(metric, names, _matching(where))
        if is_by_steps and is_bucket:
            told = {labels: value for labels, value in told.items() if ("le", "+Inf") in labels}
            expected = {labels: value for labels, value in expected.items() if ("le", "+Inf") in labels}
        if told != pytest.approx(expected, rel=1e-9):
            wrong[metric, where, names] = {key: (told.get(key), expected.get(key)) for key in told.keys() | expected}
    assert wrong == {}
    assert len(asked) > 60, "they were read as what they are"


def _values(answer: list[dict[str, Any]], names: tuple[str, ...]) -> dict[Key, float]:
    found = {tuple((name, one["metric"].get(name, "")) for name in names): float(one["value"][1]) for one in answer}
    return {labels: value for labels, value in found.items() if value}


def _matching(where: str) -> Callable[[dict[str, str]], bool]:
    """Whether labels match, all choices being open; who writes a series is not in the ledger."""
    matchers = re.findall(r'(\w+)(=~|!=|=)"(.*?)"', where)

    def keep(labels: dict[str, str]) -> bool:
        for name, sign, value in matchers:
            if sign == "=~" or name == "service_name":
                continue
            if (labels.get(name, "") == value) != (sign == "="):
                return False
        return True

    return keep


@pytest.mark.parametrize("board", BOARDS, ids=lambda path: path.stem)
def test_a_board_can_be_imported_and_looked_at(board: Path) -> None:
    told = json.loads(board.read_text("utf-8"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the form of dashboards that every Grafana reads
        from grafana_foundation_sdk.models.dashboard import Dashboard
    read = Dashboard.from_json(told)
    assert json.loads(JSONEncoder(sort_keys=True).encode(read)) == told, "the SDK reads it as what it wrote"
    assert told["uid"] == f"tachograph-{board.stem}" and told["tags"] == ["tachograph"] and told["description"]
    assert told["schemaVersion"] >= 39 and told["refresh"] and told["time"]["from"].startswith("now-")
    numbers = [panel["id"] for panel in told["panels"]]
    assert numbers == list(range(1, len(numbers) + 1))
    assert _gaps(told["panels"]) == []
    for panel in told["panels"]:
        if panel["type"] == "row":
            continue
        assert panel["title"] and panel["datasource"]["uid"].startswith("${"), panel["title"]
        assert panel["type"] in ("table", "logs") or panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        letters = [target["refId"] for target in panel["targets"]]
        assert letters == list("ABCDEFGH"[: len(letters)]), panel["title"]
        for target in panel["targets"]:
            assert target["datasource"] == panel["datasource"], panel["title"]
            assert not re.search(r"\b(job|instance)\b", target["expr"]), "who scrapes may put its own there"


@pytest.mark.parametrize("board", BOARDS, ids=lambda path: path.stem)
def test_links_lead_to_pages(board: Path) -> None:
    """To calls by a filter that is one, and to sessions and traces by their ids, whatever these are."""
    for url in _links(json.loads(board.read_text("utf-8"))):
        value = "${__value.raw:percentencode}"
        if url.startswith("/explore") or url == "${tachograph}/":
            continue
        path, _, filter_ = url.removeprefix("${tachograph}").partition("?q=")
        if filter_:
            [term] = filters.parse(unquote(filter_.replace(value, "a%2Fb%20c")))
            assert (path, term.values) == ("/calls", ("a/b c",)) and term.field in filters.FIELDS, url
        else:
            assert path in (f"/sessions/{value}", f"/traces/{value}"), url


def _links(told: Any) -> Iterator[str]:
    if isinstance(told, dict):
        yield from ([told["url"]] if "url" in told and "title" in told else [])
        told = list(told.values())
    for one in told if isinstance(told, list) else []:
        yield from _links(one)


def test_what_is_asked_of_loki_matches_something_by_itself() -> None:
    """Loki refuses a selector all of whose parts may be empty, as they are while nothing is chosen."""
    board = json.loads((ROOT / "dashboards" / "sessions.json").read_text("utf-8"))
    asked = [t["expr"] for p in board["panels"] for t in p.get("targets", []) if p["datasource"]["type"] == "loki"]
    assert len(asked) == 2
    assert all(re.search(r'\{service_name=~"\.\+"', query) for query in asked)


def _gaps(panels: list[dict[str, Any]]) -> list[str]:
    """Where a place of the grid has no panel or two, down to the last one."""
    places: dict[tuple[int, int], str] = {}
    wrong = []
    for panel in panels:
        at = panel["gridPos"]
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                if (x, y) in places or x >= 24:
                    wrong.append(f"{panel['title']}: over {places.get((x, y), 'the edge')}")
                places[x, y] = panel["title"]
    height = max(y for _, y in places) + 1
    return sorted(set(wrong)) + [
        f"nothing at {x}, {y}" for x in range(24) for y in range(height) if (x, y) not in places
    ]


@pytest.mark.parametrize(
    "query",
    [
        "sum by (gen_ai_request_model) (rate(gen_ai_usage_input_tokens_total[5m]))",
        "sum by (gen_ai_request_model) (rate(gen_ai_usage_output_tokens_total[5m]))",
        "histogram_quantile(0.95, sum by (le, gen_ai_request_model)"
        " (rate(gen_ai_client_operation_duration_seconds_bucket[5m])))",
        'sum(rate(gen_ai_client_operation_duration_seconds_count{error="true"}[5m]))'
        " / sum(rate(gen_ai_client_operation_duration_seconds_count[5m]))",
        "sum(rate(gen_ai_usage_input_tokens_total[5m])) * 3600 * 0.000003"
        " + sum(rate(gen_ai_usage_output_tokens_total[5m])) * 3600 * 0.000015",
    ],
)
def test_the_queries_of_guides_resolve(query: str, filled: Filled) -> None:
    assert all(float(one["value"][1]) > 0 for one in filled.answers(query)) and filled.answers(query)


def promised(title: str) -> dict[str, str]:
    """What the page about Grafana says of each panel of somebody else's dashboard."""
    section = PAGE.read_text("utf-8").partition(f'("{title}")')[2].partition("\n**")[0]
    rows = re.findall(r"^\| (.+) \| (.+) \|$", section, re.MULTILINE)
    return {panel: said for panels, said in rows for panel in panels.split(", ")}


@pytest.mark.skipif(not PUBLISHED, reason="TACHOGRAPH_PUBLISHED_DASHBOARDS names no folder with dashboards of others")
def test_dashboards_of_others_do_what_is_said_of_them(filled: Filled) -> None:
    """Panel by panel; those that ask Loki or Tempo are only said."""
    wrong = []
    for path in sorted(Path(PUBLISHED).glob("*.json")):
        board = json.loads(path.read_text("utf-8").replace("otel-collector", "claude-code"))
        said = promised(board["title"])
        asked = {panel["title"]: panel for panel in board["panels"] if panel["type"] != "row"}
        assert asked.keys() == said.keys(), board["title"]
        for title, panel in asked.items():
            queries = [target["expr"] for target in panel.get("targets", []) if target.get("expr")]
            if not queries or any("service_name=" in query for query in queries):  # it asks Tempo, or Loki
                assert not said[title].startswith("Resolve"), f"{title}: it was not tried"
                continue
            empty = [query for query in queries if not filled.ever_answers(query.replace("$__range", "1h"))]
            if bool(empty) == said[title].startswith("Resolve"):
                wrong.append((board["title"], title, said[title], empty))
    assert wrong == []


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
