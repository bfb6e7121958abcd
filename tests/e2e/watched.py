"""A browser's tab whose every complaint is kept: dialogs, errors, refused content, requests to other hosts."""

from __future__ import annotations

from types import TracebackType
from typing import Literal, Self

from playwright.sync_api import Browser, ConsoleMessage, Dialog, Page, Request, Response

Theme = Literal["light", "dark"]
WIDE, NARROW = 1440, 390
HEIGHT = 1000
PATIENCE_MS = 60_000  # how long what is waited for may take on a busy machine


class Tab:
    """A tab of a browser of its own, at the pages of one server; `complaints` must stay empty."""

    def __init__(
        self, browser: Browser, site: str, *, width: int = WIDE, theme: Theme = "light", has_script: bool = True
    ) -> None:
        self.site = site
        self.complaints: list[str] = []
        self._grave = ("error", "warning") if has_script else ("error",)  # "preloaded, but not used" is then meant
        self.context = browser.new_context(
            base_url=site,
            viewport={"width": width, "height": HEIGHT},
            color_scheme=theme,
            java_script_enabled=has_script,
            timezone_id="UTC",
            reduced_motion="reduce",
        )
        self.context.add_cookies([{"name": "tz", "value": "UTC", "url": site}])
        self.context.set_default_timeout(PATIENCE_MS)
        self.page: Page = self.context.new_page()
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self._complain(f"error: {error}"))
        self.page.on("dialog", self._asked)
        self.page.on("request", self._requested)
        self.page.on("response", self._answered)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.context.close()

    def open(self, address: str) -> Page:
        """Load a page and wait until its scripts have drawn it."""
        self.page.goto(address, wait_until="load")
        self.drawn()
        return self.page

    def drawn(self) -> None:
        """Wait until the page is live and what scripts draw stands there."""
        self.page.wait_for_function(_DRAWN)

    def assert_clean(self) -> None:
        """Fail with all that went wrong since the tab was opened."""
        assert not self.complaints, "\n".join(self.complaints)

    def _complain(self, what: str) -> None:
        self.complaints.append(f"{self.page.url[:200]}: {what[:600]}")

    def _said(self, message: ConsoleMessage) -> None:
        if message.location["url"] == self.site + "/favicon.ico":
            return  # the browser asks for it by itself, now or later, where what it got is no page
        if message.type in self._grave:  # what the content security policy refuses comes here as well
            self._complain(f"console: {message.text}")

    def _asked(self, dialog: Dialog) -> None:
        self._complain(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _requested(self, request: Request) -> None:
        if not request.url.startswith((self.site + "/", "data:", "blob:" + self.site)):
            self._complain(f"request to another host: {request.url}")

    def _answered(self, response: Response) -> None:
        if response.status >= 400:
            self._complain(f"{response.status} for {response.url}")


_DRAWN = """() => {
  const isLive = document.getElementById("live-state")?.dataset.state === "on";
  const needsLive = document.body.dataset.sequence !== undefined;
  const fall = document.getElementById("fall");
  const plots = [...document.querySelectorAll("[data-plot]")];
  return document.readyState === "complete" && (isLive || !needsLive) && (!fall || fall.classList.contains("is-drawn"))
    && plots.every((plot) => plot.querySelector("canvas"));
}"""

BODY_OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
# What sticks out, to be named in the failure.
STICKS_OUT = """() => [...document.body.querySelectorAll("*")]
  .filter((one) => one.getBoundingClientRect().right > document.documentElement.clientWidth + 1
    && !one.closest(".top nav, .scroll, pre, .prose table, .hidden"))
  .slice(0, 5).map((one) => `${one.tagName}.${one.className} ${Math.round(one.getBoundingClientRect().right)}`)"""
