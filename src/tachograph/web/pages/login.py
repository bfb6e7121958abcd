"""Logging in and out: a token in, a cookie out."""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qs

import anyio
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from tachograph.web.access import COOKIE, COOKIE_S, Access, cookie_of
from tachograph.web.guard import too_many
from tachograph.web.rendering import Site, render

_FORM_BYTES_MAX: Final = 8192
_FORM_S: Final = 10  # for the form to come in: anybody may send one


def routes(site: Site, access: Access) -> list[Route]:
    """The page and its forms; nothing where no token is set."""
    if access.is_open:
        return []

    def show(request: Request) -> Response:
        return _form(site, request, request.query_params.get("next", "/"))

    async def enter(request: Request) -> Response:
        client = request.client.host if request.client else ""
        if wait_s := access.wait_s(client):
            return too_many(request.url.path, wait_s)
        form = parse_qs((await _body(request)).decode("utf-8", "replace"))
        target = _own_path(form.get("next", ["/"])[0])
        role = access.role_of_token(form.get("token", [""])[0].strip())
        if role is None:
            access.note_wrong(client)
            return _form(site, request, target, "That is not the token.", 403)
        answer = RedirectResponse(target, 303)
        is_https = request.url.scheme == "https"
        answer.set_cookie(COOKIE, access.cookie(role), max_age=COOKIE_S, httponly=True, samesite="lax", secure=is_https)
        return answer

    async def leave(request: Request) -> Response:
        access.end(cookie_of(request.headers))
        answer = RedirectResponse("/login", 303)
        answer.delete_cookie(COOKIE, httponly=True, samesite="lax")
        return answer

    return [
        Route("/login", show, methods=["GET"]),
        Route("/login", enter, methods=["POST"]),
        Route("/logout", leave, methods=["POST"]),
    ]


def _form(site: Site, request: Request, target: str, wrong: str = "", status: int = 200) -> Response:
    return render(
        site, request, "login.html", status, target=_own_path(target), wrong=wrong, has_demo=False, is_new=False
    )


async def _body(request: Request) -> bytes:
    body = b""
    with anyio.move_on_after(_FORM_S):
        async for part in request.stream():
            body += part
            if len(body) > _FORM_BYTES_MAX:
                return b""
        return body
    return b""


def _own_path(target: str) -> str:
    """The path of one of our pages; anything that could lead elsewhere becomes the first page."""
    is_own = target.startswith("/") and not target.startswith("//") and "\\" not in target and target.isprintable()
    return target if is_own else "/"
