"""All destinations at work: a thread for each, and what each of them is doing."""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from typing import Final

from msgspec import Struct

from tachograph.destinations import Destination
from tachograph.errors import TachographError
from tachograph.forwarders.contract import CALLS, STEPS, Feed, Forwarder
from tachograph.pipeline.announcing import Announcer
from tachograph.pipeline.delivering import Delivery
from tachograph.pipeline.progress import Progress, State
from tachograph.pipeline.windows import LARGE, Bounds
from tachograph.scan import Match, Reader, Scan
from tachograph.telemetry import Telemetry, say

HOLD_NS: Final = 10_000_000_000  # what was made of records waits for other sources to tell of the same
CLOSE_S: Final = 2.0  # what is not taken by then is sent after the next start
STUMBLE_S: Final = 30.0  # after an error that nobody foresaw
_RATE_NS: Final = 60_000_000_000
_LATELY_NS: Final = 24 * 3600 * 1_000_000_000  # what was lost is news for as long: nobody can act on it any more

FeedsOf = Callable[[Destination, Forwarder], Sequence[Feed]]


class Route(Struct, frozen=True):
    """A destination with what sends to it and the address to show for it."""

    destination: Destination
    forwarder: Forwarder
    address: str


class Standing(Struct):
    """What one destination is doing. `word`: idle, sending, waiting (it is busy) or refusing (somebody has to act).

    Nothing is sent to those that are off, a loop (they lead back here) or removed (the settings know them no more).
    """

    name: str
    kind: str
    address: str
    word: str
    signals: tuple[str, ...]
    privacy: str
    agents: tuple[str, ...]
    projects: tuple[str, ...]
    state: State
    refused_kept: int = 0  # that can be sent again
    lag_commits: int = 0
    lag_ns: int = 0  # age of the oldest commit that is not sent
    per_minute: int = 0  # records taken in the last minute
    has_lost_lately: bool = False  # in the last day
    identity: str = ""  # what its progress is kept under


class Forwarding:
    """The threads of all destinations that are enabled; `clock` gives nanoseconds.

    `bounds`: how much of what each is sent is in memory together.
    """

    def __init__(
        self,
        routes: Sequence[Route],
        feeds: FeedsOf,
        reader: Reader,
        progress: Progress,
        telemetry: Telemetry,
        clock: Callable[[], int],
        bounds: Bounds = LARGE,
    ) -> None:
        self._reader = reader
        self._progress = progress
        self._clock = clock
        self._is_closing = threading.Event()
        self._runners = [
            _Runner(
                route,
                Delivery(
                    route.destination.identity,
                    route.forwarder,
                    feeds(route.destination, route.forwarder),
                    reader,
                    progress,
                    clock,
                    random.random,
                    parts_max=route.destination.parts_max,
                    bytes_max=bounds.request_bytes,
                    bounds=bounds,
                    hold_ns=HOLD_NS if _needs_ledger(route) else 0,
                ),
                telemetry,
                self._is_closing,
                clock,
            )
            for route in routes
        ]

    @property
    def needs_ledger(self) -> bool:
        """Whether some destination is sent what is made of calls."""
        return any(_needs_ledger(runner.route) for runner in self._runners)

    def start(self) -> None:
        """Begin to send."""
        for runner in self._runners:
            runner.thread.start()

    def leave_out(self, name: str) -> None:
        """Send nothing to a destination, as if it were not there; before `start`."""
        for runner in [one for one in self._runners if one.name == name]:
            self._runners.remove(runner)
            runner.delivery.leave_out()

    def close(self) -> None:
        """End; a destination that hangs is left behind, and what it has not taken is sent after the next start.

        May be called again."""
        if self._is_closing.is_set():
            return
        self._is_closing.set()
        for runner in self._runners:
            if not runner.thread.ident:
                runner.delivery.close()
        _, left_behind = wait([runner.ended for runner in self._runners if runner.thread.ident], CLOSE_S)
        if not left_behind:
            self._progress.close()

    def standings(self) -> list[Standing]:
        """What every destination is doing now."""
        return [
            standing(
                runner.route.destination,
                runner.route.address,
                runner.delivery.state,
                self._reader,
                self._progress,
                self._clock(),
                runner.rate(),
            )
            for runner in self._runners
        ]


def _needs_ledger(route: Route) -> bool:
    return bool({CALLS, STEPS} & set(route.forwarder.feeds))


class _Runner:
    """One destination's thread."""

    def __init__(
        self,
        route: Route,
        delivery: Delivery,
        telemetry: Telemetry,
        is_closing: threading.Event,
        clock: Callable[[], int],
    ) -> None:
        self.route = route
        self.name = route.destination.name
        self.delivery = delivery
        self._telemetry = telemetry
        self._is_closing = is_closing
        self._clock = clock
        self._news = Announcer(delivery.name, delivery.state, clock)
        self._taken: deque[tuple[int, int]] = deque()
        self.ended: Future[None] = Future()
        self.thread = threading.Thread(target=self._run, name=f"forward-{self.name}", daemon=True)

    def _run(self) -> None:
        wait_s = 0.0
        while not self._is_closing.wait(wait_s):
            state = self.delivery.state
            before = state.sent, state.refused, state.lost
            try:
                wait_s = self.delivery.round()
            except Exception as error:  # noqa: BLE001 - the thread has to live: the cause may go away
                if self._is_closing.is_set():
                    break
                what = error.what if isinstance(error, TachographError) else str(error)
                say("warning", f"forward {self.name}: {type(error).__name__}: {what}")
                wait_s = STUMBLE_S
            self._count(before)
            self._news.look(self.delivery.state)
        self.delivery.close()
        self.ended.set_result(None)

    def _count(self, before: tuple[int, int, int]) -> None:
        state = self.delivery.state
        for kind, was, now in zip(
            ("sent", "refused", "lost"), before, (state.sent, state.refused, state.lost), strict=True
        ):
            if now > was:
                self._telemetry.count("forwarded", f"{self.name} {kind}", now - was)
        if state.sent > before[0]:
            self._taken.append((self._clock(), state.sent - before[0]))
            self.rate()

    def rate(self) -> int:
        """Records that were taken in the last minute."""
        oldest = self._clock() - _RATE_NS
        while self._taken and self._taken[0][0] < oldest:
            self._taken.popleft()
        return sum(count for _, count in list(self._taken))


def standing(
    destination: Destination,
    address: str,
    state: State,
    reader: Reader,
    progress: Progress,
    now_ns: int,
    per_minute: int = 0,
) -> Standing:
    """What one destination is doing, told by its state."""
    newest = reader.sequence()
    where = (Match("seq", ">", state.cursor),)
    first = reader.scan(Scan("commits", {"time_ns": "time_ns"}, where, order_by=(("seq", False),), limit=1)).rows()
    lag = max(0, newest - state.cursor) if first else 0
    word = "sending" if lag else "idle"
    if state.failures:
        word = "refusing" if state.is_refusing else "waiting"
    return Standing(
        destination.name,
        destination.kind,
        address,
        word,
        destination.signals,
        destination.privacy,
        destination.agents,
        destination.projects,
        state,
        progress.count_letters(destination.identity),
        lag,
        max(0, now_ns - first[0]["time_ns"]) if first else 0,
        per_minute,
        bool(state.lost_ns) and now_ns - state.lost_ns < _LATELY_NS,
        destination.identity,
    )
