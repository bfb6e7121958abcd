"""What is scraped: a new series begins at 0 for each scraper, no total goes down, and what is idle is left out."""

from __future__ import annotations

import re

import pytest

from fillings import NOON, SECOND
from notes import Notes
from tachograph.destinations import Destination
from tachograph.forwarders import prometheus
from tachograph.forwarders.contract import Item
from tachograph.forwarders.prometheus_scrapes import SCRAPERS_MAX, Scrapes
from tachograph.model import Point, Source
from told import CALL

DAY_S = 86_400


class Watched:
    """A destination that is scraped: its memory, its scrapes, and a time that stands where it is put."""

    def __init__(self) -> None:
        self.memory, self.now_ns = Notes(), NOON
        self._to = prometheus.make(Destination("p", "prometheus", "p", options={"scrape": True}), {})
        self.begin()

    def begin(self) -> None:
        """A process begins."""
        self._scrapes = Scrapes([self.memory], lambda: self.now_ns)

    def count(self, number: int, second: int = 0, model: str = "big") -> None:
        """A call comes."""
        self.now_ns = NOON + second * SECOND
        row = {
            "start_ns": self.now_ns - 2 * SECOND, "end_ns": self.now_ns, "request_model": model, "model": model,
            "channel": "", "environment": "", "project": "web", "error_type": "", "call_id": f"c{number}",
            "input_tokens": 2400,
        }  # fmt: skip
        self._to.convert([Item(f"c{number}", number, {**CALL, **row})], self.memory)

    def gauge(self, value: float) -> None:
        """A gauge comes."""
        record = Point(Source({}), "load", {}, self.now_ns, "gauge", value=value)
        self._to.convert([Item("g", 1, record)], self.memory)

    def scrape(self, scraper: str = "one", start: str = "tachograph_calls_total", model: str = "big") -> float | None:
        """The value of a series as it is shown, None where it is not."""
        text, _ = self._scrapes.shown(scraper, is_open_metrics=False)
        found = [line for line in text.splitlines() if line.startswith(start) and f'"{model}"' in line]
        return float(found[-1].rpartition(" ")[2]) if found else None


def test_the_first_count_of_a_new_series_is_not_lost() -> None:
    watched = Watched()
    assert watched.scrape() is None
    watched.count(1)
    watched.count(2)
    assert [watched.scrape(), watched.scrape(), watched.scrape()] == [0, 2, 2]
    watched.count(3)
    assert watched.scrape() == 3


@pytest.mark.parametrize("end", ["_bucket", "_sum", "_count"])
def test_a_new_histogram_is_0_in_all_its_parts(end: str) -> None:
    watched = Watched()
    watched.count(1)
    name = f"gen_ai_client_operation_duration_seconds{end}"
    assert watched.scrape(start=name) == 0
    assert watched.scrape(start=name) == (2 if end == "_sum" else 1)


def test_a_gauge_is_what_it_is() -> None:
    watched = Watched()
    watched.gauge(3.5)
    text, _ = watched._scrapes.shown("one", is_open_metrics=False)
    assert re.search(r"^load 3\.5$", text, re.MULTILINE)


def test_each_scraper_sees_a_series_begin() -> None:
    watched = Watched()
    watched.scrape("one")
    watched.scrape("two")
    watched.count(1)
    assert [watched.scrape(who) for who in ("one", "one", "two", "two")] == [0, 1, 0, 1]


def test_who_comes_later_is_shown_whole_what_others_have_seen() -> None:
    watched = Watched()
    watched.count(1)
    watched.scrape("one")
    watched.scrape("one")
    assert watched.scrape("late") == 1


def test_no_total_goes_down_for_a_scraper_that_was_forgotten() -> None:
    watched = Watched()
    watched.count(1)
    assert [watched.scrape(), watched.scrape()] == [0, 1]
    for number in range(SCRAPERS_MAX + 3):
        watched.scrape(f"other {number}")
    assert watched.scrape() == 1


def test_no_total_goes_down_when_the_process_begins_anew() -> None:
    watched = Watched()
    watched.count(1)
    assert [watched.scrape(), watched.scrape()] == [0, 1]
    watched.begin()
    assert watched.scrape() == 1
    watched.count(2, model="small")
    assert [watched.scrape(model="small"), watched.scrape(model="small")] == [0, 1]


def test_what_has_not_changed_for_a_day_is_left_out_and_comes_back_as_it_was_left() -> None:
    watched = Watched()
    watched.count(1)
    watched.count(2)
    assert [watched.scrape(), watched.scrape()] == [0, 2]
    watched.now_ns = NOON + (DAY_S - 1) * SECOND
    assert watched.scrape() == 2
    watched.now_ns = NOON + (DAY_S + 1) * SECOND
    assert watched.scrape() is None
    watched.count(3, second=DAY_S + 60)
    assert [watched.scrape(), watched.scrape()] == [2, 3]


def test_what_was_left_before_the_process_began_comes_back_as_it_was() -> None:
    watched = Watched()
    watched.count(1)
    watched.now_ns = NOON + 2 * DAY_S * SECOND
    watched.begin()
    watched.count(2, second=2 * DAY_S + 60)
    assert [watched.scrape(), watched.scrape()] == [1, 2]
