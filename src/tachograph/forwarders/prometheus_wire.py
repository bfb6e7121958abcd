"""Series as the two versions of Prometheus' remote write say them in protobuf, written field by field."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from msgspec import Struct, field
from msgspec.structs import replace

from tachograph.forwarders.prometheus_names import Labels

STALE: Final = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]  # a NaN that says: it is no more
_TYPES: Final = {"counter": 1, "gauge": 2, "histogram": 3, "summary": 5}
LABELS_KNOWN: Final = 8192  # labels that are not written anew each time
_VARINT, _BYTES = 0, 2  # protobuf's wire types
_SAMPLE: Final = struct.Struct("<Bd").pack  # field 1 as a double


class Family(NamedTuple):
    """What a metric is. `name` is without `_bucket`, `_sum` and `_count`."""

    name: str
    type: str  # counter, gauge, histogram or summary
    unit: str = ""
    help: str = ""


class Series(Struct):
    """One series of a request: labels with `__name__`, and samples in order of time."""

    labels: Labels
    family: Family
    start_ms: int = 0  # since when it counts, 0 = unknown
    samples: list[tuple[int, float]] = field(default_factory=list)


def version_1(series: Sequence[Series]) -> bytes:
    """WriteRequest of remote write 1.0."""
    made = bytearray()
    for one in series:
        body = bytearray()
        for name, value in one.labels:
            body += _label(name, value)
        for ms, number in one.samples:
            body += _text(2, _SAMPLE(0x09, number) + _int(2, ms))
        made += _text(1, body)
    for family in {one.family.name: one.family for one in series}.values():
        told = _int(1, _TYPES.get(family.type, 0)) + _text(2, family.name.encode())
        made += _text(3, told + _text(4, family.help.encode()) + _text(5, family.unit.encode()))
    return bytes(made)


def version_2(series: Sequence[Series]) -> bytes:
    """Request of remote write 2.0: every text once."""
    symbols: dict[str, int] = {"": 0}

    def symbol(text: str) -> int:
        return symbols.setdefault(text, len(symbols))

    told = bytearray()
    for one in series:
        refs = [symbol(text) for pair in one.labels for text in pair]
        body = bytearray(_text(1, b"".join(map(_varint, refs))))
        start = _int(3, one.start_ms) if one.start_ms else b""
        for ms, number in one.samples:
            body += _text(2, _SAMPLE(0x09, number) + _int(2, ms) + start)
        family = one.family
        metadata = _int(1, _TYPES.get(family.type, 0)) + _int(3, symbol(family.help)) + _int(4, symbol(family.unit))
        body += _text(5, metadata)
        told += _text(5, body)
    return b"".join(_text(4, text.encode()) for text in symbols) + bytes(told)


def _varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    made = bytearray()
    while number > 0x7F:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    made.append(number)
    return bytes(made)


def _int(number: int, value: int) -> bytes:
    return _varint(number << 3 | _VARINT) + _varint(value)


@lru_cache(maxsize=LABELS_KNOWN)
def _label(name: str, value: str) -> bytes:
    return _text(1, _text(1, name.encode()) + _text(2, value.encode()))


def _text(number: int, value: bytes | bytearray) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(value)) + bytes(value)


def joined(series: Iterable[Series]) -> list[Series]:
    """The same series together, each once, in the order they first came in."""
    found: dict[Labels, Series] = {}
    for one in series:
        known = found.get(one.labels)
        if known is None:
            found[one.labels] = Series(one.labels, one.family, one.start_ms, [*one.samples])
        else:
            known.samples += one.samples
    return list(found.values())


def of_instance(series: Iterable[Series], instance: str) -> list[Series]:
    """The same series with the label `instance`, "" = without: two that write one series would undo each other's."""
    if not instance:
        return list(series)
    return [replace(one, labels=_with_instance(one.labels, instance)) for one in series]


@lru_cache(maxsize=LABELS_KNOWN)
def _with_instance(labels: Labels, instance: str) -> Labels:
    """The labels, which may name the process that they are of already."""
    is_named = any(name == "instance" for name, _ in labels)
    return labels if is_named else tuple(sorted((*labels, ("instance", instance))))
