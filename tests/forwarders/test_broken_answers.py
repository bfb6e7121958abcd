"""Answers that drip, break off, bomb, or are no answers: each request has one deadline, and nothing is lost."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trustme
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from deliveries import Trip, fill
from fillings import NOON, SECOND
from kinds import KINDS
from raw_server import DRIPS_MAX, RawServer, dripping, read_request
from sink import GOOD, LOST, ODD, GrpcSink, Identity, Reply, Request, Sink
from tachograph.destinations import Destination
from tachograph.errors import Busy, ConfigError, Rejected
from tachograph.forwarders.http import ANSWER_BYTES_MAX, HttpClient
from tachograph.forwarders.otlp import connection
from tachograph.forwarders.otlp_grpc import GrpcClient
from tachograph.forwarders.tls import Tls
from tachograph.store.contract import Store
from tachograph.store.duckdb import open_store

TIMEOUT_S = 0.5  # DRIPS_MAX drips take twenty times as long
LATE = f"no whole answer within {TIMEOUT_S} s"
GOOD_HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> tuple[Identity, Tls]:
    """Of a server on this machine, and who trusts it."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    made = authority.issue_cert("127.0.0.1")
    paths = [folder / name for name in ("ca.pem", "cert.pem", "key.pem")]
    for blob, path in zip((authority.cert_pem, made.cert_chain_pems[0], made.private_key_pem), paths, strict=True):
        blob.write_to_path(str(path))
    return Identity(*paths[1:]), Tls(str(paths[0]))


