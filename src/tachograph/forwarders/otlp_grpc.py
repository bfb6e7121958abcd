"""OTLP requests over gRPC, and what a status means: taken, busy, refused, or for the operator to mend."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import urlsplit

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

from tachograph.errors import Busy, ConfigError, Rejected, TachographError
from tachograph.forwarders.deadlines import Deadline
from tachograph.forwarders.http import ANSWER_BYTES_MAX, ANSWER_CHARS, USER_AGENT
from tachograph.forwarders.otlp import Connection
from tachograph.forwarders.tls import Tls, trouble

_SERVICES: Final = {
    "traces": "trace.v1.TraceService",
    "metrics": "metrics.v1.MetricsService",
    "logs": "logs.v1.LogsService",
}
_BUSY: Final = frozenset(
    (
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    )
)
_FOR_THE_OPERATOR: Final = frozenset(
    (
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.NOT_FOUND,
    )
)
_BROKEN: Final = frozenset((grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL))
_GONE: Final = frozenset((grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED))
_DETAILS: Final = "grpc-status-details-bin"


class GrpcClient:
    """A channel to one destination; used from one thread. Raises ConfigError where a certificate cannot be read."""

    def __init__(self, to: Connection) -> None:
        parts = urlsplit(to.endpoint if "://" in to.endpoint else f"//{to.endpoint}")
        is_secure = parts.scheme == "https" or (not parts.scheme and not to.is_insecure)
        self._address = f"{parts.hostname}:{parts.port or (443 if is_secure else 80)}"
        if parts.hostname and ":" in parts.hostname:
            self._address = f"[{parts.hostname}]:{parts.port or (443 if is_secure else 80)}"
        self._metadata = tuple((name.lower(), value) for name, value in to.headers.items())
        self._compression = grpc.Compression.Gzip if to.is_gzipped else grpc.Compression.NoCompression
        self._place = parts.hostname or "", parts.port or (443 if is_secure else 80)
        self._tls = Tls(to.certificate, to.client_certificate, to.client_key)
        self._credentials = _credentials(self._tls) if is_secure else None
        self._deadline = Deadline(to.timeout_s)
        self._is_known = False  # whether something was ever taken there
        self._channel: grpc.Channel | None = None

    def export(self, signal: str, body: bytes) -> bytes:
        """Send one request and wait for the answer; raises as Forwarder.send."""
        method = f"/opentelemetry.proto.collector.{_SERVICES[signal]}/Export"
        self._channel = self._channel or self._connected()
        call = self._channel.unary_unary(method, request_serializer=None, response_deserializer=None)
        self._deadline.start()
        try:
            answer: bytes = call(body, timeout=self._deadline.timeout_s, metadata=self._metadata)
        except grpc.RpcError as error:
            if error.code() in _GONE:
                self.close()  # one that is kept waits up to two minutes to connect again, and never notices a dead peer
            if _is_too_long(error):
                answer = b""  # there is an answer only where the request was taken
            else:
                raise self._judged(error) from None
        except ValueError:  # the library's word for metadata that it cannot send, which it repeats
            raise ConfigError(f"{self._address}: got headers that cannot be sent", "check the headers") from None
        self._is_known = True
        return answer

    def _connected(self) -> grpc.Channel:
        options = (
            ("grpc.primary_user_agent", USER_AGENT),
            ("grpc.enable_retries", 0),
            ("grpc.max_receive_message_length", ANSWER_BYTES_MAX),
        )
        if self._credentials is None:
            return grpc.insecure_channel(self._address, options, self._compression)
        return grpc.secure_channel(self._address, self._credentials, options, self._compression)

    def close(self) -> None:
        """Close the connection."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def _trouble(self) -> tuple[str, str] | None:
        """As of HttpClient; the library has many words for it, and none where a certificate of ours is missing."""
        if self._deadline.is_over or (self._is_known and self._credentials is None):
            return None
        host, port = self._place
        return trouble(host, port, self._tls if self._credentials else None, self._deadline.left_s(), ["h2"])

    def _judged(self, error: grpc.RpcError) -> TachographError:
        code, details = error.code(), str(error.details() or "")
        what = f"{self._address}: answered {code.name}{_said(details)}"
        if code is grpc.StatusCode.UNAVAILABLE and (found := self._trouble()):
            return ConfigError(f"{self._address}: {found[0]}", found[1])
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return Busy(f"{self._address}: no whole answer within {self._deadline.timeout_s:g} s")
        retry_s = _retry_s(error)
        if code in _BUSY or (code is grpc.StatusCode.RESOURCE_EXHAUSTED and retry_s is not None):
            return Busy(what, retry_after_s=retry_s or 1)
        if code in _FOR_THE_OPERATOR:
            return ConfigError(what, "check the key and the address")
        if code in _BROKEN:
            return Busy(what, status=500)
        return Rejected(what, status=413 if code is grpc.StatusCode.RESOURCE_EXHAUSTED else 400)


def _is_too_long(error: grpc.RpcError) -> bool:
    """Whether it is our limit that an answer is above, and not the server's that the request is."""
    is_ours = "CLIENT: Received message larger than max" in str(error.details() or "")
    return is_ours and error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def _said(details: str) -> str:
    text = "".join(c if c.isprintable() else "?" for c in " ".join(details[: 4 * ANSWER_CHARS].split()))
    return f": {text[:ANSWER_CHARS]}" if text else ""


def _retry_s(error: grpc.RpcError) -> int | None:
    """What the answer asks for, None where it asks for nothing."""
    for name, value in cast("Iterable[tuple[str, Any]]", error.trailing_metadata() or ()):
        if name == _DETAILS:
            try:
                status = Status.FromString(value)
            except DecodeError:
                continue
            for detail in status.details:
                info = RetryInfo()
                if detail.Is(info.DESCRIPTOR) and detail.Unpack(info):
                    return max(1, int(info.retry_delay.seconds))
    return None


def _credentials(tls: Tls) -> grpc.ChannelCredentials:
    tls.context()  # raises what is wrong with the files, where the library only logs it
    paths = (tls.key or tls.certificate, tls.certificate)  # one file may hold both
    read = [Path(path).read_bytes() if path else None for path in paths]
    return grpc.ssl_channel_credentials(tls.authorities(), *read)
