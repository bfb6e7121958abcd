"""The environment alone: what each variable does to what arrives, through a running delivery."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import trustme

from deliveries import Trip, fill
from fillings import NOON, SECOND
from kinds import otlp_keys
from sink import GrpcSink, Identity, Reply, Request, Sink
from tachograph.errors import Busy, ConfigError
from tachograph.pipeline import routing
from tachograph.store.contract import Store
from tachograph.store.duckdb import open_store

LATER = NOON + 3600 * SECOND
BASE = "OTEL_EXPORTER_OTLP_"
SIGNALS = ("traces", "logs", "metrics")
SERVICES = {
    signal: f"/opentelemetry.proto.collector.{name}/Export"
    for signal, name in (
        ("traces", "trace.v1.TraceService"),
        ("logs", "logs.v1.LogsService"),
        ("metrics", "metrics.v1.MetricsService"),
    )
}
LANGFUSE = {"LANGFUSE_PUBLIC_KEY": "pk-lf-1", "LANGFUSE_SECRET_KEY": "sk-lf-1"}
POSTHOG = {"POSTHOG_API_KEY": "phc_" + "x" * 30}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with closing(open_store(tmp_path_factory.mktemp("variables") / "store", lambda: NOON)) as opened:
        fill(opened, sessions=1)
        yield opened


@pytest.fixture
def sent(tmp_path: Path, store: Store) -> Iterator[Sending]:
    with ExitStack() as opened:
        yield Sending(tmp_path, store, opened)


class Sending:
    """Sends the store to whatever variables name, and has sinks for it."""

    def __init__(self, home: Path, store: Store, opened: ExitStack) -> None:
        self.home, self.store, self.opened = home, store, opened

    def sink(self, tls: Identity | None = None) -> Sink:
        return self.opened.enter_context(Sink(tls=tls))

    def grpc_sink(self, tls: Identity | None = None) -> GrpcSink:
        return self.opened.enter_context(GrpcSink(tls=tls))

    def by(self, environ: Mapping[str, str]) -> Trip:
        """The one destination of the variables, with all that it may have on its way."""
        (destination,) = routing.known({}, environ)
        going = Trip(self.home, self.store, lambda one: routing.route(one, environ).forwarder, destination, LATER)
        self.opened.callback(going.end)
        going.run(lambda: going.delivery.state.failures > 0)
        return going


def paths(requests: list[Request]) -> set[str]:
    return {request.path for request in requests}


def of(requests: list[Request], path: str) -> Request:
    return next(request for request in requests if path in request.path)


# -- OpenTelemetry -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("behind", ["", "/", "/otlp", "/otlp/", "/otlp?key=1"])
def test_the_address_of_all_has_paths_put_behind_it(sent: Sending, behind: str) -> None:
    sink = sent.sink()
    sent.by({BASE + "ENDPOINT": f" {sink.url}{behind} "})
    path, _, query = behind.partition("?")
    expected = {f"{path.rstrip('/')}/v1/{signal}" + (f"?{query}" if query else "") for signal in SIGNALS}
    assert paths(sink.taken) == expected
    assert all(request.headers["content-encoding"] == "gzip" for request in sink.taken)
    assert {request.headers["content-type"] for request in sink.taken} == {"application/x-protobuf"}
    assert len(otlp_keys(sink.taken)) == 25


@pytest.mark.parametrize("behind", ["", "/", "/in", "/in/", "/v1/traces", "/in?key=1"])
def test_an_address_of_a_signal_is_used_as_it_is(sent: Sending, behind: str) -> None:
    sink, other = sent.sink(), sent.sink()
    sent.by({BASE + "ENDPOINT": other.url, BASE + "TRACES_ENDPOINT": sink.url + behind})
    assert paths(sink.taken) == {behind or "/"}
    assert paths(other.taken) == {"/v1/logs", "/v1/metrics"}


def test_a_signal_without_an_address_is_not_sent(sent: Sending) -> None:
    sink = sent.sink()
    sent.by({BASE + "LOGS_ENDPOINT": sink.url + "/logs", BASE + "TRACES_PROTOCOL": "grpc"})
    assert paths(sink.taken) == {"/logs"}


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize("protocol", ["http/protobuf", "http/json", "grpc", " GRPC "])
def test_a_signal_has_everything_of_its_own(sent: Sending, signal: str, protocol: str) -> None:
    """Address, protocol, headers and compression; the other signals keep those of all."""
    is_grpc = "grpc" in protocol.lower()
    other, sink = sent.sink(), sent.grpc_sink() if is_grpc else sent.sink()
    own = f"{BASE}{signal.upper()}_"
    environ = {
        BASE + "ENDPOINT": other.url,
        BASE + "HEADERS": "x-of=all,x-more=1",
        own + "ENDPOINT": sink.url + ("" if is_grpc else "/own"),
        own + "PROTOCOL": protocol,
        own + "HEADERS": "x-of=" + signal,
        own + "COMPRESSION": "none",
        own + "TIMEOUT": "60000",
    }
    sent.by(environ)
    assert paths(sink.taken) == {SERVICES[signal] if is_grpc else "/own"}
    headers = sink.taken[0].headers
    assert headers["x-of"] == signal and "x-more" not in headers
    assert "content-encoding" not in headers and headers.get("grpc-encoding", "identity") == "identity"
    if not is_grpc:
        assert headers["content-type"] == ("application/json" if "json" in protocol else "application/x-protobuf")
    assert paths(other.taken) == {f"/v1/{one}" for one in SIGNALS if one != signal}
    assert {(one.headers["x-of"], one.headers["content-encoding"]) for one in other.taken} == {("all", "gzip")}


def test_everything_over_grpc(sent: Sending) -> None:
    sink = sent.grpc_sink()
    sent.by({BASE + "ENDPOINT": sink.url, BASE + "PROTOCOL": "grpc", BASE + "HEADERS": "Authorization=Bearer%20a"})
    assert paths(sink.taken) == {*SERVICES.values()}
    assert {request.headers["authorization"] for request in sink.taken} == {"Bearer a"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("authorization=Basic%20YTpi", {"authorization": "Basic YTpi"}),
        ("authorization=Basic YTpi==", {"authorization": "Basic YTpi=="}),
        (" a = 1 ,, b=%2C%3D%25 , ", {"a": "1", "b": ",=%"}),
        ("a=1;of=nobody,b=x+y", {"a": "1", "b": "x+y"}),
        ("A=,B=1", {"a": "", "b": "1"}),
        ("a=1,a=2", {"a": "2"}),
    ],
)
def test_headers_are_decoded(sent: Sending, value: str, expected: dict[str, str]) -> None:
    sink = sent.sink()
    sent.by({BASE + "ENDPOINT": sink.url, BASE + "HEADERS": value})
    assert {name: sink.taken[0].headers.get(name) for name in expected} == expected


@pytest.mark.parametrize("compression", ["none", "NONE", " gzip "])
def test_compression(sent: Sending, compression: str) -> None:
    sink = sent.sink()
    sent.by({BASE + "ENDPOINT": sink.url, BASE + "COMPRESSION": compression, BASE + "LOGS_COMPRESSION": "gzip"})
    told = {request.path: request.headers.get("content-encoding", "none") for request in sink.taken}
    assert told["/v1/traces"] == told["/v1/metrics"] == compression.strip().lower()
    assert told["/v1/logs"] == "gzip"


@pytest.mark.parametrize("name", ["TIMEOUT", "TRACES_TIMEOUT"])
def test_the_time_for_an_answer_is_in_milliseconds(sent: Sending, name: str) -> None:
    sink = sent.sink()
    sink.reply = lambda _: Reply(how="stall")
    going = sent.by({BASE + "TRACES_ENDPOINT": sink.url, BASE + name: "250"})
    assert going.delivery.state.answer.endswith("no whole answer within 0.25 s")


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
@pytest.mark.parametrize("own", ["", "TRACES_"])
def test_certificates(sent: Sending, tmp_path: Path, protocol: str, own: str) -> None:
    """The authority, our certificate and its key, for all signals or for one."""
    authority = trustme.CA()
    shown = {name: authority.issue_cert("127.0.0.1") for name in ("server", "client")}
    for name, leaf in shown.items():
        leaf.cert_chain_pems[0].write_to_path(str(tmp_path / f"{name}.crt"))
        leaf.private_key_pem.write_to_path(str(tmp_path / f"{name}.key"))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    identity = Identity(tmp_path / "server.crt", tmp_path / "server.key", tmp_path / "ca.pem")
    sink = sent.grpc_sink(identity) if protocol == "grpc" else sent.sink(identity)
    environ = {
        BASE + "TRACES_ENDPOINT": sink.url + "/v1/traces",
        BASE + "PROTOCOL": protocol,
        BASE + own + "CERTIFICATE": str(tmp_path / "ca.pem"),
        BASE + own + "CLIENT_CERTIFICATE": str(tmp_path / "client.crt"),
        BASE + own + "CLIENT_KEY": str(tmp_path / "client.key"),
    }
    if own:
        environ |= {BASE + "CERTIFICATE": "", BASE + "CLIENT_KEY": " "}
    sent.by(environ)
    assert len(otlp_keys(sink.taken)) == 15


@pytest.mark.parametrize("value", ["true", "TRUE", "false", "yes", ""])
def test_insecure_is_for_grpc_without_a_scheme(sent: Sending, value: str) -> None:
    """Only `true` is true; without it the sink is asked for TLS, and has none."""
    sink = sent.grpc_sink()
    environ = {BASE + "ENDPOINT": f"127.0.0.1:{sink.port}", BASE + "PROTOCOL": "grpc", BASE + "INSECURE": value}
    going = sent.by(environ)
    assert bool(sink.taken) is (value.lower() == "true")
    assert going.delivery.state.is_refusing is not bool(sink.taken)


def test_insecure_of_one_signal(sent: Sending) -> None:
    plain, http = sent.grpc_sink(), sent.sink()
    sent.by(
        {
            BASE + "ENDPOINT": http.url,
            BASE + "LOGS_ENDPOINT": f"127.0.0.1:{plain.port}",
            BASE + "LOGS_PROTOCOL": "grpc",
            BASE + "LOGS_INSECURE": "true",
        }
    )
    assert paths(plain.taken) == {SERVICES["logs"]} and paths(http.taken) == {"/v1/traces", "/v1/metrics"}


@pytest.mark.parametrize("blank", ["", " ", "\t"])
def test_what_is_empty_is_not_set(sent: Sending, blank: str) -> None:
    sink = sent.sink()
    names = ("HEADERS", "PROTOCOL", "COMPRESSION", "TIMEOUT", "CERTIFICATE", "CLIENT_KEY", "CLIENT_CERTIFICATE")
    environ = {BASE + part + name: blank for name in (*names, "INSECURE") for part in ("", "TRACES_", "LOGS_")}
    environ |= {BASE + "METRICS_ENDPOINT": blank, "OTEL_TRACES_EXPORTER": blank, BASE + "ENDPOINT": sink.url}
    environ |= dict.fromkeys((*LANGFUSE, *POSTHOG), blank)
    sent.by(environ)
    assert len(otlp_keys(sink.taken)) == 25
    assert routing.known({}, dict.fromkeys((BASE + "ENDPOINT", *LANGFUSE, *POSTHOG), blank)) == []


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("ENDPOINT", "ftp://collector:4318", "a URL with a scheme and a host"),
        ("ENDPOINT", "http://", "a URL with a scheme and a host"),
        ("ENDPOINT", "http://a:99999", "a URL with a scheme and a host"),
        ("ENDPOINT", "http://a b", "a URL with a scheme and a host"),
        ("LOGS_ENDPOINT", "collector", "a URL with a scheme and a host"),
        ("PROTOCOL", "http", "one of http/protobuf, http/json, grpc"),
        ("TRACES_PROTOCOL", "thrift", "one of http/protobuf, http/json, grpc"),
        ("COMPRESSION", "zstd", "gzip or none"),
        ("HEADERS", "authorization", "name=value pairs"),
        ("HEADERS", "a b=1", "header names and values"),
        ("METRICS_HEADERS", "a=%0d%0ab", "header names and values"),
        ("TIMEOUT", "0", "a whole number of milliseconds above 0"),
        ("TIMEOUT", "-1", "a whole number of milliseconds above 0"),
        ("TIMEOUT", "1.5", "a whole number of milliseconds above 0"),
        ("TIMEOUT", "10s", "a whole number of milliseconds above 0"),
        ("TIMEOUT", "9" * 5000, "a whole number of milliseconds above 0"),
        ("LOGS_TIMEOUT", "٣", "a whole number of milliseconds above 0"),
        ("METRICS_TEMPORALITY_PREFERENCE", "both", "one of cumulative, delta, lowmemory"),
    ],
)
def test_what_a_variable_cannot_be_is_said(name: str, value: str, expected: str) -> None:
    (wrong,) = routing.known({}, {BASE + "ENDPOINT": "http://127.0.0.1:1", BASE + name: value})
    assert wrong.trouble.startswith(f"{BASE}{name}: got ") and f"expected {expected}" in wrong.trouble


@pytest.mark.parametrize("name", ["CERTIFICATE", "LOGS_CERTIFICATE", "CLIENT_CERTIFICATE", "TRACES_CLIENT_KEY"])
@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_a_certificate_that_is_not_there_is_said(sent: Sending, name: str, protocol: str) -> None:
    environ = {BASE + "ENDPOINT": "https://127.0.0.1:1", BASE + "PROTOCOL": protocol, BASE + name: "/nowhere.pem"}
    with pytest.raises(ConfigError, match=r"^OTEL_EXPORTER_OTLP_ENDPOINT: .*/nowhere.pem.* expected"):
        sent.by(environ)


def test_a_proxy_is_asked_with_the_whole_address(sent: Sending) -> None:
    proxy = sent.sink()
    sent.by({BASE + "TRACES_ENDPOINT": "http://far.invalid/in", "HTTP_PROXY": proxy.url})
    assert paths(proxy.taken) == {"http://far.invalid/in"}


# -- Langfuse ----------------------------------------------------------------------------------------------------------


def spans(requests: list[Request]) -> int:
    return len({*otlp_keys(requests)})


@pytest.mark.parametrize("name", ["LANGFUSE_HOST", "LANGFUSE_BASE_URL"])
@pytest.mark.parametrize("behind", ["", "/", "/sub"])
def test_langfuse_by_its_keys(sent: Sending, name: str, behind: str) -> None:
    sink = sent.sink()
    sent.by({**LANGFUSE, name: sink.url + behind})
    assert paths(sink.taken) == {behind.rstrip("/") + "/api/public/otel/v1/traces"}
    request = sink.taken[0]
    assert base64.b64decode(request.headers["authorization"].split()[1]) == b"pk-lf-1:sk-lf-1"
    assert request.headers["content-type"] == "application/x-protobuf"
    assert request.headers["content-encoding"] == "gzip" and request.headers["x-langfuse-ingestion-version"] == "4"


def test_the_newer_name_of_langfuses_address_counts(sent: Sending) -> None:
    older, newer = sent.sink(), sent.sink()
    sent.by({**LANGFUSE, "LANGFUSE_HOST": older.url, "LANGFUSE_BASE_URL": newer.url})
    assert newer.taken and not older.requests


def test_langfuses_variables_shape_what_is_sent(sent: Sending) -> None:
    sink = sent.sink()
    more = {"LANGFUSE_TRACING_ENVIRONMENT": "staging", "LANGFUSE_RELEASE": " v7 ", "LANGFUSE_SAMPLE_RATE": "1.0"}
    sent.by({**LANGFUSE, "LANGFUSE_BASE_URL": sink.url, **more})
    said = b"".join(request.body for request in sink.taken)
    assert b"langfuse.environment" in said and b"staging" in said
    assert b"langfuse.release" in said and b"v7" in said


@pytest.mark.parametrize("path", ["otel/in", "/otel/in"])
def test_langfuses_path_and_compression(sent: Sending, path: str) -> None:
    sink = sent.sink()
    more = {"LANGFUSE_OTEL_TRACES_EXPORT_PATH": path, "LANGFUSE_OTEL_COMPRESSION": " NONE "}
    sent.by({**LANGFUSE, "LANGFUSE_BASE_URL": sink.url, **more})
    assert paths(sink.taken) == {"/otel/in"} and "content-encoding" not in sink.taken[0].headers


def test_langfuses_sample_rate_and_timeout(sent: Sending) -> None:
    sink = sent.sink()
    going = sent.by({**LANGFUSE, "LANGFUSE_HOST": sink.url, "LANGFUSE_SAMPLE_RATE": "0", "LANGFUSE_TIMEOUT": "0.25"})
    assert not sink.requests
    sink.reply = lambda _: Reply(how="stall")
    with pytest.raises(Busy, match="no whole answer"):
        going.delivery.forwarder.probe()


@pytest.mark.parametrize(
    "environ", [LANGFUSE | {"LANGFUSE_TRACING_ENABLED": " False "}, POSTHOG | {"POSTHOG_ENABLED": "false"}]
)
def test_what_is_switched_off_is_known_and_sends_nothing(environ: dict[str, str]) -> None:
    known = routing.known({}, environ)
    assert [one.is_enabled for one in known] == [False]
    assert routing.routes(known, environ) == []


# -- PostHog -----------------------------------------------------------------------------------------------------------


def events(sink: Sink) -> list[dict[str, object]]:
    return [event for request in sink.taken for event in json.loads(request.body)["batch"]]


def test_posthog_by_its_key(sent: Sending) -> None:
    sink = sent.sink()
    sent.by({**POSTHOG, "POSTHOG_HOST": sink.url + "/"})
    assert paths(sink.taken) == {"/batch/"}
    assert {json.loads(request.body)["api_key"] for request in sink.taken} == {POSTHOG["POSTHOG_API_KEY"]}
    assert sink.taken[0].headers["content-encoding"] == "gzip"
    assert len({event["uuid"] for event in events(sink)}) == 15


@pytest.mark.parametrize(
    ("name", "value", "told", "expected"),
    [
        ("PROJECT_NAME", "web-2", "$ai_project_name", {"web-2"}),
        ("AGENT_NAME", "coder", "$ai_agent_name", {"coder"}),
        ("TAGS", "team:core, tier:gold", "team", {"core"}),
        ("DISTINCT_ID", "build-bot", None, {"build-bot"}),
        ("TRACE_GROUPING", "session", "$ai_trace_id", 1),
        ("TRACE_GROUPING", "message", "$ai_trace_id", 5),
        ("PRIVACY_MODE", "true", "$ai_output_choices", {None}),
        ("PRIVACY_MODE", "1", "$ai_output_choices", 2),
    ],
)
def test_posthogs_variables_shape_what_is_sent(
    sent: Sending, name: str, value: str, told: str | None, expected: object
) -> None:
    sink = sent.sink()
    sent.by({**POSTHOG, "POSTHOG_HOST": sink.url, f"POSTHOG_{name}": value})
    found = {
        json.dumps(event["properties"].get(told) if told else event["distinct_id"])  # type: ignore[attr-defined]
        for event in events(sink)
    }
    assert (len(found) if isinstance(expected, int) else {json.loads(one) for one in found}) == expected


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("API_KEY", "phx_secret", "the key of a project"),
        ("HOST", "posthog", "a URL with a scheme and a host"),
        ("TRACE_GROUPING", "day", "message or session"),
        ("SESSION_WINDOW_MINUTES", "-1", "a number above 0"),
        ("TAGS", "core", "name:value,name:value"),
        ("MAX_ATTRIBUTE_LENGTH", "1.5", "a whole number above 0"),
    ],
)
def test_what_a_variable_of_posthog_cannot_be_is_said(name: str, value: str, expected: str) -> None:
    (wrong,) = routing.known({}, {**POSTHOG, f"POSTHOG_{name}": value})
    assert wrong.trouble.startswith(f"POSTHOG_{name}: got ") and expected in wrong.trouble
    assert "secret" not in wrong.trouble
