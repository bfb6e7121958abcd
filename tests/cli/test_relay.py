"""The relay: one a user, silent, readable by every command, gone when a server comes or nothing does."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import urlsplit

import pytest

from recordings import CAPTURES, MANIFEST
from tachograph.cli import INTERRUPTED, main, running
from tachograph.cli.relay import idle_for
from tachograph.errors import ConfigError
from tachograph.server import Server
from tachograph.store.folder import FolderLock

RECORDING = "claude-code-content"
TRUTH = MANIFEST[RECORDING]["truth"]
DOORS = {"TACHOGRAPH_OTLP_HTTP": "0", "TACHOGRAPH_OTLP_GRPC": "off"}
LATER = "1h"


@contextmanager
def started(*words: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-m", "tachograph", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | DOORS | variables,
    ) as process:
        yield process
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.communicate()


def ready(home: Path, process: subprocess.Popen[str]) -> running.Running:
    """Where a process is that has published it, waiting for that."""
    while (found := running.find(home)) is None or found.pid != process.pid:
        assert process.poll() is None, process.communicate()
    return found


def ended(process: subprocess.Popen[str], number: int | None = None) -> tuple[int, str, str]:
    if number is not None:
        process.send_signal(number)
    out, err = process.communicate()
    return process.returncode, out, err


@pytest.fixture
def claude(user_home: Path) -> Path:
    folder = user_home / ".claude" / "projects" / "p"
    folder.mkdir(parents=True)
    for path in (CAPTURES / RECORDING).rglob("*.jsonl"):
        shutil.copy(path, folder / path.name)
    return folder


def calls(capsys: pytest.CaptureFixture[str]) -> int:
    capsys.readouterr()
    assert main(["usage", "--json"]) == 0
    return int(json.loads(capsys.readouterr().out)["totals"]["calls"])


def test_commands_read_what_a_relay_has_read(claude: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with started("relay", "--idle", LATER) as relay:
        assert ready(home, relay).is_relay
        while calls(capsys) < TRUTH["llm_calls_ok"]:
            assert relay.poll() is None
        assert calls(capsys) == TRUTH["llm_calls_ok"]
        assert main(["doctor"]) in (0, 1)
        assert f"relay running as process {relay.pid}" in capsys.readouterr().out
        assert ended(relay, signal.SIGTERM) == (0, "", "")
    assert not (home / running.FILE_NAME).exists()
    assert calls(capsys) == TRUTH["llm_calls_ok"]


def test_it_forwards_to_what_the_variables_name(claude: Path, home: Path) -> None:
    got = threading.Event()

    class Destination(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            got.set()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Destination) as destination:
        threading.Thread(target=destination.serve_forever).start()
        variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{destination.server_port}"}
        try:
            with started("relay", "--idle", LATER, **variables, OTEL_EXPORTER_OTLP_PROTOCOL="http/json") as relay:
                ready(home, relay)
                while not got.wait(0.1):
                    assert relay.poll() is None
                assert ended(relay, signal.SIGTERM) == (0, "", "")
        finally:
            destination.shutdown()


class Taking(BaseHTTPRequestHandler):
    """A destination that takes everything."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.send_response(200)
        self.end_headers()
        cast(Any, self.server).taken.put(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def first_request(hanging: socket.socket) -> socket.socket:
    connection, _ = hanging.accept()
    assert connection.recv(4) == b"POST"
    return connection


def waits_long_for(port: int) -> dict[str, str]:
    """Variables of a destination that has an hour for its answer."""
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "3600000",
    }


@pytest.mark.parametrize("command", [("up", "--web", "0"), ("relay", "--idle", LATER)], ids=("up", "relay"))
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_destination_that_hangs_is_left_behind_in_silence(
    claude: Path, home: Path, command: tuple[str, ...], number: int
) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as hanging,
        started(*command, **waits_long_for(hanging.getsockname()[1])) as process,
        first_request(hanging),
    ):
        code, _, err = ended(process, number)
    assert (code, err) == (0, "")


def test_a_second_interrupt_ends_it_at_once_in_silence(claude: Path, home: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as hanging,
        started("relay", "--idle", LATER, **waits_long_for(hanging.getsockname()[1])) as relay,
        first_request(hanging),
    ):
        pages = urlsplit(ready(home, relay).web)
        relay.send_signal(signal.SIGINT)
        with suppress(OSError):
            while relay.poll() is None:  # its pages close before it waits for destinations
                socket.create_connection((pages.hostname or "", pages.port or 0)).close()
        code, _, err = ended(relay, signal.SIGINT)
    assert code in (0, INTERRUPTED)
    assert err == ""


def moves_to(home: Path, port: int) -> None:
    """Say in the file where the one destination is now: by its name it is still the same."""
    home.mkdir(exist_ok=True)
    endpoint = f'endpoint = "http://127.0.0.1:{port}"\nprotocol = "http/json"\ncompression = "none"\ntimeout = 3600'
    (home / "tachograph.toml").write_text(f'[forwarders.acme]\nkind = "otlp"\n{endpoint}\n')


