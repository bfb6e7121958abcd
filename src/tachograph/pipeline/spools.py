"""When a file that one of our plug-ins has spooled is over: nobody will write to it again."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

HOUR_NS: Final = 3600 * 1_000_000_000
# Written by a process that is gone, so far as can be told from here: in a container it has another number.
QUIET_NS: Final = HOUR_NS
# Whatever its process does: nobody leaves an agent open and comes back to it after a month.
OLD_NS: Final = 30 * 24 * HOUR_NS
# <start ms>-<process>-<part>.jsonl
_NAME: Final = re.compile(r"\d+-(?P<pid>\d{1,10})-\d+\.jsonl")


def is_over(path: Path, quiet_ns: int) -> bool:
    """Whether a file that has not been written for so long is complete."""
    if quiet_ns >= OLD_NS:
        return True
    named = _NAME.fullmatch(path.name)
    return quiet_ns >= QUIET_NS and named is not None and not is_alive(int(named["pid"]))


def is_alive(pid: int) -> bool:
    """Whether there is such a process; where it cannot be asked, there is."""
    if os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
