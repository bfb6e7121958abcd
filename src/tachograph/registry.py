"""Every plug, in order, on one page: what Tachograph understands is what stands here."""

from __future__ import annotations

from typing import Final

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
from tachograph.dialects.pi import DAMNGAMERZ_PI_OTEL, PI_OTEL_TELEMETRY
from tachograph.dialects.reading import Normaliser
from tachograph.dialects.table import Dialect

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
