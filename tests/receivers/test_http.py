"""The HTTP door: real requests to a real socket; what is behind the road stands in, so that it can be told to fail."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing

import pytest
from google.rpc import status_pb2  # type: ignore[import-untyped]
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from tachograph.config import Address
from tachograph.errors import Busy, Corrupt, Rejected
from tachograph.model import Batch
from tachograph.receivers.intake import Intake
from tachograph.receivers.otlp_http import OtlpHttp
from tachograph.server import HttpDoor
from tachograph.telemetry import Telemetry

PROTOBUF = "application/x-protobuf"
JSON = "application/json"
PATIENCE_S = 60
LIMIT = 1 << 20
TOKEN = "a-token-that-is-long-enough"


class Behind:
    """What stands behind the door: takes batches, and answers what a test tells it to."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.answer: Callable[[], Future[int]] = self.kept

    def kept(self) -> Future[int]:
        future: Future[int] = Future()
        future.set_result(1)
        return future

    def failing(self, error: Exception) -> Callable[[], Future[int]]:
        future: Future[int] = Future()
        future.set_exception(error)
        return lambda: future

    def submit(self, batch: Batch) -> Future[int]:
        self.batches.append(batch)
        return self.answer()


class Answer:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read()

    def message(self) -> str:
        """The text of the google.rpc.Status, whatever its encoding."""
        if self.headers["content-type"] == PROTOBUF:
            return str(status_pb2.Status.FromString(self.body).message)
        return str(json.loads(self.body)["message"])


class Door:
    def __init__(self, behind: Behind, token: str = "", queue_bytes_max: int = 8 * LIMIT) -> None:
        self.behind = behind
        self.workers = ThreadPoolExecutor(2)
        self.intake = Intake(behind.submit, Telemetry(), token, LIMIT, queue_bytes_max)
        self.door = HttpDoor("otlp_http", Address("127.0.0.1", 0), OtlpHttp(self.intake, self.workers))
        self.port = self.door.address.port

    def send(self, method: str, path: str, body: object = b"", headers: dict[str, str] | None = None) -> Answer:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)) as connection:
            connection.request(method, path, body, headers or {})  # type: ignore[arg-type]
            return Answer(connection.getresponse())

    def post(self, path: str, body: object = b"", media_type: str = PROTOBUF, **headers: str) -> Answer:
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.send("POST", path, body, {"content-type": media_type} | more)

    def close(self) -> None:
        self.door.close()
        self.workers.shutdown()


@pytest.fixture(scope="module")
def opened() -> Iterator[Door]:
    door = Door(Behind())
    yield door
    door.close()


@pytest.fixture(scope="module")
def opened_guarded(opened: Door) -> Iterator[Door]:
    door = Door(opened.behind, token=TOKEN)
    yield door
    door.close()


@pytest.fixture
def behind(opened: Door) -> Behind:
    opened.behind.batches.clear()
    opened.behind.answer = opened.behind.kept
    return opened.behind


@pytest.fixture
def door(opened: Door, behind: Behind) -> Door:
    return opened


@pytest.fixture
def guarded(opened_guarded: Door, behind: Behind) -> Door:
    return opened_guarded


def traces(spans: int = 1, padding: int = 0, span_id: bytes = b"") -> bytes:
    request = trace_service_pb2.ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for n in range(1, spans + 1):
        span = scope.spans.add(trace_id=b"t" * 16, span_id=span_id or n.to_bytes(8, "big"), name=f"n{n}")
        span.start_time_unix_nano = 1
        if padding:
            span.attributes.add(key="padding").value.string_value = "x" * padding
    return request.SerializeToString()


def metrics() -> bytes:
    request = metrics_service_pb2.ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="m")
    metric.gauge.data_points.add(as_int=1, time_unix_nano=1)
    return request.SerializeToString()


