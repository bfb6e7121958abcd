"""Holds the data folder for one process: a lock file that says who has it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

from tachograph.errors import ConfigError

try:
    import fcntl
except ImportError:  # Windows: DuckDB's own lock on the database file stands alone there
    fcntl = None  # type: ignore[assignment]

LOCK_NAME: Final = "lock"


class FolderLock:
    """The lock on a data folder: exclusive for a writer, shared for readers; the system drops it with the process.

    Opening raises ConfigError where another process holds the folder. The file stays behind: it is the lock on it,
    not its being there, that counts, so a stale one is no hindrance.
    """

    def __init__(self, folder: Path, is_shared: bool = False) -> None:
        self._path = folder / LOCK_NAME
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            self._take(folder, is_shared)
        except BaseException:
            self.release()
            raise

    def _take(self, folder: Path, is_shared: bool) -> None:
        if fcntl is not None:
            try:
                fcntl.flock(self._descriptor, (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            except OSError:
                raise ConfigError(
                    f"{folder}: got a folder that process {self._holder()} is using; expected one that is free",
                    "stop that process, ask it, or set TACHOGRAPH_HOME to another folder",
                ) from None
        if not is_shared:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def _holder(self) -> str:
        return os.pread(self._descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown"

    def release(self) -> None:
        """Let go of the folder; safe to call twice."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(descriptor)


def size_bytes(folder: Path) -> int:
    """Bytes that the folder's files take on disk."""
    total = 0
    for directory, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += (Path(directory) / name).stat().st_size
    return total