DRIPS = {
    "status": dripping(b"HTTP", b" ", b"/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    "headers": dripping(GOOD_HEAD, b"a:b\r\n"),
    "interim answers": dripping(b"", b"HTTP/1.1 100 Continue\r\n\r\n", GOOD_HEAD + b"Content-Length: 0\r\n\r\n"),
    "body": dripping(GOOD_HEAD + b"Content-Length: %d\r\n\r\n" % DRIPS_MAX),
    "body without a length": dripping(GOOD_HEAD + b"\r\n"),
    "chunks": dripping(GOOD_HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", b"0\r\n\r\n"),
    "a refusal": dripping(b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n" % DRIPS_MAX),
}


@pytest.mark.parametrize("is_secure", [False, True])
@pytest.mark.parametrize("name", DRIPS)
def test_an_answer_that_drips_has_one_deadline(identity: tuple[Identity, Tls], name: str, is_secure: bool) -> None:
    shown, trusting = identity
    with (
        RawServer(DRIPS[name], shown if is_secure else None) as server,
        closing(HttpClient(server.url, timeout_s=TIMEOUT_S, tls=trusting)) as client,
        pytest.raises(Busy, match=LATE),
    ):
        client.post("/", b"x", {})


def _sip(connection: socket.socket, tick: Callable[[], bool]) -> None:
    """Read a little at a time, and answer when all has come."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    for _ in range(DRIPS_MAX):
        if not tick():
            return
        connection.recv(4096)
    connection.sendall(GOOD_HEAD + b"Content-Length: 0\r\n\r\n")


@pytest.mark.parametrize("is_secure", [False, True])
def test_a_server_that_reads_slowly_has_the_same_deadline(identity: tuple[Identity, Tls], is_secure: bool) -> None:
    shown, trusting = identity
    with (
        RawServer(_sip, shown if is_secure else None) as server,
        closing(HttpClient(server.url, timeout_s=TIMEOUT_S, tls=trusting)) as client,
        pytest.raises(Busy, match=LATE),
    ):
        client.post("/", bytes(30_000_000), {}, is_gzipped=False)


def _drip(connection: socket.socket, tick: Callable[[], bool]) -> None:
    """Answer whatever comes first with the beginning of a TLS record, slowly."""
    connection.recv(1)
    connection.sendall(b"\x16\x03\x03\x20\x00")
    for _ in range(DRIPS_MAX):
        if not tick():
            return
        connection.sendall(b"\x02")


def test_a_handshake_that_drips() -> None:
    with (
        RawServer(_drip) as server,
        closing(HttpClient(server.url.replace("http:", "https:"), timeout_s=TIMEOUT_S)) as client,
        pytest.raises(Busy, match=LATE),
    ):
        client.get("/")


def test_a_proxy_that_drips() -> None:
    with (
        RawServer(dripping(b"HTTP/1.1 200 OK\r\n", b"a:b\r\n")) as proxy,
        closing(
            HttpClient("https://far.invalid", timeout_s=TIMEOUT_S, environment={"HTTPS_PROXY": proxy.url})
        ) as client,
        pytest.raises(Busy, match=LATE),
    ):
        client.get("/")


def test_the_deadline_is_of_each_request() -> None:
    """One that hung is forgotten by the next, on a connection of its own; and quick ones may be many."""
    slow = dripping(GOOD_HEAD + b"Content-Length: %d\r\n\r\n" % DRIPS_MAX)
    quick = GOOD_HEAD + b"Content-Length: 0\r\n\r\n"

    def answer(connection: socket.socket, tick: Callable[[], bool]) -> None:
        if server.connections == 1:
            slow(connection, tick)
        while read_request(connection):
            tick()
            connection.sendall(quick)

    with RawServer(answer) as server, closing(HttpClient(server.url, timeout_s=TIMEOUT_S)) as client:
        with pytest.raises(Busy, match=LATE):
            client.get("/")
        for _ in range(40):  # 0.8 s of waiting in all
            assert client.get("/").status == 200
        assert server.connections == 2


def _grpc(url: str, **options: Any) -> GrpcClient:
    given = {"endpoint": url, "protocol": "grpc", "timeout": TIMEOUT_S} | options
    return GrpcClient(connection(Destination("acme", "otlp", "acme", options=given), "traces"))


SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"  # an empty frame of HTTP/2
GRPC_DRIPS = {
    "nothing": dripping(b"", b""),
    "settings": dripping(SETTINGS, SETTINGS),
    "bytes of a frame": dripping(SETTINGS + b"\x00\x40\x00\x01", b"\x00"),
}


@pytest.mark.parametrize("name", GRPC_DRIPS)
def test_grpc_has_one_deadline_too(name: str) -> None:
    with RawServer(GRPC_DRIPS[name]) as server, closing(_grpc(server.url)) as client, pytest.raises(Busy):
        client.export("traces", b"")


def test_grpc_after_a_deadline_begins_with_a_new_connection() -> None:
    with GrpcSink(lambda _: Reply(how="stall")) as sink, closing(_grpc(sink.url)) as client:
        with pytest.raises(Busy, match=LATE):
            client.export("traces", b"")
        first = client._channel
        sink.released.set()
        sink.reply = lambda _: GOOD
        client.export("traces", b"")
        assert first is None


def test_an_answer_over_grpc_that_is_too_long_is_one_all_the_same() -> None:
    with GrpcSink(lambda _: Reply(body=bytes(3_000_000))) as sink, closing(_grpc(sink.url, timeout=60.0)) as client:
        assert client.export("traces", b"") == b""
        assert len(sink.taken) == 1


@pytest.mark.parametrize("length", [b"99999999999", b"-1", b"x", b"18446744073709551616"])
def test_a_length_that_nobody_can_mean(length: bytes) -> None:
    """Read is what a bound says, and no memory is set aside for more."""

    def answer(connection: socket.socket, tick: Callable[[], bool]) -> None:
        read_request(connection)
        connection.sendall(GOOD_HEAD + b"Content-Length: " + length + b"\r\n\r\n" + bytes(200_000))

    with RawServer(answer) as server, closing(HttpClient(server.url)) as client:
        try:
            assert len(client.get("/").body) <= ANSWER_BYTES_MAX
        except Busy:
            assert length != b"99999999999"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (b"Client sent an HTTP request to an HTTPS server.\n", ConfigError),
        (b"", ConfigError),
    ],
)
def test_plain_words_to_a_server_with_tls_refuse_nothing(
    identity: tuple[Identity, Tls], said: bytes, expected: type[Exception]
) -> None:
    """Some answer them with 400, as if the records were at fault."""
    context = identity[0].context()

    def answer(connection: socket.socket, tick: Callable[[], bool]) -> None:
        if connection.recv(1, socket.MSG_PEEK) == b"\x16":
            with context.wrap_socket(connection, server_side=True) as secure:
                secure.recv(1)
        elif said:
            read_request(connection)
            connection.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n" + said)

    with RawServer(answer) as server, closing(HttpClient(server.url)) as client:
        with pytest.raises(expected, match="it speaks TLS") as caught:
            client.post("/", b"x", {})
        assert caught.value.hint == "say https://"  # type: ignore[attr-defined]


def test_a_refusal_before_the_body_has_come() -> None:
    def answer(connection: socket.socket, tick: Callable[[], bool]) -> None:
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig")
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(1_000_000):
            pass

    with RawServer(answer) as server, closing(HttpClient(server.url)) as client:
        with pytest.raises(Rejected) as caught:
            client.post("/", bytes(20_000_000), {}, is_gzipped=False)
        assert caught.value.status == 413


# -- a delivery over such wires ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with closing(open_store(tmp_path_factory.mktemp("wire") / "store", lambda: NOON)) as opened:
        fill(opened, sessions=1)
        yield opened


def trip(tmp_path: Path, store: Store, name: str, url: str) -> Trip:
    tested = KINDS[name]
    to = Destination("acme", tested.name, "acme", options=dict(tested.options(url, 60.0)), parts_max=4)
    return Trip(tmp_path, store, lambda one: tested.kind.make(one, {}), to, NOON + 3600 * SECOND)


def delivered(tmp_path: Path, store: Store, reply: Callable[[int], Reply], name: str = "otlp http/protobuf") -> Trip:
    """After all was sent; `reply` has the number of the request. Nothing is lost, nor doubled that was answered."""
    numbers = count()
    tested = KINDS[name]
    with Sink(lambda _: reply(next(numbers))) as sink:
        going = trip(tmp_path, store, name, sink.url)
        going.run()
        going.end()
        came = tested.received(sink.taken)
        assert len(set(came)) == 25 and going.delivery.state.cursor == store.sequence()
        assert len(came) - len(set(came)) <= 4 * going.delivery.state.failed
    return going


@pytest.mark.parametrize("how", LOST)
def test_what_was_taken_and_not_answered_comes_again(tmp_path: Path, store: Store, how: str) -> None:
    going = delivered(tmp_path, store, lambda number: Reply(how=how) if number % 3 == 1 else GOOD)
    assert going.delivery.state.failed > 1 and going.delivery.state.refused == 0


@pytest.mark.parametrize("how", ODD)
def test_a_good_answer_of_another_shape_is_good(tmp_path: Path, store: Store, how: str) -> None:
    assert delivered(tmp_path, store, lambda _: Reply(how=how)).delivery.state.failed == 0


@pytest.mark.parametrize("wait", ["1000000000", "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_who_wants_to_be_asked_in_a_thousand_years_is_asked_in_an_hour(tmp_path: Path, store: Store, wait: str) -> None:
    busy = Reply(429, headers={"Retry-After": wait})
    going = delivered(tmp_path, store, lambda number: busy if number == 1 else GOOD)
    assert 3600 <= (going.now_ns - NOON) // SECOND - 3600 < 4000


PARTIAL = ExportTraceServiceResponse()
PARTIAL.partial_success.rejected_spans = 2
PARTIAL.partial_success.error_message = "too old"


@pytest.mark.parametrize("name", ["otlp http/protobuf", "otlp http/json", "otlp grpc"])
def test_what_a_partial_success_rejects_is_set_aside_and_can_be_sent_again(
    tmp_path: Path, store: Store, name: str
) -> None:
    tested = KINDS[name]
    answer = Reply(body=PARTIAL.SerializeToString(), headers={"Content-Type": "application/x-protobuf"})
    if name == "otlp http/json":
        told = {"partialSuccess": {"rejectedSpans": "2", "errorMessage": "too old"}}
        answer = Reply(body=msgspec.json.encode(told), headers={"Content-Type": "application/json"})
    partial: list[Request] = []

    def reply(request: Request) -> Reply:
        if not partial and "race" in request.path:
            partial.append(request)
            return answer
        return GOOD

    with tested.sink(reply) as sink:
        going = trip(tmp_path, store, name, sink.url)
        going.run()
        letters = going.progress.letters("acme")
        state = going.delivery.state
        assert (state.refused, [letter.rejected for letter in letters]) == (2, [2])
        assert "too old" in letters[0].answer and state.sent == 25 - 2
        sink.taken.clear()
        assert going.progress.want("acme") == 1
        going.run()
        going.end()
        assert set(tested.received(sink.taken)) == set(tested.received(partial))
        assert going.delivery.state.refused == 0
