"""Two periods side by side: the numbers of each are those of usage, and lead to what is behind them."""

from __future__ import annotations

import csv
import html
import io
import re
from pathlib import Path

import pytest
from starlette.testclient import TestClient

import filled
from tachograph.model import Batch, Meaning, Source, Span, Usage
from tachograph.questions.comparing import Side, compare
from tachograph.store.duckdb import DuckStore, open_store

DAY_NS = 86_400 * 1_000_000_000
SOURCE = Source({"service.name": "mine"})


def call(number: int, days_ago: int, model: str, output: int) -> Span:
    """A call of a model so many days ago."""
    start_ns = filled.NOW_NS - days_ago * DAY_NS
    meaning = Meaning(
        role="model_call", is_call=True, session_id=f"s{number}", agent="mine", provider="mine", request_model=model,
        response_model=model, response_id=f"r{number}", usage=Usage(input_uncached=100, output=output),
    )  # fmt: skip
    return Span(
        SOURCE, f"{number:032x}", f"{number:016x}", "", "chat", 3, start_ns, start_ns + 10**9, {}, meaning=meaning
    )


@pytest.fixture
def kept(tmp_path: Path) -> DuckStore:
    """Three calls this week, one the week before."""
    store = open_store(tmp_path / "s", lambda: filled.NOW_NS)
    spans = [call(1, 0, "new", 10), call(2, 1, "new", 20), call(3, 2, "old", 30), call(4, 9, "old", 5)]
    filled.keep(store, tmp_path, [Batch(spans=spans)], is_understood=True)
    return store


def test_what_changed_is_the_difference(kept: DuckStore) -> None:
    week = 7 * DAY_NS
    told = compare(
        kept,
        "model",
        Side(filled.NOW_NS - 2 * week, filled.NOW_NS - week),
        Side(filled.NOW_NS - week, filled.NOW_NS + 1),
    )
    assert told["totals"]["calls"] == [1, 3, 2] and told["totals"]["output_tokens"] == [5, 60, 55]
    assert told["totals"]["sessions"] == [1, 3, 2]
    rows = {row["model"]: row for row in told["rows"]}
    assert rows["new"]["calls"] == [0, 2, 2] and rows["old"]["output_tokens"] == [5, 30, 25]
    assert rows["old"]["cost_usd"] == [None, None, None]
    kept.close()


def test_the_page_compares_this_week_with_the_one_before(kept: DuckStore) -> None:
    browser = filled.client(kept)
    page = browser.get("/compare").text
    calls = re.search(r'<th scope="row">calls</th>(.*?)</tr>', page, re.DOTALL)
    assert calls is not None
    assert re.sub(r"<[^>]*>", " ", calls[1]).split() == ["1", "3", "+2"]  # of 1 call three times as much says nothing
    hrefs = [html.unescape(one) for one in re.findall(r'href="([^"]*)"', calls[1])]
    assert [browser.get(one).text.count('href="/calls/') for one in hrefs] == [1, 3]
    kept.close()


def test_days_of_the_address_are_compared(kept: DuckStore) -> None:
    browser = filled.client(kept)
    answer = browser.get("/compare", params={"a": "2026-11-12", "b": "2026-11-19..2026-11-20", "format": "csv"})
    rows = {row["model"]: row for row in csv.DictReader(io.StringIO(answer.text))}
    assert (rows["old"]["calls_a"], rows["old"]["calls_b"], rows["new"]["calls_b"]) == ("1", "1", "1")
    kept.close()


@pytest.mark.parametrize("a", ["", "x", "..", "2026-11-20..2026-11-01", "9999-12-31..9999-12-31", "0001-01-01"])
def test_a_period_that_is_none_gives_the_default(browser: TestClient, a: str) -> None:
    assert browser.get("/compare", params={"a": a, "b": a}).status_code == 200


def test_one_model_is_shown_over_time(kept: DuckStore) -> None:
    browser = filled.client(kept)
    page = browser.get("/models", params={"name": "new", "range": "7d"}).text
    assert re.findall(r'data-name="([^"]*)"', page) == ["Latency over time", "Calls over time"]
    assert "Nothing measured in this period" in page and "old" not in page.partition("<tbody>")[2]
    assert "?name=new" in browser.get("/models").text
    kept.close()
