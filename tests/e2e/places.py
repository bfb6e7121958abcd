"""Every kind of page: the menu's by their address, the rest by what the recorded home is known to hold."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlencode

import httpx

import attacks
import recorded_home
from tachograph.web.rendering import NAVIGATION

MENU: Final = [str(entry[0]) for entry in NAVIGATION]
# One page of each kind below the menu: found there as its first link, or named here.
BELOW: Final = {
    "a session": r'href="(/sessions/[^"?#]+)"',
    "a call": r'href="(/calls/[^"?#]+)"',
    "a trace": "/traces/" + recorded_home.BIG_TRACE,
    "a hostile trace": "/traces/" + attacks.trace_of("script"),
    "all time": "/?range=all",
    "nothing found": "/calls?q=" + "agent%3Anobody-at-all",
    "a wrong filter": "/calls?q=" + "nonsense%3A%3A%28",
    "a search": "/search?range=all&q=permission",
    "an answer in SQL": "/sql?" + urlencode({"query": "select agent, count(*) as calls from calls group by agent"}),
    "two periods": "/compare",
    "two sessions": "/compare/sessions?id=generated-1&id=generated-2",
    "the API": "/api",
    "no such page": "/no-such-page",
}
PLACES: Final = [*MENU, *BELOW]


def address_of(site: str, place: str) -> str:
    """Where a place is."""
    told = BELOW.get(place, place)
    if not told.startswith("href"):
        return told
    kind = "/calls" if "calls" in told else "/sessions"
    order = "?order=cost&range=all" if kind == "/sessions" else "?range=7d"  # the one with the most to show
    found = re.search(told, httpx.get(site + kind + order).text)
    assert found, f"{kind} has no link like {told}"
    return found[1]


def with_prompts(site: str) -> str:
    """A session of several prompts for whose first one a tool ran."""
    told = httpx.get(site + "/api/v1/sessions", params={"range": "all", "q": "agent:pi prompts>1 tools>1"}).json()
    return "/sessions/" + str(told["sessions"][0]["session_id"])
