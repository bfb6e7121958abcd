"""Connects Codex: the table [otel] of its settings, with a full address for each signal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tachograph.config import Surroundings
from tachograph.connections.contract import Connection, Target, is_address, named_folder
from tachograph.connections.edits import TOML, Edit, Entry, SettingsEdit

# Without an address of its own, Codex sends metrics elsewhere.
_SIGNALS: Final = {"exporter": "/v1/logs", "trace_exporter": "/v1/traces", "metrics_exporter": "/v1/metrics"}


def _folder(where: Surroundings) -> Path:
    return named_folder(where, "CODEX_HOME", ".codex")


def _exporter(target: Target, end: str) -> dict[str, Any]:
    door: dict[str, Any] = {"endpoint": target.otlp_http + end, "protocol": "binary"}
    if target.token:
        door["headers"] = {"Authorization": f"Bearer {target.token}"}
    return {"otlp-http": door}


def _is_exporter(target: Target, end: str) -> Callable[[Any], bool]:
    """Whether a value is an exporter that connecting writes, whatever its port and token."""
    is_ours = is_address(target, end)

    def is_from_us(value: Any) -> bool:
        door = value.get("otlp-http") if isinstance(value, dict) else None
        return isinstance(door, dict) and door.get("protocol") == "binary" and is_ours(door.get("endpoint"))

    return is_from_us


def _edits(where: Surroundings, target: Target) -> list[Edit]:
    entries = [Entry(("otel", "log_user_prompt"), target.has_content, is_soft=True)]
    entries += [
        Entry(("otel", name), _exporter(target, end), _is_exporter(target, end)) for name, end in _SIGNALS.items()
    ]
    return [SettingsEdit(_folder(where) / "config.toml", TOML, tuple(entries))]


CODEX: Final = Connection("codex", "codex", "Codex", ("codex",), _folder, _edits)
