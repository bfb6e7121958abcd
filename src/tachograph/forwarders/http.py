"""Requests to destinations over HTTP, and what an answer means: taken, busy, refused, or for the operator to mend."""

from __future__ import annotations

import base64
import gzip
import ssl
from collections.abc import Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import Final, NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined] # what getproxies goes by

import urllib3
from urllib3.exceptions import (
    HTTPError,
    LocationValueError,
    NewConnectionError,
    ProtocolError,
    ProxyError,
    ProxySchemeUnknown,
    SSLError,
)
from urllib3.exceptions import TimeoutError as OutOfTime

from tachograph import __version__
from tachograph.config import masked
from tachograph.errors import Busy, ConfigError, Rejected, TachographError
from tachograph.forwarders.deadlines import Deadline, bounded, secured
from tachograph.forwarders.tls import Tls, explained, trouble

USER_AGENT: Final = f"Tachograph/{__version__}"
ANSWER_BYTES_MAX: Final = 64 * 1024  # of a body: what is longer says nothing more
ANSWER_CHARS: Final = 300
TIMEOUT_S: Final = 10.0  # OTLP's default, and long enough for the others
# RFC 9110: the request itself is wrong, so that no wait helps. What else is 4xx is about who asks, where, and how.
_REFUSED: Final = frozenset((400, 413, 422))
LOOKS_MAX: Final = 10  # at a server that never took plain words: does it want TLS?
_SECRET_CHARS_MIN: Final = 8
_BUSY: Final = frozenset((408, 425, 429))


class NotTakenError(ConfigError):
    """The other side takes no bodies of this kind or packed like this (415), whatever is in them."""


class Answer(NamedTuple):
    """A good answer: its status, its headers with lower-case names, and the start of its body."""

    status: int
    headers: dict[str, str]
    body: bytes

    def __str__(self) -> str:
        return str(self.status)


