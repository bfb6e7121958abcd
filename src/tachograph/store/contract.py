"""What every store must do; one suite of tests holds each engine to it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Protocol

from tachograph.model import Batch, Report, Settlement, Unsettled
from tachograph.scan import Reader

__all__ = ["Settlement", "Store", "Unsettled"]


class Store(Reader, Protocol):
    """Keeps batches; safe to use from any thread. Errors: Busy (disk full, locked for long), Corrupt."""

    def commit(self, batches: Sequence[Batch]) -> int:
        """Keep the batches in one durable transaction and return its sequence number.

        All or nothing: when this returns, everything is on disk (fdatasync) and every reader sees it; when it raises,
        nothing of it is kept and the store goes on working. Batches whose digest is already kept are left out. The
        caller must not use the batches afterwards.
        """
        ...

    def unsettled(self, limit: int) -> Unsettled:
        """What was committed since the last settlement, about `limit` reports at most, whole commits."""
        ...

    def reports(
        self, keys: Collection[int] = (), traces: Collection[str] = (), ids: Collection[str] = ()
    ) -> list[Report]:
        """Kept reports that have any of the keys, lie in any of the traces, or have any of the ids; each once."""
        ...

    def parents(self, traces: Collection[str]) -> dict[str, dict[str, str]]:
        """Trace id -> span id -> parent id, of all kept spans of the traces."""
        ...

    def settle(self, settlement: Settlement) -> None:
        """Keep what the ledger made, bring the sessions it touches up to date and move the watermark."""
        ...

    def positions(self) -> dict[str, str]:
        """Read positions of files, as committed with their data."""
        ...

    def forget(self, before_ns: int | None = None, bytes_max: int | None = None) -> int:
        """Remove whole days that ended before `before_ns`, and the oldest days until at most `bytes_max` bytes lie on
        disk; the disk is really freed. Returns the number of days removed."""
        ...

    def clear_demo(self) -> int:
        """Remove every trace of the demo; returns the number of records removed."""
        ...

    def backup(self, target: Path) -> None:
        """Write a consistent copy of the running store to `target` (a new folder)."""
        ...

    def tidy(self) -> None:
        """Do what is due when it is quiet: checkpoint, drop re-sent duplicates, seal past days."""
        ...

    def size_bytes(self) -> int:
        """Bytes on disk."""
        ...

    def close(self) -> None:
        """Flush and let go of the folder."""
        ...
