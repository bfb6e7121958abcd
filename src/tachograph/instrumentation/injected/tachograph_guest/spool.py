"""Appends what was recorded to a file of this process, one line at once, so that no exit and no kill can lose it."""

from __future__ import annotations

import os
import time
from pathlib import Path

from .imports import say

PART_BYTES = 16 * 1024 * 1024
FOLDER_BYTES = 256 * 1024 * 1024  # nobody reads them: the oldest go, before the disk is full
_FAILURES_MAX = 3


class Spool:
    """The file that this process appends to; another one after a fork and when it is large.

    There is no lock, no thread and no network here: a line is one write, and the operating system keeps it.
    """

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._file = -1
        self._key = (0, 0)  # device and inode: programs close files that are not theirs, and numbers are used again
        self._pid = 0
        self._part = 0
        self._size = 0
        self._failures = 0

    def write(self, line: bytes) -> None:
        """Append one line (with its newline); what cannot be written is lost, said once, and never raised."""
        if self._failures >= _FAILURES_MAX:
            return
        try:
            self._ready(len(line))
            left = memoryview(line)
            while left:
                left = left[os.write(self._file, left) :]
            self._size += len(line)
        except OSError as error:
            self._pid = 0
            self._failures += 1
            if self._failures == _FAILURES_MAX:
                say(f"recording stops: {self._folder}: {error.strerror}")

    def _ready(self, size: int) -> None:
        """Have a file open that is ours and has room."""
        pid = os.getpid()
        if self._pid == pid and self._size + size <= PART_BYTES and self._is_ours():
            return
        if self._pid == pid:
            self._part += 1
            if self._is_ours():
                os.close(self._file)
        else:
            self._part = 0
            self._make_room()
        name = f"{time.time_ns() // 1_000_000}-{pid}-{self._part}.jsonl"
        self._file = os.open(self._folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        state = os.fstat(self._file)
        self._key, self._pid, self._size = (state.st_dev, state.st_ino), pid, 0

    def _is_ours(self) -> bool:
        try:
            state = os.fstat(self._file)
        except OSError:
            return False
        return (state.st_dev, state.st_ino) == self._key

    def _make_room(self) -> None:
        """The folder, for its owner only, with the oldest files gone where it holds too much."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        files = sorted((file for file in self._folder.glob("*.jsonl")), key=lambda file: file.name)
        sizes = {file: file.stat().st_size for file in files}
        total = sum(sizes.values())
        for file in files:
            if total <= FOLDER_BYTES:
                return
            file.unlink(missing_ok=True)
            total -= sizes[file]
            say(f"recordings that nobody has read were removed: {file.name}, {sizes[file]} bytes")
