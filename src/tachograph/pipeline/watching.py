"""Notices which of the files that agents write are new, have changed or are gone; a look at thousands costs little."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from heapq import heappop, heappush
from itertools import count
from pathlib import Path
from typing import Final

from tachograph.config import Surroundings
from tachograph.registry import AgentFiles
from tachograph.telemetry import say

Clock = Callable[[], int]
Sign = tuple[int, ...]

SECOND_NS: Final = 1_000_000_000
# A file that has just changed, and what our plug-ins spool, is looked at every second; one that has been still for a
# while in a sixtieth of that, at most every 15 s: 10,000 still files are 700 looks a second, 2 ms of a core.
LOOK_NS: Final = SECOND_NS
LOOK_NS_MAX: Final = 15 * SECOND_NS
STILL_SHARE: Final = 60
# New files change their folder: the folders above the known ones are looked at, a thousand a second at most.
FOLDER_NS: Final = SECOND_NS // 1000
LEVELS_MAX: Final = 4
# To list everything takes from a millisecond to half a second: as a share of the time, where a folder has changed, and
# where none has.
CHANGED_SHARE: Final = 50
LISTED_SHARE: Final = 500
LISTED_NS: Final = (5 * SECOND_NS, 600 * SECOND_NS)  # ... but not more often, nor more seldom


class WatchedFile:
    """One file: what it looked like when it was last handed out, and when it is looked at again."""

    __slots__ = ("changed_ns", "is_known", "is_read", "kind", "modified_ns", "name", "path", "sign", "size_bytes")

    def __init__(self, kind: AgentFiles, path: Path) -> None:
        self.kind = kind
        self.path = path
        self.name = str(path)
        self.sign: Sign = ()
        self.modified_ns = 0
        self.size_bytes = 0
        self.changed_ns = 0  # when a change was seen last, by the clock of the watch
        self.is_known = False  # it was read to its end before, by this process
        self.is_read = False  # all of it, as it was when it was handed out


class Place:
    """Where the files of one kind lie, and when to list them again."""

    def __init__(self, kind: AgentFiles) -> None:
        self.kind = kind
        self.names: set[str] = set()
        self._folders: dict[Path, int] = {}
        self._look_ns = 0
        self._listed_ns = 0
        self._took_ns = 0
        self._has_changed = True

    def is_due(self, now_ns: int) -> bool:
        """Whether to list the files now."""
        if not self._has_changed and now_ns >= self._look_ns:
            self._look_ns = now_ns + max(LOOK_NS, len(self._folders) * FOLDER_NS)
            self._has_changed = any(_modified_ns(path) != seen for path, seen in self._folders.items())
        passed = now_ns - self._listed_ns
        if self._has_changed and passed >= self._took_ns * CHANGED_SHARE:
            return True
        least, most = LISTED_NS
        if self.kind.origin == "hook":
            least = LOOK_NS  # few, and the first one is waited for
        return passed >= min(most, max(least, self._took_ns * LISTED_SHARE))

    def find(self, where: Surroundings, clock: Clock) -> dict[str, Path]:
        """The files that are there, by name.

        What a folder looked like is noted before, so that a file that comes meanwhile is seen at the next look.
        """
        began_ns = clock()
        known = {folder: _modified_ns(folder) for folder in self._folders}
        try:
            paths = list(self.kind.discover(where))
        except OSError as error:
            say("warning", f"{self.kind.agent}: {error.filename}: cannot be listed: {error.strerror}")
            paths = []
        folders = _above(paths, where.user_home)
        self._folders = {path: known[path] if path in known else _modified_ns(path) for path in folders}
        self._listed_ns, self._has_changed = clock(), False
        self._took_ns = self._listed_ns - began_ns
        return {str(path): path for path in paths}


def _above(paths: Iterable[Path], home: Path) -> set[Path]:
    """The folders that paths lie in, and some above them, but not the home folder: everybody writes there."""
    found: set[Path] = set()
    for folder in {path.parent for path in paths}:
        for level in (folder, *folder.parents)[:LEVELS_MAX]:
            if level == home:
                break
            found.add(level)
    return found


class Watch:
    """All files of some kinds; owned by one thread. `clock` only goes forward (nanoseconds)."""

    def __init__(self, kinds: Sequence[AgentFiles], where: Surroundings, clock: Clock) -> None:
        self.files: dict[str, WatchedFile] = {}
        self._where = where
        self._clock = clock
        self._places = [Place(kind) for kind in kinds]
        self._due: list[tuple[int, int, WatchedFile]] = []
        self._number = count()

    def look(self) -> list[WatchedFile]:
        """The files that are new or have changed since they were handed out, in any order."""
        for place in self._places:
            if place.is_due(self._clock()):
                self._list(place)
        changed: list[WatchedFile] = []
        now_ns = self._clock()
        while self._due and self._due[0][0] <= now_ns:
            file = heappop(self._due)[2]
            if self.files.get(file.name) is not file:
                continue
            sign = _sign(file)
            if sign is None:
                self._drop(file)
                continue
            if sign != file.sign:
                file.sign, file.changed_ns, file.is_read = sign, now_ns, False
                changed.append(file)
            still_ns = (now_ns - file.changed_ns) // STILL_SHARE
            most = LOOK_NS if file.kind.origin == "hook" else LOOK_NS_MAX
            heappush(self._due, (now_ns + min(most, max(LOOK_NS, still_ns)), next(self._number), file))
        return changed

    def forget(self, file: WatchedFile) -> None:
        """Take a file out of sight; it comes back only by being listed anew."""
        self._drop(file)

    def _drop(self, file: WatchedFile) -> None:
        self.files.pop(file.name, None)
        for place in self._places:
            if place.kind is file.kind:
                place.names.discard(file.name)

    def _list(self, place: Place) -> None:
        found = place.find(self._where, self._clock)
        for name in place.names - found.keys():
            self.files.pop(name, None)
        place.names = set()
        for name, path in found.items():
            file = self.files.get(name)
            if file is None:
                file = self.files[name] = WatchedFile(place.kind, path)
                heappush(self._due, (0, next(self._number), file))
            if file.kind is place.kind:  # else another kind knew it first
                place.names.add(name)


def _modified_ns(folder: Path) -> int:
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return 0


def _sign(file: WatchedFile) -> Sign | None:
    """What tells one state of a file from the next; None where it is gone. Notes its size and age."""
    try:
        told = file.path.stat()
    except OSError:
        return None
    file.size_bytes, file.modified_ns = told.st_size, told.st_mtime_ns
    sign: Sign = (told.st_size, told.st_mtime_ns, told.st_ctime_ns)
    for suffix in file.kind.beside:
        try:
            told = Path(file.name + suffix).stat()
        except OSError:
            continue
        sign += (told.st_size, told.st_mtime_ns)
        file.modified_ns = max(file.modified_ns, told.st_mtime_ns)
    return sign
