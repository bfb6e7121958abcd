"""Keep what agents write flowing into the store while no server runs; it ends when nothing new comes.

The plug-ins in agents start it by themselves. It has no pages and no output, and makes room for `tachograph up`.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from tachograph import footprint
from tachograph.cli import running
from tachograph.cli.arguments import settings
from tachograph.errors import ConfigError

if TYPE_CHECKING:
    from tachograph.config import Settings
    from tachograph.server import Server

EXAMPLES = ("tachograph relay", "tachograph relay --idle 30m")

_IDLE: Final = "5m"
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
# It writes little at a time and is asked little; a server has more.
_MEMORY_BYTES: Final = 28 << 20  # 24 are too few to settle in
_CODE_BYTES: Final = 20 << 20  # of libraries in memory: what work of the same kind uses again and again


def arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `relay`."""
    parser.add_argument(
        "--idle", metavar="DURATION", default=_IDLE, help=f"end after so long without anything new (default: {_IDLE})"
    )


def run(arguments: argparse.Namespace) -> int:
    """Relay until it is idle, or told to stop; 0 at once where a server or a relay runs already."""
    idle_s = _seconds(arguments.idle)
    chosen = settings(arguments)
    if running.find(chosen.home) is not None:
        return 0
    footprint.stay_small()  # before it has threads
    with footprint.little_code(_CODE_BYTES):
        return _relay(chosen, idle_s)


def _relay(chosen: Settings, idle_s: float) -> int:
    from tachograph import server
    from tachograph.cli.up import where

    def ready(started: Server) -> None:
        running.publish(chosen.home, where(started))
        if sys.stderr.isatty():
            print(f"tachograph: relaying into {chosen.home}; Ctrl-C stops it", file=sys.stderr)

    is_over = idle_for(idle_s, time.monotonic)
    sized = chosen if chosen.memory_bytes else replace(chosen, memory_bytes=_MEMORY_BYTES)
    try:
        server.run(sized, ready, is_relay=True, is_over=is_over)
    except ConfigError:
        if running.is_free(chosen.home):
            raise
        return 0  # another process has just taken the store, and now does the same
    finally:
        running.withdraw(chosen.home / running.FILE_NAME)
    return 0


def idle_for(duration_s: float, clock: Callable[[], float]) -> Callable[[Server], bool]:
    """Whether nothing new has been committed, and nothing is being read, for so long; to be asked now and then."""
    seen, since_s = -1, clock()

    def is_over(started: Server) -> bool:
        nonlocal seen, since_s
        sequence = started.store.sequence()
        if sequence != seen or not (started.follower is None or started.follower.is_idle()):
            seen, since_s = sequence, clock()
        return clock() - since_s >= duration_s

    return is_over


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d{1,6})\s*([smhd])", text.strip().lower())
    if match is None:
        raise ConfigError(f'command line: --idle: got "{text}"; expected a duration such as 5m or 1h', "--idle 5m")
    return float(int(match[1]) * _SECONDS[match[2]])
