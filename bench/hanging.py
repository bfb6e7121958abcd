"""What a destination that hangs costs who sends: intake and peak memory with one against none, in turn."""

from __future__ import annotations

import argparse
import multiprocessing
import socket
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import intake

REQUEST_SPANS = 512
CONNECTIONS = 4


def main() -> None:
    """Print the medians of both."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--spans", type=int, default=50_000)
    given = parser.parse_args()
    with socket.socket() as hanging:  # takes connections and never answers
        hanging.bind(("127.0.0.1", 0))
        hanging.listen(100)
        to = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{hanging.getsockname()[1]}"}
        to["OTEL_EXPORTER_OTLP_PROTOCOL"] = "http/protobuf"
        runs: dict[str, list[dict[str, float]]] = {"none": [], "one that hangs": []}
        for _ in range(given.runs):
            for name, variables in (("none", {}), ("one that hangs", to)):
                runs[name].append(intake.run(REQUEST_SPANS, CONNECTIONS, given.spans, variables))
    for name, found in runs.items():
        told = ", ".join(f"{one} {statistics.median(r[one] for r in found):.4g}" for one in found[0])
        print(f"destinations: {name}: {told}", flush=True)


if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    main()
