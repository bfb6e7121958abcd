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
from tachograph.forwarders.http import ANSWER_CHARS, USER_AGENT
from tachograph.forwarders.otlp import Connection

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
_DETAILS: Final = "grpc-status-details-bin"


class GrpcClient:
    """A channel to one destination; used from one thread. Raises ConfigError where a certificate cannot be read."""

    def __init__(self, to: Connection) -> None:
        parts = urlsplit(to.endpoint if "://" in to.endpoint else f"//{to.endpoint}")
        is_secure = parts.scheme == "https" or (not parts.scheme and not to.is_insecure)
        self._address = f"{parts.hostname}:{parts.port or (443 if is_secure else 80)}"
        if parts.hostname and ":" in parts.hostname:
            self._address = f"[{parts.hostname}]:{parts.port or (443 if is_secure else 80)}"
        self._timeout_s = to.timeout_s
        self._metadata = tuple((name.lower(), value) for name, value in to.headers.items())
        self._compression = grpc.Compression.Gzip if to.is_gzipped else grpc.Compression.NoCompression
        self._credentials = _credentials(to) if is_secure else None
        self._channel: grpc.Channel | None = None

    def export(self, signal: str, body: bytes) -> bytes:
        """Send one request and wait for the answer; raises as Forwarder.send."""
        method = f"/opentelemetry.proto.collector.{_SERVICES[signal]}/Export"
        self._channel = self._channel or self._connected()
        call = self._channel.unary_unary(method, request_serializer=None, response_deserializer=None)
        try:
            answer: bytes = call(body, timeout=self._timeout_s, metadata=self._metadata)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                self.close()  # a channel that is kept waits up to two minutes by itself before it connects again
            raise self._judged(error) from None
        except ValueError:  # the library's word for metadata that it cannot send, which it repeats
            raise ConfigError(f"{self._address}: got headers that cannot be sent", "check the headers") from None
        return answer

    def _connected(self) -> grpc.Channel:
        options = (("grpc.primary_user_agent", USER_AGENT), ("grpc.enable_retries", 0))
        if self._credentials is None:
            return grpc.insecure_channel(self._address, options, self._compression)
        return grpc.secure_channel(self._address, self._credentials, options, self._compression)

    def close(self) -> None:
        """Close the connection."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def _judged(self, error: grpc.RpcError) -> TachographError:
        code, details = error.code(), str(error.details() or "")
        what = f"{self._address}: answered {code.name}{_said(details)}"
        if code is grpc.StatusCode.UNAVAILABLE and _is_about_tls(details):
            return ConfigError(what, "check the certificates, or say http:// where there is no TLS")
        retry_s = _retry_s(error)
        if code in _BUSY or (code is grpc.StatusCode.RESOURCE_EXHAUSTED and retry_s is not None):
            return Busy(what, retry_after_s=retry_s or 1)
        if code in _FOR_THE_OPERATOR:
            return ConfigError(what, "check the key and the address")
        if code in _BROKEN:
            return Busy(what, status=500)
        return Rejected(what, status=413 if code is grpc.StatusCode.RESOURCE_EXHAUSTED else 400)


def _is_about_tls(details: str) -> bool:
    lower = details.lower()
    return "handshake" in lower or "certificate" in lower or "wrong_version_number" in lower


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


def _credentials(to: Connection) -> grpc.ChannelCredentials:
    paths = (to.certificate, to.client_key, to.client_certificate)
    read: list[bytes | None] = []
    for path in paths:
        try:
            read.append(Path(path).read_bytes() if path else None)
        except OSError as error:
            raise ConfigError(f"certificate: {path}: {error.strerror}", "expected a PEM file") from None
    return grpc.ssl_channel_credentials(*read)
