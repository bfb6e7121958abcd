"""axe-core, the rules of WCAG that a machine can check, on every page in both themes and both widths."""

from __future__ import annotations

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Browser

from places import PLACES, address_of
from served import Served
from watched import HEIGHT, NARROW, WIDE, Tab

GRAVE = ("serious", "critical")
COLOURS = {"runOnly": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}}  # all that a theme changes
AXE = Axe()


def grave(tab: Tab, options: dict[str, Any] | None = None) -> list[str]:
    """What axe finds that keeps somebody out, as lines for people."""
    found: list[dict[str, Any]] = AXE.run(tab.page, options=options).response["violations"]
    return [
        f"{one['id']} ({one['impact']}): {one['help']}\n    "
        + "\n    ".join(f"{node['html'][:160]}  {_why(node)}" for node in one["nodes"][:5])
        for one in found
        if one["impact"] in GRAVE
    ]


def _why(node: dict[str, Any]) -> str:
    said = [check["message"] for kind in ("any", "all", "none") for check in node[kind]]
    return " | ".join(said)[:300]


@pytest.mark.thorough
@pytest.mark.parametrize("place", PLACES)
def test_nothing_serious(site: Served, chromium: Browser, place: str) -> None:
    address = address_of(site.web, place)
    with Tab(chromium, site.web) as tab:
        tab.open(address)
        found = grave(tab)
        assert not found, f"{address}\n" + "\n".join(found)


@pytest.mark.thorough
@pytest.mark.parametrize("place", PLACES)
def test_nothing_serious_when_it_is_narrow_or_dark(site: Served, chromium: Browser, place: str) -> None:
    address = address_of(site.web, place)
    with Tab(chromium, site.web, width=NARROW) as tab:
        tab.open(address)
        found = [f"light {NARROW}: {one}" for one in grave(tab)]
        tab.page.emulate_media(color_scheme="dark")
        found += [f"dark {NARROW}: {one}" for one in grave(tab, COLOURS)]
        tab.page.set_viewport_size({"width": WIDE, "height": HEIGHT})
        found += [f"dark {WIDE}: {one}" for one in grave(tab, COLOURS)]
        assert not found, f"{address}\n" + "\n".join(found)
