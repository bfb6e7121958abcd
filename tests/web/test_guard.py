"""The door: host names, origins, tokens, and the headers that every answer carries."""

from __future__ import annotations

import msgspec
import pytest
from starlette.testclient import TestClient

import filled
from tachograph.errors import Busy, ConfigError
from tachograph.model import Batch
from tachograph.questions import wire
from tachograph.scan import Scan
from tachograph.store.duckdb import DuckStore
from tachograph.web.api.owner import Deeds
from tachograph.web.app import create_app
from tachograph.web.guard import CSP

TOKEN = "a-web-token-of-the-tests"
AS_OWNER = {"Authorization": f"Bearer {filled.API_TOKEN}"}


@pytest.mark.parametrize(
    "address", ["/", "/sessions", "/nothing", "/static/style.css", "/static/../app.py", "/api/v1/sequence", "/calls/x"]
)
def test_every_answer_carries_the_policy(browser: TestClient, address: str) -> None:
    answer = browser.get(address)
    assert answer.headers["content-security-policy"] == CSP
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["referrer-policy"] == "same-origin"


def test_the_policy_allows_nothing_but_our_own() -> None:
    assert "unsafe" not in CSP and "http" not in CSP and "*" not in CSP
    assert CSP.startswith("default-src 'none'")


@pytest.mark.parametrize("host", ["127.0.0.1:4319", "localhost:4319", "LOCALHOST", "[::1]:4319", "127.0.0.1"])
def test_loopback_names_are_served(store: DuckStore, host: str) -> None:
    assert filled.client(store).get("/sessions", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:4319", "", "[", "::1@x"]
)
def test_any_other_name_is_refused(store: DuckStore, host: str) -> None:
    answer = filled.client(store).get("/sessions", headers={"host": host})
    assert answer.status_code == 421
    assert answer.headers["content-security-policy"] == CSP


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:9999", "http://["])
def test_posts_of_other_sites_are_refused(browser: TestClient, origin: str) -> None:
    answer = browser.post("/api/v1/sql", json={"query": "SELECT 1"}, headers=AS_OWNER | {"origin": origin})
    assert answer.status_code == 403
    site = browser.post("/api/v1/sql", json={"query": "SELECT 1"}, headers=AS_OWNER | {"sec-fetch-site": "cross-site"})
    assert site.status_code == 403


def test_the_api_needs_its_token(browser: TestClient, store: DuckStore) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer "}, {"Authorization": "Basic x"}):
        assert browser.get("/api/v1/sequence", headers=headers).status_code == 401
    without = filled.client(store, api_token="")
    assert without.get("/api/v1/sequence", headers={"Authorization": "Bearer "}).status_code == 401


def test_the_api_answers_as_the_store_does(browser: TestClient, store: DuckStore) -> None:
    scan = Scan("sessions", {"id": "session_id", "models": "models"}, order_by=(("id", False),))
    answer = browser.post("/api/v1/scan", content=wire.scan_to_json(scan), headers=AS_OWNER)
    assert wire.columns_from_json(answer.content) == store.scan(scan)
    assert browser.get("/api/v1/sequence", headers=AS_OWNER).json() == {"sequence": store.sequence()}
    hash_ = store.scan(Scan("contents", {"hash": "hash"}, limit=1)).data["hash"][0]
    texts = browser.post("/api/v1/texts", json={"hashes": [hash_, "none"]}, headers=AS_OWNER)
    assert texts.json() == store.texts([hash_])
    rows = browser.post("/api/v1/sql", json={"query": "SELECT count(*) AS n FROM calls"}, headers=AS_OWNER)
    assert rows.json() == {"names": ["n"], "data": {"n": store.sql("SELECT count(*) AS n FROM calls").data["n"]}}


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"\xff", b"[" * 5000, b'{"table": "nothing", "select": {"a": "b"}}']
)
def test_bad_questions_are_the_askers(browser: TestClient, body: bytes) -> None:
    for name in ("scan", "texts", "sql"):
        answer = browser.post(f"/api/v1/{name}", content=body, headers=AS_OWNER)
        assert answer.status_code == 400
        assert answer.json()["kind"] == "QueryError"


