"""The pages as one ASGI application: every route, in order, and the guard before them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tachograph.errors import Busy, ConfigError, QueryError
from tachograph.scan import Reader
from tachograph.web import addresses
from tachograph.web.access import Access
from tachograph.web.api import endpoints, owner
from tachograph.web.api.answers import PREFIX, Failure, Fault, answer
from tachograph.web.api.openapi import openapi
from tachograph.web.assets import static
from tachograph.web.guard import LOOPBACK_NAMES, SECURITY_HEADERS, Guard
from tachograph.web.live import live
from tachograph.web.packing import Packing
from tachograph.web.pages import (
    api,
    call,
    calls,
    compare,
    compare_sessions,
    completing,
    groups,
    login,
    models,
    overview,
    panel,
    search,
    session,
    sessions,
    sources,
    text,
    tools,
    trace,
)
from tachograph.web.pages.destinations import destinations
from tachograph.web.pages.refused import routes as refused
from tachograph.web.pages.running import running
from tachograph.web.pages.settings import routes as settings
from tachograph.web.pages.sql import endpoint as sql
from tachograph.web.rendering import DEFAULT_OTLP, Here, Site, render

# Who asks, and whether as OpenMetrics; the text and its content type.
Metrics = Callable[[str, bool], tuple[str, str]]


def create_app(
    reader: Reader,
    *,
    clock: Callable[[], int],
    host: str = "127.0.0.1",
    web_token: str = "",
    viewer_token: str = "",
    api_token: str = "",
    deeds: owner.Deeds | None = None,
    timezone: str = "UTC",
    otlp: str = DEFAULT_OTLP,
    is_stopping: Callable[[], bool] = lambda: False,
    here: Here | None = None,
    metrics: Metrics | None = None,
) -> Starlette:
    """The pages of what `reader` reads.

    `clock` gives nanoseconds; `host` is what the pages are bound to, and off loopback it needs a `web_token`
    (ConfigError); who shows the `viewer_token` may read. The API of local commands is closed without an
    `api_token`, and its deeds without `deeds`. `timezone` is for browsers that do not say theirs, `otlp` what the page
    tells agents to send to. Open live connections end when `is_stopping` says so. `here` is what the process knows of
    itself, `metrics` what is scraped.
    """
    if host.strip("[]").lower() not in LOOPBACK_NAMES and not host.startswith("127.") and not web_token:
        raise ConfigError(
            f"web: got {host}, which others can reach, and no web_token; expected one to be set",
            "TACHOGRAPH_WEB_TOKEN=$(openssl rand -hex 32)",
        )
    access = Access(web_token, viewer_token, clock)
    site = Site(reader, clock, timezone, otlp, bool(web_token), here=here or Here())

    addresses.register()
    routes = [
        *_pages(site),
        Route("/live", live(reader, is_stopping)),
        Route("/sql", sql(site)),
        Route("/static/{name}", static),
        *login.routes(site, access),
        *owner.routes(reader, deeds),
        *endpoints.routes(site),
        Route(f"{PREFIX}openapi.json", openapi),
        Route("/metrics", _scraped(site, metrics)),
    ]
    return Starlette(
        routes=routes,
        middleware=[
            Middleware(Guard, host=host, access=access, api_token=api_token, page=_refusal_page(site)),
            Middleware(Packing),
        ],
        exception_handlers=_error_pages(site),
    )


def _pages(site: Site) -> list[Route]:
    def page(path: str, answer: Callable[[Site, Request], Response]) -> Route:
        def endpoint(request: Request) -> Response:
            return answer(site, request)

        return Route(path, endpoint)  # a plain function: Starlette runs it in a thread, off the event loop

    return [
        page("/api", api.api),
        page("/", overview.overview),
        page("/sessions", sessions.sessions),
        page("/calls", calls.calls),
        page("/models", models.models),
        page("/tools", tools.tools_page),
        page("/by/{dimension}", groups.groups),
        page("/sources", sources.sources),
        page("/destinations", destinations),
        *refused(site),
        page("/running", running),
        *settings(site),
        page("/search", search.search),
        page("/search/place", search.place),
        page("/complete", completing.completing),
        page("/compare", compare.compared),
        page("/compare/sessions", compare_sessions.compare_sessions),
        page("/sessions/{session_id:text}/export.{form}", session.file),
        page("/sessions/{session_id:text}", session.session),
        page("/traces/{trace_id}", trace.trace),
        page("/traces/{trace_id}/rows", trace.rows),
        page("/traces/{trace_id}/panel", panel.panel),
        page("/traces/{trace_id}/otlp", trace.otlp),
        page("/calls/{call_id:text}", call.call),
        page("/texts/{hash}", text.text),
        page("/texts/{hash}/images/{number:int}", text.image),
    ]


def _scraped(site: Site, metrics: Metrics | None) -> Callable[[Request], Response]:
    """What is said of this process; and the series that a destination is for, where one is scraped."""

    def respond(request: Request) -> Response:
        from tachograph.forwarders.prometheus_text import END, OPEN_METRICS, PLAIN
        from tachograph.web.own_metrics import own_metrics

        is_open_metrics = "application/openmetrics-text" in request.headers.get("accept", "")
        own = own_metrics(site.here.destinations(), is_open_metrics=is_open_metrics)
        if metrics is None:
            return Response(own, media_type=OPEN_METRICS if is_open_metrics else PLAIN)
        scraper = f"{request.client.host if request.client else ''} {request.headers.get('user-agent', '')}"
        text, media_type = metrics(scraper, is_open_metrics)
        return Response(own.removesuffix(END) + text, media_type=media_type)

    return respond


def _refusal_page(site: Site) -> Callable[[Request, int, str], Response]:
    def page(request: Request, status: int, what: str) -> Response:
        # The guard answers on the event loop, so nothing is read for this page.
        return render(site, request, "error.html", status, what=what, hint="", has_demo=False, is_new=False)

    return page


def _error_pages(site: Site) -> dict[Any, Callable[[Request, Any], Response]]:
    def http_error(request: Request, error: HTTPException) -> Response:
        if request.url.path.startswith(PREFIX):
            return _refused(request, error)
        what = "Nothing is kept under this address." if error.status_code == 404 else error.detail
        page = render(site, request, "error.html", error.status_code, what=what, hint="")
        page.headers.update(error.headers or {})
        return page

    def query_error(request: Request, error: QueryError) -> Response:
        return render(site, request, "error.html", 400, what=error.what, hint=error.hint)

    def busy(request: Request, error: Busy) -> Response:
        page = render(site, request, "error.html", 503, what=error.what, hint=error.hint, has_demo=False, is_new=False)
        page.headers["Retry-After"] = str(error.retry_after_s)
        return page

    def crash(request: Request, error: Exception) -> Response:
        if request.url.path.startswith(PREFIX):
            said = answer(Failure(Fault("got an error that should not be", "", "an answer", "")), 500)
            said.headers.update(SECURITY_HEADERS)
            return said
        # The store may be what failed, so nothing is read for this page; the server logs the error itself.
        page = render(
            site, request, "error.html", 500, what="The page could not be made.", hint="", has_demo=False, is_new=False
        )
        page.headers.update(SECURITY_HEADERS)  # this answer is made outside the guard
        return page

    return {HTTPException: http_error, QueryError: query_error, Busy: busy, Exception: crash}


def _refused(request: Request, error: HTTPException) -> Response:
    headers = error.headers or {}
    got, expected = request.url.path, "an address of /api"
    if error.status_code == 405:
        got, expected = request.method, ", ".join(sorted(headers.get("Allow", "").split(", ")))
    said = answer(Failure(Fault(f'got "{got[:200]}"', "", expected, "")), error.status_code)
    said.headers.update(headers)
    return said
