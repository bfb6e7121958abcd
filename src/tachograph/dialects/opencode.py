"""OpenCode: the Vercel AI SDK's spans among more than a thousand of its own internals."""

from __future__ import annotations

import re
from typing import Final

from msgspec.structs import replace

from tachograph.dialects.frameworks import VERCEL
from tachograph.dialects.table import Dialect, Record
from tachograph.model import MODEL_CALL, STEP, Event, Meaning

NAME = "opencode"
# Log bodies are a word and a text that is nearly JSON.
_PART: Final = re.compile(r'"(providerID|modelID|session\.id)":"([^"]*)"')


def finish(record: Record, meaning: Meaning) -> None:
    """Everything but the AI SDK's spans and the tools is internal."""
    if VERCEL.finish is not None:
        VERCEL.finish(record, meaning)
    if isinstance(record, Event):
        _announced(record, meaning)
    elif record.name == "ai.streamText":
        meaning.role = STEP  # wraps one model call and the tools that it asked for: the prompt holds them
    meaning.is_noise = meaning.role == STEP


def _announced(event: Event, meaning: Meaning) -> None:
    """A log record says that a call begins or that it failed, in the span of its run: all that is left of calls whose
    spans were never exported (only full batches of 512 are)."""
    body = event.body
    if not (isinstance(body, list) and len(body) > 1 and body[0] in ("stream", "stream error")):
        return
    parts = dict(_PART.findall(str(body[1])))
    meaning.session_id = parts.get("session.id", meaning.session_id)
    meaning.request_model = parts.get("modelID", "")
    meaning.provider = parts.get("providerID", "")
    meaning.role, meaning.operation, meaning.is_call = MODEL_CALL, "chat", True
    meaning.message_id = event.span_id
    meaning.is_error = body[0] == "stream error"
    meaning.is_rollup = not meaning.is_error
    if meaning.is_error:
        meaning.error_message = str(body[1]).rpartition('"error":')[2].rstrip("}")[:500]
        meaning.error_type = meaning.error_message.partition(":")[0] if ": " in meaning.error_message else ""


OPENCODE: Dialect = replace(
    VERCEL,
    name=NAME,
    agent=NAME,
    scopes=("opencode",),
    services=("opencode",),
    names=(),
    signatures=(),
    # `message.id` is the answer's id, and the prompt's is nowhere told.
    fields={**VERCEL.fields, "prompt_id": (), "subagent": ()},
    named_roles={"Tool.execute": STEP},  # within `ai.toolCall`, which has the arguments too
    is_cut_short=True,  # 1.18 exports full batches of 512 spans only: the rest is lost at exit
    finish=finish,
)
