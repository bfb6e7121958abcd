"""Counters and histograms as a destination wants them to count: each since the last one, or all since the start.

What a series has counted is kept in the destination's memory, in one transaction with its cursor: a restart, a window
that is read again and a point that came twice change no total.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Any, Final

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from tachograph.forwarders.contract import NOW, Memory
from tachograph.model import Point

DELTA: Final = 1
CUMULATIVE: Final = 2
SEEN_MAX: Final = 128  # points of a series that are known again; sources repeat what was just sent
# Processes that count one series, each from a start of its own: so many that are silent, and more that are not.
WRITERS_MAX: Final = 16
BUSY_WRITERS_MAX: Final = 512
BUSY_NS: Final = 15 * 60 * 1_000_000_000  # since its last point; senders repeat theirs every minute
AHEAD_NS: Final = 60 * 1_000_000_000  # that the clock of a sender may be before ours
SIZE_MAX: Final = 160  # buckets of one side of an exponential histogram, as SDKs bound them
_COUNTED: Final = frozenset(("sum", "histogram", "exponential_histogram"))
_NO_VALUE: Final = 1  # flag of a point that says only that its series ended
_STEP_NS: Final = 1_000_000  # Prometheus and others know milliseconds
_PREFIX: Final = "temporality:"
_FORGOTTEN: Final = "temporality forgotten"
_DAY_NS: Final = 86_400 * 1_000_000_000
KEEP_NS: Final = 30 * _DAY_NS  # after its last point a series is remembered; senders repeat theirs every minute

_Series = tuple[str, Point]  # the id of its series, and the point


class Exponential(Struct, omit_defaults=True):
    """The buckets of an exponential histogram; a side is its lowest index and the counts from there."""

    scale: int = 0
    zero_count: int = 0
    zero_threshold: float = 0.0
    positive: tuple[int, list[int]] = (0, [])
    negative: tuple[int, list[int]] = (0, [])


class Total(Struct, omit_defaults=True):
    """What a point has counted; only what its type has."""

    value: float | int = 0
    count: int = 0
    sum: float | None = None
    min: float | None = None
    max: float | None = None
    bounds: list[float] | None = None
    counts: list[int] = field(default_factory=list)
    exponential: Exponential | None = None


class Running(Struct, omit_defaults=True):
    """A series that is added up: since when, how much, when it was told last, and the points already in it."""

    start_ns: int = 0
    time_ns: int = 0
    total: Total = field(default_factory=Total)
    seen: list[bytes] = field(default_factory=list)


class Writer(Struct, omit_defaults=True):
    """One process' count of a series: since when, until when, and how much."""

    start_ns: int
    time_ns: int
    total: Total


def converted(points: Sequence[_Series], target: int, memory: Memory) -> list[list[Point]]:
    """For each point what is told of it in the target temporality: one point, or none."""
    return [_converted(series, point, target, memory) for series, point in points]


def _converted(series: str, point: Point, target: int, memory: Memory) -> list[Point]:
    # An up-down counter says how much there is: that is cumulative for everybody (OpenTelemetry's preference "delta").
    if point.type == "sum" and not point.is_monotonic:
        target = CUMULATIVE
    if point.type not in _COUNTED or point.temporality not in (DELTA, CUMULATIVE) or point.temporality == target:
        return [point]
    if point.flags & _NO_VALUE:
        return []
    total = _total(point)
    if total is None:
        return []
    key = _PREFIX + series
    return _to_cumulative(point, total, key, memory) if target == CUMULATIVE else _to_delta(point, total, key, memory)


