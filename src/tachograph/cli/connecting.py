"""What agents are on this machine, how they are connected, and whether their data arrives."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple

from tachograph import registry
from tachograph.cli import running
from tachograph.config import Settings, Surroundings, default_home, surroundings
from tachograph.connections import Connection, State, Target, state
from tachograph.errors import ConfigError, TachographError
from tachograph.scan import Agg, Bucket, Match, Reader, Scan

_USUAL: Final = "http://127.0.0.1:4318"
_LEVELS: Final = 4  # folders above a program in which its package may say its version


class Found(NamedTuple):
    """One agent on this machine: its program ("" = not on the PATH), the version of that, and its folder."""

    connection: Connection
    program: str
    version: str
    folder: Path
    state: State

    @property
    def is_installed(self) -> bool:
        """Whether it is here, by its program or by the folder that it writes into."""
        return bool(self.program) or self.folder.is_dir()


def named(name: str) -> Connection:
    """The connection that people call so; raises ConfigError where none is."""
    for connection in registry.CONNECTIONS:
        if name in (connection.name, connection.agent):
            return connection
    names = ", ".join(connection.name for connection in registry.CONNECTIONS)
    raise ConfigError(f'command line: AGENT: got "{name}"; expected one of {names}', "tachograph connect claude-code")


def target_of(settings: Settings) -> Target:
    """Where agents send to: the door of the running server, else the one that the settings open."""
    found = running.find(settings.home)
    door = found.otlp_http if found is not None else ""
    if not door and settings.otlp_http is not None and settings.otlp_http.port:
        door = running.reachable(settings.otlp_http)
    address = door if "://" in door or not door else f"http://{door}"
    return Target(address.rstrip("/"), settings.home, settings.content, settings.ingest_token)


def require_door(target: Target, connection: Connection) -> None:
    """Raise ConfigError where there is no door that this agent could send to."""
    if not target.otlp_http and not connection.plugin:
        raise ConfigError(
            f"{connection.name}: otlp_http is off or has a free port; expected a door to connect to",
            'otlp_http = "127.0.0.1:4318" in tachograph.toml, or start the server first',
        )


def look(settings: Settings) -> list[Found]:
    """All agents that can be connected, whether or not they are here."""
    where, target = surroundings(settings), target_of(settings)
    return [find(connection, where, target) for connection in registry.CONNECTIONS]


def find(connection: Connection, where: Surroundings, target: Target) -> Found:
    """One agent on this machine."""
    path = where.environment.get("PATH", os.defpath)
    programs = (shutil.which(program, path=path) for program in connection.programs)
    program = next((found for found in programs if found), "")
    known = target if target.otlp_http else Target(_USUAL, target.home, target.content, target.token)
    folder = connection.folder(where)
    return Found(connection, program, _version(program), folder, state(connection, where, known))


def _version(program: str) -> str:
    """The version of a program by the package that it came in; "" where that is not told. It is not started for it."""
    if not program:
        return ""
    for folder in list(Path(program).resolve().parents)[:_LEVELS]:
        try:
            told = json.loads((folder / "package.json").read_bytes())
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(told, dict) and isinstance(told.get("version"), str):
            return str(told["version"])[:40]
    return ""


def newest(settings: Settings) -> Mapping[str, int]:
    """When the newest session of each agent ended; nothing where there is no store, or another command has it."""
    from tachograph.cli.reading import open_reader

    if running.find(settings.home) is None and not any(settings.home.glob("*.duckdb")):
        return {}
    with ExitStack() as stack:
        try:
            reader = stack.enter_context(open_reader(settings))
        except TachographError:
            return {}
        return last_data(reader)


def last_data(reader: Reader) -> Mapping[str, int]:
    """When the newest session of each agent ended; what the demo shows is nobody's."""
    wanted: dict[str, str | Agg | Bucket] = {"agent": "agent", "last": Agg("max", "end_ns")}
    rows = reader.scan(Scan("sessions", wanted, (Match("is_demo", "=", False),), group_by=("agent",))).rows()
    return {row["agent"]: row["last"] for row in rows if row["last"]}


def ways(found: Found) -> str:
    """By what the data of an agent comes: its settings, our plug-in, the files that it writes."""
    by = []
    if found.state.is_connected:
        by.append("plug-in" if found.connection.plugin else "settings")
    if any(kind.agent == found.connection.agent for kind in registry.TRANSCRIPTS):
        by.append("its files")
    return ", ".join(by)


def word(found: Found) -> str:
    """How an agent is connected, in a word or two."""
    if found.state.trouble:
        return "unreadable settings"
    if found.state.is_connected:
        return "connected, older plug-in" if found.state.is_plugin_old else "connected"
    if found.state.others:
        return "set to something else"
    return "out of date" if found.state.is_partly else "not connected"


def notes(found: Found, settings: Settings, environment: Mapping[str, str]) -> Iterator[str]:
    """What may still keep an agent's data from arriving; one sentence each."""
    connection = found.connection
    for name in connection.winning:
        if environment.get(name):
            yield f"{name} is set in this environment and wins over the settings of {connection.title}"
    if connection.plugin and settings.home != default_home():
        yield f"{connection.title} has to be started with TACHOGRAPH_HOME={settings.home}: it is not the usual home"
    if settings.ingest_token and not connection.plugin:
        for path in found.state.paths:
            if os.name == "posix" and path.is_file() and path.stat().st_mode & 0o044:
                yield f"{path} holds the token now and others on this machine may read it: chmod 600"
    if found.state.is_plugin_old:
        yield f"our plug-in there is not the one of this version: tachograph connect {connection.name}"


_HEADERS: Final = re.compile(r"""((?i:headers|token)["']?\s*[:=]\s*).+""")


def masked(line: str, token: str) -> str:
    """A line of a settings file as it may be shown: without secrets, whoever put them there."""
    from tachograph.redaction import redact_text

    shown = _HEADERS.sub(r"\1…", line)
    if token:
        shown = shown.replace(token, "…")
    return redact_text(shown)


def as_json(found: Found, last_ns: int | None) -> dict[str, Any]:
    """All that is known of one agent here."""
    state_ = found.state
    return {
        "agent": found.connection.name,
        "installed": found.is_installed,
        "program": found.program,
        "version": found.version,
        "folder": str(found.folder),
        "connected": state_.is_connected,
        "state": word(found),
        "by": ways(found),
        "since_ns": state_.since_ns or None,
        "files": [str(path) for path in state_.paths],
        "others": list(state_.others),
        "trouble": state_.trouble,
        "last_ns": last_ns,
    }