def test_deeds_are_done_or_not_there(browser: TestClient, store: DuckStore) -> None:
    assert browser.post("/api/v1/demo/clear", headers=AS_OWNER).status_code == 404
    taken: list[Batch] = []

    def commit(batch: Batch) -> int:
        if not batch.digest:
            raise Busy("store: full", retry_after_s=7)
        taken.append(batch)
        return 41

    doing = filled.client(store, deeds=Deeds(commit, lambda target: None, lambda: 3))
    batch = Batch(digest="d", positions={"a": "b"})
    answer = doing.post("/api/v1/commit", content=msgspec.msgpack.encode(batch), headers=AS_OWNER)
    assert answer.json() == {"sequence": 41} and taken == [batch]
    busy = doing.post("/api/v1/commit", content=msgspec.msgpack.encode(Batch()), headers=AS_OWNER)
    assert busy.status_code == 503 and busy.headers["retry-after"] == "7" and busy.json()["kind"] == "Busy"
    assert doing.post("/api/v1/commit", content=b"\xc1", headers=AS_OWNER).json()["kind"] == "Rejected"
    assert doing.post("/api/v1/demo/clear", headers=AS_OWNER).json() == {"removed": 3}


def test_off_loopback_needs_a_token(store: DuckStore) -> None:
    for host in ("0.0.0.0", "192.168.1.4", "box.example"):
        with pytest.raises(ConfigError, match="web_token"):
            create_app(store, clock=lambda: 0, host=host)
    assert create_app(store, clock=lambda: 0, host="0.0.0.0", web_token=TOKEN)


def test_a_reader_logs_in_with_the_token(store: DuckStore) -> None:
    browser = filled.client(store, host="0.0.0.0", web_token=TOKEN)
    headers = {"host": "box.example:4319"}
    away = browser.get("/sessions?q=a", headers=headers, follow_redirects=False)
    assert away.status_code == 303 and away.headers["location"] == "/login?next=%2Fsessions%3Fq%3Da"
    assert browser.get("/live", headers=headers).status_code == 401
    assert "Log in" in browser.get("/login", headers=headers).text
    wrong = browser.post("/login", data={"token": "wrong"}, headers=headers)
    assert wrong.status_code == 403 and "not the token" in wrong.text
    right = browser.post(
        "/login", data={"token": TOKEN, "next": "/sessions?q=a"}, headers=headers, follow_redirects=False
    )
    assert right.headers["location"] == "/sessions?q=a"
    cookie = right.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=lax" in cookie and TOKEN not in cookie
    known = {**headers, "cookie": cookie.partition(";")[0]}
    assert browser.get("/sessions", headers=known, follow_redirects=False).status_code == 200
    bearer = {**headers, "authorization": f"Bearer {TOKEN}"}
    assert browser.get("/sessions", headers=bearer, follow_redirects=False).status_code == 200
    forged = {**headers, "cookie": "tachograph_web=x"}
    assert browser.get("/sessions", headers=forged, follow_redirects=False).status_code == 303


@pytest.mark.parametrize(
    "target", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:x", "/a\nb", ""]
)
def test_a_login_leads_nowhere_else(store: DuckStore, target: str) -> None:
    browser = filled.client(store, web_token=TOKEN)
    answer = browser.post("/login", data={"token": TOKEN, "next": target}, follow_redirects=False)
    assert answer.headers["location"] == "/"


def test_a_crash_is_a_page_of_ours(store: DuckStore) -> None:
    class Broken:
        """A store whose file has gone."""

        def sequence(self) -> int:
            raise OSError("gone: /secret/path")

    answer = filled.client(Broken()).get("/")  # type: ignore[arg-type]
    assert answer.status_code == 500
    assert answer.headers["content-security-policy"] == CSP
    assert "could not be made" in answer.text and "secret" not in answer.text
