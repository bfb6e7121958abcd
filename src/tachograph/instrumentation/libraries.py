"""Which Python libraries call models, and which instrumentations of each are worth having, best first."""

from __future__ import annotations

from typing import Final, NamedTuple

# Texts on spans, in the words of each family; set only where the family's instrumentation is started by us.
_OFFICIAL: Final = {"OTEL_SEMCONV_STABILITY_OPT_IN": "gen_ai_latest_experimental"}
_OFFICIAL_TEXT: Final = {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "SPAN_ONLY"}
_OFFICIAL_NO_TEXT: Final = {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "NO_CONTENT"}
_OPENLLMETRY_TEXT: Final = {"TRACELOOP_TRACE_CONTENT": "true"}
_OPENLLMETRY_NO_TEXT: Final = {"TRACELOOP_TRACE_CONTENT": "false"}
_OPENINFERENCE_NO_TEXT: Final = {
    "OPENINFERENCE_HIDE_INPUTS": "true",
    "OPENINFERENCE_HIDE_OUTPUTS": "true",
    "OPENINFERENCE_HIDE_INPUT_MESSAGES": "true",
    "OPENINFERENCE_HIDE_OUTPUT_MESSAGES": "true",
    "OPENINFERENCE_HIDE_PROMPTS": "true",
    "OPENINFERENCE_HIDE_LLM_TOOLS": "true",
    "OPENINFERENCE_HIDE_EMBEDDINGS_TEXT": "true",
    "OPENINFERENCE_HIDE_EMBEDDINGS_VECTORS": "true",
}


class Candidate(NamedTuple):
    """One instrumentation: its package, where its code lives, and what is set for it with and without texts.

    `silences`: scopes of spans that the library makes by itself and that repeat those of this instrumentation.
    """

    package: str
    module: str
    text: dict[str, str]
    no_text: dict[str, str]
    silences: tuple[str, ...] = ()


class Library(NamedTuple):
    """A library that calls models: what people call it, its packages (any of them), and the module they import.

    `tells` names the libraries below it whose calls its own spans tell whole, tokens and texts included, where its best
    candidate makes them: those need an instrumentation only for the program's direct use of them. `is_native`: it makes
    spans by itself, and candidates only add texts.
    """

    name: str
    packages: tuple[str, ...]
    module: str
    candidates: tuple[Candidate, ...] = ()
    tells: tuple[str, ...] = ()
    is_native: bool = False


def _official(package: str, module: str) -> Candidate:
    return Candidate(package, module, _OFFICIAL | _OFFICIAL_TEXT, _OFFICIAL | _OFFICIAL_NO_TEXT)


def _openllmetry(what: str, *silences: str) -> Candidate:
    package, module = f"opentelemetry-instrumentation-{what}", f"opentelemetry.instrumentation.{what.replace('-', '_')}"
    return Candidate(package, module, _OPENLLMETRY_TEXT, _OPENLLMETRY_NO_TEXT, silences)


def _openinference(what: str, *silences: str) -> Candidate:
    package, module = f"openinference-instrumentation-{what}", f"openinference.instrumentation.{what.replace('-', '_')}"
    return Candidate(
        package, module, {"OPENINFERENCE_HIDE_EMBEDDINGS_VECTORS": "true"}, _OPENINFERENCE_NO_TEXT, silences
    )


LIBRARIES: Final = (
    # Its own spans tell what its answers said, to the kind of cache; these add the texts to the same calls.
    Library(
        "anthropic",
        ("anthropic",),
        "anthropic",
        (
            _official("opentelemetry-instrumentation-genai-anthropic", "opentelemetry.instrumentation.genai.anthropic"),
            _openinference("anthropic"),
            _openllmetry("anthropic"),
        ),
        is_native=True,
    ),
    Library(
        "openai",
        ("openai",),
        "openai",
        (
            _official("opentelemetry-instrumentation-genai-openai", "opentelemetry.instrumentation.genai.openai"),
            _openllmetry("openai"),
            _openinference("openai"),
            _official("opentelemetry-instrumentation-openai-v2", "opentelemetry.instrumentation.openai_v2"),
        ),
    ),
    Library(
        "openai-agents",
        ("openai-agents",),
        "agents",
        (_openllmetry("openai-agents"), _openinference("openai-agents")),
        ("openai",),
    ),
    Library(
        "langchain",
        ("langchain-core",),
        "langchain_core",
        (_openllmetry("langchain"), _openinference("langchain")),
        ("openai", "anthropic"),
    ),
    Library(
        "llama-index",
        ("llama-index-core",),
        "llama_index.core",
        (_openinference("llama-index"), _openllmetry("llamaindex")),
    ),
    # The spans of these two tell no tokens, or not always: the models' own libraries have to be instrumented as well.
    Library("crewai", ("crewai",), "crewai", (_openinference("crewai", "crewai"), _openllmetry("crewai", "crewai"))),
    Library(
        "haystack",
        ("haystack-ai",),
        "haystack",
        (_openinference("haystack", "haystack"), _openllmetry("haystack", "haystack")),
    ),
    Library(
        "pydantic-ai",
        ("pydantic-ai-slim", "pydantic-ai"),
        "pydantic_ai",
        tells=("openai", "anthropic"),
        is_native=True,
    ),
)
# What every recorded environment has to have.
SDK: Final = "opentelemetry-sdk"
# It takes the place in the interpreter that the recorder would have; what it sends goes where the variables say.
STARTER: Final = "opentelemetry-instrument"
