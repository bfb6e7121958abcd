"""The page of destinations: empty it says what will be here; else each one's state, without secrets."""

from __future__ import annotations

import json

import filled
from tachograph.store.duckdb import DuckStore
from tachograph.web.pages.destinations import Destination, without_secrets
from tachograph.web.rendering import Here


def test_nothing_is_forwarded(store: DuckStore) -> None:
    assert "Nothing is forwarded" in filled.client(store).get("/destinations").text


def test_each_destination_has_its_state(store: DuckStore) -> None:
    told = [
        Destination("main", "otlp", "https://me:secret@collect.test:4318/v1?key=secret#secret", ("traces", "logs")),
        Destination(
            "<b>other", "otlp", "http://127.0.0.1:1", ("traces",), "open", 12, 90.0, 0.0, 5, 7, 3, filled.NOW_NS,
            "503 <i>busy",
        ),
    ]  # fmt: skip
    browser = filled.client(store, here=Here(destinations=lambda: told))
    page = browser.get("/destinations").text
    assert "collect.test:4318" in page and "secret" not in page
    assert "&lt;b&gt;other" in page and "3 pieces refused" in page and "503 &lt;i&gt;busy" in page
    rows = [json.loads(line) for line in browser.get("/destinations?format=jsonl").text.splitlines()]
    assert [row["lag_commits"] for row in rows] == [None, 12] and "secret" not in str(rows)


def test_any_address_is_without_secrets() -> None:
    assert (
        without_secrets("http://[::1]:99999999") == "" and without_secrets("http://u:p@[::1]:1/x") == "http://[::1]:1/x"
    )


def test_a_state_says_what_to_do(store: DuckStore) -> None:
    told = [
        Destination("fine", "otlp", "http://a.test", ("traces",), lag_commits=0, answer="200"),
        Destination("busy", "otlp", "http://b.test", (), "open", 3, 9.0, answer="503", retry_ns=filled.NOW_NS + 1),
        Destination("key", "otlp", "http://c.test", (), "open", 3, 9.0, answer="401", is_refusing=True),
        Destination("choosy", "otlp", "http://d.test", (), lag_commits=0, dead_letters=1, answer="400"),
    ]
    page = filled.client(store, here=Here(destinations=lambda: told)).get("/destinations").text
    fine, busy, key, choosy = page.split('<section class="card destination')[1:]
    assert "up to date" in fine and "error" not in fine and "<code>" not in fine
    assert "waiting" in busy and "next try at" in busy and "503" in busy
    assert "refusing" in key and "tachograph forward test key" in key and "next try" not in key
    assert "1 piece refused" in choosy and 'href="/destinations/refused?of=choosy"' in choosy


def test_what_nothing_is_sent_to_and_what_is_lost_is_told(store: DuckStore) -> None:
    told = [
        Destination("poor", "otlp", "http://a.test", ("logs",), lost=5, word="idle", privacy="none", agents=("pi",)),
        Destination("quiet", "otlp", "http://b.test", (), word="off"),
        Destination("circle", "otlp", "http://c.test", (), word="loop"),
        Destination("former", "", "", (), word="removed", dead_letters=2, cursor=7),
    ]
    page = filled.client(store, here=Here(destinations=lambda: told)).get("/destinations").text
    poor, quiet, circle, former = page.split('<section class="card destination')[1:]
    assert "5 records lost" in poor and "privacy none" in poor and "only agents pi" in poor
    assert "enabled = false" in quiet and "it is this server" in circle
    assert "up to commit 7" in former and "tachograph forward forget former" in former and "retry" not in former
