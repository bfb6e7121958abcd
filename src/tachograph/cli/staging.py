"""Makes another session of a recorded one: later in time, with ids of its own, told of other people."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

import msgspec

from tachograph.model import Batch, Meaning, Source

_ISO: Final = r"20\d\d-[01]\d-[0-3]\dT[0-2]\d:[0-5]\d:[0-5]\d(?:\.\d+)?(?:Z|\+00:00)"
_UUID: Final = r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"
# Ids of providers and agents keep what they begin with: dialects and the ledger know them by that.
_NAMED: Final = (
    r"\b(?:msg|resp|req|chatcmpl|gen|call|toolu|rs|fc|ses|prt|agent|run)[-_](?=[A-Za-z0-9]*\d)[A-Za-z0-9]{8,}\b"
)
_TRACE: Final = r"\b[0-9a-f]{32}\b"
_CHANGING: Final = re.compile("|".join(f"({pattern})" for pattern in (_ISO, _UUID, _NAMED, _TRACE)))
_TEXT_KEYS: Final = frozenset(("trace_id", "span_id", "parent_id"))
_TIME_KEYS: Final = frozenset(("start_ns", "end_ns", "time_ns", "observed_ns"))
# What the recorder called its stand-ins for providers, and its scripts for prompts: nothing to show people.
_WORDS: Final[dict[str, str]] = {
    "fake": "openai",
    "fake-openai": "openai",
    "fake-anthropic": "anthropic",
    "fake-large": "gpt-5.1",
    "fake-claude": "claude-sonnet-4-5",
}
_PHRASES: Final[dict[str, str]] = {
    "SCENARIO:main please": "What does this project do, and how is it tested?",
    "SCENARIO:second please": "Now the same for the parser.",
    "SCENARIO:retry429 please": "Go on with the next file.",
    "SCENARIO-ERRORS try failing tools": "Why does the build fail?",
    "SCENARIO-ERRORS try2": "And once more.",
    "SCENARIO-ERRORS try": "Try the deployment again.",
    "SCENARIO-TASK delegate to a subagent": "Have a sub-agent look for dead code.",
    "SCENARIO-TOOLS ": "",
}
_SPOKEN: Final = re.compile("|".join(map(re.escape, _PHRASES)))
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Stage:
    """One staging: `name` makes the ids differ from those of every other, `shift_ns` is added to all times.

    `labels` are set on every resource: who it is said to have been.
    """

    def __init__(self, name: str, shift_ns: int, labels: Mapping[str, str]) -> None:
        self._name = name.encode()
        self._shift_ns = shift_ns
        self._labels = labels
        self._text = lru_cache(maxsize=4096)(self._changed)

    def play(self, batch: Batch) -> Batch:
        """A new batch; the given one stays as it is. It has no digest: it is not the request that was recorded."""
        told = msgspec.to_builtins(batch)
        played = msgspec.convert(self._value(told, ""), Batch)
        played.digest = ""
        played.is_demo = True
        for span in played.spans:
            self._label(span.source, span.meaning)
        for event in played.events:
            self._label(event.source, event.meaning)
        for point in played.points:
            self._label(point.source, None)
        return played

    def _label(self, source: Source, meaning: Meaning | None) -> None:
        source.resource.update(self._labels)
        if meaning is not None:  # transcripts come with theirs
            meaning.project = self._labels["project.name"]
            meaning.user = self._labels["enduser.id"]
            meaning.team = self._labels["team.name"]

    def _value(self, value: Any, key: str) -> Any:
        if isinstance(value, str):
            if key in _TEXT_KEYS:
                return self._hex(value) if value else ""
            return self._text(value)
        if isinstance(value, dict):
            return {name: self._value(inner, name) for name, inner in value.items()}
        if isinstance(value, list):
            return [self._value(inner, "") for inner in value]
        if key in _TIME_KEYS and value and not isinstance(value, bool):
            return value + self._shift_ns
        return value

    def _changed(self, text: str) -> str:
        if text in _WORDS:
            return _WORDS[text]
        spoken = _SPOKEN.sub(lambda match: _PHRASES[match[0]], text)
        return _CHANGING.sub(self._replacement, spoken)

    def _replacement(self, match: re.Match[str]) -> str:
        found = match[0]
        if match[1]:
            return self._later(found)
        if match[2]:
            digits = self._hex(found.replace("-", ""))
            return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
        if match[3]:
            at = min(i for i in (found.find("-"), found.find("_")) if i >= 0) + 1
            return found[:at] + self._hex(found[at:])
        return self._hex(found)

    def _later(self, text: str) -> str:
        moment = datetime.fromisoformat(text) + timedelta(microseconds=self._shift_ns // 1000)
        return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def _hex(self, text: str) -> str:
        """Digits made of the staging and the text, as many as the text has characters."""
        made = blake2b(text.encode(), key=self._name[:64], digest_size=32).hexdigest()
        return (made * (len(text) // len(made) + 1))[: len(text)]


def newest_ns(batch: Batch) -> int:
    """The latest time in a batch."""
    ends = [span.end_ns for span in batch.spans]
    times = [event.time_ns for event in batch.events] + [point.time_ns for point in batch.points]
    return max(ends + times, default=0)
