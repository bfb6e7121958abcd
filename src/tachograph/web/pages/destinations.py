"""Where data is forwarded to, and how far each place is behind; what the forwarders of this process tell."""

from __future__ import annotations

from typing import Any, Final, Literal
from urllib.parse import urlsplit, urlunsplit

from msgspec import Struct, structs
from starlette.requests import Request
from starlette.responses import Response

from tachograph.config import FILE_NAME
from tachograph.web import exporting, units
from tachograph.web.asking import Asked
from tachograph.web.rendering import Site, render
from tachograph.web.tables import Table

Circuit = Literal["closed", "half-open", "open"]
# What a circuit breaker's state means to people.
CIRCUITS: Final[dict[str, str]] = {
    "closed": "sending",
    "half-open": "trying again",
    "open": "waiting: it is away or busy",
}
_REFUSING: Final = "refusing: it takes nothing until somebody acts"
# Those that nothing is sent to.
RESTING: Final[dict[str, str]] = {
    "off": "off: enabled = false",
    "loop": "left out: it is this server",
    "removed": "removed from the settings; what is kept for it waits",
}


class Destination(Struct, frozen=True):
    """One place that data is forwarded to, as its forwarder tells it; None = not known yet.

    `url` has no secrets. Lag is what is committed here and not there: in commits, and as the age of the oldest of
    them. `answered_ns` is when the place last answered, `answer` what it said; `retry_ns` is when it is tried again.
    `is_refusing`: it will take nothing until somebody changes a key, an address or the like. `lost`: records that
    retention forgot before they were sent; `has_lost_lately`: in the last day. `dead_letters`: pieces of requests
    that it refused and that can be sent again. `word`: idle, sending, waiting, refusing; nothing is sent to those that
    are off, a loop or removed.
    """

    name: str
    kind: str
    url: str
    signals: tuple[str, ...]
    circuit: Circuit = "closed"
    lag_commits: int | None = None
    lag_s: float | None = None
    records_per_s: float | None = None
    sent: int = 0
    failed: int = 0
    dead_letters: int = 0
    answered_ns: int | None = None
    answer: str = ""
    is_refusing: bool = False
    retry_ns: int | None = None
    word: str = ""
    privacy: str = ""
    agents: tuple[str, ...] = ()
    projects: tuple[str, ...] = ()
    lost: int = 0
    has_lost_lately: bool = False
    refused: int = 0
    requests: int = 0
    cursor: int | None = None


def destinations(site: Site, request: Request) -> Response:
    """The page; `?format=` gives the table as a file."""
    sequence = site.reader.sequence()
    asked = Asked(site, request, default_range="all")
    rows = [_row(one) for one in site.here.destinations()]
    if exporting.wanted(asked):
        return exporting.file_of(asked, "destinations", list(_row(Destination("", "", "", ()))), rows)
    settings = site.here.settings
    return render(
        site, request, "destinations.html",
        sequence=sequence, look=asked.look, rows=rows, exports=Table((), rows, asked),
        file=str(settings.home / FILE_NAME) if settings else FILE_NAME,
    )  # fmt: skip


def _row(one: Destination) -> dict[str, Any]:
    told = structs.asdict(one)
    return told | {
        "signals": ", ".join(one.signals),
        "agents": ", ".join(one.agents),
        "projects": ", ".join(one.projects),
        "url": without_secrets(one.url),
        "state": _state(one),
        "mood": _mood(one),
    }


def _mood(one: Destination) -> str:
    if one.word in RESTING:
        return "warn" if one.word == "removed" else "off"
    if one.is_refusing:
        return "bad"
    return "warn" if one.circuit != "closed" or one.dead_letters or one.has_lost_lately else "good"


def _state(one: Destination) -> str:
    if one.word in RESTING:
        return RESTING[one.word]
    if one.is_refusing:
        return _REFUSING
    state = "up to date" if one.circuit == "closed" and one.lag_commits == 0 else CIRCUITS[one.circuit]
    refused = f"; {units.plural(one.dead_letters, 'piece')} refused" if one.dead_letters else ""
    lost = f"; {units.plural(one.lost, 'record')} lost" if one.lost else ""
    return state + refused + lost


def without_secrets(url: str) -> str:
    """The address without user, password, query and fragment, whatever a forwarder has handed in."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return ""
    host = f"[{host}]" if ":" in host else host
    return urlunsplit((parts.scheme, host + port, parts.path, "", ""))
