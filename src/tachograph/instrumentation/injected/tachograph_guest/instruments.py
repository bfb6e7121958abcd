"""Instruments a library when the program imports it, and gives way where the program does so itself."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

from . import providers
from .imports import say

_libraries: dict[str, dict[str, Any]] = {}
_taken: set[str] = set()  # libraries that the program instruments itself
_active: dict[str, Any] = {}  # library -> our instrumentor
_variables: dict[str, list[str]] = {}  # library -> variables that we set for it
_busy = False


def plan(libraries: list[dict[str, Any]]) -> None:
    """What there is to instrument: name, module, and candidates in order of preference."""
    _libraries.update({library["name"]: library for library in libraries})


def on_import(library: dict[str, Any]) -> Callable[[ModuleType], None]:
    """The act that instruments a library by the first candidate that takes it."""

    def instrument(_: ModuleType) -> None:
        name = library["name"]
        if name in _taken or name in _active or providers.ours() is None:
            return
        reasons = [reason for candidate in library["candidates"] if (reason := _try(name, candidate)) is not None]
        if name not in _active and reasons:
            say(f"{name} is not recorded: {'; '.join(reasons)}")

    return instrument


def _try(name: str, candidate: dict[str, Any]) -> str | None:
    """Why this candidate did not take the library; None where it did, or another one had before."""
    global _busy
    if name in _active:
        return None
    _set(name, candidate["environment"])
    _busy = True
    try:
        _active[name] = _start(candidate)
    except Exception as error:  # noqa: BLE001 - any instrumentation may fail on any version of its library
        _unset(name)
        return f"{candidate['package']}: {error!r}"
    finally:
        _busy = False
    providers.silent.update(candidate["silences"])
    return None


def _start(candidate: dict[str, Any]) -> Any:
    """Start one instrumentation with providers that lead to us alone; raises whatever it raises."""
    from opentelemetry.metrics import NoOpMeterProvider

    told: dict[str, Any] = {"tracer_provider": providers.ours(), "meter_provider": NoOpMeterProvider()}
    if candidate["entry"] == "pydantic-ai":
        return _pydantic_ai(told, candidate["has_content"])
    module, _, name = candidate["entry"].partition(":")
    instrumentor = getattr(import_module(module), name)()
    try:
        from opentelemetry._logs import NoOpLoggerProvider

        told["logger_provider"] = NoOpLoggerProvider()
    except ImportError:
        told.pop("logger_provider", None)  # an older OpenTelemetry has no logs
    instrumentor.instrument(raise_exception_on_conflict=True, **told)
    if not instrumentor.is_instrumented_by_opentelemetry:
        raise RuntimeError("it does not fit the version installed")
    return instrumentor


def _pydantic_ai(told: dict[str, Any], has_content: bool) -> Any:
    from pydantic_ai import Agent  # type: ignore[import-not-found,unused-ignore]
    from pydantic_ai.models.instrumented import (  # type: ignore[import-not-found,unused-ignore]
        InstrumentationSettings,
    )

    Agent.instrument_all(InstrumentationSettings(include_content=has_content, **told))
    return Agent


def give_way(module: ModuleType) -> None:
    """Take our instrumentation of a library back when the program starts one; `module` defines BaseInstrumentor."""
    base: Any = module.BaseInstrumentor
    instrument = base.instrument

    def instead(self: Any, **kwargs: Any) -> Any:
        if not _busy:
            for name, library in _libraries.items():
                if any(f"{type(self).__module__}.".startswith(f"{family}.") for family in library["families"]):
                    step_aside(name)
        return instrument(self, **kwargs)

    base.instrument = instead


def give_way_to_logfire(module: ModuleType) -> None:
    """The same for Logfire, whose instrumentations are functions of its own."""
    for name in _libraries:
        _before(module, f"instrument_{name.replace('-', '_')}", name)


def _before(module: ModuleType, function: str, library: str) -> None:
    original = getattr(module, function, None)
    if original is None:
        return

    def instead(*args: Any, **kwargs: Any) -> Any:
        step_aside(library)
        return original(*args, **kwargs)

    setattr(module, function, instead)


def step_aside(name: str) -> None:
    """The program instruments this library itself: it stays as it would be without us."""
    _taken.add(name)
    instrumentor = _active.pop(name, None)
    if instrumentor is not None and hasattr(instrumentor, "uninstrument"):
        instrumentor.uninstrument()
    providers.silent.difference_update(
        scope for candidate in _libraries[name]["candidates"] for scope in candidate["silences"]
    )
    _unset(name)


def _set(name: str, variables: dict[str, str]) -> None:
    """Set the variables of an instrumentation that nobody has set."""
    _variables[name] = [variable for variable in variables if variable not in os.environ]
    os.environ.update({variable: variables[variable] for variable in _variables[name]})


def _unset(name: str) -> None:
    kept = {variable for library, variables in _variables.items() if library != name for variable in variables}
    for variable in _variables.pop(name, []):
        if variable not in kept:
            os.environ.pop(variable, None)
