"""Templates and what every page has in common: time zone, demo strip, commit sequence, links."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import tzinfo
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode
from zoneinfo import ZoneInfo

import jinja2
from markupsafe import Markup
from msgspec import Struct, field
from starlette.requests import Request
from starlette.responses import HTMLResponse

from tachograph.config import Settings
from tachograph.errors import QueryError
from tachograph.questions import zone_of
from tachograph.scan import Agg, Reader, Scan
from tachograph.telemetry import Telemetry
from tachograph.web import units
from tachograph.web.access import is_for_admin, role_of
from tachograph.web.charts import share_bar
from tachograph.web.kept_traces import KeptTraces
from tachograph.web.naming import called, session_name
from tachograph.web.upkeep import Upkeep

_FOLDER: Final = Path(__file__).parent
STATIC: Final = _FOLDER / "static"
DEFAULT_OTLP: Final = "http://127.0.0.1:4318"
ZONE_COOKIE: Final = "tz"  # the browser's own zone, set by the page's script


# The pages of the menu, in order: address and name.
NAVIGATION: Final = (
    ("/", "Overview"),
    ("/running", "Live"),
    ("/sessions", "Sessions"),
    ("/calls", "Calls"),
    ("/models", "Models"),
    ("/tools", "Tools"),
    ("/by/agent", "Groups"),
    ("/search", "Search"),
    ("/sources", "Sources"),
    ("/destinations", "Destinations"),
    ("/sql", "SQL"),
    ("/settings", "Settings"),
)


# Of an address, what a link of the menu keeps; a filter that no page would take is left behind.
_CARRIED: Final = ("range", "from", "to", "q")
_CARRIED_CHARS_MAX: Final = 1000


class Here(Struct, frozen=True):
    """What only the process of the pages knows: its settings, open doors and counters, how far files are read.

    `destinations` tells what is forwarded, each a `pages.destinations.Destination`; `refusals` is what they would not
    take, a `pages.refused.Refusals`.
    """

    settings: Settings | None = None
    telemetry: Telemetry | None = None
    doors: dict[str, str] = field(default_factory=dict)
    followed: Callable[[], list[Any]] = list
    destinations: Callable[[], list[Any]] = list
    refusals: Callable[[], Any] | None = None
    upkeep: Upkeep | None = None


class Site(Struct, frozen=True):
    """What the pages are made from; `clock` gives nanoseconds, `otlp` is where agents send to.

    `traces` keeps what the pages of the last traces show, `doctored` what was found to be missing at a commit.
    """

    reader: Reader
    clock: Callable[[], int]
    timezone: str = "UTC"
    otlp: str = DEFAULT_OTLP
    has_login: bool = False
    traces: KeptTraces = field(default_factory=KeptTraces)
    here: Here = field(default_factory=Here)
    doctored: dict[int, Any] = field(default_factory=dict)


class Look(Struct, frozen=True):
    """How one request wants to see things: its time zone, and the time that it was asked at."""

    timezone: str
    zone: tzinfo
    now_ns: int


def look_of(site: Site, request: Request) -> Look:
    """The zone that the browser says it is in, else the server's own."""
    name = request.cookies.get(ZONE_COOKIE, "") or site.timezone
    try:
        return Look(name, zone_of(name), site.clock())
    except QueryError:
        return Look("UTC", ZoneInfo("UTC"), site.clock())


def path_of(*parts: str) -> str:
    """A path of our own; what stands in an id cannot leave its segment."""
    return "".join("/" + quote(part, safe="") for part in parts)


def _asset(name: str) -> str:
    return _ASSETS.get(name, f"/static/{name}")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


# A file's address carries its digest, so that browsers may keep it for good.
_ASSETS: Final = {p.name: f"/static/{p.name}?v={_digest(p)}" for p in STATIC.iterdir() if p.is_file()}


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER / "templates"),
        autoescape=True,  # every text on a page is somebody else's
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for function in (
        units.count,
        units.plural,
        units.tokens,
        units.money,
        units.exact_money,
        units.decimals,
        units.filled,
        units.duration,
        units.excerpt,
        session_name,
    ):
        environment.filters[function.__name__] = function
    environment.filters["bytes_size"] = units.bytes_size
    environment.globals.update(
        path_of=path_of, asset=_asset, share=units.share, clock_time=units.clock_time, when=units.when,
        stamp=units.stamp, urlencode=urlencode, bar=share_bar, navigation=NAVIGATION, is_for_admin=is_for_admin,
    )  # fmt: skip
    return environment


_TEMPLATES: Final = _environment()


def render(site: Site, request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """The page made of a template; `sequence` has to be read before the data, so that nothing new is missed."""
    look = values.pop("look", None) or look_of(site, request)
    html = _TEMPLATES.get_template(template).render(
        look=look,
        zone=look.zone,
        now_ns=look.now_ns,
        path=request.url.path,
        status=status,
        **({} if "has_demo" in values else _told(site.reader)),  # what is given is not asked for: nothing may be there
        has_login=site.has_login,
        session_called=partial(called, site.reader),
        carried=carried(request),
        role=role_of(request) if site.has_login else "admin",
        **({"sequence": None} | values),
    )
    return HTMLResponse(html, status)


def carried(request: Request) -> str:
    """What the menu takes along from a page that has a period and a filter: these, and nothing of the page's own."""
    path = request.url.path
    if path.count("/") > 1 and not path.startswith("/by/"):  # one session's `from` is no time
        return ""
    kept = {name: value for name, value in request.query_params.items() if name in _CARRIED and value}
    return "?" + urlencode(kept) if kept and len(kept.get("q", "")) <= _CARRIED_CHARS_MAX else ""


def fragment(template: str, look: Look, **values: Any) -> Markup:
    """A piece of a page."""
    return Markup(  # the template escapes what it is given
        _TEMPLATES.get_template(template).render(look=look, zone=look.zone, now_ns=look.now_ns, **values)
    )


def _told(reader: Reader) -> dict[str, bool]:
    """What a strip above every page says: whether the demo is shown, and whether there is nothing yet."""
    found = reader.scan(Scan("sessions", {"n": Agg("count"), "demo": Agg("count_if_true", "is_demo")})).data
    return {"has_demo": bool(found["demo"][0]), "is_new": not found["n"][0]}
