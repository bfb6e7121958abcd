"""How a day and a month are foretold, and how models are measured: on calls whose every number is known."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from fillings import NOON, SECOND, Filling
from tachograph.model import PROMPT, TOOL_RUN, Meaning, Usage
from tachograph.questions.activity import activity, outlook
from tachograph.questions.performance import fallbacks, performance, plain_model
from tachograph.store.duckdb import open_store

USED = Usage(input_uncached=10, cache_read=90, output=50)
HOUR = 3600 * SECOND
DAY = 24 * HOUR
PRICE = {"cost_nanousd": SECOND, "cost_kind": "billed"}  # a dollar


@pytest.fixture
def filling(tmp_path: Path) -> Iterator[Filling]:
    """An empty store to be filled."""
    with closing(open_store(tmp_path, lambda: NOON)) as store:
        yield Filling(store)


def test_today_against_the_same_weekday_before(filling: Filling) -> None:
    for week, dollars in ((1, 1), (2, 3), (3, 2)):
        for number in range(dollars):
            filling.call("m", NOON - week * 7 * DAY + number, USED, **PRICE)
    filling.call("m", NOON - 2 * HOUR, USED, **PRICE)
    filling.call("m", NOON - HOUR, USED, cost_nanousd=SECOND, cost_kind="billed", is_notional=True)
    found = outlook(filling.done(), NOON, "UTC")
    assert found.weekday == "Friday"
    assert len(found.today) == 13 and found.today[9:] == [0, 1, 1, 1]  # what a plan covers is not spent
    assert found.usual is not None and found.usual[11:13] == [0, 2] and found.usual[-1] == 2


def test_a_month_is_foretold_from_its_last_days(filling: Filling) -> None:
    for back in range(5):
        filling.call("m", NOON - back * DAY, USED, **PRICE)
    found = outlook(filling.done(), NOON, "UTC")
    assert found.month_so_far == 5
    assert found.month_forecast == 5 + 10  # 2026-11-20: ten days are left, and today has had its dollar


def test_too_little_is_not_foretold(filling: Filling) -> None:
    filling.call("m", NOON, USED, **PRICE)
    found = outlook(filling.done(), NOON, "UTC")
    assert found.usual is None and found.month_forecast is None


def test_activity_counts_sessions_alive(filling: Filling) -> None:
    for session, at_ns in (("old", NOON - 3 * DAY), ("new", NOON)):
        filling.call("m", at_ns, USED, session_id=session)
        filling.event("user", Meaning(role=PROMPT, session_id=session, prompt_id="p"), at_ns=at_ns)
        filling.event("tool", Meaning(role=TOOL_RUN, session_id=session, tool_call_id="t", is_error=True), at_ns=at_ns)
    store = filling.done()
    assert activity(store) == {"sessions": 2, "prompts": 2, "tool_runs": 2, "tool_errors": 2}
    assert activity(store, NOON - DAY) == {"sessions": 1, "prompts": 1, "tool_runs": 1, "tool_errors": 1}
    assert activity(store, None, NOON - DAY)["sessions"] == 1


def test_models_are_measured_by_their_good_calls(filling: Filling) -> None:
    for ttft in (10, 20, 30):
        filling.call("m", NOON, USED, ttft_ns=ttft, **PRICE)
    filling.call("m", NOON, is_error=True, error_type="429")
    filling.call("m", NOON, is_error=True, error_type="429")
    (row,) = performance(filling.done(), "model")
    assert (row["p50_ns"], row["p99_ns"], row["ttft_p50_ns"]) == (SECOND, SECOND, 20)
    assert row["tokens_per_s"] == 50 and row["cost_per_call_nanousd"] == SECOND and row["cache_share"] == 0.9
    assert row["errors"] == [("429", 2)]


def test_another_model_than_asked_for_is_a_fallback(filling: Filling) -> None:
    filling.call("gpt-5-2025-08-07", NOON, USED, request_model="gpt-5")
    filling.call("gpt-5-mini", NOON, USED, request_model="gpt-5")
    found = fallbacks(filling.done())
    assert [(row["requested"], row["served"], row["calls"]) for row in found] == [("gpt-5", "gpt-5-mini", 1)]


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
        ("openrouter/anthropic/Claude-3-opus-latest", "claude-3-opus"),
        ("gemini-1.5-pro-002", "gemini-1.5-pro"),
        ("gpt-5", "gpt-5"),
    ],
)
def test_a_date_is_no_other_model(name: str, plain: str) -> None:
    assert plain_model(name) == plain
