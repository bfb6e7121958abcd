"""Counters and histograms told as deltas or as totals: whatever is split, repeated or late, the sums are the same."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tachograph.forwarders.contract import NOW
from tachograph.forwarders.temporality import (
    BUSY_WRITERS_MAX,
    CUMULATIVE,
    DELTA,
    KEEP_NS,
    SIZE_MAX,
    converted,
    forget_old,
    latest_ns,
)
from tachograph.model import Point, Source

SOURCE = Source({"service.name": "tester"})
SECOND = 1_000_000_000


class Notes:
    """A memory that forgets nothing, and can be read back as it was after a restart."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def get(self, key: str) -> bytes | None:
        return self.kept.get(key)

    def put(self, key: str, value: bytes | None) -> None:
        if value is None:
            self.kept.pop(key, None)
        else:
            self.kept[key] = value

    def keys(self, prefix: str) -> list[str]:
        return sorted(key for key in self.kept if key.startswith(prefix))


def counter(value: float | int, start: int, end: int, temporality: int = DELTA, **also: Any) -> Point:
    made = Point(
        SOURCE, "tokens", {"kind": "in"}, end * SECOND, "sum", temporality=temporality, is_monotonic=True, value=value,
        start_ns=start * SECOND,
    )  # fmt: skip
    for name, given_value in also.items():
        setattr(made, name, given_value)
    return made


def histogram(counts: list[int], start: int, end: int, temporality: int = DELTA, total: float = 0.0) -> Point:
    return Point(
        SOURCE, "latency", {}, end * SECOND, "histogram", temporality=temporality, start_ns=start * SECOND,
        count=sum(counts), sum=total, min=0.0, max=9.0, buckets={"bounds": [1.0, 2.0], "counts": counts},
    )  # fmt: skip


def exponential(
    scale: int, offset: int, counts: list[int], start: int, end: int, temporality: int = DELTA, zeros: int = 0
) -> Point:
    buckets: dict[str, Any] = {
        "scale": scale,
        "zero_count": zeros,
        "zero_threshold": 0.0,
        "negative": {"offset": 0, "counts": []},
    }
    buckets["positive"] = {"offset": offset, "counts": counts}
    return Point(
        SOURCE, "latency", {}, end * SECOND, "exponential_histogram", temporality=temporality, start_ns=start * SECOND,
        count=sum(counts) + zeros, sum=1.0, buckets=buckets,
    )  # fmt: skip


def told(points: list[Point], target: int, memory: Notes | None = None) -> list[Point]:
    memory = memory or Notes()
    return [one for some in converted([("series", point) for point in points], target, memory) for one in some]


