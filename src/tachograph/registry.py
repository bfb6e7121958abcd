"""Every plug, in order, on one page: what Tachograph understands is what stands here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from tachograph.config import Surroundings
from tachograph.connections.claude_code import CLAUDE_CODE as CONNECT_CLAUDE_CODE
from tachograph.connections.codex import CODEX as CONNECT_CODEX
from tachograph.connections.contract import Connection
from tachograph.connections.copilot import COPILOT as CONNECT_COPILOT
from tachograph.connections.gemini_cli import GEMINI_CLI as CONNECT_GEMINI_CLI
from tachograph.connections.openclaw import OPENCLAW as CONNECT_OPENCLAW
from tachograph.connections.opencode import OPENCODE as CONNECT_OPENCODE
from tachograph.connections.pi import PI as CONNECT_PI
from tachograph.destinations import SIGNALS, Destination, Option
from tachograph.dialects.claude_code import CLAUDE_CODE
from tachograph.dialects.codex import CODEX
from tachograph.dialects.copilot import COPILOT
from tachograph.dialects.frameworks import (
    CREWAI,
    HAYSTACK,
    LANGSMITH,
    OPENINFERENCE,
    OPENLLMETRY,
    PYDANTIC_AI,
    VERCEL,
)
from tachograph.dialects.gemini_cli import GEMINI_CLI
from tachograph.dialects.genai import GENAI
from tachograph.dialects.openclaw import OPENCLAW, OPENCLAW_OBSERVABILITY
from tachograph.dialects.opencode import OPENCODE
from tachograph.dialects.pi import DAMNGAMERZ_PI_OTEL, PI_OTEL_TELEMETRY, PI_SPANS
from tachograph.dialects.reading import Normaliser
from tachograph.dialects.table import Dialect
from tachograph.dialects.tachograph import TACHOGRAPH
from tachograph.errors import ConfigError
from tachograph.forwarders import langfuse, loki, otlp, posthog, prometheus
from tachograph.forwarders.contract import Forwarder
from tachograph.hooks import openclaw as openclaw_spool
from tachograph.hooks import pi as pi_spool
from tachograph.model import Batch
from tachograph.receivers import otlp_file
from tachograph.transcripts import claude_code, codex, copilot, copilot_otel, gemini_cli, openclaw, opencode, pi

# The first that fits reads a record: products before frameworks, frameworks before the plain conventions.
DIALECTS: Final[tuple[Dialect, ...]] = (
    TACHOGRAPH,
    CLAUDE_CODE,
    CODEX,
    GEMINI_CLI,
    COPILOT,
    OPENCODE,
    OPENCLAW_OBSERVABILITY,
    OPENCLAW,
    PI_OTEL_TELEMETRY,
    DAMNGAMERZ_PI_OTEL,
    PI_SPANS,
    PYDANTIC_AI,
    CREWAI,
    OPENINFERENCE,
    LANGSMITH,
    VERCEL,
    OPENLLMETRY,
    HAYSTACK,
    GENAI,
)

normalise: Final = Normaliser(DIALECTS)


class AgentFiles(NamedTuple):
    """A kind of file that an agent, or our plug-in in it, writes: where it lies, how to know and how to read it.

    `discover` yields the files that are there, in any order, and raises nothing. `is_mine` knows one by its path and
    its first line (empty where that is no JSON object). `read` reads a piece from a position ("" = the start) and
    returns the position after it, the same one where there is nothing new; it raises Rejected. `beside` ends the names
    of files that lie beside it and whose change is one of it (a database's log).
    """

    agent: str
    origin: str  # transcript | hook
    discover: Callable[[Surroundings], Iterable[Path]]
    is_mine: Callable[[Path, dict[str, Any]], bool]
    read: Callable[[Path, str], tuple[Batch, str]]
    beside: tuple[str, ...] = ()


TRANSCRIPTS: Final = (
    AgentFiles(openclaw.NAME, "transcript", openclaw.discover, openclaw.is_mine, openclaw.read, openclaw.BESIDE),
    AgentFiles(pi.NAME, "transcript", pi.discover, pi.is_mine, pi.read),
    AgentFiles(codex.NAME, "transcript", codex.discover, codex.is_mine, codex.read),
    AgentFiles(claude_code.NAME, "transcript", claude_code.discover, claude_code.is_mine, claude_code.read),
    AgentFiles(gemini_cli.NAME, "transcript", gemini_cli.discover, gemini_cli.is_mine, gemini_cli.read),
    AgentFiles(opencode.NAME, "transcript", opencode.discover, opencode.is_mine, opencode.read, opencode.BESIDE),
    AgentFiles(copilot.NAME, "transcript", copilot.discover, copilot.is_mine, copilot.read, copilot.BESIDE),
    AgentFiles(copilot_otel.NAME, "transcript", copilot_otel.discover, copilot_otel.is_mine, copilot_otel.read),
)
HOOKS: Final[tuple[AgentFiles, ...]] = (
    AgentFiles(pi_spool.NAME, "hook", pi_spool.discover, pi_spool.is_mine, pi_spool.read),
    AgentFiles(openclaw_spool.NAME, "hook", openclaw_spool.discover, openclaw_spool.is_mine, openclaw_spool.read),
    AgentFiles(otlp_file.NAME, "hook", otlp_file.discover, otlp_file.is_mine, otlp_file.read),
)


class ForwarderKind(NamedTuple):
    """A kind of destination.

    `make` imports what is heavy; its second argument is the environment, for proxies. `from_environment` reads the
    variables that are usual for this kind, None where they name no destination. `address` is what to show: no secrets.
    """

    options: tuple[Option, ...]
    make: Callable[[Destination, Mapping[str, str]], Forwarder]
    from_environment: Callable[[Mapping[str, str]], Destination | None]
    address: Callable[[Destination], str]
    signals: tuple[str, ...] = SIGNALS  # that it takes


FORWARDERS: Final[dict[str, ForwarderKind]] = {
    "otlp": ForwarderKind(otlp.OPTIONS, otlp.make, otlp.from_environment, otlp.address),
    "langfuse": ForwarderKind(
        langfuse.OPTIONS, langfuse.make, langfuse.from_environment, langfuse.address, ("traces",)
    ),
    "posthog": ForwarderKind(posthog.OPTIONS, posthog.make, posthog.from_environment, posthog.address, ("traces",)),
    "prometheus": ForwarderKind(
        prometheus.OPTIONS, prometheus.make, prometheus.from_environment, prometheus.address, ("metrics",)
    ),
    "loki": ForwarderKind(loki.OPTIONS, loki.make, loki.from_environment, loki.address, ("logs",)),
}


def are_destinations_named(environment: Mapping[str, str]) -> bool:
    """Whether variables alone name a destination, be it a wrong one."""
    try:
        return any(kind.from_environment(environment) for kind in FORWARDERS.values())
    except ConfigError:
        return True


CONNECTIONS: Final[tuple[Connection, ...]] = (
    CONNECT_PI,
    CONNECT_OPENCLAW,
    CONNECT_CLAUDE_CODE,
    CONNECT_CODEX,
    CONNECT_GEMINI_CLI,
    CONNECT_COPILOT,
    CONNECT_OPENCODE,
)


def files_of(path: Path) -> AgentFiles | None:
    """Who wrote a file, by its path and first line; None where nobody known did, or it cannot be read."""
    try:
        with path.open("rb") as file:
            line = file.readline(1_000_000)
    except OSError:
        return None
    try:
        first = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        first = {}
    known = first if isinstance(first, dict) else {}
    return next((kind for kind in (*HOOKS, *TRANSCRIPTS) if kind.is_mine(path, known)), None)
