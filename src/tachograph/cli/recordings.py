"""Recorded telemetry on disk: request bodies as they were sent, and the transcripts that lie beside them."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from tachograph.errors import ConfigError, Rejected
from tachograph.model import Batch
from tachograph.receivers import bodies, otlp
from tachograph.registry import files_of

_BODY: Final = re.compile(r"(\d+)-(traces|metrics|logs)\.bin")
_PACKED: Final = {".gz": "gzip", ".zst": "zstd"}
_PROTOBUF: Final = "application/x-protobuf"
# Endings of what agents write themselves: lines, or a database.
_TRANSCRIPTS: Final = (".jsonl", ".db", ".sqlite")
# A recorded body, decompressed, is held to what a receiver takes by default.
_BYTES_MAX: Final = 64 * 1024 * 1024
# A transcript is read as a whole where it is packed; those of long sessions are some tens of megabytes.
_TRANSCRIPT_BYTES_MAX: Final = 1024 * 1024 * 1024


class Part(NamedTuple):
    """One file of a recording: a request body with its signal, or a transcript ("")."""

    path: Path
    signal: str = ""


def parts_of(roots: Iterable[Path]) -> list[Part]:
    """All recorded bodies in order, folder by folder, each followed by its transcripts.

    Raises ConfigError for a root that is not there or holds nothing of the kind.
    """
    found: list[Part] = []
    for root in roots:
        if not root.exists():
            raise ConfigError(f"replay: {root}: got no such folder; expected one of recorded bodies")
        inside = [root] if root.is_file() else sorted(path for path in root.rglob("*") if path.is_file())
        some = [part for part in map(_part, inside) if part is not None]
        if not some:
            raise ConfigError(
                f"replay: {root}: got a folder without recordings; expected NNN-traces.bin, NNN-logs.bin, "
                "NNN-metrics.bin, or transcripts",
            )
        found += sorted(some, key=_order)
    return found


def read(part: Part) -> Iterator[Batch]:
    """The batches of one part, decoded but not yet through the stages; raises Rejected where it is not what it says."""
    if part.signal:
        yield _body(part)
    else:
        yield from _transcript(part.path)


def _part(path: Path) -> Part | None:
    if body := _BODY.fullmatch(path.name):
        return Part(path, body[2])
    plain = path.name.removesuffix(path.suffix) if path.suffix in _PACKED else path.name
    if not plain.endswith(_TRANSCRIPTS):
        return None
    is_known = path.suffix in _PACKED or files_of(path) is not None
    return Part(path) if is_known else None


def _order(part: Part) -> tuple[str, bool, str]:
    """A body by its folder and number; a transcript after the bodies of the folder that its folder lies in."""
    parents = [parent.name for parent in part.path.parents]
    above = parents.index("transcript") + 1 if "transcript" in parents else 0
    return (str(part.path.parents[above]), not part.signal, str(part.path))


def _body(part: Part) -> Batch:
    headers = _headers(part.path)
    body = bodies.decompress(part.path.read_bytes(), headers.get("content-encoding", ""), _BYTES_MAX)
    media_type = headers.get("content-type", _PROTOBUF)
    if "grpc" in media_type:
        media_type = _PROTOBUF
    return otlp.decode(part.signal, body, media_type)


def _headers(path: Path) -> dict[str, str]:
    """The headers recorded beside a body, by lower-case name; none where they were not recorded."""
    beside = path.with_suffix(".headers.json")
    try:
        told = msgspec.json.decode(beside.read_bytes(), type=dict[str, Any])
        pairs = told.get("headers", told)
        given = pairs.items() if isinstance(pairs, dict) else [tuple(pair) for pair in pairs]
        return {str(name).lower(): str(value) for name, value in given}
    except FileNotFoundError:
        return {}
    except (msgspec.DecodeError, UnicodeDecodeError, TypeError, ValueError) as error:
        raise Rejected(f"{beside}: got {error}; expected JSON with the headers of {path.name}") from None


def _transcript(path: Path) -> Iterator[Batch]:
    if path.suffix in _PACKED:
        with tempfile.TemporaryDirectory(prefix="tachograph-") as folder:
            unpacked = Path(folder) / path.stem
            unpacked.write_bytes(bodies.decompress(path.read_bytes(), _PACKED[path.suffix], _TRANSCRIPT_BYTES_MAX))
            yield from _transcript(unpacked)
        return
    kind = files_of(path)
    if kind is None:
        return
    position = ""
    while True:
        batch, after = kind.read(path, position)
        if after == position:
            return
        position = after
        yield batch
