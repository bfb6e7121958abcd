"""The gRPC door that opens at the first knock: nobody who knocks is lost, and it closes where nobody does."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from tachograph.errors import ConfigError
from tachograph.model import Batch
from tachograph.receivers.intake import Intake
from tachograph.receivers.otlp_grpc import OtlpGrpc
from tachograph.receivers.otlp_grpc_late import Door, LateDoor
from tachograph.telemetry import Telemetry

METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
BODY = trace_service_pb2.ExportTraceServiceRequest(
    resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=[Span()])])]
).SerializeToString()
PATIENCE_S = 60


@contextmanager
def late(opened: list[Batch], is_taken: bool = False) -> Iterator[int]:
    """The port of such a door."""
    listening = socket.create_server(("127.0.0.1", 0))
    port: int = listening.getsockname()[1]

    def submit(batch: Batch) -> Future[int]:
        opened.append(batch)
        kept: Future[int] = Future()
        kept.set_result(1)
        return kept

    def open_door() -> Door:
        if is_taken:
            raise ConfigError("otlp_grpc: cannot listen")
        return OtlpGrpc(Intake(submit, Telemetry(), "", 1 << 20, 1 << 20), f"127.0.0.1:{port}")

    door = LateDoor(listening, open_door)
    door.start()
    try:
        yield port
    finally:
        door.stop(PATIENCE_S)


def send(port: int) -> bytes:
    with grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
        answer: bytes = channel.unary_unary(METHOD, None, None)(BODY, timeout=PATIENCE_S, wait_for_ready=True)
        return answer


def test_the_first_request_is_answered_and_so_are_all_after_it() -> None:
    taken: list[Batch] = []
    with late(taken) as port:
        for _ in range(3):
            send(port)
    assert len(taken) == 3


def test_many_that_knock_at_once() -> None:
    taken: list[Batch] = []
    with late(taken) as port, ThreadPoolExecutor(8) as many:
        list(many.map(send, [port] * 8))
    assert len(taken) == 8


def test_one_at_which_nobody_knocks_closes() -> None:
    with late([]) as port:
        pass
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", port))


def test_where_another_program_was_faster_who_knocked_is_let_go() -> None:
    with late([], is_taken=True) as port, socket.create_connection(("127.0.0.1", port)) as knocking:
        assert knocking.recv(1) == b""