class HttpClient:
    """Connections to one destination; used from one thread.

    `timeout_s` is for the whole of a request: connecting, sending, and reading the answer. `headers` go with every
    request. `environment` may name proxies (`HTTPS_PROXY`, `NO_PROXY`, ...). Raises
    ConfigError where a certificate cannot be read.
    """

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str] | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
        tls: Tls | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        parts = urlsplit(url)
        self.url = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        own = urllib3.make_headers(user_agent=USER_AGENT, basic_auth=_credentials(parts))
        self._headers = {**own, **{name.lower(): value for name, value in (headers or {}).items()}}
        _check(self._headers)
        self._secrets = sorted({word for v in (headers or {}).values() for word in _secret_words(v)}, key=len)[::-1]
        self._deadline = Deadline(timeout_s)
        self._tls = tls or Tls()
        is_secure = parts.scheme == "https" or self._tls != Tls()  # a file that cannot be read is told at once
        context = secured(self._tls.context(), self._deadline) if is_secure else None
        proxy = _proxy(url, environment or {})
        self._pool = bounded(_pool(proxy, context, self._deadline), self._deadline)
        self._is_direct = not proxy
        self._looks_left = LOOKS_MAX  # 0 as soon as something was taken
        self._takes_gzip = True  # until it says otherwise

    def post(self, path: str, body: bytes, headers: Mapping[str, str], *, is_gzipped: bool = True) -> Answer:
        """Send a body to the address with `path` after it, and wait for the answer; raises as Forwarder.send.

        Who does not unpack gzip gets it as it is, from then on.
        """
        given = {**self._headers, **{name.lower(): value for name, value in headers.items()}}
        if is_gzipped and self._takes_gzip:
            packed = gzip.compress(body, 4, mtime=0)
            with suppress(NotTakenError):
                return self._ask("POST", path, packed, given | {"content-encoding": "gzip"})
            answer = self._ask("POST", path, body, given)
            self._takes_gzip = False
            return answer
        return self._ask("POST", path, body, given)

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Ask for what is at the address with `path` after it; raises as `post`."""
        return self._ask("GET", path, None, {**self._headers, **(headers or {})})

    def close(self) -> None:
        """Close all connections."""
        self._pool.clear()

    def _ask(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Answer:
        url = self.url + path
        self._deadline.start()
        try:
            response = self._pool.request(
                method, url, body=body, headers=headers, redirect=False, preload_content=False, decode_content=True
            )
            told = {name.lower(): value for name, value in response.headers.items()}
            answer = Answer(response.status, told, response.read(ANSWER_BYTES_MAX, decode_content=True) or b"")
            if len(answer.body) < ANSWER_BYTES_MAX:
                response.release_conn()
            else:
                response.close()  # sooner than reading what nobody wants
        except (LocationValueError, UnicodeError):
            raise ConfigError(f"{shown(url)}: not an address", "http://host:port") from None
        except (HTTPError, HTTPException, OSError) as error:
            raise self._broken(shown(url), error) from None
        if 200 <= answer.status < 300:
            self._looks_left = 0
            if _is_page(answer):
                what = (
                    f"{shown(url)}: answered {answer.status} with a web page; expected the answer of a receiver of data"
                )
                raise ConfigError(what, "check the address, and whether a sign-in page stands before it")
            return answer
        if answer.status == 400 and not url.startswith("https") and (told_tls := self._trouble()):
            raise ConfigError(f"{shown(url)}: {told_tls[0]}", told_tls[1])
        raise self._judged(url, answer)

    def _trouble(self) -> tuple[str, str] | None:
        """Whether TLS is the reason: on one side alone, or with something in it that the other side does not like."""
        parts = urlsplit(self.url)
        is_secure = parts.scheme == "https"
        if self._deadline.is_over or not self._is_direct or not (is_secure or self._looks_left):
            return None
        self._looks_left = max(0, self._looks_left - 1)
        port = parts.port or (443 if is_secure else 80)
        return trouble(parts.hostname or "", port, self._tls if is_secure else None, self._deadline.left_s())

    def _broken(self, where: str, error: Exception) -> TachographError:
        """What it means that there is no answer."""
        if isinstance(error, ProxyError):
            return self._broken(f"{where}: the proxy", error.original_error)
        is_late = isinstance(error, OutOfTime) and not isinstance(error, NewConnectionError)
        if is_late or self._deadline.is_over:
            return Busy(f"{where}: no whole answer within {self._deadline.timeout_s:g} s")
        cause = error.args[0] if isinstance(error, SSLError) and error.args else error
        found = None
        if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            found = explained(cause)
        elif not isinstance(error, NewConnectionError):
            found = self._trouble()
        return ConfigError(f"{where}: {found[0]}", found[1]) if found else Busy(f"{where}: {_reason(error)}")

    def _judged(self, url: str, answer: Answer) -> TachographError:
        said = _said(answer.body)
        for secret in self._secrets:  # some answers repeat the key that they refuse
            said = said.replace(secret, "[redacted]")
        return _judged(f"{shown(url)}: answered {answer.status}{said[: ANSWER_CHARS + 2]}", answer)


def _is_page(answer: Answer) -> bool:
    """Whether a browser is spoken to, as by a sign-in page or a captive portal; nothing was taken then."""
    start = answer.body.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    is_named = answer.headers.get("content-type", "").strip().lower().startswith(("text/html", "application/xhtml"))
    return (is_named and bool(start)) or start.startswith((b"<!doctype", b"<html"))


def _judged(what: str, answer: Answer) -> TachographError:
    if answer.status in _REFUSED:
        return Rejected(what, status=answer.status)
    if answer.status == 415:
        return NotTakenError(what, "check the address, and which protocol and compression it takes")
    if answer.status >= 500 or answer.status in _BUSY:
        return Busy(what, retry_after_s=_retry_after_s(answer.headers), status=answer.status)
    hint = "check the key" if answer.status in (401, 403) else "check the address"
    return ConfigError(what, hint)


def _said(body: bytes) -> str:
    """The words of an answer's body, printable and short."""
    text = " ".join(body[: 4 * ANSWER_CHARS].decode("utf-8", "replace").split())
    text = "".join(c if c.isprintable() else "?" for c in text)
    return f": {text}" if text else ""


