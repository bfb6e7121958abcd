"""OTLP requests as batches, and the answers to them: the one entry for both encodings and both transports."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, Final

import msgspec
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from tachograph.errors import Rejected
from tachograph.model import Batch
from tachograph.receivers import otlp_json, otlp_protobuf

PROTOBUF: Final = "application/x-protobuf"
JSON: Final = "application/json"

SIGNALS: Final = ("traces", "metrics", "logs")

# The gRPC services; each has one method, `Export`, whose messages are those of the HTTP bodies.
SERVICES: Final[dict[str, str]] = {
    "traces": "opentelemetry.proto.collector.trace.v1.TraceService",
    "metrics": "opentelemetry.proto.collector.metrics.v1.MetricsService",
    "logs": "opentelemetry.proto.collector.logs.v1.LogsService",
}
METHOD: Final = "Export"

_READERS: Final = {PROTOBUF: otlp_protobuf.read, JSON: otlp_json.read}

# Decoded records take 2 to 3.6 times the bytes of their request (tracemalloc, on recordings of Claude Code and others).
_SIZE_FACTOR: Final = 4


def media_type_of(header: str) -> str:
    """The media type of a Content-Type header, in lower case and without parameters; Rejected (415) for others."""
    name = header.partition(";")[0].strip().lower()
    if name not in _READERS:
        raise Rejected(
            f'Content-Type: got "{header[:100]}"; expected {PROTOBUF} or {JSON}',
            "set OTEL_EXPORTER_OTLP_PROTOCOL to http/protobuf or http/json",
            status=415,
        )
    return name


def decode(signal: str, body: bytes, media_type: str) -> Batch:
    """The records of a request of one signal (`traces`, `metrics`, `logs`), decompressed; raises Rejected.

    Records that OTLP calls invalid are left out and counted; a body that is not an OTLP request raises.
    """
    read = _READERS[media_type_of(media_type)]
    batch = Batch(digest=blake2b(body, digest_size=16, person=signal.encode()).hexdigest())
    if body:
        read(signal, body, batch)
    batch.size = len(body) * _SIZE_FACTOR
    return batch


def response(signal: str, batch: Batch, media_type: str) -> bytes:
    """The body of a 200: an Export*ServiceResponse, with partial success where records were left out."""
    field, message = _RESPONSES[signal]
    if not batch.reasons:
        return b"{}" if media_type_of(media_type) == JSON else b""
    reason = "; ".join(batch.reasons)
    if batch.rejected > len(batch.reasons):
        reason += f"; and {batch.rejected - len(batch.reasons)} more"
    if media_type_of(media_type) == JSON:
        name = field.partition("_")[2].title().replace("_", "")
        success = {f"rejected{name}": str(batch.rejected), "errorMessage": reason}
        return msgspec.json.encode({"partialSuccess": success})
    answer: Any = message()
    setattr(answer.partial_success, field, batch.rejected)
    answer.partial_success.error_message = reason
    body: bytes = answer.SerializeToString()
    return body


def status(code: int, message: str, media_type: str) -> bytes:
    """The body of an error: a google.rpc.Status with a gRPC code; in protobuf where the media type is unknown."""
    if media_type.partition(";")[0].strip().lower() == JSON:
        return msgspec.json.encode({"code": code, "message": message})
    body: bytes = Status(code=code, message=message).SerializeToString()
    return body


_RESPONSES: Final[dict[str, tuple[str, Any]]] = {
    "traces": ("rejected_spans", ExportTraceServiceResponse),
    "metrics": ("rejected_data_points", ExportMetricsServiceResponse),
    "logs": ("rejected_log_records", ExportLogsServiceResponse),
}
