"""Keeps a process small: memory that the C library and the loader hold without need goes back to the system.

Linux and its usual C library alone: elsewhere nothing is done.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_ARENAS_MAX: Final = -8  # mallopt(3): M_ARENA_MAX
_MMAP_FROM: Final = -3  # M_MMAP_THRESHOLD
_TRIM_FROM: Final = -1  # M_TRIM_THRESHOLD
_SOON_BYTES: Final = 128 * 1024  # where both begin; unless they are set they grow with what is freed, up to 32 MiB
_DONT_NEED: Final = 4  # madvise(2): MADV_DONTNEED
_SMAPS: Final = Path("/proc/self/smaps")
_STATM: Final = Path("/proc/self/statm")  # pages: all, in memory, in memory of files, ...
_LOOK_S: Final = 0.05  # a look costs 20 microseconds, letting go 2 milliseconds


def stay_small() -> None:
    """Share one heap among all threads that begin from here on, and let it shrink; costs time where many allocate."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_ARENAS_MAX, 1)
        mallopt(_MMAP_FROM, _SOON_BYTES)
        mallopt(_TRIM_FROM, _SOON_BYTES)


def give_back() -> None:
    """Let the system have what is free of the heap."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def give_back_code(beyond_bytes: int = 0) -> None:
    """Let go of the code of libraries, where more than that of files is in memory.

    What is used again comes back from the system's cache, in milliseconds. Of the 45 MB of DuckDB that are touched when
    a store is opened, most is not used again.
    """
    if sys.platform != "linux":
        return
    try:
        if int(_STATM.read_text().split()[2]) * mmap.PAGESIZE <= beyond_bytes:
            return
        with _SMAPS.open() as lines:
            found = list(_code(lines))
    except OSError:
        return  # no /proc here
    libc = ctypes.CDLL(None)
    libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    for start, end in found:
        libc.madvise(start, end - start, _DONT_NEED)


@contextmanager
def little_code(beyond_bytes: int) -> Iterator[None]:
    """Within the block no more code than that stays in memory for longer than a moment."""
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(_LOOK_S):
            give_back_code(beyond_bytes)

    watcher = threading.Thread(target=watch, name="footprint", daemon=True)
    if sys.platform == "linux":
        watcher.start()
    try:
        yield
    finally:
        is_over.set()
        if watcher.ident is not None:
            watcher.join()


def _code(lines: Iterator[str]) -> Iterator[tuple[int, int]]:
    """Where code and constants of libraries lie that are as in their file: what a loader has changed would be lost."""
    place: tuple[int, int] | None = None
    for line in lines:
        words = line.split()
        if not words[0].endswith(":"):
            start, _, end = words[0].partition("-")
            is_code = words[1] in ("r-xp", "r--p") and len(words) > 5 and ".so" in words[5]
            place = (int(start, 16), int(end, 16)) if is_code else None
        elif words[0] == "Anonymous:" and place is not None and words[1] == "0":
            yield place
