"""Connects Claude Code: variables in its settings file, which it sets for itself at every start."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tachograph.config import Surroundings
from tachograph.connections.contract import ONE_SIGNAL, Connection, Target, is_address, is_token, named_folder
from tachograph.connections.edits import ABSENT, JSON, Edit, Entry, SettingsEdit

_SWITCHES: Final = {
    "CLAUDE_CODE_ENABLE_TELEMETRY": "1",
    "CLAUDE_CODE_ENHANCED_TELEMETRY_BETA": "1",  # without it there are no traces
    "OTEL_TRACES_EXPORTER": "otlp",
    "OTEL_LOGS_EXPORTER": "otlp",
    "OTEL_METRICS_EXPORTER": "otlp",
    "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
}
_TEXTS: Final = ("OTEL_LOG_USER_PROMPTS", "OTEL_LOG_TOOL_DETAILS", "OTEL_LOG_TOOL_CONTENT")


def _folder(where: Surroundings) -> Path:
    return named_folder(where, "CLAUDE_CONFIG_DIR", ".claude")


def _edits(where: Surroundings, target: Target) -> list[Edit]:
    entries = [Entry(("env", name), value) for name, value in _SWITCHES.items()]
    entries.append(Entry(("env", "OTEL_EXPORTER_OTLP_ENDPOINT"), target.otlp_http, is_address(target)))
    headers = Entry(("env", "OTEL_EXPORTER_OTLP_HEADERS"), target.headers or "", is_token)
    entries.append(headers if target.token else headers._replace(value=ABSENT))
    entries += [Entry(("env", name), "1", is_left=not target.has_content, is_soft=True) for name in _TEXTS]
    entries += [Entry(("env", name), ABSENT) for name in ONE_SIGNAL]
    return [SettingsEdit(_folder(where) / "settings.json", JSON, tuple(entries))]


CLAUDE_CODE: Final = Connection(
    "claude-code", "claude-code", "Claude Code", ("claude",), _folder, _edits, winning=ONE_SIGNAL
)
