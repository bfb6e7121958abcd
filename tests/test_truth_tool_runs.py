"""Tool runs of all recordings: the counters of a session are the rows of the table, whatever comes again or late."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recordings import CAPTURES, prepared, requests, transcripts
from tachograph import ledger
from tachograph.model import Batch
from tachograph.pricing import Prices
from tachograph.store.duckdb import open_store
from test_truth import PI, SPOOLS, WITH_OTLP, makers, orders

NOW_NS = 1_795_300_000_000_000_000
_TOLD = "SELECT session_id, tool_runs, tool_errors FROM sessions WHERE tool_runs + tool_errors > 0 ORDER BY 1"
_COUNTED = """SELECT session_id, count(*) AS tool_runs, count_if(is_error) AS tool_errors FROM tool_runs
GROUP BY 1 ORDER BY 1"""


def counted(batches: list[Batch], folder: Path, settled_every: int) -> list[dict[str, Any]]:
    """Runs and failed runs of each session, which its row and the table have to say alike.

    Before the last settlement but one the store is tidied: rows that lie in the file and rows that only the log has
    are then read together.
    """
    tidied_at = len(batches) // settled_every * settled_every
    price = Prices(None).price
    store = open_store(folder, lambda: NOW_NS)
    try:
        for number, batch in enumerate(batches, start=1):
            store.commit([prepared(batch)])
            if number == tidied_at:
                store.tidy()
            while number % settled_every == 0 and ledger.settle(store, price):
                pass
        while ledger.settle(store, price):
            pass
        told = store.sql(_TOLD).rows()
        assert told == store.sql(_COUNTED).rows()
        return told
    finally:
        store.close()


def test_tool_runs_of_all_recordings_in_every_order(tmp_path: Path) -> None:
    batches: list[Batch] = []
    for folder in (*(CAPTURES / name for name in WITH_OTLP), *PI, *SPOOLS):
        batches += [*requests(folder), *transcripts(folder)]
    expected: list[dict[str, Any]] = []
    for order, made in orders(makers(batches), "tool runs").items():
        told = counted(made, tmp_path / order, settled_every=len(batches) if order == "forward" else 97)
        expected = expected or told
        assert told == expected, order
    assert expected
