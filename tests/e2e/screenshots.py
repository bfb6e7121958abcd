"""Takes a picture of every page, light and dark, wide and narrow, and what the README shows (`make screenshots`)."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

import httpx
from playwright.sync_api import Browser, sync_playwright

from forwarded_home import forwarding
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


def menu() -> dict[str, str]:
    """Every page of the menu: name -> address."""
    return {str(name).lower().replace(" ", "-"): str(address) for address, name, *_ in NAVIGATION}


def pages(site: str) -> dict[str, str]:
    """Every page of the menu, and one of each kind below it: name -> address."""
    found = menu()
    for kind, below in (("session", "/sessions?order=cost"), ("call", "/calls?order=cost")):
        links = re.findall(rf'href="(/{kind}s/[^"?#]+)"', httpx.get(site + below).text)
        found[kind] = links[0]
    found["trace"] = re.findall(r'href="(/traces/[^"?#]+)"', httpx.get(site + found["session"]).text)[0]
    orders = ("cost", "prompts", "calls")
    sessions = [
        re.findall(r'href="/sessions/([^"?#]+)"', httpx.get(f"{site}/sessions?order={o}").text)[0] for o in orders
    ]
    return found | {
        "tool": "/tools?tool=bash",
        "model": "/models?name=gpt-5.1",
        "results": "/search?q=README",
        "sql-answer": "/sql?" + urlencode({"query": "select agent, count(*) as calls from calls group by agent"}),
        "compare": "/compare",
        "compare-sessions": "/compare/sessions?" + urlencode([("id", one) for one in sessions]),
        "api": "/api",
        "no-such-session": "/sessions/no-such-session",
        "wrong-filter": "/calls?q=nonsense%3A%3A%28",
    }


def shoot(browser: Browser, site: str, places: dict[str, str], target: Path) -> None:
    """Take them all."""
    themes: tuple[Theme, ...] = ("light", "dark")
    for name, address in places.items():
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


def _sites(folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Each server, and what to look at there: the demo, a home that forwards, a new one, and one behind a token."""
    home = folder / "demo"
    subprocess.run([sys.executable, "-m", "tachograph", "demo", "--home", str(home)], check=True)
    with _serving(home) as demo:
        yield demo.web, pages(demo.web)
    with forwarding(folder / "forwarded") as server:
        yield server.web, {"destinations-told": "/destinations"}
    with _serving(folder / "new") as new:
        yield new.web, {f"new-{name}": address for name, address in menu().items()}
    with _serving(folder / "token", TACHOGRAPH_WEB_TOKEN="a-token-of-sixteen-or-more-signs") as asking:
        yield asking.web, {"login": "/login"}


@contextmanager
def _serving(home: Path, **environment: str) -> Iterator[Served]:
    home.mkdir(exist_ok=True)
    server = Served(home, **environment)
    try:
        yield server
    finally:
        server.stop()


def main() -> None:
    """Fill the homes, serve each, and take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("target", type=Path, nargs="?", default=ROOT / "build" / "screenshots")
    target: Path = parser.parse_args().target
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            for site, places in _sites(Path(folder)):
                shoot(browser, site, places, target)
        finally:
            browser.close()
    print(f"{len([*target.glob('*.png')])} pictures in {target}")


if __name__ == "__main__":
    main()
