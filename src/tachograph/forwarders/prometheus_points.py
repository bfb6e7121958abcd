"""Metric points as they came in, as gains of Prometheus' series: differences of totals, and labels that stay few."""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from tachograph.forwarders import prometheus_names, temporality
from tachograph.forwarders.contract import Memory
from tachograph.forwarders.prometheus_names import Labels
from tachograph.forwarders.prometheus_series import Gain
from tachograph.model import Point

NO_VALUE: Final = 1  # OTLP DataPointFlags
PREFIX: Final = "point:"
KEEP_NS: Final = 48 * 3600 * 1_000_000_000  # then a sender that was silent counts as a new one
# Each id is a series of its own, for ever: an index of names, and a dashboard that adds up what has long ended.
_MANY: Final = re.compile(
    r"(?:.*[._-])?(?:id|ids|uuid|guid|email|pid|user|username|full_name|session|path|cwd|prompt|timestamp|sequence)"
    r"|(?:.*\.)?(?:command|command_args|command_line)"
    r"|(?:.*[._-])?cpu_usage(?:[._-].*)?"  # a measurement: as a label each is a new series
)
BOUNDS_MAX: Final = 32  # of a histogram: each is a series, and some agents have 512
_TOTAL_BOUNDS: Final = tuple(2.0**power for power in range(-10, 21))  # of exponential histograms as plain ones
_NOT_TOLD: Final = frozenset(("service.name", "service.namespace", "service.instance.id"))

NamesOf = Callable[[str, str, str, bool], tuple[str, ...]]


class _Last(Struct, array_like=True):
    """When a sender's series said something last, and of what is no counter how much there was."""

    time_ns: int
    value: float = 0.0
    count: int = 0
    sum: float = 0.0


def is_many(name: str) -> bool:
    """Whether an attribute has a new value for every session, person or run."""
    return _MANY.fullmatch(name.lower()) is not None


def chosen(attributes: Mapping[str, Any], keep: tuple[str, ...]) -> dict[str, Any]:
    """The attributes that become labels: few values each, or asked for."""
    return {name: value for name, value in attributes.items() if name in keep or not is_many(name)}


class Points:
    """Points while they are worked in; `names_of` makes the names of a metric, `job` "" = the service's own."""

    def __init__(self, memory: Memory, names_of: NamesOf, keep: tuple[str, ...], job: str) -> None:
        self._memory, self._names_of, self._keep, self._job = memory, names_of, keep, job

    def gain(self, point: Point) -> Gain | None:
        """What the point adds to its series, None where it says nothing new."""
        is_monotonic = point.type == "sum" and point.is_monotonic
        names = self._names_of(point.name, point.unit, point.type, is_monotonic)
        if not any(names) or not point.time_ns:
            return None
        type_ = {"exponential_histogram": "histogram", "sum": "counter" if is_monotonic else "updown"}
        made = Gain(
            tuple(dict.fromkeys(filter(None, names))), type_.get(point.type, point.type), self._labels(point),
            point.time_ns, unit=point.unit, help=point.description, start_ns=point.start_ns,
        )  # fmt: skip
        if point.flags & NO_VALUE:
            made.is_stale = True
            return made if point.type == "gauge" else None  # others may still add to the same total
        if point.type == "gauge":
            made.value = _number(point.value)
            return made
        told = self._difference(point)
        if told is None:
            return None
        _fill(made, told)
        return made

    def _labels(self, point: Point) -> Labels:
        attributes = chosen(point.attributes, self._keep)
        return tuple(sorted((self.texts(attributes) | self.resource_labels(point.source.resource)).items()))

    def texts(self, attributes: Mapping[str, Any]) -> dict[str, str]:
        """Attributes as labels."""
        return prometheus_names.labels(attributes, prometheus_names.STRATEGIES[prometheus_names.DEFAULT])

    def resource_labels(self, resource: Mapping[str, Any]) -> dict[str, str]:
        """`job` and `service_name`, and of the rest of the resource what was asked for."""
        service = str(resource.get("service.name") or "")
        namespace = str(resource.get("service.namespace") or "")
        more = self.texts({name: resource[name] for name in self._keep if name in resource})
        if "service_instance_id" in more:
            more["instance"] = more.pop("service_instance_id")
        told = {"job": self._job or (f"{namespace}/{service}" if namespace else service), "service_name": service}
        return more | {name: value for name, value in told.items() if value}

    def target(self, resource: Mapping[str, Any]) -> Labels:
        """The labels of `target_info`: what else is known of a sender, () where nothing is."""
        told = {name: value for name, value in resource.items() if name not in _NOT_TOLD}
        texts = self.texts(chosen(told, ()))
        return tuple(sorted((texts | self.resource_labels(resource)).items())) if texts else ()

    def _difference(self, point: Point) -> Point | None:
        """What the point counted beyond the last of its series, None where that was counted before."""
        series = temporality.series_id(point)
        packed = self._memory.get(PREFIX + series)
        last = msgspec.msgpack.decode(packed, type=_Last) if packed else _Last(0)
        if point.type == "summary" or (point.type == "sum" and not point.is_monotonic):
            found, now = self._amount(series, point, last)
        else:
            found, now = self._counted(series, point), _Last(max(point.time_ns, last.time_ns))
        if found is not None:
            self._memory.put(PREFIX + series, msgspec.msgpack.encode(now))
        return found

    def _counted(self, series: str, point: Point) -> Point | None:
        if point.temporality == temporality.DELTA:  # added up only to know what was added already
            is_new = temporality.converted([(series, point)], temporality.CUMULATIVE, self._memory)[0]
            return point if is_new else None
        point = replace(point, temporality=temporality.CUMULATIVE)
        found = temporality.converted([(series, point)], temporality.DELTA, self._memory)[0]
        return found[0] if found else None

    def _amount(self, series: str, point: Point, last: _Last) -> tuple[Point | None, _Last]:
        """Of what goes up and down, and of summaries, which add up nothing but their counts."""
        told = temporality.converted([(series, point)], temporality.CUMULATIVE, self._memory)[0]
        if not told or told[0].time_ns <= last.time_ns:
            return None, last
        now = _Last(told[0].time_ns, _number(told[0].value), told[0].count or 0, _number(told[0].sum))
        if now.count < last.count:
            last = _Last(0)
        difference = replace(
            told[0], value=now.value - last.value, count=now.count - last.count, sum=now.sum - last.sum
        )
        return difference, now


