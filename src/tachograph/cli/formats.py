"""How values are written for people: tokens, money, times; unknown is never a number."""

from __future__ import annotations

from datetime import datetime, tzinfo
from typing import Any

UNKNOWN = "unknown"
UNPRICED = "unpriced"
_SECOND_NS = 1_000_000_000


def printable(text: str) -> str:
    """Text of anyone as one line that a terminal cannot be commanded with: no escape sequence, no control character."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " if c in "\n\r\t" else "�" for c in text)


def count(value: int | None) -> str:
    """A number with its thousands apart: 1,234,567."""
    return UNKNOWN if value is None else f"{value:,}"


def plural(number: int, word: str) -> str:
    """A number of things: 1 call, 2,000 calls."""
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"


def usd(value: float | None, is_short: bool = False) -> str:
    """An amount with as many digits as it takes to see it: $12.34, $0.0123."""
    if value is None:
        return UNPRICED
    if value == 0:
        return "$0"
    if 0 < value < 0.000001:
        return "<$0.000001"
    if abs(value) >= 1 or is_short:
        return f"${value:,.2f}"
    return f"${value:.4f}" if abs(value) >= 0.001 else f"${value:.6f}"


def nanousd(value: int | None) -> str:
    """The same of nano-dollars."""
    return usd(None if value is None else value / 1e9)


def duration(value_ns: int | None) -> str:
    """A duration in the unit that fits: 850 ms, 4.2 s, 3 m 20 s, 2 h 5 m."""
    if value_ns is None:
        return UNKNOWN
    seconds = value_ns / _SECOND_NS
    if seconds < 1:
        return f"{value_ns / 1e6:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} m {seconds} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} m" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def size(value_bytes: int) -> str:
    """A size in the unit that fits: 12.3 MB."""
    amount, unit = float(value_bytes), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if amount < 1000 or unit == "TB":
            break
        amount /= 1000
    return f"{amount:.0f} {unit}" if unit == "B" or amount >= 100 else f"{amount:.1f} {unit}"


def moment(time_ns: int | None, zone: tzinfo, with_seconds: bool = False) -> str:
    """A point in time: 2026-11-21 14:05."""
    if not time_ns:
        return UNKNOWN
    pattern = "%Y-%m-%d %H:%M:%S" if with_seconds else "%Y-%m-%d %H:%M"
    return datetime.fromtimestamp(time_ns // _SECOND_NS, zone).strftime(pattern)


def clock_time(time_ns: int | None, zone: tzinfo) -> str:
    """The time of day: 14:05:09."""
    return "--:--:--" if not time_ns else datetime.fromtimestamp(time_ns // _SECOND_NS, zone).strftime("%H:%M:%S")


def text(value: Any) -> str:
    """Any value of a table as text: nothing for None, JSON for what is not plain."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, dict)):
        import msgspec

        return msgspec.json.encode(value).decode()
    return str(value)
