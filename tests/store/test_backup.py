"""A backup of a store that is being written to, and bringing it back."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from made import DAY_NS, Clock, batch, opened, rows, span
from tachograph.errors import ConfigError
from tachograph.model import Settlement
from tachograph.store.backup import restore


def test_a_backup_holds_all_that_was_committed_before_it(tmp_path: Path) -> None:
    stop = threading.Event()
    with opened(tmp_path / "home") as store:
        begun = threading.Event()

        def write() -> None:
            number = 0
            while not stop.is_set() and number < 100_000:
                number += 10
                store.commit([batch(*(span(number + one, name="x" * 500) for one in range(10)))])
                begun.set()

        writer = threading.Thread(target=write)
        writer.start()
        try:
            assert begun.wait(60)
            for copy in ("one", "two"):
                before = store.sequence()
                store.backup(tmp_path / copy)
                after = store.sequence()
                restore(tmp_path / copy, tmp_path / f"restored {copy}")
                with opened(tmp_path / f"restored {copy}") as restored:
                    kept = restored.sequence()
                    assert before <= kept <= after
                    got = rows(restored, "SELECT seq, count(*) AS n FROM spans GROUP BY seq ORDER BY seq")
                    assert got == [{"seq": seq, "n": 10} for seq in range(1, kept + 1)]
        finally:
            stop.set()
            writer.join()


def test_sealed_days_are_part_of_it(tmp_path: Path) -> None:
    clock = Clock()
    with opened(tmp_path / "home", clock) as store:
        store.commit([batch(span(1))])
        part = store.unsettled(10)
        store.settle(Settlement(part.until))
        clock.now_ns += 9 * DAY_NS
        store.tidy()
        store.commit([batch(span(2))])
        store.backup(tmp_path / "copy")
        store.forget(before_ns=clock.now_ns)
        assert rows(store, "SELECT name FROM spans") == [{"name": "span 2"}]
    restore(tmp_path / "copy", tmp_path / "back")
    with opened(tmp_path / "back", clock) as store:
        assert rows(store, "SELECT name FROM spans ORDER BY name") == [{"name": "span 1"}, {"name": "span 2"}]


def test_nothing_is_written_over(tmp_path: Path) -> None:
    with opened(tmp_path / "home") as store:
        (tmp_path / "there").mkdir()
        (tmp_path / "there" / "file").write_text("mine")
        with pytest.raises(ConfigError, match="there already"):
            store.backup(tmp_path / "there")
        (tmp_path / "empty").mkdir()
        store.backup(tmp_path / "empty")
    with pytest.raises(ConfigError, match="written by a backup"):
        restore(tmp_path / "there", tmp_path / "new")
    restore(tmp_path / "empty", tmp_path / "there")  # a home without a store: a spool or settings may be there
    with pytest.raises(ConfigError, match="there already"):
        restore(tmp_path / "empty", tmp_path / "there")
    assert (tmp_path / "there" / "file").read_text() == "mine"
    assert not list(tmp_path.glob("*.partial"))
