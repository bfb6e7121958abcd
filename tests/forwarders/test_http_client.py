"""What an answer means, over real connections, and that no secret is told."""

from __future__ import annotations

import gzip
import socket
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from sink import Reply, Request, Sink
from tachograph.errors import Busy, ConfigError, Rejected, TachographError
from tachograph.forwarders.http import ANSWER_BYTES_MAX, USER_AGENT, HttpClient
from tachograph.forwarders.tls import Tls

KEY = "a-key-that-nobody-may-see"


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink() as opened:
        yield opened


@pytest.mark.parametrize(
    ("status", "error"),
    [(s, Rejected) for s in (400, 413, 422)]
    + [(s, Busy) for s in (408, 425, 429, 500, 501, 502, 503, 504, 599)]
    + [(s, ConfigError) for s in (301, 302, 307, 308, 401, 402, 403, 404, 405, 407, 410, 414, 415)],
)
def test_what_an_answer_means(sink: Sink, status: int, error: type[TachographError]) -> None:
    other = Sink()
    sink.reply = lambda _: Reply(status, b"why", {"Location": other.url})
    with closing(HttpClient(sink.url)) as client, closing(other), pytest.raises(error) as caught:
        client.post("/v1", b"x", {})
    assert f"answered {status}: why" in caught.value.what
    assert getattr(caught.value, "status", status) == status
    assert not other.requests, "nobody is followed elsewhere"


def test_a_good_answer(sink: Sink) -> None:
    sink.reply = lambda _: Reply(202, b"fine", {"X-Seen": "1"})
    with closing(HttpClient(sink.url, {"Authorization": KEY})) as client:
        answers = [client.post("/v1", b"body", {"Content-Type": "a/b"}, is_gzipped=g) for g in (True, False)]
        client.get("/x")
    assert [(a.status, a.body, a.headers["x-seen"]) for a in answers] == [(202, b"fine", "1")] * 2
    zipped, plain, got = sink.taken
    assert (zipped.body, zipped.headers["content-encoding"], plain.body) == (b"body", "gzip", b"body")
    assert "content-encoding" not in plain.headers
    assert all(r.headers["user-agent"] == USER_AGENT and r.headers["authorization"] == KEY for r in sink.taken)
    assert (zipped.headers["content-type"], got.path) == ("a/b", "/x")


def test_who_does_not_unpack_gzip_gets_it_plain(sink: Sink) -> None:
    sink.reply = lambda request: Reply(415 if "content-encoding" in request.headers else 200)
    with closing(HttpClient(sink.url)) as client:
        for _ in range(3):
            assert client.post("/v1", b"body", {}).status == 200
    assert ["content-encoding" in request.headers for request in sink.requests] == [True, False, False, False]
    assert [request.body for request in sink.taken] == [b"body"] * 3


def test_no_record_is_at_fault_where_a_protocol_is_not_taken(sink: Sink) -> None:
    sink.reply = lambda _: Reply(415, b"JSON only")
    with closing(HttpClient(sink.url)) as client:
        for is_gzipped in (True, False):
            with pytest.raises(ConfigError, match="answered 415: JSON only") as caught:
                client.post("/v1", b"x", {}, is_gzipped=is_gzipped)
            assert "protocol" in caught.value.hint


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"Retry-After": "30"}, 30),
        ({"Retry-After": "Sat, 21 Nov 2026 10:00:30 GMT", "Date": "Sat, 21 Nov 2026 10:00:00 GMT"}, 30),
        ({"Retry-After": "Sat, 21 Nov 2026 10:00:00 GMT", "Date": "Sat, 21 Nov 2026 11:00:00 GMT"}, 1),
        ({"Retry-After": "soon"}, 1),
        ({"Retry-After": "-5"}, 1),
        ({"Retry-After": "9" * 100}, 999_999_999),
        ({}, 1),
    ],
)
def test_when_to_come_again(headers: dict[str, str], wait_s: int, monkeypatch: pytest.MonkeyPatch) -> None:
    date = headers.pop("Date", None)
    with Sink(lambda _: Reply(429, headers=headers)) as sink, closing(HttpClient(sink.url)) as client:
        if date:
            handler = sink._server.RequestHandlerClass
            monkeypatch.setattr(handler, "date_time_string", lambda *_: date)
        with pytest.raises(Busy) as caught:
            client.get("/")
    assert caught.value.retry_after_s == wait_s


def test_nobody_there() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    for url in (f"http://127.0.0.1:{port}", "http://nobody.invalid"):
        with closing(HttpClient(url)) as client, pytest.raises(Busy):
            client.get("/")


@pytest.mark.parametrize("how", ["drop", "break_off", "stall"])
def test_half_an_answer(sink: Sink, how: str) -> None:
    sink.reply = lambda _: Reply(how=how, body=b"x")
    with closing(HttpClient(sink.url, timeout_s=1.0)) as client, pytest.raises(Busy):
        client.get("/")


