"""The step by which a time zone's clock is set: the moments of one step share hour, day, week and month.

So a scan may count by steps first, which is plain reckoning, and ask the calendar for each step alone rather than for
each row.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from math import gcd
from typing import Final
from zoneinfo import ZoneInfo

_STEPS_S: Final = (3600, 1800, 900)  # a smaller one saves nothing
_DAY_S: Final = 86_400
# Records are of these years, or of a clock that is wrong by decades.
_FIRST: Final = int(datetime(1972, 2, 1, tzinfo=UTC).timestamp())
_LAST: Final = int(datetime(2040, 1, 1, tzinfo=UTC).timestamp())
_LOOK_EVERY_S: Final = 5 * _DAY_S  # no zone has changed its clock and changed it back within less


@lru_cache(maxsize=64)
def clock_step_s(timezone: str) -> int:
    """Seconds of the step of a zone that there is, counted from 1970; 0 where some change of its clock fits none."""
    zone = ZoneInfo(timezone)
    before = common = _offset_s(zone, _FIRST)
    for at in range(_FIRST, _LAST, _LOOK_EVERY_S):
        after = _offset_s(zone, at + _LOOK_EVERY_S)
        if after != before:
            common = gcd(common, after, _change(zone, at, at + _LOOK_EVERY_S))
            before = after
    return next((step for step in _STEPS_S if common % step == 0), 0)


def _offset_s(zone: ZoneInfo, at: int) -> int:
    offset = datetime.fromtimestamp(at, zone).utcoffset()
    return int((offset or timedelta()).total_seconds())


def _change(zone: ZoneInfo, first: int, last: int) -> int:
    """The second at which the clock is moved, which it is between the two."""
    before = _offset_s(zone, first)
    while last - first > 1:
        middle = (first + last) // 2
        first, last = (middle, last) if _offset_s(zone, middle) == before else (first, middle)
    return last
