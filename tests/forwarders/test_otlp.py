"""OTLP out: over HTTP and gRPC, against servers that take, refuse and break, and into another Tachograph."""

from __future__ import annotations

import gzip
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from fillings import price
from recordings import CAPTURES, prepared, requests
from tachograph import ledger
from tachograph.cli import recordings
from tachograph.destinations import SIGNALS, Destination
from tachograph.errors import Busy, ConfigError, Rejected
from tachograph.forwarders import otlp
from tachograph.forwarders.contract import Accepted, Item, Part
from tachograph.model import Batch, Event, Meaning, Point, Source, Span
from tachograph.pipeline import feeding
from tachograph.pipeline.delivering import Delivery
from tachograph.pipeline.progress import Progress
from tachograph.receivers import otlp as receiver
from tachograph.scan import Match, Scan
from tachograph.store.contract import Store
from tachograph.store.duckdb import open_store

SOURCE = Source({"service.name": "tester"})
TRACE = "0af7651916cd43dd8448eb211c80319c"


class Got(NamedTuple):
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes


class Sink:
    """What a server got, and what it answers: (status, headers, body)."""

    def __init__(self) -> None:
        self.got: list[Got] = []
        self.answer: Callable[[Got], tuple[int, dict[str, str], bytes]] = lambda got: (200, {}, b"")
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@pytest.fixture
def sink() -> Iterator[Sink]:
    """An HTTP server that says what the test wants."""
    sink = Sink()

    class Door(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            got = Got(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
            sink.got.append(got)
            status, headers, said = sink.answer(got)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Door) as server:
        sink.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield sink
        server.shutdown()
        thread.join()


def span(number: int = 1) -> Span:
    return Span(SOURCE, TRACE, f"{number:016x}", "", f"span {number}", 1, 1, 2, {"number": number})


def parts(*records: Span | Event | Point, route: str = "traces") -> list[Part]:
    return [Part(Item(str(number), number, one), route, one) for number, one in enumerate(records)]


def sender(endpoint: str, *, signals: tuple[str, ...] = ("traces",), **options: Any) -> Any:
    destination = Destination("acme", "otlp", "acme", {"endpoint": endpoint, **options}, signals=signals)
    return closing(otlp.make(destination, {}))


# -- HTTP --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["http/protobuf", "http/json"])
@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_spans_go_to_their_path_in_the_encoding_that_is_wanted(sink: Sink, protocol: str, compression: str) -> None:
    with sender(f"{sink.url}/base/", protocol=protocol, compression=compression, headers={"X-Key": "k"}) as forwarder:
        assert forwarder.send("traces", parts(span(1), span(2))) == Accepted("200")
    got = sink.got[0]
    assert got.path == "/base/v1/traces"
    assert got.headers["x-key"] == "k"
    assert got.headers.get("content-encoding", "none") == compression
    told = receiver.decode("traces", got.body, got.headers["content-type"])
    assert [one.span_id for one in told.spans] == [f"{number:016x}" for number in (1, 2)]


def test_an_address_of_a_signal_is_used_as_it_is(sink: Sink) -> None:
    with sender(
        "http://127.0.0.1:1", traces_endpoint=f"{sink.url}/my/traces/", traces_protocol="http/json"
    ) as forwarder:
        forwarder.send("traces", parts(span()))
    assert sink.got[0].path == "/my/traces/"
    assert sink.got[0].headers["content-type"] == "application/json"


def test_attributes_of_the_settings_fill_resources_and_replace_nothing(sink: Sink) -> None:
    with sender(sink.url, resource={"service.name": "other", "team": "blue"}) as forwarder:
        forwarder.send("traces", parts(span()))
    request = ExportTraceServiceRequest.FromString(sink.got[0].body)
    told = {one.key: one.value.string_value for one in request.resource_spans[0].resource.attributes}
    assert told == {"service.name": "tester", "team": "blue"}


@pytest.mark.parametrize("is_json", [False, True])
def test_what_the_destination_left_out_is_told(sink: Sink, is_json: bool) -> None:
    left_out = ExportTracePartialSuccess(rejected_spans=1, error_message="too old")
    body = ExportTraceServiceResponse(partial_success=left_out).SerializeToString()
    media_type = "application/x-protobuf"
    if is_json:
        body, media_type = b'{"partialSuccess":{"rejectedSpans":"1","errorMessage":"too old"}}', "application/json"
    sink.answer = lambda got: (200, {"content-type": media_type}, body)
    with sender(sink.url) as forwarder:
        assert forwarder.send("traces", parts(span(1), span(2))) == Accepted("200", 1, "too old")


@pytest.mark.parametrize("body", [b"\xff\xff\xff", b"{", b"[]", b'{"partialSuccess":{"rejectedSpans":[]}}', b"ok"])
@pytest.mark.parametrize("media_type", ["application/json", "application/x-protobuf", "text/plain"])
def test_a_good_answer_that_says_nothing_sensible_is_good(sink: Sink, body: bytes, media_type: str) -> None:
    sink.answer = lambda got: (200, {"content-type": media_type}, body)
    with sender(sink.url) as forwarder:
        assert forwarder.send("traces", parts(span())).answer == "200"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (429, Busy),
        (502, Busy),
        (503, Busy),
        (504, Busy),
        (500, Busy),
        (400, Rejected),
        (413, Rejected),
        (401, ConfigError),
        (404, ConfigError),
    ],
)
def test_answers_mean_what_the_specification_says(sink: Sink, status: int, kind: type[Exception]) -> None:
    sink.answer = lambda got: (status, {"retry-after": "7"}, b"")
    with sender(sink.url) as forwarder, pytest.raises(kind) as raised:
        forwarder.send("traces", parts(span()))
    if isinstance(raised.value, Busy):
        assert raised.value.retry_after_s == 7


