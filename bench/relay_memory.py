"""How large a relay gets: idle, while a recorded Pi session is read, and while spans come in, with every destination.

Starts `tachograph relay` with an empty home and a sink that takes everything, once for each kind of destination, for
none, for all at once, and for one that never answers. Peaks are those that the system kept (VmHWM, set back between
the stages), the rest is looked at 20 times a second. Linux alone tells.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from http.client import HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import msgspec

sys.path.insert(0, str(Path(__file__).parent))

import load
from intake import free_port

REQUEST_SPANS = 512
SPOOL = Path(__file__).parents[1] / "tests" / "data" / "captures" / "pi-spool-087-rpc" / "spool"
LOOK_S = 0.05
IDLE_S = 7.0  # housekeeping looks for the first time after five
QUIET_S = 25.0  # what is made of calls waits ten seconds for other sources, and until the ledger has it
ENDED_S = 180.0
KINDS: dict[str, str] = {
    "otlp": 'kind = "otlp"\nendpoint = "{url}"',
    "otlp normalised": 'kind = "otlp"\nshape = "normalised"\nendpoint = "{url}"',
    "langfuse": 'kind = "langfuse"\nurl = "{url}"\npublic_key = "pk-lf-bench"\nsecret_key = "sk-lf-bench"',
    "posthog": 'kind = "posthog"\nhost = "{url}"\napi_key = "phc_benchbenchbenchbenchbenchbench"',
    "prometheus": 'kind = "prometheus"\nurl = "{url}/api/v1/write"',
    "loki": 'kind = "loki"\nurl = "{url}"',
}
SUBJECTS: dict[str, tuple[str, ...]] = {
    "none": (),
    **{kind: (kind,) for kind in KINDS},
    "all": tuple(KINDS),
    "never answers": ("otlp normalised",),
}
Found = dict[str, float]


class Sink(BaseHTTPRequestHandler):
    """Takes everything, and counts it."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answer 200 to whatever comes."""
        self.rfile.read(int(self.headers["Content-Length"]))
        cast(Any, self.server).requests += 1
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def sink() -> Iterator[Any]:
    """A destination on loopback; `requests` is how many it took."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Sink) as server:
        vars(server)["requests"] = 0
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()


class Relay:
    """A real relay on an empty home, and what the system says of its memory."""

    def __init__(self, folder: Path, settings: str) -> None:
        self.home, self.http = folder / "home", free_port()
        self.home.mkdir()
        (self.home / "tachograph.toml").write_text(settings, encoding="utf-8")
        doors = {"TACHOGRAPH_OTLP_HTTP": f"127.0.0.1:{self.http}", "TACHOGRAPH_OTLP_GRPC": f"127.0.0.1:{free_port()}"}
        environment = _without_destinations(os.environ) | {"HOME": str(folder), "TACHOGRAPH_HOME": str(self.home)}
        command = [sys.executable, "-m", "tachograph", "relay", "--idle", "1h"]
        self._process = subprocess.Popen(command, env=environment | doors, stderr=subprocess.PIPE)
        while not (self.home / "server.json").exists():
            if self._process.poll() is not None:
                raise SystemExit(f"the relay did not start: {self._process.communicate()[1]!r}")
            time.sleep(0.02)
        self._proc = Path(f"/proc/{self._process.pid}")
        self.pss_bytes = self.own_bytes = 0
        self._has_ended = threading.Event()
        self._looking = threading.Thread(target=self._look, daemon=True)
        self._looking.start()

    def peak_bytes(self) -> int:
        """The most that was in memory since the last time that this was asked."""
        peak = max(self.now_bytes("VmHWM"), self.now_bytes("VmRSS"))
        with suppress(OSError):
            (self._proc / "clear_refs").write_text("5", encoding="ascii")
        return peak

    def now_bytes(self, what: str = "VmRSS") -> int:
        """What is in memory now."""
        return _kilobytes((self._proc / "status").read_text(encoding="ascii"), what)

    def cpu_s(self) -> float:
        """CPU seconds that it has used."""
        fields = (self._proc / "stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def cursors(self) -> list[int]:
        """How far each destination is."""
        path = self.home / "forwarding.sqlite3"
        if not path.exists():
            return []
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as progress:
            rows = progress.execute("SELECT state FROM destinations").fetchall()
        return [int(msgspec.msgpack.decode(state).get("cursor", 0)) for (state,) in rows]

    def close(self) -> None:
        """End it as Ctrl-C does."""
        self._has_ended.set()
        self._looking.join()
        self._process.send_signal(signal.SIGINT)
        try:
            _, said = self._process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            _, said = self._process.communicate()
        if said:
            print(said.decode(errors="replace")[:2000], file=sys.stderr)

    def _look(self) -> None:
        while not self._has_ended.wait(LOOK_S):
            with suppress(OSError):  # it has ended, or nobody may look
                told = (self._proc / "smaps_rollup").read_text(encoding="ascii")
                self.pss_bytes = max(self.pss_bytes, _kilobytes(told, "Pss"))
                self.own_bytes = max(self.own_bytes, _kilobytes(told, "Anonymous"))


def _without_destinations(variables: Mapping[str, str]) -> dict[str, str]:
    """The environment without what names destinations or a home: the developer's own are not measured."""
    names = ("OTEL_", "LANGFUSE_", "POSTHOG_", "TACHOGRAPH_", "CLAUDE_", "CODEX_", "PI_", "XDG_")
    return {name: value for name, value in variables.items() if not name.startswith(names)}


