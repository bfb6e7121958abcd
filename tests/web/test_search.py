"""Searching: texts with what stands around them, fields that narrow, ids that lead to what they name."""

from __future__ import annotations

import html
import re

import pytest
from starlette.testclient import TestClient

import filled
from tachograph.questions.naming import named
from tachograph.scan import Match, Scan
from tachograph.store.duckdb import DuckStore
from tachograph.web.pages.search import pieces


def groups(page: str) -> list[str]:
    return page.split('<section class="card found">')[1:]


def test_a_text_is_found_with_what_stands_around_it(browser: TestClient) -> None:
    page = browser.get("/search", params={"q": "readme"}).text
    found = groups(page)
    assert found
    assert all(re.search(r"<mark>readme</mark>", one, re.IGNORECASE) for one in found)
    assert all("in the conversation" in one and "/texts/" in one for one in found)


def test_fields_narrow_the_texts(browser: TestClient) -> None:
    everywhere = groups(browser.get("/search", params={"q": "readme"}).text)
    narrowed = groups(browser.get("/search", params={"q": "readme agent:codex"}).text)
    assert 0 < len(narrowed) < len(everywhere)
    assert not groups(browser.get("/search", params={"q": "readme agent:nobody"}).text)
    assert not groups(browser.get("/search", params={"q": 'readme "no such text at all"'}).text)


def test_a_field_of_calls_narrows_sessions_as_well(browser: TestClient, store: DuckStore) -> None:
    page = browser.get("/search", params={"q": "status:ok provider:anthropic"}).text
    where = (Match("status", "=", "ok"), Match("provider", "=", "anthropic"))
    ids = store.scan(Scan("calls", {"id": "session_id"}, where, ("id",))).data["id"]
    counted = len(store.scan(Scan("sessions", {"id": "session_id"}, (Match("session_id", "in", ids),))))
    assert counted and f">{counted} session" in page


@pytest.mark.parametrize("column", ["session_id", "trace_id", "call_id", "response_id"])
def test_an_id_leads_to_what_it_names(browser: TestClient, store: DuckStore, column: str) -> None:
    where = (Match("agent", "=", "claude-code"), Match(column, "!=", ""))
    value = store.scan(Scan("calls", {"id": column}, where, limit=1)).data["id"][0]
    answer = browser.get("/search", params={"q": value}, follow_redirects=False)
    assert answer.status_code == 303
    target = {"session_id": "/sessions/", "trace_id": "/traces/"}.get(column, "/calls/")
    assert answer.headers["location"].startswith(target)
    assert browser.get(answer.headers["location"]).status_code == 200


def test_the_beginning_of_an_id_is_enough(browser: TestClient, store: DuckStore) -> None:
    trace = next(
        one for one in store.scan(Scan("trace_sessions", {"id": "trace_id"})).data["id"] if re.search(r"\d", one[:9])
    )
    assert (
        browser.get("/search", params={"q": trace[:9]}, follow_redirects=False).headers["location"]
        == f"/traces/{trace}"
    )
    assert named(store, "readme") == [] and named(store, "two words 12") == [] and named(store, "") == []


def test_a_text_leads_to_its_place_in_the_conversation(browser: TestClient) -> None:
    page = html.unescape(browser.get("/search", params={"q": "readme agent:claude-code"}).text)
    places = re.findall(r'href="(/search/place\?[^"]+)"', page)
    assert places
    led = [browser.get(one, follow_redirects=False).headers["location"] for one in places]
    assert any("#prompt-" in one for one in led)
    assert all(browser.get(one).status_code == 200 for one in led)
    assert browser.get("/search/place", params={"session": "none", "hash": "x"}).status_code == 404


def test_hostile_texts_stay_texts(browser: TestClient) -> None:
    for query in ("alert", "<script>", filled.EVIL[:12], "{{7*7}}", '"><img'):
        page = browser.get("/search", params={"q": f'"{query}"' if '"' not in query else "onerror"})
        assert page.status_code == 200
        assert "<script>alert" not in page.text and "<img src=x" not in page.text


@pytest.mark.parametrize("query", ['"open', "cost>much", "colour:red", "agent:", "(", "\x00", "." * 900])
def test_whatever_is_asked_gets_a_page(browser: TestClient, query: str) -> None:
    answer = browser.get("/search", params={"q": query})
    assert answer.status_code == 200
    assert browser.get("/search").status_code == 200


def test_an_error_of_the_filter_is_told(browser: TestClient) -> None:
    assert "expected one of agent" in browser.get("/search", params={"q": "readme colour:red"}).text


def test_an_excerpt_keeps_every_letter_that_was_searched() -> None:
    parts = pieces(r"one\ntwo One \"x\"", re.compile("(one)", re.IGNORECASE))
    assert [(one.text, one.is_hit) for one in parts] == [
        ("one", True),
        (" two ", False),
        ("One", True),
        (' "x"', False),
    ]
