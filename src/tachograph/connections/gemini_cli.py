"""Connects Gemini CLI: the object `telemetry` of its settings; a token goes through the environment."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tachograph.config import Surroundings
from tachograph.connections.contract import Connection, Target, is_address, named_folder
from tachograph.connections.edits import ABSENT, JSON_WITH_COMMENTS, Edit, Entry, SettingsEdit
from tachograph.connections.shell import blocks


def _folder(where: Surroundings) -> Path:
    return named_folder(where, "GEMINI_CLI_HOME") / ".gemini"


def _edits(where: Surroundings, target: Target) -> list[Edit]:
    wanted = {"enabled": True, "traces": True, "target": "local", "otlpProtocol": "http"}
    entries = [Entry(("telemetry", name), value) for name, value in wanted.items()]
    entries.append(Entry(("telemetry", "otlpEndpoint"), target.otlp_http, is_address(target)))
    entries.append(Entry(("telemetry", "logPrompts"), target.has_content, is_soft=True))
    entries.append(Entry(("telemetry", "outfile"), ABSENT))  # where it is set, nothing is sent
    variables = {"OTEL_EXPORTER_OTLP_HEADERS": target.headers} if target.token else {}
    return [
        SettingsEdit(_folder(where) / "settings.json", JSON_WITH_COMMENTS, tuple(entries)),
        *blocks(where, "gemini", "gemini", variables),
    ]


GEMINI_CLI: Final = Connection(
    "gemini",
    "gemini-cli",
    "Gemini CLI",
    ("gemini",),
    _folder,
    _edits,
    winning=(
        "GEMINI_TELEMETRY_ENABLED",
        "GEMINI_TELEMETRY_TRACES_ENABLED",
        "GEMINI_TELEMETRY_TARGET",
        "GEMINI_TELEMETRY_OTLP_ENDPOINT",
        "GEMINI_TELEMETRY_OTLP_PROTOCOL",
        "GEMINI_TELEMETRY_LOG_PROMPTS",
        "GEMINI_TELEMETRY_OUTFILE",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
    ),
)
