"""Plans what connecting an agent changes, and carries it out: all files are looked at before the first is written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tachograph.config import Surroundings
from tachograph.connections import files, plugin
from tachograph.connections.contract import Connection, Target
from tachograph.connections.edits import Edit
from tachograph.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Change:
    """One file from `old` to `new`, None = there is no file; `is_backup_due` before the first change of ours."""

    edit: Edit
    old: str | None
    new: str | None
    is_backup_due: bool = False
    is_undo: bool = False

    @property
    def is_change(self) -> bool:
        """Whether the file changes at all."""
        return self.old != self.new


def plan(connection: Connection, where: Surroundings, target: Target, is_forced: bool = False) -> list[Change]:
    """What connecting an agent changes; raises ConfigError where a file cannot be read or has other plans.

    With `is_forced`, what somebody else has set gives way, and undoing brings it back.
    """
    changes = [_change(edit) for edit in connection.edits(where, target)]
    if not any(change.edit.applied("", None) for change in changes):
        raise ConfigError(
            f"{connection.name}: reads this from its environment; expected a start-up file of bash, zsh or fish",
            f"set OTEL_EXPORTER_OTLP_ENDPOINT={target.otlp_http} where it is started",
        )
    if not is_forced:
        _check(connection, changes)
    return changes


def _change(edit: Edit) -> Change:
    old, before = files.read(edit.path), files.read(edit.backup)
    new = edit.applied(old or "", before)
    return Change(edit, old, new if new != (old or "") else old, before is None)


def _check(connection: Connection, changes: Sequence[Change]) -> None:
    """Raise ConfigError for what somebody else has set in the files that change."""
    for change in changes:
        if change.is_change:
            conflicts = change.edit.conflicts(change.old or "", files.read(change.edit.backup))
            if conflicts:
                raise ConfigError(
                    f"{change.edit.path}: {'; '.join(conflicts)}: {connection.title} has other plans there; "
                    "nothing was changed",
                    f"tachograph connect {connection.name} --force, which --undo takes back",
                )


def plan_undo(connection: Connection, where: Surroundings, target: Target) -> list[Change]:
    """What undoing changes: back to what was before, byte for byte where nothing else was changed since."""
    changes = []
    for edit in connection.edits(where, target):
        old, before = files.read(edit.path), files.read(edit.backup)
        if old is None or (before is not None and edit.is_untouched(old, before)):
            changes.append(Change(edit, old, (before or None) if old is not None else None, is_undo=True))
            continue
        if before is None and not edit.is_there(old):
            changes.append(Change(edit, old, old, is_undo=True))  # settings of the user that are like ours
            continue
        new = edit.undone(old, before)
        is_made_by_us = before == "" and not _says_anything(new)
        changes.append(Change(edit, old, None if is_made_by_us else new, is_undo=True))
    return changes


def _says_anything(text: str) -> bool:
    """Whether a settings file holds more than an empty object."""
    return bool(text.strip().strip("{}").strip())


def by_hand(connection: Connection, where: Surroundings, target: Target) -> list[tuple[Path, str]]:
    """What to write by hand instead: each file, and what it would hold if it held nothing else."""
    told = [(edit.path, edit.applied("", None)) for edit in connection.edits(where, target)]
    if connection.plugin and not plugin.place(target.home, connection.plugin).is_dir():
        copied, here = plugin.place(target.home, connection.plugin), plugin.shipped(connection.plugin)
        told = [(path, text.replace(_quoted(copied), _quoted(here))) for path, text in told]
    return [(path, text) for path, text in told if text]


def _quoted(path: Path) -> str:
    """A path as it stands within the quotes of a settings file."""
    return json.dumps(str(path), ensure_ascii=False)[1:-1]


def needs_plugin(connection: Connection, target: Target, is_undo: bool) -> bool:
    """Whether our plug-in for an agent has to be copied, or taken away."""
    if not connection.plugin:
        return False
    if is_undo:
        return plugin.place(target.home, connection.plugin).is_dir()
    return not plugin.is_current(target.home, connection.plugin)


def carry_out(connection: Connection, target: Target, changes: Sequence[Change], is_undo: bool = False) -> None:
    """Make the changes. The plug-in is there before a setting names it, and goes after the last that does."""
    is_due = needs_plugin(connection, target, is_undo)
    if is_due and not is_undo:
        plugin.copy(target.home, connection.plugin)
    for change in changes:
        _write(change)
    if is_due and is_undo:
        plugin.discard(target.home, connection.plugin)


def _write(change: Change) -> None:
    edit = change.edit
    if change.is_change:
        if change.is_backup_due:
            files.keep(edit.path, edit.backup)
        if change.new is None:
            files.remove(edit.path.resolve())
        elif change.is_undo and files.read(edit.backup) == change.new:
            files.put_back(edit.path, edit.backup)
        else:
            files.replace(edit.path, change.old, change.new)
    if change.is_undo:
        files.remove(edit.backup)


@dataclass(frozen=True, slots=True)
class State:
    """Where a connection stands.

    `is_connected`: all that is wanted is there. `is_partly`: some of it, or with an address that is no longer ours.
    `since_ns` is when connecting changed the first file, 0 where it never did. `paths` are the files concerned.
    `trouble` is what keeps a file from being read, `others` what somebody else has set in them.
    """

    is_connected: bool
    is_partly: bool
    since_ns: int
    paths: list[Path]
    is_plugin_old: bool = False
    trouble: str = ""
    others: tuple[str, ...] = ()


def state(connection: Connection, where: Surroundings, target: Target) -> State:
    """How an agent is connected at present; raises nothing."""
    try:
        changes = [_change(edit) for edit in connection.edits(where, target)]
        is_there = any(change.edit.is_there(change.old or "") for change in changes)
        others = [
            conflict
            for change in changes
            if change.is_change
            for conflict in change.edit.conflicts(change.old or "", files.read(change.edit.backup))
        ]
        has_plugin = not connection.plugin or plugin.place(target.home, connection.plugin).is_dir()
        is_old = bool(connection.plugin) and has_plugin and not plugin.is_current(target.home, connection.plugin)
    except ConfigError as error:
        return State(False, False, 0, [], trouble=error.what)
    is_done = bool(changes) and has_plugin and not any(change.is_change for change in changes)
    times = [change.edit.backup.stat().st_mtime_ns for change in changes if change.edit.backup.is_file()]
    paths = [change.edit.path for change in changes if change.edit.applied("", None)]
    is_partly = not is_done and (is_there or bool(times))
    return State(is_done, is_partly, min(times, default=0), paths, is_old, others=tuple(others))
