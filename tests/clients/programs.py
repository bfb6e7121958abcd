"""Programs that tests run for real: npm packages, installed once into a cache folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest


def cache() -> Path:
    """Where installed programs are kept from one test run to the next."""
    named = os.environ.get("TACHOGRAPH_CLIENTS")
    beside = os.environ.get("XDG_CACHE_HOME")
    shared = Path(beside) if beside else Path(tempfile.gettempdir())
    folder = Path(named) if named else shared / "tachograph-clients"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def unavailable(why: str) -> None:
    """Skip, unless the environment says that every program has to be there."""
    if os.environ.get("TACHOGRAPH_CLIENTS_REQUIRED") == "1":
        pytest.fail(why)
    pytest.skip(why)


def npm(name: str, *packages: str, unpack: str = "") -> Path:
    """The folder in which packages are installed; `unpack` lies beside them as `package`, without its dependencies.

    Skips where there is no npm, or no registry.
    """
    folder = cache() / name
    if (folder / "installed.json").is_file():
        return folder
    program = shutil.which("npm")
    if program is None:
        unavailable("npm is not installed")
    # Made aside and then moved, so that a run beside this one sees all of it or nothing.
    made = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=cache()))
    (made / "package.json").write_text('{"private": true}', encoding="utf-8")
    if unpack:
        _npm([str(program), "pack", "--silent", unpack], made)
        for archive in made.glob("*.tgz"):
            shutil.unpack_archive(archive, made, filter="data")
            archive.unlink()
    _npm([str(program), "install", "--silent", "--no-audit", "--no-fund", *packages], made)
    (made / "installed.json").write_text(json.dumps([*packages, unpack]), encoding="utf-8")
    try:
        made.rename(folder)
    except OSError:
        shutil.rmtree(made)  # the other run was quicker
    return folder


def _npm(command: Sequence[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        shutil.rmtree(folder)
        unavailable(f"{' '.join(command[1:])}: {done.stderr.strip()[-300:]}")


def node(major: int) -> Path:
    """A Node of this major version, which npm brings as a package."""
    return npm(f"node-{major}", f"node@{major}") / "node_modules" / "node" / "bin" / "node"
