"""Every plug, in order, on one page: what Tachograph understands is what stands here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

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
from tachograph.model import Batch
from tachograph.transcripts import claude_code, codex, pi

# The first that fits reads a record: products before frameworks, frameworks before the plain conventions.
DIALECTS: Final[tuple[Dialect, ...]] = (
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


class Transcript(NamedTuple):
    """A kind of file that an agent writes by itself: who writes it, how to know and how to read it."""

    agent: str
    is_mine: Callable[[dict[str, Any]], bool]  # by its first line
    read: Callable[[Path, str], tuple[Batch, str]]


TRANSCRIPTS: Final = (
    Transcript(pi.NAME, pi.is_mine, pi.read),
    Transcript(codex.NAME, codex.is_mine, codex.read),
    Transcript(claude_code.NAME, claude_code.is_mine, claude_code.read),
)


def transcript_of(path: Path) -> Transcript | None:
    """Who wrote a JSON Lines file, by its first line; None where nobody known did, or it cannot be read."""
    try:
        with path.open("rb") as file:
            first = msgspec.json.decode(file.readline(1_000_000))
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return next((t for t in TRANSCRIPTS if isinstance(first, dict) and t.is_mine(first)), None)