def test_what_a_destination_that_hung_has_not_taken_is_sent_by_the_next(claude: Path, home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        moves_to(home, hanging.getsockname()[1])
        with started("relay", "--idle", LATER) as relay, first_request(hanging):
            assert ended(relay, signal.SIGTERM) == (0, "", "")
    said = [json.loads(line) for path in claude.iterdir() for line in path.read_text().splitlines()]
    expected = {line["uuid"] for line in said if line["type"] == "assistant"}
    taken: SimpleQueue[str] = SimpleQueue()
    with ThreadingHTTPServer(("127.0.0.1", 0), Taking) as destination:
        vars(destination)["taken"] = taken
        threading.Thread(target=destination.serve_forever).start()
        try:
            moves_to(home, destination.server_port)
            with started("relay", "--idle", LATER) as relay:
                bodies = ""
                while not all(one in bodies for one in expected):
                    bodies += taken.get()
                code, out, err = ended(relay, signal.SIGTERM)
                assert (code, out) == (0, "")
                assert "forwarders.acme: led to" in err, "whoever moves it is told"
        finally:
            destination.shutdown()


def test_one_a_user(home: Path) -> None:
    with started("relay", "--idle", LATER) as relay:
        ready(home, relay)
        with started("relay") as second:
            assert ended(second) == (0, "", "")
        assert relay.poll() is None


def test_none_beside_a_server(home: Path) -> None:
    with started("up", "--web", "0") as server:
        ready(home, server)
        with started("relay") as relay:
            assert ended(relay) == (0, "", "")


def test_none_where_another_command_has_the_store(home: Path) -> None:
    home.mkdir()
    lock = FolderLock(home)
    with started("relay") as relay:
        assert ended(relay) == (0, "", "")
    lock.release()


def test_a_server_takes_over(claude: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with started("relay", "--idle", LATER) as relay:
        ready(home, relay)
        with started("up", "--web", "0") as server:
            assert not ready(home, server).is_relay
            assert ended(relay) == (0, "", "")
            while calls(capsys) < TRUTH["llm_calls_ok"]:
                assert server.poll() is None
        assert calls(capsys) == TRUTH["llm_calls_ok"]


def test_a_server_starts_after_a_relay_was_killed(home: Path) -> None:
    with started("relay", "--idle", LATER) as relay:
        ready(home, relay)
        ended(relay, signal.SIGKILL)
    with started("up", "--web", "0") as server:
        ready(home, server)


def test_two_servers_are_still_one_too_many(home: Path) -> None:
    with started("up", "--web", "0") as server:
        ready(home, server)
        with started("up", "--web", "0") as second:
            code, _, err = ended(second)
        assert code == 2
        assert str(server.pid) in err


def test_only_its_owner_may_stop_it(home: Path) -> None:
    with started("relay", "--idle", LATER) as relay:
        found = ready(home, relay)
        stranger = running.Server(running.Running(found.pid, found.web, token="a-token-of-somebody-else"))
        with pytest.raises(ConfigError):
            stranger.stop()
        assert running.find(home) is not None
        running.Server(found).stop()
        assert ended(relay) == (0, "", "")


def test_a_taken_port_is_no_error(home: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = str(taken.getsockname()[1])
        with started("relay", "--idle", LATER, TACHOGRAPH_OTLP_HTTP=port, TACHOGRAPH_OTLP_GRPC=port) as relay:
            found = ready(home, relay)
            assert (found.otlp_http, found.otlp_grpc) == ("", "")
            assert ended(relay, signal.SIGTERM) == (0, "", "")


def test_it_opens_nothing_to_others(home: Path) -> None:
    with started("relay", "--idle", LATER, TACHOGRAPH_OTLP_HTTP="0.0.0.0:0", TACHOGRAPH_WEB="0.0.0.0:0") as relay:
        found = ready(home, relay)
        assert found.otlp_http == ""
        assert found.web.startswith("http://127.0.0.1:")


def test_it_ends_by_itself(home: Path) -> None:
    with started("relay", "--idle", "0s") as relay:
        assert ended(relay) == (0, "", "")
    assert not (home / running.FILE_NAME).exists()


def test_it_is_idle_when_nothing_new_comes_and_nothing_is_read() -> None:
    now, sequence, is_idle = 0.0, 0, True
    store = SimpleNamespace(sequence=lambda: sequence)
    server = cast(Any, SimpleNamespace(store=store, follower=SimpleNamespace(is_idle=lambda: is_idle)))
    is_over = idle_for(300, lambda: now)
    assert not is_over(cast(Server, server))
    now = 299
    assert not is_over(server)
    sequence = 1
    now = 301
    assert not is_over(server), "something has come"
    now = 600
    is_idle = False
    assert not is_over(server), "something is being read"
    now, is_idle = 1000, True
    assert is_over(server)


def test_a_duration_nobody_knows(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["relay", "--idle", "soon"]) == 2
    assert "--idle: got" in capsys.readouterr().err