def test_deltas_add_up_from_the_first_start() -> None:
    found = told([counter(5, 1, 10), counter(7, 10, 20)], CUMULATIVE)
    assert [(one.value, one.start_ns // SECOND, one.time_ns // SECOND) for one in found] == [(5, 1, 10), (12, 1, 20)]
    assert {one.temporality for one in found} == {CUMULATIVE}


def test_a_point_that_comes_twice_counts_once() -> None:
    assert [one.value for one in told([counter(5, 1, 10), counter(5, 1, 10), counter(1, 10, 11)], CUMULATIVE)] == [5, 6]


def test_a_late_delta_is_in_the_total_and_time_goes_on() -> None:
    found = told([counter(5, 10, 20), counter(3, 1, 10)], CUMULATIVE)
    assert [one.value for one in found] == [5, 8]
    assert found[1].time_ns > found[0].time_ns


def test_totals_become_what_came_since_the_last() -> None:
    found = told([counter(v, 1, end, CUMULATIVE) for v, end in ((5, 10), (12, 20), (12, 30))], DELTA)
    assert [one.value for one in found] == [5, 7, 0]
    assert [one.start_ns // SECOND for one in found] == [1, 10, 20]


def test_a_counter_that_begins_again_is_counted_from_its_new_start() -> None:
    points = [counter(5, 1, 10, CUMULATIVE), counter(4, 15, 20, CUMULATIVE), counter(2, 15, 30, CUMULATIVE)]
    assert [one.value for one in told(points, DELTA)] == [5, 4, 2]


def test_two_processes_that_count_one_series_are_told_apart_by_their_start() -> None:
    points = [
        counter(v, start, end, CUMULATIVE) for v, start, end in ((5, 1, 10), (50, 2, 11), (6, 1, 12), (51, 2, 13))
    ]
    assert [one.value for one in told(points, DELTA)] == [5, 50, 1, 1]


def test_a_total_since_nobody_knows_when_says_only_where_counting_begins() -> None:
    assert [one.value for one in told([counter(v, 0, end, CUMULATIVE) for v, end in ((100, 1), (103, 2))], DELTA)] == [
        3
    ]


@pytest.mark.parametrize("target", [DELTA, CUMULATIVE])
def test_what_is_as_wanted_stays(target: int) -> None:
    gauge = counter(1, 0, 1, 0, type="gauge")
    same = counter(1, 0, 1, target)
    assert told([gauge, same], target) == [gauge, same]


def test_up_down_counters_stay_totals() -> None:
    total = counter(5, 1, 10, CUMULATIVE, is_monotonic=False)
    changes = [counter(5, 1, 10, DELTA, is_monotonic=False), counter(-3, 10, 20, DELTA, is_monotonic=False)]
    assert told([total], DELTA) == [total]
    assert [(one.value, one.temporality) for one in told(changes, DELTA)] == [(5, CUMULATIVE), (2, CUMULATIVE)]


def test_no_number_changes_nothing() -> None:
    points = [counter(5, 1, 10), counter(float("nan"), 10, 20), counter(0, 20, 30, flags=1), counter(1, 30, 40)]
    assert [one.value for one in told(points, CUMULATIVE)] == [5, 6]


def test_histograms_add_up_bucket_by_bucket() -> None:
    found = told([histogram([1, 2, 0], 0, 1, total=2.5), histogram([0, 1, 4], 1, 2, total=9.5)], CUMULATIVE)
    assert found[1].buckets == {"bounds": [1.0, 2.0], "counts": [1, 3, 4]}
    assert (found[1].count, found[1].sum, found[1].min, found[1].max) == (8, 12.0, 0.0, 9.0)
    back = told([found[0], found[1]], DELTA)
    assert [(one.buckets or {})["counts"] for one in back] == [[1, 2, 0], [0, 1, 4]]
    assert back[1].min is None


def test_other_buckets_are_another_count() -> None:
    other = histogram([1, 1, 1], 5, 6)
    other.buckets = {"bounds": [3.0, 4.0], "counts": [1, 1, 1]}
    found = told([histogram([1, 2, 0], 0, 1), other], CUMULATIVE)
    assert found[1].buckets == other.buckets
    assert found[1].start_ns == other.start_ns


def test_exponential_histograms_meet_at_the_coarser_scale() -> None:
    found = told([exponential(1, 4, [1, 1, 1, 1], 0, 1), exponential(0, 3, [5], 1, 2, zeros=2)], CUMULATIVE)
    buckets = found[1].buckets or {}
    assert (buckets["scale"], buckets["zero_count"], buckets["positive"]) == (0, 2, {"offset": 2, "counts": [2, 7]})
    assert found[1].count == 11


def test_buckets_of_exponential_histograms_stay_few() -> None:
    far = [exponential(20, at, [1], number, number + 1) for number, at in enumerate((0, 10_000_000, -10_000_000))]
    buckets = told(far, CUMULATIVE)[-1].buckets or {}
    assert sum(buckets["positive"]["counts"]) == 3
    assert len(buckets["positive"]["counts"]) <= SIZE_MAX


# -- whatever way it comes ---------------------------------------------------------------------------------------------


KINDS = ("sum", "histogram", "exponential_histogram")


@st.composite
def _points(draw: st.DrawFn) -> list[Point]:
    """Deltas of one series, one after the other."""
    kind = draw(st.sampled_from(KINDS))
    made = []
    for at in range(draw(st.integers(1, 12))):
        counts = draw(st.lists(st.integers(0, 9), min_size=3, max_size=3))
        if kind == "sum":
            made.append(counter(sum(counts), at, at + 1))
        elif kind == "histogram":
            made.append(histogram(counts, at, at + 1, total=float(sum(counts))))
        else:
            scale, offset = draw(st.integers(-2, 5)), draw(st.integers(-300, 300))
            made.append(exponential(scale, offset, counts, at, at + 1, zeros=draw(st.integers(0, 2))))
    return made


def measure(point: Point) -> tuple[Any, ...]:
    return point.value, point.count, point.sum, point.buckets


@given(_points(), st.randoms(use_true_random=False), st.lists(st.integers(0, 12), max_size=4))
def test_split_repeated_and_late_deltas_give_the_same_total(points: list[Point], random: Any, cuts: list[int]) -> None:
    expected = measure(told(points, CUMULATIVE)[-1])
    mixed = points + random.sample(points, len(points) // 2)
    random.shuffle(mixed)
    memory = Notes()
    found: list[Point] = []
    edges = sorted({0, len(mixed), *(cut for cut in cuts if cut < len(mixed))})
    for start, end in pairwise(edges):
        again = Notes()
        again.kept = dict(memory.kept)
        told(mixed[start:end], CUMULATIVE, again)  # a round that failed: nothing of it is kept
        found += told(mixed[start:end], CUMULATIVE, memory)
    assert measure(found[-1]) == expected
    times = [one.time_ns for one in found]
    assert times == sorted(set(times))


@given(_points(), st.randoms(use_true_random=False))
def test_totals_told_as_deltas_add_up_to_the_last_total(points: list[Point], random: Any) -> None:
    totals = told(points, CUMULATIVE)
    some = [one for one in totals[:-1] if random.random() < 0.7] + totals[-1:]
    repeated = [one for one in some for _ in range(random.randint(1, 2))]
    deltas = told(repeated, DELTA)
    assert len(deltas) == len(some)
    back = told(deltas, CUMULATIVE)[-1]
    assert (back.value, back.count) == (totals[-1].value, totals[-1].count)
    if back.type == "histogram":
        assert back.buckets == totals[-1].buckets
    elif back.buckets is not None and totals[-1].buckets is not None:
        assert sum(back.buckets["positive"]["counts"]) == sum(totals[-1].buckets["positive"]["counts"])
        assert back.buckets["scale"] <= totals[-1].buckets["scale"]


def test_series_that_nothing_came_of_for_long_are_forgotten() -> None:
    memory = Notes()
    day = 86_400
    converted([("old", counter(1, 0, 10))], CUMULATIVE, memory)
    converted([("old too", counter(1, 0, 10, CUMULATIVE))], DELTA, memory)
    converted([("new", counter(1, 0, 10 * day))], CUMULATIVE, memory)
    forget_old(memory, KEEP_NS)
    assert len(memory.keys("temporality:")) == 3
    forget_old(memory, KEEP_NS + 20 * SECOND)
    assert len(memory.keys("temporality:")) == 3, "it looks once in a day"
    forget_old(memory, KEEP_NS + day * SECOND)
    assert memory.keys("temporality:") == ["temporality:new"]


def test_many_processes_at_once_are_each_counted_once() -> None:
    memory, writers, rounds = Notes(), 100, 10
    found = [
        one.value or 0
        for at in range(1, rounds + 1)
        for writer in range(writers)
        for one in told([counter(at, writer + 1, 1000 + 60 * at, CUMULATIVE)], DELTA, memory)
    ]
    assert sum(found) == writers * rounds


def test_processes_that_ended_long_ago_are_forgotten() -> None:
    memory = Notes()
    for writer in range(2000):
        told([counter(1, 600 * writer, 600 * writer + 60, CUMULATIVE)], DELTA, memory)
    few = len(memory.kept["temporality:series"])
    for writer in range(2 * BUSY_WRITERS_MAX):
        told([counter(1, 2_000_000 + writer, 3_000_000, CUMULATIVE)], DELTA, memory)
    assert few < 1000 < len(memory.kept["temporality:series"]) < 64 * BUSY_WRITERS_MAX


def test_a_time_that_is_still_to_come_is_none() -> None:
    memory = Notes()
    assert latest_ns(2000 * SECOND, memory) == 2000 * SECOND, "where nobody says what time it is"
    memory.put(NOW, b"%d" % (1000 * SECOND))
    assert [latest_ns(at * SECOND, memory) // SECOND for at in (1, 1030, 2000)] == [1, 1030, 1060]
