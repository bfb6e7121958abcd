"""Recorded requests and transcripts of real clients, read as `tachograph replay` reads them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tachograph import ledger, redaction, registry
from tachograph.cli.recordings import parts_of, read
from tachograph.errors import ConfigError
from tachograph.model import Batch

CAPTURES = Path(__file__).parent / "data" / "captures"
MANIFEST: dict[str, Any] = json.loads((CAPTURES / "MANIFEST.json").read_text(encoding="utf-8"))


def requests(folder: Path) -> Iterator[Batch]:
    """One batch for each recorded request of a set, decoded, in the order they were sent."""
    return (batch for part in parts_of([folder]) if part.signal for batch in read(part))


def transcripts(folder: Path) -> Iterator[Batch]:
    """The batches of all transcripts of a set that somebody knows to read."""
    return (batch for part in parts_of([folder]) if not part.signal for batch in read(part))


def everything(name: str, mode: str = "redacted") -> list[Batch]:
    """All requests and transcripts of a set, after all stages of the road in; a set may have either or both."""
    found: list[Batch] = []
    for source in (requests, transcripts):
        try:
            found += [prepared(batch, mode) for batch in source(CAPTURES / name)]
        except ConfigError:
            continue  # nothing was recorded this way
    return found


def prepared(batch: Batch, mode: str = "redacted") -> Batch:
    """The batch after all stages of the road in."""
    registry.normalise(batch)
    redaction.redact(batch, mode)
    ledger.report(batch)
    return batch
