"""What hooks and files told, written so that another Tachograph keeps the same record and understands it alike."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from tachograph.lines import SCOPES
from tachograph.model import Attributes, Content, Event, Span
from tachograph.vocabulary import LAYOUT_KEY, MEANING_KEY, ORIGIN_KEY

_SCOPES: Final = tuple(SCOPES.values())
_SESSION: Final = "session.id"


def as_told(record: Span | Event) -> Span | Event:
    """What hooks and files told is understood by its reader alone: what it means goes with it, as attributes.

    Its session is told in the usual words too, as other receivers know it by no place. What was added, and how texts
    were cut, is said as well, so that the record is the same one there.
    """
    meaning = record.meaning
    is_told = record.source.scope_name.startswith(_SCOPES) or getattr(record, "origin", "log") != "log"
    if meaning is None or not is_told:
        return record if record.contents is None else msgspec.structs.replace(record, contents=None)
    added: list[str] = []
    attributes = {**record.attributes, MEANING_KEY: msgspec.json.encode(meaning).decode()}
    if isinstance(record, Event):
        attributes[ORIGIN_KEY] = record.origin
        if meaning.session_id and _SESSION not in attributes:
            attributes[_SESSION] = meaning.session_id
            added.append(_SESSION)
    attributes[LAYOUT_KEY] = msgspec.json.encode({"added": added, "texts": _layout(record)}).decode()
    return msgspec.structs.replace(record, attributes=attributes, meaning=None, contents=None)


def _layout(record: Span | Event) -> list[Any]:
    """Of each text: its slot, its key, the attribute that it stands in ("" = the body), and the lengths of its pieces,
    or none where it is a list."""
    found: list[Any] = []
    for content in record.contents or ():
        lengths = None if content.is_list else [len(piece) for piece in content.pieces]
        found.append((content.slot, content.key, _place(record, content, found), lengths))
    return found


def _place(record: Span | Event, content: Content, before: list[Any]) -> str:
    if content.key:
        return content.key
    attributes: Attributes = record.attributes
    name = content.slot or "body"
    is_in_body = isinstance(record, Event) and isinstance(record.body, str) and all(place for *_, place, _ in before)
    return "" if is_in_body else name if name in attributes else ""