def _to_cumulative(point: Point, total: Total, key: str, memory: Memory) -> list[Point]:
    packed = memory.get(key)
    known = msgspec.msgpack.decode(packed, type=Running) if packed is not None else None
    name = _name(point)
    if known is not None and name in known.seen:
        return []
    added = None if known is None else plus(known.total, total)
    if known is None or added is None:  # new, or it counts in other buckets now: from the start
        known = Running(point.start_ns or point.time_ns, 0, total)
    else:
        known.total = added
    known.time_ns = max(point.time_ns, known.time_ns + _STEP_NS if known.time_ns >= point.time_ns else 0)
    known.seen = [*known.seen, name][-SEEN_MAX:]
    memory.put(key, msgspec.msgpack.encode(known))
    return [_told(point, known.total, CUMULATIVE, known.start_ns, known.time_ns)]


def _to_delta(point: Point, total: Total, key: str, memory: Memory) -> list[Point]:
    packed = memory.get(key)
    writers: list[Writer] = msgspec.msgpack.decode(packed, type=list[Writer]) if packed is not None else []
    known = next((one for one in writers if one.start_ns == point.start_ns), None)
    since_ns = point.start_ns
    told: Total | None = total
    if known is not None:
        if point.time_ns <= known.time_ns:
            return []  # came late or twice: what it counted is in the one that was told
        since_ns = known.time_ns
        told = minus(total, known.total) or total  # smaller than before: it began again
        known.time_ns, known.total = point.time_ns, total
    else:
        writers = _kept([*writers, Writer(point.start_ns, point.time_ns, total)], latest_ns(point.time_ns, memory))
        if not point.start_ns:
            told = None  # nobody knows since when: the first only says where counting begins
    memory.put(key, msgspec.msgpack.encode(writers))
    if told is None:
        return []
    # The extremes of a cumulative point are not those of the time since the last one.
    return [_told(point, replace(told, min=None, max=None), DELTA, since_ns, point.time_ns)]


def _kept(writers: list[Writer], now_ns: int) -> list[Writer]:
    """Those that are remembered: who is forgotten while it goes on would be counted from its start once more."""
    writers.sort(key=lambda one: one.time_ns)
    busy = sum(one.time_ns > now_ns - BUSY_NS for one in writers)
    return writers[-min(max(busy, WRITERS_MAX), BUSY_WRITERS_MAX) :]


def summed(series: str, points: Sequence[Point], target: int, memory: Memory) -> Point:
    """Points of one series that count each for itself as one, added up with all before where that is wanted.

    Whoever calls this counts nothing twice: points that look alike are different ones.
    """
    total = Total()
    for number, point in enumerate(points):
        one = _total(point) or Total()
        total = one if number == 0 else plus(total, one) or total
    start_ns, time_ns = min(point.start_ns for point in points), max(point.time_ns for point in points)
    if target == DELTA:
        return _told(points[0], total, DELTA, start_ns, time_ns)
    key = _PREFIX + series
    packed = memory.get(key)
    known = Running(start_ns) if packed is None else msgspec.msgpack.decode(packed, type=Running)
    known.total = total if packed is None else plus(known.total, total) or total
    known.time_ns = max(time_ns, known.time_ns + _STEP_NS if known.time_ns >= time_ns else 0)
    memory.put(key, msgspec.msgpack.encode(known))
    return _told(points[0], known.total, CUMULATIVE, known.start_ns, known.time_ns)


def forget(series: str, memory: Memory) -> None:
    """Forget a series that has ended; a point of it that still comes begins anew."""
    memory.put(_PREFIX + series, None)


def latest_ns(time_ns: int, memory: Memory) -> int:
    """A record's time, but none that is still to come: then the clock of its sender is wrong."""
    told = memory.get(NOW)
    return time_ns if told is None else min(time_ns, int(told) + AHEAD_NS)


def forget_old(memory: Memory, now_ns: int) -> None:
    """Once in a day of the records' time: forget the series that nothing has come of for long."""
    packed = memory.get(_FORGOTTEN)
    if packed is not None and now_ns < int(packed) + _DAY_NS:
        return
    memory.put(_FORGOTTEN, str(now_ns).encode())
    for key in memory.keys(_PREFIX):
        kept = memory.get(key)
        if kept and _last_ns(kept) < now_ns - KEEP_NS:
            memory.put(key, None)


