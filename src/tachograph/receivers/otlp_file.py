"""OTLP in files, one JSON request a line, as recorded Python programs and OpenTelemetry's file exporters write it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from tachograph.config import Surroundings
from tachograph.errors import Rejected
from tachograph.lines import Page, read_lines
from tachograph.model import Batch
from tachograph.receivers import otlp_json

NAME: Final = "python"
_SIGNALS: Final = {"resourceSpans": "traces", "resourceLogs": "logs", "resourceMetrics": "metrics"}
_ENCODE: Final = msgspec.json.Encoder().encode


def discover(where: Surroundings) -> Iterator[Path]:
    """The spool of the programs that `tachograph run` has started."""
    yield from (where.spool / NAME).glob("*.jsonl")


def is_mine(path: Path, first: dict[str, Any]) -> bool:
    """Any file whose first line is an OTLP request."""
    return _signal(first) is not None


def _signal(line: dict[str, Any]) -> str | None:
    return next((signal for key, signal in _SIGNALS.items() if isinstance(line.get(key), list)), None)


def read(path: Path, since: str) -> tuple[Batch, str]:
    """The records of the requests after `since`; a line that is none is left out and counted."""
    refused: list[str] = []

    def understand(line: dict[str, Any], _: dict[str, Any], page: Page) -> None:
        signal = _signal(line)
        if signal is None:
            refused.append("a line is no OTLP request")
            return
        one = Batch()
        try:
            otlp_json.read(signal, _ENCODE(line), one)
        except Rejected as error:
            refused.append(error.what)
            return
        page.spans += one.spans
        page.events += one.events
        page.points += one.points
        refused.extend(one.reasons)

    batch, position = read_lines(path, since, NAME, understand, "hook")
    batch.rejected += len(refused)
    batch.reasons = [*batch.reasons, *refused][:3]
    return batch, position
