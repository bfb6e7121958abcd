"""The login page: the web token in, a cookie out."""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from tachograph.web.guard import COOKIE, cookie_value, is_token
from tachograph.web.rendering import Site, render

_FORM_BYTES_MAX: Final = 8192
_MONTH_S: Final = 30 * 24 * 3600


def routes(site: Site, web_token: str) -> list[Route]:
    """The page and its form; nothing where no token is set."""
    if not web_token:
        return []

    def show(request: Request) -> Response:
        return _form(site, request, request.query_params.get("next", "/"))

    async def enter(request: Request) -> Response:
        form = parse_qs((await _body(request)).decode("utf-8", "replace"))
        target = _own_path(form.get("next", ["/"])[0])
        if not is_token(form.get("token", [""])[0].strip(), web_token):
            return _form(site, request, target, "That is not the token.", 403)
        answer = RedirectResponse(target, 303)
        is_https = request.url.scheme == "https"
        answer.set_cookie(
            COOKIE, cookie_value(web_token), max_age=_MONTH_S, httponly=True, samesite="lax", secure=is_https
        )
        return answer

    return [Route("/login", show, methods=["GET"]), Route("/login", enter, methods=["POST"])]


def _form(site: Site, request: Request, target: str, wrong: str = "", status: int = 200) -> Response:
    return render(site, request, "login.html", status, target=_own_path(target), wrong=wrong, has_demo=False)


async def _body(request: Request) -> bytes:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _FORM_BYTES_MAX:
            return b""
    return body


def _own_path(target: str) -> str:
    """The path of one of our pages; anything that could lead elsewhere becomes the first page."""
    is_own = target.startswith("/") and not target.startswith("//") and "\\" not in target and target.isprintable()
    return target if is_own else "/"
