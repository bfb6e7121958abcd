"""OTLP over HTTP: a bare ASGI application that answers 200 only when what it got is durable."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import Executor, Future
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from tachograph.errors import Rejected
from tachograph.receivers import otlp
from tachograph.receivers.intake import RPC_CODES, Failure, Intake, failure

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

SIGNALS: Final = {"/v1/traces": "traces", "/v1/metrics": "metrics", "/v1/logs": "logs"}
BODY_S: Final = 60.0  # for a body to arrive; a sender that stalls gives its room back
INLINE_BYTES: Final = 64 * 1024  # smaller bodies are decoded at once: handing them to a thread costs more than that
LOOPBACK_HOSTS: Final = ("localhost", "127.0.0.1", "::1")
GREETING: Final = "Tachograph takes OpenTelemetry here: POST OTLP to /v1/traces, /v1/metrics and /v1/logs.\n"


class Asked(NamedTuple):
    """The headers of a request that matter here."""

    media_type: str
    encoding: str
    authorization: bytes
    origin: str
    host: str
    length: int


class OtlpHttp:
    """The ASGI application; `workers` decode what is too long for the event loop."""

    def __init__(self, intake: Intake, workers: Executor) -> None:
        self._intake = intake
        self._workers = workers

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        asked = _read_headers(scope["headers"])
        try:
            signal = self._route(scope["method"], scope["path"], asked)
            if signal is None:
                await _answer_plainly(scope["method"], asked, send)
                return
            answer = await self._export(signal, asked, receive)
        except asyncio.CancelledError:
            raise
        except Gone:
            return  # nobody is there to be answered; unanswered means not promised
        except Exception as error:  # noqa: BLE001 - a sender is always answered; `failure` says aloud what is a bug
            await self._refuse(failure(error), scope["path"], asked, send)
        else:
            await _send(send, 200, asked.media_type.encode(), answer, _cors(asked.origin))

    def _route(self, method: str, path: str, asked: Asked) -> str | None:
        """The signal that is sent; None for a question that has a plain answer; raises Rejected for the rest."""
        if asked.origin and not _is_loopback_origin(asked.origin):
            raise Rejected(f"origin: got {asked.origin}; expected a page of this machine", status=403)
        signal = SIGNALS.get(path) or SIGNALS.get("/" + path.strip("/"))
        if method == "POST" and signal:
            if not self._intake.allows(asked.authorization):
                hint = "OTEL_EXPORTER_OTLP_HEADERS=Authorization=Bearer%20<token>"
                raise Rejected("authorization: expected the bearer token of this receiver", hint, status=401)
            return signal
        if (method in ("GET", "HEAD") and path == "/") or (method == "OPTIONS" and signal):
            return None
        if signal or (method not in ("POST", "PUT") and path == "/"):
            raise Rejected(f"{path}: got {method}; expected {'POST' if signal else 'GET'}", status=405)
        raise Rejected(f"{path[:200]}: {lost(path, asked.host)}", status=404)

    async def _export(self, signal: str, asked: Asked, receive: Receive) -> bytes:
        """Read, decode and keep one export request; the answer once it is durable."""
        otlp.media_type_of(asked.media_type)
        held: list[int] = []
        try:
            body = await self._read(receive, asked.length, held)
            kept, answer = await self._take(signal, body, asked)
            del body
            await asyncio.wrap_future(kept)
            return answer
        finally:
            self._intake.room.give(sum(held))

    async def _read(self, receive: Receive, length: int, held: list[int]) -> bytes:
        """The body as it came over the wire; what it takes in the room is noted in `held`."""
        limit = self._intake.body_bytes_max
        if length > limit:
            raise Rejected(f"body: got {length} bytes; expected {limit} at most", "send smaller batches", status=413)
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(BODY_S):
                while True:
                    message = await receive()
                    if message["type"] != "http.request":
                        raise Gone
                    if chunk := message.get("body", b""):
                        self._intake.room.take(len(chunk))
                        held.append(len(chunk))
                        chunks.append(chunk)
                        size += len(chunk)
                    if size > limit:
                        raise Rejected(f"body: got more than {limit} bytes", "send smaller batches", status=413)
                    if not message.get("more_body"):
                        return chunks[0] if len(chunks) == 1 else b"".join(chunks)
        except TimeoutError:
            raise Rejected(f"body: got {size} bytes in {BODY_S:.0f} s and no end", status=408) from None

    async def _take(self, signal: str, body: bytes, asked: Asked) -> tuple[Future[int], bytes]:
        if len(body) <= INLINE_BYTES and asked.encoding in ("", "identity"):
            return self._intake.take(signal, body, asked.encoding, asked.media_type)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._workers, self._intake.take, signal, body, asked.encoding, asked.media_type
        )

    async def _refuse(self, failed: Failure, path: str, asked: Asked, send: Send) -> None:
        """An error as a google.rpc.Status in the encoding of the request, JSON where that is none of OTLP's."""
        self._intake.note(failed)
        media_type = otlp.PROTOBUF if asked.media_type == otlp.PROTOBUF else otlp.JSON
        more = _cors(asked.origin)
        if failed.retry_after_s is not None:
            more.append((b"retry-after", str(failed.retry_after_s).encode()))
        if failed.http_status == 401:
            more.append((b"www-authenticate", b"Bearer"))
        if failed.http_status == 405:
            more.append((b"allow", b"GET, HEAD" if path == "/" else b"POST, OPTIONS"))
        body = otlp.status(RPC_CODES.get(failed.http_status, failed.rpc_code), failed.message, media_type)
        await _send(send, failed.http_status, media_type.encode(), body, more)


