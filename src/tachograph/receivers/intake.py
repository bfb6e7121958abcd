"""What every OTLP door does with a request: is the sender allowed, what is in it, and is it kept?"""

from __future__ import annotations

import hmac
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final, NamedTuple

from tachograph.errors import Busy, Corrupt, Rejected
from tachograph.model import Batch
from tachograph.receivers import bodies, otlp
from tachograph.telemetry import Telemetry, say

NOTED_MAX: Final = 32  # kinds of refusals said aloud; a sender can make up as many as it likes
CORRUPT_RETRY_S: Final = 60  # an operator has to act first; what the sender holds until then is not lost


class Failure(NamedTuple):
    """How an error is told to a sender: the HTTP status, the google.rpc.Code, when to try again (None = never)."""

    http_status: int
    rpc_code: int
    message: str
    retry_after_s: int | None = None


# OTLP 1.11 names 400, 429, 502, 503 and 504; the rest is the practice of the Collector. Codes: google/rpc/code.proto.
RPC_CODES: Final = {400: 3, 401: 16, 403: 7, 404: 5, 405: 12, 408: 4, 413: 8, 415: 3, 429: 8, 500: 13, 503: 14}


def failure(error: BaseException) -> Failure:
    """What a sender is told of an error; one that is none of ours is a bug of ours, and is said aloud."""
    match error:
        case Rejected():
            return Failure(error.status, RPC_CODES.get(error.status, 3), _text(error))
        case Busy():
            return Failure(503, 14, _text(error), max(1, error.retry_after_s))
        case Corrupt():
            return Failure(503, 14, _text(error), CORRUPT_RETRY_S)
        case _:
            say("error", f"receiver: {type(error).__name__}: {error}")
            return Failure(500, 13, f"internal error: {type(error).__name__}; the log of the receiver has more")


def _text(error: Rejected | Busy | Corrupt) -> str:
    return f"{error.what}; {error.hint}" if error.hint else error.what


class Room:
    """Bytes of bodies that are in memory and unanswered, bounded over all requests of all doors."""

    def __init__(self, bytes_max: int, telemetry: Telemetry) -> None:
        self._bytes_max = bytes_max
        self._telemetry = telemetry
        self._bytes = 0
        self._lock = threading.Lock()

    def take(self, size_bytes: int) -> None:
        """Make place for so many bytes more; raises Busy where there is none."""
        with self._lock:
            if self._bytes and self._bytes + size_bytes > self._bytes_max:
                self._telemetry.count("busy", "room")
                raise Busy(
                    f"receiver: got {size_bytes} bytes beside {self._bytes}; expected {self._bytes_max} at most",
                    "send it again in a moment; queue_bytes_max is the limit",
                )
            self._bytes += size_bytes

    def give(self, size_bytes: int) -> None:
        """They are gone."""
        with self._lock:
            self._bytes -= size_bytes


class Intake:
    """The way from a body to the road, the same for every door; safe to use from any thread."""

    def __init__(
        self,
        submit: Callable[[Batch], Future[int]],
        telemetry: Telemetry,
        token: str,
        body_bytes_max: int,
        queue_bytes_max: int,
    ) -> None:
        self.submit = submit
        self.telemetry = telemetry
        self.body_bytes_max = body_bytes_max
        self.room = Room(max(body_bytes_max, queue_bytes_max // 2), telemetry)
        self._authorization = f"Bearer {token}".encode() if token else b""
        self._noted: set[str] = set()

    def allows(self, authorization: bytes) -> bool:
        """Whether a sender with this Authorization header may send; takes the same time for every wrong one."""
        if not self._authorization:
            return True
        scheme, _, token = authorization.partition(b" ")
        given = b"Bearer " + token.strip() if scheme.lower() == b"bearer" else b""
        return hmac.compare_digest(given, self._authorization)

    def note(self, failed: Failure) -> None:
        """Count a refusal; the first of its kind is said aloud, since an operator reads what a sender's log hides."""
        self.telemetry.count("refused", str(failed.http_status))
        if failed.retry_after_s is None and len(self._noted) < NOTED_MAX and failed.message not in self._noted:
            self._noted.add(failed.message)
            say("warning", f"refused ({failed.http_status}): {failed.message}")

    def take(self, signal: str, body: bytes, encoding: str, media_type: str) -> tuple[Future[int], bytes]:
        """The promise that the body is kept, and what is answered once it is; raises Rejected or Busy.

        Neither holds on to the body, whose place in the room the door gives back when it has answered.
        """
        if encoding not in ("", "identity"):
            body = bodies.decompress(body, encoding, self.body_bytes_max)
        batch = otlp.decode(signal, body, media_type)
        if batch.rejected:
            self.telemetry.count("rejected", signal, batch.rejected)
        answer = otlp.response(signal, batch, media_type)  # before submit, which takes the batch away
        return self.submit(batch), answer
