"""Programs that tests run for real: npm packages, installed once into a cache folder."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import pytest

if sys.platform != "win32":
    import fcntl


# Read once: tests see nothing of the environment they are started in.
_CACHE = Path(
    os.environ.get("TACHOGRAPH_CLIENTS")
    or Path(os.environ.get("XDG_CACHE_HOME") or tempfile.gettempdir()) / "tachograph-clients"
)
_IS_REQUIRED = os.environ.get("TACHOGRAPH_CLIENTS_REQUIRED") == "1"
# Why installing failed; it is not tried again, as npm takes its time to give up.
_refused: list[str] = []


def cache() -> Path:
    """Where installed programs are kept from one test run to the next."""
    _CACHE.mkdir(mode=0o700, parents=True, exist_ok=True)
    return _CACHE


def unavailable(why: str) -> NoReturn:
    """Skip, unless the environment says that every program has to be there."""
    if _IS_REQUIRED:
        pytest.fail(why)
    pytest.skip(why)


def npm(name: str, *packages: str, unpack: str = "") -> Path:
    """The folder in which packages are installed; `unpack` lies beside them as `package`, without its dependencies.

    Skips where there is no npm, or no registry.
    """
    folder = cache() / name
    with _alone():
        if not (folder / "installed.json").is_file():
            _install(folder, packages, unpack)
    return folder


def _install(folder: Path, packages: Sequence[str], unpack: str) -> None:
    program = shutil.which("npm")
    if program is None or _refused:
        unavailable(_refused[0] if _refused else "npm is not installed")
    # Made aside and then moved, so that what is there is whole.
    made = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=cache()))
    (made / "package.json").write_text('{"private": true}', encoding="utf-8")
    if unpack:
        _npm([str(program), "pack", "--silent", unpack], made)
        for archive in made.glob("*.tgz"):
            shutil.unpack_archive(archive, made, filter="data")
            archive.unlink()
    _npm([str(program), "install", "--no-audit", "--no-fund", *packages], made)
    (made / "installed.json").write_text(json.dumps([*packages, unpack]), encoding="utf-8")
    made.rename(folder)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Held by one test process at a time: the others wait for what it installs."""
    with (cache() / "lock").open("w") as lock:
        if sys.platform != "win32":
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _npm(command: Sequence[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        shutil.rmtree(folder)
        _refused.append(f"{' '.join(command[1:])}: {done.stderr.strip()[-300:]}")
        unavailable(_refused[0])


def node(major: int) -> Path:
    """A Node of this major version, which npm brings as a package."""
    return npm(f"node-{major}", f"node@{major}") / "node_modules" / "node" / "bin" / "node"
