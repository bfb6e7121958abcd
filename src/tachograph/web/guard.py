"""The door of the pages: who may come in, from where, and what every answer must carry.

DNS rebinding is stopped by the Host header, forged requests by the Origin header, everything else that a hostile
prompt could smuggle into a page by the content security policy: no script, style, image or request but our own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tachograph.web.access import Access, Role, bearer, cookie_of, is_for_admin, is_token
from tachograph.web.api.answers import refusal

CSP: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
# The referrer stays among these pages; without any, browsers would say "Origin: null" of our own forms.
SECURITY_HEADERS: Final = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
LOOPBACK_NAMES: Final = frozenset(("localhost", "127.0.0.1", "::1"))
API: Final = "/api/v1/"
# What the owner's own commands ask, and nobody else: it needs a token that lies in the home folder.
OWNER_PATHS: Final = frozenset(
    API + name
    for name in (
        *("scan", "texts", "sql", "sequence", "commit", "backup"),
        *("demo/clear", "stop", "followed", "forwarded", "probes"),
    )
)
QUERY_BYTES_MAX: Final = 32_768
_OPEN_PATHS: Final = frozenset(("/login", "/logout"))
_STATIC: Final = "/static/"
_SAFE_METHODS: Final = frozenset(("GET", "HEAD"))


class Guard:
    """Checks each request before any page sees it, and puts the security headers on each answer.

    `host` is what the pages are bound to. Where `access` has tokens, every page needs the cookie that the login page
    sets, or a token as a bearer token; what only the owner's own commands ask always needs `api_token`, and is closed
    without one. What was found out stands in the state of the request: `access.role_of` reads it. `page` makes the
    page that tells a viewer in a browser what only an admin may.
    """

    def __init__(
        self,
        app: ASGIApp,
        host: str,
        access: Access,
        api_token: str,
        page: Callable[[Request, int, str], Response] | None = None,
    ) -> None:
        self.app = app
        self.host = host.strip("[]").lower()
        self.access = access
        self.api_token = api_token
        self.page = page

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

        refused = self._refusal(scope)
        await (refused or self.app)(scope, receive, send_guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        path: str = scope["path"]
        if len(scope["query_string"]) > QUERY_BYTES_MAX:
            return refusal(path, 414, f"got a query of more than {QUERY_BYTES_MAX} bytes", "a shorter one")
        if not self._is_known_host(headers.get("host", "")):
            return refusal(path, 421, "got a name that is not served here", "the address that `tachograph up` printed")
        if not _is_ours(scope["method"], headers):
            return refusal(path, 403, "got a request that another site sent", "one from these pages")
        if path in OWNER_PATHS:
            return None if is_token(bearer(headers), self.api_token) else _unauthorized(path)
        if path in _OPEN_PATHS or path.startswith(_STATIC):
            return None
        return self._refusal_of_role(scope, headers, path)

    def _refusal_of_role(self, scope: Scope, headers: Headers, path: str) -> Response | None:
        role: Role | None = "admin" if self.access.is_open else self.access.role_of_cookie(cookie_of(headers))
        token = bearer(headers)
        if role is None and token:
            client = scope["client"][0] if scope.get("client") else ""
            if wait_s := self.access.wait_s(client):
                return too_many(path, wait_s)
            role = self.access.role_of_token(token)
            if role is None:
                self.access.note_wrong(client)
                return _unauthorized(path)
        is_safe = scope["method"] in _SAFE_METHODS
        if role is None:
            return _unauthorized(path) if path.startswith((API, "/live")) or not is_safe else _to_login(scope)
        if role != "admin" and (not is_safe or is_for_admin(path)):
            return self._refusal_of_viewer(scope, headers, path)
        scope.setdefault("state", {})["role"] = role
        return None

    def _refusal_of_viewer(self, scope: Scope, headers: Headers, path: str) -> Response:
        """A page where a person reads the answer, a line where a program does."""
        if self.page is None or path.startswith(API) or "text/html" not in headers.get("accept", ""):
            return refusal(path, 403, "got a viewer", "an admin, who logs in with the web_token")
        scope.setdefault("state", {})["role"] = "viewer"
        what = "shows this page" if scope["method"] in _SAFE_METHODS else "changes something here"
        return self.page(Request(scope), 403, f"Only an admin {what}: log out, then log in with the web_token.")

    def _is_known_host(self, value: str) -> bool:
        name = host_name(value)
        if name is None:
            return False
        if name in LOOPBACK_NAMES or name == self.host:
            return True
        # A proxy or a name server may call it anything; a page of another site knows no token, and has no cookie.
        return not self.access.is_open


def host_name(value: str) -> str | None:
    """The name in a Host header without its port, None where there is none."""
    try:
        name = urlsplit(f"//{value}").hostname
    except ValueError:
        return None
    return name.lower() if name else None


def too_many(path: str, wait_s: int) -> Response:
    """The answer to somebody who guesses tokens."""
    answer = refusal(path, 429, "got too many wrong tokens", f"none for {wait_s} seconds")
    answer.headers["Retry-After"] = str(wait_s)
    return answer


def _is_ours(method: str, headers: Headers) -> bool:
    """Whether no other site is behind a request: one may lead a person here, and do nothing else.

    Browsers name the origin of every POST, and say what a request is for; a program that is no browser says neither.
    """
    site = headers.get("sec-fetch-site", "none")
    if method in _SAFE_METHODS:
        is_visit = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
        return site in ("same-origin", "none") or is_visit
    origin = headers.get("origin")
    if site not in ("same-origin", "none") or origin is None:
        return site in ("same-origin", "none")
    try:
        return urlsplit(origin).netloc.lower() == headers.get("host", "").lower()
    except ValueError:
        return False


def _to_login(scope: Scope) -> Response:
    query = scope["query_string"].decode("latin-1")
    wanted = scope["path"] + ("?" + query if query else "")
    return RedirectResponse(f"/login?next={quote(wanted, safe='')}", 303)


def _unauthorized(path: str) -> Response:
    answer = refusal(path, 401, "got no valid token", "`Authorization: Bearer TOKEN`")
    answer.headers["WWW-Authenticate"] = "Bearer"
    return answer
