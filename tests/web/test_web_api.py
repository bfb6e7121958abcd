"""The API for programs: lists that go on, filters and periods as on the pages, errors in one shape, the same guard."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

import filled
from tachograph.questions import usage
from tachograph.questions.conventions import points
from tachograph.questions.lookup import CALL_COLUMNS
from tachograph.scan import Agg, Match, Scan
from tachograph.store.duckdb import DuckStore
from tachograph.web.api.endpoints import ENDPOINTS
from tachograph.web.guard import CSP
from tachograph.web.pages.calls import ORDERS as CALL_ORDERS
from tachograph.web.pages.sessions import ORDERS as SESSION_ORDERS

TOKEN = "a-web-token-of-the-tests"
ORDERS = [("sessions", order) for order in SESSION_ORDERS] + [("calls", order) for order in CALL_ORDERS]


def ask(browser: TestClient, path: str, **query: Any) -> Any:
    answer = browser.get(f"/api/v1/{path}", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def told_wrong(browser: TestClient, path: str, status: int = 400, **query: Any) -> dict[str, str]:
    answer = browser.get(f"/api/v1/{path}", params=query)
    assert answer.status_code == status, answer.text
    error: dict[str, str] = answer.json()["error"]
    assert set(error) == {"what", "where", "expected", "hint"} and error["what"] and error["expected"]
    return error


@pytest.mark.parametrize("sign", ["", "-"])
@pytest.mark.parametrize(("path", "order"), ORDERS)
def test_a_list_goes_on_until_all_is_told_once(browser: TestClient, path: str, order: str, sign: str) -> None:
    whole = ask(browser, path, order=sign + order, limit=1000)
    rows: list[Any] = []
    cursor = ""
    while cursor is not None:
        part = ask(browser, path, order=sign + order, limit=7, **({"cursor": cursor} if cursor else {}))
        rows += part[path]
        cursor = part["next"]
    assert whole["next"] is None and len(rows) > 20
    assert rows == whole[path]


@pytest.mark.parametrize("suffix", ["tree", "conversation"])
def test_parts_of_a_session_go_on_too(browser: TestClient, store: DuckStore, suffix: str) -> None:
    longest = store.scan(Scan("sessions", {"id": "session_id"}, order_by=(("spans", True),), limit=1)).data["id"][0]
    path = f"sessions/{quote(longest, safe='')}/{suffix}"
    key, most = ("steps", 10_000) if suffix == "tree" else ("sections", 100)
    whole, found, cursor = ask(browser, path, limit=most)[key], [], ""
    while cursor is not None:
        part = ask(browser, path, limit=max(1, len(whole) // 3), **({"cursor": cursor} if cursor else {}))
        found += part[key]
        cursor = part["next"]
    assert found == whole


def test_the_tree_says_who_stands_under_whom(browser: TestClient) -> None:
    call = ask(browser, "calls", q="agent:claude-code")["calls"][0]
    steps = ask(browser, f"sessions/{call['session_id']}/tree")["steps"]
    depths = {step["id"]: step["depth"] for step in steps}
    assert call["call_id"] in {step["call_id"] for step in steps}
    for step in steps:
        assert step["depth"] == (depths[step["parent"]] + 1 if step["parent"] in depths else 0)


def test_usage_is_what_the_question_says(browser: TestClient, store: DuckStore) -> None:
    told, said = ask(browser, "usage", by="agent,model"), usage(store, ("agent", "model"))
    assert told["totals"] == said["totals"]
    assert [(row["group"]["agent"], row["group"]["model"], row["cost_usd"]) for row in told["rows"]] == [
        (row["agent"], row["model"], row["cost_usd"]) for row in said["rows"]
    ]
    assert sum(row["calls"] for row in told["rows"]) == told["totals"]["calls"] > 50


def test_metrics_count_each_call_once(browser: TestClient, store: DuckStore) -> None:
    calls = store.scan(Scan("calls", {name: name for name in CALL_COLUMNS})).rows()
    told = ask(browser, "metrics")["points"]
    assert len(told) == len(points(calls))
    tokens = sum(point["sum"] for point in told if point["name"] == "gen_ai.client.token.usage")
    assert tokens == sum((call["input_tokens"] or 0) + (call["output_tokens"] or 0) for call in calls)


def test_filters_and_periods_are_those_of_the_pages(browser: TestClient, store: DuckStore) -> None:
    where = (Match("agent", "=", "pi"),)
    count = store.scan(Scan("calls", {"n": Agg("count")}, where)).data["n"][0]
    assert len(ask(browser, "calls", q="agent:pi", limit=1000)["calls"]) == count > 0
    assert ask(browser, "calls", to="2020-01-01")["calls"] == []
    assert ask(browser, "usage", **{"from": "2100-01-01"})["totals"]["calls"] == 0


def test_any_id_can_be_asked_for(browser: TestClient) -> None:
    hostile = next(one for one in ask(browser, "sessions")["sessions"] if "script" in one["session_id"])
    path = f"sessions/{quote(hostile['session_id'], safe='')}"
    assert ask(browser, path)["session"] == hostile
    assert ask(browser, f"{path}/tree")["nodes"] == len(ask(browser, f"{path}/tree")["steps"])
    assert ask(browser, f"{path}/conversation")["sections"]


def test_live_is_what_has_news(browser: TestClient) -> None:
    told = ask(browser, "live", minutes=2)
    assert [one["end_ns"] >= told["since_ns"] for one in told["sessions"]] == [True]
    assert told["sequence"] > 0


def test_a_filter_is_completed(browser: TestClient) -> None:
    assert "agent:pi " in ask(browser, "complete", q="agent:p", table="calls")["completions"]


@pytest.mark.parametrize(
    ("path", "query", "where"),
    [
        ("calls", {"limit": "0"}, "limit"),
        ("calls", {"limit": "1001"}, "limit"),
        ("calls", {"limit": "1e3"}, "limit"),
        ("calls", {"order": "seq"}, "order"),
        ("calls", {"range": "8d"}, "range"),
        ("calls", {"from": "yesterday"}, "from"),
        ("calls", {"to": "0001-01-01"}, "to"),
        ("calls", {"timezone": "Mars/Olympus"}, "time zone"),
        ("calls", {"q": "cost>much"}, "filter: character 1: cost"),
        ("calls", {"q": 'model:"x'}, ""),
        ("calls", {"cursor": "x"}, "cursor"),
        ("calls", {"cursor": "WzFd"}, "cursor"),
        ("calls", {"q": "\0"}, "q"),
        ("calls", {"limt": "1"}, "parameter"),
        ("usage", {"by": "agent,agent"}, "by"),
        ("usage", {"by": "hour,day,week,month"}, "by"),
        ("usage", {"from": "2026-11-03", "to": "2026-11-01"}, "to"),
        ("calls", {"from": "2026-11-01T12:00:00Z", "to": "2026-11-01T12:00:00Z"}, "to"),
        ("search", {}, "text"),
        ("sources", {"x": "1"}, "parameter"),
    ],
)
def test_a_wrong_question_is_told_where(browser: TestClient, path: str, query: dict[str, str], where: str) -> None:
    error = told_wrong(browser, path, 400, **query)
    assert error["where"] == where or not where


def test_a_parameter_given_twice_is_refused(browser: TestClient) -> None:
    assert browser.get("/api/v1/calls?limit=1&limit=2").status_code == 400


def test_a_cursor_is_of_one_order(browser: TestClient) -> None:
    cursor = ask(browser, "calls", limit=2, order="cost")["next"]
    for order in ("-cost", "newest"):
        assert told_wrong(browser, "calls", limit=2, order=order, cursor=cursor)["where"] == "cursor"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.integers())))
def test_no_cursor_makes_it_fail(browser: TestClient, value: Any) -> None:
    for told in (["start_ns", True, value, "x"], ["model", True, value, "x"], value, [value]):
        cursor = urlsafe_b64encode(msgspec.json.encode(told)).decode().rstrip("=")
        for order in ("newest", "model"):
            answer = browser.get("/api/v1/calls", params={"cursor": cursor, "order": order})
            assert answer.status_code in (200, 400), answer.text


@pytest.mark.parametrize("path", ["sessions/none", "sessions/none/tree", "traces/none", "calls/none", "texts/none"])
def test_an_id_that_nothing_has(browser: TestClient, path: str) -> None:
    assert told_wrong(browser, path, 404)["what"] == 'got "none"'


def test_what_is_not_there_is_told_in_the_same_shape(browser: TestClient) -> None:
    assert told_wrong(browser, "nothing", 404)["what"] == 'got "/api/v1/nothing"'
    refused = browser.put("/api/v1/calls")
    assert refused.status_code == 405 and refused.json()["error"]["expected"] == "GET, HEAD"
    assert browser.post("/api/v1/calls", headers={"origin": "http://evil.example"}).json()["error"]


def test_a_store_that_fails_is_told_in_the_same_shape() -> None:
    class Broken:
        """A store whose file has gone."""

        def scan(self, scan: Scan) -> Any:
            raise OSError("gone: /secret/path")

    answer = filled.client(Broken()).get("/api/v1/calls")  # type: ignore[arg-type]
    assert answer.status_code == 500 and set(answer.json()["error"]) == {"what", "where", "expected", "hint"}
    assert "secret" not in answer.text and answer.headers["content-security-policy"] == CSP


def test_it_is_as_open_as_the_pages(store: DuckStore) -> None:
    guarded = filled.client(store, web_token=TOKEN, viewer_token=TOKEN + "-of-viewers")
    for path in ("calls", "openapi.json"):
        assert guarded.get(f"/api/v1/{path}").json()["error"]["expected"] == "`Authorization: Bearer TOKEN`"
    for token in (TOKEN, TOKEN + "-of-viewers"):
        assert guarded.get("/api/v1/calls", headers={"Authorization": f"Bearer {token}"}).status_code == 200


def test_the_page_lists_every_endpoint_with_its_parameters(browser: TestClient) -> None:
    page = browser.get("/api").text
    for endpoint in ENDPOINTS:
        assert f"/api/v1/{endpoint.path}" in page and endpoint.summary in page
        for parameter in endpoint.parameters:
            assert parameter.what in page.replace("&gt;", ">")
    assert "/api/v1/openapi.json" in page


def test_a_page_is_packed_but_not_for_who_came_from_elsewhere(browser: TestClient) -> None:
    packed = {"accept-encoding": "gzip"}
    assert browser.get("/api/v1/calls", headers=packed).headers["content-encoding"] == "gzip"
    visit = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    assert "content-encoding" not in browser.get("/calls", headers=packed | visit).headers
    assert "content-encoding" not in browser.get("/calls?format=parquet", headers=packed).headers


@pytest.mark.parametrize(
    ("accepted", "coding"), [("gzip, zstd", "zstd"), ("gzip", "gzip"), ("zstd;q=0, gzip;q=0.5", "gzip"), ("", None)]
)
def test_a_file_comes_packed_as_it_is_taken_and_only_once(
    browser: TestClient, accepted: str, coding: str | None
) -> None:
    plain = browser.get("/static/style.css", headers={"accept-encoding": "identity"})
    answer = browser.get("/static/style.css", headers={"accept-encoding": accepted})
    assert answer.headers.get("content-encoding") == coding
    unpacked = zstandard.decompress(answer.content) if coding == "zstd" else answer.content
    assert unpacked == plain.content
    assert answer.headers["vary"] == "Accept-Encoding"
    assert (answer.headers["etag"] == plain.headers["etag"]) == (coding is None)
    again = {"accept-encoding": accepted, "if-none-match": answer.headers["etag"]}
    assert browser.get("/static/style.css", headers=again).status_code == 304
