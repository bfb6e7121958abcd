"""Every destination that somebody may ask about, also those that nothing is sent to."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from msgspec import Struct

from tachograph.destinations import Destination
from tachograph.errors import ConfigError, TachographError
from tachograph.pipeline import routing
from tachograph.pipeline.forwarding import Forwarding, Standing, standing
from tachograph.pipeline.progress import FILE_NAME, Letter, Progress, State
from tachograph.pipeline.standings import troubled
from tachograph.scan import Reader


class Probe(Struct):
    """What a destination said when it was asked. `word`: good, bad, off (disabled) or loop (it is this server)."""

    name: str
    kind: str
    address: str
    word: str
    answer: str
    hint: str = ""


class Roster:
    """The destinations of the settings and variables, and those that only the file of progress still knows.

    `loops` are the names of those that lead back here. Without `forwarding` nothing is sent: the file says all.
    `progress` is the file where it is open already.
    """

    def __init__(
        self,
        known: Sequence[Destination],
        loops: Collection[str],
        reader: Reader,
        home: Path,
        clock: Callable[[], int],
        forwarding: Forwarding | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._known = known
        self._loops = loops
        self._reader = reader
        self._path = home / FILE_NAME
        self._clock = clock
        self._forwarding = forwarding
        self._progress = progress

    def standings(self) -> list[Standing]:
        """What each is doing: those of the settings in their order, then those that were removed from them."""
        busy = {one.name: one for one in self._forwarding.standings()} if self._forwarding else {}
        resting = [one for one in self._known if one.name not in busy]
        if not resting and not self._path.exists():
            return list(busy.values())
        with self._opened() as progress:
            known = {one.identity for one in self._known}
            removed = [
                Destination(name, "", "", signals=(), privacy="") for name in progress.names() if name not in known
            ]
            found = {one.name: self._at_rest(one, progress) for one in resting}
            gone = [self._at_rest(one, progress, "removed") for one in removed]
        return [*(busy.get(one.name) or found[one.name] for one in self._known), *gone]

    def letters(self, name: str, limit: int, offset: int) -> list[Letter]:
        """What a destination refused, newest first."""
        with self._opened() as progress:
            return progress.letters(self._identity(name), limit=limit, offset=offset)

    def want(self, name: str, letter_id: int | None) -> int:
        """Ask to send one piece again, None = all; how many."""
        with self._opened() as progress:
            return progress.want(self._identity(name), letter_id)

    def drop(self, name: str, letter_id: int | None) -> int:
        """Give one piece up, None = all; how many."""
        with self._opened() as progress:
            return progress.drop(self._identity(name), letter_id)

    def _identity(self, name: str) -> str:
        return next((one.identity for one in self._known if one.name == name), name)

    def _at_rest(self, one: Destination, progress: Progress, word: str = "") -> Standing:
        if one.trouble:
            return troubled(one)
        state = progress.state(one.identity) or State(cursor=self._reader.sequence())
        address = "" if word else routing.address(one)
        told = standing(one, address, state, self._reader, progress, self._clock())
        told.word = word or _word(one, self._loops) or told.word
        return told

    @contextmanager
    def _opened(self) -> Iterator[Progress]:
        if self._progress is not None:
            yield self._progress
            return
        with closing(Progress(self._path)) as opened:
            yield opened


def _word(one: Destination, loops: Collection[str]) -> str:
    return "off" if not one.is_enabled else "loop" if one.name in loops else ""


def chosen(known: Sequence[Destination], name: str) -> list[Destination]:
    """All of them, or the one of a name; raises ConfigError, which lists the names that there are."""
    found = [one for one in known if name in ("", one.name)]
    if name and not found:
        raise unknown(name, [one.name for one in known])
    return found


def unknown(name: str, names: Sequence[str]) -> ConfigError:
    """There is no destination of that name."""
    expected = f"one of {', '.join(names)}" if names else "none, as there is no destination"
    return ConfigError(f'forward: got "{name}"; expected {expected}', "tachograph forward status")


def probe(one: Destination, loops: Collection[str], environment: Mapping[str, str]) -> Probe:
    """Ask a destination whether it would take something; nobody asks one that nothing is sent to."""
    asked = Probe(one.name, one.kind, routing.address(one), _word(one, loops), "")
    if asked.word:
        return asked
    try:
        forwarder = routing.route(one, environment).forwarder
        with closing(forwarder):
            accepted = forwarder.probe()
        asked.word, asked.answer = "bad" if accepted.rejected else "good", accepted.answer or accepted.why
    except TachographError as error:
        asked.word, asked.answer, asked.hint = "bad", error.what, error.hint
    return asked


def left_behind(standings: Sequence[Standing]) -> list[str]:
    """What is kept for destinations that are no more, and how to go on; a line each."""
    return [
        f"{one.name} is no destination any more: {one.refused_kept} refused pieces are kept for it, and it was sent all"
        f" up to commit {one.state.cursor} ({one.lag_commits} behind). Name it {one.name} again to go on from there;"
        f" `tachograph forward forget {one.name}` removes what is kept"
        for one in standings
        if one.word == "removed" and (one.refused_kept or one.lag_commits)
    ]
