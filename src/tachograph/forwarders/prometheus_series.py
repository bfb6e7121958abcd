"""The series of one destination in its memory: totals that only grow, and the samples to send when they did.

Many senders add to one series once their ids are no labels any more, so every total is kept here, and what came in adds
its difference. Samples are made of the records' own times: at most one in 15 seconds. Before a value that comes after a
silence, the old value is said again, so that `rate` and `increase` see when it changed; and while anything comes, every
series of the last day is said once a minute, so that no panel loses it. What has not changed for eight days is
forgotten: if it comes back, it is a counter that begins anew, which every query takes for what it is.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Final

import msgspec
from msgspec import Struct, field

from tachograph.forwarders.contract import Memory
from tachograph.forwarders.prometheus_names import Labels
from tachograph.forwarders.prometheus_wire import STALE, Family, Series

STEP_MS: Final = 15_000  # between two samples of a series
FILLED: Final = 4  # samples of the old value before a new one that comes after a silence
ALIVE_MS: Final = 60_000  # between two samples of a series that does not change
ALIVE_MAX_MS: Final = 86_400_000  # since its last change
FORGET_MS: Final = 8 * ALIVE_MAX_MS  # longer than a call is remembered, which may change what it added
PREFIX: Final = "series:"
_DIGITS: Final = 9  # behind the point: what comes in is nanoseconds and billionths of a dollar
_ULPS: Final = 4  # as much as two roundings may be off
_ALIVE: Final = "alive"
_SWEPT: Final = "swept"
_SWEEP_MS: Final = 3_600_000


class Gain(Struct):
    """What a record adds to one series, or for a gauge what it is now. `names`: of the family, with their spellings."""

    names: tuple[str, ...]
    type: str  # counter, updown, gauge, histogram or summary
    labels: Labels
    time_ns: int
    value: float = 0.0
    count: int = 0
    sum: float = 0.0
    bounds: tuple[float, ...] = ()  # of a histogram; of a summary its quantiles
    counts: tuple[float, ...] = ()  # of its buckets, one more than bounds; of a summary the quantiles' values
    unit: str = ""
    help: str = ""
    start_ns: int = 0
    is_stale: bool = False  # the sender says that it is no more


class Kept(Struct, array_like=True):
    """One series, or all those of one histogram, as the memory has it; times in milliseconds."""

    names: tuple[str, ...]
    type: str
    labels: Labels
    unit: str = ""
    help: str = ""
    start_ms: int = 0
    last_ms: int = 0  # of its last sample
    changed_ms: int = 0
    value: float = 0.0
    shown: float = 0.0  # of a counter: what was said, never less than before
    count: int = 0
    sum: float = 0.0
    bounds: tuple[float, ...] = ()
    counts: list[float] = field(default_factory=list)

    def add(self, gain: Gain) -> None:
        """Count it."""
        if self.type == "gauge":
            self.value = gain.value
        else:
            self.value = added(self.value, gain.value)
        self.shown = max(self.shown, self.value) if self.type == "counter" else self.value
        self.count += gain.count
        self.sum = added(self.sum, gain.sum)
        if self.type == "summary":
            self.bounds, self.counts = gain.bounds, list(gain.counts)
        elif self.type == "histogram":
            self._add_buckets(gain)

    def _add_buckets(self, gain: Gain) -> None:
        """Add counts; a bucket that is not one of ours goes into the next wider one."""
        if not self.counts:
            self.bounds, self.counts = gain.bounds, [0.0] * (len(gain.bounds) + 1)
        same = gain.bounds == self.bounds
        for at, count in enumerate(gain.counts):
            if count:
                upper = gain.bounds[at] if at < len(gain.bounds) else float("inf")
                self.counts[at if same else bisect_left(self.bounds, upper)] += count

    def numbers(self) -> list[tuple[str, tuple[str, str] | None, float]]:
        """Its samples: the end of the name, one more label, the value."""
        if self.type == "histogram":
            found: list[tuple[str, tuple[str, str] | None, float]] = []
            running = 0.0
            for upper, count in zip((*self.bounds, float("inf")), self.counts, strict=False):
                running += count
                found.append(("_bucket", ("le", bound_text(upper)), running))
            return [*found, ("_sum", None, self.sum), ("_count", None, float(self.count))]
        if self.type == "summary":
            quantiles = zip(self.bounds, self.counts, strict=True)
            told = [("", ("quantile", bound_text(at)), value) for at, value in quantiles]
            return [*told, ("_sum", None, self.sum), ("_count", None, float(self.count))]
        return [("", None, self.shown)]

    def family(self, name: str) -> Family:
        """What the metric is, under one of its names."""
        return Family(name, "gauge" if self.type == "updown" else self.type, self.unit, self.help)


def bound_text(bound: float) -> str:
    """A bound as Prometheus writes it in `le` and `quantile`."""
    if bound == float("inf"):
        return "+Inf"
    return str(int(bound)) if bound == int(bound) and abs(bound) < 1e15 else repr(bound)


def added(total: float, gain: float) -> float:
    """A sum that is the same in every order, where all of it is of whole billionths: money and time are.

    A destination that is sent everything once more sees no counter fall by a rounding error.
    """
    found = total + gain
    near = round(found, _DIGITS)
    is_noise = abs(near - found) <= _ULPS * math.ulp(max(abs(found), abs(total), abs(gain)))
    return near if is_noise else found


class _Pending(Struct):
    """A sample that is not made yet: others of the same 15 seconds may still come. `index` is that of its record."""

    ms: int
    index: int
    before: list[tuple[str, tuple[str, str] | None, float]]


class Streams:
    """The series while records are worked in, in order of their times; `keep` writes them back."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._kept: dict[str, Kept] = {}
        self._pending: dict[str, _Pending] = {}
        self._earliest_ms = 0  # of what is worked in: the clock of one sender may be far ahead
        self.made: dict[int, list[Series]] = {}  # by index of the record

    def add(self, gain: Gain, index: int) -> None:
        """Work a gain in; what it makes is sent with the record of this index."""
        key = _key(gain)
        ms = gain.time_ns // 1_000_000
        self._earliest_ms = min(ms, self._earliest_ms or ms)
        kept = self._of(key, gain, ms)
        if gain.is_stale:
            self._flush(key)
            self._say(kept, index, [(max(ms, kept.last_ms + 1), [(*n[:2], STALE) for n in kept.numbers()])])
            return
        if kept.type == "gauge" and ms <= kept.last_ms:
            return  # an older one that came late says nothing new
        pending = self._pending.get(key)
        if pending is not None and pending.ms // STEP_MS != ms // STEP_MS:
            self._flush(key)
            pending = None
        if pending is None:
            pending = self._pending[key] = _Pending(ms, index, kept.numbers() if kept.last_ms else [])
        pending.ms, pending.index = max(ms, pending.ms), index
        kept.add(gain)
        kept.changed_ms = max(ms, kept.changed_ms)

    def _of(self, key: str, gain: Gain, ms: int) -> Kept:
        if key not in self._kept:
            packed = self._memory.get(PREFIX + key)
            if packed is not None:
                self._kept[key] = msgspec.msgpack.decode(packed, type=Kept)
            else:
                # Not before what may have been said of it until it was forgotten.
                start = max(gain.start_ns // 1_000_000 or ms, ms - FORGET_MS + 2 * ALIVE_MAX_MS)
                self._kept[key] = Kept(
                    gain.names, gain.type, gain.labels, gain.unit, gain.help, min(start, ms - 1), bounds=gain.bounds
                )
        return self._kept[key]

    def _flush(self, key: str) -> None:
        """Make the sample that is pending, and before it what was until then."""
        pending = self._pending.pop(key, None)
        if pending is None:
            return
        kept = self._kept[key]
        ms = max(pending.ms, kept.last_ms + 1)
        now = kept.numbers()
        told = []
        if kept.type != "gauge":
            before = pending.before or [(*number[:2], 0.0) for number in now]
            times = (ms - STEP_MS * step for step in range(FILLED, 0, -1))
            told = [(at, before) for at in times if at > kept.last_ms]
        self._say(kept, pending.index, [*told, (ms, now)])

    def _say(
        self, kept: Kept, index: int, told: list[tuple[int, list[tuple[str, tuple[str, str] | None, float]]]]
    ) -> None:
        kept.last_ms = told[-1][0]
        found: dict[Labels, Series] = {}
        for name in kept.names:
            for ms, numbers in told:
                for end, more, value in numbers:
                    labels = labelled(name + end, kept.labels, more)
                    if labels not in found:
                        found[labels] = Series(labels, kept.family(name), kept.start_ms)
                    found[labels].samples.append((ms, value))
        self.made.setdefault(index, []).extend(found.values())

    def keep(self, index: int, now_ms: int) -> None:
        """Make what is pending, say again what was not said for a minute (with the record of `index`), and remember."""
        for key in list(self._pending):
            self._flush(key)
        self._keep_alive(index, now_ms)
        for key, kept in self._kept.items():
            self._memory.put(PREFIX + key, msgspec.msgpack.encode(kept))
        self._forget()

    def _forget(self) -> None:
        """Once in an hour of the records' time, forget the series that have not changed for long."""
        now_ms = self._earliest_ms
        packed = self._memory.get(_SWEPT)
        if packed is not None and abs(now_ms - msgspec.msgpack.decode(packed, type=int)) < _SWEEP_MS:
            return
        self._memory.put(_SWEPT, msgspec.msgpack.encode(now_ms))
        for key, kept in remembered(self._memory):
            if max(kept.changed_ms, kept.start_ms) < now_ms - FORGET_MS:
                self._memory.put(key, None)

    def _keep_alive(self, index: int, now_ms: int) -> None:
        packed = self._memory.get(_ALIVE)
        last_ms = msgspec.msgpack.decode(packed, type=int) if packed else 0
        if now_ms < last_ms + ALIVE_MS:
            return
        self._memory.put(_ALIVE, msgspec.msgpack.encode(now_ms))
        for key in self._memory.keys(PREFIX):
            packed = self._memory.get(key)
            name = key.removeprefix(PREFIX)
            kept = self._kept.get(name) or (msgspec.msgpack.decode(packed, type=Kept) if packed else None)
            if kept is None or kept.type == "gauge":
                continue
            if kept.last_ms + ALIVE_MS <= now_ms <= kept.changed_ms + ALIVE_MAX_MS:
                self._kept[name] = kept
                self._say(kept, index, [(now_ms, kept.numbers())])


def labelled(name: str, labels: Labels, more: tuple[str, str] | None) -> Labels:
    """All labels of a series in order, its name among them; one that is called as `more` gets another name."""
    if more is None:
        return tuple(sorted((*labels, ("__name__", name))))
    told = ((f"exported_{key}" if key == more[0] else key, value) for key, value in labels)
    return tuple(sorted((*told, ("__name__", name), more)))


def remembered(memory: Memory) -> Iterator[tuple[str, Kept]]:
    """Every series that is kept, by a name of its own."""
    for key in memory.keys(PREFIX):
        if packed := memory.get(key):
            yield key, msgspec.msgpack.decode(packed, type=Kept)


def _key(gain: Gain) -> str:
    return digest((*gain.names, gain.type, *(text for pair in gain.labels for text in pair)))


def digest(texts: Iterable[str]) -> str:
    """A short name for texts."""
    joined = "\0".join(texts).encode("utf-8", "replace")
    return blake2b(joined, digest_size=12).hexdigest()
