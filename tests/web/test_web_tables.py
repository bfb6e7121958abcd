"""Lists and groups: filters, orders, links and files, on pages filled with recorded sessions and hostile texts."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlencode

import duckdb
import pytest
from starlette.testclient import TestClient

import filled
from tachograph.questions import usage
from tachograph.scan import Agg, Match, Scan
from tachograph.store.duckdb import DuckStore, open_store
from tachograph.web import exporting
from tachograph.web.pages import calls, groups, models, sessions, tools

PAGES = ("/sessions", "/calls", "/models", "/by/agent", "/by/project")


def rows_of(page: str) -> list[str]:
    """The bodies of the rows of the first table."""
    body = page.partition("<tbody>")[2].partition("</tbody>")[0]
    return re.findall(r"<tr>(.*?)</tr>", body, re.DOTALL)


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize(
    "query", ["", "?range=all", "?range=24h", "?q=agent:codex", "?q=%22no+such+text%22", "?page=99"]
)
def test_every_list_is_made(browser: TestClient, path: str, query: str) -> None:
    assert browser.get(path + query).status_code == 200


@pytest.mark.parametrize("path", PAGES)
def test_every_order_is_one_and_can_be_turned_round(browser: TestClient, path: str) -> None:
    page = html.unescape(browser.get(path + "?range=all").text)
    links = set(re.findall(r'<th [^>]*><a href="([^"]+order=[^"]+)"', page))
    assert len(links) >= 5
    for link in links:
        turned = html.unescape(browser.get(link).text)
        assert 'aria-sort="descending"' in turned or 'aria-sort="ascending"' in turned, link


def test_calls_come_by_cost(browser: TestClient, store: DuckStore) -> None:
    page = browser.get("/calls?range=all&order=cost").text
    ids = re.findall(r'href="/calls/([^"?]+)"', page)
    costs = {
        row["id"]: row["cost"] for row in store.scan(Scan("calls", {"id": "call_id", "cost": "cost_nanousd"})).rows()
    }
    shown = [costs[one] for one in ids if costs[one] is not None]
    assert shown == sorted(shown, reverse=True) and len(shown) > 10


def test_a_number_of_the_overview_leads_to_the_calls_behind_it(browser: TestClient, store: DuckStore) -> None:
    page = html.unescape(browser.get("/?range=all").text)
    link, shown = re.search(r'>failed</dt><dd><a href="([^"]+)">([\d,]+)<', page).groups()  # type: ignore[union-attr]
    behind = html.unescape(browser.get(link).text)
    assert len(rows_of(behind)) == int(shown.replace(",", "")) == usage(store)["totals"]["failed_calls"]


def test_a_filter_that_cannot_be_read_is_told_on_the_page(browser: TestClient) -> None:
    for path in ("/", *PAGES):
        page = browser.get(path, params={"q": "cost>much"})
        assert page.status_code == 200
        assert "cost: got &#39;much&#39;; expected a number" in page.text, path


@pytest.mark.parametrize("path", PAGES)
def test_a_file_holds_every_row(browser: TestClient, path: str) -> None:
    lines = browser.get(path + "?range=all&format=jsonl")
    rows = [json.loads(line) for line in lines.text.splitlines()]
    assert lines.headers["content-disposition"].endswith('.jsonl"') and rows
    listed = list(csv.DictReader(io.StringIO(browser.get(path + "?range=all&format=csv").text)))
    assert len(listed) == len(rows) and list(listed[0]) == list(rows[0])


# Page -> the key of a row's name, and the column of each order of the address.
ORDERED = {
    "/sessions": ("session_id", sessions.ORDERS),
    "/calls": ("call_id", calls.ORDERS),
    "/models": ("model", models.ORDERS),
    "/tools": ("tool_name", tools.ORDERS),
    "/by/agent": ("name", groups.ORDERS),
}


@pytest.mark.parametrize("path", ORDERED)
def test_a_file_has_the_order_of_the_page(browser: TestClient, path: str) -> None:
    key, orders = ORDERED[path]
    names = set()
    for order, column in orders.items():
        for sign in ("", "-"):
            answer = browser.get(path, params={"range": "all", "format": "jsonl", "order": sign + order})
            rows = [json.loads(line) for line in answer.text.splitlines()]
            names.add(tuple(sorted(row[key] for row in rows)))
            values = [row[column] for row in rows]
            known = [value for value in values if value is not None]
            assert known == sorted(known, reverse=not sign) and len(known) > 1, (order, sign)
            assert values[: len(known)] == known  # what is unknown comes last
    assert len(names) == 1  # the same rows whatever the order


@pytest.mark.parametrize("is_descending", [True, False])
@pytest.mark.parametrize("column", ["cost_nanousd", "status", "start_ns"])
def test_rows_that_come_in_parts_are_those_of_one(store: DuckStore, column: str, is_descending: bool) -> None:
    order, key = (column, is_descending), ("call_id", True)
    columns = {"call_id": "call_id", column: column}
    expected = store.scan(Scan("calls", dict(columns), order_by=(order, key))).rows()
    for at_once in (3, len(expected)):
        assert list(exporting.all_rows(store, "calls", list(columns), (), order, key, at_once)) == expected


def test_a_file_begins_like_the_page(browser: TestClient) -> None:
    for path, kind in (("/calls", "calls"), ("/sessions", "sessions")):
        query = {"range": "all", "order": "-cost", "subagents": "yes"}
        rows = browser.get(path, params=query | {"format": "jsonl"}).text.splitlines()
        key = ORDERED[path][0]
        named = [json.loads(row)[key] for row in rows][:100]
        page = html.unescape(browser.get(path, params=query).text)
        shown = re.findall(rf'<td class="[^"]*main"><a href="/{kind}/([^"?]+)"', page)
        assert [unquote(one) for one in shown] == named and len(named) > 5


@pytest.mark.parametrize("path", [*ORDERED, "/sources", "/compare", "/destinations"])
def test_a_file_without_rows_has_its_columns(
    browser: TestClient, path: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with closing(open_store(tmp_path_factory.mktemp("none"), lambda: filled.NOW_NS)) as empty:
        alone = filled.client(empty)
        header = alone.get(path + "?format=csv").text.splitlines()
        assert len(header) == 1
        listed = browser.get(path + "?range=all&format=csv").text.splitlines()
        assert listed[0] == header[0]
        target = tmp_path_factory.mktemp("file") / "none.parquet"
        target.write_bytes(alone.get(path + "?format=parquet").content)
        with duckdb.connect() as con:
            told = con.execute(f"DESCRIBE SELECT * FROM '{target}'").fetchall()
        assert [column[0] for column in told] == header[0].split(",")


def test_a_file_of_an_answer_without_rows_has_its_columns(browser: TestClient) -> None:
    for form in ("csv", "parquet"):
        told = browser.get("/sql", params={"query": 'SELECT 1 AS a, 2 AS "A" WHERE false', "format": form})
        assert told.status_code == 200 and told.content[:3] in (b"a,A", b"PAR")


def test_a_file_of_calls_adds_up_to_the_ledger(browser: TestClient, store: DuckStore, tmp_path: Path) -> None:
    target = tmp_path / "calls.parquet"
    target.write_bytes(browser.get("/calls?format=parquet").content)
    with duckdb.connect() as con:
        counted = con.execute(f"SELECT count(*), sum(input_tokens) FROM '{target}'").fetchone()
    expected = store.scan(Scan("calls", {"n": Agg("count"), "tokens": Agg("sum", "input_tokens")})).rows()[0]
    assert counted == (expected["n"], expected["tokens"])
    nothing = browser.get("/calls?format=parquet&q=agent:nobody")
    assert nothing.status_code == 200 and nothing.content[:4] == b"PAR1"


def test_a_text_is_no_formula(browser: TestClient) -> None:
    for path in PAGES:
        for row in csv.reader(io.StringIO(browser.get(path + "?range=all&format=csv").text)):
            assert not any(cell.startswith(("=", "@")) for cell in row)


def test_groups_add_up(browser: TestClient, store: DuckStore) -> None:
    rows = [json.loads(line) for line in browser.get("/by/agent?range=all&format=jsonl").text.splitlines()]
    totals = usage(store)["totals"]
    assert sum(row["calls"] for row in rows) == totals["calls"]
    sessions = store.scan(Scan("sessions", {"n": Agg("count")}, (Match("agent", "=", "codex"),))).data["n"][0]
    assert next(row for row in rows if row["name"] == "codex")["sessions"] == sessions
    assert browser.get("/by/colour").status_code == 404


def test_links_keep_what_is_asked(browser: TestClient) -> None:
    wished = {"range": "all", "q": "agent:codex", "order": "calls"}
    page = html.unescape(browser.get("/sessions?" + urlencode(wished)).text)
    for link in re.findall(r'href="(/sessions\?[^"]+)"', page):
        assert "q=agent%3Acodex" in link, link
