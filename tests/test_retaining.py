"""How long is kept what a relay only forwards: seven days, and longer where a destination has not been sent it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tachograph.cli import main
from tachograph.config import Settings, load
from tachograph.errors import ConfigError
from tachograph.model import Batch, Event, Source
from tachograph.pipeline.progress import FILE_NAME, Progress, State
from tachograph.pipeline.retaining import DAY_NS, forget_before_ns, relay_days
from tachograph.scan import Scan
from tachograph.server import Server
from tachograph.store import relayed

NOW_NS = 1_762_732_800 * 1_000_000_000
SET = Settings(Path("home"))


@pytest.mark.parametrize(
    ("own", "has_destinations", "is_looked_at", "days"),
    [
        (None, True, False, 7),
        (None, True, True, None),
        (None, False, False, None),
        (3, True, True, 3),
        (3, False, False, 3),
        (0, True, False, None),
    ],
)
def test_a_relay_keeps_for_days_what_nobody_looks_at(
    own: int | None, has_destinations: bool, is_looked_at: bool, days: int | None
) -> None:
    assert relay_days(replace(SET, relay_retention_days=own), has_destinations, is_looked_at) == days


@pytest.mark.parametrize(
    ("retention", "days", "unsent", "before"),
    [
        (90, None, None, 90),  # a server, or a relay whose store others see
        (None, None, None, None),
        (90, 7, None, 7),
        (None, 7, None, 7),
        (90, 7, 30, 30),  # a destination is behind
        (90, 7, 2, 7),
        (90, 7, 200, 90),  # further behind than anything is kept
        (None, 7, 200, 200),
        (5, 7, None, 5),
    ],
)
def test_what_is_not_sent_is_kept_as_long_as_all_is(
    retention: int | None, days: int | None, unsent: int | None, before: int | None
) -> None:
    unsent_ns = None if unsent is None else NOW_NS - unsent * DAY_NS
    found = forget_before_ns(replace(SET, retention_days=retention), NOW_NS, days, unsent_ns)
    assert found == (None if before is None else NOW_NS - before * DAY_NS)


def test_the_setting() -> None:
    assert load({}, {}).relay_retention_days is None
    assert load({}, {"TACHOGRAPH_RELAY_RETENTION_DAYS": "3"}).relay_retention_days == 3
    assert load({}, {"TACHOGRAPH_RELAY_RETENTION_DAYS": "off"}).relay_retention_days == 0
    with pytest.raises(ConfigError, match="TACHOGRAPH_RELAY_RETENTION_DAYS"):
        load({}, {"TACHOGRAPH_RELAY_RETENTION_DAYS": "0"})


@contextmanager
def running(home: Path, now_ns: int, is_relay: bool = True, own_days: str = "") -> Iterator[Server]:
    """A relay or a server at a fixed time."""
    doors = dict.fromkeys(
        ("TACHOGRAPH_OTLP_HTTP", "TACHOGRAPH_OTLP_GRPC", "TACHOGRAPH_WEB", "TACHOGRAPH_FOLLOW"), "off"
    )
    server = Server(
        load({}, {"TACHOGRAPH_HOME": str(home), "TACHOGRAPH_RELAY_RETENTION_DAYS": own_days} | doors),
        lambda: now_ns,
        is_relay,
    )
    server.start()
    try:
        yield server
    finally:
        server.stop()


def filled(home: Path, is_relay: bool = True) -> None:
    with running(home, NOW_NS, is_relay) as server:
        server.road.submit(Batch(events=[Event(Source({"service.name": "pi"}), NOW_NS, "said", {})])).result()


def left_after(home: Path, days: int, own_days: str = "") -> int:
    """How many events a relay leaves so many days later."""
    with running(home, NOW_NS + days * DAY_NS, own_days=own_days) as relay:
        relay.forget()
        return len(relay.store.scan(Scan("events", {"name": "name"})))


def sent_until(home: Path, seq: int) -> None:
    with closing(Progress(home / FILE_NAME)) as progress:
        for name in progress.names() or ["otlp"]:
            progress.save(name, State(cursor=seq))


@pytest.fixture
def destination(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that nobody answers at."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")


@pytest.mark.usefixtures("destination")
def test_a_relay_forgets_what_is_sent(tmp_path: Path) -> None:
    filled(tmp_path)
    sent_until(tmp_path, 1)
    assert left_after(tmp_path, 7) == 1
    assert left_after(tmp_path, 9) == 0


@pytest.mark.usefixtures("destination")
def test_a_relay_keeps_what_is_not_sent_as_long_as_all_is_kept(tmp_path: Path) -> None:
    filled(tmp_path)
    sent_until(tmp_path, 0)
    assert left_after(tmp_path, 80) == 1
    assert left_after(tmp_path, 92) == 0


@pytest.mark.usefixtures("destination")
def test_what_somebody_asked_to_be_sent_again_is_not_sent_yet(tmp_path: Path) -> None:
    filled(tmp_path)
    sent_until(tmp_path, 1)
    with closing(Progress(tmp_path / FILE_NAME)) as progress:
        progress.save("gone", State(cursor=1))
        progress.rewind("gone", 0)
    assert left_after(tmp_path, 9) == 1


def test_a_relay_without_destinations_keeps_what_a_server_keeps(tmp_path: Path) -> None:
    filled(tmp_path)
    assert left_after(tmp_path, 80) == 1
    assert left_after(tmp_path, 92) == 0


@pytest.mark.usefixtures("destination")
@pytest.mark.parametrize("is_first", [True, False])
def test_a_relay_keeps_what_a_server_shows(tmp_path: Path, is_first: bool) -> None:
    filled(tmp_path, is_relay=not is_first)
    with running(tmp_path, NOW_NS, is_relay=False):
        pass
    sent_until(tmp_path, 1)
    assert left_after(tmp_path, 80) == 1


@pytest.mark.usefixtures("destination")
def test_a_relay_keeps_what_a_command_has_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(tmp_path)
    sent_until(tmp_path, 1)
    assert relayed.is_marked(tmp_path)
    monkeypatch.setenv("TACHOGRAPH_HOME", str(tmp_path))
    assert main(["usage", "--json"]) == 0
    assert not relayed.is_marked(tmp_path)
    assert left_after(tmp_path, 80) == 1


@pytest.mark.usefixtures("destination")
def test_who_says_so_has_a_relay_forget_in_any_store(tmp_path: Path) -> None:
    filled(tmp_path, is_relay=False)
    sent_until(tmp_path, 1)
    assert left_after(tmp_path, 9, "off") == 1
    assert left_after(tmp_path, 9, "3") == 0