def test_a_probe_leaves_no_trace(sink: Sink) -> None:
    with sender(sink.url, signals=("traces", "logs", "metrics")) as forwarder:
        assert forwarder.probe().answer == "200"
    assert [(got.path, got.body) for got in sink.got] == [(f"/v1/{one}", b"") for one in ("traces", "logs", "metrics")]


# -- gRPC --------------------------------------------------------------------------------------------------------------


class Trailers(grpc.Status):
    """A status with what a server says beyond it."""

    def __init__(self, code: grpc.StatusCode, retry_s: int | None) -> None:
        status = status_pb2.Status(code=code.value[0], message="said so")
        if retry_s is not None:
            packed = any_pb2.Any()
            packed.Pack(error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=retry_s)))
            status.details.append(packed)
        self.code, self.details = code, "said so"
        self.trailing_metadata = (("grpc-status-details-bin", status.SerializeToString()),)


@pytest.fixture
def grpc_sink() -> Iterator[Sink]:
    """A gRPC server; an answer's status is the number of the gRPC code, and `retry` in its headers a RetryInfo."""
    sink = Sink()
    codes = {code.value[0]: code for code in grpc.StatusCode}

    def handler(name: str) -> Any:
        def answer(body: bytes, context: Any) -> bytes:
            got = Got(f"/{name}/Export", dict(context.invocation_metadata()), body)
            sink.got.append(got)
            status, headers, said = sink.answer(got)
            if status not in (0, 200):
                context.abort_with_status(Trailers(codes[status], int(headers["retry"]) if headers else None))
            return said

        return grpc.method_handlers_generic_handler(name, {"Export": grpc.unary_unary_rpc_method_handler(answer)})

    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers(tuple(map(handler, receiver.SERVICES.values())))
    sink.port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield sink
    server.stop(None).wait()


@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_spans_go_to_their_service(grpc_sink: Sink, compression: str) -> None:
    left_out = ExportTracePartialSuccess(rejected_spans=1, error_message="too old")
    said = ExportTraceServiceResponse(partial_success=left_out).SerializeToString()
    grpc_sink.answer = lambda got: (0, {}, said)
    headers = {"X-Key": "k"}
    with sender(grpc_sink.url, protocol="grpc", compression=compression, headers=headers) as forwarder:
        assert forwarder.send("traces", parts(span(1), span(2))) == Accepted("OK", 1, "too old")
    got = grpc_sink.got[0]
    assert got.path == "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
    assert got.headers["x-key"] == "k"
    assert len(receiver.decode("traces", got.body, "application/x-protobuf").spans) == 2


