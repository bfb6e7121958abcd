"""What a session is called where nobody gave it a title: by what is known of it, not by an id that a machine made."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from tachograph.scan import Match, Reader, Scan
from tachograph.web import units

# A trace that stands for a session, a UUID, a plain hexadecimal number: nobody knows a session by these.
_MADE: Final = re.compile(r"trace:.*|[0-9a-f]{8}(-[0-9a-f]{4,12}){4}|[0-9a-f]{16,64}", re.DOTALL | re.IGNORECASE)
_SHORT: Final = 8
_COLUMNS: Final = ("session_id", "title", "agent", "models", "calls", "failed_calls", "tool_runs")


def session_name(row: Mapping[str, Any]) -> str:
    """The title of a session (a row of `sessions`), else the id that its program gave it, else what it did.

    Such as "openclaw · gpt-5.1 · 4 calls": its agent, its first model, and how much there was of it.
    """
    if row["title"] or not _MADE.fullmatch(row["session_id"]):
        return str(row["title"] or row["session_id"])
    return " · ".join(
        part for part in (row["agent"] or "unknown agent", _models(row["models"] or ()), _did(row)) if part
    )


def names_of(reader: Reader, session_ids: Iterable[str]) -> dict[str, str]:
    """The name of each of these sessions; an id that is not kept has none."""
    ids = sorted({*session_ids} - {""})
    asked = Scan("sessions", {name: name for name in _COLUMNS}, (Match("session_id", "in", ids),))
    return {row["session_id"]: session_name(row) for row in reader.scan(asked).rows()} if ids else {}


def called(reader: Reader, session_id: str) -> str:
    """The name of one session, for a way back to it."""
    return names_of(reader, [session_id]).get(session_id) or f"Session {short_id(session_id)}"


def short_id(session_id: str) -> str:
    """The beginning of an id, to tell apart what is called alike."""
    id_ = session_id.removeprefix("trace:")
    return id_ if len(id_) <= 2 * _SHORT else id_[:_SHORT] + "…"


def _models(models: Any) -> str:
    return "" if not models else models[0] if len(models) == 1 else f"{models[0]} +{len(models) - 1}"


def _did(row: Mapping[str, Any]) -> str:
    """Calls, else what there was instead of them."""
    for key, word in (("calls", "call"), ("failed_calls", "failed call"), ("tool_runs", "tool run")):
        if row[key]:
            return units.plural(row[key], word)
    return "no model call"
