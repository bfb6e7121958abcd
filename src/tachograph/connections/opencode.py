"""Connects OpenCode: one switch in its settings, and the address by its environment, for it has no setting for that."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tachograph.config import Surroundings
from tachograph.connections.contract import ONE_SIGNAL, Connection, Target
from tachograph.connections.edits import JSON_RELAXED, Edit, Entry, SettingsEdit
from tachograph.connections.shell import blocks

_NAMES: Final = ("opencode.jsonc", "opencode.json", "config.json")  # the first wins where several set the same


def _folder(where: Surroundings) -> Path:
    named = where.environment.get("XDG_CONFIG_HOME", "").strip()
    return (Path(named).expanduser() if named else where.user_home / ".config") / "opencode"


def _settings(where: Surroundings) -> Path:
    """The settings file that is there, else the one to make."""
    named = where.environment.get("OPENCODE_CONFIG", "").strip()
    if named:
        return where.user_home / Path(named).expanduser()
    folder = _folder(where)
    return next((folder / name for name in _NAMES if (folder / name).is_file()), folder / "opencode.json")


def _edits(where: Surroundings, target: Target) -> list[Edit]:
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": target.otlp_http}
    if target.token:
        variables["OTEL_EXPORTER_OTLP_HEADERS"] = target.headers.replace("%20", " ")  # it takes them as they stand
    switch = Entry(("experimental", "openTelemetry"), True)
    return [
        SettingsEdit(_settings(where), JSON_RELAXED, (switch,)),
        *blocks(where, "opencode", "opencode", variables),
    ]


OPENCODE: Final = Connection("opencode", "opencode", "OpenCode", ("opencode",), _folder, _edits, winning=ONE_SIGNAL)
