"""What the tables make of every recorded client, as text that a person can read: the diff is the review."""

from __future__ import annotations

import difflib
import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from recordings import CAPTURES, MANIFEST, requests, transcripts
from tachograph import registry
from tachograph.model import MODEL_CALL, PROMPT, TOOL_RUN, Batch, Content, Event, Meaning, Span
from tachograph.receivers import otlp
from tachograph.transcripts import pi
from test_truth import Truth, replayed

GOLDEN = Path(__file__).parent.parent / "data" / "golden"
EXTENSIONS = sorted(path.parent for path in (CAPTURES / "pi-extensions").glob("*/*/0001.body"))
SHOWN = (MODEL_CALL, PROMPT, TOOL_RUN)
WHO = ("session_id", "prompt_id", "agent", "subagent", "user", "team", "project", "environment", "branch")
WHERE = ("channel", "repository", "host", "tenant")
CALL = (
    *("operation", "provider", "request_model", "response_model", "response_id", "request_id", "message_id"),
    *("service_tier", "finish_reason", "is_streaming", "attempt", "failed_attempts", "http_status"),
)
TOOL = ("tool_name", "tool_call_id")
OUTCOME = ("is_error", "error_type", "error_message")
MONEY = ("cost_kind", "is_notional")


def posted(folder: Path) -> Iterator[Batch]:
    """The requests of a Pi extension: a body and, beside it, the path that it was sent to."""
    for body in sorted(folder.glob("*.body")):
        meta = json.loads(body.with_suffix(".meta.json").read_text(encoding="utf-8"))
        signal = meta["path"].rpartition("/")[2]
        yield otlp.decode(signal, body.read_bytes(), meta["headers"]["content-type"])


def understood(batches: Iterator[Batch]) -> list[Span | Event]:
    """All spans and events of the batches, after the stage `normalise`."""
    found: list[Span | Event] = []
    for batch in batches:
        registry.normalise(batch)
        found += [*batch.spans, *batch.events]
    return found


def value_of(value: object) -> str:
    """A field's value on one line."""
    word = str(value).replace("\n", "\\n")
    return word if len(word) <= 80 else word[:60] + f"...({len(word)})"


def fields_of(meaning: Meaning, names: tuple[str, ...]) -> list[str]:
    """The fields among `names` that say something."""
    return [
        f"{name}={value_of(value)}" for name in names if (value := getattr(meaning, name)) not in ("", None, False, 0)
    ]


def usage_of(meaning: Meaning) -> list[str]:
    """Tokens and money."""
    told = []
    usage = meaning.usage
    if usage is not None:
        parts = {
            "in": usage.input_uncached,
            "read": usage.cache_read,
            "write": usage.cache_write,
            "write1h": usage.cache_write_1h,
            "out": usage.output,
            "reason": usage.reasoning,
        }
        told.append("tokens=" + ",".join(f"{name}:{count}" for name, count in parts.items() if count is not None))
    if meaning.cost_nanousd is not None:
        told.append(f"cost={meaning.cost_nanousd}n")
    return told + fields_of(meaning, MONEY)


def contents_of(contents: list[Content] | None) -> str:
    """Slots with their numbers of pieces, those of flattened lists together."""
    counts: Counter[str] = Counter()
    for content in contents or ():
        counts[content.slot or "(long)"] += len(content.pieces)
    return " ".join(f"{slot}[{count}]" for slot, count in sorted(counts.items()))


def line_of(record: Span | Event) -> str:
    """One call report, prompt or tool run."""
    meaning = record.meaning
    assert meaning is not None
    kind = "span" if isinstance(record, Span) else record.origin
    flags = [name[3:] for name in ("is_call", "is_rollup", "is_noise") if getattr(meaning, name)]
    timed = [f"{name}=yes" for name in ("ttft_ns", "duration_ns") if getattr(meaning, name)]
    parts = [
        f"{meaning.role or '-'} {kind} {record.name}" + (f" [{' '.join(flags)}]" if flags else ""),
        " ".join(fields_of(meaning, WHO + WHERE)),
        " ".join(fields_of(meaning, CALL) + usage_of(meaning) + timed + fields_of(meaning, TOOL)),
        " ".join(fields_of(meaning, OUTCOME)),
        contents_of(record.contents),
    ]
    return "\n    ".join(part for part in parts if part)


def summary(records: list[Span | Event]) -> str:
    """Counts by dialect, role and name, then each record that the ledger or a reader asks for."""
    counts: Counter[tuple[str, str, str, str]] = Counter()
    for record in records:
        meaning = record.meaning
        assert meaning is not None
        kind = "span" if isinstance(record, Span) else record.origin
        name = "(noise)" if meaning.is_noise else record.name
        counts[meaning.dialect, meaning.role or "-", kind, name] += 1
    lines = [
        f"{count:5} {dialect} {role} {kind} {name}" for (dialect, role, kind, name), count in sorted(counts.items())
    ]
    lines.append("")
    lines += [line_of(r) for r in records if r.meaning is not None and (r.meaning.is_call or r.meaning.role in SHOWN)]
    return "\n".join(lines) + "\n"


def check(name: str, text: str) -> None:
    """Compare with the golden text, or write it."""
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("TACHOGRAPH_GOLDEN") == "write":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return
    expected = path.read_text(encoding="utf-8")
    diff = difflib.unified_diff(expected.splitlines(), text.splitlines(), str(path.name), "now", lineterm="", n=2)
    assert text == expected, "\n".join(diff)


@pytest.mark.parametrize("name", sorted(n for n in MANIFEST if any((CAPTURES / n).glob("*.bin"))))
def test_telemetry(name: str) -> None:
    check(name, summary(understood(requests(CAPTURES / name))))


@pytest.mark.parametrize("folder", EXTENSIONS, ids=lambda path: path.parent.name)
def test_extensions_of_pi(folder: Path) -> None:
    check(f"{folder.parent.name}-{folder.name}", summary(understood(posted(folder))))


WITH_TRANSCRIPT = sorted(
    {p.relative_to(CAPTURES).parts[0] for p in CAPTURES.glob("*/transcript/**/*.jsonl") if registry.files_of(p)}
)
PI = sorted({path.parent for path in (CAPTURES / "pi").glob("*/*.jsonl")})


@pytest.mark.parametrize("name", WITH_TRANSCRIPT)
def test_transcripts(name: str) -> None:
    check(f"transcript-{name}", summary(understood(transcripts(CAPTURES / name))))


@pytest.mark.parametrize("folder", PI, ids=lambda path: path.name)
def test_sessions_of_pi(folder: Path) -> None:
    check(f"transcript-{folder.name}", summary(understood(transcripts(folder))))


@pytest.mark.parametrize("folder", EXTENSIONS, ids=lambda path: path.parent.name)
def test_extensions_of_pi_tell_every_attempt(folder: Path, tmp_path: Path) -> None:
    """Both export a failed attempt as a success of zero tokens; the log of the server that answered knows better."""
    log = json.loads((folder / "_llm_log.json").read_text(encoding="utf-8"))
    used = [entry["usage"] for entry in log if entry.get("usage")]
    truth = Truth(len(used), len(log) - len(used), sum(u["in"] + u["cr"] + u["cw"] for u in used))
    assert replayed(posted(folder), tmp_path / "alone", settle_each=True).told == truth
    both = [*posted(folder), pi.read(folder / "_session.jsonl", "")[0]]
    assert replayed(both, tmp_path / "both", settle_each=False).told == truth
