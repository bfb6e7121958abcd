"""The ledger against the truth: what the recorded clients really called, by the server that answered them.

Every set is replayed in several orders and twice, with its transcript where one is recorded. Nothing here or in the
product is tuned to a set's name; what a client does not tell stands in INCOMPLETE.txt, with the reason.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Callable, Iterable
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from recordings import CAPTURES, MANIFEST, prepared, requests, transcripts
from tachograph import ledger, questions
from tachograph.model import Batch
from tachograph.pricing import Prices
from tachograph.scan import Match
from tachograph.store.duckdb import open_store

NOW_NS = 1_795_300_000_000_000_000


class Truth(NamedTuple):
    """Generations that succeeded, that failed, and input tokens with cache."""

    calls: int
    failed: int
    input_tokens: int


class Result(NamedTuple):
    """What the ledger says, and how much of it is flagged as not fully known."""

    told: Truth
    partial: int


def incomplete() -> dict[str, Truth | None]:
    """The table of what telemetry does not tell; None = nothing was recorded over OTLP."""
    rows: dict[str, Truth | None] = {}
    for line in (CAPTURES / "INCOMPLETE.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, *numbers, why = (part.strip() for part in line.split("|"))
            assert why, line
            rows[name] = None if numbers[0] == "-" else Truth(*map(int, numbers))
    return rows


def truth_of(*names: str) -> Truth:
    """The truth of one set or of several together."""
    told = [MANIFEST[name]["truth"] for name in names]
    return Truth(
        sum(t["llm_calls_ok"] for t in told),
        sum(t["llm_calls_failed"] for t in told),
        sum(t["input_tokens_incl_cache"] for t in told),
    )


INCOMPLETE = incomplete()
WITH_OTLP = sorted(name for name in MANIFEST if any((CAPTURES / name).glob("*.bin")))


def sessions_of(name: str) -> set[str]:
    """The sessions that a set's own files name, to find sets that recorded parts of one session."""
    return {b.meaning.session_id for batch in requests(CAPTURES / name) for b in records(batch) if b.meaning}


def records(batch: Batch) -> list[Any]:
    """Spans and events of a batch, understood."""
    made = prepared(batch)
    return [*made.spans, *made.events]


def replayed(batches: Iterable[Batch], folder: Path, settle_each: bool) -> Result:
    """Send batches down the road into a new store and ask for the totals."""
    prices = Prices(None)
    store = open_store(folder, lambda: NOW_NS)
    try:
        for batch in batches:
            store.commit([prepared(batch)])
            if settle_each:
                while ledger.settle(store, prices.price):
                    pass
        while ledger.settle(store, prices.price):
            pass
        every = questions.usage(store, "agent")["totals"]
        generated = questions.usage(store, "agent", where=(Match("operation", "!=", "embeddings"),))["totals"]
    finally:
        store.close()
    told = Truth(generated["calls"], generated["failed_calls"], generated["input_tokens"] or 0)
    return Result(told, every["partial"])


def orders(make: list[Callable[[], Batch]], seed: str) -> dict[str, list[Batch]]:
    """The same requests in several orders, and twice."""
    rng = random.Random(seed)
    shuffled = list(range(len(make)))
    rng.shuffle(shuffled)
    repeated = [*range(len(make)), *shuffled]
    return {
        "forward": [make[i]() for i in range(len(make))],
        "backward": [make[i]() for i in reversed(range(len(make)))],
        "shuffled": [make[i]() for i in shuffled],
        "twice": [unnamed(make[i]()) for i in repeated],
    }


def unnamed(batch: Batch) -> Batch:
    """The batch as if its bytes had never been seen: the ledger alone has to know what it already has."""
    batch.digest = ""
    return batch


def makers(batches: Iterable[Batch]) -> list[Callable[[], Batch]]:
    """A maker for each batch: the road changes batches in place, so each replay needs fresh ones."""
    return [partial(deepcopy, batch) for batch in batches]


@pytest.mark.parametrize("name", WITH_OTLP)
def test_every_set_in_every_order(name: str, tmp_path: Path) -> None:
    expected = INCOMPLETE.get(name) or truth_of(name)
    for order, batches in orders(makers(requests(CAPTURES / name)), name).items():
        result = replayed(batches, tmp_path / order, settle_each=order in ("backward", "twice"))
        assert result.told == expected, order
        assert (result.partial > 0) == (name in INCOMPLETE), order


