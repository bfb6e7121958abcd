"""axe-core, the rules of WCAG that a machine can check, on every page in both themes and both widths."""

from __future__ import annotations

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Browser

from places import PLACES, address_of
from served import Served
from watched import NARROW, WIDE, Tab, Theme

GRAVE = ("serious", "critical")
AXE = Axe()


def grave(tab: Tab) -> list[str]:
    """What axe finds that keeps somebody out, as lines for people."""
    found: list[dict[str, Any]] = AXE.run(tab.page).response["violations"]
    return [
        f"{one['id']} ({one['impact']}): {one['help']}\n    "
        + "\n    ".join(f"{node['html'][:160]}  {_why(node)}" for node in one["nodes"][:5])
        for one in found
        if one["impact"] in GRAVE
    ]


def _why(node: dict[str, Any]) -> str:
    said = [check["message"] for kind in ("any", "all", "none") for check in node[kind]]
    return " | ".join(said)[:300]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("place", PLACES)
def test_nothing_serious(site: Served, chromium: Browser, place: str, theme: Theme) -> None:
    address = address_of(site.web, place)
    with Tab(chromium, site.web, theme=theme) as tab:
        tab.open(address)
        wide = grave(tab)
        tab.page.set_viewport_size({"width": NARROW, "height": 844})
        narrow = grave(tab)
        assert not wide, f"{address} {theme} {WIDE}\n" + "\n".join(wide)
        assert not narrow, f"{address} {theme} {NARROW}\n" + "\n".join(narrow)
