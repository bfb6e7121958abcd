"""Small commits land as one row and are sorted into the tables later: nobody may see a difference, nothing be lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from made import Clock, span
from tachograph.model import Batch, Span
from tachograph.scan import Agg, Scan
from tachograph.store.duckdb import DuckStore, open_store
from tachograph.store.landing import LAND_RECORDS_MAX
from tachograph.store.room import LARGE


def named(digest: str, *spans: Span) -> Batch:
    return Batch(spans=list(spans), digest=digest)


def count(store: DuckStore, table: str = "spans") -> int:
    return int(store.scan(Scan(table, {"n": Agg("count")})).data["n"][0])


def landed(store: DuckStore, is_set_aside: bool = False) -> list[int]:
    """The commits that have landed, read past the store's own sorting."""
    query = "SELECT seq FROM landed WHERE is_set_aside = ? ORDER BY seq"
    with store._connection.cursor() as cursor:
        return [seq for (seq,) in cursor.execute(query, [is_set_aside]).fetchall()]


def spans(start: int, number: int) -> Batch:
    return named(f"digest-{start}", *(span(start + n) for n in range(number)))


def test_a_small_commit_lands_and_is_seen_by_the_next_question(tmp_path: Path) -> None:
    store = open_store(tmp_path, Clock())
    assert store.commit([spans(0, 3)]) == 1
    assert store.commit([spans(10, 2)]) == store.sequence() == 2
    assert landed(store) == [1, 2]
    assert count(store) == 5
    assert landed(store) == []
    assert store.sequence() == 2
    assert store.scan(Scan("commits", {"seq": "seq", "spans": "spans"}, order_by=(("seq", False),))).data == {
        "seq": [1, 2],
        "spans": [3, 2],
    }
    assert store.commit([spans(20, 1)]) == 3
    store.close()


def test_many_records_go_into_the_tables_at_once_after_what_has_landed(tmp_path: Path) -> None:
    store = open_store(tmp_path, Clock())
    store.commit([spans(0, 1)])
    store.commit([spans(10, LAND_RECORDS_MAX + 1)])
    assert landed(store) == []
    assert count(store) == LAND_RECORDS_MAX + 2
    store.close()


def test_what_has_landed_is_bounded(tmp_path: Path) -> None:
    store = open_store(tmp_path, Clock())
    for start in range(0, 3 * LARGE.sort_records, 500):
        store.commit([spans(start, 500)])
        assert len(landed(store)) * 500 <= LARGE.sort_records
    assert count(store) >= 3 * LARGE.sort_records
    store.close()


def test_a_re_send_of_what_has_landed_is_not_kept_twice(tmp_path: Path) -> None:
    store = open_store(tmp_path, Clock())
    store.commit([spans(0, 3)])
    store.commit([spans(0, 3), spans(0, 3)])
    assert count(store) == 3
    store.close()


_DIES = """
import os, sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from tachograph.model import Batch
from made import Clock, span
from tachograph.store.duckdb import open_store
store = open_store(Path(sys.argv[1]), Clock())
store.commit([Batch(spans=[span(1), span(2)], digest="one")])
store.commit([Batch(spans=[span(3)], digest="two")])
print(store.sequence(), flush=True)
os.kill(os.getpid(), 9)
"""


def test_what_has_landed_survives_a_kill_and_is_sorted_once(tmp_path: Path) -> None:
    folders = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    died = subprocess.run(
        [sys.executable, "-c", _DIES, str(tmp_path), *folders], capture_output=True, text=True, check=False
    )
    assert died.returncode == -9, died.stderr
    store = open_store(tmp_path, Clock())
    assert landed(store) == [1, 2]
    assert store.sequence() == int(died.stdout)
    store.commit([named("one", span(1), span(2))])  # its sender never saw the answer and sends again
    assert count(store) == 3
    store.close()
    again = open_store(tmp_path, Clock())
    assert (count(again), landed(again)) == (3, [])
    again.close()


def test_a_batch_that_no_table_can_hold_is_set_aside_and_keeps_nobody_back(tmp_path: Path) -> None:
    """Nothing is known that the tables refuse, so one is made narrower here."""
    bad = span(2)
    bad.flags = 1000
    store = open_store(tmp_path, Clock())
    with store._connection.cursor() as cursor:
        cursor.execute("ALTER TABLE spans_hot ALTER flags TYPE TINYINT")
    store.commit([named("good", span(1))])
    store.commit([named("bad", bad)])
    store.commit([named("also good", span(3))])
    assert count(store) == 2
    assert (landed(store), landed(store, is_set_aside=True)) == ([], [2])
    store.close()
    again = open_store(tmp_path, Clock())
    assert (count(again), landed(again), landed(again, is_set_aside=True)) == (2, [], [2])
    again.close()


def test_the_demo_never_lands(tmp_path: Path) -> None:
    store = open_store(tmp_path, Clock())
    demo = spans(0, 2)
    demo.is_demo = True
    store.commit([spans(10, 1)])
    store.commit([demo])
    assert landed(store) == []
    store.clear_demo()
    assert count(store) == 1
    store.close()
