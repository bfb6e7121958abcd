"""The whole process: real requests, real signals, a real store; killed, filled up and started again."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from tachograph.config import Address, Settings
from tachograph.errors import ConfigError
from tachograph.scan import Agg, Scan
from tachograph.server import Server, check_exposure, listen

PATIENCE_S = 120
ANY = Address("127.0.0.1", 0)
PROTOBUF = {"content-type": "application/x-protobuf"}
RUN = """
import json, sys
from tachograph import config, server
def ready(opened):
    print(json.dumps({name: address.port for name, address in opened.addresses.items()}), flush=True)
server.run(config.load(dict(pair.split("=", 1) for pair in sys.argv[1:])), ready)
"""


def open_settings(home: Path, **more: object) -> Settings:
    return Settings(**{"home": home, "otlp_http": ANY, "otlp_grpc": None, "web": None} | more)  # type: ignore[arg-type]


def traces(sender: int, number: int, spans: int = 3, padding: int = 0) -> bytes:
    request = trace_service_pb2.ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    trace_id = sender.to_bytes(8, "big") + (number + 1).to_bytes(8, "big")
    for n in range(1, spans + 1):
        span = scope.spans.add(trace_id=trace_id, span_id=n.to_bytes(8, "big"), name=f"{sender}/{number}/{n}")
        span.start_time_unix_nano = span.end_time_unix_nano = 1_760_000_000_000_000_000
        if padding:
            span.attributes.add(key="padding").value.string_value = f"{sender}/{number}/{n}" + "x" * padding
    return request.SerializeToString()


def post(port: int, body: bytes) -> int:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)) as connection:
        connection.request("POST", "/v1/traces", body, PROTOBUF)
        response = connection.getresponse()
        response.read()
        if response.status == 503:
            assert int(response.headers["retry-after"]) >= 1
        return response.status


def names(home: Path) -> Counter[str]:
    """The names of all spans that are kept, read by a server that has just been started again."""
    server = Server(open_settings(home))
    server.start()
    try:
        return Counter(server.reader.scan(Scan("spans", {"name": "name"})).data["name"])
    finally:
        server.stop()


class Process:
    """A real server process."""

    def __init__(self, home: Path, **settings: str) -> None:
        given = {"home": str(home), "otlp_http": "127.0.0.1:0", "otlp_grpc": "off", "web": "off"} | settings
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUN, *(f"{name}={value}" for name, value in given.items())],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, self.end()[1]
        self.port: int = json.loads(line)["otlp_http"]

    def end(self, number: int | None = None) -> tuple[int, str]:
        """Send a signal, wait, and return exit code and stderr."""
        if number is not None:
            self.process.send_signal(number)
        _, err = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, err


@contextmanager
def running(home: Path, **settings: str) -> Iterator[Process]:
    process = Process(home, **settings)
    try:
        yield process
    finally:
        process.process.kill()
        process.end()


@pytest.mark.parametrize(
    ("address", "door"),
    [(Address("0.0.0.0", 1), "otlp_http"), (Address("::", 1), "otlp_grpc"), (Address("a.b", 1), "web")],
)
def test_nothing_unguarded_is_opened_to_others(home: Path, address: Address, door: str) -> None:
    closed = Settings(home=home, otlp_http=None, otlp_grpc=None, web=None)
    open_to_all = Settings(
        **{name: getattr(closed, name) for name in ("home", "otlp_grpc", "otlp_http", "web")} | {door: address}
    )
    with pytest.raises(ConfigError) as caught:
        Server(open_to_all).start()
    assert caught.value.what.startswith(f"{door}: got {address}")
    assert "openssl rand -hex 32" in caught.value.hint
    assert not home.exists(), "refused before anything was opened"
    token = "web_token" if door == "web" else "ingest_token"
    guarded: dict[str, Any] = {door: address, token: "a-token-that-is-long-enough"}
    check_exposure(Settings(home=home, **guarded))


def test_a_taken_port_names_a_free_one() -> None:
    with closing(listen("web", ANY)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError) as caught:
            listen("web", Address("127.0.0.1", port))
    assert str(port) in caught.value.what
    flag, _, free = caught.value.hint.partition(" ")
    assert flag == "--web"
    assert int(free.rpartition(":")[2]) > port


def test_an_address_of_another_machine() -> None:
    with pytest.raises(ConfigError) as caught:
        listen("otlp_http", Address("192.0.2.1", 4318))
    assert "192.0.2.1:4318" in caught.value.what


def test_all_doors_lead_to_the_store(home: Path) -> None:
    server = Server(open_settings(home, otlp_grpc=ANY, web=ANY))
    server.start()
    try:
        assert post(server.addresses["otlp_http"].port, traces(1, 1)) == 200
        with grpc.insecure_channel(str(server.addresses["otlp_grpc"])) as channel:
            export = channel.unary_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Export", None, None)
            assert export(traces(2, 1), timeout=PATIENCE_S) == b""
        count = Scan("spans", {"n": Agg("count")})
        assert server.reader.scan(count).data["n"] == [6], "queryable at once"
        with closing(http.client.HTTPConnection("127.0.0.1", server.addresses["web"].port)) as connection:
            connection.request("GET", "/")
            assert connection.getresponse().status == 200
        assert oct(home.stat().st_mode)[-3:] == "700"
        with pytest.raises(ConfigError) as caught:
            Server(open_settings(home)).start()
        assert str(os.getpid()) in caught.value.what
        other = Settings(home=home / "other", otlp_http=server.addresses["otlp_http"], otlp_grpc=None, web=None)
        with pytest.raises(ConfigError) as caught:
            Server(other).start()
        assert "another tachograph" in caught.value.what
    finally:
        server.stop()
    server.stop()
    assert sum(names(home).values()) == 6


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_stops_cleanly(home: Path, number: int) -> None:
    with running(home, otlp_grpc="127.0.0.1:0", web="127.0.0.1:0") as process:
        assert post(process.port, traces(1, 1)) == 200
        assert process.end(number) == (0, "")
    assert sum(names(home).values()) == 3


def test_a_stop_answers_what_is_under_way(home: Path) -> None:
    with running(home) as process:
        kept: list[str] = []

        def send(sender: int) -> None:
            for number in range(200):
                try:
                    if post(process.port, traces(sender, number)) == 200:
                        kept.append(f"{sender}/{number}")
                except (OSError, http.client.HTTPException):
                    return

        with ThreadPoolExecutor(4) as senders:
            done = [senders.submit(send, sender) for sender in range(4)]
            while len(kept) < 20:
                threading.Event().wait(0.005)
            assert process.end(signal.SIGTERM)[0] == 0
            for future in done:
                future.result(PATIENCE_S)
    found = names(home)
    assert {name.rpartition("/")[0] for name in found} >= set(kept)
    assert set(found.values()) == {1}


def test_killed_at_any_moment_nothing_acknowledged_is_lost_or_doubled(home: Path) -> None:
    """Three rounds of 16 senders, each killed in the middle; what was not answered is sent again to the next one."""
    kept: set[str] = set()
    left = [[(sender, number) for number in range(30)] for sender in range(16)]
    for kill_after in (60, 150, None):
        with running(home) as process:
            enough = threading.Event()

            def send(sender: int, port: int, kill_after: int | None, enough: threading.Event) -> None:
                while left[sender]:
                    number = left[sender][0][1]
                    try:
                        assert post(port, traces(sender, number)) == 200
                    except (OSError, http.client.HTTPException):
                        return
                    kept.add(f"{sender}/{number}")
                    left[sender].pop(0)
                    if kill_after is not None and len(kept) >= kill_after:
                        enough.set()

            with ThreadPoolExecutor(16) as senders:
                done = [senders.submit(send, sender, process.port, kill_after, enough) for sender in range(16)]
                if kill_after is not None:
                    assert enough.wait(PATIENCE_S)
                    process.process.kill()
                for future in done:
                    future.result(PATIENCE_S)
    assert len(kept) == 480
    found = names(home)
    assert found == Counter(f"{key}/{n}" for key in kept for n in (1, 2, 3))


def test_over_capacity_everything_arrives_in_the_end(home: Path) -> None:
    """16 senders with more at once than the queue may hold: some are told to wait, nobody loses anything."""
    server = Server(open_settings(home, body_bytes_max=1 << 20, queue_bytes_max=2 << 20))
    server.start()
    answers: Counter[int] = Counter()
    try:
        port = server.addresses["otlp_http"].port

        def send(sender: int) -> None:
            for number in range(5):
                body = traces(sender, number, spans=20, padding=5000)
                while (status := post(port, body)) == 503:
                    answers[status] += 1
                    assert server.road.queued_bytes <= 2 << 20
                    threading.Event().wait(0.02)
                answers[status] += 1

        with ThreadPoolExecutor(16) as senders:
            list(senders.map(send, range(16)))
    finally:
        server.stop()
    assert answers[200] == 80
    assert answers[503] > 0
    assert set(answers) == {200, 503}
    found = names(home)
    assert len(found) == 1600
    assert set(found.values()) == {1}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 48 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small filesystem cannot be mounted here (needs root)")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=False)


def test_a_full_disk_is_told_and_recovered_from(small_disk: Path) -> None:
    home = small_disk / "home"
    ballast = small_disk / "ballast"
    with running(home) as process:
        kept = [f"1/{number}" for number in range(3) if post(process.port, traces(1, number)) == 200]
        assert len(kept) == 3
        free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
        ballast.write_bytes(b"\0" * max(0, free - 3_000_000))
        number = 3
        while (status := post(process.port, traces(1, number, padding=200_000))) == 200:
            kept.append(f"1/{number}")
            number += 1
            assert number < 200
        assert status == 503
        ballast.unlink()
        for _ in range(100):
            if (status := post(process.port, traces(1, number, padding=1000))) == 200:
                break
            threading.Event().wait(0.1)
        assert status == 200, "it recovers without a restart"
        kept.append(f"1/{number}")
        assert process.end(signal.SIGTERM)[0] == 0
    assert names(home) == Counter(f"{key}/{n}" for key in kept for n in (1, 2, 3))


def test_localhost_is_both_of_its_addresses(home: Path) -> None:
    server = Server(open_settings(home))
    server.start()
    port = server.addresses["otlp_http"].port
    try:
        with closing(http.client.HTTPConnection("::1", port, timeout=PATIENCE_S)) as connection:
            connection.request("POST", "/v1/traces", traces(1, 1), PROTOBUF)
            assert connection.getresponse().status == 200
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    finally:
        server.stop()


def test_ports_are_free_again_after_a_stop(home: Path) -> None:
    server = Server(open_settings(home, otlp_grpc=ANY, web=ANY))
    server.start()
    addresses = dict(server.addresses)
    server.stop()
    for address in addresses.values():
        with closing(socket.create_server((address.host, address.port))):
            pass
