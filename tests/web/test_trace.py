"""The page of a trace: what failed, what can be found, and the columns that the page's script draws."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from starlette.testclient import TestClient

import filled
from tachograph.model import Batch, Meaning, Source, Span
from tachograph.receivers.otlp import decode
from tachograph.scan import Agg, Match, Scan
from tachograph.store.duckdb import DuckStore, open_store
from tachograph.tree import Totals
from tachograph.web.kept_traces import KEPT_ROWS, KeptTraces, Shown
from tachograph.web.rendering import path_of

TRACE = "a" * 32
JSON: Final = "application/json"
START_NS = filled.NOW_NS - 3_600_000_000_000


def span(number: int, parent: int, at_ms: int, took_ms: int, name: str, **meaning: object) -> Span:
    """A span of the trace, its times in milliseconds from the start."""
    start_ns = START_NS + at_ms * 1_000_000
    told = msgspec.convert({"session_id": "s", "agent": "mine"} | meaning, Meaning)
    return Span(
        Source({"service.name": "mine"}, "scope", "1"), TRACE, f"{number:016x}", f"{parent:016x}" if parent else "",
        name, 1, start_ns, start_ns + took_ms * 1_000_000, {"number": number}, meaning=told,
    )  # fmt: skip


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[TestClient]:
    """A prompt whose agent runs two tools, one of them in vain."""
    store = open_store(tmp_path / "s", lambda: filled.NOW_NS)
    failed = {"is_error": True, "error_message": "disk is full"}
    spans = [
        span(1, 0, 0, 1000, "ask", role="prompt"),
        span(2, 1, 100, 800, "work", role="agent", subagent="helper", is_error=True),
        span(3, 2, 200, 300, "run", role="tool_run", tool_name="Bash", tool_call_id="toolu_1"),
        span(4, 2, 600, 300, "run", role="tool_run", tool_name="Write", tool_call_id="toolu_2", **failed),
    ]
    filled.keep(store, tmp_path, [Batch(spans=spans)], is_understood=True)
    yield filled.client(store)
    store.close()


def test_what_failed_stands_first_where_it_began(shop: TestClient) -> None:
    page = shop.get(f"/traces/{TRACE}").text
    errors = page[page.index("fall-errors") : page.index("</details>")]
    assert "2 failed steps" in errors and "disk is full" in errors
    assert errors.index(f"{4:016x}") < errors.index(f"{2:016x}")
    assert errors.count("a step below it failed") == 1


def test_a_trace_that_went_well_lists_no_errors(tmp_path: Path) -> None:
    store = open_store(tmp_path / "s", lambda: filled.NOW_NS)
    filled.keep(store, tmp_path, [Batch(spans=[span(1, 0, 0, 10, "fine")])], is_understood=True)
    assert "fall-errors" not in filled.client(store).get(f"/traces/{TRACE}").text
    store.close()


def test_a_search_finds_tools_errors_and_ids(shop: TestClient) -> None:
    told = shop.get(f"/traces/{TRACE}/rows").json()
    words, also = told["words"], told["columns"]["also"]
    assert [words[one] for one in also] == ["", "", "toolu_1", "toolu_2"]
    assert [words[one] for one in told["columns"]["error"]] == ["", "", "", "disk is full"]
    assert [words[one] for one in told["columns"]["detail"]] == ["", "helper", "Bash", "Write"]
    assert told["columns"]["id"] == [f"{number:016x}" for number in (1, 2, 3, 4)]


def test_a_trace_folds_by_depth_and_by_kind(shop: TestClient) -> None:
    page = shop.get(f"/traces/{TRACE}").text
    tools = page[page.index('id="fall-fold"') : page.index("</select>")]
    assert re.findall(r'value="(\w*)"', tools) == [
        *("", "none", "1", "2", "3", "4", "5"), "prompt", "turn", "agent", "model_call", "tool_run",
    ]  # fmt: skip
    assert "below 1 level<" in tools and "below 2 levels<" in tools


def test_rows_say_self_times_and_the_critical_path(shop: TestClient) -> None:
    told = shop.get(f"/traces/{TRACE}/rows").json()
    assert told["columns"]["up"] == [0, 1, 1, 2]
    assert told["columns"]["self"] == [200_000, 200_000, None, None]
    path = [(row, at // 1000, took // 1000) for row, at, took in zip(*told["path"].values(), strict=True)]
    assert path == [(0, 0, 100), (1, 100, 100), (2, 200, 300), (1, 500, 100), (3, 600, 300), (0, 900, 100)]


def test_what_took_the_time_is_told_by_kind_and_step(shop: TestClient) -> None:
    page = shop.get(f"/traces/{TRACE}").text
    waits = page[page.index("fall-waits") : page.index("</details>", page.index("fall-waits"))]
    assert "tool runs 600 ms (60 %)" in waits and "the agent in between 400 ms (40 %)" in waits
    assert waits.index(f"{3:016x}") < waits.index(f"{1:016x}")


def test_the_time_of_a_folded_step_is_that_of_the_step_that_holds_it(tmp_path: Path) -> None:
    store = open_store(tmp_path / "s", lambda: filled.NOW_NS)
    spans = [span(1, 0, 0, 100, "ask", role="model_call"), span(2, 1, 0, 100, "POST", is_noise=True)]
    filled.keep(store, tmp_path, [Batch(spans=spans)], is_understood=True)
    page = filled.client(store).get(f"/traces/{TRACE}").text
    assert "model calls 100 ms (100 %)" in page
    store.close()


def test_a_panel_leads_to_the_price_the_session_and_what_it_links_to(browser: TestClient, store: DuckStore) -> None:
    asked = Scan("calls", {"trace": "trace_id", "span": "span_id", "id": "call_id"}, (Match("span_id", "!=", ""),))
    one = store.scan(asked).rows()[0]
    answer = browser.get(f"/traces/{one['trace']}/panel", params={"node": f"{one['trace']}:{one['span']}"}).text
    assert f"{path_of('calls', one['id'])}#price" in answer and f"{path_of('calls', one['id'])}#provenance" in answer
    assert f'data-take="{one["span"]}"' in answer and "data-take-raw" in answer and "copy as OTLP" in answer
    linked = browser.get(f"/traces/{'e' * 32}/panel", params={"node": f"{'e' * 32}:{1:016x}"}).text
    assert "?node=" in linked[linked.index('data-key="links"') :]


def test_a_trace_goes_out_as_otlp_and_is_read_as_it_was(browser: TestClient, store: DuckStore) -> None:
    select: dict[str, Any] = {"trace": "trace_id", "n": Agg("count_distinct", "span_id")}
    counts = {row["trace"]: row["n"] for row in store.scan(Scan("spans", select, (), ("trace",))).rows()}
    assert len(counts) > 10
    for trace, count in counts.items():
        answer = browser.get(f"/traces/{trace}/otlp")
        assert answer.headers["content-disposition"].startswith("attachment")
        again = [span for line in answer.content.splitlines() for span in decode("traces", line, JSON).spans]
        assert len(again) == count
        where = (Match("trace_id", "=", trace),)
        told = store.scan(Scan("spans", {name: name for name in ("span_id", "attributes")}, where)).rows()
        attributes = {row["span_id"]: row["attributes"] or {} for row in told}
        for one in again:
            assert attributes[one.span_id].items() <= one.attributes.items()


def test_texts_stand_where_they_were_taken_from(browser: TestClient, store: DuckStore) -> None:
    trace = "e" * 32
    line = browser.get(f"/traces/{trace}/otlp", params={"node": f"{trace}:{2:016x}"}).content
    (one,) = decode("traces", line, JSON).spans
    assert msgspec.json.decode(one.attributes["i"])[0]["content"] == "<script>alert(3)</script>"
    assert one.attributes["gen_ai.usage.input_tokens"] == 1_200


def test_otlp_of_what_is_not_there_is_not_found(shop: TestClient) -> None:
    assert shop.get(f"/traces/{'0' * 32}/otlp").status_code == 404
    assert shop.get(f"/traces/{TRACE}/otlp", params={"node": f"{TRACE}:{99:016x}"}).status_code == 404


@pytest.fixture
def long(tmp_path: Path) -> Iterator[tuple[TestClient, DuckStore]]:
    """A trace of more steps than a page waits for."""
    store = open_store(tmp_path / "s", lambda: filled.NOW_NS)
    spans = [span(number, number // 10, number, 5, f"step {number}", role="tool_run") for number in range(1, 2_102)]
    filled.keep(store, tmp_path, [Batch(spans=spans)], is_understood=True)
    yield filled.client(store), store
    store.close()


def test_a_long_trace_comes_before_its_tree(long: tuple[TestClient, DuckStore]) -> None:
    browser, _ = long
    frame = browser.get(f"/traces/{TRACE}").text
    assert "data-frame" in frame and "2,101" in frame and 'class="fall-row' not in frame
    whole = browser.get(f"/traces/{TRACE}?whole=1").text
    assert "data-frame" not in whole and 'class="fall-row' in whole
    assert browser.get(f"/traces/{TRACE}").text.count('class="fall-row') == whole.count('class="fall-row')


def test_a_long_trace_comes_with_its_first_steps(long: tuple[TestClient, DuckStore]) -> None:
    browser, _ = long
    begun = re.search(r'data-begun="([^"]+)"', browser.get(f"/traces/{TRACE}").text)
    assert begun is not None
    first = msgspec.json.decode(html.unescape(begun[1]))
    whole = browser.get(f"/traces/{TRACE}/rows").json()
    named = browser.get(f"/traces/{TRACE}/rows?ids=1").json()
    assert first["of"] == 2_101 and first["duration"] == whole["duration"] and len(first["columns"]["id"]) == 200
    assert first["columns"]["id"] == named["id"][:200] and first["columns"]["up"] == whole["columns"]["up"][:200]
    assert "data-begun" not in browser.get(f"/traces/{TRACE}").text


def test_a_long_trace_stays_whole_from_step_to_step(long: tuple[TestClient, DuckStore]) -> None:
    browser, _ = long
    whole = browser.get(f"/traces/{TRACE}?whole=1").text
    links = re.findall(r'<a class="fall-row[^"]*" href="([^"]+)"', whole)
    assert links and all("whole=1" in link and link.endswith("#panel") for link in links)
    assert all("whole" not in link for link in re.findall(r'href="(\?[^"]+)"', browser.get(f"/traces/{TRACE}").text))


def test_ids_of_a_long_trace_come_after_its_rows(long: tuple[TestClient, DuckStore]) -> None:
    browser, _ = long
    told = browser.get(f"/traces/{TRACE}/rows").json()
    named = browser.get(f"/traces/{TRACE}/rows?ids=1").json()
    assert told["columns"]["id"] is None and named["state"] == told["state"]
    assert len(set(named["id"])) == len(told["columns"]["up"]) == 2_101
    words = [told["words"][number] for number in accumulate(told["columns"]["name"])]
    assert words[:3] == ["step 1", "step 10", "step 100"] and named["id"][1] == f"{10:016x}"
    assert list(accumulate(told["columns"]["at"]))[:3] == [0, 9_000, 99_000]


def test_what_is_kept_of_a_trace_is_made_again_when_it_grows(
    long: tuple[TestClient, DuckStore], tmp_path: Path
) -> None:
    browser, store = long
    before = browser.get(f"/traces/{TRACE}/rows").json()
    assert browser.get(f"/traces/{TRACE}/rows").json() == before
    filled.keep(store, tmp_path, [Batch(spans=[span(5_000, 1, 0, 5, "late")])], is_understood=True)
    after = browser.get(f"/traces/{TRACE}/rows").json()
    assert len(after["columns"]["up"]) == 2_102 and after["state"] != before["state"]


def test_traces_are_kept_up_to_a_number_of_rows(shop: TestClient) -> None:
    kept = KeptTraces()
    one = Shown(KEPT_ROWS // 2, 0, False, Totals(), 0, 1, "", [], {}, {}, b"", b"")
    for name in ("a", "b", "c"):
        assert kept.make(name, (1,), lambda: one) is one
    assert list(kept.shown) == ["b", "c"]
    assert kept.get("b", (2,)) is None and kept.make("none", (), lambda: None) is None


def test_what_was_never_ended_has_no_duration(tmp_path: Path) -> None:
    store = open_store(tmp_path / "s", lambda: filled.NOW_NS)
    endless = span(1, 0, 0, 0, "endless", role="agent")
    endless.end_ns = 0
    filled.keep(store, tmp_path, [Batch(spans=[endless, span(2, 0, 1, 0, "at once")])], is_understood=True)
    browser = filled.client(store)
    assert browser.get(f"/traces/{TRACE}/rows").json()["columns"]["took"] == [None, 0]
    assert '<span class="unknown" title="unknown">–</span>' in browser.get(f"/traces/{TRACE}").text
    store.close()
