"""Copies a running store into a folder, and a backup back into an empty one."""

from __future__ import annotations

import os
import shutil
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

import duckdb

from tachograph.errors import ConfigError
from tachograph.store.retention import SEALED_NAME, fsync

Con = duckdb.DuckDBPyConnection

DATABASE_NAME: Final = "tachograph.duckdb"
LOG_NAME: Final = DATABASE_NAME + ".wal"
# DuckDB's file begins with a main header and two headers that take turns; each checkpoint changes one of the two.
_HEADERS_BYTES: Final = 3 * 4096
_TRIES: Final = 3
_CHUNK_BYTES: Final = 8 << 20


def backup(con: Con, folder: Path, target: Path, committing: AbstractContextManager[Any]) -> None:
    """Store.backup: the caller keeps settling, sealing and forgetting out, `committing` keeps commits out.

    Between two checkpoints DuckDB changes nothing in its file that is in use and only appends to its log. So the log
    is copied while nothing is committed, and the file while commits go on; if a checkpoint came in between, which the
    headers tell, it is all copied again, the last time with commits waiting.
    """
    require_empty(target)
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        _copy_database(folder, partial, committing)
        for (path,) in con.execute("SELECT path FROM sealed").fetchall():
            _link_or_copy(folder / path, partial / path)
        for path in sorted(partial.rglob("*")):
            fsync(path)
        if target.exists():
            target.rmdir()
        partial.replace(target)
        fsync(target.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _copy_database(folder: Path, partial: Path, committing: AbstractContextManager[Any]) -> None:
    database = folder / DATABASE_NAME
    for _ in range(_TRIES):
        with committing:
            headers, size = _headers(database), database.stat().st_size
            _copy_log(folder, partial)
        _copy(database, partial / DATABASE_NAME, size)
        if _headers(database) == headers:
            return
    with committing:
        _copy_log(folder, partial)
        _copy(database, partial / DATABASE_NAME, database.stat().st_size)


def _headers(database: Path) -> bytes:
    with database.open("rb") as file:
        return file.read(_HEADERS_BYTES)


def _copy_log(folder: Path, partial: Path) -> None:
    (partial / LOG_NAME).unlink(missing_ok=True)
    log = folder / LOG_NAME
    if log.exists():
        _copy(log, partial / LOG_NAME, log.stat().st_size)


def _copy(source: Path, target: Path, size: int) -> None:
    """Copy the first `size` bytes."""
    with source.open("rb") as read, target.open("wb") as write:
        left = size
        while left and (chunk := read.read(min(left, _CHUNK_BYTES))):
            write.write(chunk)
            left -= len(chunk)


def _link_or_copy(source: Path, target: Path) -> None:
    """A sealed file never changes, so another name for it will do where the target is on the same disk."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def restore(source: Path, folder: Path) -> None:
    """Copy a backup into a folder that holds no store; raises ConfigError where it does. What else is there stays.

    The database comes last and by a rename: a restore that broke off leaves no store that looks whole.
    """
    database = source / DATABASE_NAME
    if not database.is_file():
        raise ConfigError(f"{source}: got no {DATABASE_NAME} in it; expected a folder written by a backup")
    require_no_store(folder)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in sorted((source / SEALED_NAME).rglob("*.parquet")):
        target = folder / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        fsync(target)
    partial = folder / (DATABASE_NAME + ".partial")
    for name, target in ((LOG_NAME, folder / LOG_NAME), (DATABASE_NAME, partial)):
        if (source / name).exists():
            shutil.copyfile(source / name, target)
            fsync(target)
    partial.replace(folder / DATABASE_NAME)
    fsync(folder)


def require_no_store(folder: Path) -> None:
    """Raise ConfigError where the folder holds a store or a part of one, or is none."""
    found = next((name for name in (DATABASE_NAME, LOG_NAME, SEALED_NAME) if (folder / name).exists()), None)
    if found is not None or (folder.exists() and not folder.is_dir()):
        raise ConfigError(
            f"{folder}: got {found or 'a file'} there already; expected a home without a store",
            "name another home, or move what is there away",
        )


def require_empty(folder: Path) -> None:
    """Raise ConfigError where the folder is there and holds something, or is none."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(
            f"{folder}: got something that is there already; expected a new or empty folder",
            "name another folder, or move this one away",
        )