class Gone(Exception):
    """The sender closed the connection before its body was complete."""


def _read_headers(headers: Headers) -> Asked:
    found = dict(headers)
    length = found.get(b"content-length", b"")
    return Asked(
        media_type=_latin(found.get(b"content-type", b"")).partition(";")[0].strip().lower(),
        encoding=_latin(found.get(b"content-encoding", b"")).strip().lower(),
        authorization=found.get(b"authorization", b""),
        origin=_latin(found.get(b"origin", b"")),
        host=_latin(found.get(b"host", b"")),
        length=int(length) if length.isdigit() and len(length) < 20 else 0,
    )


def _latin(value: bytes) -> str:
    return value.decode("latin-1")


async def _answer_plainly(method: str, asked: Asked, send: Send) -> None:
    if method == "OPTIONS":
        more = _cors(asked.origin)
        more.append((b"access-control-allow-methods", b"POST"))
        more.append((b"access-control-allow-headers", b"content-type, content-encoding, authorization"))
        more.append((b"allow", b"POST, OPTIONS"))
        await _send(send, 204, b"", b"", more)
    else:
        await _send(send, 200, b"text/plain; charset=utf-8", GREETING.encode() if method == "GET" else b"", [])


async def _send(send: Send, status: int, media_type: bytes, body: bytes, more: Headers) -> None:
    headers = [(b"content-type", media_type), *more] if media_type else more
    if status != 204:
        headers = [*headers, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _cors(origin: str) -> Headers:
    """For pages of this machine only."""
    if not _is_loopback_origin(origin):
        return []
    return [(b"access-control-allow-origin", origin.encode("latin-1")), (b"vary", b"origin")]


def _is_loopback_origin(origin: str) -> bool:
    if not origin:
        return False
    try:
        return urlsplit(origin).hostname in LOOPBACK_HOSTS
    except ValueError:
        return False


_HOST: Final = re.compile(r"[\w.\-\[\]:]{1,255}", re.ASCII)
_SIGNAL_IN_PATH: Final = re.compile(r"(trace|span|metric|log)s?\b", re.IGNORECASE)
_SIGNAL_OF: Final = {"trace": "traces", "span": "traces", "metric": "metrics", "log": "logs"}


def lost(path: str, host: str) -> str:
    """What to tell someone who sent to a path that is none of ours: the right one, and what to set."""
    base = f"http://{host if _HOST.fullmatch(host) else '127.0.0.1:4318'}"
    if "profiles" in path:
        return "profiles are not taken; expected /v1/traces, /v1/metrics or /v1/logs"
    found = _SIGNAL_IN_PATH.findall(path)
    if not found:
        return (
            "expected /v1/traces, /v1/metrics or /v1/logs; "
            f"set OTEL_EXPORTER_OTLP_ENDPOINT={base}, or, where there is one endpoint for each signal, its whole URL: "
            f"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT={base}/v1/traces"
        )
    signal = _SIGNAL_OF[found[-1].lower()]
    return (
        f"expected /v1/{signal}; set OTEL_EXPORTER_OTLP_ENDPOINT={base} (the sender adds the path), "
        f"or OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT={base}/v1/{signal}"
    )
