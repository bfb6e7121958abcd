"""Forwarding in a whole server: real destinations that hang, die and come back; a server that is killed meanwhile."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kinds import otlp_keys
from sink import GOOD, Reply, Sink
from tachograph import config
from tachograph.cli import main
from tachograph.config import Address, Settings
from tachograph.errors import ConfigError
from tachograph.pipeline.loops import is_own_host, leads_to
from tachograph.pipeline.progress import FILE_NAME, Progress, State
from tachograph.pipeline.standings import as_shown
from tachograph.server import Server, back_up
from test_server import ANY, PATIENCE_S, Process, post, running, traces


def write(home: Path, *tables: str) -> None:
    home.mkdir(exist_ok=True)
    (home / "tachograph.toml").write_text("\n".join(tables), "utf-8")


def acme(url: str, *more: str) -> str:
    return "\n".join(["[forwarders.acme]", 'kind = "otlp"', f'endpoint = "{url}"', *more])


def settings(home: Path) -> Settings:
    return config.load({"home": str(home), "otlp_http": "127.0.0.1:0", "otlp_grpc": "off", "web": "off"}, {})


@contextmanager
def started(home: Path) -> Iterator[Server]:
    server = Server(settings(home))
    server.start()
    try:
        yield server
    finally:
        server.stop()


def wait_for(is_so: Callable[[], bool], what: str) -> None:
    for _ in range(PATIENCE_S * 20):
        if is_so():
            return
        time.sleep(0.05)
    pytest.fail(f"waited in vain: {what}")


def keys(sender: int, numbers: range, spans: int = 3) -> set[str]:
    ids = (sender.to_bytes(8, "big") + (n + 1).to_bytes(8, "big") for n in numbers)
    return {f"span {trace.hex()}:{n.to_bytes(8, 'big').hex()}" for trace in ids for n in range(1, spans + 1)}


def test_a_killed_server_loses_nothing(home: Path) -> None:
    """kill -9 with half of it sent, more coming in, and the destination gone; then all start again."""
    with Sink() as sink:
        write(home, acme(sink.url, "batch = 5"))
        sink.reply = lambda _: GOOD if len(sink.taken) < 4 else Reply(503)
        with running(home) as process:
            for number in range(20):
                assert post(process.port, traces(1, number)) == 200
            wait_for(lambda: len(sink.requests) > 4, "some of it sent")
            assert post(process.port, traces(1, 20)) == 200
            process.end(signal.SIGKILL)
        assert set(otlp_keys(sink.taken)) < keys(1, range(21))
        sink.reply = lambda _: GOOD
        again = Process(home)
        try:
            wait_for(lambda: set(otlp_keys(sink.taken)) == keys(1, range(21)), "the rest")
        finally:
            again.end(signal.SIGTERM)


def test_a_destination_that_hangs_holds_up_nothing(home: Path) -> None:
    with Sink(lambda _: Reply(how="stall")) as hanging, Sink() as good:
        write(home, acme(hanging.url, "timeout = 100"), acme(good.url).replace("acme", "good"))
        with started(home) as server:
            port = server.addresses["otlp_http"].port
            assert post(port, traces(1, 0)) == 200
            wait_for(lambda: bool(hanging.requests), "the hanging one asked")
            for number in range(1, 10):
                assert post(port, traces(1, number)) == 200
            wait_for(lambda: set(otlp_keys(good.taken)) == keys(1, range(10)), "the good one has it all")
            wait_for(lambda: "idle" in [one.word for one in server.standings()], "and noted it")
            standings = {one.name: one for one in server.standings()}
            assert standings["acme"].lag_commits >= 1 and standings["acme"].state.sent == 0
            assert standings["good"].state.sent == 30 and standings["good"].word == "idle"
            wait_for(lambda: server.telemetry.counts().get(("forwarded", "good sent")) == 30, "and counted")
            shown = as_shown(standings["good"], 0)
            assert (shown["name"], shown["circuit"], shown["sent"]) == ("good", "closed", 30)
        names = {thread.name for thread in threading.enumerate()}
        assert "forward-acme" in names and "forward-good" not in names, "left behind, not waited for"
        hanging.released.set()
        wait_for(lambda: "forward-acme" not in {t.name for t in threading.enumerate()}, "it ends by itself")


def test_a_destination_that_refuses_says_so(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Sink(lambda _: Reply(401, b"no such key")) as sink:
        write(home, acme(sink.url, 'headers = { "x-key" = "a-key-that-nobody-sees" }'))
        with started(home) as server:
            assert post(server.addresses["otlp_http"].port, traces(1, 0)) == 200
            wait_for(lambda: server.standings()[0].word == "refusing", "it refuses")
            assert as_shown(server.standings()[0], 0)["circuit"] == "open"
        assert main(["forward", "status"]) == 1
        assert main(["forward", "status", "--json"]) == 1
        assert main(["forward", "test", "acme"]) == 1
        told = capsys.readouterr()
        assert "refusing" in told.out and "no such key" in told.out
        assert "a-key-that-nobody-sees" not in told.out + told.err
        sink.reply = lambda _: GOOD
        assert main(["forward", "test"]) == 0
        with started(home) as server:
            wait_for(lambda: set(otlp_keys(sink.taken)) == keys(1, range(1)), "it goes on when it is right")


def test_backfill_refused_and_retry(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Sink(lambda _: Reply(400, b"never")) as sink:
        write(home)
        with started(home) as server:
            assert post(server.addresses["otlp_http"].port, traces(1, 0)) == 200
        write(home, acme(sink.url))
        assert main(["forward", "backfill", "acme", "--since", "1d"]) == 0
        with started(home) as server:
            wait_for(lambda: server.standings()[0].refused_kept == 3, "what was there before is refused")
        assert main(["forward", "refused", "acme"]) == 0
        assert "never" in capsys.readouterr().out
        sink.reply = lambda _: GOOD
        assert main(["forward", "retry", "acme"]) == 0
        with started(home) as server:
            wait_for(lambda: server.standings()[0].refused_kept == 0, "it is sent again")
        assert set(otlp_keys(sink.taken)) == keys(1, range(1))
        assert main(["forward", "refused", "--json"]) == 0
    for words in (["backfill", "acme"], ["backfill", "nobody", "--since", "1d"], ["status", "nobody"], ["test", "x"]):
        assert main(["forward", *words]) == 2
    assert main(["forward", "status", "--since", "1d"]) == 2


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (['kind = "langfuse"', 'public_key = "pk-1"'], "secret_key"),
        (['kind = "langfuse"', 'public_key = "sk-1"', 'secret_key = "pk-1"'], "the other way round"),
        (['kind = "otlp"', 'endpoint = "https://127.0.0.1:9"', 'certificate = "no-such.pem"'], "no-such.pem"),
        (['kind = "otlp"', 'endpoint = "http://127.0.0.1:9"', 'certificate = "no-such.pem"'], "no-such.pem"),
        (['kind = "prometheus"'], "url"),
    ],
)
def test_status_says_what_would_stop_the_start(
    home: Path, capsys: pytest.CaptureFixture[str], lines: list[str], said: str
) -> None:
    write(home, "\n".join(["[forwarders.acme]", *lines, ""]))
    assert main(["forward", "status"]) == 2
    told = capsys.readouterr().err
    assert "tachograph.toml:" in told and "forwarders.acme" in told and said in told
    assert "sk-1" not in told


def test_nothing_goes_in_circles(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(home)
    with started(home) as server:
        port = server.addresses["otlp_http"].port
    with Sink() as sink:
        write(home, acme(f"http://localhost:{port}"), acme(sink.url).replace("acme", "good"))
        server = Server(config.load({"home": str(home), "otlp_http": f":{port}", "otlp_grpc": "off", "web": "off"}, {}))
        server.start()
        try:
            assert [one.name for one in server.standings()] == ["good"]
        finally:
            server.stop()
    assert "tachograph.toml:1: forwarders.acme" in capsys.readouterr().err


def test_variables_alone_name_a_destination(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Sink() as sink:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url)
        write(home)
        with started(home) as server:
            assert [one.address for one in server.standings()] == [sink.url]
        write(home, acme("http://127.0.0.1:1"))
        with started(home) as server:
            assert [one.name for one in server.standings()] == ["acme"], "the file comes before variables of its kind"


def test_without_destinations_there_is_nothing(home: Path) -> None:
    write(home)
    with started(home) as server:
        assert server.standings() == [] and server.forwarding is None
    assert not (home / "forwarding.sqlite3").exists()
    assert main(["forward"]) == 0


@pytest.mark.parametrize(
    ("table", "where"),
    [
        ("[forwarders.acme]\nkind = 'nothing'", "tachograph.toml:2: forwarders.acme.kind"),
        ("[forwarders.acme]\nkind = 'otlp'\nendpont = 'x'", "tachograph.toml:3: forwarders.acme.endpont"),
        (acme("http://x", "certificate = '/nowhere'").replace("http:", "https:"), "tachograph.toml:1: forwarders.acme"),
        ("[forwarders.acme]\nkind = 'otlp'\nprivacy = 'some'", "tachograph.toml:3: forwarders.acme.privacy"),
    ],
)
def test_a_wrong_table_stops_the_start(home: Path, table: str, where: str) -> None:
    write(home, table)
    with pytest.raises(ConfigError) as caught:
        Server(settings(home)).start()
    assert caught.value.what.startswith(where)
    write(home)
    with started(home):
        pass  # nothing was left open


@pytest.mark.parametrize("is_running", [True, False])
def test_a_backup_knows_how_far_each_destination_was(home: Path, tmp_path: Path, is_running: bool) -> None:
    with Sink() as sink:
        write(home, acme(sink.url))
        with started(home) as server:
            assert post(server.addresses["otlp_http"].port, traces(1, 0)) == 200
            wait_for(lambda: len(otlp_keys(sink.taken)) == 3, "sent")
            wait_for(lambda: server.standings()[0].lag_commits == 0, "and noted")
            if is_running:
                back_up(server.store, server.settings, tmp_path / "copy")
        if not is_running:
            assert main(["backup", str(tmp_path / "copy"), "--home", str(home)]) == 0
        other = tmp_path / "other"
        assert main(["restore", str(tmp_path / "copy"), "--home", str(other)]) == 0
        write(other, acme(sink.url))
        with started(other) as server:
            assert post(server.addresses["otlp_http"].port, traces(1, 1)) == 200
            wait_for(lambda: set(otlp_keys(sink.taken)) == keys(1, range(2)), "what is new is sent")
        assert len(otlp_keys(sink.taken)) == 6, "and nothing else again"


def test_a_store_that_was_replaced_is_sent_from_its_end(home: Path) -> None:
    with Sink() as sink:
        write(home, acme(sink.url))
        progress = Progress(home / FILE_NAME)
        progress.save("acme", State(cursor=1000))
        progress.close()
        with started(home) as server:
            assert post(server.addresses["otlp_http"].port, traces(1, 0)) == 200
            wait_for(lambda: len(otlp_keys(sink.taken)) == 3, "sent")


@pytest.mark.parametrize(
    "host",
    ["[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::ffff:0.0.0.0]", "localhost.", "LOCALHOST", "a.localhost", "127.1"],
)
def test_a_way_back_is_known_however_it_is_written(host: str) -> None:
    doors = [Address("127.0.0.1", 4318)]
    assert leads_to(f"http://{host}:4318/v1", doors) and leads_to(f"{host}:4318", doors)
    assert not leads_to(f"http://{host}:4320", doors)
    assert not leads_to("http://[::ffff:192.0.2.1]:4318", doors)


def test_own_hosts() -> None:
    assert all(is_own_host(host) for host in ("localhost", "127.0.0.1", "::1", "0.0.0.0", "127.8.8.8"))
    assert not any(is_own_host(host) for host in ("192.0.2.1", "collector.example", "2001:db8::1"))
    assert Address(*ANY).is_loopback
