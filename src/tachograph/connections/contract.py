"""What a connection is: an agent, the files that make it send here, and what it is connected to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

from tachograph.config import Surroundings
from tachograph.connections.edits import Edit


@dataclass(frozen=True, slots=True)
class Target:
    """What agents are connected to: the door for OTLP over HTTP (no slash at its end), and how it is kept there."""

    otlp_http: str
    home: Path
    content: str = "redacted"
    token: str = field(default="", repr=False)

    @property
    def has_content(self) -> bool:
        """Whether texts of prompts and answers are kept at all."""
        return self.content != "none"

    @property
    def headers(self) -> str:
        """What senders prove themselves with, as OTEL_EXPORTER_OTLP_HEADERS takes it: a space is written %20."""
        return f"Authorization=Bearer%20{quote(self.token, safe='')}" if self.token else ""


@dataclass(frozen=True, slots=True)
class Connection:
    """How one agent is connected.

    `programs` are the names it is started by, `folder` is where it keeps its own files. `edits` are all that
    connecting changes, in order; the same with every Target but for the values. `plugin` is our own plug-in for it,
    copied into the home ("" = none). `winning` are variables that win over those files where they are set.
    """

    name: str
    agent: str
    title: str
    programs: tuple[str, ...]
    folder: Callable[[Surroundings], Path]
    edits: Callable[[Surroundings, Target], list[Edit]]
    plugin: str = ""
    winning: tuple[str, ...] = ()


# How a program is connected that is none of the agents: any OpenTelemetry SDK reads these.
ANY_SDK: Final = "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318"

# Set for one signal, these win over what is set for all.
ONE_SIGNAL: Final = tuple(
    f"OTEL_EXPORTER_OTLP_{signal}_{what}"
    for signal in ("TRACES", "LOGS", "METRICS")
    for what in ("ENDPOINT", "PROTOCOL", "HEADERS")
)


def is_address(target: Target, end: str = "") -> Callable[[Any], bool]:
    """Whether a value is an address that connecting writes: a door of this machine, whatever its port."""
    here = urlsplit(target.otlp_http).hostname

    def is_ours(value: Any) -> bool:
        try:
            address = urlsplit(value) if isinstance(value, str) else None
        except ValueError:
            return False
        if address is None or address.scheme not in ("http", "https"):
            return False
        return address.hostname in (here, "localhost", "127.0.0.1", "::1") and address.path.rstrip("/") == end

    return is_ours


def is_token(value: Any) -> bool:
    """Whether a value is a header that connecting writes, whatever the token."""
    return isinstance(value, str) and value.startswith("Authorization=Bearer%20") and "," not in value


def named_folder(where: Surroundings, variable: str, *default: str) -> Path:
    """The folder that a variable of an agent names, else the default within the user's home."""
    named = where.environment.get(variable, "").strip()
    return where.user_home / Path(named).expanduser() if named else where.user_home.joinpath(*default)
