"""Connects Pi: our extension, as one of the packages that its settings name."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from tachograph.config import Surroundings
from tachograph.connections import plugin
from tachograph.connections.contract import Connection, Target, named_folder
from tachograph.connections.edits import JSON, Edit, Entry, SettingsEdit


def _folder(where: Surroundings) -> Path:
    return named_folder(where, "PI_CODING_AGENT_DIR", ".pi", "agent")


def _is_ours(value: Any) -> bool:
    """Whether a package is our extension, from this home, another one or a checkout."""
    return isinstance(value, str) and value.replace("\\", "/").rstrip("/").endswith("integrations/pi")


def _edits(where: Surroundings, target: Target) -> list[Edit]:
    package = Entry(("packages",), str(plugin.place(target.home, "pi")), _is_ours, is_item=True)
    return [SettingsEdit(_folder(where) / "settings.json", JSON, (package,))]


PI: Final = Connection("pi", "pi", "Pi", ("pi",), _folder, _edits, plugin="pi")
