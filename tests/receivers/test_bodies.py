"""Compressed bodies: every encoding, cut, broken and too large."""

import gzip
import tracemalloc
import zlib
from collections.abc import Callable, Iterator

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tachograph.errors import Rejected
from tachograph.receivers.bodies import decompress

LIMIT = 1 << 20


def raw_deflate(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return stream.compress(data) + stream.flush()


def zstd_of_unknown_size(data: bytes) -> bytes:
    stream = zstandard.ZstdCompressor().compressobj()
    return stream.compress(data) + stream.flush()


Write = Callable[[bytes], bytes]

WRITERS: dict[str, list[Write]] = {
    "identity": [bytes],
    "": [bytes],
    "gzip": [gzip.compress],
    "X-GZip ": [gzip.compress],
    "deflate": [zlib.compress, raw_deflate],
    "zstd": [zstandard.compress, zstd_of_unknown_size],
}
ENCODED = [(encoding, write) for encoding, writers in WRITERS.items() for write in writers]
COMPRESSED = [(encoding, write) for encoding, write in ENCODED if encoding not in ("", "identity")]


@pytest.mark.parametrize(("encoding", "write"), ENCODED)
@given(data=st.binary(max_size=5000), chunk=st.integers(1, 700))
def test_what_was_compressed_comes_back(encoding: str, write: Write, data: bytes, chunk: int) -> None:
    body = write(data)
    assert decompress(body, encoding, LIMIT) == data
    assert decompress((body[at : at + chunk] for at in range(0, len(body), chunk)), encoding, LIMIT) == data


@pytest.mark.parametrize(("encoding", "write"), ENCODED)
def test_the_limit_is_the_last_size_that_passes(encoding: str, write: Write) -> None:
    data = bytes(range(256)) * 40
    assert decompress(write(data), encoding, len(data) + 100) == data
    bodies: list[bytes | list[bytes]] = [write(data), [write(data)]]
    for body in bodies:
        with pytest.raises(Rejected) as caught:
            decompress(body, encoding, len(data) - 1)
        assert caught.value.status == 413
        assert str(len(data) - 1) in caught.value.what


@pytest.mark.parametrize(("encoding", "write"), COMPRESSED)
def test_a_bomb_is_refused_without_being_inflated(encoding: str, write: Write) -> None:
    bomb = write(bytes(200 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(Rejected) as caught:
            decompress(bomb, encoding, LIMIT)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert caught.value.status == 413
    assert peak < 40 << 20


def test_compressed_chunks_are_bounded_too() -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b"x" * 1000

    with pytest.raises(Rejected) as caught:
        decompress(endless(), "gzip", LIMIT)
    assert caught.value.status == 413


@pytest.mark.parametrize(("encoding", "write"), COMPRESSED)
def test_a_cut_or_broken_stream_is_the_senders_fault(encoding: str, write: Write) -> None:
    body = write(b"a body that was longer once, " * 50)
    for wrong in (body[: len(body) // 2], body[:-1], body[:1], b"\xff" + body[1:], b"no such thing"):
        with pytest.raises(Rejected) as caught:
            decompress(wrong, encoding, LIMIT)
        assert caught.value.status == 400


@pytest.mark.parametrize("encoding", ["br", "snappy", "gzip, gzip", "lz4"])
def test_an_unknown_encoding_says_which_are_known(encoding: str) -> None:
    with pytest.raises(Rejected, match="gzip, x-gzip, deflate, zstd") as caught:
        decompress(b"", encoding, LIMIT)
    assert caught.value.status == 415


@pytest.mark.parametrize(("encoding", "write"), [("gzip", gzip.compress), ("zstd", zstandard.compress)])
def test_several_members_are_one_body(encoding: str, write: Write) -> None:
    parts = [b"one ", b"", b"two " * 1000, b"three"]
    assert decompress(b"".join(map(write, parts)), encoding, LIMIT) == b"".join(parts)


def test_zeros_behind_a_gzip_stream_are_padding_and_anything_else_is_not() -> None:
    assert decompress(gzip.compress(b"x") + bytes(9), "gzip", LIMIT) == b"x"
    for wrong in (gzip.compress(b"x") + b"y", zlib.compress(b"x") + b"y"):
        with pytest.raises(Rejected):
            decompress(wrong, "gzip" if wrong[0] == 0x1F else "deflate", LIMIT)


@given(data=st.binary(max_size=300), encoding=st.sampled_from(["gzip", "deflate", "zstd"]))
def test_any_bytes_give_a_body_or_our_error(data: bytes, encoding: str) -> None:
    try:
        assert isinstance(decompress(data, encoding, LIMIT), bytes)
    except Rejected as error:
        assert error.status in (400, 413)


@given(at=st.integers(0, 200), byte=st.integers(0, 255), which=st.sampled_from(COMPRESSED))
def test_a_flipped_byte_gives_a_body_or_our_error(at: int, byte: int, which: tuple[str, Write]) -> None:
    encoding, write = which
    body = bytearray(write(b"some text that repeats, some text that repeats " * 20))
    body[at % len(body)] = byte
    try:
        decompress(bytes(body), encoding, LIMIT)
    except Rejected as error:
        assert error.status in (400, 413)
