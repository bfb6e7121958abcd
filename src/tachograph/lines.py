"""Reads JSON Lines files piece by piece: whole lines only, from where the last reading ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextvars import ContextVar
from datetime import datetime
from hashlib import blake2b
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeVar

import msgspec
import zstandard

from tachograph.errors import Rejected
from tachograph.model import Batch, Content, Event, Meaning, Point, Source, Span
from tachograph.vocabulary import whole

# Read at most this much at once, so that a history of any size needs bounded memory.
PIECE_BYTES: Final = 8 * 1024 * 1024
_piece_bytes: Final = ContextVar("piece_bytes", default=PIECE_BYTES)
# A line longer than this is left out: what is in it could not be kept, and reading it would take several times as much.
LINE_BYTES_MAX: Final = 64 * 1024 * 1024
# The beginning of a file, by which a rewritten one is told from a grown one.
_HEAD_BYTES: Final = 256
# Memory that unpacking may take: what Zstandard itself takes for a window at most, unless told otherwise.
_WINDOW_BYTES_MAX: Final = 128 * 1024 * 1024
# A later time (from 2262 on) does not fit into 64 bits of nanoseconds.
_LAST_SECOND: Final = 2**63 // 1_000_000_000


class Position(msgspec.Struct, omit_defaults=True):
    """Where a reading ended: bytes read, a hash of the first of them, and what the reader has to remember.

    `is_inside`: in the middle of a line that is too long and left out. `packed_bytes`: the size of a packed file of
    which all was read.
    """

    offset: int = 0
    head: str = ""
    is_inside: bool = False
    packed_bytes: int = 0
    state: dict[str, Any] = msgspec.field(default_factory=dict)


_DECODE_POSITION: Final = msgspec.json.Decoder(Position)
_ENCODE: Final = msgspec.json.Encoder().encode

Line = TypeVar("Line")
Understand = Callable[[Line, dict[str, Any], "Page"], None]
Finish = Callable[["Page"], None]
# A line as its reader wants it; None = a value of another kind, which tells nothing. Raises as msgspec does.
Decode = Callable[[bytes], Line | None]


def _object(line: bytes) -> dict[str, Any] | None:
    value = msgspec.json.decode(line)
    return value if isinstance(value, dict) else None


# Scopes of what is read from files: `ledger.identity` ranks hooks by theirs.
SCOPES: Final = {"transcript": "transcript.", "hook": "tachograph.hook."}


class Page:
    """One piece of one file: collects what its lines tell of."""

    def __init__(self, agent: str, path: Path, state: dict[str, Any], origin: str = "transcript") -> None:
        self.agent = agent
        self.path = path
        self.state = state
        self.origin = origin
        self.events: list[Event] = []
        self.spans: list[Span] = []
        self.points: list[Point] = []
        self._sources: dict[str, Source] = {}

    def add(self, name: str, time_ns: int, meaning: Meaning, attributes: dict[str, Any], *contents: Content) -> None:
        """Add one event; `meaning` gets the identity that the file has told so far."""
        state = self.state
        meaning.dialect = meaning.dialect or self.agent
        meaning.agent = self.agent
        meaning.session_id = meaning.session_id or state.get("session", "")
        cwd = str(state.get("cwd") or "")
        meaning.project = meaning.project or cwd.replace("\\", "/").rstrip("/").rpartition("/")[2]
        meaning.branch = meaning.branch or str(state.get("branch") or "")
        kept = [c for c in contents if any(c.pieces)]
        self.events.append(
            Event(
                source=self.source(str(state.get("version") or "")),
                time_ns=time_ns,
                name=name,
                attributes=attributes,
                origin=self.origin,
                meaning=meaning,
                contents=kept or None,
            )
        )

    def source(self, version: str) -> Source:
        """The resource and scope of what this file tells, for a version of its agent ("" = not told)."""
        source = self._sources.get(version)
        if source is None:
            resource: dict[str, Any] = {"service.name": self.agent}
            if version:
                resource["service.version"] = version
            source = self._sources[version] = Source(resource, scope_name=SCOPES[self.origin] + self.agent)
        return source


def read_lines(
    path: Path,
    since: str,
    agent: str,
    understand: Understand[dict[str, Any]],
    origin: str = "transcript",
    finish: Finish | None = None,
) -> tuple[Batch, str]:
    """What the whole lines after `since` ("" = from the start) tell, and the position after them.

    `finish` is called once after the lines of a piece: for what is open and shall be seen already. A file that was
    rewritten or cut off is read again from its start. A line that is not JSON is left out and counted in `rejected`,
    and so is one that is too long. Raises Rejected when the file cannot be read.
    """
    return read_decoded(path, since, agent, _object, understand, origin, finish)


def read_decoded(
    path: Path,
    since: str,
    agent: str,
    decode: Decode[Line],
    understand: Understand[Line],
    origin: str = "transcript",
    finish: Finish | None = None,
) -> tuple[Batch, str]:
    """The same for lines that are decoded into something else than a dict, for speed."""
    position = position_of(since)
    try:
        with path.open("rb") as file:
            begin = file.read(_HEAD_BYTES)
            size = file.seek(0, 2)
            if size < position.offset or _head(begin, position.offset) != position.head:
                position = Position()
            file.seek(position.offset)
            piece = _piece(file, _piece_bytes.get())
    except OSError as error:
        raise Rejected(f"{path.name}: cannot be read: {error.strerror}") from error
    page = Page(agent, path, position.state, origin)
    batch = _understood(page, position, begin, piece, decode, understand, finish)
    return batch, batch.positions[str(path)]


def read_packed(path: Path, since: str, agent: str, understand: Understand[dict[str, Any]]) -> tuple[Batch, str]:
    """The same for a file packed with Zstandard, which was whole when it was packed; raises Rejected as well.

    Each piece is unpacked from the start, as no other way leads to its place, and nothing once all is read.
    """
    position = position_of(since)
    try:
        with path.open("rb") as packed:
            size = packed.seek(0, 2)
            if position.packed_bytes == size:
                return Batch(positions={str(path): since}), since
            packed.seek(0)
            unpack = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES_MAX)
            file = BufferedReader(unpack.stream_reader(packed, read_across_frames=True))
            begin = file.read(_HEAD_BYTES)
            if _head(begin, position.offset) != position.head:
                position = Position()
            _skip(file, position.offset - len(begin))
            piece = begin[position.offset :] + _piece(file, PIECE_BYTES)
            is_all = not file.read(1)
    except OSError as error:
        raise Rejected(f"{path.name}: cannot be read: {error.strerror}") from error
    except zstandard.ZstdError as error:
        raise Rejected(f"{path.name}: got {error}; expected a file packed with Zstandard") from error
    if is_all:
        piece += b"" if piece.endswith(b"\n") else b"\n"
        position.packed_bytes = size
    page = Page(agent, path, position.state)
    batch = _understood(page, position, begin, piece, _object, understand, None)
    return batch, batch.positions[str(path)]


def _skip(file: BufferedReader[Any], length: int) -> None:
    while length > 0 and (skipped := len(file.read(min(PIECE_BYTES, length)))):
        length -= skipped


def _understood(
    page: Page,
    position: Position,
    begin: bytes,
    piece: bytes,
    decode: Decode[Line],
    understand: Understand[Line],
    finish: Finish | None,
) -> Batch:
    """The batch of one piece that starts at a position, with the position after it."""
    batch = Batch()
    first, end, is_inside = _whole_lines(piece, position.is_inside, batch)
    batch.size = end
    for line in _parsed(piece[first:end], decode, batch):
        understand(line, page.state, page)
    if finish is not None and end:
        finish(page)
    batch.events, batch.spans, batch.points = page.events, page.spans, page.points
    offset = position.offset + end
    known = (begin if position.offset else piece)[:_HEAD_BYTES]
    after = Position(offset, _head(known, offset), is_inside, position.packed_bytes, page.state)
    batch.positions = {str(page.path): _ENCODE(after).decode()}
    told = f"{page.path.name}\0{position.offset}\0".encode(errors="surrogateescape")
    digest = blake2b(told, digest_size=16)
    digest.update(memoryview(piece)[:end])
    batch.digest = digest.hexdigest() if end else ""
    return batch


def read_at_once(size_bytes: int) -> None:
    """Have this thread read pieces of that size from here on; packed files are read as ever."""
    _piece_bytes.set(size_bytes)


def _piece(file: BinaryIO, size_bytes: int) -> bytes:
    """The next piece of a file: more than that only where a single line is longer, and never without bound."""
    piece = file.read(size_bytes)
    if b"\n" in piece or len(piece) < size_bytes:
        return piece
    return piece + file.readline(LINE_BYTES_MAX - len(piece))


def _whole_lines(piece: bytes, is_inside: bool, batch: Batch) -> tuple[int, int, bool]:
    """Where the whole lines of a piece begin and end, and whether it ends in the middle of a line to be left out."""
    first = piece.find(b"\n") + 1 if is_inside else 0
    end = piece.rfind(b"\n") + 1
    if is_inside and not end:
        return len(piece), len(piece), True
    if not end and len(piece) >= LINE_BYTES_MAX:
        batch.rejected += 1
        batch.reasons.append(f"a line is longer than {LINE_BYTES_MAX} bytes")
        return len(piece), len(piece), True
    return first, end, False


def position_of(since: str) -> Position:
    """The position that a token stands for; the start where it is none, of another reader, or no longer known."""
    try:
        return _DECODE_POSITION.decode(since) if since else Position()
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return Position()


def _head(begin: bytes, offset: int) -> str:
    """A hash of as much of a file's beginning as had been read up to `offset`; "" of nothing."""
    known = begin[:offset]
    return blake2b(known, digest_size=8).hexdigest() if known else ""


