"""The file of what each destination has is damaged: it is set aside, and recording and forwarding go on."""

from __future__ import annotations

from pathlib import Path

import pytest

from kinds import otlp_keys
from sink import Sink
from tachograph.errors import Corrupt
from tachograph.pipeline.progress import FILE_NAME, Progress, State, open_progress
from test_forwarding import acme, keys, started, wait_for, write
from test_server import post, traces


def damaged(path: Path, how: str) -> None:
    """A file with some state in it, damaged."""
    progress = Progress(path)
    for number in range(200):
        progress.save(f"one {number}", State(cursor=number), [(f"key {number}", b"x" * 500)])
    progress.close()
    whole = path.read_bytes()
    path.write_bytes({"garbage": b"\xff" * len(whole), "cut": whole[:5000]}[how])


@pytest.mark.parametrize("how", ["garbage", "cut"])
def test_it_is_set_aside(tmp_path: Path, how: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / FILE_NAME
    damaged(path, how)
    before = path.read_bytes()
    with pytest.raises(Corrupt, match=FILE_NAME):
        Progress(path)
    for number in (1, 2):
        progress = open_progress(path)
        assert progress.names() == []
        progress.close()
        aside = tmp_path / f"{FILE_NAME}.damaged-{number}"
        assert aside.read_bytes() == before
        assert aside.name in capsys.readouterr().err
        path.write_bytes(before)


def test_a_server_starts_and_forwards(tmp_path: Path) -> None:
    with Sink() as sink:
        write(tmp_path, acme(sink.url))
        damaged(tmp_path / FILE_NAME, "garbage")
        with started(tmp_path) as server:
            assert post(server.addresses["otlp_http"].port, traces(1, 0)) == 200
            wait_for(lambda: set(otlp_keys(sink.taken)) == keys(1, range(1)), "sent")