def logs() -> bytes:
    request = logs_service_pb2.ExportLogsServiceRequest()
    request.resource_logs.add().scope_logs.add().log_records.add(time_unix_nano=1, event_name="e")
    return request.SerializeToString()


JSON_TRACES = json.dumps(
    {"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "ab" * 16, "spanId": "cd" * 8, "name": "n"}]}]}]}
).encode()


@pytest.mark.parametrize(("signal", "body"), [("traces", traces()), ("metrics", metrics()), ("logs", logs())])
def test_all_signals_in_protobuf(door: Door, behind: Behind, signal: str, body: bytes) -> None:
    answer = door.post(f"/v1/{signal}", body)
    assert (answer.status, answer.body, answer.headers["content-type"]) == (200, b"", PROTOBUF)
    batch = behind.batches[0]
    assert (len(batch.spans), len(batch.points), len(batch.events)) == tuple(
        int(signal == name) for name in ("traces", "metrics", "logs")
    )


def test_json_is_answered_in_json(door: Door, behind: Behind) -> None:
    answer = door.post("/v1/traces", JSON_TRACES, "Application/JSON; charset=utf-8")
    assert (answer.status, answer.headers["content-type"]) == (200, JSON)
    assert json.loads(answer.body) == {}
    assert behind.batches[0].spans[0].trace_id == "ab" * 16


def test_an_empty_request_succeeds(door: Door) -> None:
    assert door.post("/v1/traces").status == 200
    assert door.post("/v1/logs", b"{}", JSON).status == 200


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "identity"])
def test_encodings(door: Door, behind: Behind, encoding: str) -> None:
    body = traces(3)
    packed = {"gzip": gzip.compress(body), "deflate": zlib.compress(body), "identity": body}
    assert door.post("/v1/traces", packed[encoding], content_encoding=encoding).status == 200
    assert len(behind.batches[0].spans) == 3


def test_zstd(door: Door, behind: Behind) -> None:
    import zstandard

    packed = zstandard.ZstdCompressor().compress(traces(3))
    assert door.post("/v1/traces", packed, content_encoding="zstd").status == 200
    assert len(behind.batches[0].spans) == 3


def test_chunked_transfer(door: Door, behind: Behind) -> None:
    body = traces(50, padding=500)
    chunks = iter([body[:10], body[10:7000], body[7000:]])
    assert door.post("/v1/traces", chunks).status == 200
    assert len(behind.batches[0].spans) == 50


def test_a_long_body_is_decoded_apart(door: Door, behind: Behind) -> None:
    assert door.post("/v1/traces", traces(200, padding=1000)).status == 200
    assert len(behind.batches[0].spans) == 200


def test_one_connection_takes_many_requests(door: Door, behind: Behind) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", door.port, timeout=PATIENCE_S)) as connection:
        for n in range(5):
            wrong = n % 2
            connection.request("POST", "/nowhere" if wrong else "/v1/traces", traces(), {"content-type": PROTOBUF})
            assert Answer(connection.getresponse()).status == (404 if wrong else 200)
    assert len(behind.batches) == 3


def test_nothing_is_answered_before_it_is_kept(door: Door, behind: Behind) -> None:
    kept: Future[int] = Future()
    behind.answer = lambda: kept
    answers: list[Answer] = []
    sender = threading.Thread(target=lambda: answers.append(door.post("/v1/traces", traces())))
    sender.start()
    while not behind.batches:
        sender.join(0.001)
    assert sender.is_alive()
    assert answers == []
    kept.set_result(1)
    sender.join(PATIENCE_S)
    assert answers[0].status == 200


def test_partial_success_counts_and_says_why(door: Door) -> None:
    answer = door.post("/v1/traces", traces(2, span_id=b"\0" * 8))
    assert answer.status == 200
    partial = trace_service_pb2.ExportTraceServiceResponse.FromString(answer.body).partial_success
    assert partial.rejected_spans == 2
    assert partial.error_message


