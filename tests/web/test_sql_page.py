"""The page of SQL: what is asked and shown, drawn, taken away as a file, and what is wrong with a query."""

from __future__ import annotations

import html
import json
import math
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient

import filled
from tachograph.scan import Columns
from tachograph.store.duckdb import DuckStore
from tachograph.store.schema import TABLES
from tachograph.web import answers
from tachograph.web.pages import sql
from tachograph.web.rendering import Look, Site

LOOK = Look("UTC", UTC, filled.NOW_NS)


def _get(browser: TestClient, query: str, **more: str) -> Any:
    return browser.get(f"/sql?{urlencode({'query': query, **more})}")


def test_the_schema_stands_beside_an_empty_query(browser: TestClient) -> None:
    page = browser.get("/sql").text
    for name, columns in TABLES.items():
        assert all(f'data-insert="{column.name}"' in page for column in columns) and f'data-insert="{name}"' in page
    assert "Begin with an example" in page and len(page) < 150_000


@pytest.mark.parametrize(("title", "query", "shown"), sql.EXAMPLES)
def test_every_example_has_an_answer(browser: TestClient, title: str, query: str, shown: dict[str, str]) -> None:
    answer = _get(browser, query, **shown)
    assert answer.status_code == 200 and 'role="alert"' not in answer.text
    assert ("data-plot" in answer.text) == bool(shown) or "There is no column" in answer.text


def test_an_answer_is_a_table_whose_ids_open_their_pages(browser: TestClient, store: DuckStore) -> None:
    query = "select session_id, calls, null as nothing from sessions order by calls desc"
    page = html.unescape(_get(browser, query).text)
    row = store.sql(query, 1).rows()[0]
    assert f"/sessions/{row['session_id']}" in page and ">NULL<" in page
    assert f"<bdi>{row['calls']}</bdi>" in page and query in page


def test_more_rows_than_a_page_holds_are_told_and_are_in_the_file(browser: TestClient) -> None:
    query = "select i, i % 3 = 0 as fizz from range(1000) t(i)"
    page = _get(browser, query).text
    assert page.count("<tr>") == answers.ROWS_SHOWN + 1 and "the first 200 rows" in page
    lines = _get(browser, query, format="jsonl").text.splitlines()
    assert [json.loads(line)["i"] for line in lines] == list(range(1000))
    assert _get(browser, query, format="csv").text.splitlines()[1] == "0,True"
    assert _get(browser, query, format="parquet").content[:4] == b"PAR1"


def test_wide_and_long_answers_stay_small(browser: TestClient) -> None:
    assert len(_get(browser, "select * from calls, range(50)").content) < 1_000_000
    long = _get(browser, "select repeat('<b>', 100000) as x from range(100)")
    assert len(long.content) < 400_000 and "<b>" not in long.text


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("select nothing from calls", "nothing"),
        ("drop table calls", "only reads"),
        ("select 1; select 2", "only reads"),
        ("select * from read_csv('/etc/passwd')", "sql:"),
        ("select \x00 \ud83d\ude00 <script>", "sql:"),
    ],
)
def test_a_mistake_is_told(browser: TestClient, query: str, said: str) -> None:
    answer = _get(browser, query.encode("utf-16", "surrogatepass").decode("utf-16"))
    assert answer.status_code == 400
    told = re.search(r'id="mistake"(.*?)</div>', answer.text, re.DOTALL)
    assert told and said in html.unescape(told[1]) and "<script>" not in told[1]


def test_a_mistake_has_its_place(browser: TestClient) -> None:
    query = "select model,\n  nothing\nfrom calls"
    page = _get(browser, query).text
    assert f'data-position="{query.index("nothing")}"' in page
    assert "line 2:" in page and "<mark>nothing</mark>" in page


def test_a_query_that_takes_too_long_is_stopped(store: DuckStore) -> None:
    site = Site(store, lambda: filled.NOW_NS)
    browser = TestClient(Starlette(routes=[Route("/sql", sql.endpoint(site, shown_s=0.05))]))
    answer = _get(browser, "select count(*) from range(10000000000) a, range(10000000000) b")
    assert answer.status_code == 400 and "the query was stopped" in answer.text
    assert filled.client(store).get("/sql?query=select+1").status_code == 200


def test_a_chart_has_a_series_for_each_value(browser: TestClient) -> None:
    query = "select i // 2 as place, i % 2 as kind, i * 1e9 as x_nanousd from range(6) t(i)"
    page = _get(browser, query, chart="bars", x="place", y="x_nanousd", by="kind").text
    block = re.search(r'<script type="application/json">(.*?)</script>', page, re.DOTALL)
    assert block
    data = json.loads(block[1])
    assert data["labels"] == ["0", "1", "2"] and data["unit"] == "dollars"
    assert {one["name"]: one["values"] for one in data["series"]} == {"0": [0.0, 2.0, 4.0], "1": [1.0, 3.0, 5.0]}


def test_rows_of_one_place_are_added_up_in_bars_alone() -> None:
    answer = Columns(["a", "n"], {"a": ["x", "x", None], "n": [1, Decimal(2), math.inf]})
    bars, said = answers.chart(answer, answers.drawing(answer, {"chart": "bars"}), LOOK)
    assert bars and bars.labels == ["x", "NULL"] and bars.series[0].values == [3.0, 0.0] and "sum" in said[0]
    lines, said = answers.chart(answer, answers.drawing(answer, {"chart": "lines"}), LOOK)
    assert lines and lines.series[0].values == [2.0, None] and "last" in said[0]


def test_without_numbers_nothing_is_drawn() -> None:
    answer = Columns(["a"], {"a": ["x"]})
    assert answers.chart(answer, answers.drawing(answer, {"chart": "bars"}), LOOK)[0] is None
    empty: Columns = Columns([], {})
    assert answers.chart(empty, answers.drawing(empty, {"chart": "bars"}), LOOK)[0] is None


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**127), 2**127)
    | st.floats()
    | st.decimals(-(10**38), 10**38, allow_nan=False)
    | st.text()
    | st.binary()
    | st.dates()
    | st.datetimes()
    | st.timedeltas()
    | st.uuids(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=8,
)


@settings(max_examples=40)
@given(st.lists(st.tuples(VALUES, VALUES), max_size=8), st.sampled_from(list(answers.KINDS)))
def test_any_value_can_be_shown_drawn_and_written(values: list[tuple[Any, Any]], kind: str) -> None:
    answer = Columns(["start_ns", "y"], {"start_ns": [a for a, _ in values], "y": [b for _, b in values]})
    assert len(answers.sheet(answer, LOOK).rows) == len(values)
    answers.chart(answer, answers.drawing(answer, {"chart": kind}), LOOK)
    for row in answers.rows(answer):
        json.dumps(row, allow_nan=False)


def test_values_as_files_have_them() -> None:
    assert answers.plain(2**70) == str(2**70) and answers.plain(timedelta(seconds=90)) == 90.0
    assert answers.plain({1: b"\x01", "t": datetime(2026, 1, 2)}) == {"1": "01", "t": "2026-01-02T00:00:00"}
    assert answers.plain(Decimal("NaN")) is None and answers.plain((1, 2)) == [1, 2]
