"""Times as people type them: 7d, 24h, today, 2026-11-01, 2026-11-01T14:00."""

from __future__ import annotations

import argparse
import re
import time
from datetime import datetime, timedelta, tzinfo
from pathlib import Path

from tachograph.errors import ConfigError

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_AGO = re.compile(r"(\d{1,9})\s*([smhdw])")
_ZONES = "zoneinfo/"


def add_period(parser: argparse.ArgumentParser, since: str | None = None) -> None:
    """The flags --since, --until and --timezone."""
    default = f" (default: {since})" if since else ""
    parser.add_argument(
        "--since", metavar="WHEN", default=since, help=f"from: 7d, 24h, today, yesterday, 2026-11-01{default}"
    )
    parser.add_argument("--until", metavar="WHEN", help="up to, not including; the same words")
    add_timezone(parser)


def add_timezone(parser: argparse.ArgumentParser) -> None:
    """The flag --timezone."""
    parser.add_argument("--timezone", metavar="NAME", help="whose days and hours (default: this machine's)")


def timezone_name(arguments: argparse.Namespace) -> str:
    """The time zone asked for, else this machine's, UTC where it cannot be told."""
    if arguments.timezone:
        return str(arguments.timezone)
    try:
        linked = Path("/etc/localtime").resolve().as_posix()
    except OSError:
        return "UTC"
    return linked.rpartition(_ZONES)[2] if _ZONES in linked else "UTC"


def period(arguments: argparse.Namespace, zone: tzinfo) -> tuple[int | None, int | None]:
    """The period [since, until) in nanoseconds, None where it is open."""
    now = datetime.now(zone)
    since = parse(arguments.since, now, "--since") if arguments.since else None
    until = parse(arguments.until, now, "--until") if arguments.until else None
    if since is not None and until is not None and until <= since:
        raise ConfigError(f"command line: --until: got {arguments.until}; expected a time after --since")
    return since, until


def parse(text: str, now: datetime, where: str) -> int:
    """One such time in nanoseconds; a time without a zone is in that of `now`."""
    word = text.strip().lower()
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    named = {"now": now, "today": midnight, "yesterday": midnight - timedelta(days=1), "all": None}
    if word in named:
        found = named[word]
        return 0 if found is None else _nanoseconds(found)
    try:
        if ago := _AGO.fullmatch(word):
            return _nanoseconds(now - timedelta(**{_UNITS[ago[2]]: int(ago[1])}))
        given = datetime.fromisoformat(text.strip())
        return _nanoseconds(given if given.tzinfo else given.replace(tzinfo=now.tzinfo))
    except (ValueError, OverflowError):
        raise ConfigError(
            f'command line: {where}: got "{text}"; expected a time such as 7d, 24h, today or 2026-11-01',
            f"{where} 7d",
        ) from None


def _nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000) * 1000


def clock() -> int:
    """Now, in nanoseconds since 1970: the one clock of the commands."""
    return time.time_ns()