def _last_ns(packed: bytes) -> int:
    known = msgspec.msgpack.decode(packed, type=Running | list[Writer])
    return known.time_ns if isinstance(known, Running) else max((one.time_ns for one in known), default=0)


def series_id(point: Point) -> str:
    """What names the series of a point: who sent it, its metric and its attributes."""
    told = (point.source.resource, point.source.scope_name, point.name, point.unit, point.type, point.attributes)
    return blake2b(msgspec.msgpack.encode(told), digest_size=16).hexdigest()


def _name(point: Point) -> bytes:
    """What tells a point of a series from the others."""
    return blake2b(f"{point.start_ns} {point.time_ns}".encode(), digest_size=8).digest()


# -- points and totals ------------------------------------------------------------------------------------------------


def _total(point: Point) -> Total | None:
    """What a point has counted, None where it is no number."""
    if point.type == "sum":
        value = point.value
        is_good = isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
        return Total(value) if is_good and value is not None else None
    buckets = point.buckets or {}
    total = Total(count=point.count or 0, sum=_finite(point.sum), min=_finite(point.min), max=_finite(point.max))
    if point.type == "histogram":
        total.bounds, total.counts = [*map(float, buckets.get("bounds", ()))], [*buckets.get("counts", ())]
        return total
    total.exponential = Exponential(
        buckets.get("scale", 0),
        buckets.get("zero_count", 0),
        _finite(buckets.get("zero_threshold")) or 0.0,
        _side(buckets.get("positive")),
        _side(buckets.get("negative")),
    )
    return total


def _finite(value: Any) -> float | None:
    return value if isinstance(value, (int, float)) and math.isfinite(value) else None


def _side(told: dict[str, Any] | None) -> tuple[int, list[int]]:
    told = told or {}
    return _trimmed(told.get("offset", 0), list(told.get("counts", ())))


def _told(point: Point, total: Total, temporality: int, start_ns: int, time_ns: int) -> Point:
    made: Point = replace(point, temporality=temporality, start_ns=min(start_ns, time_ns), time_ns=time_ns)
    if point.type == "sum":
        made.value = total.value
        return made
    made.count, made.sum, made.min, made.max = total.count, total.sum, total.min, total.max
    if total.exponential is None:
        made.buckets = {"bounds": total.bounds or [], "counts": total.counts}
    else:
        one = total.exponential
        made.buckets = {
            "scale": one.scale,
            "zero_count": one.zero_count,
            "zero_threshold": one.zero_threshold,
            "positive": {"offset": one.positive[0], "counts": one.positive[1]},
            "negative": {"offset": one.negative[0], "counts": one.negative[1]},
        }
    return made


def plus(a: Total, b: Total) -> Total | None:
    """Both together, None where they count in different buckets."""
    if a.bounds != b.bounds or len(a.counts) != len(b.counts) or (a.exponential is None) != (b.exponential is None):
        return None
    together = Total(
        a.value + b.value,
        a.count + b.count,
        None if a.sum is None or b.sum is None else a.sum + b.sum,
        _extreme(min, a.min, b.min),
        _extreme(max, a.max, b.max),
        a.bounds,
        [x + y for x, y in zip(a.counts, b.counts, strict=True)],
    )
    if a.exponential is not None and b.exponential is not None:
        together.exponential = _merged(a.exponential, b.exponential, 1)
    return together


def minus(a: Total, b: Total) -> Total | None:
    """What `a` has counted beyond `b`; None where it did not begin with that."""
    if a.bounds != b.bounds or len(a.counts) != len(b.counts) or (a.exponential is None) != (b.exponential is None):
        return None
    left = Total(
        a.value - b.value,
        a.count - b.count,
        None if a.sum is None or b.sum is None else a.sum - b.sum,
        bounds=a.bounds,
        counts=[x - y for x, y in zip(a.counts, b.counts, strict=True)],
    )
    if a.exponential is not None and b.exponential is not None:
        left.exponential = _merged(a.exponential, b.exponential, -1)
    return None if _is_negative(left) else left


