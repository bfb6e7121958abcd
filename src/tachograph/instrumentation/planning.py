"""Chooses what records a program: one instrumentation for each library, and what is missing for more."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from tachograph.instrumentation.interpreters import Interpreter
from tachograph.instrumentation.libraries import LIBRARIES, SDK, Candidate, Library

# The folder in the spool; the one that receivers/otlp_file.py reads.
SPOOLED = "python"
INJECTED = Path(__file__).parent / "injected"
# Read by the recorder alone: the plan, as JSON.
VARIABLE = "TACHOGRAPH_RUN"


class Choice(NamedTuple):
    """A library of the program: its version, the instrumentations to try in order, and what would be better."""

    library: Library
    version: str
    candidates: tuple[tuple[Candidate, str], ...]  # with the entry point of each
    missing: str = ""  # the package to install
    within: str = ""  # the library above it that tells its calls


class Plan(NamedTuple):
    """What is recorded in one program, and what has to be installed for the rest."""

    interpreter: Interpreter
    choices: tuple[Choice, ...]
    missing: tuple[str, ...]


def choose(interpreter: Interpreter) -> Plan:
    """The plan for a program in this environment."""
    found = [choice for library in LIBRARIES if (choice := _choice(library, interpreter)) is not None]
    told = {name: one.library.name for one in found if _is_best(one) for name in one.library.tells}
    found = [one._replace(within=told.get(one.library.name, "")) for one in found]
    missing = [] if SDK in interpreter.packages or not found else [SDK]
    missing += [choice.missing for choice in found if choice.missing and not choice.within]
    return Plan(interpreter, tuple(found), tuple(dict.fromkeys(missing)))


def _is_best(choice: Choice) -> bool:
    """Whether the library is recorded as well as it can be."""
    best = choice.library.candidates[:1]
    return not best or [one for one, _ in choice.candidates[:1]] == list(best)


def _choice(library: Library, interpreter: Interpreter) -> Choice | None:
    version = next((interpreter.packages[name] for name in library.packages if name in interpreter.packages), None)
    if version is None:
        return None
    entries = {package: entry for entry, package in interpreter.entries}
    usable = tuple((one, entries[one.package]) for one in library.candidates if one.package in entries)
    missing = "" if usable or not library.candidates else library.candidates[0].package
    return Choice(library, version, usable, missing)


def for_recorder(plan: Plan, service: str, spool: Path, run: str, has_content: bool, beside: str = "") -> str:
    """The plan as the recorder inside the program reads it."""
    told: dict[str, Any] = {
        "service": service,
        "spool": str(spool),
        "run": run,
        "prefix": plan.interpreter.prefix,
        "beside": beside,
        "libraries": [_library(choice, has_content) for choice in plan.choices],
    }
    return msgspec.json.encode(told).decode()


def _library(choice: Choice, has_content: bool) -> dict[str, Any]:
    library = choice.library
    candidates: list[dict[str, Any]] = [
        {
            "package": one.package,
            "entry": entry,
            "environment": one.text if has_content else one.no_text,
            "silences": one.silences,
        }
        for one, entry in choice.candidates
    ]
    if library.name == "pydantic-ai":
        native = {"package": library.name, "entry": library.name, "environment": {}, "silences": ()}
        candidates = [{**native, "has_content": has_content}]
    families = [one.module for one in library.candidates]
    return {"name": library.name, "module": library.module, "candidates": candidates, "families": families}


def environment(plan: str, environ: Mapping[str, str], separator: str) -> dict[str, str]:
    """The variables that have a program record itself, to be set over its own."""
    behind = environ.get("PYTHONPATH", "")
    path = str(INJECTED) + (separator + behind if behind else "")
    return {"PYTHONPATH": path, VARIABLE: plan}
