"""Which sessions are looked at again later: those with steps that are not over, and long ones that go on.

A look at a session reads all of it. So that one that grows to a great length does not cost its length in every window,
a long session waits: for a time that its length sets, or until it has grown by a good part. What a look costs is then
paid by what is new, or is a small share of the time that passes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec
from msgspec import Struct

from tachograph.forwarders.contract import Memory

QUIET_NS: Final = 60_000_000_000  # then nothing more is awaited of a session
LONG_RECORDS: Final = 1000  # a shorter session is looked at in every window that tells of it
# A look at a record costs about 80 us (bench/forwarding.py --growing): less than a fiftieth of this.
WAIT_NS_PER_RECORD: Final = 5_000_000
WAIT_NS_MAX: Final = 300_000_000_000
GROWN: Final = 4  # it has grown by one part in so many: looks cost so many times what is new, and one more
_PENDING: Final = "steps:pending"
_LONG: Final = "steps:long"


class _Long(Struct, array_like=True):
    """A long session: when it was looked at and how many records it had; what came since, `seq` 0 = nothing."""

    looked_ns: int
    records: int
    seq: int = 0
    new_records: int = 0

    @property
    def due_ns(self) -> int:
        return self.looked_ns + min(self.records * WAIT_NS_PER_RECORD, WAIT_NS_MAX)


class Waiting:
    """What is remembered of sessions that wait; changed in place, and kept with `keep`."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        pending, long = memory.get(_PENDING), memory.get(_LONG)
        # session -> when it is quiet, and the commit that touched it last
        self._pending = {} if pending is None else msgspec.msgpack.decode(pending, type=dict[str, tuple[int, int]])
        self._long = {} if long is None else msgspec.msgpack.decode(long, type=dict[str, _Long])

    def has_to_wait(self, session_id: str, seq: int, records: int, now_ns: int) -> bool:
        """Whether a session that a window told of with so many new records is not to be looked at yet."""
        one = self._long.get(session_id)
        if one is None:
            return False
        one.seq, one.new_records = max(one.seq, seq), one.new_records + records
        if one.due_ns <= now_ns or one.new_records * GROWN >= one.records:
            return False
        if session_id in self._pending:
            self._pending[session_id] = (now_ns + QUIET_NS, seq)
        return True

    def long_due(self, now_ns: int) -> Iterator[tuple[str, int]]:
        """The long sessions that have waited, each with the last commit that touched it."""
        return ((name, one.seq) for name, one in self._long.items() if one.seq and one.due_ns <= now_ns)

    def quiet_due(self, now_ns: int, at_once: int) -> list[tuple[str, int]]:
        """The sessions that nothing came of for long, the first of them, each with the last commit that touched it."""
        due = sorted((due_ns, name) for name, (due_ns, _) in self._pending.items() if due_ns <= now_ns)
        return [(name, self._pending[name][1]) for _, name in due[:at_once]]

    def is_due(self, now_ns: int) -> bool:
        """Whether any session is to be looked at now."""
        return bool(self.quiet_due(now_ns, 1)) or any(True for _ in self.long_due(now_ns))

    def looked(self, session_id: str, records: int, now_ns: int, pending: tuple[int, int] | None) -> None:
        """A session was looked at. `pending`: when it is quiet and the commit that touched it last, None = all over."""
        self._pending.pop(session_id, None)
        self._long.pop(session_id, None)
        if pending is not None:
            self._pending[session_id] = pending
        if records >= LONG_RECORDS:
            self._long[session_id] = _Long(now_ns, records)

    def left(self, session_id: str) -> None:
        """A session is not this destination's."""
        self.looked(session_id, 0, 0, None)

    def keep(self, now_ns: int) -> None:
        """Remember all of it; of long sessions, those that would still have to wait."""
        self._long = {name: one for name, one in self._long.items() if one.seq or one.due_ns > now_ns}
        for key, values in ((_PENDING, self._pending), (_LONG, self._long)):
            packed = msgspec.msgpack.encode(values) if values else None
            if self._memory.get(key) != packed:
                self._memory.put(key, packed)