@pytest.mark.parametrize(
    "said", [b"SSH-2.0-OpenSSH_9\r\n", b"\x00\xff\r\n\r\n", b"HTTP/1.1\r\n\r\n", b"ICY 200 OK\r\n\r\n", b"\r\n"]
)
def test_an_answer_that_is_no_http(said: bytes) -> None:
    def answer() -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(said)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        answering = threading.Thread(target=answer)
        answering.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        with closing(HttpClient(url)) as client, pytest.raises(Busy) as caught:
            client.post("/v1", b"x", {})
        answering.join()
    assert caught.value.status == 0 and "closed file" not in caught.value.what


def test_a_tls_client_at_a_plain_door(sink: Sink) -> None:
    with closing(HttpClient(sink.url.replace("http:", "https:"))) as client, pytest.raises(ConfigError):
        client.get("/")


@pytest.mark.parametrize(
    "tls", [Tls(authority="/nowhere.pem"), Tls(certificate="/nowhere.pem"), Tls(authority=__file__)]
)
def test_certificates_that_cannot_be_read(tls: Tls) -> None:
    with pytest.raises(ConfigError, match="certificate"):
        HttpClient("https://127.0.0.1:1", tls=tls)


def test_a_long_and_a_packed_answer_are_bounded(sink: Sink) -> None:
    bomb = gzip.compress(b"x" * 50_000_000)
    for body, headers in ((b"y" * 10_000_000, {}), (bomb, {"Content-Encoding": "gzip"})):
        sink.reply = lambda _, body=body, headers=headers: Reply(200, body, headers)  # type: ignore[misc]
        with closing(HttpClient(sink.url)) as client:
            assert len(client.get("/").body) <= ANSWER_BYTES_MAX
            sink.reply = lambda _: Reply(200, b"ok")
            assert client.get("/").body == b"ok", "the connection is of use, or another is made"


def test_hostile_words_are_made_printable(sink: Sink) -> None:
    sink.reply = lambda _: Reply(400, b"\x1b[31m\x00\xff\r\nSet: x " + b"z" * 100_000)
    with closing(HttpClient(sink.url)) as client, pytest.raises(Rejected) as caught:
        client.get("/")
    assert caught.value.what.isprintable() and len(caught.value.what) < 500


@pytest.mark.parametrize("header", [f"Bearer {KEY}", KEY])
def test_an_answer_that_repeats_the_key(sink: Sink, header: str) -> None:
    sink.reply = lambda request: Reply(401, b"bad key: " + request.headers["x-key"].encode() + b" " + KEY.encode())
    with closing(HttpClient(sink.url, {"X-Key": header})) as client, pytest.raises(ConfigError) as caught:
        client.get("/")
    assert KEY not in caught.value.what + caught.value.hint


def test_credentials_of_an_address_go_as_a_header_and_are_not_told(sink: Sink) -> None:
    url = sink.url.replace("http://", f"http://ada:{KEY}@")
    sink.reply = lambda _: Reply(403)
    with closing(HttpClient(url)) as client, pytest.raises(ConfigError) as caught:
        client.get("/")
    assert KEY not in caught.value.what
    assert sink.requests[0].headers["authorization"].startswith("Basic ")


@pytest.mark.parametrize("value", [f"{KEY}\n", f"{KEY}\r\nX: 1", f"{KEY}\u00e9"])
def test_a_key_that_no_header_can_have(value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        HttpClient("http://127.0.0.1:1", {"authorization": value})
    assert KEY not in caught.value.what


def test_proxies_of_the_environment(sink: Sink) -> None:
    url = "http://far.invalid"
    proxy = sink.url.replace("http://", "http://ada:word@")
    with closing(HttpClient(url, environment={"HTTP_PROXY": proxy})) as client:
        client.get("/x")
    assert sink.requests[0].path == "http://far.invalid/x"
    assert sink.requests[0].headers["proxy-authorization"].startswith("Basic ")
    for environment in ({"http_proxy": proxy, "no_proxy": "far.invalid"}, {"HTTP_PROXY": ""}):
        with closing(HttpClient(url, environment=environment)) as client, pytest.raises(Busy):
            client.get("/")
    with pytest.raises(ConfigError):
        HttpClient(url, environment={"ALL_PROXY": "socks5://127.0.0.1:1"})


def test_one_connection_for_many_requests(sink: Sink) -> None:
    seen: set[int] = set()

    def reply(_: Request) -> Reply:
        seen.update(connection.getpeername()[1] for connection in sink.connections)
        return Reply()

    sink.reply = reply
    with closing(HttpClient(sink.url)) as client:
        for _ in range(5):
            client.post("/", b"", {})
    assert len(seen) == 1
