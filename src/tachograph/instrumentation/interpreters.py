"""Finds the Python that a command will run on, and asks it what it has installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

_PYTHON: Final = re.compile(r"(python|pypy)w?[\d.]*(\.exe)?", re.IGNORECASE)
# Programs that start others in an environment of their own making.
_RUNNERS: Final = frozenset(("uv", "poetry", "pdm", "pipenv", "hatch", "rye"))
_WORD: Final = "run"
_SHEBANG_BYTES: Final = 1024
_PATIENCE_S: Final = 30.0

_QUESTION: Final = """
import sys
sys.path = [entry for entry in sys.path if entry]
import json, os
from importlib import metadata
packages = {}
for one in metadata.distributions():
    name = one.metadata["Name"] if one.metadata else None
    if name:
        packages.setdefault(name.lower().replace("_", "-").replace(".", "-"), one.version)
entries = [
    [entry.value, (entry.dist.metadata["Name"] if entry.dist else "").lower().replace("_", "-").replace(".", "-")]
    for entry in metadata.entry_points(group="opentelemetry_instrumentor")
]
print("\\n@tachograph " + json.dumps({
    "version": list(sys.version_info[:3]), "prefix": os.path.realpath(sys.prefix), "executable": sys.executable,
    "packages": packages, "entries": entries,
}))
"""


class Interpreter(msgspec.Struct):
    """A Python environment: what it is, and what is installed in it (names in lower case, with hyphens).

    `entries` are the instrumentations that it has, as `module:Class` and the package that brings each.
    """

    version: tuple[int, int, int]
    prefix: str
    executable: str
    packages: dict[str, str] = msgspec.field(default_factory=dict)
    entries: list[tuple[str, str]] = msgspec.field(default_factory=list)


def words_to_python(command: Sequence[str], path: str | None) -> list[str]:
    """The words that start the Python of a command, [] where there is none on `path` either.

    A command that is no Python program as far as one can see (a shell script, make) gets the first Python of `path`:
    what it starts is most likely that.
    """
    words = _without_env(command)
    first = Path(words[0]).name.lower().removesuffix(".exe") if words else ""
    if first in _RUNNERS and _WORD in words[1:]:
        return _through_runner(words)
    found = shutil.which(words[0], path=path) if words else None
    if found is not None and _PYTHON.fullmatch(Path(found).name):
        return [found]
    of_script = _shebang(Path(found), path) if found is not None else []
    return of_script or next(
        ([there] for name in ("python", "python3") if (there := shutil.which(name, path=path))), []
    )


def name_of(command: Sequence[str]) -> str:
    """What to call the program of a command: its script, its module, or the command itself."""
    words = _without_env(command)
    for number, word in enumerate(words):
        if word.endswith((".py", ".pyw")):
            return Path(word).stem
        if word in ("-m", "--module") and number + 1 < len(words):
            return words[number + 1]
    runner = bool(words) and Path(words[0]).name in _RUNNERS and _WORD in words
    named = [word for word in words[words.index(_WORD) + 1 :] if not word.startswith("-")] if runner else words
    return Path(named[0]).name.removesuffix(".exe") if named else "python"


def is_isolated(command: Sequence[str]) -> bool:
    """Whether the command starts Python without the variables and packages of its surroundings (-I, -E, -S)."""
    words = _without_env(command)
    if not words or not _PYTHON.fullmatch(Path(words[0]).name):
        return False
    flags: list[str] = []
    for word in words[1:]:
        if not word.startswith("-") or word in ("-", "-c", "-m"):
            break
        flags.append(word)
    return any(not flag.startswith("--") and set(flag[1:]) & set("IES") for flag in flags)


def _without_env(command: Sequence[str]) -> list[str]:
    """The command behind `env NAME=value`."""
    words = list(command)
    if words and Path(words[0]).name == "env":
        words = words[1:]
        while words and ("=" in words[0] or words[0].startswith("-")):
            words = words[1:]
    return words


def _through_runner(words: list[str]) -> list[str]:
    """`uv run --with x agent.py` -> `uv run --with x python`."""
    at = words.index(_WORD, 1)
    for number, word in enumerate(words[at + 1 :], at + 1):
        if word == "--" or word.endswith(".py") or _PYTHON.fullmatch(Path(word).name) or word in ("-m", "--module"):
            return [*words[:number], "python"]
    return [*words[: at + 1], "python"]


def _shebang(file: Path, path: str | None) -> list[str]:
    """The Python that a script names in its first lines; on Windows that of the folder that it stands in."""
    if file.suffix.lower() == ".exe":
        beside = [folder / "python.exe" for folder in (file.parent, file.parent.parent)]
        return next(([str(one)] for one in beside if one.is_file()), [])
    try:
        with file.open("rb") as opened:
            lines = opened.read(_SHEBANG_BYTES).decode("utf-8", "replace").splitlines()
    except OSError:
        return []
    if not lines or not lines[0].startswith("#!"):
        return []
    words = lines[0][2:].split()
    if words[:1] == ["/bin/sh"] and len(lines) > 1 and lines[1].startswith("'''exec' "):
        # A path too long for the first line, or with spaces: pip and uv write it into the second one.
        words = [lines[1].removeprefix("'''exec' ").partition(' "$0"')[0].strip().strip("\"'")]
    if words and Path(words[0]).name == "env":
        words = [there for word in _without_env(words)[:1] if (there := shutil.which(word, path=path))]
    return words[:1] if words and _PYTHON.fullmatch(Path(words[0]).name) else []


def ask(words: Sequence[str], environment: Mapping[str, str]) -> Interpreter | None:
    """What the Python that `words` start has installed; None where it does not answer."""
    try:
        answer = subprocess.run(
            [*words, "-c", _QUESTION],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=dict(environment),
            timeout=_PATIENCE_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    _, _, told = answer.stdout.rpartition(b"\n@tachograph ")
    try:
        return msgspec.json.decode(told, type=Interpreter)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
