"""Hostile text in every field: shown, and nothing more."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser

from attacks import ATTACKS, trace_of
from places import MENU
from served import Served
from watched import BODY_OVERFLOW, NARROW, STICKS_OUT, Tab

# What must not have come to life: elements and attributes that no page of ours has, and addresses that run.
ALIVE = """() => {
  const isOurs = (address) => new URL(address, location.href).origin === location.origin;
  const runs = (attribute) => attribute.name.startsWith("on") || attribute.name === "srcdoc";
  const isAlive = (one) => {
    if (["IFRAME", "OBJECT", "EMBED", "BASE"].includes(one.tagName) || [...one.attributes].some(runs)) return true;
    if (one.tagName === "STYLE" && one.textContent.includes("attacker")) return true;
    if (one.tagName === "META" && one.httpEquiv) return true;
    if (one.tagName === "FORM" && !isOurs(one.action)) return true;
    if (one.tagName === "IMG" && one.src && !isOurs(one.src) && !one.src.startsWith("data:image/")) return true;
    if (one.tagName === "SCRIPT" && !one.src && one.type !== "application/json") return true;
    const href = one.getAttribute("href") ?? one.getAttribute("xlink:href");
    if (href === null) return false;
    if (!["http:", "https:"].includes(new URL(href, location.href).protocol)) return true;
    const isQuiet = one.target === "_blank" && ["noopener", "noreferrer"].every((word) => one.relList.contains(word));
    return one.tagName === "A" && !isOurs(href) && !isQuiet;
  };
  return [...document.querySelectorAll("*")].filter(isAlive).map((one) => one.outerHTML.slice(0, 200));
}"""
# The step that is selected, as soon as its panel is there and none of those seen before.
PANEL_OF_ANOTHER = """(seen) => {
  const node = new URL(location.href).searchParams.get("node");
  const links = [...document.querySelectorAll("#panel a[download]")];
  const isShown = node && links.some((one) => new URL(one.href).searchParams.get("node") === node);
  return isShown && !seen.includes(node) ? node : false;
}"""
CALLS = "all => all.map((one) => one.pathname).filter((path) => path.startsWith('/calls/'))"
REFUSED = re.compile(r": (400|414) for |status of (400|414) ")
RECORDS = [*ATTACKS, "megabyte"]


def check(tab: Tab, where: str) -> None:
    """Nothing ran, nothing was asked for elsewhere, nothing is out of place."""
    assert tab.page.evaluate(ALIVE) == [], where
    assert tab.page.evaluate(BODY_OVERFLOW) <= 0, (where, tab.page.evaluate(STICKS_OUT))
    tab.assert_clean()


@pytest.mark.thorough
@pytest.mark.parametrize("name", RECORDS)
def test_an_attack_is_text(site: Served, chromium: Browser, name: str) -> None:
    """Its trace, the panel of each of its steps, its session and its call."""
    with Tab(chromium, site.web, width=NARROW) as tab:
        page = tab.open(f"/traces/{trace_of(name)}")
        check(tab, "trace")
        session = page.locator(".crumb a").first.get_attribute("href")
        page.focus("#fall")
        seen: set[str] = set()
        calls: list[str] = []
        for _ in range(3):
            page.keyboard.press("ArrowDown")
            seen.add(page.wait_for_function(PANEL_OF_ANOTHER, arg=[*seen]).json_value())
            check(tab, "panel")
            calls += page.locator("#panel a").evaluate_all(CALLS)
        assert len(seen) == 3
        assert session and calls
        tab.open(session)
        page.evaluate("for (const one of document.querySelectorAll('main details')) one.open = true")
        check(tab, "session")
        tab.open(calls[0])
        check(tab, "call")


@pytest.mark.parametrize("address", [*MENU, "/sessions?range=all&order=start", "/calls?range=24h"])
def test_pages_that_show_all_of_them_stay_whole(site: Served, chromium: Browser, address: str) -> None:
    with Tab(chromium, site.web, width=NARROW) as tab:
        tab.open(address)
        check(tab, "narrow")
        tab.page.set_viewport_size({"width": 1440, "height": 1000})
        check(tab, "wide")


@pytest.mark.parametrize("name", [*ATTACKS])
def test_an_attack_in_the_address_is_text(site: Served, chromium: Browser, name: str) -> None:
    """What a link from elsewhere can put into a page: the filter, the order, the period."""
    text = quote(ATTACKS[name][:900].encode("utf-8"))
    with Tab(chromium, site.web) as tab:
        for address in (f"/sessions?q={text}", f"/calls?order={text}&range={text}&page={text}&q=%22{text}"):
            tab.page.goto(address)
            assert tab.page.evaluate(ALIVE) == [], address
            # A filter that is not understood, or too long, may be refused; the console repeats the status.
            assert all(REFUSED.search(one) for one in tab.complaints), tab.complaints
            tab.complaints.clear()