def test_an_address_without_a_scheme_is_plain_where_it_says_so(grpc_sink: Sink) -> None:
    with sender(f"127.0.0.1:{grpc_sink.port}", protocol="grpc", insecure=True) as forwarder:
        forwarder.probe()
    assert grpc_sink.got[0].body == b""


@pytest.mark.parametrize(
    ("code", "retry_s", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, 9, Busy),
        (grpc.StatusCode.ABORTED, None, Busy),
        (grpc.StatusCode.OUT_OF_RANGE, None, Busy),
        (grpc.StatusCode.DATA_LOSS, None, Busy),
        (grpc.StatusCode.CANCELLED, None, Busy),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, 9, Busy),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, None, Rejected),
        (grpc.StatusCode.INVALID_ARGUMENT, None, Rejected),
        (grpc.StatusCode.FAILED_PRECONDITION, None, Rejected),
        (grpc.StatusCode.UNAUTHENTICATED, None, ConfigError),
        (grpc.StatusCode.PERMISSION_DENIED, None, ConfigError),
        (grpc.StatusCode.UNIMPLEMENTED, None, ConfigError),
        (grpc.StatusCode.INTERNAL, None, Busy),
        (grpc.StatusCode.UNKNOWN, None, Busy),
    ],
)
def test_codes_mean_what_the_specification_says(
    grpc_sink: Sink, code: grpc.StatusCode, retry_s: int | None, kind: type[Exception]
) -> None:
    grpc_sink.answer = lambda got: (code.value[0], {} if retry_s is None else {"retry": str(retry_s)}, b"")
    with sender(grpc_sink.url, protocol="grpc") as forwarder, pytest.raises(kind) as raised:
        forwarder.send("traces", parts(span()))
    if isinstance(raised.value, Busy) and retry_s is not None:
        assert raised.value.retry_after_s == retry_s


def test_nobody_there_is_busy() -> None:
    with sender("http://127.0.0.1:9", protocol="grpc", timeout=5.0) as forwarder, pytest.raises(Busy):
        forwarder.send("traces", parts(span()))


def test_tls_to_a_plain_server_is_for_the_operator(grpc_sink: Sink) -> None:
    address = grpc_sink.url.replace("http", "https")
    with sender(address, protocol="grpc", timeout=5.0) as forwarder, pytest.raises(ConfigError):
        forwarder.send("traces", parts(span()))


# -- settings ----------------------------------------------------------------------------------------------------------


def test_no_endpoint_is_no_destination() -> None:
    assert otlp.from_environment({}) is None
    assert otlp.from_environment({"OTEL_EXPORTER_OTLP_ENDPOINT": " ", "OTEL_EXPORTER_OTLP_HEADERS": "a=b"}) is None
    assert otlp.from_environment({"OTEL_EXPORTER_OTLP_PROTOCOL": "another program's"}) is None


def test_variables_of_opentelemetry_name_a_destination() -> None:
    found = otlp.from_environment(
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": "https://collector.example:4318/",
            "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Basic%20YTpi, x-scope = team%2Ca ;ignored",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "2500",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
            "OTEL_EXPORTER_OTLP_INSECURE": "TRUE",
            "OTEL_EXPORTER_OTLP_CERTIFICATE": "/ca.pem",
            "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "https://logs.example/in",
            "OTEL_EXPORTER_OTLP_LOGS_HEADERS": "x=y",
            "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "grpc",
            "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "LowMemory",
            "OTEL_METRICS_EXPORTER": "otlp,console",
            "OTEL_RESOURCE_ATTRIBUTES": "team=blue%2Cgreen,host=a",
            "OTEL_SERVICE_NAME": "agents",
        }
    )
    assert found is not None
    assert found.signals == ("traces", "logs", "metrics")
    assert found.options["temporality"] == "delta"
    assert found.options["resource"] == {"team": "blue,green", "host": "a", "service.name": "agents"}
    traces, logs, metrics = (otlp.connection(found, signal) for signal in found.signals)
    assert traces.headers == {"authorization": "Basic YTpi", "x-scope": "team,a"}
    assert (traces.timeout_s, traces.is_gzipped, traces.is_insecure, traces.certificate) == (
        2.5,
        False,
        True,
        "/ca.pem",
    )
    assert (logs.endpoint, logs.is_whole, logs.headers) == ("https://logs.example/in", True, {"x": "y"})
    assert (metrics.protocol, metrics.is_whole) == ("grpc", False)
    assert otlp.address(found) == "https://collector.example:4318/, https://logs.example/in"


