"""Every page of the menu and every link on them, in a browser that complains about anything."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from urllib.parse import urljoin, urlsplit

import httpx
import pytest
from playwright.sync_api import Browser

from places import MENU, PLACES, address_of
from served import Served
from watched import BODY_OVERFLOW, HEIGHT, NARROW, STICKS_OUT, WIDE, Tab, Theme

KINDS_FETCHED = 4  # of each kind of address that a page links to, so many are asked for
KINDS_OPENED = 1  # and so many opened in the browser


def links(site: str, address: str, html: str) -> Iterator[str]:
    """The addresses of our own that a page links to or asks by a form, without their fragments."""
    html = re.sub(r'<form[^>]*method="post"[^>]*>', "", html)  # what changes something is not asked for
    for href in re.findall(r'\s(?:href|action)="([^"]*)"', html):
        target = urlsplit(urljoin(site + address, unescape(href)))._replace(fragment="")
        if target.geturl().startswith(site + "/") and not target.path.startswith("/static/"):
            yield target._replace(scheme="", netloc="").geturl()


def kind(address: str) -> tuple[str, ...]:
    """What makes two addresses lead to the same kind of page: the first segment, the depth and what is asked."""
    target = urlsplit(address)
    first, *more = target.path.strip("/").split("/", 1)
    asked = sorted(pair.partition("=")[0] for pair in target.query.split("&") if pair)
    return (first, "" if not more else "*", *asked)


@pytest.mark.parametrize("address", MENU)
def test_every_kind_of_link_leads_somewhere(site: Served, chromium: Browser, address: str) -> None:
    with httpx.Client(base_url=site.web, timeout=60) as client, Tab(chromium, site.web) as tab:
        page = client.get(address)
        assert page.status_code == 200, page.text[:500]
        kinds: dict[tuple[str, ...], list[str]] = {}
        for link in dict.fromkeys(links(site.web, address, page.text)):
            if link not in MENU:  # each has tests of its own
                kinds.setdefault(kind(link), []).append(link)
        assert kinds
        for of_a_kind in kinds.values():
            for number, link in enumerate(of_a_kind[:KINDS_FETCHED]):
                answer = client.get(link)
                assert answer.status_code == 200, f"{address} links to {link}: {answer.status_code}"
                if number < KINDS_OPENED and answer.headers["content-type"].startswith("text/html"):
                    tab.open(link)
                    assert tab.page.title().endswith("Tachograph")
                    tab.assert_clean()


@pytest.mark.parametrize("place", PLACES)
def test_a_page_is_as_wide_as_its_window(site: Served, chromium: Browser, place: str) -> None:
    with Tab(chromium, site.web, width=NARROW) as tab:
        page = tab.open(address_of(site.web, place))
        assert page.evaluate(BODY_OVERFLOW) <= 0, page.evaluate(STICKS_OUT)
        page.set_viewport_size({"width": WIDE, "height": HEIGHT})
        assert page.evaluate(BODY_OVERFLOW) <= 0, page.evaluate(STICKS_OUT)
        assert page.locator("main h1").count() == 1
        assert page.locator("main h1").inner_text().strip()
        if place != "no such page":
            tab.assert_clean()


@pytest.mark.parametrize("address", MENU)
def test_a_page_says_the_same_without_script(site: Served, chromium: Browser, address: str) -> None:
    """Numbers, tables and charts stand there; nothing waits for a script that does not come."""
    headings = "main h1, main h2, main th"
    with Tab(chromium, site.web) as tab:
        tab.open(address)
        with_script = tab.page.locator(headings).all_inner_texts()
    with Tab(chromium, site.web, has_script=False) as plain:
        plain.page.goto(address)
        assert plain.page.locator(headings).all_inner_texts() == with_script
        assert plain.page.locator("[data-plot]").count() == plain.page.locator("[data-plot] svg").count()
        assert not plain.page.locator("#live-state:visible, #theme:visible").count()
        plain.assert_clean()


def test_the_trace_stands_there_without_script(site: Served, chromium: Browser) -> None:
    with Tab(chromium, site.web, has_script=False) as tab:
        tab.page.goto(address_of(site.web, "a trace"))
        waiting = tab.page.get_by_role("link", name="Wait for them")
        if waiting.count():  # nobody has looked at it before: it is not put together yet
            waiting.click()
        assert tab.page.locator("#fall a.fall-row").count() > 20
        tab.page.locator("#fall a.fall-row").nth(3).click()
        assert tab.page.locator("#panel").inner_text().strip()
        tab.assert_clean()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_chosen_theme_stays(site: Served, chromium: Browser, theme: Theme) -> None:
    system: Theme = "dark" if theme == "light" else "light"
    with Tab(chromium, site.web, theme=system) as tab:
        before = tab.open("/").evaluate("getComputedStyle(document.body).backgroundColor")
        tab.page.get_by_role("button", name="Light or dark").click()
        chosen = tab.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert chosen != before
        tab.open("/sessions")
        assert tab.page.evaluate("getComputedStyle(document.body).backgroundColor") == chosen
        tab.assert_clean()
