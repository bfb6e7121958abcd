"""Replay recorded telemetry through the real road into the store: NNN-traces.bin with NNN-traces.headers.json, ...

A folder may hold folders. Transcripts beside the bodies are read too. With a running server the recordings go to it.
Replaying twice changes nothing: every call is counted once.
"""

from __future__ import annotations

import argparse
from collections import Counter
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from tachograph.cli.arguments import add_json, settings
from tachograph.cli.formats import count
from tachograph.cli.tables import write_json, write_lines
from tachograph.errors import Rejected

EXAMPLES = ("tachograph replay recordings/claude-code", "tachograph replay --json recordings/codex recordings/pi")


def arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `replay`."""
    parser.add_argument("folders", metavar="FOLDER", nargs="+", help="recorded bodies, or folders of such folders")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Replay; 1 where a file could not be read, after all the others."""
    from tachograph.cli.progress import tracked
    from tachograph.cli.reading import Sink, open_sink
    from tachograph.cli.recordings import Part, parts_of, read

    parts = parts_of([Path(folder).expanduser() for folder in arguments.folders])
    summary = Summary()

    def play(part: Part, sink: Sink, kept: list[Future[int]]) -> None:
        try:
            for batch in read(part):
                summary.add(batch)
                kept.append(sink.submit(batch))
            summary.files["transcripts" if not part.signal else part.signal] += 1
        except Rejected as error:
            summary.rejected[str(part.path)] = error.what

    with open_sink(settings(arguments)) as sink:
        kept: list[Future[int]] = []
        for part in tracked(parts, "replay", len(parts)):
            play(part, sink, kept)
        for future in kept:
            future.result()
    if arguments.json:
        write_json(summary.as_dict())
    else:
        write_lines(summary.lines())
    return 1 if summary.rejected else 0


class Summary:
    """What was replayed."""

    def __init__(self) -> None:
        self.files: Counter[str] = Counter()
        self.records: Counter[str] = Counter()
        self.rejected: dict[str, str] = {}

    def add(self, batch: Any) -> None:
        """Count a batch's records."""
        for name in ("spans", "events", "points"):
            self.records[name] += len(getattr(batch, name))
        self.records["rejected"] += batch.rejected

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"files": dict(self.files), "records": dict(self.records), "rejected": self.rejected}

    def lines(self) -> list[str]:
        """For people."""
        files = ", ".join(f"{count(n)} {name}" for name, n in sorted(self.files.items()))
        records = ", ".join(f"{count(n)} {name}" for name, n in self.records.items() if n)
        lines = [f"replayed {files or 'nothing'}: {records or 'no records'}"]
        lines += [f"not replayed: {path}: {why}" for path, why in self.rejected.items()]
        return lines
