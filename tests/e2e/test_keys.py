"""Everything by keyboard: the way past the menu, the filter, rows of tables, the tree of a trace."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, Page, expect

import watched
from places import BELOW, MENU, with_prompts
from served import Served
from watched import Tab

FOCUS = "() => { const one = document.activeElement; return one.id || one.getAttribute('href') || one.tagName }"
# A focused element that a person can see: an outline, or a border or background that changes.
IS_SEEN = """() => {
  const one = document.activeElement;
  const focused = getComputedStyle(one);
  const box = one.getBoundingClientRect();
  return focused.outlineStyle !== "none" && parseFloat(focused.outlineWidth) >= 1 && box.width > 0 && box.height > 0;
}"""
TABS = 25


def focus(page: Page) -> str:
    """What has the focus: its id, address or tag."""
    return str(page.evaluate(FOCUS))


@pytest.mark.parametrize("address", MENU)
def test_the_first_key_leads_past_the_menu_and_the_focus_is_seen(site: Served, chromium: Browser, address: str) -> None:
    with Tab(chromium, site.web) as tab:
        page = tab.open(address)
        page.locator(".brand").focus()  # a page whose purpose is one field may start in it
        page.keyboard.press("Shift+Tab")
        assert focus(page) == "#main"
        seen = []
        for _ in range(TABS):
            where = focus(page)
            if where == "BODY":  # round the end
                break
            assert page.evaluate(IS_SEEN), f"{where} has the focus, and nobody sees it"
            seen.append(where)
            page.keyboard.press("Tab")
        assert len(set(seen)) >= 8, seen
        page.locator(".skip").focus()
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        assert page.evaluate("document.getElementById('main').contains(document.activeElement)")
        tab.assert_clean()


@pytest.mark.parametrize("address", ["/sessions", "/calls"])
def test_a_slash_goes_to_the_filter(site: Served, chromium: Browser, address: str) -> None:
    with Tab(chromium, site.web) as tab:
        page = tab.open(address)
        page.keyboard.press("/")
        box = page.locator("input[name=q]")
        assert box.evaluate("one => one === document.activeElement")
        assert box.input_value() == ""
        page.keyboard.type("error:true")
        page.keyboard.press("Enter")
        page.wait_for_url("**q=error*")
        assert page.locator("input[name=q]").input_value() == "error:true"
        tab.assert_clean()


def test_a_conversation_is_walked_by_keys(site: Served, chromium: Browser) -> None:
    with Tab(chromium, site.web) as tab:
        page = tab.open(with_prompts(site.web))

        def number() -> int:
            return int(page.evaluate("document.activeElement.id.replace('prompt-', '')"))

        page.locator("section.prompt").first.focus()
        first = number()
        page.keyboard.press("j")
        assert number() == first + 1
        assert page.url.endswith(f"#prompt-{first + 1}")
        assert page.evaluate("document.activeElement.getBoundingClientRect().top") < watched.HEIGHT
        page.keyboard.press("k")
        assert number() == first
        folds = page.locator("section.prompt:focus .step > details")
        assert folds.count()
        page.keyboard.press("o")
        assert folds.evaluate_all("all => all.every((one) => one.open)")
        page.keyboard.press("o")
        assert not folds.evaluate_all("all => all.some((one) => one.open)")
        tab.assert_clean()


def test_a_tree_is_walked_by_keys(site: Served, chromium: Browser) -> None:
    with Tab(chromium, site.web) as tab:
        page = tab.open(BELOW["a trace"])
        page.focus("#fall")
        row = page.locator('#fall [aria-selected="true"]')
        page.keyboard.press("Home")
        expect(row).to_have_attribute("aria-level", "1")
        expect(row).to_have_attribute("aria-expanded", "true")
        page.keyboard.press("ArrowLeft")
        expect(row).to_have_attribute("aria-expanded", "false")
        expect(page.locator("#fall .fall-row")).to_have_count(1)
        page.keyboard.press("ArrowRight")
        expect(row).to_have_attribute("aria-expanded", "true")
        page.keyboard.press("ArrowRight")
        expect(row).to_have_attribute("aria-level", "2")
        page.keyboard.press("End")
        expect(row).to_be_visible()
        page.keyboard.press("e")
        expect(row).to_have_class(re.compile(r"\bis-error\b"))
        assert page.locator("#fall .fall-row").count() < 200  # of 20,000: only those in sight
        tab.assert_clean()


def test_time_is_zoomed_by_wheel_and_by_dragging(site: Served, chromium: Browser) -> None:
    with Tab(chromium, site.web) as tab:
        page = tab.open(BELOW["a trace"])
        axis = page.locator("#fall-axis span")
        whole = axis.all_inner_texts()
        box = page.locator("#fall-map").bounding_box()
        assert box
        y = box["y"] + box["height"] / 2
        page.mouse.move(box["x"] + box["width"] / 2, y)
        page.mouse.wheel(0, -300)
        expect(axis.last).not_to_have_text(whole[-1])
        nearer = axis.all_inner_texts()
        page.mouse.move(box["x"] + box["width"] * 0.25, y)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * 0.5, y, steps=4)
        page.mouse.up()
        expect(axis).not_to_have_text(nearer)
        expect(axis).not_to_have_text(whole)
        assert page.locator("#fall .fall-row").count() < 200
        page.locator("#fall-whole").click()
        expect(axis).to_have_text(whole)

        # Rows are drawn anew as they move: one is found and measured in one go.
        bars = page.wait_for_function(
            "() => document.querySelector('#fall .fall-time')?.getBoundingClientRect().toJSON()"
        ).json_value()
        page.mouse.move(bars["x"] + bars["width"] * 0.3, bars["y"] + 10)
        page.mouse.down()
        page.mouse.move(bars["x"] + bars["width"] * 0.6, bars["y"] + 12, steps=4)
        page.mouse.up()
        expect(axis).not_to_have_text(whole)
        tab.assert_clean()
