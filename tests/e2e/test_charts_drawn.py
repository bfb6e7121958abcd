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


# The middle of the highest bar that leads somewhere: the place in the page.
HIGHEST = """() => {
  for (const canvas of document.querySelectorAll("[data-plot] canvas")) {
    const data = JSON.parse(canvas.parentElement.querySelector('script[type="application/json"]').textContent);
    if (data.kind !== "stack" || !data.series.some((one) => one.href)) continue;
    canvas.scrollIntoView({ block: "center" });
    const chart = Chart.getChart(canvas);
    const bars = data.series.flatMap((one, at) => (one.href ? chart.getDatasetMeta(at).data : []));
    const high = (bar) => Math.abs(bar.base - bar.y) || 0;
    const bar = bars.reduce((best, one) => (high(one) > high(best) ? one : best));
    const { left, top } = canvas.getBoundingClientRect();
    return [left + bar.x, top + (bar.y + bar.base) / 2];
  }
}"""


def test_a_click_leads_to_what_is_behind_a_bar(site: Served, chromium: Browser) -> None:
    with Tab(chromium, site.web) as tab:
        page = tab.open("/?range=7d")
        x, y = page.evaluate(HIGHEST)
        page.mouse.click(x, y)
        page.wait_for_url("**/calls?*")
        assert page.locator("main table tbody tr").count() > 0
        tab.assert_clean()