def test_one_signal_alone() -> None:
    found = otlp.from_environment(
        {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://a:1/x", "OTEL_TRACES_EXPORTER": "otlp"}
    )
    assert found is not None
    assert found.signals == ("traces",)
    assert (
        otlp.from_environment({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://a:1", "OTEL_TRACES_EXPORTER": "none"})
        is None
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization: Bearer sk-ant-abcdefgh12345678"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=sk-ant-abcdefgh12345678%ff"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=sk-ant-abcdefgh12345678%0a"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
        ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "zstd"),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "both"),
    ],
)
def test_a_wrong_variable_is_named_and_no_secret_repeated(name: str, value: str) -> None:
    with pytest.raises(ConfigError) as raised:
        otlp.from_environment({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:1", name: value})
    assert raised.value.what.startswith(f"{name}: got ")
    assert "sk-ant" not in str(raised.value) + raised.value.hint


def test_every_setting_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "destinations" / "otlp.md").read_text(encoding="utf-8")
    names = [option.name for option in otlp.OPTIONS if not option.name.startswith(("traces_", "logs_", "metrics_"))]
    assert [name for name in names if f"`{name}`" not in page] == []
    assert all(
        f"{signal}_{name}" in {option.name for option in otlp.OPTIONS} for signal in SIGNALS for name in names[:9]
    )


def test_what_was_read_from_a_file_keeps_its_session(sink: Sink) -> None:
    meant = Meaning(session_id="s1")
    told = [
        Event(SOURCE, 1, "user", {}, origin="transcript", meaning=meant),
        Event(SOURCE, 1, "sent", {}, meaning=meant),
    ]
    with sender(sink.url, signals=("logs",), protocol="http/json") as forwarder:
        items = [Item(str(i), 1, one) for i, one in enumerate(told)]
        made = [part.value.attributes for part in forwarder.convert(items, {})]
    means = {"tachograph.meaning": '{"session_id":"s1"}', "tachograph.origin": "transcript"}
    means["tachograph.layout"] = '{"added":["session.id"],"texts":[]}'
    assert made == [means | {"session.id": "s1"}, {}]  # what came by OTLP goes as it came


def test_http_needs_a_scheme() -> None:
    with pytest.raises(ConfigError, match=r"^acme: endpoint: got .* scheme"), sender("localhost:4318"):
        pass
    named = otlp.from_environment({"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "localhost:4318"})
    assert named is not None
    with pytest.raises(ConfigError, match=r"^OTEL_EXPORTER_OTLP_LOGS_ENDPOINT: logs_endpoint: got .* scheme"):
        otlp.address(named)


def test_an_address_is_shown_without_what_is_secret_in_it() -> None:
    destination = Destination("a", "otlp", "a", {"endpoint": "https://me:secret@host/p?key=secret"})
    assert otlp.address(destination) == "https://host/p"


# -- into another Tachograph -------------------------------------------------------------------------------------------


def settled(store: Store, *batches: Batch) -> None:
    if batches:
        store.commit(list(batches))
    while ledger.settle(store, price):
        pass


def calls(store: Store) -> Counter[tuple[Any, ...]]:
    names = (
        "agent",
        "session_id",
        "model",
        "status",
        "input_tokens",
        "output_tokens",
        "cost_nanousd",
        "start_ns",
        "end_ns",
    )
    rows = store.scan(Scan("calls", {name: name for name in names}))
    return Counter(zip(*(rows.data[name] for name in names), strict=True))


def sent(store: Store, table: str, names: tuple[str, ...], *where: Match) -> list[dict[str, Any]]:
    """The rows of a table without the spans that are still open, which are sent once they have ended."""
    more = () if table == "samples" else ("attributes",)
    rows = store.scan(Scan(table, {name: name for name in (*names, *more)}, where)).rows()
    return [row for row in rows if not (row.get("attributes") or {}).get("tachograph.is_open")]


def meanings(store: Store) -> Counter[tuple[Any, ...]]:
    """What the records of files and hooks are understood as."""
    names = ("name", "dialect", "role", "session_id", "prompt_id", "tool_name", "output_tokens", "is_error")
    found: Counter[tuple[Any, ...]] = Counter()
    told = {"spans": Match("agent", "in", ["pi", "openclaw"]), "events": Match("origin", "in", ["hook", "transcript"])}
    for table, more in (("spans", ("kind",)), ("events", ("origin", "duration_ns"))):
        rows = sent(store, table, (*names, *more), told[table])
        found.update(tuple(row[name] for name in (*names, *more)) for row in rows)
    return found


def identities(store: Store) -> Counter[tuple[Any, ...]]:
    """The ids of events, and what spans mean."""
    found = Counter(("event", row["event_id"]) for row in sent(store, "events", ("event_id",)))
    names = ("trace_id", "span_id", "name", "dialect", "role", "session_id", "prompt_id", "tool_name", "is_error")
    found.update(tuple(row[name] for name in names) for row in sent(store, "spans", names))
    return found


SETS = (
    "claude-code-content",
    "codex-json",
    "copilot-cli-content",
    "gemini-cli-grpc",
    "opencode-tools",
    "py-crewai-traceloop",
)


@pytest.mark.parametrize("protocol", ["http/protobuf", "http/json"])
def test_another_tachograph_has_the_same_ledger(sink: Sink, tmp_path: Path, protocol: str) -> None:
    batches = [batch for name in SETS for batch in requests(CAPTURES / name)]
    into_another(sink, tmp_path, batches, protocol)


def test_another_tachograph_has_what_only_files_and_hooks_told_of(sink: Sink, tmp_path: Path) -> None:
    batches = [batch for part in recordings.parts_of([CAPTURES]) for batch in recordings.read(part)]
    into_another(sink, tmp_path, batches, "http/protobuf")


def into_another(sink: Sink, tmp_path: Path, batches: list[Batch], protocol: str) -> None:
    now_ns = 1_795_300_000_000_000_000
    with (
        closing(open_store(tmp_path / "a", lambda: now_ns)) as a,
        closing(open_store(tmp_path / "b", lambda: now_ns)) as b,
    ):

        def take(got: Got) -> tuple[int, dict[str, str], bytes]:
            batch = receiver.decode(got.path.removeprefix("/v1/"), got.body, got.headers["content-type"])
            assert not batch.rejected
            b.commit([prepared(batch, "full")])
            return 200, {}, b""

        sink.answer = take
        progress = Progress(tmp_path / "forwarding.sqlite3")
        to = Destination("b", "otlp", "b", {"endpoint": sink.url, "protocol": protocol}, privacy="full")
        forwarder = otlp.make(to, {})
        feeds = feeding.feeds(a, to, forwarder.feeds, (), forwarder.derived_signal)
        delivery = Delivery("b", forwarder, feeds, a, progress, lambda: now_ns, lambda: 0.5)
        settled(a, *(prepared(batch, "full") for batch in batches))
        while delivery.round() == 0:
            pass
        delivery.close()
        progress.close()
        settled(b)
        assert delivery.state.refused == 0
        assert calls(a).total() > 20
        assert calls(b) == calls(a)
        for table in ("spans", "events", "samples"):
            assert len(sent(b, table, ("seq",))) == len(sent(a, table, ("seq",)))
        assert meanings(b) == meanings(a)
        assert identities(b) == identities(a)
