"""What another Tachograph read from files and hooks and forwarded as it came: its meaning goes with it."""

from __future__ import annotations

from typing import Final

import msgspec

from tachograph.model import LINEAGES, ROLES, Attributes, Meaning
from tachograph.vocabulary import AMOUNT_MAX, MEANING_KEY, ORIGIN_KEY

_ORIGINS: Final = ("log", "hook", "transcript")
_CHARS_MAX: Final = 64 * 1024
_ATTEMPTS_MAX: Final = 100  # the ledger makes a call of each
_WORDS: Final = {
    "role": ROLES,
    "lineage": ("", *LINEAGES),
    "cost_kind": ("", "billed", "source_estimate"),
}
_DECODE: Final = msgspec.json.Decoder(Meaning)


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


def _is_good(meaning: Meaning) -> bool:
    if any(getattr(meaning, name) not in words for name, words in _WORDS.items()):
        return False
    if max(meaning.attempt or 0, meaning.failed_attempts) > _ATTEMPTS_MAX:
        return False
    amounts = [getattr(meaning, name) for name in meaning.__struct_fields__]
    if meaning.usage is not None:
        amounts += [getattr(meaning.usage, name) for name in meaning.usage.__struct_fields__]
    return all(0 <= one <= AMOUNT_MAX for one in amounts if isinstance(one, int))
