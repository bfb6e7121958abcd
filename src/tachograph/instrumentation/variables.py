"""The variables that have programs send to Tachograph by themselves, without `tachograph run`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Final

SHELLS: Final = ("sh", "fish", "powershell", "cmd")


def variables(endpoint: str, has_content: bool, token: str = "") -> dict[str, str]:
    """What to set: OpenTelemetry's own, Claude Code's (claude_agent_sdk starts it), and texts on or off."""
    switch = "true" if has_content else "false"
    told = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_METRICS_EXPORTER": "otlp",
        "OTEL_LOGS_EXPORTER": "otlp",
        # Claude Code, also where the Agent SDK starts it: its spans lie below the program's own by TRACEPARENT.
        "CLAUDE_CODE_ENABLE_TELEMETRY": "1",
        "CLAUDE_CODE_ENHANCED_TELEMETRY_BETA": "1",
        # The Python instrumentations.
        "OTEL_SEMCONV_STABILITY_OPT_IN": "gen_ai_latest_experimental",
        "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "SPAN_ONLY" if has_content else "NO_CONTENT",
        "TRACELOOP_TRACE_CONTENT": switch,
        "HAYSTACK_CONTENT_TRACING_ENABLED": switch,
    }
    if has_content:
        told |= {"OTEL_LOG_USER_PROMPTS": "1", "OTEL_LOG_TOOL_DETAILS": "1", "OTEL_LOG_TOOL_CONTENT": "1"}
    else:
        told |= {"OPENINFERENCE_HIDE_INPUTS": "true", "OPENINFERENCE_HIDE_OUTPUTS": "true"}
    if token:
        told["OTEL_EXPORTER_OTLP_HEADERS"] = f"Authorization=Bearer%20{token}"
    return told


def lines(told: Mapping[str, str], shell: str) -> list[str]:
    """One line of the shell for each variable."""
    if shell == "fish":
        return [f"set -gx {name} {shlex.quote(value)};" for name, value in told.items()]
    if shell == "powershell":
        return [f"$Env:{name} = '{value.replace(chr(39), chr(39) * 2)}'" for name, value in told.items()]
    if shell == "cmd":
        # In a script, % would begin a variable.
        return [f'set "{name}={value.replace("%", "%%")}"' for name, value in told.items()]
    return [f"export {name}={shlex.quote(value)}" for name, value in told.items()]
