"""Run a Python program with its model calls recorded; its output, its exit code and its signals stay its own."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from tachograph.cli import running
from tachograph.cli.formats import printable
from tachograph.config import SPOOL, Settings, load, surroundings
from tachograph.errors import ConfigError

if TYPE_CHECKING:
    from tachograph.instrumentation.interpreters import Interpreter
    from tachograph.instrumentation.planning import Choice, Plan

EXAMPLES = ("tachograph run -- python agent.py", "tachograph run --dry-run -- uv run agent.py")


def arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `run`."""
    parser.add_argument(
        "program",
        metavar="COMMAND",
        nargs=argparse.REMAINDER,
        help="what to run, with its arguments; behind -- where it could be taken for a flag",
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be recorded and how, and run nothing")
    parser.add_argument(
        "--install",
        action="store_true",
        help="put what is missing into a folder of Tachograph's own, beside the program's environment",
    )
    parser.add_argument("--quiet", action="store_true", help="say nothing on stderr before the program starts")


def run(arguments: argparse.Namespace) -> int:
    """Become the program; returns only from --dry-run, and on Windows with its exit code."""
    from tachograph.instrumentation import interpreters
    from tachograph.instrumentation.libraries import STARTER

    command = arguments.program[1:] if arguments.program[:1] == ["--"] else arguments.program
    if not command:
        raise ConfigError("command line: got no program; expected a command to run", EXAMPLES[0])
    settings = load({"home": arguments.home})
    environ = surroundings(settings).environment
    program = shutil.which(command[0], path=environ.get("PATH"))
    if program is None:
        raise ConfigError(f"command line: got {command[0]}; expected a program that can be run", "check the PATH")
    words = interpreters.words_to_python(command, environ.get("PATH"))
    recorder: dict[str, str] = {}
    said = [f"no Python answers for {shlex.join(command)}: nothing is recorded"]
    if Path(command[0]).name == STARTER:
        recorder = {name: value for name, value in _variables(settings).items() if name not in environ}
        said = [f"{STARTER} records the program; it was told to send here where your variables do not say otherwise"]
    elif (found := interpreters.ask(words, environ)) is not None:
        plan, beside = _plan(found, words, settings, arguments.install and not arguments.dry_run)
        recorder = _recorder(plan, command, settings, beside)
        said = [*_said(plan, command, environ), *_kept(settings)]
    if arguments.dry_run or not arguments.quiet:
        for line in said:
            print(f"tachograph: {printable(line)}", file=sys.stderr)
    return 0 if arguments.dry_run else _become(program, command, {**environ, **recorder})


def _variables(settings: Settings) -> dict[str, str]:
    """Those of `tachograph env`."""
    from tachograph.cli.env import endpoint
    from tachograph.instrumentation.variables import variables

    return variables(endpoint(settings), settings.content != "none", settings.ingest_token)


def _plan(found: Interpreter, words: Sequence[str], settings: Settings, is_installing: bool) -> tuple[Plan, str]:
    """What is to be recorded with all that is there, and the folder beside the environment ("" = none)."""
    from tachograph.instrumentation import beside, interpreters, planning

    environ = surroundings(settings).environment
    plan = planning.choose(found)
    if is_installing and plan.missing and not beside.is_current(found, settings.home):
        print(f"tachograph: installing {' '.join(plan.missing)}", file=sys.stderr)
        beside.install(found, plan.missing, settings.home, environ)
    if not beside.is_current(found, settings.home):
        return plan, ""
    folder = str(beside.folder_of(found, settings.home))
    path = os.pathsep.join(entry for entry in (environ.get("PYTHONPATH", ""), folder) if entry)
    whole = interpreters.ask(words, {**environ, "PYTHONPATH": path})
    return (plan, "") if whole is None else (planning.choose(whole), folder)


def _recorder(plan: Plan, command: Sequence[str], settings: Settings, beside: str) -> dict[str, str]:
    """The variables that have the program record itself."""
    from tachograph.instrumentation import interpreters, planning

    started = str(time.time_ns() // 1_000_000)
    service, spool = interpreters.name_of(command), settings.home / SPOOL / planning.SPOOLED
    told = planning.for_recorder(plan, service, spool, started, settings.content != "none", beside)
    return planning.environment(told, surroundings(settings).environment, os.pathsep)


def _said(plan: Plan, command: Sequence[str], environ: Mapping[str, str]) -> Iterator[str]:
    """What is recorded and how, what is not, and what to install for it."""
    from tachograph.instrumentation.interpreters import is_isolated

    python = plan.interpreter
    yield f"Python {'.'.join(map(str, python.version))}, {python.prefix}"
    yield from (line for choice in plan.choices for line in _said_of(choice, plan))
    if not plan.choices:
        yield "no library that calls models is installed there: only what the program itself reports is recorded"
    if is_isolated(command):
        yield "the flags -I, -E and -S keep Python from its surroundings, so nothing is recorded"
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        yield "OTEL_SDK_DISABLED is set, so nothing is recorded"
    if plan.missing:
        yield f"try: {shlex.join([python.executable, '-m', 'pip', 'install', *plan.missing])}"
        yield "or leave that environment as it is: tachograph run --install"


def _said_of(choice: Choice, plan: Plan) -> Iterator[str]:
    name = f"{choice.library.name} {choice.version}"
    if choice.candidates:
        package = choice.candidates[0][0].package
        how = f"{package} {plan.interpreter.packages.get(package, '')}".strip()
        yield f"{name}: by {how}"
    elif choice.within:
        yield f"{name}: by {choice.within}; direct calls need {choice.missing}"
    elif choice.library.is_native:
        yield f"{name}: by itself" + (f"; texts need {choice.missing}" if choice.missing else "")
    else:
        yield f"{name}: not recorded, {choice.missing} is missing"


def _kept(settings: Settings) -> Iterator[str]:
    if settings.follow == "off":
        yield "the setting follow is off: recordings wait on disk until it is not"
    elif running.find(settings.home) is None:
        yield "no server runs: recordings wait on disk for the next tachograph up"


def _become(program: str, command: Sequence[str], environ: Mapping[str, str]) -> int:
    """Replace this process by the program, so that its pid, signals and exit code are the program's."""
    sys.stdout.flush()
    sys.stderr.flush()
    return _wait_for(program, command, environ) if os.name == "nt" else _exec(program, command, environ)


def _exec(program: str, command: Sequence[str], environ: Mapping[str, str]) -> NoReturn:
    for number in ("SIGPIPE", "SIGXFSZ"):  # Python ignores them, and a program would inherit that
        signal.signal(getattr(signal, number), signal.SIG_DFL)
    os.execve(program, list(command), dict(environ))


def _wait_for(program: str, command: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run it as a child; Ctrl-C reaches it as well, and is its business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return subprocess.call([program, *command[1:]], env=dict(environ))
