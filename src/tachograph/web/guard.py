"""The door of the pages: who may come in, from where, and what every answer must carry.

DNS rebinding is stopped by the Host header, forged requests by the Origin header, everything else that a hostile
prompt could smuggle into a page by the content security policy: no script, style, image or request but our own.
"""

from __future__ import annotations

import hashlib
import hmac
from http.cookies import CookieError, SimpleCookie
from typing import Final
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CSP: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
SECURITY_HEADERS: Final = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
LOOPBACK_NAMES: Final = frozenset(("localhost", "127.0.0.1", "::1"))
COOKIE: Final = "tachograph_web"
LOCAL_API: Final = "/api/v1/"
_OPEN_PATHS: Final = ("/login", "/static/")
_SAFE_METHODS: Final = frozenset(("GET", "HEAD"))
_ANY_HOSTS: Final = frozenset(("", "0.0.0.0", "::"))


class Guard:
    """Checks each request before any page sees it, and puts the security headers on each answer.

    `host` is what the pages are bound to. With a `web_token` every page needs the cookie that the login page sets, or
    the token as a bearer token; the local API always needs `api_token` and is closed without one.
    """

    def __init__(self, app: ASGIApp, host: str, web_token: str, api_token: str) -> None:
        self.app = app
        self.host = host.strip("[]").lower()
        self.web_token = web_token
        self.api_token = api_token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer what is not allowed; pass on the rest."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers[name] = value
                if "cache-control" not in headers:
                    headers["Cache-Control"] = "no-store"
            await send(message)

        refusal = self._refusal(scope)
        await (refusal or self.app)(scope, receive, send_guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if not self._is_known_host(headers.get("host", "")):
            return PlainTextResponse(
                "This name is not served here. Open the address that `tachograph up` printed.\n", 421
            )
        if scope["method"] not in _SAFE_METHODS and not _is_same_origin(headers):
            return PlainTextResponse("Got a request that another site sent; expected one from these pages.\n", 403)
        path: str = scope["path"]
        if path.startswith(LOCAL_API):
            return None if _has_bearer(headers, self.api_token) else _unauthorized()
        if not self.web_token or path.startswith(_OPEN_PATHS):
            return None
        if _has_bearer(headers, self.web_token) or is_cookie_of(_cookie(headers), self.web_token):
            return None
        if path == "/live" or scope["method"] not in _SAFE_METHODS:
            return _unauthorized()
        query = scope["query_string"].decode("latin-1")
        wanted = path + ("?" + query if query else "")
        return RedirectResponse(f"/login?next={quote(wanted, safe='')}", 303)

    def _is_known_host(self, value: str) -> bool:
        name = host_name(value)
        if name is None:
            return False
        if name in LOOPBACK_NAMES or name == self.host:
            return True
        # Bound to every interface there is no one name to compare with; the token guards then.
        return self.host in _ANY_HOSTS and bool(self.web_token)


def host_name(value: str) -> str | None:
    """The name in a Host header without its port, None where there is none."""
    try:
        name = urlsplit(f"//{value}").hostname
    except ValueError:
        return None
    return name.lower() if name else None


def cookie_value(token: str) -> str:
    """What the cookie of a reader who knows the token holds: not the token itself."""
    return hmac.new(token.encode(), b"tachograph web cookie", hashlib.sha256).hexdigest()


def is_cookie_of(value: str, token: str) -> bool:
    """Whether the cookie was set by a login with this token."""
    return hmac.compare_digest(value.encode(), cookie_value(token).encode())


def is_token(value: str, token: str) -> bool:
    """Whether both are the same, taking the same time for every wrong one."""
    return bool(token) and hmac.compare_digest(value.encode(), token.encode())


def _has_bearer(headers: Headers, token: str) -> bool:
    scheme, _, value = headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and is_token(value.strip(), token)


def _cookie(headers: Headers) -> str:
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return morsel.value if morsel else ""


def _is_same_origin(headers: Headers) -> bool:
    """Browsers name the origin of every POST; a program that is none sends no Origin."""
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    if origin is None:
        return True
    try:
        return urlsplit(origin).netloc.lower() == headers.get("host", "").lower()
    except ValueError:
        return False


def _unauthorized() -> Response:
    return PlainTextResponse(
        "Got no valid token; expected `Authorization: Bearer TOKEN`.\n", 401, {"WWW-Authenticate": "Bearer"}
    )
