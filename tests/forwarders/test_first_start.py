"""A destination that is new is sent what comes in from the moment that a door is open."""

from __future__ import annotations

from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from kinds import otlp_keys
from sink import Sink
from tachograph.pipeline.progress import FILE_NAME, Progress
from tachograph.server import Server
from test_forwarding import acme, keys, settings, started, wait_for, write
from test_server import post, traces


class Early(Server):
    """Somebody sends as soon as the doors are open."""

    def _open_doors(self, opened: ExitStack) -> None:
        super()._open_doors(opened)
        assert post(self.addresses["otlp_http"].port, traces(1, 0)) == 200


def test_what_is_accepted_while_it_starts_is_sent(home: Path) -> None:
    with Sink() as sink:
        write(home, acme(sink.url))
        server = Early(settings(home))
        server.start()
        try:
            wait_for(lambda: set(otlp_keys(sink.taken)) == keys(1, range(1)), "what came first")
        finally:
            server.stop()


def test_what_was_there_before_is_not(home: Path) -> None:
    with Sink() as sink:
        write(home)
        with started(home) as server:
            assert post(server.addresses["otlp_http"].port, traces(1, 0)) == 200
        write(home, acme(sink.url))
        with started(home) as server:
            assert post(server.addresses["otlp_http"].port, traces(1, 1)) == 200
            wait_for(lambda: set(otlp_keys(sink.taken)) == keys(1, range(1, 2)), "only what is new")


class Looping(Server):
    """Its destination is a door of its own, whose port is known only when it is open."""

    def _leads_here(self, address: str) -> bool:
        return bool(self.addresses)


def test_who_would_send_to_itself_leaves_no_trace(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(home, acme("http://127.0.0.1:1"))
    server = Looping(settings(home))
    server.start()
    try:
        assert server.standings() == [] and server.forwarding is None
    finally:
        server.stop()
    assert "is this server" in capsys.readouterr().err
    with closing(Progress(home / FILE_NAME)) as progress:
        assert progress.names() == []
