"""The gRPC door: a real client over a real socket; what is behind it stands in, so that it can be told to fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from tachograph.errors import Busy, ConfigError
from tachograph.model import Batch
from tachograph.receivers.intake import Intake
from tachograph.receivers.otlp_grpc import OtlpGrpc
from tachograph.telemetry import Telemetry

PATIENCE_S = 60
LIMIT = 1 << 20
TOKEN = "a-token-that-is-long-enough"
METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


class Behind:
    """What stands behind the door: takes batches, and answers what a test tells it to."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.error: Exception | None = None

    def submit(self, batch: Batch) -> Future[int]:
        self.batches.append(batch)
        future: Future[int] = Future()
        if self.error:
            future.set_exception(self.error)
        else:
            future.set_result(1)
        return future


class Door:
    def __init__(self, behind: Behind, token: str = "", queue_bytes_max: int = 8 * LIMIT) -> None:
        self.intake = Intake(behind.submit, Telemetry(), token, LIMIT, queue_bytes_max)
        self.server = OtlpGrpc(self.intake, "127.0.0.1:0")
        self.server.start()
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.server.port}")

    def call(self, body: bytes, method: str = METHOD, gzip: bool = False, token: str = "") -> bytes:
        send: Callable[..., bytes] = self.channel.unary_unary(method, None, None)
        return send(
            body,
            timeout=PATIENCE_S,
            compression=grpc.Compression.Gzip if gzip else grpc.Compression.NoCompression,
            metadata=(("authorization", token),) if token else (),
        )

    def refusal(self, body: bytes, **more: object) -> tuple[grpc.StatusCode, str, int | None]:
        """Code, text and the seconds of RetryInfo (None where there is none)."""
        with pytest.raises(grpc.RpcError) as caught:
            self.call(body, **more)  # type: ignore[arg-type]
        error = caught.value
        assert isinstance(error, grpc.Call)
        seconds = None
        for key, value in error.trailing_metadata() or ():
            if key == "grpc-status-details-bin":
                status = status_pb2.Status.FromString(value)
                assert status.message == error.details()
                for detail in status.details:
                    retry = error_details_pb2.RetryInfo()
                    assert detail.Unpack(retry)
                    seconds = retry.retry_delay.seconds
        return error.code(), error.details() or "", seconds

    def close(self) -> None:
        self.channel.close()
        self.server.stop(PATIENCE_S)


@pytest.fixture
def behind() -> Behind:
    return Behind()


@pytest.fixture
def door(behind: Behind) -> Iterator[Door]:
    door = Door(behind)
    yield door
    door.close()


def traces(spans: int = 1, padding: int = 0, span_id: bytes = b"") -> bytes:
    request = trace_service_pb2.ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for n in range(1, spans + 1):
        span = scope.spans.add(trace_id=b"t" * 16, span_id=span_id or n.to_bytes(8, "big"), name=f"n{n}")
        if padding:
            span.attributes.add(key="padding").value.string_value = "x" * padding
    return request.SerializeToString()


@pytest.mark.parametrize("gzip", [False, True])
def test_traces(door: Door, behind: Behind, gzip: bool) -> None:
    assert door.call(traces(3), gzip=gzip) == b""
    assert [span.name for span in behind.batches[0].spans] == ["n1", "n2", "n3"]


def test_metrics_and_logs(door: Door, behind: Behind) -> None:
    points = metrics_service_pb2.ExportMetricsServiceRequest()
    metric = points.resource_metrics.add().scope_metrics.add().metrics.add(name="m")
    metric.gauge.data_points.add(as_int=1, time_unix_nano=1)
    door.call(points.SerializeToString(), "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export")
    events = logs_service_pb2.ExportLogsServiceRequest()
    events.resource_logs.add().scope_logs.add().log_records.add(time_unix_nano=1, event_name="e")
    door.call(events.SerializeToString(), "/opentelemetry.proto.collector.logs.v1.LogsService/Export")
    assert [len(batch.points) for batch in behind.batches] == [1, 0]
    assert [len(batch.events) for batch in behind.batches] == [0, 1]


def test_partial_success(door: Door) -> None:
    answer = trace_service_pb2.ExportTraceServiceResponse.FromString(door.call(traces(2, span_id=b"\0" * 8)))
    assert answer.partial_success.rejected_spans == 2


def test_bad_data_is_not_to_be_sent_again(door: Door) -> None:
    code, details, retry = door.refusal(b"\xff\xff")
    assert (code, retry) == (grpc.StatusCode.INVALID_ARGUMENT, None)
    assert details


def test_busy_says_when_to_try_again(door: Door, behind: Behind) -> None:
    behind.error = Busy("disk: full", "make room", retry_after_s=7)
    assert door.refusal(traces()) == (grpc.StatusCode.UNAVAILABLE, "disk: full; make room", 7)


def test_over_capacity(behind: Behind) -> None:
    door = Door(behind, queue_bytes_max=2 * LIMIT)
    door.intake.room.take(LIMIT - 500)
    code, _, retry = door.refusal(traces(1, padding=1000))
    assert code == grpc.StatusCode.UNAVAILABLE
    assert retry is not None
    assert behind.batches == []
    door.intake.room.give(LIMIT - 500)
    door.call(traces(1, padding=1000))
    door.close()


def test_a_bug_of_ours_is_internal(door: Door, behind: Behind, capsys: pytest.CaptureFixture[str]) -> None:
    behind.error = TypeError("oops")
    code, details, retry = door.refusal(traces())
    assert (code, retry) == (grpc.StatusCode.INTERNAL, None)
    assert "oops" not in details
    assert "oops" in capsys.readouterr().err


@pytest.mark.parametrize("size", [LIMIT + 10, 2 * LIMIT])
def test_too_large(door: Door, behind: Behind, size: int) -> None:
    code, _, retry = door.refusal(traces(1, padding=size))
    assert (code, retry) == (grpc.StatusCode.RESOURCE_EXHAUSTED, None)
    assert behind.batches == []


def test_the_limit_itself_is_taken(door: Door) -> None:
    empty = len(traces(1, padding=LIMIT // 2)) - LIMIT // 2
    assert door.call(traces(1, padding=LIMIT - empty)) == b""


def test_a_bomb_is_refused(door: Door, behind: Behind) -> None:
    code, _, _ = door.refusal(traces(1, padding=64 * LIMIT), gzip=True)
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert behind.batches == []


def test_tokens(behind: Behind) -> None:
    door = Door(behind, token=TOKEN)
    for wrong in ("", "Bearer wrong", TOKEN):
        assert door.refusal(traces(), token=wrong)[0] == grpc.StatusCode.UNAUTHENTICATED
    assert behind.batches == []
    door.call(traces(), token=f"Bearer {TOKEN}")
    assert len(behind.batches) == 1
    door.close()


def test_an_unknown_method(door: Door) -> None:
    code, _, _ = door.refusal(b"", method="/opentelemetry.proto.collector.trace.v1.TraceService/Import")
    assert code == grpc.StatusCode.UNIMPLEMENTED


def test_a_port_that_is_taken(door: Door) -> None:
    with pytest.raises(ConfigError) as caught:
        OtlpGrpc(door.intake, f"127.0.0.1:{door.server.port}")
    assert str(door.server.port) in caught.value.what
