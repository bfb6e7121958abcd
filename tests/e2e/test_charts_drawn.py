"""Charts are drawn by the script, follow the theme, and lead to what is behind them."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser

from places import MENU
from served import Served
from watched import Tab

# How many colours a canvas holds: an empty one has one.
COLOURS = """(canvas) => {
  const { width, height } = canvas;
  const data = canvas.getContext("2d").getImageData(0, 0, width, height).data;
  return new Set(new Uint32Array(data.buffer)).size;
}"""


@pytest.mark.parametrize("address", MENU)
def test_no_chart_is_blank(site: Served, chromium: Browser, address: str) -> None:
    with Tab(chromium, site.web) as tab:
        page = tab.open(address + "?range=all")
        for canvas in page.locator("[data-plot] canvas").all():
            if canvas.is_visible():
                assert canvas.evaluate(COLOURS) > 5
        tab.assert_clean()


# The charts whose points lead somewhere.
LEADING = """() => [...document.querySelectorAll("[data-plot]")].flatMap((plot, at) => {
  const data = JSON.parse(plot.querySelector('script[type="application/json"]').textContent);
  return data.hrefs?.some(Boolean) || data.series.some((one) => one.href) ? [at] : [];
})"""


def test_a_click_leads_to_what_is_behind_a_bar(site: Served, chromium: Browser) -> None:
    with Tab(chromium, site.web) as tab:
        page = tab.open("/?range=7d")
        leading = page.evaluate(LEADING)
        assert leading
        canvas = page.locator("[data-plot] canvas").nth(leading[0])
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        assert box
        canvas.click(position={"x": box["width"] * 0.7, "y": box["height"] * 0.4})
        page.wait_for_url(lambda url: not url.endswith("/?range=7d"))
        assert page.locator("main table tbody tr").count() > 0
        tab.assert_clean()
