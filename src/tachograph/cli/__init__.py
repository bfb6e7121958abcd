"""The command line: which commands there are, and what happens when one fails."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final, NoReturn

from tachograph import __version__
from tachograph.errors import ConfigError, TachographError

# In the order of --help: first what one starts with. Each is a module of this folder with EXAMPLES (two),
# arguments(parser) and run(arguments) -> exit code; it is imported when it is asked for, what is heavy when it runs.
COMMANDS: Final = {
    "up": "start the server: telemetry in, pages out",
    "usage": "calls, tokens, errors and cost, by day, model, agent, session, ...",
    "models": "latency, tokens per second, errors and cost of each model",
    "tools": "runs, errors, time and results of each tool",
    "sessions": "sessions, newest first",
    "show": "one session or trace as a tree",
    "export": "a session as Markdown or as one HTML page",
    "explain": "where each number of a model call comes from",
    "tail": "follow model calls and tool runs as they come in",
    "search": "where a text stands in prompts, answers and tool results",
    "sql": "a read-only SQL query",
    "otlp": "model calls as OpenTelemetry spans or metrics, for any backend",
    "run": "a Python program, with its model calls recorded",
    "env": "the variables that have a program send here by itself",
    "import": "what agents have written into files of their own, history included",
    "forward": "where data goes on to: how far, does it work, what was refused, once more",
    "relay": "keep agents' files flowing in while no server runs",
    "connect": "make agents send here: one command per agent",
    "doctor": "what arrives, what is missing, and how to turn it on",
    "replay": "recorded request bodies and transcripts into the store",
    "demo": "recorded sessions to look at, until real data comes",
    "backup": "copy the store to a new folder, also while the server runs",
    "restore": "bring a backup back into an empty home",
}
DONE, FOUND, YOU, US = 0, 1, 2, 3  # exit codes: done, found something, the asker has to act, we have to act
INTERRUPTED: Final = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; every error is one line on stderr and a hint."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] != ["run"]:  # what that starts writes its files as it always did
        os.umask(0o077)  # prompts and answers are nobody else's, in the store as in its backups
    try:
        if not words:
            build_parser("").print_help(sys.stderr)
            return YOU
        arguments = build_parser(words[0]).read(words)
        code: int = arguments.run(arguments)
        sys.stdout.flush()
    except TachographError as error:
        say_error(error)
        return error.exit_code
    except SystemExit as done:  # --help and --version
        return int(done.code or DONE)
    except BrokenPipeError:
        # Whoever read us has seen enough (head, less); the interpreter must not complain about it at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        say_error(ConfigError(f"{error.filename or 'system'}: {error.strerror or error}"))
        return US
    except Exception:  # noqa: BLE001 - a bug of ours, told whole, and by its exit code not taken for a finding
        import traceback

        traceback.print_exc()
        print("tachograph: error: this is a bug of tachograph, with the traceback above", file=sys.stderr)
        return US
    return code


def say_error(error: TachographError) -> None:
    """Write an error as every command does: what, and what to try."""
    from tachograph.cli.formats import printable

    print(f"tachograph: error: {printable(error.what)}", file=sys.stderr)
    if error.hint:
        print(f"tachograph: try: {printable(error.hint)}", file=sys.stderr)


def build_parser(only: str | None = None) -> Parser:
    """The parser of all commands; with `only`, the others are named but have no arguments, which is quicker."""
    parser = Parser(
        prog="tachograph",
        description="The flight recorder for AI agents: what they did, how long it took, what it cost.",
        epilog=_examples(("tachograph up", "tachograph usage --by day --since 7d")),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"tachograph {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)
    for name, summary in COMMANDS.items():
        if only in (None, name):
            _add(commands, name, summary)
        else:
            commands.add_parser(name, help=summary)
    return parser


def _add(commands: Any, name: str, summary: str) -> None:
    module = import_module(f"tachograph.cli.{name}")
    command = commands.add_parser(
        name,
        help=summary,
        description=module.__doc__,
        epilog=_examples(module.EXAMPLES),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.arguments(command)
    command.add_argument(
        "--home", metavar="FOLDER", help="everything that is kept (default: TACHOGRAPH_HOME, else the data folder)"
    )
    command.set_defaults(run=module.run)


def _examples(lines: Sequence[str]) -> str:
    return "examples:\n" + "\n".join(f"  {line}" for line in lines)


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are ours: one line, a hint, exit code 2."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **(kwargs | {"allow_abbrev": False}))

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print, and name what may have been meant."""
        raise ConfigError(f"command line: {message}", _meant(self, message) or f"{self.prog} --help")

    def read(self, words: Sequence[str]) -> argparse.Namespace:
        """As parse_args does; but a flag that a command does not know is told by that command, which lists its own."""
        found, rest = self.parse_known_args(words)
        if rest:
            of = self._commands().get(getattr(found, "command", ""), self)
            of.error(f"unrecognized arguments: {' '.join(rest)}")
        return found

    def _commands(self) -> dict[str, Parser]:
        """The commands below this one."""
        below = [action.choices for action in self._actions if isinstance(action, argparse._SubParsersAction)]
        return dict(below[0]) if below else {}


def _meant(parser: Parser, message: str) -> str:
    """The command, choice or flag that is nearest to a wrong one; nothing where none is near."""
    from difflib import get_close_matches

    wrong = re.search(r"invalid choice: '([^']*)'|unrecognized arguments: (\S+)", message)
    if wrong is None:
        return ""
    known = [str(one) for action in parser._actions for one in (*(action.choices or ()), *action.option_strings)]
    near = get_close_matches(wrong[1] or wrong[2], known, 1)
    return f"{parser.prog} {near[0]}" if near else ""