@pytest.mark.parametrize(
    ("path", "media_type", "body", "encoding", "status"),
    [
        ("/v1/traces", PROTOBUF, b"\xff\xff\xff", "", 400),
        ("/v1/traces", JSON, b"{", "", 400),
        ("/v1/traces", JSON, b'{"resourceSpans": 1}', "", 400),
        ("/v1/traces", PROTOBUF, b"not gzip", "gzip", 400),
        ("/v1/traces", "text/plain", b"hello", "", 415),
        ("/v1/traces", "", b"", "", 415),
        ("/v1/traces", PROTOBUF, b"x", "br", 415),
    ],
)
def test_bad_requests(door: Door, path: str, media_type: str, body: bytes, encoding: str, status: int) -> None:
    answer = door.post(path, body, media_type, content_encoding=encoding)
    assert answer.status == status
    assert answer.headers["content-type"] == (PROTOBUF if media_type == PROTOBUF else JSON)
    assert answer.message()
    assert "retry-after" not in answer.headers


@pytest.mark.parametrize("media_type", [PROTOBUF, JSON])
def test_errors_come_in_the_encoding_of_the_request(door: Door, media_type: str) -> None:
    answer = door.post("/v1/traces", b"{", media_type)
    assert answer.status == 400
    assert answer.headers["content-type"] == media_type


