"""Roles: who may read, who may change, how long a login lasts, and what comes of guessing and of hostile requests."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

import filled
from tachograph.store.duckdb import DuckStore
from tachograph.web.access import COOKIE, COOKIE_S, GUESSES_MAX, GUESSES_S, Access
from tachograph.web.api import owner
from tachograph.web.guard import CSP, OWNER_PATHS, QUERY_BYTES_MAX

ADMIN = "an-admin-token-of-the-tests"
VIEWER = "a-viewer-token-of-the-tests"
SECOND = 1_000_000_000


class Clock:
    """A clock that tests turn."""

    def __init__(self) -> None:
        self.now_ns = filled.NOW_NS

    def __call__(self) -> int:
        return self.now_ns


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def guarded(store: DuckStore, clock: Clock) -> TestClient:
    """Pages with a token for each role."""
    return filled.client(store, web_token=ADMIN, viewer_token=VIEWER, clock=clock)


def as_bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def log_in(browser: TestClient, token: str) -> str:
    answer = browser.post("/login", data={"token": token}, follow_redirects=False)
    assert answer.status_code == 303, answer.text
    return answer.headers["set-cookie"]


@pytest.mark.parametrize("token", [ADMIN, VIEWER])
def test_both_roles_read(guarded: TestClient, token: str) -> None:
    assert guarded.get("/sessions", headers=as_bearer(token)).status_code == 200
    log_in(guarded, token)
    assert guarded.get("/sessions", follow_redirects=False).status_code == 200


@pytest.mark.parametrize("path", ["/sql", "/sql/rows", "/settings", "/settings/prices"])
def test_a_viewer_sees_no_page_of_admins(guarded: TestClient, path: str) -> None:
    assert guarded.get(path, headers=as_bearer(VIEWER)).status_code == 403
    assert guarded.get(path, headers=as_bearer(ADMIN)).status_code in (200, 404, 405)


def test_a_viewer_in_a_browser_is_told_on_a_page(guarded: TestClient) -> None:
    log_in(guarded, VIEWER)
    reader = {"Accept": "text/html,application/xhtml+xml", "Origin": "http://127.0.0.1:4319"}
    for method, path in (("GET", "/sql"), ("GET", "/settings"), ("POST", "/settings/demo")):
        told = guarded.request(method, path, headers=reader)
        assert told.status_code == 403 and told.headers["content-type"].startswith("text/html"), path
        assert "Only an admin" in told.text and 'action="/logout"' in told.text
        assert '<nav aria-label="Pages"' in told.text and 'href="/settings"' not in told.text
        assert told.headers["content-security-policy"] == CSP
    for path, accept in (("/sql", "*/*"), ("/sql", "text/csv")):
        assert guarded.get(path, headers={"Accept": accept}).headers["content-type"].startswith("text/plain")
    assert "Only an admin" not in guarded.get("/sql", headers=reader | as_bearer(ADMIN) | {"cookie": ""}).text


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_a_viewer_changes_nothing(guarded: TestClient, method: str) -> None:
    assert guarded.request(method, "/sessions", headers=as_bearer(VIEWER)).status_code == 403
    assert guarded.request(method, "/sessions", headers=as_bearer(ADMIN)).status_code == 405
    assert guarded.request(method, "/sessions").status_code == 401


@pytest.mark.parametrize("path", sorted(OWNER_PATHS))
@pytest.mark.parametrize("token", [ADMIN, VIEWER, ""])
def test_no_token_of_the_pages_opens_what_is_the_owners(guarded: TestClient, path: str, token: str) -> None:
    log_in(guarded, ADMIN)
    for method in ("GET", "POST"):
        assert guarded.request(method, path, headers=as_bearer(token)).status_code == 401


def test_every_route_of_the_owner_is_known_to_the_guard(store: DuckStore) -> None:
    deeds = owner.Deeds(lambda batch: 0, lambda target: None, lambda: 0)
    assert {route.path for route in owner.routes(store, deeds)} == OWNER_PATHS


def test_a_cookie_ends_with_its_time(guarded: TestClient, clock: Clock) -> None:
    log_in(guarded, VIEWER)
    clock.now_ns += (COOKIE_S - 1) * SECOND
    assert guarded.get("/sessions", follow_redirects=False).status_code == 200
    clock.now_ns += 2 * SECOND
    assert guarded.get("/sessions", follow_redirects=False).status_code == 303


def test_a_logout_takes_the_cookie_back(guarded: TestClient) -> None:
    kept = log_in(guarded, ADMIN).partition(";")[0]
    answer = guarded.post("/logout", follow_redirects=False)
    assert answer.headers["location"] == "/login" and 'tachograph_web=""' in answer.headers["set-cookie"]
    assert guarded.get("/sessions", headers={"cookie": kept}, follow_redirects=False).status_code == 303


def test_cookies_outlive_a_restart_and_end_with_a_new_token(clock: Clock) -> None:
    cookie = Access(ADMIN, VIEWER, clock).cookie("viewer")
    assert Access(ADMIN, VIEWER, clock).role_of_cookie(cookie) == "viewer"
    assert Access("another-admin-token-0", VIEWER, clock).role_of_cookie(cookie) == "viewer"
    assert Access(ADMIN, "another-viewer-token", clock).role_of_cookie(cookie) is None
    assert Access(ADMIN, "", clock).role_of_cookie(cookie) is None


def test_a_forged_cookie_is_none(clock: Clock) -> None:
    access = Access(ADMIN, VIEWER, clock)
    role, expires, nonce, signature = access.cookie("viewer").split(".")
    assert access.role_of_cookie(f"{role}.{expires}.{nonce}.{signature}") == "viewer"
    for forged in (
        f"admin.{expires}.{nonce}.{signature}",
        f"{role}.{int(expires) + 1}.{nonce}.{signature}",
        f"{role}.{expires}.{nonce}x.{signature}",
        f"{role}.{expires}.{nonce}.",
        *("", ".", "...", "admin", "admin.1.2.3", "viewer.9999999999.ä.\ud800"),
    ):
        assert access.role_of_cookie(forged) is None


def test_without_a_token_for_viewers_an_empty_one_is_none(clock: Clock) -> None:
    access = Access(ADMIN, "", clock)
    assert access.role_of_token("") is None
    assert access.role_of_token(ADMIN) == "admin"
    assert access.role_of_cookie(access.cookie("viewer")) is None


def test_a_cookie_is_for_https_where_the_page_was(store: DuckStore, clock: Clock) -> None:
    guarded = filled.client(store, web_token=ADMIN, clock=clock)
    assert "Secure" not in log_in(guarded, ADMIN)
    guarded.base_url = "https://127.0.0.1:4319"
    cookie = log_in(guarded, ADMIN)
    assert all(word in cookie for word in ("Secure", "HttpOnly", "SameSite=lax", "Path=/")) and COOKIE in cookie


@pytest.mark.parametrize("by_form", [True, False])
def test_who_guesses_has_to_wait(guarded: TestClient, clock: Clock, by_form: bool) -> None:
    def guess(token: str) -> int:
        if by_form:
            return guarded.post("/login", data={"token": token}, follow_redirects=False).status_code
        return guarded.get("/sessions", headers=as_bearer(token)).status_code

    for number in range(GUESSES_MAX):
        assert guess(f"wrong {number}") == (403 if by_form else 401)
    assert guess("wrong") == 429
    assert guess(ADMIN) == 429  # a right guess is not told from a wrong one
    clock.now_ns += GUESSES_S * SECOND
    assert guess(ADMIN) == (303 if by_form else 200)


def test_who_is_logged_in_need_not_wait_for_who_guesses(guarded: TestClient) -> None:
    log_in(guarded, ADMIN)
    for _ in range(GUESSES_MAX + 1):
        answer = guarded.post("/login", data={"token": "wrong"})
    assert answer.status_code == 429 and int(answer.headers["retry-after"]) > 0
    assert guarded.get("/sessions").status_code == 200


def test_clients_are_told_apart_by_their_network(clock: Clock) -> None:
    access = Access(ADMIN, VIEWER, clock)
    for number in range(GUESSES_MAX):
        access.note_wrong(f"2001:db8::{number}")
    assert access.wait_s("2001:db8::ffff") > 0
    assert access.wait_s("2001:db8:1::1") == 0
    assert access.wait_s("192.0.2.1") == 0


def test_the_menu_is_what_the_role_may_open(guarded: TestClient) -> None:
    page = guarded.get("/sessions", headers=as_bearer(VIEWER)).text
    assert 'href="/sessions"' in page and 'action="/logout"' in page
    assert 'href="/sql"' not in page and 'href="/settings"' not in page


# --- hostile requests -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [{"sec-fetch-mode": "no-cors"}, {"sec-fetch-mode": "navigate"}, {}])
@pytest.mark.parametrize("dest", ["image", "iframe", "script", "embed", "empty"])
def test_other_sites_load_nothing(browser: TestClient, kind: dict[str, str], dest: str) -> None:
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-dest": dest, **kind}
    for path in ("/", "/calls?format=csv", "/static/style.css", "/api/v1/usage"):
        assert browser.get(path, headers=headers).status_code == 403


def test_other_sites_may_lead_here(browser: TestClient) -> None:
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    assert browser.get("/", headers=headers).status_code == 200


def test_a_huge_query_is_refused(browser: TestClient) -> None:
    assert browser.get("/sessions?q=" + "a" * (QUERY_BYTES_MAX - 2)).status_code == 200
    for path in ("/sessions", "/api/v1/sessions"):
        answer = browser.get(f"{path}?q=" + "a" * QUERY_BYTES_MAX)
        assert answer.status_code == 414 and answer.headers["content-security-policy"] == CSP


@pytest.mark.parametrize(
    "path",
    ["/static/../app.py", "/static/..%2fapp.py", "/static/%2e%2e/%2e%2e/app.py", "/static/%2fetc%2fpasswd", "/static/"],
)
def test_no_path_leads_out_of_the_files(browser: TestClient, path: str) -> None:
    answer = browser.get(path)
    assert answer.status_code == 404 and "import" not in answer.text


def test_no_header_is_made_of_what_a_reader_says(guarded: TestClient) -> None:
    evil = "%0d%0aSet-Cookie:%20x=1"
    for path in (f"/sessions?q={evil}", f"/{evil}", f"/login?next={evil}", f"/calls?format=csv&q={evil}"):
        answer = guarded.get(path, follow_redirects=False)
        assert "set-cookie" not in answer.headers and "\n" not in answer.headers.get("location", "")


@pytest.mark.parametrize("path", ["/", "/sessions", "/login", "/nothing", "/api/v1/nothing"])
def test_nothing_that_anybody_did_is_kept_by_a_cache(guarded: TestClient, path: str) -> None:
    assert guarded.get(path, follow_redirects=False).headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/", "/sessions", "/static/style.css"])
def test_head_is_get_without_a_body(browser: TestClient, path: str) -> None:
    answer = browser.head(path)
    assert answer.status_code == 200 and answer.content == b"" and answer.headers["content-security-policy"] == CSP


@pytest.mark.parametrize("method", ["OPTIONS", "POST", "PUT", "DELETE"])
def test_a_method_that_is_not_there_is_told_with_those_that_are(browser: TestClient, method: str) -> None:
    answer = browser.request(method, "/sessions")
    assert answer.status_code == 405 and set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}
    assert "access-control-allow-origin" not in answer.headers
