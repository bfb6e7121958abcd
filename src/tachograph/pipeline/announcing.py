"""Says on stderr how a destination fares when that changes, and of each kind of news not more than once a minute."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tachograph.pipeline.progress import State
from tachograph.telemetry import say

PAUSE_NS: Final = 60_000_000_000
_S: Final = 1_000_000_000


class Announcer:
    """The news of one destination; `clock` gives nanoseconds."""

    def __init__(self, name: str, state: State, clock: Callable[[], int]) -> None:
        self._name = name
        self._clock = clock
        self._word = "works"
        self._refused, self._lost = state.refused, state.lost
        self._said_ns: dict[str, int] = {}

    def look(self, state: State) -> None:
        """Say what is new."""
        word = "works" if not state.failures else "refuses" if state.is_refusing else "fails"
        if word != self._word and self._may_say(word):
            self._word = word
            again_s = max(0, state.retry_ns - self._clock()) // _S
            told = {
                "works": "works again",
                "fails": f"does not take what is sent: {state.answer}; tried again in {again_s} s and then more seldom",
                "refuses": f"takes nothing until somebody acts: {state.answer}",
            }
            self._say(told[word])
        self._refused = min(self._refused, state.refused)
        if state.refused > self._refused and self._may_say("refused"):
            count, self._refused = state.refused - self._refused, state.refused
            self._say(f"set aside: {count} of what it was sent: `tachograph forward refused` says why")
        if state.lost > self._lost and self._may_say("lost"):
            count, self._lost = state.lost - self._lost, state.lost
            self._say(f"forgotten before they were sent: {count} records, as retention_days or _bytes says")

    def _may_say(self, kind: str) -> bool:
        now_ns = self._clock()
        if 0 <= now_ns - self._said_ns.get(kind, -PAUSE_NS) < PAUSE_NS:
            return False
        self._said_ns[kind] = now_ns
        return True

    def _say(self, what: str) -> None:
        say("warning", f"forward {self._name}: {what}")