def _parsed(piece: bytes, decode: Decode[Line], batch: Batch) -> Iterator[Line]:
    for number_, line in enumerate(piece.split(b"\n"), 1):
        if not line or line.isspace():
            continue
        try:
            value = decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            batch.rejected += 1
            if len(batch.reasons) < 3:
                batch.reasons.append(f"line {number_} of this piece is not JSON")
            continue
        if value is not None:
            yield value


def time_ns(value: Any) -> int:
    """Nanoseconds of an ISO 8601 text or of a number of milliseconds; 0 where it is neither."""
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except (ValueError, OverflowError):
            return 0
        seconds = int(moment.timestamp()) if moment.tzinfo else 0
        return seconds * 1_000_000_000 + moment.microsecond * 1000 if 0 < seconds < _LAST_SECOND else 0
    return whole(value, 1_000_000, _LAST_SECOND * 1_000_000_000) or 0


def record(value: Any) -> dict[str, Any]:
    """The value where it is an object, else an empty one: files are hostile input."""
    return value if isinstance(value, dict) else {}


def words(value: Any) -> str:
    """The value where it is a text, else ""."""
    return value if isinstance(value, str) else ""


def items(value: Any) -> list[dict[str, Any]]:
    """The objects of a list, whatever else is in it."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def told(slot: str, value: Any) -> Content:
    """A content of any JSON value: text as it is, lists in pieces."""
    if isinstance(value, str):
        return Content(slot, slot, [value] if value else [])
    if isinstance(value, list):
        return Content(slot, slot, [_ENCODE(item).decode() for item in value], True)
    return Content(slot, slot, [_ENCODE(value).decode()] if value else [])
