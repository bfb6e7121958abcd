"""Import of a Claude Code history against ccusage on the same files: cold, and a second time with nothing new."""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from histories import write

PEAK_EVERY_S = 0.2


class Run(NamedTuple):
    """One run of a program: wall and CPU seconds, and the most memory that it and its children had at once."""

    wall_s: float
    cpu_s: float
    peak_bytes: int
    out: str


def measure(words: list[str], **variables: str) -> Run:
    """Run a program and look at its memory while it runs."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    peak = 0
    with (
        tempfile.TemporaryFile() as out,
        subprocess.Popen(words, stdout=out, stderr=subprocess.DEVNULL, env=os.environ | variables) as process,
    ):
        while process.poll() is None:
            peak = max(peak, sum(map(resident, family(process.pid))))
            time.sleep(PEAK_EVERY_S if peak else 0.01)
        wall = time.perf_counter() - began
        out.seek(0)
        said = out.read().decode()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Run(wall, cpu, peak, said)


def family(pid: int) -> list[int]:
    """A process and all below it, as Linux tells."""
    found = [pid]
    for one in found:
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            try:
                found += map(int, task.read_text().split())
            except OSError:
                continue
    return found


def resident(pid: int) -> int:
    """Bytes of memory that a process has, 0 where it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return 0


def ours(history: Path, home: Path) -> tuple[Run, Run, dict[str, Any]]:
    """A first import into an empty store, a second one, and what the first has told."""
    words = [sys.executable, "-m", "tachograph", "import", "claude-code", "--json"]
    variables = {"TACHOGRAPH_HOME": str(home), "CLAUDE_CONFIG_DIR": str(history), "HOME": str(home.parent)}
    shutil.rmtree(home, ignore_errors=True)
    cold, second = (measure(words, **variables) for _ in range(2))
    return cold, second, json.loads(cold.out)["agents"][0]


def show(name: str, run: Run) -> None:
    """One line of the answer."""
    sys.stdout.write(f"{name:24} {run.wall_s:8.2f} s wall {run.cpu_s:8.2f} s CPU {run.peak_bytes / 1e6:8.0f} MB peak\n")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("megabytes", type=int, nargs="?", default=1000)
    parser.add_argument("--runs", type=int, default=3, help="of each, in turns")
    parser.add_argument("--ccusage", metavar="FILE", help="its program; without, only ours is measured")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tachograph-bench-") as folder:
        history, home = Path(folder) / "history", Path(folder) / "home"
        truth = write(history, given.megabytes * 1_000_000, 1)
        for _ in range(given.runs):
            cold, second, told = ours(history, home)
            assert (told["calls"], told["sessions"]) == (truth.calls, truth.sessions), told
            show("tachograph import, cold", cold)
            show("tachograph import, again", second)
            if given.ccusage:
                words = [given.ccusage, "daily", "--offline", "--json"]
                show("ccusage", measure(words, CLAUDE_CONFIG_DIR=str(history), HOME=folder))


if __name__ == "__main__":
    main()