def test_a_body_over_the_limit(door: Door, behind: Behind) -> None:
    body = traces(1, padding=LIMIT + 1)
    for sent in (body, iter([body[: LIMIT // 2], body[LIMIT // 2 :]])):
        answer = door.post("/v1/traces", sent)
        assert answer.status == 413
        assert str(LIMIT) in answer.message()
    assert behind.batches == []


def test_a_bomb_is_not_inflated(door: Door, behind: Behind) -> None:
    bomb = gzip.compress(b"\0" * (64 * LIMIT))
    answer = door.post("/v1/traces", bomb, content_encoding="gzip")
    assert answer.status == 413
    assert behind.batches == []


def test_the_limit_itself_is_taken(door: Door, behind: Behind) -> None:
    empty = len(traces(1, padding=LIMIT // 2)) - LIMIT // 2
    body = traces(1, padding=LIMIT - empty)
    assert len(body) == LIMIT
    assert door.post("/v1/traces", body).status == 200


@pytest.mark.parametrize(
    ("error", "status", "retry"),
    [
        (Busy("disk: full", retry_after_s=7), 503, "7"),
        (Corrupt("file: broken"), 503, "60"),
        (Rejected("no"), 400, None),
        (TypeError("oops"), 500, None),
    ],
)
def test_errors_of_the_commit(
    door: Door,
    behind: Behind,
    error: Exception,
    status: int,
    retry: str | None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    behind.answer = behind.failing(error)
    answer = door.post("/v1/traces", traces())
    assert answer.status == status
    assert answer.headers.get("retry-after") == retry
    assert "oops" not in answer.message(), "a bug is not explained to the sender"
    assert ("oops" in capsys.readouterr().err) is (status == 500)


def test_over_capacity_is_busy_and_memory_stays_bounded(behind: Behind) -> None:
    door = Door(behind, queue_bytes_max=2 * LIMIT)
    kept: Future[int] = Future()
    behind.answer = lambda: kept
    body = traces(1, padding=LIMIT * 2 // 3)
    answers: list[Answer] = []
    sender = threading.Thread(target=lambda: answers.append(door.post("/v1/traces", body)))
    sender.start()
    while not behind.batches:
        sender.join(0.001)
    busy = door.post("/v1/traces", body)
    assert busy.status == 503
    assert int(busy.headers["retry-after"]) >= 1
    assert len(behind.batches) == 1
    kept.set_result(1)
    sender.join(PATIENCE_S)
    assert answers[0].status == 200
    behind.answer = behind.kept
    assert door.post("/v1/traces", body).status == 200, "the room was given back"
    door.close()


def test_a_sender_that_hangs_up_leaves_nothing(door: Door, behind: Behind) -> None:
    with closing(socket.create_connection(("127.0.0.1", door.port))) as raw:
        raw.sendall(b"POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\n")
        raw.sendall(b"content-length: 100000\r\n\r\n" + b"x" * 1000)
    assert door.post("/v1/traces", traces()).status == 200
    assert len(behind.batches) == 1


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", "/v1/traces, /v1/metrics or /v1/logs"),
        ("/v1/traces/v1/metrics", "expected /v1/metrics"),
        ("/v1/trace", "expected /v1/traces"),
        ("/api/public/otel", "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:"),
        ("/api/public/otel/v1/traces", "expected /v1/traces"),
        ("/v1/log", "expected /v1/logs"),
        ("/v1development/profiles", "profiles are not taken"),
        ("/%ff%00/" + "x" * 5000, "/v1/traces, /v1/metrics or /v1/logs"),
    ],
)
@pytest.mark.parametrize("media_type", [PROTOBUF, JSON, "text/plain"])
def test_a_wrong_path_is_told_the_right_one(door: Door, path: str, expected: str, media_type: str) -> None:
    answer = door.post(path, b"x", media_type)
    assert answer.status == 404
    assert expected in answer.message()
    assert len(answer.message()) < 800


@pytest.mark.parametrize("path", ["/v1/traces/", "//v1/traces"])
def test_a_slash_too_many_is_forgiven(door: Door, path: str) -> None:
    assert door.post(path, traces()).status == 200


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
def test_other_methods(door: Door, method: str) -> None:
    answer = door.send(method, "/v1/traces")
    assert answer.status == 405
    assert answer.headers["allow"] == "POST, OPTIONS"
    assert "expected POST" in answer.message()


def test_a_person_who_looks_is_told_what_this_is(door: Door) -> None:
    answer = door.send("GET", "/")
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert b"/v1/traces" in answer.body
    assert door.send("HEAD", "/").status == 200
    assert door.send("DELETE", "/").status == 405
    assert door.send("GET", "/favicon.ico").status == 404


@pytest.mark.parametrize(
    "given", ["", "Bearer", "Bearer wrong", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x", "Bearer \xff"]
)
def test_without_the_token(guarded: Door, behind: Behind, given: str) -> None:
    answer = guarded.post("/v1/traces", traces(), authorization=given)
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert TOKEN not in answer.message()
    assert behind.batches == []


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_with_the_token(guarded: Door, scheme: str) -> None:
    assert guarded.post("/v1/traces", traces(), authorization=f"{scheme} {TOKEN}").status == 200


@pytest.mark.parametrize("origin", ["http://localhost:3000", "http://127.0.0.1", "http://[::1]:8080"])
def test_pages_of_this_machine_may_send(door: Door, origin: str) -> None:
    answer = door.send("OPTIONS", "/v1/traces", headers={"origin": origin})
    assert answer.status == 204
    assert answer.headers["access-control-allow-origin"] == origin
    assert "content-type" in answer.headers["access-control-allow-headers"]
    assert door.post("/v1/traces", traces(), origin=origin).headers["access-control-allow-origin"] == origin


@pytest.mark.parametrize("origin", ["https://example.org", "null", "http://localhost.example.org", "http://[", "x"])
def test_other_pages_may_not(door: Door, behind: Behind, origin: str) -> None:
    for answer in (
        door.send("OPTIONS", "/v1/traces", headers={"origin": origin}),
        door.post("/v1/traces", origin=origin),
    ):
        assert answer.status == 403
        assert "access-control-allow-origin" not in answer.headers
    assert behind.batches == []


def test_refusals_are_said_once(behind: Behind, capsys: pytest.CaptureFixture[str]) -> None:
    door = Door(behind)
    for _ in range(3):
        door.post("/said/once")
    door.close()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "tachograph: warning: refused (404): /said/once" in lines[0]
