"""Commands beside a running server: it alone has the store open, and they ask it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from recordings import CAPTURES, MANIFEST
from tachograph.cli import main, running
from tachograph.errors import ConfigError, QueryError
from tachograph.scan import Agg, Match, Scan

RECORDING = CAPTURES / "claude-code-content"
TRUTH = MANIFEST["claude-code-content"]["truth"]


@pytest.fixture
def server(home: Path) -> Iterator[subprocess.Popen[str]]:
    """A real server on free ports, over the home of the test."""
    words = [sys.executable, "-m", "tachograph", "up", "--otlp-http", "0", "--otlp-grpc", "0", "--web", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("Connect an agent"):
                break
        yield process
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.communicate()


def output(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    capsys.readouterr()
    assert main(words) == code
    return capsys.readouterr().out


def stop(process: subprocess.Popen[str], number: int) -> int:
    process.send_signal(number)
    process.communicate()
    return process.returncode


def test_nothing_is_waited_for_where_nothing_came(
    server: subprocess.Popen[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def waits(_: float) -> None:
        raise AssertionError("got a wait; expected an answer at once")

    monkeypatch.setattr("time.sleep", waits)
    assert output(capsys, "usage").startswith("no model calls")


def test_a_second_one_says_where_the_first_is(
    home: Path, server: subprocess.Popen[str], capsys: pytest.CaptureFixture[str]
) -> None:
    where = running.find(home)
    assert where is not None
    assert main(["up"]) == 2
    told = capsys.readouterr().err
    assert f"process {server.pid} runs here already, with its pages at {where.web}" in told


def test_the_greeting_says_what_is_where(home: Path) -> None:
    words = [sys.executable, "-m", "tachograph", "up", "--otlp-http", "0", "--otlp-grpc", "off", "--web", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        told = [process.stdout.readline() for _ in range(6)]
        where = running.find(home)
        assert where is not None
        assert f"pages      {where.web}\n" in told[1]
        assert f"OTLP/HTTP  {where.otlp_http}\n" in told[2]
        assert "off" in told[3]
        assert str(home) in told[4]
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == ""
        assert process.wait() == 0
    assert not (home / running.FILE_NAME).exists()


def test_where_the_server_is_only_its_owner_may_know(server: subprocess.Popen[str], home: Path) -> None:
    assert (home / running.FILE_NAME).stat().st_mode & 0o777 == 0o600
    where = running.find(home)
    assert where is not None and where.pid == server.pid
    assert httpx.get(f"{where.web}/api/v1/sequence").status_code == 401
    wrong = running.Server(running.Running(where.pid, where.web, token="wrong-token-of-some-length"))
    with pytest.raises(ConfigError):
        wrong.sequence()


def test_commands_read_and_feed_a_running_server(
    server: subprocess.Popen[str], home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "transcripts" in json.loads(output(capsys, "replay", "--json", str(RECORDING)))["files"]
    totals = json.loads(output(capsys, "usage", "--json"))["totals"]
    assert totals["calls"] == TRUTH["llm_calls_ok"]
    assert totals["input_tokens"] == TRUTH["input_tokens_incl_cache"]
    assert "tool Bash" in output(capsys, "show", "last")
    assert "told by" in output(capsys, "explain", "last")
    assert len(json.loads(output(capsys, "search", "readme", "--limit", "2", "--json"))["hits"]) == 2
    assert json.loads(output(capsys, "sql", "select count(*) as n from calls", "--json")) == [{"n": 5}]
    assert json.loads(output(capsys, "doctor", "--json"))["server"]["pid"] == server.pid
    assert len(output(capsys, "tail", "--no-follow", "--lines", "3").splitlines()) == 3
    assert output(capsys, "backup", str(tmp_path / "copy"))
    beside = tmp_path / "beside"
    assert output(capsys, "restore", str(tmp_path / "copy"), "--home", str(beside))
    copied = json.loads(output(capsys, "usage", "--json", "--home", str(beside)))["totals"]
    assert copied == totals
    assert main(["restore", str(tmp_path / "copy")]) == 2  # not into a home that is being served


def test_what_is_posted_is_counted_at_once(
    server: subprocess.Popen[str], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = running.find(home)
    assert where is not None
    for number, signal_name in (("001", "traces"), ("002", "logs")):
        body = (RECORDING / f"{number}-{signal_name}.bin").read_bytes()
        answer = httpx.post(
            f"{where.otlp_http}/v1/{signal_name}", content=body, headers={"Content-Type": "application/x-protobuf"}
        )
        assert answer.status_code == 200
    totals = json.loads(output(capsys, "usage", "--json"))["totals"]
    assert (totals["calls"], totals["input_tokens"]) == (TRUTH["llm_calls_ok"], TRUTH["input_tokens_incl_cache"])


def test_errors_of_the_server_are_those_of_the_store(server: subprocess.Popen[str], home: Path) -> None:
    where = running.find(home)
    assert where is not None
    reader = running.Server(where)
    with pytest.raises(QueryError):
        reader.sql("selec 1")
    with pytest.raises(QueryError):
        reader.scan(Scan("nothing", {"n": Agg("count")}))
    answered = reader.scan(Scan("calls", {"n": Agg("count")}, (Match("agent", "in", ["pi"]),)))
    assert answered.rows() == [{"n": 0}]
    assert reader.texts(["nothing"]) == {}


def test_a_killed_server_does_not_stand_in_the_way(
    server: subprocess.Popen[str], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert output(capsys, "replay", str(RECORDING))
    stop(server, signal.SIGKILL)
    assert (home / running.FILE_NAME).exists()
    assert running.find(home) is None
    assert json.loads(output(capsys, "usage", "--json"))["totals"]["calls"] == 5


def test_tail_follows_until_interrupted(server: subprocess.Popen[str], home: Path) -> None:
    words = [sys.executable, "-m", "tachograph", "tail", "--json"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as tail:
        assert tail.stdout is not None
        assert main(["replay", str(RECORDING)]) == 0
        lines = [json.loads(tail.stdout.readline()) for _ in range(10)]
        assert sum(line["kind"] == "call" for line in lines) == 5
        assert sum(line["kind"] == "tool" for line in lines) == 5
        assert stop(tail, signal.SIGINT) == 130


def test_something_else_on_the_port_is_not_taken_for_the_server(home: Path) -> None:
    home.mkdir()
    assert running.find(home) is None
    (home / running.FILE_NAME).write_text("not json")
    assert running.find(home) is None
    running.publish(home, running.Running(os.getpid(), "http://127.0.0.1:9", token="t" * 20))
    assert running.find(home) is None
    running.withdraw(home / running.FILE_NAME)
    assert not (home / running.FILE_NAME).exists()
    running.publish(home, running.Running(1, "http://127.0.0.1:9", token="t" * 20))
    running.withdraw(home / running.FILE_NAME)
    assert (home / running.FILE_NAME).exists()  # another process wrote that
