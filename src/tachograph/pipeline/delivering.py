"""Brings one destination what it may have, in windows of commits: at least once, in order, and as often as it takes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Final

from msgspec.structs import replace

from tachograph.errors import Busy, ConfigError, Rejected, TachographError
from tachograph.forwarders.contract import CALLS, NOW, STEPS, Accepted, Feed, Forwarder, Item, Part, PendingFeed
from tachograph.pipeline.doubting import FAILURES_MAX, PROBES_MAX, Doubt, Piece, is_doubtful
from tachograph.pipeline.progress import Letter, Progress, Remembered, State
from tachograph.pipeline.windows import LARGE, Bounds, Window, Windows
from tachograph.redaction import redact_text
from tachograph.scan import Reader

WINDOW_QUICK_NS: Final = 1_000_000_000  # a window that took less makes the next one twice as large
WINDOW_SLOW_NS: Final = 5_000_000_000  # and one that took more half as large: what is sent twice is seconds of work
FLUSH_S: Final = 5.0  # between looks when there is nothing to send
BACK_OFF_S: Final = 1.0  # after the first failure; then twice as long each time, up to
BACK_OFF_S_MAX: Final = 300.0
RETRY_AFTER_S_MAX: Final = 3600  # a destination may ask for more: it is tried again after an hour
ANSWER_CHARS: Final = 500
WANTED_MAX: Final = 200  # refused pieces that are read again at a time: then what is new has its turn
HELD_REQUESTS: Final = 4  # that are in memory at most to compare a doubtful one with
_S: Final = 1_000_000_000


class Delivery:
    """One destination's way; used from one thread.

    `clock` gives nanoseconds, `jitter` a number from 0 to 1. `hold_ns`: commits younger than that wait, so that what
    several sources say of one call is told as one.
    """

    def __init__(
        self,
        name: str,
        forwarder: Forwarder,
        feeds: Sequence[Feed],
        reader: Reader,
        progress: Progress,
        clock: Callable[[], int],
        jitter: Callable[[], float],
        *,
        parts_max: int | None = None,
        bytes_max: int | None = None,
        hold_ns: int = 0,
        bounds: Bounds = LARGE,
    ) -> None:
        self.name = name
        self.forwarder = forwarder
        self._feeds = feeds
        self._reader = reader
        self._progress = progress
        self._clock = clock
        self._jitter = jitter
        self._parts_max = min(parts_max or forwarder.parts_max, forwarder.parts_max)
        self._bytes_max = min(bytes_max or forwarder.bytes_max, forwarder.bytes_max)
        self._hold_ns = hold_ns
        self._window_max = bounds.window_records
        is_settled = bool({CALLS, STEPS} & set(forwarder.feeds))
        self._windows = Windows(reader, clock, hold_ns, is_settled=is_settled)
        self._round: _Round | None = None
        self._is_unkept = False  # the last time that something should have been kept, it could not
        self._was_wanted = False  # what went last was sent again: what is new goes next
        known = progress.state(name)
        self._is_new = known is None
        newest = reader.sequence()
        self.state = known or State(cursor=newest)
        if known is None or known.cursor > newest:  # as after another store was put in the place of this one
            self.state.cursor, self.state.passed = newest, -1
        if self.state.passed < 0:
            self.state.passed = self._windows.records_until(self.state.cursor)
            progress.save(name, self.state)

    def round(self) -> float:
        """Send the next window, or what is left of one; how many seconds to wait before the next round.

        Raises ConfigError where nothing can be kept, as on a full disk. What was sent until then is not sent again.
        """
        self._rewind()
        self._skip_forgotten()
        wait_ns = self._wait_ns()
        if wait_ns > 0:
            return min(wait_ns / _S, FLUSH_S)  # not for the whole of it: somebody may ask to begin again
        try:
            self._round = self._round or self._begun()
            if self._round is None:
                self._rest()
                return FLUSH_S
            self._send(self._round)
        except (Busy, ConfigError) as error:
            self._put_off(error)
            return min((self.state.retry_ns - self._clock()) / _S, FLUSH_S)
        self._keep(self._round)
        self._round = None
        return 0

    def leave_out(self) -> None:
        """Let go of the destination, and leave no trace where it has just begun."""
        if self._is_new:
            self._progress.forget(self.name)
        self.close()

    def close(self) -> None:
        """Let go of the destination."""
        self.forwarder.close()

    def _rewind(self) -> None:
        after = self._progress.rewound(self.name)
        if after is None:
            return
        self._round = None
        after = max(after, self._windows.forgotten().until)
        everything = [(key, None) for key in self._progress.recall_keys(self.name, "")]
        passed = self._windows.records_until(after)
        state = replace(self.state, cursor=after, passed=passed, retry_ns=0, is_refusing=False, failures=0)
        self._save(state, everything, is_rewound=True)

    def _skip_forgotten(self) -> None:
        """Count what retention forgot before it was sent, and go on after it."""
        forgotten = self._windows.forgotten()
        if forgotten.until <= self.state.cursor:
            return
        self._round = None  # the rest of it is gone
        state = replace(self.state, cursor=forgotten.until, passed=forgotten.records, retry_ns=0)
        _lose(state, forgotten.records - self.state.passed, self._clock())
        self._save(state)

    def _wait_ns(self) -> int:
        """How long not to ask; a clock that was set back must not make it longer."""
        now_ns = self._clock()
        is_set_back = self.state.answered_ns > now_ns + FLUSH_S * _S
        self.state.retry_ns = 0 if is_set_back else min(self.state.retry_ns, now_ns + RETRY_AFTER_S_MAX * _S)
        return self.state.retry_ns - now_ns

    def _rest(self) -> None:
        """Nothing is left to send: what went wrong before is over."""
        if self.state.failures:
            self._save(replace(self.state, failures=0, retry_ns=0, is_refusing=False))

    def _begun(self) -> _Round | None:
        """What to send now; what somebody wants again and what is new in turn, so that neither holds up the other."""
        first, second = (self._next, self._wanted) if self._was_wanted else (self._wanted, self._next)
        begun = first() or second() or self._due()
        self._was_wanted = bool(begun and begun.wanted)
        return begun

    def _next(self) -> _Round | None:
        """The next window, None where nothing is left to look at."""
        since = self.state.cursor
        window = self._windows.after(since, min(self.state.window, self._window_max))
        if window is None:
            return None
        memory = self._memory()
        return _Round(self._read(since, window, memory), memory, window.until, window.records)

    def _read(self, since: int, window: Window, memory: Remembered) -> Iterator[list[Item]]:
        feeds = () if window.is_demo else self._feeds  # what nobody did is nobody's to have
        return (some for feed in feeds for some in feed.read(since, window.until, memory))

    def _memory(self) -> Remembered:
        return Remembered(self._progress, self.name, {NOW: b"%d" % self._clock()})

    def _due(self) -> _Round | None:
        """What is ready since nothing more came of it."""
        until_ns, memory = self._clock() - self._hold_ns, self._memory()
        ready = [f for f in self._feeds if isinstance(f, PendingFeed) and f.is_due(until_ns, memory)]
        if not ready:
            return None
        until = self.state.cursor
        return _Round((some for feed in ready for some in feed.due(until_ns, until, memory)), memory, until, 0)

    def _wanted(self) -> _Round | None:
        """Refused pieces that somebody asked to send again: of the same commits together, in order."""
        wanted = self._progress.letters(self.name, is_wanted=True, limit=WANTED_MAX)
        if not wanted:
            return None
        memory = self._memory()
        read = (self._read_again(*stretch, memory) for stretch in _stretches(wanted))
        return _Round(chain.from_iterable(read), memory, self.state.cursor, 0, wanted)

    def _read_again(self, first: int, last: int, keys: set[str], memory: Remembered) -> Iterator[list[Item]]:
        for feed in self._feeds:
            for some in feed.read(first - 1, last, memory):
                yield [item for item in some if item.key in keys]

    def _note_slow(self, doing: _Round, took_ns: int) -> None:
        """Have the next windows be smaller, from now on: the process may end before this one does."""
        doing.took_ns += max(0, took_ns)
        if doing.took_ns > doing.slow_ns and doing.records:
            doing.slow_ns *= 2
            self._save(replace(self.state, window=max(1, self.state.window // 2)))

    def _send(self, doing: _Round) -> None:
        """Everything that is left of a round; raises Busy or ConfigError, and then nothing that was taken is left."""
        while True:
            while doing.unsent or doing.doubt:
                began_ns = self._clock()
                if doing.doubt:
                    doing.doubt.begin()
                    self._search(doing, doing.doubt)
                else:
                    self._send_some(doing)
                self._note_slow(doing, self._clock() - began_ns)
            if not self._pull(doing):
                return

    def _pull(self, doing: _Round) -> bool:
        """Read on, and make requests of it; whether there was anything left."""
        try:
            some = next(doing.items, None)
            if some is None and not doing.gathered:
                return False
            parts = [] if some is None else doing.asked_for(self._converted(some, doing))
            doing.unsent.extend(self._pieces(parts, doing.gathered, is_last=some is None))
        except BaseException:
            self._round = None  # what is read cannot be gone on with: the window is read again
            raise
        return True

    def _extend(self, doing: _Round) -> bool:
        """Have a round go on with what came since; whether something did."""
        window = None if doing.wanted else self._windows.after(doing.until, self._window_max)
        if window is None:
            return False
        doing.items = self._read(doing.until, window, doing.memory)
        doing.until, doing.records = window.until, doing.records + window.records
        return True

    def _search(self, doing: _Round, doubt: Doubt, error: Busy | None = None) -> None:
        """Send a doubtful request in pieces, until all is taken or set aside; raises Busy where it seems to be down.

        What was refused before is set aside again instead: what is new must not wait for it.
        """
        while doubt.pieces:
            piece = None
            if doubt.in_row < PROBES_MAX:
                piece = doubt.pick() or self._another(doing, doubt) or doubt.pick_any()
            if piece is None:
                doubt.waits += 1
                if not doing.wanted or doubt.waits < FAILURES_MAX:
                    raise error or doubt.error
                for left in doubt.pieces:
                    self._find_guilty(doing, left, error or doubt.error)
                break
            if error is not None:
                self.state.requests += 1
                self.state.failed += 1
            error = self._probed(doing, doubt, piece)
        doing.doubt = None

    def _probed(self, doing: _Round, doubt: Doubt, piece: Piece) -> Busy | None:
        """Send one piece; how it failed, if it may be at fault."""
        try:
            accepted = self._sent(piece.route, piece.parts)
        except Busy as error:
            if not is_doubtful(error):
                raise
            if doubt.failed(piece, error):
                self._find_guilty(doing, piece, error)
            return error
        except Rejected as error:
            self._answered(_refusal(error))
            if len(piece.parts) > 1:
                doubt.halve(piece)
            else:
                doubt.pieces.remove(piece)
                self._set_aside(doing, piece.route, piece.parts, 1)
            return None
        self._taken(doing, piece.route, piece.parts, accepted)
        for guilty in doubt.taken(piece):
            self._find_guilty(doing, guilty, doubt.error)
        return None

    def _find_guilty(self, doing: _Round, piece: Piece, error: Busy) -> None:
        answer, self.state.answer = self.state.answer, _short(error.what)
        self._set_aside(doing, piece.route, piece.parts, len(piece.parts))
        self.state.answer = answer

    def _another(self, doing: _Round, doubt: Doubt) -> Piece | None:
        """A request of the same route with other records; where a lot that is on its way has none, of another route."""
        while True:
            for place, (route, parts) in enumerate(doing.unsent):
                if route == doubt.route:
                    del doing.unsent[place]
                    return doubt.add(route, parts)
            held = [part for piece in doubt.pieces for part in piece.parts]
            held += [part for _, parts in doing.unsent for part in parts]
            if (
                len(held) >= self._window_max
                or sum(part.size_bytes for part in held) >= HELD_REQUESTS * self._bytes_max
            ):
                return doubt.add(*doing.unsent.popleft()) if doing.unsent else None
            if not self._pull(doing) and not self._extend(doing):
                return None

    def _converted(self, items: Sequence[Item], doing: _Round) -> list[Part]:
        """Parts of the items; one that cannot be told, for a reason nobody foresaw, is set aside alone."""
        if not items:
            return []
        doing.keys.update(item.key for item in items if doing.wanted)
        before = dict(doing.memory.changes)
        try:
            return self.forwarder.convert(items, doing.memory)
        except TachographError:
            raise
        except Exception as error:  # noqa: BLE001 - one bad record must not hold up all that come after it
            doing.memory.changes = before
            if len(items) > 1:
                return [part for item in items for part in self._converted([item], doing)]
            self.state.answer = _short(f"not told: {type(error).__name__}: {error}")
            self._set_aside(doing, "", [Part(items[0], "", None)], 1)
            return []

    def _pieces(
        self, parts: Sequence[Part], gathered: dict[str, list[Part]], *, is_last: bool
    ) -> Iterator[tuple[str, list[Part]]]:
        """Parts in requests: of one route each, in order, and within the bounds.

        What does not fill a request stays in `gathered`, by route, for the parts that come next; `is_last`: none do.
        """
        for part in parts:
            gathered.setdefault(part.route, []).append(part)
        for route in list(gathered):
            piece: list[Part] = []
            size = 0
            for part in gathered.pop(route):
                if piece and (len(piece) >= self._parts_max or size + part.size_bytes > self._bytes_max):
                    yield route, piece
                    piece, size = [], 0
                piece.append(part)
                size += part.size_bytes
            if is_last or len(piece) >= self._parts_max:
                yield route, piece
            elif piece:
                gathered[route] = piece

    def _send_some(self, doing: _Round) -> None:
        route, parts = doing.unsent[0]
        try:
            accepted = self._sent(route, parts)
        except Busy as error:
            doing.doubtful += is_doubtful(error)
            if doing.doubtful < FAILURES_MAX or not is_doubtful(error):
                raise
            doing.unsent.popleft()
            doing.doubt = Doubt(route, parts, error, self._parts_max, self._bytes_max)
            self._search(doing, doing.doubt, error)
            return
        except Rejected as error:
            self._answered(_refusal(error))
            doing.unsent.popleft()
            if len(parts) > 1:
                middle = len(parts) // 2
                doing.unsent.extendleft([(route, parts[middle:]), (route, parts[:middle])])
            else:
                self._set_aside(doing, route, parts, len(parts))
            return
        doing.unsent.popleft()
        doing.doubtful = 0
        self._taken(doing, route, parts, accepted)

    def _taken(self, doing: _Round, route: str, parts: Sequence[Part], accepted: Accepted) -> None:
        self._answered(accepted.answer)
        if accepted.rejected:
            self.state.answer = _short(f"{accepted.answer}: {accepted.why}")
            self._set_aside(doing, route, parts, min(accepted.rejected, len(parts)))
        self.state.sent += len(parts) - min(accepted.rejected, len(parts))
        self.state.taken_ns = self._clock()

    def _sent(self, route: str, parts: Sequence[Part]) -> Accepted:
        try:
            return self.forwarder.send(route, parts)
        except TachographError:
            raise
        except Exception as error:  # nobody foresaw it: as where the destination stumbles
            raise Busy(f"not sent: {type(error).__name__}: {error}", status=500) from error

    def _answered(self, answer: str) -> None:
        self.state.requests += 1
        self.state.answer, self.state.answered_ns = _short(answer), self._clock()
        self.state.failures, self.state.retry_ns, self.state.is_refusing = 0, 0, False

    def _set_aside(self, doing: _Round, route: str, parts: Sequence[Part], rejected: int) -> None:
        sequences = [part.item.seq for part in parts]
        keys = list(dict.fromkeys(part.item.key for part in parts))
        doing.letters.append(
            Letter(keys, min(sequences), max(sequences), route, self.state.answer, self._clock(), rejected)
        )

    def _put_off(self, error: Busy | ConfigError) -> None:
        """Try again later: soon where it is busy, and seldom where somebody has to act first."""
        state = self.state
        state.requests += 1
        state.failures += 1
        state.failed += 1
        back_off_s = min(BACK_OFF_S * 2 ** min(state.failures - 1, 20), BACK_OFF_S_MAX)
        wait_s = back_off_s * (0.5 + self._jitter() / 2)
        if isinstance(error, Busy):
            wait_s = max(wait_s, min(error.retry_after_s, RETRY_AFTER_S_MAX))
        state.is_refusing = isinstance(error, ConfigError)
        state.answer, state.answered_ns = _short(error.what), self._clock()
        state.retry_ns = self._clock() + round(wait_s * _S)
        self._save(state)

    def _keep(self, doing: _Round) -> None:
        state = replace(self.state, cursor=doing.until, passed=self.state.passed + doing.records)
        state.refused = max(0, state.refused - _rejected(doing.wanted)) + _rejected(doing.letters)
        if doing.records and doing.took_ns < WINDOW_QUICK_NS:
            state.window = min(2 * state.window, self._window_max)
        if self._is_unkept:
            state.failures, state.is_refusing, state.answer = 0, False, ""
        if not doing.wanted:
            self._save(state, doing.memory.changes.items(), doing.letters)
            return
        gone = sum(letter.rejected for letter in doing.wanted if doing.keys.isdisjoint(letter.keys))
        _lose(state, gone, self._clock())  # nothing of it is kept any more
        # What is remembered knows these records already.
        self._save(state, (), doing.letters, forgotten=[letter.id for letter in doing.wanted])

    def _save(
        self,
        state: State,
        memory: Iterable[tuple[str, bytes | None]] = (),
        letters: Sequence[Letter] = (),
        *,
        is_rewound: bool = False,
        forgotten: Iterable[int] = (),
    ) -> None:
        """Keep how far it is; where that fails, nothing has moved, and the same is kept by the next round."""
        try:
            self._progress.save(self.name, state, memory, letters, is_rewound, forgotten)
        except ConfigError as error:
            self._is_unkept = True
            self.state.failures, self.state.is_refusing = max(1, self.state.failures), True
            self.state.answer, self.state.answered_ns = _short(error.what), self._clock()
            raise
        self._is_unkept = False
        self.state = state


class _Round:
    """One window on its way: what is read, what is converted and not yet taken, and what was refused."""

    def __init__(
        self, items: Iterator[list[Item]], memory: Remembered, until: int, records: int, wanted: Sequence[Letter] = ()
    ) -> None:
        self.items = items
        self.memory = memory
        self.until = until
        self.records = records
        self.took_ns, self.slow_ns = 0, WINDOW_SLOW_NS
        self.wanted = wanted  # that this sends again
        self._asked = {(letter.route, key) for letter in wanted for key in letter.keys}
        self._again: set[tuple[str, str]] = set()
        self.keys: set[str] = set()  # of those: what is still kept
        self.gathered: dict[str, list[Part]] = {}  # by route: what does not fill a request yet
        self.unsent: deque[tuple[str, list[Part]]] = deque()
        self.letters: list[Letter] = []
        self.doubtful = 0  # failures of the first request that may be its own fault
        self.doubt: Doubt | None = None

    def asked_for(self, parts: list[Part]) -> list[Part]:
        """Of what is sent again what was refused, once: a span and its step have one key, and a step comes as often
        as its session was told of.
        """
        if not self.wanted:
            return parts
        here = {(part.route, part.item.key) for part in parts}
        here = {one for one in here if one in self._asked or ("", one[1]) in self._asked} - self._again
        self._again |= here
        return [part for part in parts if (part.route, part.item.key) in here]


def _stretches(letters: Sequence[Letter]) -> Iterator[tuple[int, int, set[str]]]:
    """First and last commit of letters that lie in the same commits, and what they hold; in order."""
    found: list[tuple[int, int, set[str]]] = []
    for letter in sorted(letters, key=lambda one: (one.first_seq, one.last_seq)):
        if found and letter.first_seq <= found[-1][1]:
            first, last, keys = found.pop()
            found.append((first, max(last, letter.last_seq), keys | {*letter.keys}))
        else:
            found.append((letter.first_seq, letter.last_seq, {*letter.keys}))
    return iter(found)


def _rejected(letters: Iterable[Letter]) -> int:
    return sum(letter.rejected for letter in letters)


def _lose(state: State, records: int, now_ns: int) -> None:
    if records > 0:
        state.lost, state.lost_ns = state.lost + records, now_ns


def _refusal(error: Rejected) -> str:
    """What it answered; its address is known."""
    return error.what.partition(": answered ")[2] or f"{error.status}: {error.what}"


def _short(text: str) -> str:
    """What a destination answered, fit to be kept and shown: it may hold anything."""
    text = redact_text("".join(c if c.isprintable() else " " for c in text[: 4 * ANSWER_CHARS]))
    return text if len(text) <= ANSWER_CHARS else text[: ANSWER_CHARS - 1] + "…"
