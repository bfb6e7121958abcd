"""Recorded requests and transcripts of real clients, read as `tachograph replay` reads them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tachograph import ledger, redaction, registry
from tachograph.cli.recordings import parts_of, read
from tachograph.model import Batch

CAPTURES = Path(__file__).parent / "data" / "captures"
MANIFEST: dict[str, Any] = json.loads((CAPTURES / "MANIFEST.json").read_text(encoding="utf-8"))


def requests(folder: Path) -> Iterator[Batch]:
    """One batch for each recorded request of a set, decoded, in the order they were sent."""
    return (batch for part in parts_of([folder]) if part.signal for batch in read(part))


def transcripts(folder: Path) -> Iterator[Batch]:
    """The batches of all transcripts of a set that somebody knows to read."""
    return (batch for part in parts_of([folder]) if not part.signal for batch in read(part))


def prepared(batch: Batch, mode: str = "redacted") -> Batch:
    """The batch after all stages of the road in."""
    registry.normalise(batch)
    redaction.redact(batch, mode)
    ledger.report(batch)
    return batch
