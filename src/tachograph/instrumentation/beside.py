"""Installs what is missing for recording beside a program's environment, which itself stays as it is."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import msgspec

from tachograph.errors import ConfigError
from tachograph.instrumentation.interpreters import Interpreter

FOLDER: Final = "python"  # in the home
_DONE: Final = "installed.json"


def folder_of(interpreter: Interpreter, home: Path) -> Path:
    """Where the packages for this environment are, whether or not there are any."""
    named = f"{interpreter.prefix}\0{interpreter.version[:2]}".encode(errors="surrogateescape")
    return home / FOLDER / blake2b(named, digest_size=8).hexdigest()


def is_current(interpreter: Interpreter, home: Path) -> bool:
    """Whether the folder holds what was installed for this environment as it is now."""
    try:
        told = msgspec.json.decode((folder_of(interpreter, home) / _DONE).read_bytes(), type=dict[str, str])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return False
    return told == interpreter.packages


def install(interpreter: Interpreter, packages: Sequence[str], home: Path, environ: Mapping[str, str]) -> None:
    """Put packages and what they need into the folder, in the versions that the environment itself has.

    It stands last on the program's path, so nothing that the environment has is replaced. Raises ConfigError, with the
    installer's last words, where that cannot be.
    """
    folder = folder_of(interpreter, home)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True)
    constraints = folder / "constraints.txt"
    constraints.write_text("".join(f"{name}=={version}\n" for name, version in interpreter.packages.items()), "utf-8")
    words = [*_installer(interpreter, environ), "--quiet", "--target", str(folder), "--constraint", str(constraints)]
    done = subprocess.run(
        [*words, *packages], env=dict(environ), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        shutil.rmtree(folder, ignore_errors=True)
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise ConfigError(f"--install: {words[0]} failed: {last}", f"install it yourself: {' '.join(packages)}")
    (folder / _DONE).write_bytes(msgspec.json.encode(interpreter.packages))


def _installer(interpreter: Interpreter, environ: Mapping[str, str]) -> list[str]:
    """What installs for this environment: its own pip, uv, or ours."""
    if "pip" in interpreter.packages:
        return [interpreter.executable, "-m", "pip", "install", "--disable-pip-version-check"]
    if uv := shutil.which("uv", path=environ.get("PATH")):
        return [uv, "pip", "install", "--python", interpreter.executable]
    if find_spec("pip") is not None:
        return [sys.executable, "-m", "pip", "--python", interpreter.executable, "install"]
    raise ConfigError(f"--install: got {interpreter.prefix} without pip; expected pip or uv", "install pip or uv")