def _is_negative(left: Total) -> bool:
    counts = [left.value, left.count, *left.counts]
    if left.exponential is not None:
        counts += [left.exponential.zero_count, *left.exponential.positive[1], *left.exponential.negative[1]]
    return min(counts) < 0


def _extreme(choose: Any, a: float | None, b: float | None) -> float | None:
    return choose(a, b) if a is not None and b is not None else a if b is None else b


# -- exponential histograms -------------------------------------------------------------------------------------------


def _merged(a: Exponential, b: Exponential, sign: int) -> Exponential:
    """`a` and `sign` times `b` at the finest scale that both have and at which the buckets are not too many."""
    threshold = max(a.zero_threshold, b.zero_threshold)
    scale = min(a.scale, b.scale)
    while any(_width([_at(one, x.scale, scale) for x, one in sides]) > SIZE_MAX for sides in _sides(a, b)):
        scale -= 1
    merged = Exponential(scale, a.zero_count + sign * b.zero_count, threshold)
    merged.positive = _added(_at(a.positive, a.scale, scale), _at(b.positive, b.scale, scale), sign)
    merged.negative = _added(_at(a.negative, a.scale, scale), _at(b.negative, b.scale, scale), sign)
    if a.zero_threshold != b.zero_threshold:
        _fold_zeros(merged)
    return merged


def _sides(a: Exponential, b: Exponential) -> tuple[list[tuple[Exponential, tuple[int, list[int]]]], ...]:
    return [(a, a.positive), (b, b.positive)], [(a, a.negative), (b, b.negative)]


def _at(side: tuple[int, list[int]], scale: int, target: int) -> tuple[int, list[int]]:
    """The buckets of one side at a coarser scale: 2^n of them become one."""
    offset, counts = side
    shift = scale - target
    if not shift or not counts:
        return side
    first = offset >> shift
    coarse = [0] * (((offset + len(counts) - 1) >> shift) - first + 1)
    for at, count in enumerate(counts, start=offset):
        coarse[(at >> shift) - first] += count
    return first, coarse


def _width(sides: Iterable[tuple[int, list[int]]]) -> int:
    spans = [(offset, offset + len(counts)) for offset, counts in sides if counts]
    return max(last for _, last in spans) - min(first for first, _ in spans) if spans else 0


def _added(a: tuple[int, list[int]], b: tuple[int, list[int]], sign: int) -> tuple[int, list[int]]:
    sides = [one for one in (a, b) if one[1]]
    if not sides:
        return 0, []
    first = min(offset for offset, _ in sides)
    counts = [0] * _width(sides)
    for (offset, some), by in ((a, 1), (b, sign)):
        for at, count in enumerate(some, start=offset - first):
            counts[at] += by * count
    return _trimmed(first, counts)


def _trimmed(offset: int, counts: list[int]) -> tuple[int, list[int]]:
    """Without the empty buckets at both ends."""
    while counts and not counts[-1]:
        counts.pop()
    empty = next((at for at, count in enumerate(counts) if count), 0)
    return (offset + empty, counts[empty:]) if counts else (0, [])


def _fold_zeros(merged: Exponential) -> None:
    """What lies within the wider zero bucket belongs to it."""
    for name in ("positive", "negative"):
        offset, counts = getattr(merged, name)
        # Bucket i ends at 2^((i+1) / 2^scale).
        inside = 0
        while inside < len(counts) and (offset + inside + 1) * 2.0**-merged.scale <= math.log2(merged.zero_threshold):
            inside += 1
        merged.zero_count += sum(counts[:inside])
        setattr(merged, name, _trimmed(offset + inside, counts[inside:]))
