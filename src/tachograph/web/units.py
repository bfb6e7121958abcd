"""Numbers and times as people read them; what is unknown says so and is never shown as 0."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, tzinfo
from typing import Final

SECOND_NS: Final = 1_000_000_000
MINUTE_NS: Final = 60 * SECOND_NS
HOUR_NS: Final = 60 * MINUTE_NS
DAY_NS: Final = 24 * HOUR_NS
UNKNOWN: Final = "unknown"
UNPRICED: Final = "unpriced"
_NANO: Final = 1_000_000_000
_FEW_SECONDS_NS: Final = 5 * SECOND_NS
_DIGIT_WIDE: Final = "\u2007"
_POINT_WIDE: Final = "\u2008"


def count(number: int | None) -> str:
    """A whole number with thousands set apart."""
    return UNKNOWN if number is None else f"{number:,}"


def plural(number: int, word: str) -> str:
    """A number of things: 1 call, 2 calls."""
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"


def tokens(number: int | None) -> str:
    """Tokens, or any big count, to three digits: 812, 12.3k, 1.20M."""
    if number is None:
        return UNKNOWN
    value, unit = float(number), ""
    for unit_up in ("k", "M", "G", "T"):
        if abs(value) < 999.5:
            break
        value, unit = value / 1000, unit_up
    if not unit:
        return str(number)
    return f"{value:.{2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0}f}{unit}"


def money(nanousd: int | float | None) -> str:
    """Nano-dollars as dollars, exact enough to tell small calls apart: $0.0123, $12.34, $1,234."""
    if nanousd is None:
        return UNPRICED
    dollars = nanousd / _NANO
    size = abs(dollars)
    if size == 0:
        return "$0"
    if size < 0.0001:
        return f"${dollars:.6f}" if size >= 1e-6 else "<$0.000001"
    if size < 1:
        return f"${dollars:.4f}"
    return f"${dollars:,.2f}" if size < 1000 else f"${dollars:,.0f}"


def decimals(amounts: Iterable[int | float | None]) -> int:
    """With how many decimals the longest of some nano-dollar amounts is written."""
    return max((len(money(amount).partition(".")[2]) for amount in amounts if amount is not None), default=0)


def filled(nanousd: int | float, places: int) -> str:
    """Blanks as wide as the digits that an amount lacks, so that the points of a column stand below each other."""
    own = money(nanousd).partition(".")[2]
    return ("" if own or not places else _POINT_WIDE) + _DIGIT_WIDE * (places - len(own))


def exact_money(nanousd: int | None) -> str:
    """Nano-dollars to the last digit."""
    if nanousd is None:
        return UNPRICED
    whole, rest = divmod(abs(nanousd), _NANO)
    sign = "-" if nanousd < 0 else ""
    digits = f"{rest:09d}".rstrip("0").ljust(2, "0")
    return f"{sign}${whole:,}.{digits}"


def duration(nanoseconds: int | None) -> str:
    """A length of time in its two largest units: 350 µs, 42 ms, 4.2 s, 1 m 20 s, 2 h 5 m, 3 d 4 h."""
    if nanoseconds is None:
        return UNKNOWN
    size = max(0, nanoseconds)
    if size < 1_000_000:
        return f"{size / 1000:.0f} µs" if size else "0 s"
    if size < SECOND_NS - 500_000:
        return f"{size / 1_000_000:.0f} ms"
    if size < 10 * SECOND_NS:
        return f"{size / SECOND_NS:.1f} s"
    if size < MINUTE_NS - SECOND_NS // 2:
        return f"{size / SECOND_NS:.0f} s"
    for big, small, names in ((DAY_NS, HOUR_NS, "d h"), (HOUR_NS, MINUTE_NS, "h m"), (MINUTE_NS, SECOND_NS, "m s")):
        if size >= big - small // 2:
            first, second = divmod(round(size / small), big // small)
            name, next_name = names.split()
            return f"{first} {name} {second} {next_name}" if second else f"{first} {name}"
    return f"{size / SECOND_NS:.0f} s"


def clock_time(time_ns: int | None, zone: tzinfo) -> str:
    """The time of day to the second."""
    return UNKNOWN if not time_ns else _at(time_ns, zone).strftime("%H:%M:%S")


def clock_times(times_ns: Sequence[int], zone: tzinfo) -> list[str]:
    """Times of day along an axis: to the millisecond where all lie within a few seconds, else many look the same."""
    told = [clock_time(time_ns, zone) for time_ns in times_ns]
    if not all(times_ns) or max(times_ns, default=0) - min(times_ns, default=0) > _FEW_SECONDS_NS:
        return told
    return [f"{text}.{time_ns // 1_000_000 % 1000:03}" for text, time_ns in zip(told, times_ns, strict=True)]


def when(time_ns: int | None, zone: tzinfo, now_ns: int) -> str:
    """Day and time as short as they are clear: 14:02 today, Nov 20 14:02, 2025 Nov 20."""
    if not time_ns:
        return UNKNOWN
    at, now = _at(time_ns, zone), _at(now_ns, zone)
    if at.date() == now.date():
        return at.strftime("%H:%M")
    if at.year == now.year:
        return at.strftime("%b %d %H:%M")
    return at.strftime("%Y %b %d")


def stamp(time_ns: int | None, zone: tzinfo) -> str:
    """The whole time with its offset, for titles and machines."""
    return "" if not time_ns else _at(time_ns, zone).isoformat(timespec="milliseconds")


def share(part: int | float | None, whole: int | float | None) -> str:
    """A part of a whole in per cent; unknown where either is."""
    if part is None or not whole:
        return UNKNOWN if part is None or whole is None else "0 %"
    percent = 100 * part / whole
    return f"{percent:.0f} %" if percent >= 9.95 or percent == 0 else f"{percent:.1f} %"


def change(value: float | None, before: float | None, *, is_share: bool = False, least: float = 0) -> str:
    """How a value stands to the one before: per cent, from twice as much on a factor, points for shares.

    "" where nothing changed that one could see, and where what was before is unknown, 0 or under `least`: of little
    everything is many times as much.
    """
    if value is None or not before or before < least:
        return ""
    if not is_share and value >= 2 * before:
        factor = value / before
        return f"×{factor:.1f}" if factor < 9.95 else f"×{factor:,.0f}"
    if not is_share and 0 < value < before / 200:
        return f"−{min(99.9, 100 - 100 * value / before):.1f} %"  # something is left
    points = round(100 * (value - before) if is_share else 100 * (value / before - 1))
    return f"{points:+d} {'points' if is_share else '%'}".replace("-", "−") if points else ""


def bytes_size(size: int | None) -> str:
    """Bytes in decimal units."""
    if size is None:
        return UNKNOWN
    value, unit = float(size), "B"
    for unit_up in ("kB", "MB", "GB", "TB"):
        if value < 999.5:
            break
        value, unit = value / 1000, unit_up
    return f"{value:.0f} {unit}" if unit == "B" or value >= 99.5 else f"{value:.1f} {unit}"


def excerpt(text: str, length: int = 140) -> str:
    """The first words of a text on one line; a text without a visible sign is called blank, as a link needs words."""
    line = " ".join(text.lstrip()[: length * 4].split())
    if text and not any(sign.isprintable() and sign != " " for sign in line):
        return "(blank)"[:length]
    return line if len(line) <= length else line[: length - 1].rstrip() + "…"


def _at(time_ns: int, zone: tzinfo) -> datetime:
    # 9999: a sender's clock may be anything, and datetime ends there.
    return datetime.fromtimestamp(min(max(time_ns // _NANO, 0), 253_370_000_000), zone)
