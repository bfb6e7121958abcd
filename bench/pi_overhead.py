"""What the Pi extension costs a run: CPU of the process tree and wall time, without it, with an empty one, with it."""

from __future__ import annotations

import json
import os
import socket
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "clients"))

import pi_runs
from fake_llm import FakeLlm

VERSION = "0.87.1"
RUNS = 9
_BASH = {"tools": [{"name": "bash", "input": {"command": "true"}}]}
_READ = {"tools": [{"name": "read", "input": {"path": "hello.py"}}]}
# Five model calls, four tool runs, an answer in two hundred pieces.
SCENARIO = {"default": [_BASH, _READ, _BASH, _READ, {"text": "word " * 400, "chunks": 200, "chunk_s": 0.001}]}


class Cost(NamedTuple):
    """Of one run."""

    cpu_s: float
    wall_s: float


def installed(folder: Path, name: str, llm: FakeLlm) -> pi_runs.Pi:
    """Pi with our extension, with one that does nothing, or without any."""
    pi = pi_runs.Pi(VERSION, folder / name.replace(" ", "-"), llm)
    empty = folder / "empty.ts"
    empty.write_text("export default function () {}\n", encoding="utf-8")
    settings = json.loads((pi.agent / "settings.json").read_text(encoding="utf-8"))
    if not name.startswith("ours"):
        settings["packages"] = []
    if name == "empty":
        settings["extensions"] = [str(empty)]
    (pi.agent / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    return pi


def measured(pi: pi_runs.Pi) -> Cost:
    """One run to its end, with all the processes that it waited for."""
    begun = time.perf_counter()
    process = os.posix_spawn(
        pi.command[0],
        [*pi.command, "-p", "do it"],
        pi.environment | {"PWD": str(pi.work)},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
        ],
    )
    _, status, used = os.wait4(process, 0)
    assert status == 0, status
    return Cost(used.ru_utime + used.ru_stime, time.perf_counter() - begun)


def main() -> None:
    """Interleave the runs, so that a machine that slows down slows all of them."""
    with FakeLlm(SCENARIO) as llm, tempfile.TemporaryDirectory() as made, socket.socket() as hanging:
        hanging.bind(("127.0.0.1", 0))
        hanging.listen()  # takes connections and never answers
        pis = {
            name: installed(Path(made), name, llm)
            for name in ("none", "empty", "ours", "ours, server refuses", "ours, server hangs")
        }
        endpoints = {"ours, server refuses": 9, "ours, server hangs": hanging.getsockname()[1]}
        for name, port in endpoints.items():
            pis[name].environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{port}"
        os.chdir(pis["none"].work)
        costs: dict[str, list[Cost]] = {name: [] for name in pis}
        for turn in range(RUNS + 1):
            for name, pi in pis.items():
                cost = measured(pi)
                if turn:  # the first fills the caches of files
                    costs[name].append(cost)
    print(f"Pi {VERSION}, median of {RUNS} interleaved runs")
    print(f"{'':22}{'CPU s':>8}{'wall s':>8}{'CPU +':>9}{'wall +':>9}")
    cpu = {name: statistics.median(cost.cpu_s for cost in some) for name, some in costs.items()}
    wall = {name: statistics.median(cost.wall_s for cost in some) for name, some in costs.items()}
    for name in costs:
        more = (cpu[name] - cpu["empty"], wall[name] - wall["empty"])
        print(f"{name:22}{cpu[name]:8.3f}{wall[name]:8.3f}{more[0]:+9.3f}{more[1]:+9.3f}")


if __name__ == "__main__":
    main()
