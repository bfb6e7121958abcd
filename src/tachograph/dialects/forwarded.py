"""What another Tachograph read from files and hooks and forwarded as it came: its meaning goes with it."""

from __future__ import annotations

from itertools import accumulate
from typing import Final

import msgspec

from tachograph.model import LINEAGES, ROLES, SLOTS, Attributes, Content, Event, Meaning, Span
from tachograph.vocabulary import AMOUNT_MAX, LAYOUT_KEY, MEANING_KEY, ORIGIN_KEY

_ORIGINS: Final = ("log", "hook", "transcript")
_CHARS_MAX: Final = 64 * 1024
_ATTEMPTS_MAX: Final = 100  # the ledger makes a call of each
_WORDS: Final = {
    "role": ROLES,
    "lineage": ("", *LINEAGES),
    "cost_kind": ("", "billed", "source_estimate"),
}
_DECODE: Final = msgspec.json.Decoder(Meaning)
_ADDED: Final = frozenset(("session.id",))
# Slot, key, the attribute that it stands in, the lengths of its pieces (none: they are a list).
_Text = tuple[str, str, str, list[int] | None]


class _Layout(msgspec.Struct):
    """What was added on the way, and which texts the record had."""

    added: list[str]
    texts: list[_Text]


_DECODE_LAYOUT: Final = msgspec.json.Decoder(_Layout)
_DECODE_LIST: Final = msgspec.json.Decoder(list[msgspec.Raw])


def taken(attributes: Attributes) -> tuple[Meaning, str] | None:
    """The meaning and the origin, taken out of the attributes; None, and nothing taken, where they say nothing good."""
    given, origin = attributes.get(MEANING_KEY), attributes.get(ORIGIN_KEY, "log")
    if not isinstance(given, str) or len(given) > _CHARS_MAX or origin not in _ORIGINS:
        return None
    try:
        meaning = _DECODE.decode(given)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    if not _is_good(meaning):
        return None
    del attributes[MEANING_KEY]
    attributes.pop(ORIGIN_KEY, None)
    return meaning, origin


def texts(record: Span | Event) -> list[Content] | None:
    """The texts that the record had there, taken out of it, and nothing left that was added; None: it does not say."""
    given = record.attributes.get(LAYOUT_KEY)
    if not isinstance(given, str) or len(given) > _CHARS_MAX:
        return None
    try:
        layout = _DECODE_LAYOUT.decode(given)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    del record.attributes[LAYOUT_KEY]
    for name in _ADDED.intersection(layout.added):
        record.attributes.pop(name, None)
    return [content for told in layout.texts if (content := _content(record, told)) is not None]


def _content(record: Span | Event, told: _Text) -> Content | None:
    """One text as it was cut, taken from where it stands; None where it stands there no more."""
    slot, key, place, lengths = told
    is_body = not place and isinstance(record, Event)
    text = record.body if is_body and isinstance(record, Event) else record.attributes.get(place)
    pieces = _pieces(text, lengths) if isinstance(text, str) and slot in ("", *SLOTS) else None
    if pieces is None:
        return None
    if is_body and isinstance(record, Event):
        record.body = None
    else:
        del record.attributes[place]
    return Content(slot, key, pieces, lengths is None)


def _pieces(text: str, lengths: list[int] | None) -> list[str] | None:
    if lengths is None:
        try:
            return [bytes(raw).decode() for raw in _DECODE_LIST.decode(text)]
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return None
    if sum(lengths) != len(text) or min(lengths, default=0) < 0:
        return [text]  # something was taken out of it since
    return [text[end - length : end] for end, length in zip(accumulate(lengths), lengths, strict=True)]


def _is_good(meaning: Meaning) -> bool:
    if any(getattr(meaning, name) not in words for name, words in _WORDS.items()):
        return False
    if max(meaning.attempt or 0, meaning.failed_attempts) > _ATTEMPTS_MAX:
        return False
    amounts = [getattr(meaning, name) for name in meaning.__struct_fields__]
    if meaning.usage is not None:
        amounts += [getattr(meaning.usage, name) for name in meaning.usage.__struct_fields__]
    return all(0 <= one <= AMOUNT_MAX for one in amounts if isinstance(one, int))
