"""Connects GitHub Copilot: VS Code by its settings, the CLI by its environment, for it has no file for this."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from tachograph.config import Surroundings
from tachograph.connections.contract import ONE_SIGNAL, Connection, Target, is_address, named_folder
from tachograph.connections.edits import JSON_RELAXED, Edit, Entry, SettingsEdit
from tachograph.connections.shell import blocks

_VSCODE: Final = "github.copilot.chat.otel."
_EDITORS: Final = ("Code", "Code - Insiders")


def _folder(where: Surroundings) -> Path:
    return named_folder(where, "COPILOT_HOME", ".copilot")


def _editors(where: Surroundings) -> list[Path]:
    """The settings folders of VS Code that are there."""
    variables = where.environment
    if sys.platform == "darwin":
        base = where.user_home / "Library" / "Application Support"
    elif sys.platform == "win32":
        base = Path(variables.get("APPDATA") or where.user_home / "AppData" / "Roaming")
    else:
        base = Path(variables.get("XDG_CONFIG_HOME") or where.user_home / ".config")
    return [folder for name in _EDITORS if (folder := base / name / "User").is_dir()]


def _edits(where: Surroundings, target: Target) -> list[Edit]:
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": target.otlp_http,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
    }
    if target.has_content:
        variables["OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"] = "true"
    if target.token:
        variables["OTEL_EXPORTER_OTLP_HEADERS"] = target.headers
    entries = (
        Entry((_VSCODE + "enabled",), True),
        Entry((_VSCODE + "exporterType",), "otlp-http"),
        Entry((_VSCODE + "otlpEndpoint",), target.otlp_http, is_address(target)),
        Entry((_VSCODE + "captureContent",), True, is_left=not target.has_content, is_soft=True),
    )
    editors: list[Edit] = [SettingsEdit(folder / "settings.json", JSON_RELAXED, entries) for folder in _editors(where)]
    return [*editors, *blocks(where, "copilot", "copilot", variables)]


COPILOT: Final = Connection("copilot", "copilot", "GitHub Copilot", ("copilot",), _folder, _edits, winning=ONE_SIGNAL)
