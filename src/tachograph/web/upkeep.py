"""What an admin may do to the running process: rates of their own, backups; and what lies on disk."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from msgspec import Struct

from tachograph.errors import ConfigError, TachographError
from tachograph.pricing import Prices

PRICES_BYTES_MAX: Final = 256 * 1024
_DATABASE: Final = "tachograph.duckdb"
_PARTIAL: Final = ".partial"
_KINDS: Final = {_DATABASE: "database", _DATABASE + ".wal": "its log", "sealed": "days put away", "spool": "spools"}


class Upkeep(Struct, frozen=True):
    """What the process hands to the page of settings.

    `origins` says of each setting where it came from: flag, environment, file or default. `use_prices` takes the
    prices of the calls that come from then on.
    """

    prices: Callable[[], Prices]
    use_prices: Callable[[Prices], None]
    backup: Callable[[Path], None]
    prices_path: Path
    origins: Mapping[str, str] = {}


class Backup(NamedTuple):
    """A copy of the store that was made here."""

    path: Path
    size_bytes: int
    made_ns: int


def text_of(path: Path) -> str:
    """The text of a file, "" where there is none; raises ConfigError for one that cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}", "make it a readable UTF-8 text file") from None


def mark_of(text: str) -> str:
    """A short sign of a text, to tell whether it is still the same."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def save_prices(upkeep: Upkeep, text: str, mark: str) -> None:
    """Write the file of rates and use it; raises ConfigError where it is wrong, and nothing is changed then.

    `mark` is that of the text which the change was made to.
    """
    path = upkeep.prices_path
    if mark_of(text_of(path)) != mark:
        raise ConfigError(
            f"{path}: it was changed by another hand since; expected what was shown", "load the page again"
        )
    fresh = path.with_name(path.name + ".new")
    try:
        fresh.write_bytes(b"")
        fresh.chmod(0o600)
        fresh.write_text(text, encoding="utf-8", newline="\n")
        prices = Prices(fresh)
        fresh.replace(path)
    except ConfigError as error:
        raise ConfigError(error.what.replace(str(fresh), path.name), error.hint) from None
    except (OSError, UnicodeEncodeError) as error:
        raise ConfigError(f"{path}: cannot be written: {error}", "make the folder one that may be written to") from None
    finally:
        fresh.unlink(missing_ok=True)
    upkeep.use_prices(prices)


def backup_folder(home: Path) -> Path:
    """Where backups go: beside the home, for what lies in it counts to what is kept."""
    return home.with_name(home.name + "-backups")


def make_backup(upkeep: Upkeep, home: Path, now_ns: int) -> Path:
    """Write a backup named after the time; raises ConfigError where it cannot be written."""
    folder = backup_folder(home)
    target = folder / f"{datetime.fromtimestamp(now_ns / 1e9, UTC):%Y-%m-%d-%H%M%SZ}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # prompts and answers are nobody else's
        upkeep.backup(target)
    except OSError as error:
        raise ConfigError(f"{target}: cannot be written: {error.strerror or error}", "free some space") from None
    except TachographError as error:
        raise ConfigError(error.what, error.hint) from error
    return target


def backups(home: Path) -> list[Backup]:
    """Those that were made here, the newest first."""
    folder = backup_folder(home)
    try:
        paths = [path for path in folder.iterdir() if (path / _DATABASE).is_file() and path.suffix != _PARTIAL]
    except OSError:
        return []
    return sorted((Backup(path, size_of(path), _made_ns(path)) for path in paths), key=lambda one: -one.made_ns)


def _made_ns(path: Path) -> int:
    return path.stat().st_mtime_ns


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    if path.is_file():
        return path.stat().st_size
    total = 0
    for directory, _, names in os.walk(path):
        for name in names:
            with suppress(FileNotFoundError):  # gone in the meantime
                total += (Path(directory) / name).stat().st_size
    return total


def disk(home: Path) -> list[tuple[str, int]]:
    """(what, bytes) of what lies in the home, the largest first, and what is free last."""
    sizes: dict[str, int] = {}
    try:
        for path in home.iterdir():
            kind = _KINDS.get(path.name, "other files")
            sizes[kind] = sizes.get(kind, 0) + size_of(path)
        free = shutil.disk_usage(home).free
    except OSError:
        return []
    listed = sorted(((kind, size) for kind, size in sizes.items() if size), key=lambda one: -one[1])
    return [*listed, ("free on this disk", free)]
