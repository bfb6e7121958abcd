"""Lists and groups: filters, orders, links and files, on pages filled with recorded sessions and hostile texts."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from pathlib import Path
from urllib.parse import urlencode

import duckdb
import pytest
from starlette.testclient import TestClient

from tachograph.questions import usage
from tachograph.scan import Agg, Match, Scan
from tachograph.store.duckdb import DuckStore

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
