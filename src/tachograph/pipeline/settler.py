"""When the ledger works what was committed into calls, and how readers see the store: settled first."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final

from tachograph.scan import Columns, Scan
from tachograph.store.contract import Store
from tachograph.telemetry import Telemetry, say

Clock = Callable[[], int]

SECOND_NS: Final = 1_000_000_000
QUIET_NS: Final = SECOND_NS // 20  # nothing came for so long: settle now, nobody is slowed down
SETTLE_EVERY_NS: Final = SECOND_NS  # under load: not more often than this
SHARE: Final = 10  # under load: a tenth of the time at most, so that nobody who sends waits for it
CREDIT_NS: Final = SECOND_NS  # ... and so much in one go, saved up while there was nothing to do
READER_WAITS_NS: Final = SECOND_NS // 4  # a page is shown after this with what is settled by then
CLOSING_SETTLES_NS: Final = 2 * SECOND_NS
TRY_AGAIN_S: Final = 5.0  # after an error of the store while settling
CLOSE_S: Final = 30.0  # for a portion under way


class Settler:
    """Has the ledger work commits into calls: soon when it is quiet, seldom under load, at once for a reader.

    While commits go on, settling has a tenth of the time, counted as credit that grows with the clock; a reader who
    comes when it is used up is answered as of the last settlement, which is then seconds old at most.

    `is_eager`: without being asked. Else it settles for readers only, until `keep_up`.
    """

    def __init__(
        self, store: Store, settle: Callable[[], bool], clock: Clock, telemetry: Telemetry, is_eager: bool = True
    ) -> None:
        self._store = store
        self._settle = settle
        self._clock = clock
        self._telemetry = telemetry
        self._settled = -1  # the commit up to which all is settled, as far as this process knows
        self._settling = threading.Lock()
        self._credit_ns = CREDIT_NS
        self._credited_ns = clock()
        self._is_behind = False  # a reader waited in vain: let the next ones not wait too
        self._is_eager = is_eager
        self._rest_s = 0.0
        self._noticed = 0
        self._is_closing = threading.Event()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="road-settler", daemon=True)
        self._thread.start()

    @property
    def settled(self) -> int:
        """The commit up to which all is settled, as far as this process knows."""
        return self._settled

    def notice(self) -> None:
        """Something was committed."""
        if self._is_eager:
            self._wake()

    def keep_up(self, rest_s: float = 0) -> None:
        """Settle all that comes from now on, and what came before; `rest_s`: what comes within so long together."""
        self._is_eager, self._rest_s = True, rest_s
        self._wake()

    def _wake(self) -> None:
        with self._changed:
            self._noticed += 1
            self._changed.notify()

    def catch_up(self, within_ns: int = READER_WAITS_NS) -> bool:
        """Settle all that is committed by now, or as much as fits into `within_ns`; whether all was.

        A store that cannot take it now is no error of the one who asks: the answer is then as of the last settlement.
        """
        if self._store.sequence() == self._settled:
            return True
        if self._is_behind or self._credit() <= 0:
            return False
        try:
            deadline = self._clock() + within_ns
            while self._clock() < deadline:
                if not self._step(within_ns / SECOND_NS):
                    return True
        except Exception as error:  # noqa: BLE001 - whoever asks gets the answer that there is
            say("warning", f"settling: {type(error).__name__}: {error}")
        self._is_behind = True
        self._wake()  # whatever is left is the thread's
        return False

    def close(self) -> None:
        """End the thread; what cannot be settled quickly is settled after the next start."""
        self._is_closing.set()
        with self._changed:
            self._changed.notify()
        self._thread.join(CLOSE_S)
        if self._is_eager:
            self.catch_up(CLOSING_SETTLES_NS)

    def _credit(self) -> int:
        """The time that settling may take now."""
        now = self._clock()
        with self._changed:
            self._credit_ns = min(CREDIT_NS, self._credit_ns + (now - self._credited_ns) // SHARE)
            self._credited_ns = now
            return self._credit_ns

    def _step(self, patience_s: float) -> bool:
        """Settle one portion; whether more is left. One at a time: a second one would do the same work again."""
        if not self._settling.acquire(timeout=patience_s):
            return True
        try:
            target = self._store.sequence()
            if target == self._settled:
                return False
            started = self._clock()
            is_more_left = self._settle()
            took = self._clock() - started
            self._telemetry.took("settle", took)
            with self._changed:
                self._credit_ns -= took
            if not is_more_left:
                self._settled = target
                self._is_behind = False
            return is_more_left
        finally:
            self._settling.release()

    def _run(self) -> None:
        """The settler thread; begins with what an earlier process left."""
        seen = -1 if self._is_eager else 0
        while not self._is_closing.is_set():
            with self._changed:
                while self._noticed == seen and not self._is_closing.is_set():
                    self._changed.wait()
            self._wait_for_quiet()
            seen = self._noticed
            try:
                self._settle_all()
            except Exception as error:  # noqa: BLE001 - the thread has to live: the cause may go away
                say("warning", f"settling: {type(error).__name__}: {error}")
                seen = -1
                self._is_closing.wait(TRY_AGAIN_S)

    def _wait_for_quiet(self) -> None:
        """Until nothing was committed for a moment, or it has waited long enough."""
        self._is_closing.wait(self._rest_s)
        started = self._clock()
        while self._clock() - started < SETTLE_EVERY_NS:
            noticed = self._noticed
            if self._is_closing.wait(QUIET_NS / SECOND_NS) or noticed == self._noticed:
                return

    def _settle_all(self) -> None:
        """Portion by portion, keeping to its share of the time while more is being committed."""
        is_more_left = True
        while is_more_left and not self._is_closing.is_set():
            noticed = self._noticed
            is_more_left = self._step(SETTLE_EVERY_NS / SECOND_NS)
            if noticed != self._noticed and (debt_ns := -self._credit()) > 0:
                self._is_closing.wait(SHARE * debt_ns / SECOND_NS)


class Settled:
    """The store as readers see it: settled first, so that what was just acknowledged is in the answer."""

    def __init__(self, store: Store, settler: Settler) -> None:
        self._store = store
        self._settler = settler

    def scan(self, scan: Scan) -> Columns:
        """As the store's."""
        self._settler.catch_up()
        return self._store.scan(scan)

    def texts(self, hashes: Sequence[str]) -> dict[str, str]:
        """As the store's; texts need no settling."""
        return self._store.texts(hashes)

    def sql(self, query: str, limit: int | None = None, stop: threading.Event | None = None) -> Columns:
        """As the store's."""
        self._settler.catch_up()
        return self._store.sql(query, limit, stop)

    def sequence(self) -> int:
        """As the store's, and what it tells of can be read at once.

        While the newest commit is not settled it is the one before: a page that was made meanwhile has to hear of it.
        """
        if self._settler.catch_up():
            return self._settler.settled
        return max(0, self._store.sequence() - 1)
