"""Totals are the same in whatever order they were added up, and however often something changed meanwhile."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tachograph.forwarders.prometheus_series import Gain, Kept, added

NANO = 1_000_000_000


@given(st.lists(st.integers(0, 50 * NANO), min_size=1, max_size=60), st.randoms(use_true_random=False))
def test_a_total_of_billionths_is_exact_in_every_order(costs: list[int], chance: random.Random) -> None:
    exact = sum(costs) / NANO
    chance.shuffle(costs)
    total = 0.0
    for cost in costs:
        before = chance.randint(0, cost)  # it was told first, and then changed
        total = added(total, before / NANO)
        total = added(total, cost / NANO - before / NANO)
    assert total == exact


def test_a_long_sum_stays_exact() -> None:
    costs = [random.Random(seed).randint(1, NANO) for seed in range(20_000)]
    kept = Kept(("cost",), "counter", ())
    for cost in costs:
        kept.add(Gain(("cost",), "counter", (), 1, value=cost / NANO))
    assert kept.shown == sum(costs) / NANO


@pytest.mark.parametrize(
    ("total", "gain"), [(1e-12, 3e-13), (0.1234567890123, 1e-12), (1e300, 1e280), (5.0, math.inf), (2.0**60, 1.0)]
)
def test_other_numbers_are_left_alone(total: float, gain: float) -> None:
    assert added(total, gain) == total + gain


def test_what_is_no_number_stays_none() -> None:
    assert math.isnan(added(1.0, math.nan))