def forget(memory: Memory, now_ns: int) -> None:
    """Forget senders that have been silent for long."""
    for key in memory.keys(PREFIX):
        packed = memory.get(key)
        if packed and msgspec.msgpack.decode(packed, type=_Last).time_ns < now_ns - KEEP_NS:
            memory.put(key, None)
            temporality.forget(key.removeprefix(PREFIX), memory)


def _fill(made: Gain, point: Point) -> None:
    """The numbers of a point as they came."""
    made.value, made.count, made.sum = _number(point.value), point.count or 0, _number(point.sum)
    if not math.isfinite(made.sum):  # a total that has taken it in never is a number again
        made.sum = 0.0
    buckets = point.buckets or {}
    if point.type == "histogram":
        bounds = tuple(float(bound) for bound in buckets.get("bounds") or ())
        counts = tuple(float(count) for count in buckets.get("counts") or ()) or (float(made.count),)
        made.bounds, made.counts = _coarse(bounds, counts)
    elif point.type == "exponential_histogram":
        made.bounds, made.counts = _TOTAL_BOUNDS, _plain(buckets)
    elif point.type == "summary":
        quantiles = buckets.get("quantiles") or []
        made.bounds = tuple(_number(at) for at, _ in quantiles)
        made.counts = tuple(_number(value) for _, value in quantiles)


def _coarse(bounds: tuple[float, ...], counts: tuple[float, ...]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The same counts in few buckets, whose bounds are some of those that came: each count is exact."""
    if len(bounds) <= BOUNDS_MAX:
        return bounds, counts
    places = _chosen_bounds(bounds)
    made = [0.0] * (len(places) + 1)
    for at, count in enumerate(counts):
        made[bisect_left(places, at)] += count
    return tuple(bounds[place] for place in places), tuple(made)


@lru_cache(maxsize=256)
def _chosen_bounds(bounds: tuple[float, ...]) -> tuple[int, ...]:
    """Which of many bounds are kept: the first, the last, and between them those that grow by about the same factor."""
    last = len(bounds) - 1
    positive = [bound for bound in bounds if 0 < bound < math.inf]
    if len(positive) * 2 < len(bounds):
        return tuple(sorted({last * step // (BOUNDS_MAX - 1) for step in range(BOUNDS_MAX)}))
    low, high, steps = math.log(positive[0]), math.log(positive[-1]), BOUNDS_MAX - 2
    wanted = (low + (high - low) * step / steps for step in range(steps))
    return tuple(sorted({0, last, *(min(bisect_left(bounds, math.exp(log) * (1 - 1e-9)), last) for log in wanted)}))


def _plain(buckets: Mapping[str, Any]) -> tuple[float, ...]:
    """The counts of an exponential histogram in buckets that end at powers of two."""
    counts = [0.0] * (len(_TOTAL_BOUNDS) + 1)
    counts[0] = float(buckets.get("zero_count") or 0) + sum((buckets.get("negative") or {}).get("counts") or ())
    positive = buckets.get("positive") or {}
    scale, offset = int(buckets.get("scale") or 0), int(positive.get("offset") or 0)
    for at, count in enumerate(positive.get("counts") or ()):
        upper = _upper(offset + at, scale)  # as a power of two
        counts[min(max(upper + 10, 0), len(_TOTAL_BOUNDS))] += count
    return tuple(counts)


def _upper(index: int, scale: int) -> int:
    """The power of two at or next above the end of a bucket."""
    return -(-(index + 1) >> scale) if scale >= 0 else (index + 1) << -scale


def _number(value: Any) -> float:
    """A number, also one that JSON cannot say."""
    if isinstance(value, dict):
        value = value.get("$double", 0)
    try:
        return float(value or 0)
    except (TypeError, ValueError):
        return 0.0
