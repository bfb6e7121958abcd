"""How long what came in is kept: as the settings say, and in a relay that only forwards until it is forwarded."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

from tachograph.config import Settings
from tachograph.pipeline.progress import FILE_NAME, Progress
from tachograph.scan import Match, Reader, Scan
from tachograph.store.contract import Store

DAY_NS: Final = 86_400 * 1_000_000_000
_SETTLES_NS: Final = 60 * 1_000_000_000
FORWARDED_DAYS: Final = 7  # where nobody looks at what is kept; long enough for a destination to come back


def relay_days(settings: Settings, has_destinations: bool, is_looked_at: bool) -> int | None:
    """How many days a relay keeps what is forwarded; None = as long as a server does."""
    if settings.relay_retention_days is not None:
        return settings.relay_retention_days or None
    return FORWARDED_DAYS if has_destinations and not is_looked_at else None


def forget_before_ns(settings: Settings, now_ns: int, days: int | None, unsent_ns: int | None) -> int | None:
    """Before which time days are forgotten, None = none.

    `days` are those of a relay, for what was committed before `unsent_ns` (None = all): what some destination has not
    been sent yet is kept as long as `retention_days` keeps it.
    """
    at_the_latest = None if settings.retention_days is None else now_ns - settings.retention_days * DAY_NS
    if days is None:
        return at_the_latest
    forwarded = now_ns - days * DAY_NS
    if unsent_ns is not None:
        forwarded = min(forwarded, unsent_ns)
    return forwarded if at_the_latest is None else max(at_the_latest, forwarded)


def forget(store: Store, settings: Settings, now_ns: int, days: int | None, catch_up: Callable[[int], bool]) -> None:
    """Have the store forget what is older or larger than wanted; `catch_up` settles, for so long at most."""
    unsent = None if days is None else unsent_ns(store, settings.home)
    before_ns = forget_before_ns(settings, now_ns, days, unsent)
    if before_ns is None and settings.retention_bytes is None:
        return
    until_ns = now_ns if before_ns is None or settings.retention_bytes is not None else before_ns
    if waits_for_ledger(store, until_ns):
        catch_up(_SETTLES_NS)
    store.forget(before_ns, settings.retention_bytes)


def unsent_ns(reader: Reader, home: Path) -> int | None:
    """When the oldest commit was made that some destination has not been sent; None where all have all.

    Destinations of other processes count as well: which there are depends on the environment of each.
    """
    if not (home / FILE_NAME).exists():
        return None
    with closing(Progress(home / FILE_NAME)) as progress:
        cursors = []
        for name in progress.names():
            state, rewound = progress.state(name), progress.rewound(name)
            cursors += [state.cursor] if state is not None else []
            cursors += [rewound] if rewound is not None else []
    return oldest_ns(reader, min(cursors)) if cursors else None


def waits_for_ledger(reader: Reader, until_ns: int) -> bool:
    """Whether something committed before then is not settled yet: until it is, nothing of its day can be forgotten."""
    rows = reader.scan(Scan("meta", {"value": "value"}, (Match("key", "=", "settled_seq"),))).rows()
    oldest = oldest_ns(reader, int(rows[0]["value"]) if rows else 0)
    return oldest is not None and oldest < until_ns


def oldest_ns(reader: Reader, after_seq: int) -> int | None:
    """When the first commit after that one was made, None where there is none."""
    where = (Match("seq", ">", after_seq),)
    rows = reader.scan(Scan("commits", {"time_ns": "time_ns"}, where, order_by=(("seq", False),), limit=1)).rows()
    return rows[0]["time_ns"] if rows else None
