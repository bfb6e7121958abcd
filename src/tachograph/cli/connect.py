"""Make agents send here by editing their own settings; without AGENT, say which are here and how they stand."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tachograph.cli.arguments import add_json, settings
from tachograph.cli.formats import moment
from tachograph.cli.periods import add_timezone, timezone_name
from tachograph.cli.tables import Column, write_json, write_lines, write_table, write_whole
from tachograph.errors import ConfigError, TachographError

if TYPE_CHECKING:
    from tachograph.cli.connecting import Found
    from tachograph.config import Settings, Surroundings
    from tachograph.connections import Change, Connection, Target

EXAMPLES = ("tachograph connect", "tachograph connect claude-code --dry-run")

_COLUMNS = (
    Column("agent"),
    Column("here", rank=1),
    Column("state"),
    Column("by", rank=2),
    Column("last data"),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `connect`."""
    parser.add_argument(
        "agents",
        metavar="AGENT",
        nargs="*",
        help="pi, openclaw, claude-code, codex, gemini, copilot, opencode; several, if given",
    )
    deed = parser.add_mutually_exclusive_group()
    deed.add_argument("--undo", action="store_true", help="bring back what was there before; later edits stay")
    deed.add_argument("--status", action="store_true", help="only say how it stands; exit 1 if not connected")
    parser.add_argument("--dry-run", action="store_true", help="show what would change, and change nothing")
    parser.add_argument("--force", action="store_true", help="also where the settings point elsewhere already")
    add_timezone(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Connect, undo or say how it stands."""
    from tachograph.cli import connecting, say_error

    chosen = settings(arguments)
    asked = [connecting.named(name) for name in dict.fromkeys(arguments.agents)]
    if not asked and (arguments.undo or arguments.dry_run or arguments.force):
        raise ConfigError("command line: AGENT: got none; expected one or more", "tachograph connect claude-code")
    if not asked or arguments.status:
        return _status(arguments, chosen, asked)
    from tachograph.config import surroundings

    where, target = surroundings(chosen), connecting.target_of(chosen)
    told, errors = [], []
    for connection in asked:
        try:
            told.append(_deed(arguments, connection, where, target))
        except TachographError as error:  # what was changed before is told, and the others have their turn
            errors.append(error)
            continue
        if not arguments.json:
            write_whole(_lines(connection, told[-1], arguments))
            if not arguments.undo and not arguments.dry_run:
                write_lines(_next(connecting.find(connection, where, target), chosen, where))
    if arguments.json and (told or not errors):
        write_json({"agents": told})
    for earlier in errors[:-1]:
        say_error(earlier)
    if errors:
        raise errors[-1]
    return 0


def _deed(arguments: argparse.Namespace, connection: Connection, where: Surroundings, target: Target) -> dict[str, Any]:
    """Connect or undo one agent; what changed."""
    from tachograph import connections
    from tachograph.cli import connecting

    if arguments.undo:
        changes = connections.plan_undo(connection, where, target)
    else:
        connecting.require_door(target, connection)
        changes = connections.plan(connection, where, target, is_forced=arguments.force)
    is_news = any(change.is_change for change in changes) or connections.needs_plugin(
        connection, target, arguments.undo
    )
    if not arguments.dry_run:
        connections.carry_out(connection, target, changes, is_undo=arguments.undo)
    return {
        "agent": connection.name,
        "changed": is_news and not arguments.dry_run,
        "would_change": is_news,
        "files": [
            {
                "path": str(change.edit.path),
                "backup": str(change.edit.backup) if change.edit.backup.exists() else None,
                "diff": list(_diff(change, target.token)),
            }
            for change in changes
            if change.is_change
        ],
    }


def _diff(change: Change, token: str) -> Iterator[str]:
    """The changed lines, as `diff -u` marks them, without secrets."""
    from tachograph.cli.connecting import masked

    old, new = (change.old or "").splitlines(), (change.new or "").splitlines()
    for line in list(difflib.unified_diff(old, new, n=0, lineterm=""))[2:]:
        yield line if line.startswith("@@") else masked(line, token)


def _lines(connection: Connection, done: dict[str, Any], arguments: argparse.Namespace) -> Iterator[str]:
    """What was changed, or would be."""
    if not done["would_change"]:
        yield f"{connection.name}: {'was not connected' if arguments.undo else 'connected already'}, nothing changed"
        return
    for file in done["files"]:
        yield file["path"]
        yield from (f"  {line}" for line in file["diff"])
    deed = "disconnected" if arguments.undo else "connected"
    yield f"{connection.name}: {f'would be {deed}; nothing changed' if arguments.dry_run else deed}"


def _next(found: Found, chosen: Settings, where: Surroundings) -> Iterator[str]:
    """What to do now."""
    from tachograph.cli import connecting, running

    title = found.connection.title
    yield from (f"note: {note}" for note in connecting.notes(found, chosen, where.environment))
    if not found.is_installed:
        yield f"note: {title} was not found here; it will send once it is installed"
    steps = []
    if running.find(chosen.home) is None:
        steps.append("tachograph up")
    shells = [path for path in found.state.paths if _is_profile(path)]
    again = "in a new terminal" if shells else "anew"
    steps += [f"start {title} {again}", "tachograph doctor says when data arrives"]
    yield f"next: {'; '.join(steps)}"


def _is_profile(path: Path) -> bool:
    """Whether a file is read by shells when they start."""
    return path.suffix == ".fish" or path.name in (".bashrc", ".bash_profile", ".zshrc")


def _status(arguments: argparse.Namespace, chosen: Settings, connections: Sequence[Connection]) -> int:
    """Say how agents stand; 1 where one that was asked for is not connected."""
    from tachograph import questions
    from tachograph.cli import connecting

    wanted = {connection.name for connection in connections}
    found = [one for one in connecting.look(chosen) if not wanted or one.connection.name in wanted]
    last = connecting.newest(chosen)
    if arguments.json:
        write_json({"agents": [connecting.as_json(one, last.get(one.connection.agent)) for one in found]})
    else:
        zone = questions.zone_of(timezone_name(arguments))
        rows = [
            [
                one.connection.name,
                _here(one),
                connecting.word(one),
                connecting.ways(one),
                moment(last[one.connection.agent], zone) if one.connection.agent in last else "none",
            ]
            for one in found
        ]
        write_table(_COLUMNS, rows)
        write_lines(_details(found, bool(wanted)))
    return 1 if wanted and not all(one.state.is_connected for one in found) else 0


def _here(found: Found) -> str:
    """Whether an agent is installed, and which version."""
    if found.program:
        return found.version or "yes"
    return "its folder" if found.is_installed else "no"


def _details(found: Sequence[Found], is_asked: bool) -> Iterator[str]:
    """What stands in the way, the files concerned where one was asked for, and the line that connects the rest."""
    for one in found:
        yield from (f"{one.connection.name}: {other}" for other in one.state.others)
        if one.state.trouble:
            yield f"{one.connection.name}: {one.state.trouble}"
        if is_asked:
            yield from (f"{one.connection.name}: {path}" for path in one.state.paths)
    waiting = [one.connection.name for one in found if one.is_installed and not one.state.is_connected]
    if waiting and not is_asked:
        yield f"to connect: tachograph connect {' '.join(waiting)}"
