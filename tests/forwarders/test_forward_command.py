"""What `forward` says of destinations while a server runs whose environment the caller does not have, and without."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from sink import GOOD, Reply, Sink
from tachograph import config
from tachograph.cli import main, running
from tachograph.cli.up import where
from tachograph.pipeline.progress import FILE_NAME, Letter, Progress, State
from tachograph.server import Server
from test_forwarding import acme, wait_for, write
from test_server import post, traces

Captured = pytest.CaptureFixture[str]


@contextmanager
def up(home: Path, *, is_relay: bool = False) -> Iterator[Server]:
    """A server that commands find."""
    chosen = {"home": str(home), "otlp_http": "127.0.0.1:0", "otlp_grpc": "off", "web": "127.0.0.1:0"}
    server = Server(config.load(chosen, {}), is_relay=is_relay)
    server.start()
    running.publish(home, where(server))
    try:
        yield server
    finally:
        running.withdraw(home / running.FILE_NAME)
        server.stop()


def told(capsys: Captured, *words: str, code: int = 0) -> str:
    capsys.readouterr()
    assert main(["forward", *words]) == code
    written = capsys.readouterr()
    return written.err if code == 2 else written.out


def answer(capsys: Captured, *words: str, code: int = 0) -> Any:
    return json.loads(told(capsys, *words, "--json", code=code))


def keep(home: Path, name: str, letters: int = 1, lost: int = 0, lost_ns: int = 0) -> None:
    """Have the file know of a destination with refused pieces."""
    progress = Progress(home / FILE_NAME)
    found = [Letter([f"span {n}"], 1, 1, "traces", "400: never", 1, 1) for n in range(letters)]
    progress.save(name, State(cursor=0, lost=lost, lost_ns=lost_ns), letters=found)
    progress.close()


@pytest.mark.parametrize("is_relay", [False, True])
def test_the_running_one_is_asked(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured, is_relay: bool
) -> None:
    with Sink(lambda _: Reply(401, b"no such key")) as sink:
        write(home)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=nobody-sees-it")
        with up(home, is_relay=is_relay) as server:
            monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT")
            monkeypatch.delenv("OTEL_EXPORTER_OTLP_HEADERS")
            assert post(server.addresses["otlp_http"].port, traces(1, 0)) == 200
            wait_for(lambda: server.standings()[0].word == "refusing", "it refuses")
            shown = told(capsys, "status", code=1)
            whole = f"otlp: {sink.url}/v1/traces: answered 401: no such key"
            assert whole in shown.splitlines(), "a table may be cut"
            assert "refusing" in shown and "no such key" in shown and "somebody acts" in shown
            assert ("running relay" if is_relay else "running server") in shown and "nobody-sees-it" not in shown
            status = answer(capsys, "status", code=1)
            assert status["told_by"] == ("relay" if is_relay else "server")
            (one,) = status["destinations"]
            assert (one["name"], one["word"], one["kind"]) == ("otlp", "refusing", "otlp")
            assert "would not take it" in told(capsys, "test", "otlp", code=1)
            assert "1 commit to be sent" in told(capsys, "backfill", "otlp", "--since", "1d")
            assert "nothing was refused" in told(capsys, "retry", "otlp")
            assert 'got "nosuch"; expected one of otlp' in told(capsys, "status", "nosuch", code=2)


def test_the_api_and_the_metrics_say_it_too(home: Path) -> None:
    with Sink(lambda _: Reply(401, b"no such key")) as sink:
        write(home, acme(sink.url), '\n[forwarders.quiet]\nkind = "otlp"\nenabled = false\nendpoint = "http://x"\n')
        keep(home, "gone")
        with up(home) as server:
            assert post(server.addresses["otlp_http"].port, traces(1, 0)) == 200
            wait_for(lambda: server.standings()[0].word == "refusing", "it refuses")
            web = f"http://{server.addresses['web']}"
            found = httpx.get(f"{web}/api/v1/destinations").json()["destinations"]
            assert [(one["name"], one["word"]) for one in found] == [
                ("acme", "refusing"),
                ("quiet", "off"),
                ("gone", "removed"),
            ]
            lines = httpx.get(f"{web}/metrics").text.splitlines()
            assert 'tachograph_destination_is_refusing{destination="acme",kind="otlp"} 1' in lines
            assert 'tachograph_destination_lost_records_total{destination="acme",kind="otlp"} 0' in lines
            assert not any('"quiet"' in line or '"gone"' in line for line in lines)
            accepted = httpx.get(f"{web}/metrics", headers={"accept": "application/openmetrics-text"}).text
            assert accepted.endswith("# EOF\n") and accepted.count("# EOF") == 1
            page = httpx.get(f"{web}/destinations").text
            assert "tachograph forward forget gone" in page and "off: enabled = false" in page


def test_what_is_lost_or_refused_is_shown_and_fails(home: Path, capsys: Captured) -> None:
    write(home, acme("http://127.0.0.1:9", 'agents = ["pi"]', 'privacy = "none"'))
    assert "lost" not in told(capsys, "status").splitlines()[0]
    keep(home, "acme", letters=0, lost=7, lost_ns=time.time_ns() - 25 * 3600 * 10**9)
    assert "7" in told(capsys, "status"), "what was lost long ago is told, and nobody has to be called"
    keep(home, "acme", letters=0, lost=7, lost_ns=time.time_ns())
    shown = told(capsys, "status", code=1)
    assert "lost" in shown.splitlines()[0] and "7" in shown and "pi" in shown and "none" in shown
    assert "told by the files" in shown
    assert answer(capsys, "status", code=1)["destinations"][0]["state"]["lost"] == 7


def test_unknown_names_are_errors_that_list_the_known(home: Path, capsys: Captured) -> None:
    write(home, acme("http://127.0.0.1:9"))
    for words in (["retry", "nosuch"], ["refused", "nosuch"], ["test", "nosuch"], ["forget", "nosuch"]):
        assert "expected one of acme" in told(capsys, *words, code=2)
    assert "got 99; expected the id of a refused piece" in told(capsys, "retry", "99", code=2)
    assert "is a destination" in told(capsys, "forget", "acme", code=2)
    told(capsys, "forget", code=2)


def test_all_that_was_refused_is_listed(home: Path, capsys: Captured) -> None:
    write(home, acme("http://127.0.0.1:9"))
    keep(home, "acme", letters=1003)
    assert len(answer(capsys, "refused")["refused"]) == 1003
    assert "the newest 1,000" in told(capsys, "refused", "acme")
    assert "1,003 refused pieces" in told(capsys, "retry", "acme")
    assert "1 refused piece to be sent again" in told(capsys, "retry", "1003")
    assert "(is sent again) 400: never" in told(capsys, "refused", "acme")
    assert "1 refused piece dropped" in told(capsys, "drop", "1003")
    assert "got 1003; expected the id" in told(capsys, "drop", "1003", code=2)
    assert answer(capsys, "drop", "acme") == {"dropped": 1002}
    told(capsys, "status")
    told(capsys, "drop", code=2)


def test_what_was_removed_is_told_until_it_is_forgotten(home: Path, capsys: Captured) -> None:
    write(home, acme("http://127.0.0.1:9"))
    keep(home, "former", letters=3)
    shown = told(capsys, "status")
    assert "kept: 3 refused pieces" in shown and "tachograph forward forget former" in shown
    assert "removed" in told(capsys, "retry", "former", code=2) and "removed" in told(capsys, "retry", "1", code=2)
    assert "nothing was refused" in told(capsys, "retry")
    assert len(answer(capsys, "refused", "former")["refused"]) == 3
    assert "3 refused pieces" in told(capsys, "forget", "former")
    assert "former" not in told(capsys, "status")
    assert told(capsys, "refused") == "nothing was refused\n"


def test_what_is_off_or_a_loop_fails_no_test(home: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TACHOGRAPH_OTLP_HTTP", "127.0.0.1:4999")
    with Sink(lambda _: GOOD) as sink:
        off = acme("http://127.0.0.1:9", "enabled = false").replace("acme", "quiet")
        loop = acme("http://127.0.0.1:4999").replace("acme", "circle")
        write(home, acme(sink.url), off + "\n", loop)
        shown = told(capsys, "test")
        assert "is not asked: enabled = false" in shown and "is this server" in shown and "would take it" in shown
        assert {one["name"]: one["word"] for one in answer(capsys, "test")["destinations"]} == {
            "acme": "good",
            "quiet": "off",
            "circle": "loop",
        }


@pytest.mark.parametrize("kind", ["otlp", "loki"])
def test_a_door_that_takes_nothing_is_not_good(home: Path, capsys: Captured, kind: str) -> None:
    with Sink(lambda _: Reply(413, b"too large")) as sink:
        option = "endpoint" if kind == "otlp" else "url"
        write(home, f'[forwarders.acme]\nkind = "{kind}"\n{option} = "{sink.url}"\n')
        assert "would not take it" in told(capsys, "test", code=1)