def shared_sessions() -> dict[str, list[str]]:
    """Set -> the sets that recorded parts of the same session (one process each), itself among them."""
    owners: dict[str, set[str]] = defaultdict(set)
    for name in WITH_OTLP:
        if MANIFEST[name]["transcripts"]:
            for batch in transcripts(CAPTURES / name):
                for record in records(batch):
                    owners[record.meaning.session_id].add(name)
    for name in WITH_OTLP:
        for session in sessions_of(name):
            if session in owners:
                owners[session].add(name)
    return {
        name: sorted(set().union(*(sets for sets in owners.values() if name in sets)))
        for name in WITH_OTLP
        if any(name in sets for sets in owners.values()) and any((CAPTURES / name).rglob("transcript/**/*.jsonl"))
    }


@pytest.mark.parametrize(("name", "together"), sorted(shared_sessions().items()))
def test_with_transcripts(name: str, together: list[str], tmp_path: Path) -> None:
    """Telemetry and transcript of the same sessions, in any order: every call once."""
    batches = [batch for each in together for batch in requests(CAPTURES / each)]
    batches += [batch for each in together for batch in transcripts(CAPTURES / each)]
    for order, made in orders(makers(batches), name).items():
        result = replayed(made, tmp_path / order, settle_each=order in ("backward", "twice"))
        assert result.told == truth_of(*together), order
        assert result.partial == 0, order


def test_the_table_names_only_sets_that_exist() -> None:
    assert set(INCOMPLETE) <= set(MANIFEST)
    assert {name for name, told in INCOMPLETE.items() if told is None} == set(MANIFEST) - set(WITH_OTLP)


def test_all_sets_together_are_the_sum(tmp_path: Path) -> None:
    """Many clients in one store do not disturb one another."""
    names = [name for name in WITH_OTLP if not name.startswith("py-openai-traceloop-")]
    batches = [batch for name in names for batch in requests(CAPTURES / name)]
    random.Random(7).shuffle(batches)
    result = replayed(batches, tmp_path / "all", settle_each=False)
    expected = [INCOMPLETE.get(name) or truth_of(name) for name in names]
    assert result.told == Truth(*(sum(column) for column in zip(*expected, strict=True)))


PI = sorted(path.parent for path in (CAPTURES / "pi").glob("*/llm_log.json"))


@pytest.mark.parametrize("folder", PI, ids=lambda path: path.name)
def test_pi_sessions(folder: Path, tmp_path: Path) -> None:
    """Pi's session files against its server's own log; Pi 0.73 and 0.87 tell neither the retries that their SDK hides
    nor what compaction used."""
    log = json.loads((folder / "llm_log.json").read_text(encoding="utf-8"))
    used = [entry["usage"] for entry in log if entry.get("usage")]
    truth = Truth(len(used), len(log) - len(used), sum(u["in"] + u["cr"] + u["cw"] for u in used))
    result = replayed(transcripts(folder), tmp_path / "pi", settle_each=True)
    if folder.name.startswith("pi073") and truth.failed:
        truth = truth._replace(failed=0)
    if folder.name in ("pi073-compact", "pi087-compact"):
        summary = used[-2]
        truth = Truth(truth.calls - 1, truth.failed, truth.input_tokens - summary["in"] - summary["cr"] - summary["cw"])
    assert result.told == truth


SPOOLS = sorted(path.parent for path in CAPTURES.glob("pi-spool-*/truth.json"))


def spool_truth(folder: Path) -> Truth:
    """What the server billed; less what compaction used in Pi 0.73, which tells nobody."""
    told = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    truth = Truth(told["llm_calls_ok"], told["llm_calls_failed"], told["input_tokens_incl_cache"])
    if not folder.name.startswith("pi-spool-073-"):
        return truth
    spooled = "".join(path.read_text(encoding="utf-8") for path in (folder / "spool").iterdir())
    untold = sum(c["input_tokens_total"] or 0 for c in told["calls"] if (c["response_id"] or "") not in spooled)
    return truth._replace(input_tokens=truth.input_tokens - untold)


@pytest.mark.parametrize("folder", SPOOLS, ids=lambda path: path.name)
@pytest.mark.parametrize("parts", ["spool", "both"])
def test_pi_spools(folder: Path, parts: str, tmp_path: Path) -> None:
    """What Pi's extension spooled, alone and with the session files of the same runs, in any order and twice."""
    batches = list(transcripts(folder / "spool" if parts == "spool" else folder))
    for order, made in orders(makers(batches), folder.name).items():
        result = replayed(made, tmp_path / order, settle_each=order in ("backward", "twice"))
        assert result.told == spool_truth(folder), order
        assert result.partial == (folder.name == "pi-spool-073-rpc"), order
