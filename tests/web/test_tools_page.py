"""The page of tools: each run once, every number with what is behind it, hostile names inert."""

from __future__ import annotations

import html
import json
import re

import pytest
from starlette.testclient import TestClient

from tachograph.questions.filters import conditions
from tachograph.questions.tools import RUN_COLUMNS, during, errors, over_time, spread, tools, top
from tachograph.scan import Agg, Scan
from tachograph.store.duckdb import DuckStore
from tachograph.web.pages.tools import ORDERS


def counted(store: DuckStore, filter_text: str) -> int:
    """Runs that a filter finds."""
    where = conditions(store, filter_text, "tool_runs")
    return int(store.scan(Scan("tool_runs", {"n": Agg("count")}, where)).data["n"][0])


def test_a_row_for_each_tool(browser: TestClient, store: DuckStore) -> None:
    page = html.unescape(browser.get("/tools?range=all").text)
    rows = tools(store)
    assert sum(row["runs"] for row in rows) == store.sql("SELECT sum(tool_runs) AS n FROM sessions").data["n"][0]
    for row in rows:
        assert html.escape(row["tool_name"][:20]) in page or row["tool_name"][:20] in page
        assert row["errors"] <= row["runs"] and row["timed"] <= row["runs"]
        assert (row["p50_ns"] is None) == (row["timed"] == 0)
    assert "Slowest runs" in page and "Biggest results" in page and "data-plot" in page


@pytest.mark.parametrize("order", ORDERS)
def test_every_order_is_one(browser: TestClient, order: str) -> None:
    for turned in ("", "-"):
        assert browser.get(f"/tools?range=all&order={turned}{order}").status_code == 200


def test_one_tool_has_a_view_of_its_own(browser: TestClient, store: DuckStore) -> None:
    for row in tools(store):
        answer = browser.get("/tools", params={"range": "all", "tool": row["tool_name"]})
        assert answer.status_code == 200 and "How long a run takes" in answer.text
        assert "<script>alert" not in answer.text and "<b>x</b>" not in answer.text
    page = browser.get("/tools?range=all&tool=no+such+tool").text
    assert "No tool ran in this period." in page and "No run failed" in page


def test_runs_lead_to_their_step_and_session(browser: TestClient) -> None:
    page = html.unescape(browser.get("/tools?range=all").text).partition("Slowest runs")[2]
    links = set(re.findall(r'href="(/(?:traces|sessions)/[^"]+)"', page))
    assert links
    for link in links:
        assert browser.get(link).status_code == 200


def test_files_hold_every_tool(browser: TestClient, store: DuckStore) -> None:
    lines = browser.get("/tools?range=all&format=jsonl").text.splitlines()
    assert [json.loads(line)["tool_name"] for line in lines] == [row["tool_name"] for row in tools(store)]
    assert browser.get("/tools?range=all&format=csv").text.startswith("tool_name,")


def test_the_filter_knows_runs_their_sessions_and_calls(store: DuckStore) -> None:
    every = counted(store, "")
    assert counted(store, "error:true") + counted(store, "error:false") == every
    assert counted(store, "agent:codex") + counted(store, "-agent:codex") == every
    assert 0 < counted(store, "tool:Bash") < every
    assert counted(store, "tool:Bash,exec_command") == counted(store, "tool:Bash") + counted(store, "tool:exec_command")
    assert counted(store, "calls>=0") > 0, "of sessions"
    assert counted(store, "status:ok") > 0, "of calls"
    assert counted(store, "duration>1000h") == 0


def test_an_unreadable_filter_is_told(browser: TestClient) -> None:
    assert 'role="alert"' in browser.get("/tools?q=nothing:x").text


def test_bands_times_and_lists_agree_with_the_table(store: DuckStore) -> None:
    rows = tools(store)
    assert sum(row["runs"] for row in spread(store, ())) == sum(row["timed"] for row in rows)
    ended = store.sql("SELECT count(end_ns) AS n FROM tool_runs").data["n"][0]
    assert sum(runs for *_, runs in over_time(store, (), "day")) == ended
    assert sum(row["runs"] for row in errors(store, (), 1000)) == sum(row["errors"] for row in rows)
    slowest = top(store, (), "duration_ns", 5)
    assert slowest[0]["duration_ns"] == max(row["max_ns"] or 0 for row in rows)
    assert set(slowest[0]) == set(RUN_COLUMNS)
    assert tools(store, during(1, 2)) == []


def runs_behind(browser: TestClient, link: str) -> int:
    """How many runs the table of runs of an address lists, over all its pages."""
    path, listed = link.partition("#")[0], 0
    for number in range(1, 100):
        page = browser.get(f"{path}&page={number}").text.partition('id="runs"')[2].partition("</section>")[0]
        listed += page.partition("<tbody>")[2].count("<tr>")
        if 'rel="next"' not in page:
            return listed
    raise AssertionError(link)


def test_every_number_leads_to_as_many_runs(browser: TestClient, store: DuckStore) -> None:
    page = html.unescape(browser.get("/tools?range=all").text)
    table = page.partition("<tbody>")[2].partition("</tbody>")[0]
    told = re.findall(r'<a href="(/tools\?[^"]*#runs)"[^>]*>(?:<span[^>]*>)?([\d,]+)<', table)
    rows = tools(store)
    assert len(told) == len(rows) + sum(row["errors"] > 0 for row in rows)
    for link, number in told:
        assert runs_behind(browser, link) == int(number.replace(",", "")), link


def test_bands_and_errors_of_a_tool_lead_to_their_runs(browser: TestClient, store: DuckStore) -> None:
    row = max(tools(store), key=lambda row: int(row["errors"]))
    page = html.unescape(browser.get("/tools", params={"range": "all", "tool": row["tool_name"]}).text)
    for part in ("Errors", "Durations", "By agent", "By project"):
        table = page.partition(f'aria-label="{part}"')[2].partition("</table>")[0]
        told = re.findall(r'<a href="(/tools\?[^"]*#runs)"[^>]*>(?:<span[^>]*>)?([\d,]+)<', table)
        assert told, part
        for link, number in told:
            found = runs_behind(browser, link)
            # An error is looked for as a part of what runs say, so others that say more are found as well.
            assert found >= int(number) if part == "Errors" else found == int(number.replace(",", "")), link
