"""Sealing past days, forgetting old ones, compacting the file and clearing the demo."""

from __future__ import annotations

from pathlib import Path

import pytest

from made import DAY_NS, MONDAY_NS, Clock, batch, call, event, opened, point, rows, said, span
from tachograph.errors import Corrupt
from tachograph.ledger import identity, working
from tachograph.model import Content, Meaning, Usage
from tachograph.store.duckdb import DuckStore

WORDS = 150  # of a text that does not compress away


def text(number: int, words: int = WORDS) -> str:
    """A text of its own that does not compress well."""
    return " ".join(str(hash((number, word))) for word in range(words))


def fill(store: DuckStore, clock: Clock, days: int, spans: int = 20, words: int = WORDS) -> None:
    """Commit and settle some records on each of the days from the clock's on."""
    for day in range(days):
        first = day * 10_000 + 1
        records = [
            span(
                number,
                meaning=call(session_id=f"day {day}", usage=Usage(1, None, None, None, 1)),
                contents=said(text(number, words)),
            )
            for number in range(first, first + spans)
        ]
        made = batch(*records, event(first, meaning=Meaning(session_id="every day")), point(first))
        identity.report(made)
        store.commit([made])
        while working.settle(store, lambda _: None):
            pass
        clock.now_ns += DAY_NS


def count(store: DuckStore, table: str) -> int:
    number = rows(store, f"SELECT count(*) AS n FROM {table}")[0]["n"]
    assert isinstance(number, int)
    return number


def test_past_days_are_sealed_and_read_as_before(tmp_path: Path) -> None:
    clock = Clock()
    asked = "SELECT * EXCLUDE (seq) FROM {} ORDER BY ALL"
    tables = ("spans", "events", "samples", "contents")
    with opened(tmp_path, clock) as store:
        fill(store, clock, 5)
        before = [rows(store, asked.format(table)) for table in tables]
        store.tidy()
        sealed = rows(store, "SELECT DISTINCT day FROM sealed ORDER BY day")
        assert [row["day"] for row in sealed] == ["2025-11-10", "2025-11-11", "2025-11-12"]
        assert count(store, "spans_hot") == 2 * 20
        assert [rows(store, asked.format(table)) for table in tables] == before
        files = sorted(tmp_path.glob("sealed/*/*.parquet"))
        assert len(files) == 3 * len(tables)
        store.tidy()
        assert sorted(tmp_path.glob("sealed/*/*.parquet")) == files
    with opened(tmp_path, clock) as store:
        assert [rows(store, asked.format(table)) for table in tables] == before
        assert store.texts([before[3][0]["hash"]]) == {before[3][0]["hash"]: before[3][0]["text"]}


def test_a_folder_that_moved_reads_its_sealed_days(tmp_path: Path) -> None:
    clock = Clock()
    with opened(tmp_path / "here", clock) as store:
        fill(store, clock, 4)
        store.tidy()
    (tmp_path / "here").rename(tmp_path / "it's there")
    with opened(tmp_path / "it's there", clock) as store:
        assert count(store, "spans") == 4 * 20


def test_files_that_no_commit_registered_go_at_the_next_start(tmp_path: Path) -> None:
    with opened(tmp_path):
        pass
    left = tmp_path / "sealed" / "spans" / "2025-11-10.parquet"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half a file")
    with opened(tmp_path):
        assert not left.exists()


def test_a_sealed_file_that_is_missing_is_told(tmp_path: Path) -> None:
    clock = Clock()
    with opened(tmp_path, clock) as store:
        fill(store, clock, 4)
        store.tidy()
    next(tmp_path.glob("sealed/spans/*.parquet")).unlink()
    with pytest.raises(Corrupt, match="sealed"), opened(tmp_path, clock):
        pass


def test_what_is_not_settled_is_neither_sealed_nor_forgotten(tmp_path: Path) -> None:
    clock = Clock()
    with opened(tmp_path, clock) as store:
        store.commit([batch(span(1))])
        clock.now_ns += 9 * DAY_NS
        store.tidy()
        assert count(store, "sealed") == 0
        assert store.forget(before_ns=clock.now_ns) == 0
        assert count(store, "spans") == 1


