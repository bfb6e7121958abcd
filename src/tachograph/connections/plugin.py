"""Our plug-ins for agents: they come with the package and are copied into the home, where no upgrade takes them away.

An agent whose settings name a folder that is gone complains at every start. The copy stays where it is when the
environment that Tachograph was installed in is moved or removed.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tachograph.errors import ConfigError

FOLDER: Final = "integrations"
_PACKAGE: Final = Path(__file__).parents[1]
_NOT_COPIED: Final = ("node_modules", "test", "tests", "__pycache__", "package-lock.json", "tsconfig.json")


def shipped(name: str) -> Path:
    """Where the plug-in came with the package: within it, or beside the sources of a checkout. Raises ConfigError."""
    for folder in (_PACKAGE / FOLDER / name, _PACKAGE.parents[1] / FOLDER / name):
        if (folder / "package.json").is_file():
            return folder
    raise ConfigError(
        f"{name}: the plug-in did not come with this installation", "pip install --force-reinstall tachograph"
    )


def place(home: Path, name: str) -> Path:
    """Where the copy is."""
    return home / FOLDER / name


def is_current(home: Path, name: str) -> bool:
    """Whether the copy is there and what came with the package."""
    return _content(place(home, name)) == _content(shipped(name))


def copy(home: Path, name: str) -> None:
    """Copy the plug-in into the home, whole or not at all."""
    source, target = shipped(name), place(home, name)
    new = target.with_name(f"{name}.new")
    try:
        shutil.rmtree(new, ignore_errors=True)
        for path in _files(source):
            copied = new / path.relative_to(source)
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copied)
        shutil.rmtree(target, ignore_errors=True)
        new.rename(target)
    except OSError as error:
        raise ConfigError(f"{target}: cannot be written: {error.strerror}", "look at the rights of the home") from None


def discard(home: Path, name: str) -> None:
    """Take the copy away, and the folder of copies with the last."""
    target = place(home, name)
    shutil.rmtree(target, ignore_errors=True)
    if target.parent.is_dir() and not any(target.parent.iterdir()):
        target.parent.rmdir()


def _files(folder: Path) -> Iterator[Path]:
    """What of a plug-in is copied: not what only its developers need."""
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_file() and not any(part in _NOT_COPIED or part.startswith(".") for part in parts):
            yield path


def _content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in _files(folder)}
