"""Variables that are set for other programs, or for another account: recording goes on, and nobody is sent the rest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kinds import otlp_keys
from sink import Reply, Sink
from tachograph.cli import main
from tachograph.pipeline import routing
from tachograph.server import Server
from test_forwarding import acme, keys, settings, started, wait_for, write
from test_server import post, traces

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
HEADERS = "OTEL_EXPORTER_OTLP_HEADERS"
WRONG = (
    {"LANGFUSE_PUBLIC_KEY": "pk-lf-x"},
    {"LANGFUSE_PUBLIC_KEY": "sk-lf-x", "LANGFUSE_SECRET_KEY": "pk-lf-x"},
    {ENDPOINT: "http://c:4318", "OTEL_EXPORTER_OTLP_COMPRESSION": "zstd"},
    {ENDPOINT: "collector:4318"},
    {ENDPOINT: "unix:///run/collector"},
    {ENDPOINT: "https://127.0.0.1:1", "OTEL_EXPORTER_OTLP_CERTIFICATE": "/nowhere.pem"},
    {ENDPOINT: "http://c:4318", "HTTP_PROXY": "socks5://h"},
    {"POSTHOG_API_KEY": "phc_x", "POSTHOG_TRACE_GROUPING": "x"},
    {"POSTHOG_API_KEY": "phc_x", "POSTHOG_HOST": "posthog"},
)


def given(monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]) -> None:
    for name in (ENDPOINT, HEADERS):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("environ", WRONG)
def test_wrong_variables_stop_nothing_and_are_said(
    home: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given(monkeypatch, environ)
    write(home)
    with started(home) as server:
        assert post(server.addresses["otlp_http"].port, traces(1, 0)) == 200
        (one,) = server.standings()
    assert one.word == "refusing" and "expected" in one.state.answer and "(try: " in one.state.answer
    said = capsys.readouterr().err
    assert said.count(f"nothing is forwarded to {one.name}") == 1 and "Try: " in said
    assert main(["forward", "status", "--json"]) == 1
    (told,) = json.loads(capsys.readouterr().out)["destinations"]
    assert (told["name"], told["word"]) == (one.name, "refusing") and told["state"]["answer"] == one.state.answer
    assert main(["forward", "status"]) == 1
    assert "refusing" in capsys.readouterr().out
    assert main(["forward", "test"]) == 1
    assert "would not take it" in capsys.readouterr().out


def test_wrong_variables_leave_the_others_alone(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, {"LANGFUSE_PUBLIC_KEY": "pk-lf-x"})
    with Sink() as sink:
        write(home, acme(sink.url))
        with started(home) as server:
            assert post(server.addresses["otlp_http"].port, traces(1, 0)) == 200
            assert [(one.name, one.word == "refusing") for one in server.standings()] == [
                ("acme", False),
                ("langfuse", True),
            ]
            wait_for(lambda: set(otlp_keys(sink.taken)) == keys(1, range(1)), "it is sent")


def test_a_relay_records_although_the_file_is_wrong(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(home, "[forwarders.acme]\nkind = 'nothing'")
    relay = Server(settings(home), is_relay=True)
    relay.start()
    try:
        assert post(relay.addresses["otlp_http"].port, traces(1, 0)) == 200
        assert relay.standings() == []
    finally:
        relay.stop()
    assert "forwarders.acme.kind" in capsys.readouterr().err


@pytest.mark.parametrize("more", [{}, {HEADERS: "authorization=Bearer%20b"}], ids=["address", "credentials"])
def test_other_variables_are_another_destination(
    home: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, str]
) -> None:
    """What waits for one account is not sent to another, and goes out when the first is back."""
    with Sink() as first, Sink() as second:
        there = first if more else second
        given(monkeypatch, {ENDPOINT: first.url})
        write(home)
        first.reply = lambda _: Reply(503)
        with started(home) as server:
            assert post(server.addresses["otlp_http"].port, traces(1, 0)) == 200
            wait_for(lambda: server.standings()[0].word == "waiting", "it is away")
        first.reply = lambda _: Reply()
        asked = len(first.taken)
        given(monkeypatch, {ENDPOINT: there.url, **more})
        with started(home) as server:
            (one,) = server.standings()
            assert (one.name, one.address, one.lag_commits) == ("otlp", there.url, 0)
            assert post(server.addresses["otlp_http"].port, traces(1, 1)) == 200
            wait_for(lambda: len(otlp_keys(there.taken[asked if more else 0 :])) == 3, "what is new")
        assert set(otlp_keys(there.taken[asked if more else 0 :])) == keys(1, range(1, 2))
        asked = len(first.taken)
        given(monkeypatch, {ENDPOINT: first.url})
        with started(home):
            wait_for(lambda: keys(1, range(1)) <= set(otlp_keys(first.taken[asked:])), "what waited")


def test_what_is_known_of_one_shows_no_secret() -> None:
    environ = {"LANGFUSE_PUBLIC_KEY": "pk-lf-1", "LANGFUSE_SECRET_KEY": "sk-lf-hunter2"}
    (one,) = routing.known({}, environ)
    (same,) = routing.known({}, environ | {"LANGFUSE_RELEASE": "v2", "LANGFUSE_TIMEOUT": "5"})
    (other,) = routing.known({}, environ | {"LANGFUSE_SECRET_KEY": "sk-lf-hunter3"})
    assert one.identity == same.identity != other.identity
    assert one.name == "langfuse" and one.identity.startswith("langfuse@") and "hunter2" not in one.identity


def test_a_destination_of_the_file_that_moves_while_something_waits_is_said(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Sink() as first, Sink() as second:
        first.reply = lambda _: Reply(503)
        write(home, acme(first.url))
        with started(home) as server:
            assert post(server.addresses["otlp_http"].port, traces(1, 0)) == 200
            wait_for(lambda: server.standings()[0].word == "waiting", "it is away")
        assert "led to" not in capsys.readouterr().err
        write(home, acme(second.url))
        with started(home):
            wait_for(lambda: set(otlp_keys(second.taken)) == keys(1, range(1)), "it is sent")
        said = capsys.readouterr().err
        assert f"led to 127.0.0.1:{first.port} before and leads to 127.0.0.1:{second.port} now: the 1 commits" in said
        with started(home):
            pass
        assert "led to" not in capsys.readouterr().err