@pytest.mark.parametrize("is_sealed", [True, False])
def test_forgetting_days_frees_the_disk(tmp_path: Path, is_sealed: bool) -> None:
    clock = Clock()
    with opened(tmp_path, clock) as store:
        fill(store, clock, 10, spans=200, words=1500)  # enough that the database file is worth compacting
        if is_sealed:
            store.tidy()
        before = store.size_bytes()
        assert store.forget(before_ns=MONDAY_NS + 8 * DAY_NS) == 8
        assert store.size_bytes() < before / 2, (store.size_bytes(), before)
        assert rows(store, "SELECT DISTINCT session_id FROM calls ORDER BY 1") == [
            {"session_id": "day 8"},
            {"session_id": "day 9"},
        ]
        for table, kept in (
            ("spans", 400),
            ("samples", 2),
            ("reports", 400),
            ("call_reports", 400),
            ("sessions", 3),
        ):
            assert count(store, table) == kept, table
        everyday = rows(store, "SELECT events FROM sessions WHERE session_id = 'every day'")
        assert everyday == [{"events": 2}], "counted anew from what is left"
        assert store.forget(before_ns=MONDAY_NS + 8 * DAY_NS) == 0
    with opened(tmp_path, clock) as store:
        assert count(store, "spans") == 400
        assert store.commit([batch(span(99999))]) == 11, "numbers go on"


def test_forgetting_by_size_takes_the_oldest_days(tmp_path: Path) -> None:
    clock = Clock()
    with opened(tmp_path, clock) as store:
        fill(store, clock, 6, spans=100, words=1500)
        store.tidy()
        bytes_max = store.size_bytes() - 1
        removed = store.forget(bytes_max=bytes_max)
        assert 1 <= removed < 6
        assert store.size_bytes() <= bytes_max
        assert count(store, "spans") == (6 - removed) * 100


def test_today_is_never_forgotten(tmp_path: Path) -> None:
    clock = Clock()
    with opened(tmp_path, clock) as store:
        fill(store, clock, 3)
        clock.now_ns -= DAY_NS  # the last day is today
        assert store.forget(before_ns=clock.now_ns + 99 * DAY_NS, bytes_max=0) == 2
        assert count(store, "spans") == 20


def test_a_text_stays_as_long_as_a_day_of_its_week_does(tmp_path: Path) -> None:
    clock = Clock()
    with opened(tmp_path, clock) as store:
        for day in range(9):  # from Monday to Tuesday of the next week, always the same text
            store.commit([batch(span(day + 1, meaning=Meaning(session_id="s"), contents=said("same")))])
            clock.now_ns += DAY_NS
            while working.settle(store, lambda _: None):
                pass
        store.tidy()
        assert count(store, "contents") == 2, "once a week"
        assert store.forget(before_ns=MONDAY_NS + 6 * DAY_NS) == 6
        assert count(store, "contents") == 2, "Sunday still refers to it"
        assert store.forget(before_ns=MONDAY_NS + 7 * DAY_NS) == 1
        assert count(store, "contents") == 1
        assert len(store.texts([rows(store, "SELECT hash FROM contents")[0]["hash"]])) == 1


@pytest.mark.parametrize("is_sealed", [True, False])
def test_clearing_the_demo_leaves_only_what_is_real(tmp_path: Path, is_sealed: bool) -> None:
    clock = Clock()
    real = span(1000, meaning=call(session_id="real"), contents=said("shared"))

    def demo_records() -> list[object]:
        return [
            span(1, meaning=call(session_id="demo"), contents=said("shared")),
            span(2, meaning=Meaning(session_id="demo"), contents=[Content("input", "k", ["only demo"])]),
        ]

    def play(store: DuckStore) -> None:
        made = batch(*demo_records(), event(3), point(4), is_demo=True, digest="aa" * 16)  # type: ignore[arg-type]
        identity.report(made)
        store.commit([made])

    with opened(tmp_path, clock) as store:
        play(store)
        made = batch(real)
        identity.report(made)
        store.commit([made])
        while working.settle(store, lambda _: None):
            pass
        if is_sealed:
            clock.now_ns += 5 * DAY_NS
            store.tidy()
            assert count(store, "spans_hot") == 0
        assert store.clear_demo() == 4
        assert [row["session_id"] for row in rows(store, "SELECT session_id FROM sessions")] == ["real"]
        for table, kept in (("spans", 1), ("events", 0), ("samples", 0), ("calls", 1), ("reports", 1)):
            assert count(store, table) == kept, table
        texts = [row["text"] for row in rows(store, "SELECT text FROM contents")]
        assert "shared" in texts, "a real record refers to it"
        assert is_sealed or texts == ["shared"]
        assert rows(store, "SELECT count(*) AS n FROM commits WHERE is_demo") == [{"n": 0}]
        for table in ("series", "sources"):
            used = "samples" if table == "series" else "spans"
            key = f"{table.removesuffix('s') if table == 'sources' else table}_id"
            assert rows(store, f"SELECT {key} FROM {table} WHERE {key} NOT IN (SELECT {key} FROM {used})") == [], table
        assert store.clear_demo() == 0
        play(store)
        assert count(store, "spans") == 3, "it can be played again"
        assert len(rows(store, "SELECT DISTINCT text FROM contents")) == 2
    with opened(tmp_path, clock) as store:
        assert count(store, "spans") == 3
