"""What is kept and what is left out of a request, in either encoding: the rules of OTLP that need no decoder."""

from __future__ import annotations

import re
from typing import Final

from tachograph.errors import Rejected
from tachograph.model import Attributes, Batch, Point

WITH_TEMPORALITY: Final = frozenset(("sum", "histogram", "exponential_histogram"))

NO_TRACE: Final = "0" * 32
NO_SPAN: Final = "0" * 16
INT64_MAX: Final = (1 << 63) - 1
_HEX: Final = re.compile("[0-9a-f]+")

# Reasons told to the sender: the first few say what is wrong, more would only make the response long.
_REASONS_MAX: Final = 5


def leave_out(batch: Batch, reason: str, count: int = 1) -> None:
    """Count records that are not kept, and keep the reason if there are not many yet."""
    batch.rejected += count
    if len(batch.reasons) < _REASONS_MAX:
        batch.reasons.append(reason)


def check_span_ids(name: str, trace_id: str, span_id: str, parent_id: str) -> None:
    """Raise Rejected if the ids are not those of a span: 16 and 8 bytes in hex, not all zero; a parent may be none."""
    for what, came, length in (("trace id", trace_id, 32), ("span id", span_id, 16), ("parent span id", parent_id, 16)):
        if what == "parent span id" and not came.strip("0"):
            continue
        if len(came) != length or not _HEX.fullmatch(came) or not came.strip("0"):
            raise Rejected(f'span "{name[:80]}": {what}: got "{came[:40]}"; expected {length} hex digits, not all 0')


def check_int64(where: str, *values: int | None) -> None:
    """Raise Rejected for an unsigned number that no 63 bits hold: a time after 2262, or a count gone wrong."""
    for value in values:
        if value is not None and value > INT64_MAX:
            raise Rejected(f"{where}: got {value}; expected at most {INT64_MAX}")


def check_point(point: Point) -> None:
    """Raise Rejected for a time or a count of a point that no 63 bits hold."""
    parts = point.buckets or {}
    lists = [part.get("counts", ()) for part in (parts, parts.get("positive", {}), parts.get("negative", {}))]
    counts = [max(one) for one in lists if one]
    where = f'metric "{point.name[:80]}": time or count'
    check_int64(where, point.time_ns, point.start_ns, point.count, parts.get("zero_count"), *counts)


def event_name(attributes: Attributes, own_name: str) -> str:
    """The name of a log record: the attribute is the better one where a client writes both (Codex does)."""
    name = attributes.get("event.name")
    return name if name and isinstance(name, str) else own_name


def unknown_temporality(name: str, temporality: int) -> str:
    """The reason for leaving out points of which nobody can say whether they add up."""
    return f'metric "{name[:80]}": aggregation temporality: got {temporality}; expected 1 (delta) or 2 (cumulative)'
