"""Connects OpenClaw: our plug-in, and the leave to see conversations that it needs for tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from tachograph.config import Surroundings
from tachograph.connections import files, plugin
from tachograph.connections.contract import Connection, Target, named_folder
from tachograph.connections.edits import ABSENT, JSON_5, Edit, Entry, SettingsEdit, look_up

_ID: Final = "tachograph"  # of the plug-in, as its openclaw.plugin.json says


def _folder(where: Surroundings) -> Path:
    home = named_folder(where, "OPENCLAW_HOME")
    return named_folder(where, "OPENCLAW_STATE_DIR", str(home / ".openclaw"))


def _settings(where: Surroundings) -> Path:
    return named_folder(where, "OPENCLAW_CONFIG_PATH", str(_folder(where) / "openclaw.json"))


def _is_ours(value: Any) -> bool:
    """Whether a load path is our plug-in, from this home, another one or a checkout."""
    return isinstance(value, str) and value.replace("\\", "/").rstrip("/").endswith("integrations/openclaw")


def _edits(where: Surroundings, target: Target) -> list[Edit]:
    path = _settings(where)
    entry = ("plugins", "entries", _ID)
    entries = [
        Entry(("plugins", "load", "paths"), str(plugin.place(target.home, "openclaw")), _is_ours, is_item=True),
        Entry((*entry, "enabled"), True),
        Entry((*entry, "hooks", "allowConversationAccess"), True),
    ]
    # A list of what may load shuts out what it does not name; without one, every plug-in may.
    allowed = look_up(JSON_5.parse(files.read(path) or "", str(path)), ("plugins", "allow"))
    if allowed is not ABSENT:
        entries.append(Entry(("plugins", "allow"), _ID, is_item=True))
    return [SettingsEdit(path, JSON_5, tuple(entries))]


OPENCLAW: Final = Connection("openclaw", "openclaw", "OpenClaw", ("openclaw",), _folder, _edits, plugin="openclaw")
