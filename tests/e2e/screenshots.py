"""Takes a picture of every page, light and dark, wide and narrow, over the demo (`make screenshots`)."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import httpx
from playwright.sync_api import Browser, sync_playwright

from served import CHROMIUM, Served
from tachograph.web.rendering import NAVIGATION
from watched import NARROW, WIDE, Tab, Theme

ROOT: Final = Path(__file__).parents[2]
# What the README shows, small: page, theme.
CHOSEN: Final = {
    ("overview", "light"): "overview.png",
    ("trace", "dark"): "trace.png",
    ("session", "light"): "session.png",
}
BYTES_MAX: Final = 200_000


def pages(site: str) -> dict[str, str]:
    """Every page of the menu, and one of each kind below it: name -> address."""
    found = {str(name).lower().replace(" ", "-"): str(address) for address, name, *_ in NAVIGATION}
    for kind, below in (("session", "/sessions?order=cost"), ("call", "/calls?order=cost")):
        links = re.findall(rf'href="(/{kind}s/[^"?#]+)"', httpx.get(site + below).text)
        found[kind] = links[0]
    found["trace"] = re.findall(r'href="(/traces/[^"?#]+)"', httpx.get(site + found["session"]).text)[0]
    return found


def shoot(browser: Browser, site: str, target: Path) -> None:
    """Take them all."""
    themes: tuple[Theme, ...] = ("light", "dark")
    for name, address in pages(site).items():
        for theme in themes:
            for width in (WIDE, NARROW):
                with Tab(browser, site, width=width, theme=theme) as tab:
                    tab.open(address)
                    tab.page.screenshot(path=target / f"{name}-{theme}-{width}.png")
                    if width == WIDE and (name, theme) in CHOSEN:
                        _keep(tab, CHOSEN[name, theme])


def _keep(tab: Tab, name: str) -> None:
    """One for the README; too big a file would weigh on everybody who clones."""
    tab.page.set_viewport_size({"width": 1280, "height": 800})
    tab.drawn()
    picture = tab.page.screenshot()
    if len(picture) > BYTES_MAX:
        raise SystemExit(f"{name}: got {len(picture)} bytes; expected at most {BYTES_MAX}")
    (ROOT / "docs" / "images" / name).write_bytes(picture)


def main() -> None:
    """Play the demo, serve it, and take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("target", type=Path, nargs="?", default=ROOT / "build" / "screenshots")
    target: Path = parser.parse_args().target
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        home = Path(folder) / "home"
        subprocess.run([sys.executable, "-m", "tachograph", "demo", "--home", str(home)], check=True)
        server = Served(home)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            shoot(browser, server.web, target)
        finally:
            browser.close()
            server.stop()
    print(f"{len([*target.glob('*.png')])} pictures in {target}")


if __name__ == "__main__":
    main()
