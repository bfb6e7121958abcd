"""Reads and replaces settings files of others: whole or not at all, keeping links, modes and byte order marks."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tachograph.errors import Busy, ConfigError

_BOM: Final = b"\xef\xbb\xbf"
_BYTES_MAX: Final = 16 * 1024 * 1024  # of a settings file; what is larger is none


def read(path: Path) -> str | None:
    """The text of a settings file without its byte order mark, None where there is none; raises ConfigError."""
    content = _read_bytes(path)
    if content is None:
        return None
    try:
        return content.removeprefix(_BOM).decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ConfigError(
            f"{path}:{line}: got bytes that are not UTF-8", "save it as UTF-8; it was not changed"
        ) from None


def _read_bytes(path: Path) -> bytes | None:
    try:
        if path.is_file() and path.stat().st_size > _BYTES_MAX:
            raise ConfigError(f"{path}: got {path.stat().st_size} bytes; expected a settings file", "look at the file")
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}", "make it a readable file") from None


def replace(path: Path, old: str | None, new: str) -> None:
    """Put `new` in the place of `old`, which is what was read; None = there was no file.

    A link keeps pointing where it does, a file keeps its mode and owner; a new one is its owner's alone. Raises Busy
    where somebody else has changed the file meanwhile, ConfigError where it cannot be written.
    """
    target = path.resolve()
    with _told(path):
        target.parent.mkdir(parents=True, exist_ok=True)
        before = _read_bytes(target)
        bom = _BOM if before is not None and before.startswith(_BOM) else b""
        if (None if before is None else before.removeprefix(_BOM)) != (None if old is None else old.encode()):
            raise Busy(f"{path}: was changed by another program meanwhile", "try again")
        _write(target, bom + new.encode("utf-8"), None if before is None else target.stat())


def _write(target: Path, content: bytes, like: os.stat_result | None) -> None:
    """Write beside the file and move it there; `like` is the file whose mode and owner it takes."""
    number, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".new", dir=target.parent)
    beside = Path(name)
    try:
        with os.fdopen(number, "wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        if like is not None:
            beside.chmod(like.st_mode & 0o7777)
            with contextlib.suppress(OSError, AttributeError):  # only root may give a file away
                os.chown(beside, like.st_uid, like.st_gid)
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)


def keep(path: Path, backup: Path) -> None:
    """Keep the bytes of `path` in `backup`, for its owner's eyes only; empty where there is no file yet."""
    with _told(backup):
        backup.parent.mkdir(parents=True, exist_ok=True)
        _write(backup.parent.resolve() / backup.name, _read_bytes(path) or b"", None)


def put_back(path: Path, backup: Path) -> None:
    """Make `path` what `backup` holds, byte for byte; without content there was no file."""
    target = path.resolve()
    with _told(path):
        content = backup.read_bytes()
        if content:
            _write(target, content, target.stat() if target.exists() else None)
        else:
            target.unlink(missing_ok=True)


def remove(path: Path) -> None:
    """Take a file away, if it is there."""
    with _told(path):
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """What the system says of a write, as an error of ours."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}", "look at the rights of the folder") from None
