"""Every kind of destination as the suite uses it: its settings for a sink, and the keys in what came."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from google.protobuf import json_format
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

import plain
import remote_write
from sink import GrpcSink, Request, Sink
from tachograph.registry import FORWARDERS, ForwarderKind


class Subject(NamedTuple):
    """`options` are those of the destination at a sink's address, parsed; `received` tells the keys in requests.

    A key names a record for ever; a record that came twice has the same key twice.
    """

    kind: ForwarderKind
    options: Callable[[str, float], Mapping[str, Any]]  # the address, and a timeout in seconds
    received: Callable[[Iterable[Request]], list[str]]
    sink: type[Sink] | type[GrpcSink] = Sink
    name: str = ""  # in the registry
    is_summed: bool = False  # it sends sums: what was refused is in the next one


def otlp_keys(requests: Iterable[Request]) -> list[str]:
    """Spans by their ids; logs and points, which have none, by all that they say."""
    return [key for request in requests for key in _otlp(request)]


def _otlp(request: Request) -> list[str]:
    signal = next((one for one in _SIGNALS if one in request.path.lower()), "")
    if not signal:
        return []
    message = _SIGNALS[signal]()
    if "json" in request.headers.get("content-type", ""):
        _from_json(request.body, message)
    else:
        message.ParseFromString(request.body)
    if isinstance(message, ExportTraceServiceRequest):
        scopes = [scope for resource in message.resource_spans for scope in resource.scope_spans]
        return [f"span {span.trace_id.hex()}:{span.span_id.hex()}" for scope in scopes for span in scope.spans]
    if isinstance(message, ExportLogsServiceRequest):
        logs = [scope for resource in message.resource_logs for scope in resource.scope_logs]
        return [f"log {record.SerializeToString(deterministic=True).hex()}" for s in logs for record in s.log_records]
    assert isinstance(message, ExportMetricsServiceRequest)
    found = []
    for resource in message.resource_metrics:
        who = resource.resource.SerializeToString(deterministic=True).hex()
        for metric in (metric for scope in resource.scope_metrics for metric in scope.metrics):
            data = getattr(metric, str(metric.WhichOneof("data")))
            for point in data.data_points:
                found.append(f"point {who} {metric.name} {point.SerializeToString(deterministic=True).hex()}")
    return found


_SIGNALS: dict[str, type[Message]] = {
    "trace": ExportTraceServiceRequest,
    "log": ExportLogsServiceRequest,
    "metric": ExportMetricsServiceRequest,
}


def _from_json(body: bytes, message: Message) -> None:
    """OTLP's JSON has ids in hex, where that of protobuf has base64: both stay unlike for unlike records."""
    json_format.Parse(body, message, ignore_unknown_fields=True)


def posthog_keys(requests: Iterable[Request]) -> list[str]:
    """Events by their uuid."""
    bodies = [json.loads(request.body) for request in requests]
    return [str(event["uuid"]) for body in bodies for event in body.get("batch", ())]


def _otlp_options(protocol: str, **more: Any) -> Callable[[str, float], Mapping[str, Any]]:
    return lambda url, timeout_s: {"endpoint": url, "protocol": protocol, "timeout": timeout_s} | more


def _langfuse(url: str, timeout_s: float) -> Mapping[str, Any]:
    return {"url": url, "public_key": "pk-lf-x", "secret_key": "sk-lf-x", "timeout": timeout_s}


def loki_keys(requests: Iterable[Request]) -> list[str]:
    """Lines by their stream, time and text."""
    found = []
    for request in requests:
        for stream in json.loads(request.body)["streams"]:
            found += [f"{stream['stream']} {time} {line}" for time, line, _ in stream["values"]]
    return found


def _remote_write(version: str) -> Callable[[str, float], Mapping[str, Any]]:
    return lambda url, timeout_s: {"url": url, "version": version, "timeout": timeout_s}


def _subjects() -> dict[str, Subject]:
    found = {"plain": Subject(plain.PLAIN, lambda url, timeout_s: {"url": url, "timeout": timeout_s}, plain.received)}
    otlp = FORWARDERS["otlp"]
    for protocol in ("http/protobuf", "http/json", "grpc"):
        sink: type[Sink] | type[GrpcSink] = GrpcSink if protocol == "grpc" else Sink
        found[f"otlp {protocol}"] = Subject(otlp, _otlp_options(protocol), otlp_keys, sink, "otlp")
    normalised = _otlp_options("http/protobuf", shape="normalised", temporality="cumulative")
    found["otlp normalised"] = Subject(otlp, normalised, otlp_keys, Sink, "otlp")
    found["langfuse"] = Subject(FORWARDERS["langfuse"], _langfuse, otlp_keys, Sink, "langfuse")
    found["posthog"] = Subject(
        FORWARDERS["posthog"],
        lambda url, timeout_s: {"host": url, "api_key": "phc_" + "x" * 30, "timeout": timeout_s},
        posthog_keys,
        Sink,
        "posthog",
    )
    for version in ("1.0", "2.0"):
        found[f"prometheus {version}"] = Subject(
            FORWARDERS["prometheus"], _remote_write(version), remote_write.keys, Sink, "prometheus", is_summed=True
        )
    found["loki"] = Subject(
        FORWARDERS["loki"], lambda url, timeout_s: {"url": url, "timeout": timeout_s}, loki_keys, Sink, "loki"
    )
    return found


KINDS = _subjects()
