"""Request bodies decompressed, and never more of them than is allowed: a bomb is refused before it goes off."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Final

import zstandard

from tachograph.errors import Rejected

# Input of one step: 512 bytes of zstd can say at most 128 blocks of 128 KiB, so a step makes 16 MiB at most.
_ZSTD_STEP_BYTES: Final = 512

# Output of one step, where the library can be told.
_ZLIB_STEP_BYTES: Final = 1 << 20

# A frame may ask for a window of gigabytes; the levels that senders use need 8 MiB at most, the highest 128 MiB.
_ZSTD_WINDOW_BYTES_MAX: Final = 1 << 27


def decompress(body: bytes | Iterable[bytes], encoding: str, limit_bytes: int) -> bytes:
    """The body (whole or in chunks) without its Content-Encoding, at most `limit_bytes` long both before and after.

    Raises Rejected: 413 for more, 415 for an encoding that is not known, 400 for a stream that is broken or cut.
    """
    name = encoding.strip().lower() or "identity"
    inflate = _INFLATE.get(name)
    if inflate is None and name != "identity":
        raise Rejected(
            f'Content-Encoding: got "{encoding[:100]}"; expected one of identity, {", ".join(_INFLATE)}',
            "set OTEL_EXPORTER_OTLP_COMPRESSION to gzip or none",
            status=415,
        )
    raw = body if isinstance(body, bytes) else _joined(body, limit_bytes)
    if inflate is None or not raw:
        if len(raw) > limit_bytes:
            raise _too_large(limit_bytes)
        return raw
    try:
        return _joined(inflate(raw), limit_bytes)
    except (zlib.error, zstandard.ZstdError) as error:
        raise Rejected(f"request body: {error}; expected {name}") from error


def _joined(chunks: Iterable[bytes], limit_bytes: int) -> bytes:
    kept: list[bytes] = []
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > limit_bytes:
            raise _too_large(limit_bytes)
        kept.append(chunk)
    return b"".join(kept)


def _too_large(limit_bytes: int) -> Rejected:
    return Rejected(
        f"request body: got more than {limit_bytes} bytes; expected at most that many, decompressed",
        "send smaller batches, for example with OTEL_BSP_MAX_EXPORT_BATCH_SIZE=128",
        status=413,
    )


def _cut_off() -> Rejected:
    return Rejected("request body: got a compressed stream that ends too early; expected all of it")


def _inflate_gzip(raw: bytes) -> Iterator[bytes]:
    """One member after the other; zeros behind the last are padding, as gzip itself has it."""
    while raw:
        raw = (yield from _inflate(raw, zlib.MAX_WBITS + 16)).lstrip(b"\0")


def _inflate_deflate(raw: bytes) -> Iterator[bytes]:
    """With the zlib header that HTTP asks for, or without it, as some clients send it."""
    has_header = len(raw) > 1 and raw[0] & 15 == zlib.DEFLATED and int.from_bytes(raw[:2], "big") % 31 == 0
    rest = yield from _inflate(raw, zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS)
    if rest:
        raise zlib.error(f"{len(rest)} bytes behind the end of the stream")


def _inflate(raw: bytes, wbits: int) -> Generator[bytes, None, bytes]:
    """Yield what one zlib stream holds, step by step; return the bytes behind it."""
    stream = zlib.decompressobj(wbits)
    while not stream.eof:
        chunk = stream.decompress(raw, _ZLIB_STEP_BYTES)
        raw = stream.unconsumed_tail
        if not chunk and not raw and not stream.eof:
            raise _cut_off()
        yield chunk
    return stream.unused_data


def _inflate_zstd(raw: bytes) -> Iterator[bytes]:
    """One frame after the other."""
    library = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES_MAX)
    view = memoryview(raw)
    at = 0
    while at < len(view):
        frame = library.decompressobj()
        while not frame.eof:
            if at >= len(view):
                raise _cut_off()
            yield frame.decompress(view[at : at + _ZSTD_STEP_BYTES])
            at += _ZSTD_STEP_BYTES
        at = min(at, len(view)) - len(frame.unused_data)


_INFLATE: Final[dict[str, Callable[[bytes], Iterator[bytes]]]] = {
    "gzip": _inflate_gzip,
    "x-gzip": _inflate_gzip,
    "deflate": _inflate_deflate,
    "zstd": _inflate_zstd,
}
