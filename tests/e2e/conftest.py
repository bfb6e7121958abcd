"""One server over the recorded home and one Chromium for all tests of the pages in a browser."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

import recorded_home
from served import CHROMIUM, Served
from watched import PATIENCE_MS

_NO_CHROMIUM = "no chromium on the PATH: apt-get install chromium"
_IS_REQUIRED = os.environ.get("TACHOGRAPH_CLIENTS_REQUIRED") == "1"  # read once: tests see nothing of the environment


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark them all, so that `-m "not e2e"` leaves them out; without a Chromium nothing is made for them."""
    for item in items:
        if "e2e" in item.path.parts:
            item.add_marker(pytest.mark.e2e)
            if CHROMIUM is None and not _IS_REQUIRED:
                item.add_marker(pytest.mark.skip(reason=_NO_CHROMIUM))


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The pages of the recorded home; tests only read."""
    home = tmp_path_factory.mktemp("e2e") / "home"
    recorded_home.make(home)
    server = Served(home)
    yield server
    assert server.stop() == 0, server.log()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """Chromium without a window."""
    assert CHROMIUM is not None, _NO_CHROMIUM
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        # Who runs it as root, in a container, has no sandbox; what it shows is our own.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()
