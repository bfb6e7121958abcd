"""Where data is forwarded to, and how far each place is behind; what the forwarders of this process tell."""

from __future__ import annotations

from typing import Any, Final, Literal
from urllib.parse import urlsplit, urlunsplit

from msgspec import Struct, structs
from starlette.requests import Request
from starlette.responses import Response

from tachograph.web import exporting
from tachograph.web.asking import Asked
from tachograph.web.rendering import Site, render
from tachograph.web.tables import Column, Table

Circuit = Literal["closed", "half-open", "open"]
# What a circuit breaker's state means to people.
CIRCUITS: Final[dict[str, str]] = {
    "closed": "sending",
    "half-open": "trying again",
    "open": "waiting: the place refuses or is away",
}


class Destination(Struct, frozen=True):
    """One place that data is forwarded to, as its forwarder tells it; None = not known yet.

    `url` has no secrets. Lag is what is committed here and not there: in commits, and as the age of the oldest of
    them. `answered_ns` is when the place last answered, `answer` what it said.
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


def destinations(site: Site, request: Request) -> Response:
    """The page; `?format=` gives the table as a file."""
    sequence = site.reader.sequence()
    asked = Asked(site, request, default_range="all")
    rows = [_row(one) for one in site.here.destinations()]
    if exporting.wanted(asked):
        return exporting.file_of(asked, "destinations", list(_row(Destination("", "", "", ()))), rows)
    table = Table(_columns(), rows, asked, caption="Destinations")
    return render(
        site, request, "destinations.html", sequence=sequence, look=asked.look, table=table,
        troubles=[row for row in rows if row["circuit"] != "closed" or row["dead_letters"]],
    )  # fmt: skip


def _row(one: Destination) -> dict[str, Any]:
    told = structs.asdict(one)
    return told | {
        "signals": ", ".join(one.signals),
        "url": without_secrets(one.url),
        "state": CIRCUITS[one.circuit],
    }


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


def _columns() -> list[Column]:
    return [
        Column("name", "Destination", under=lambda row: row["url"]),
        Column("kind", "Kind", rank="mid"),
        Column("signals", "Signals", rank="wide"),
        Column("state", "State", under=lambda row: row["answer"]),
        Column("lag_commits", "Behind", "count", what="commits that are here and not yet there"),
        Column("lag_s", "By", "seconds", rank="mid", what="age of the oldest of them"),
        Column("records_per_s", "Records a second", "rate", rank="wide"),
        Column("sent", "Sent", "count", rank="wide"),
        Column("failed", "Failed", "failed", what="requests that did not go well; they are tried again"),
        Column("dead_letters", "Set aside", "failed", what="records that the place will not take"),
        Column("answered_ns", "Last answer", "time", rank="mid"),
    ]
