"""The pages as one ASGI application: every route, in order, and the guard before them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from tachograph.errors import Busy, ConfigError, QueryError
from tachograph.scan import Reader
from tachograph.web.api import owner
from tachograph.web.guard import LOOPBACK_NAMES, SECURITY_HEADERS, Guard
from tachograph.web.live import live
from tachograph.web.pages import call, calls, groups, login, models, overview, session, sessions, sources, text, trace
from tachograph.web.rendering import DEFAULT_OTLP, STATIC, Here, Site, render

_FILES: Final = {path.name: path for path in STATIC.iterdir() if path.is_file()}
_MEDIA_TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_YEAR_S: Final = 31_536_000

Metrics = Callable[[bool], tuple[str, str]]  # whether as OpenMetrics; the text and its content type


def create_app(
    reader: Reader,
    *,
    clock: Callable[[], int],
    host: str = "127.0.0.1",
    web_token: str = "",
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
    (ConfigError). The API of local commands is closed without an `api_token`, and its deeds without `deeds`.
    `timezone` is for browsers that do not say theirs, `otlp` what the page tells agents to send to. Open live
    connections end when `is_stopping` says so. `here` is what the process knows of itself, `metrics` what is
    scraped.
    """
    if host.strip("[]").lower() not in LOOPBACK_NAMES and not host.startswith("127.") and not web_token:
        raise ConfigError(
            f"web: got {host}, which others can reach, and no web_token; expected one to be set",
            "TACHOGRAPH_WEB_TOKEN=$(openssl rand -hex 32)",
        )
    site = Site(reader, clock, timezone, otlp, bool(web_token), here=here or Here())

    def page(path: str, answer: Callable[[Site, Request], Response]) -> Route:
        def endpoint(request: Request) -> Response:
            return answer(site, request)

        return Route(path, endpoint)  # a plain function: Starlette runs it in a thread, off the event loop

    routes = [
        page("/", overview.overview),
        page("/sessions", sessions.sessions),
        page("/calls", calls.calls),
        page("/models", models.models),
        page("/by/{dimension}", groups.groups),
        page("/sources", sources.sources),
        page("/sessions/{session_id:path}", session.session),
        page("/traces/{trace_id}", trace.trace),
        page("/traces/{trace_id}/rows", trace.rows),
        page("/traces/{trace_id}/panel", trace.panel),
        page("/calls/{call_id:path}", call.call),
        page("/texts/{hash}", text.text),
        Route("/live", live(reader, is_stopping)),
        Route("/static/{name}", _static),
        *([Route("/metrics", _scraped(metrics))] if metrics else []),
        *login.routes(site, web_token),
        *owner.routes(reader, deeds),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(Guard, host=host, web_token=web_token, api_token=api_token)],
        exception_handlers=_error_pages(site),
    )


def _scraped(metrics: Metrics) -> Callable[[Request], Response]:
    def answer(request: Request) -> Response:
        text, media_type = metrics("application/openmetrics-text" in request.headers.get("accept", ""))
        return Response(text, media_type=media_type)

    return answer


def _static(request: Request) -> Response:
    name = request.path_params["name"]
    path = _FILES.get(name)
    if path is None:
        return PlainTextResponse("No such file.\n", 404)
    age = _YEAR_S if request.query_params.get("v") else 0
    headers = {"Cache-Control": f"public, max-age={age}, immutable" if age else "no-cache"}
    return FileResponse(path, headers=headers, media_type=_MEDIA_TYPES.get(path.suffix))


def _error_pages(site: Site) -> dict[Any, Callable[[Request, Any], Response]]:
    def http_error(request: Request, error: HTTPException) -> Response:
        what = "Nothing is kept under this address." if error.status_code == 404 else error.detail
        return render(site, request, "error.html", error.status_code, what=what, hint="")

    def query_error(request: Request, error: QueryError) -> Response:
        return render(site, request, "error.html", 400, what=error.what, hint=error.hint)

    def busy(request: Request, error: Busy) -> Response:
        page = render(site, request, "error.html", 503, what=error.what, hint=error.hint, has_demo=False)
        page.headers["Retry-After"] = str(error.retry_after_s)
        return page

    def crash(request: Request, error: Exception) -> Response:
        # The store may be what failed, so nothing is read for this page; the server logs the error itself.
        page = render(site, request, "error.html", 500, what="The page could not be made.", hint="", has_demo=False)
        page.headers.update(SECURITY_HEADERS)  # this answer is made outside the guard
        return page

    return {HTTPException: http_error, QueryError: query_error, Busy: busy, Exception: crash}
