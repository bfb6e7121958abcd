"""Our own counters and log lines: what the process says about itself."""

from __future__ import annotations

import sys
import threading
from collections import defaultdict, deque
from typing import Final, NamedTuple

from tachograph.model import Batch

DURATIONS_KEPT: Final = 1024  # enough for a p99 that means something, small enough to sort at any time


class Duration(NamedTuple):
    """How long the last runs of something took, in nanoseconds."""

    runs: int
    median_ns: int
    p99_ns: int
    max_ns: int


class Telemetry:
    """Counts and durations of one process; safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._durations: defaultdict[str, deque[int]] = defaultdict(lambda: deque(maxlen=DURATIONS_KEPT))

    def count(self, name: str, kind: str = "", by: int = 1) -> None:
        """Add to a counter; `kind` tells its parts apart (a signal, a reason)."""
        with self._lock:
            self._counts[name, kind] += by

    def count_batch(self, name: str, batch: Batch) -> None:
        """Add a batch's records to `name`, by signal."""
        with self._lock:
            for kind, records in (("spans", batch.spans), ("events", batch.events), ("points", batch.points)):
                if records:
                    self._counts[name, kind] += len(records)

    def took(self, name: str, duration_ns: int) -> None:
        """Note how long one run of `name` took."""
        with self._lock:
            self._durations[name].append(duration_ns)

    def counts(self) -> dict[tuple[str, str], int]:
        """All counters by name and kind."""
        with self._lock:
            return dict(self._counts)

    def durations(self) -> dict[str, Duration]:
        """The last durations of everything that was measured."""
        with self._lock:
            kept = {name: sorted(values) for name, values in self._durations.items()}
        return {
            name: Duration(len(v), v[len(v) // 2], v[min(len(v) - 1, len(v) * 99 // 100)], v[-1])
            for name, v in kept.items()
        }


def say(level: str, what: str) -> None:
    """One line on stderr: `tachograph: warning: ...`; control characters cannot make it two."""
    line = f"tachograph: {level}: {what}"
    printable = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in line)
    print(printable, file=sys.stderr, flush=True)
