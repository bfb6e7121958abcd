"""Which stretch of a session a step belongs to: after a long silence a session counts as a new one."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct, field

from tachograph.forwarders import steps
from tachograph.forwarders.contract import Memory, Step
from tachograph.model import AGENT, PROMPT

_PREFIX: Final = "posthog:window:"
_ROOTS_MAX: Final = 500  # prompts of a session whose stretch is remembered


class _Stretches(Struct, array_like=True):
    """The stretches of one session, [start_ns, last_ns] each, and the one that each prompt began in."""

    spans: list[list[int]] = field(default_factory=list)
    roots: dict[str, int] = field(default_factory=dict)


class Windows:
    """The stretches of sessions, remembered; all steps of a prompt are in the one that the prompt began in."""

    def __init__(self, memory: Memory, silence_ns: int) -> None:
        self._memory = memory
        self._silence_ns = silence_ns
        self._known: dict[str, _Stretches] = {}
        self._changed: set[str] = set()

    def name(self, step: Step) -> str:
        """The session's id, with `~2` and so on behind it from its second stretch on; "" where it has no id."""
        if not step.session_id:
            return ""
        number = self._number(step)
        return step.session_id if number == 0 else f"{step.session_id}~{number + 1}"

    def keep(self) -> None:
        """Remember what changed."""
        for session_id in sorted(self._changed):
            self._memory.put(_PREFIX + session_id, msgspec.msgpack.encode(self._known[session_id]))
        self._changed.clear()

    def _number(self, step: Step) -> int:
        known = self._of(step.session_id)
        root = step.root_id if step.root_role in (PROMPT, AGENT) else ""
        number = known.roots.get(root) if root else None
        if number is None:
            number = self._find(known, step)
            if root:
                known.roots[root] = number
                for old in list(known.roots)[:-_ROOTS_MAX]:
                    del known.roots[old]
        stretch = known.spans[number]
        stretch[:] = [min(stretch[0], step.start_ns), max(stretch[1], step.end_ns)]
        self._changed.add(step.session_id)
        return number

    def _find(self, known: _Stretches, step: Step) -> int:
        """The latest stretch that had begun by then, if it was not silent for too long."""
        for number in range(len(known.spans) - 1, -1, -1):
            start_ns, last_ns = known.spans[number]
            if start_ns - self._silence_ns < step.start_ns:
                if step.start_ns - last_ns < self._silence_ns:
                    return number
                break
        if known.spans and step.start_ns < known.spans[0][0]:
            return 0  # told late: it cannot be a stretch after the first
        known.spans.append([step.start_ns, step.end_ns])
        return len(known.spans) - 1

    def _of(self, session_id: str) -> _Stretches:
        if session_id not in self._known:
            packed = self._memory.get(_PREFIX + session_id)
            self._known[session_id] = msgspec.msgpack.decode(packed, type=_Stretches) if packed else _Stretches()
        return self._known[session_id]


def trace_of(step: Step, grouping: str, window: str) -> str:
    """The trace of a step: that of its prompt, or one for the whole stretch of its session."""
    return steps.made_trace(f"posthog\n{window}") if grouping == "session" and window else steps.trace_of(step)
