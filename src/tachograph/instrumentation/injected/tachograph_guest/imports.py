"""Says when a module has been imported, so that nothing is loaded that the program does not load itself."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

Act = Callable[[ModuleType], None]

_waiting: dict[str, list[Act]] = {}


class _Watch:
    """Stands first among the finders, finds nothing itself, and sees what the others find."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: Any = None) -> ModuleSpec | None:
        """The spec of a watched module as the other finders make it, with the acts to follow its execution."""
        if name not in _waiting:
            return None
        acts = _waiting.pop(name)  # before looking on: this finder is asked again, and then lets the others find it
        spec = find_spec(name)
        if spec is None or spec.loader is None:
            _waiting[name] = acts  # not there now, but a path may be added
            return spec
        _follow(spec.loader, acts)
        return spec


def _follow(loader: Any, acts: list[Act]) -> None:
    """Have the acts follow once the loader has executed the module."""
    execute = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        del loader.exec_module
        execute(module)
        _act(module, acts)

    loader.exec_module = exec_module


def after(name: str, act: Act) -> None:
    """Call `act` with the module once it is imported; at once where it is already."""
    module = sys.modules.get(name)
    if module is not None:
        _act(module, [act])
        return
    _waiting.setdefault(name, []).append(act)
    if not any(isinstance(finder, _Watch) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Watch())


def _act(module: ModuleType, acts: list[Act]) -> None:
    for act in acts:
        try:
            act(module)
        except Exception as error:  # noqa: BLE001 - the program's import must not fail for a recorder
            say(f"{module.__name__} is not recorded: {error!r}")


def say(text: str) -> None:
    """A line for whoever runs the program."""
    try:
        print(f"tachograph: {text}", file=sys.stderr)
    except (OSError, ValueError):
        return  # stderr is closed: nobody listens
