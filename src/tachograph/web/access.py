"""Who a reader is: tokens, the cookies that a login with one of them makes, and how often somebody may guess."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from typing import Final, Literal, TypeVar

from starlette.datastructures import Headers
from starlette.requests import Request

Role = Literal["admin", "viewer"]
_Value = TypeVar("_Value")

ADMIN_PATHS: Final = ("/sql", "/settings")  # what a viewer does not see, and everything below it
COOKIE: Final = "tachograph_web"
COOKIE_S: Final = 30 * 24 * 3600
GUESSES_MAX: Final = 10  # wrong tokens of one client in GUESSES_S; a person mistypes less often
GUESSES_S: Final = 60
_REMEMBERED_MAX: Final = 10_000  # clients, and logouts: a bound for memory, the oldest go first
_NANO: Final = 1_000_000_000


class Access:
    """The tokens of the pages; without a `web_token` whoever reaches them is their admin.

    `clock` gives nanoseconds. Cookies are signed with the token that they were given for: they outlive a restart, and
    end with a new token. Logouts and wrong guesses are remembered as long as the process lives. Not for threads.
    """

    def __init__(self, web_token: str, viewer_token: str, clock: Callable[[], int]) -> None:
        self.is_open = not web_token
        self._tokens: dict[Role, str] = {"admin": web_token, "viewer": viewer_token}
        self._clock = clock
        self._ended: dict[str, None] = {}
        self._wrong: dict[str, tuple[int, int]] = {}  # client -> seconds of the first wrong guess, how many since

    def role_of_token(self, value: str) -> Role | None:
        """Whose token this is, taking the same time for every wrong one."""
        found: Role | None = None
        for role in self._tokens:
            if is_token(value, self._tokens[role]):
                found = found or role
        return found

    def cookie(self, role: Role) -> str:
        """A cookie for somebody who knows the token of the role: not the token itself, and good for 30 days."""
        said = f"{role}.{self._now() + COOKIE_S}.{secrets.token_hex(8)}"
        return f"{said}.{self._signature(role, said)}"

    def role_of_cookie(self, value: str) -> Role | None:
        """The role that a cookie gives, None for one that is forged, over, or logged out."""
        said, _, signature = value.rpartition(".")
        name, _, rest = said.partition(".")
        for role, token in self._tokens.items():
            if name == role and token and _is_same(signature, self._signature(role, said)):
                expires = rest.partition(".")[0]  # signed, so it is a number
                return role if int(expires) > self._now() and value not in self._ended else None
        return None

    def end(self, cookie: str) -> None:
        """Take a cookie back."""
        if self.role_of_cookie(cookie):
            _remember(self._ended, cookie, None)

    def wait_s(self, client: str) -> int:
        """How long this client has to wait before a token of it is looked at, 0 = not at all."""
        began, count = self._wrong.get(_network(client), (0, 0))
        left = began + GUESSES_S - self._now()
        return max(1, left) if count >= GUESSES_MAX and left > 0 else 0

    def note_wrong(self, client: str) -> None:
        """Count a wrong token."""
        name = _network(client)
        began, count = self._wrong.pop(name, (0, 0))
        is_new = self._now() - began >= GUESSES_S
        _remember(self._wrong, name, (self._now(), 1) if is_new else (began, count + 1))

    def _now(self) -> int:
        return self._clock() // _NANO

    def _signature(self, role: Role, said: str) -> str:
        signed = f"tachograph web cookie {said}".encode("utf-8", "replace")
        return hmac.new(self._tokens[role].encode(), signed, hashlib.sha256).hexdigest()


def role_of(request: Request) -> Role:
    """What the guard found out about who asks."""
    return "admin" if getattr(request.state, "role", "") == "admin" else "viewer"


def is_for_admin(path: str) -> bool:
    """Whether a page is kept from viewers."""
    return any(path == one or path.startswith(one + "/") for one in ADMIN_PATHS)


def is_token(value: str, token: str) -> bool:
    """Whether both are the same, taking the same time for every wrong one."""
    return _is_same(value, token) and bool(token)


def bearer(headers: Headers) -> str:
    """The bearer token of a request, "" where it has none."""
    scheme, _, value = headers.get("authorization", "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" else ""


def cookie_of(headers: Headers) -> str:
    """The cookie of a login, "" where there is none."""
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return morsel.value if morsel else ""


def _is_same(value: str, other: str) -> bool:
    return hmac.compare_digest(value.encode("utf-8", "replace"), other.encode("utf-8", "replace"))


def _network(client: str) -> str:
    """Whose address this is: one household has 2^64 addresses of IPv6."""
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return client
    return str(ipaddress.ip_network((address, 64), strict=False)) if address.version == 6 else client


def _remember(kept: dict[str, _Value], key: str, value: _Value) -> None:
    if len(kept) >= _REMEMBERED_MAX:
        del kept[next(iter(kept))]
    kept[key] = value
