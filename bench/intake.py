"""Stored spans a second through the real server, durable before the answer: big requests, and small ones in parallel.

Starts `tachograph up` on free ports with an empty home, sends requests made beforehand from other processes, and
counts only answers of 200. CPU is the server's own, from the operating system.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import load


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A real server on an empty home."""

    def __init__(self, home: Path, variables: Mapping[str, str] | None = None) -> None:
        self.home = home
        self.http, self.grpc, self.web = free_port(), free_port(), free_port()
        ports = {"OTLP_HTTP": self.http, "OTLP_GRPC": self.grpc, "WEB": self.web}
        environment = dict(os.environ) | {f"TACHOGRAPH_{name}": f"127.0.0.1:{port}" for name, port in ports.items()}
        environment |= {"TACHOGRAPH_HOME": str(home), **(variables or {})}
        started = time.monotonic()
        command = [sys.executable, "-m", "tachograph", "up", "--no-demo", "--follow", "off"]
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        while True:
            try:
                for port in (self.http, self.grpc, self.web):
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if self.process.poll() is not None or time.monotonic() - started > 30:
                    raise SystemExit(f"the server did not start: {self.process.communicate()[1]!r}") from None
                time.sleep(0.02)
        self.ready_s = time.monotonic() - started

    def cpu_s(self) -> float:
        """CPU seconds that the server has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_bytes(self, what: str = "VmRSS") -> int:
        """Resident memory now (`VmRSS`) or at its highest (`VmHWM`)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        found = re.search(rf"{what}:\s+(\d+) kB", status)
        return int(found.group(1)) * 1024 if found else 0

    def stop(self) -> None:
        """Stop it as Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)


def send(port: int, bodies: Sequence[bytes], out: Any) -> None:
    """Post the bodies over one connection, one after the other; the answer times go to `out`."""
    head = "POST /v1/traces HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-protobuf\r\n"
    head += "Content-Length: {}\r\n\r\n"
    times: list[float] = []
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for body in bodies:
            while True:
                start = time.perf_counter()
                connection.sendall(head.format(len(body)).encode() + body)
                answer = b""
                while b"\r\n\r\n" not in answer:
                    answer += connection.recv(65536)
                if answer.startswith(b"HTTP/1.1 200"):
                    break
                if not answer.startswith(b"HTTP/1.1 503"):
                    raise SystemExit(answer[:200].decode(errors="replace"))
                time.sleep(0.2)
            times.append(time.perf_counter() - start)
    out.put(times)


def run(spans: int, connections: int, total: int, variables: Mapping[str, str] | None = None) -> dict[str, float]:
    """One run: `total` spans in requests of `spans` over `connections` connections; `variables` are the server's."""
    folder = Path(tempfile.mkdtemp(prefix="tachograph-bench-"))
    each = max(1, total // spans // connections)
    shares = [list(load.requests(each, spans, seed=n + 1, step_ns=1_000_000)) for n in range(connections)]
    server = Server(folder / "home", variables)
    try:
        out: Any = multiprocessing.Queue()
        cpu, start = server.cpu_s(), time.monotonic()
        senders = [multiprocessing.Process(target=send, args=(server.http, share, out)) for share in shares]
        for sender in senders:
            sender.start()
        times = sorted(t for _ in senders for t in out.get())
        wall = time.monotonic() - start
        used = server.cpu_s() - cpu
        for sender in senders:
            sender.join()
        peak = server.memory_bytes("VmHWM")
    finally:
        server.stop()
    size = sum(path.stat().st_size for path in (folder / "home").rglob("*") if path.is_file())
    shutil.rmtree(folder)
    sent = each * connections * spans
    return {
        "spans/s": sent / wall,
        "p50 ms": times[len(times) // 2] * 1e3,
        "p99 ms": times[int(len(times) * 0.99)] * 1e3,
        "max ms": times[-1] * 1e3,
        "cpu us/span": used / sent * 1e6,
        "disk B/span": size / sent,
        "peak MB": peak / 1e6,
        "ready s": server.ready_s,
    }


def main() -> None:
    """Print the median of several runs for both kinds of requests."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--spans", type=int, default=200_000)
    given = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for spans, connections, total in ((512, 4, given.spans), (10, 16, given.spans // 4)):
        runs = [run(spans, connections, total) for _ in range(given.runs)]
        told = ", ".join(f"{name} {statistics.median(r[name] for r in runs):.4g}" for name in runs[0])
        print(f"{spans}-span requests, {connections} connections: {told}", flush=True)


if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    main()