def _kilobytes(told: str, what: str) -> int:
    found = re.search(rf"^{what}:\s+(\d+) kB", told, re.MULTILINE)
    return int(found.group(1)) * 1024 if found else 0


def quiet(relay: Relay, taking: Any, least_s: float) -> None:
    """Wait until nothing was sent for a while."""
    seen: object = None
    began = since = time.monotonic()
    while time.monotonic() - since < least_s and time.monotonic() - began < ENDED_S:
        time.sleep(0.2)
        now = (relay.cursors(), taking.requests)
        if now != seen:
            seen, since = now, time.monotonic()


def send(port: int, spans: int, size: int, rate: float) -> int:
    """Post so many spans, `size` in a request and so many a second; how often the relay was busy."""
    busy = 0
    head = "POST /v1/traces HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-protobuf\r\n"
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        for place, body in enumerate(load.requests(spans // size, size, step_ns=1_000_000)):
            time.sleep(max(0.0, began + place * size / rate - time.monotonic()))
            while (status := _posted(connection, f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)) != 200:
                if status != 503:
                    raise SystemExit(f"the relay answered {status}")
                busy += 1
                time.sleep(0.2)
    return busy


def _posted(connection: socket.socket, request: bytes) -> int:
    """The status that a request is answered with."""
    connection.sendall(request)
    answer = HTTPResponse(connection)
    answer.begin()
    answer.read()
    return answer.status


def run(kinds: tuple[str, ...], spans: int, size: int, rate: float, *, never_answers: bool) -> Found:
    """One relay through all stages; in MB."""
    folder = Path(tempfile.mkdtemp(prefix="tachograph-bench-"))
    found: Found = {}
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        taking = stack.enter_context(sink())
        port = taking.server_port
        if never_answers:
            port = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=100)).getsockname()[1]
        tables = (f"[forwarders.to-{kind.replace(' ', '-')}]\n{KINDS[kind]}\n" for kind in kinds)
        relay = Relay(folder, "\n".join(tables).format(url=f"http://127.0.0.1:{port}"))
        stack.callback(relay.close)
        wait_s = QUIET_S if kinds else IDLE_S
        time.sleep(IDLE_S)
        found["idle, peak"], found["idle"] = relay.peak_bytes() / 1e6, relay.now_bytes() / 1e6
        shutil.copytree(SPOOL, relay.home / "spool" / "pi")
        quiet(relay, taking, wait_s)
        found["Pi, peak"] = relay.peak_bytes() / 1e6
        cpu_s = relay.cpu_s()
        found["busy"] = send(relay.http, spans, size, rate)
        quiet(relay, taking, wait_s)
        found["spans, peak"], found["after"] = relay.peak_bytes() / 1e6, relay.now_bytes() / 1e6
        found["Pss, peak"], found["own, peak"] = relay.pss_bytes / 1e6, relay.own_bytes / 1e6
        found["CPU s"], found["requests"] = relay.cpu_s() - cpu_s, float(taking.requests)
    return found


def main() -> None:
    """Print the medians of each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--spans", type=int, default=20_000)
    parser.add_argument("--rate", type=float, default=2000.0, help="spans a second (default: 2000)")
    parser.add_argument("--request", type=int, default=REQUEST_SPANS, help="spans in a request (default: 512)")
    parser.add_argument("--to", choices=SUBJECTS, action="append")
    given = parser.parse_args()
    if not sys.platform.startswith("linux"):
        raise SystemExit("only Linux says how large a process was")
    for name in given.to or SUBJECTS:
        runs = [
            run(SUBJECTS[name], given.spans, given.request, given.rate, never_answers=name == "never answers")
            for _ in range(given.runs)
        ]
        told = ", ".join(f"{one} {statistics.median(r[one] for r in runs):.4g}" for one in runs[0])
        print(f"{name}: {told}", flush=True)


if __name__ == "__main__":
    main()
