"""Attribute values of OTLP as plain JSON values: what both encodings share, and the reader of protobuf bytes."""

from __future__ import annotations

from base64 import b64encode
from math import isfinite
from struct import Struct
from typing import Any, Final

from tachograph.errors import Rejected
from tachograph.receivers.otlp_schema import ANY_VALUE, ARRAY_VALUE, KEY_VALUE, KEY_VALUE_LIST

# Arrays and lists within each other. Real attributes nest 3 deep; the limit keeps recursion far from Python's own.
DEPTH_MAX: Final = 64

# So many short attributes (1 MiB with their values) are remembered within one request: model, provider, host repeat.
_KNOWN_MAX: Final = 4096

_DOUBLE: Final = Struct("<d").unpack_from

# Encoded keys -> keys, for all requests: instrumentations use a few hundred. A sender of random keys cannot fill it.
_KEYS: Final[dict[bytes, str]] = {}


def plain_double(value: float) -> Any:
    """A double as a JSON value: NaN and the infinities have to be written in words."""
    if isfinite(value):
        return value
    return {"$double": "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"}


def plain_bytes(value: bytes) -> dict[str, str]:
    """Bytes as a JSON value."""
    return {"$bytes": b64encode(value).decode()}


def too_deep() -> Rejected:
    """The error for a record whose values nest deeper than DEPTH_MAX."""
    return Rejected(f"attribute value: nested deeper than {DEPTH_MAX}; expected less")


def read_value(raw: bytes, depth: int = 0) -> Any:
    """The plain JSON value of an encoded AnyValue; raises Rejected (too deep) or DecodeError (not an AnyValue)."""
    message = ANY_VALUE.FromString(raw)
    kind = message.WhichOneof("value")
    if kind is None:
        return None
    value = getattr(message, kind)
    if kind == "double_value":
        return plain_double(value)
    if kind == "bytes_value":
        return plain_bytes(value)
    if kind == "array_value":
        if depth >= DEPTH_MAX:
            raise too_deep()
        return [read_value(one, depth + 1) for one in ARRAY_VALUE.FromString(value).values]
    if kind == "kvlist_value":
        if depth >= DEPTH_MAX:
            raise too_deep()
        return dict(_read_pair(one, depth + 1) for one in KEY_VALUE_LIST.FromString(value).values)
    return value if kind in ("string_value", "int_value", "bool_value") else None  # a string table's index: profiles


def _read_pair(raw: bytes, depth: int = 0) -> tuple[str, Any]:
    message = KEY_VALUE.FromString(raw)
    return message.key, read_value(message.value, depth)


class Known(dict[bytes, tuple[str, Any]]):
    """Encoded attributes of one request and what they say; reads those it does not know yet.

    `dict(map(known.__getitem__, message.attributes))` then is a loop that Python code enters only for attributes not
    seen before. Only immutable values are kept: a list must not be shared by two records.
    """

    __slots__ = ()

    def __missing__(self, raw: bytes) -> tuple[str, Any]:
        """Read the form that nearly every attribute has by hand, in half the time of message objects; others with them.

        Wire format: a head that is known (0x0a, length, key), 0x12, length, then one of 0x0a length text, 0x18 varint,
        0x21 double, 0x10 bool, 0x2a length 0x0a length 0x0a length text (a list of one text: the finish reasons of
        every model call). Each length must reach to the last byte, so that nothing malformed is taken for it. It is
        one long function because it is the hottest one: a call for each attribute would cost a tenth of all.
        """
        try:
            at = raw[1] + 2
            key = _KEYS[raw[:at]]
            length = len(raw) - at
            if raw[at] != 0x12:
                return _read_pair(raw)
            if raw[at + 1] != length - 2 or length > 129:
                return _read_long_text(key, raw, at, length) or _read_pair(raw)
            tag = raw[at + 2]
            first = raw[at + 3]
            if tag == 0x0A and first == length - 4:
                pair: tuple[str, Any] = (key, raw[at + 4 :].decode())
            elif tag == 0x18 and first < 128 and length == 4:
                pair = (key, first)
            elif tag == 0x18 and length == 5 and first > 127 and raw[at + 4] < 128:
                return key, first + (raw[at + 4] << 7) - 128
            elif tag == 0x18 and length == 6 and first > 127 and raw[at + 4] > 127 and raw[at + 5] < 128:
                return key, first + (raw[at + 4] << 7) + (raw[at + 5] << 14) - 16512
            elif tag == 0x21 and length == 11 and isfinite(number := _DOUBLE(raw, at + 3)[0]):
                pair = (key, number)
            elif tag == 0x10 and length == 4 and first < 2:
                pair = (key, first == 1)
            elif tag == 0x2A and first == length - 4 and raw[at + 5] == length - 6 and raw[at + 7] == length - 8:
                is_one_text = raw[at + 4] == raw[at + 6] == 0x0A
                return (key, [raw[at + 8 :].decode()]) if is_one_text else _read_pair(raw)
            else:
                return _read_pair(raw)
        except (IndexError, KeyError):
            pair = _read_pair(raw)
            _learn_key(raw, pair[0])
            return pair
        if len(self) < _KNOWN_MAX:
            self[raw] = pair
        return pair


def _read_long_text(key: str, raw: bytes, at: int, length: int) -> tuple[str, Any] | None:
    """Read a text of up to 16 KiB, whose outer length takes two bytes, with its field `at`; None for anything else."""
    low, high = raw[at + 1], raw[at + 2]
    if low < 128 or high > 127 or length - 3 != low - 128 + (high << 7) or raw[at + 3] != 0x0A:
        return None
    low, high = raw[at + 4], raw[at + 5]
    if low < 128:
        return (key, raw[at + 5 :].decode()) if low == length - 5 else None
    return (key, raw[at + 6 :].decode()) if high < 128 and length - 6 == low - 128 + (high << 7) else None


def _learn_key(raw: bytes, key: str) -> None:
    """Remember the head of an encoded attribute, if it is in the usual form: 0x0a, length in one byte, key."""
    text = key.encode()
    head = b"\n%c%b" % (len(text) & 0x7F, text)
    if raw.startswith(head + b"\x12") and len(_KEYS) < _KNOWN_MAX:
        _KEYS[head] = key
