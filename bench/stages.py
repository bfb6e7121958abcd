"""CPU time of each stage of the road in, in microseconds a span, on one thread."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import load

from tachograph import ledger, redaction, registry
from tachograph.model import Batch
from tachograph.receivers import otlp

ROUNDS = 5
SPANS = 512


def main() -> None:
    """Print the median of five rounds for each stage."""
    bodies = list(load.requests(30, SPANS))
    stages: list[tuple[str, Callable[[Batch], object]]] = [
        ("normalise", registry.normalise),
        ("redact", lambda batch: redaction.redact(batch, "redacted")),
        ("report", ledger.report),
    ]
    times: dict[str, list[float]] = {"decode": [], **{name: [] for name, _ in stages}}
    for _ in range(ROUNDS):
        start = time.process_time()
        batches = [otlp.decode("traces", body, "application/x-protobuf") for body in bodies]
        times["decode"].append(time.process_time() - start)
        for name, stage in stages:
            start = time.process_time()
            for batch in batches:
                stage(batch)
            times[name].append(time.process_time() - start)
    for name, taken in times.items():
        print(f"{name:10} {sorted(taken)[ROUNDS // 2] / len(bodies) / SPANS * 1e6:6.2f} us a span")


if __name__ == "__main__":
    main()
