"""What each scraper of `/metrics` was shown: a series that it has not seen begins with what was there before.

A scraper cannot know what a series was before it first saw it, so the first count of a new one would be missing in
every total over a window. The first time it is therefore shown as 0 (after a silence: as it was left), then whole.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from msgspec.structs import replace

from tachograph.forwarders.contract import Memory
from tachograph.forwarders.prometheus_series import ALIVE_MAX_MS, Kept, remembered
from tachograph.forwarders.prometheus_text import OPEN_METRICS, PLAIN, exposed

SCRAPERS_MAX: Final = 16  # one that was forgotten is shown whole what any other was
_NAME_CHARS: Final = 300
_COUNTED: Final = ("counter", "histogram", "summary")
_Key = tuple[int, str]  # the number of the memory, and the series


class Scrapes:
    """The series of some memories as scrapers see them; safe to use from any thread.

    What is remembered when it is made counts as seen: whoever scraped an earlier process must see no total go down.
    """

    def __init__(self, memories: Sequence[Memory], clock: Callable[[], int]) -> None:
        self._memories, self._clock = memories, clock
        self._lock = threading.Lock()
        self._seen: OrderedDict[str, set[_Key]] = OrderedDict()  # by scraper, the one that asked last at the end
        self._left: dict[_Key, Kept] = {}  # as they were when they had not changed for long
        self._whole = {key for key, _ in self._awake()}  # what somebody was shown whole

    def shown(self, scraper: str, *, is_open_metrics: bool) -> tuple[str, str]:
        """What `/metrics` says to a scraper, and its content type."""
        with self._lock:
            told = self._told(scraper[:_NAME_CHARS])
        return exposed(told, is_open_metrics=is_open_metrics), OPEN_METRICS if is_open_metrics else PLAIN

    def _told(self, scraper: str) -> list[Kept]:
        awake = dict(self._awake())
        seen = self._seen.pop(scraper, self._whole)
        self._whole = {key for key in awake if key in self._whole or key in seen}
        self._seen[scraper] = set(awake)
        if len(self._seen) > SCRAPERS_MAX:
            self._seen.popitem(last=False)
        return [kept if key in seen else self._before(key, kept) for key, kept in awake.items()]

    def _awake(self) -> Iterator[tuple[_Key, Kept]]:
        """The series that changed within a day."""
        since_ms = self._clock() // 1_000_000 - ALIVE_MAX_MS
        known: set[_Key] = set()
        for number, memory in enumerate(self._memories):
            for name, kept in remembered(memory):
                known.add((number, name))
                if kept.changed_ms >= since_ms:
                    yield (number, name), kept
                else:
                    self._left[number, name] = kept
        self._left = {key: kept for key, kept in self._left.items() if key in known}

    def _before(self, key: _Key, kept: Kept) -> Kept:
        """What a series was before it could be seen."""
        if kept.type not in _COUNTED:
            return kept
        left = self._left.get(key)
        if left is not None:
            return left
        counts = kept.counts if kept.type == "summary" else [0.0] * len(kept.counts)
        return replace(kept, value=0.0, shown=0.0, count=0, sum=0.0, counts=counts)
