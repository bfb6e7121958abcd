"""Names things by the hash of what they are: texts, sources, series and events are the same where their hash is."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from hashlib import blake2b
from typing import Any, Final

import msgspec

from tachograph.model import Point, Source

HASH_BYTES: Final = 16
_canonical: Final = msgspec.json.Encoder(order="sorted").encode
_encode: Final = msgspec.json.Encoder().encode
# Deeper than any decoder lets through; what lies below is cut off rather than failing the commit it came with.
_DEPTH_MAX: Final = 100


def name_of(data: bytes) -> str:
    """22 characters of URL-safe base64 that stand for the bytes."""
    return urlsafe_b64encode(blake2b(data, digest_size=HASH_BYTES).digest())[:22].decode("ascii")


def text_bytes(text: str) -> bytes:
    """UTF-8 of any text; surrogates that stand alone become the replacement character."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return clean_text(text).encode()


def clean_text(text: str) -> str:
    """The text with surrogate pairs joined and lone surrogates replaced, so that it is UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def json_bytes(value: Any) -> bytes:
    """Compact JSON of any plain value, in the order in which it came."""
    try:
        return _encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return _encode(clean_value(value))


def source_id(source: Source) -> str:
    """Hash of all that a source says."""
    parts = (
        source.resource,
        source.scope_name,
        source.scope_version,
        source.scope_attributes,
        source.resource_schema_url,
        source.scope_schema_url,
        source.resource_dropped,
        source.scope_dropped,
    )
    return name_of(_canonical_bytes(parts))


def series_id(point: Point, source: str) -> str:
    """Hash of what makes two data points samples of one series."""
    parts = (source, point.name, point.unit, point.type, point.temporality, point.is_monotonic, point.attributes)
    return name_of(_canonical_bytes(parts))


def clean_value(value: Any, depth: int = 0) -> Any:
    """The value as JSON can hold it: what it cannot (lone surrogates, huge integers, other types) becomes text."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, dict) and depth < _DEPTH_MAX:
        return {clean_text(str(key)): clean_value(part, depth + 1) for key, part in value.items()}
    if isinstance(value, list | tuple) and depth < _DEPTH_MAX:
        return [clean_value(part, depth + 1) for part in value]
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else str(value)
    return value if value is None or isinstance(value, float) else f"[{type(value).__name__}]"


def _canonical_bytes(value: Any) -> bytes:
    try:
        return _canonical(value)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return _canonical(clean_value(value))
