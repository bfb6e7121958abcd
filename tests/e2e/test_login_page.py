"""Pages that ask for a token: the way in, what a viewer does not see, and the way out."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from served import Served
from test_axe import COLOURS, grave
from test_live_pages import send
from watched import BODY_OVERFLOW, NARROW, Tab

ADMIN, VIEWER = "a-token-of-the-owner-0123456789", "a-token-of-a-viewer-0123456789"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server whose pages ask for a token."""
    home = tmp_path_factory.mktemp("login") / "home"
    home.mkdir()
    server = Served(home, TACHOGRAPH_WEB_TOKEN=ADMIN, TACHOGRAPH_VIEWER_TOKEN=VIEWER)
    send(server, "seen-by-both")
    yield server
    assert server.stop() == 0, server.log()


def test_the_way_in_and_out(guarded: Served, chromium: Browser) -> None:
    with Tab(chromium, guarded.web) as tab:
        page = tab.open("/sessions?range=all")
        assert page.url.startswith(guarded.web + "/login")
        assert page.locator("#token").evaluate("one => one === document.activeElement")
        assert not grave(tab)
        page.set_viewport_size({"width": NARROW, "height": 844})
        assert page.evaluate(BODY_OVERFLOW) <= 0
        page.emulate_media(color_scheme="dark")
        assert not grave(tab, COLOURS)
        tab.assert_clean()

        page.keyboard.type("a wrong one")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_be_visible()
        assert not grave(tab)
        assert all("403" in one for one in tab.complaints), tab.complaints  # which the console repeats
        tab.complaints.clear()

        page.locator("#token").fill(ADMIN)
        page.keyboard.press("Enter")
        page.wait_for_url("**/sessions?range=all")
        expect(page.get_by_text("seen-by-both").first).to_be_visible()
        assert not [one for one in tab.context.cookies() if ADMIN in one["value"]]
        page.get_by_role("button", name="Log out").click()
        page.wait_for_url("**/login")
        page.goto("/settings")
        assert "/login" in page.url
        tab.assert_clean()


def test_a_viewer_sees_no_settings(guarded: Served, chromium: Browser) -> None:
    with Tab(chromium, guarded.web) as tab:
        page = tab.open("/")
        page.locator("#token").fill(VIEWER)
        page.keyboard.press("Enter")
        page.wait_for_url(guarded.web + "/")
        expect(page.locator(".top nav a[href='/sessions']")).to_be_visible()
        assert page.locator(".top nav a[href='/settings'], .top nav a[href='/sql']").count() == 0
        tab.assert_clean()