def _retry_after_s(headers: Mapping[str, str]) -> int:
    """What the answer asks for, in seconds or as a date beside the answer's own (RFC 9110, Retry-After)."""
    given = headers.get("retry-after", "").strip()
    if given.isascii() and given.isdigit():
        return int(given[:9])
    try:
        return max(1, int((parsedate_to_datetime(given) - parsedate_to_datetime(headers["date"])).total_seconds()))
    except (KeyError, ValueError, TypeError, OverflowError):
        return 1


def _reason(error: Exception) -> str:
    """What went wrong, without the address of an object or a whole chain of causes."""
    if isinstance(error, NewConnectionError):
        cause = error.__cause__ or error.__context__
        return f"cannot connect: {getattr(cause, 'strerror', None) or cause or 'no route'}"
    if isinstance(error, ProtocolError) and len(error.args) > 1 and isinstance(error.args[1], Exception):
        error = error.args[1]
    if isinstance(error, SSLError):
        return "the connection was closed"
    said = getattr(error, "strerror", None) or str(error).rpartition(": ")[2]
    return " ".join(str(said).split())[:ANSWER_CHARS] or type(error).__name__


def _check(headers: Mapping[str, str]) -> None:
    """Raise ConfigError for what cannot stand in a header; the value may be a secret and is not repeated."""
    for name, value in headers.items():
        if not value.isascii() or not value.isprintable():
            raise ConfigError(f"header {name}: got a value with characters that a header cannot have", "check the key")


def _credentials(parts: SplitResult) -> str | None:
    """`name:password` of an address that has them."""
    return f"{unquote(parts.username or '')}:{unquote(parts.password or '')}" if "@" in parts.netloc else None


def _secret_words(value: str) -> list[str]:
    """What of a header's value may be a secret: its words, and what they say in base64."""
    words = [word for word in value.split() if len(word) >= _SECRET_CHARS_MIN]
    for word in words[:]:
        with suppress(ValueError):  # not base64: a secret as it stands
            words += base64.b64decode(word, validate=True).decode("ascii").split(":")
    return [word for word in words if len(word) >= _SECRET_CHARS_MIN]


def _pool(proxy: str, context: ssl.SSLContext | None, deadline: Deadline) -> urllib3.PoolManager:
    if not proxy:
        return urllib3.PoolManager(retries=False, maxsize=1, ssl_context=context)
    parts = urlsplit(proxy)
    credentials = _credentials(parts)
    address = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    headers = urllib3.make_headers(proxy_basic_auth=credentials) if credentials else None
    to_proxy = secured(Tls().context(), deadline) if parts.scheme == "https" else None
    try:
        return urllib3.ProxyManager(
            address, proxy_headers=headers, retries=False, maxsize=1, ssl_context=context, proxy_ssl_context=to_proxy
        )
    except (ProxySchemeUnknown, LocationValueError):
        expected = "expected an http:// or https:// one"
        got = masked(address, is_address=True)
        raise ConfigError(f"proxy: got {got}; {expected}", "HTTPS_PROXY=http://host:port") from None


def shown(url: str) -> str:
    """An address without what may be secret in it: name and password, query and fragment."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _proxy(url: str, environment: Mapping[str, str]) -> str:
    """The proxy that the environment names for an address, "" = none."""
    parts = urlsplit(url)
    proxies = {
        name[: -len("_proxy")]: value
        for key, value in sorted(environment.items())
        if value and (name := key.lower()).endswith("_proxy")
    }
    if proxy_bypass_environment(parts.netloc.rpartition("@")[2], proxies):
        return ""
    found = proxies.get(parts.scheme) or proxies.get("all", "")
    return found if not found or "://" in found else f"http://{found}"
