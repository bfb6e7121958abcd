"""The files of agents, followed: what is new is read once, whatever happens to the files and to the process."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from tachograph.config import Surroundings
from tachograph.errors import Busy, ConfigError, Rejected
from tachograph.model import Batch
from tachograph.pipeline import Follower, Road, chosen, following, spools, watching
from tachograph.pipeline.watching import SECOND_NS, Watch
from tachograph.registry import HOOKS, TRANSCRIPTS, AgentFiles
from tachograph.scan import Scan
from tachograph.store.duckdb import DuckStore, open_store
from tachograph.telemetry import Telemetry

KINDS = (*HOOKS, *TRANSCRIPTS)
CLAUDE = next(kind for kind in TRANSCRIPTS if kind.agent == "claude-code")
CODEX = next(kind for kind in TRANSCRIPTS if kind.agent == "codex")


def answer(number: int) -> bytes:
    usage = {"input_tokens": number, "output_tokens": 1}
    message = {
        "id": f"msg_{number:04}",
        "model": "claude-opus-4-8",
        "usage": usage,
        "content": "yes",
        "role": "assistant",
    }
    line = {"type": "assistant", "sessionId": "s", "uuid": f"u{number}", "timestamp": "2026-11-01T10:00:00Z"}
    return json.dumps(line | {"message": message}).encode() + b"\n"


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now_ns = 10**15

    def __call__(self) -> int:
        return self.now_ns

    def pass_s(self, seconds: float) -> None:
        self.now_ns += int(seconds * SECOND_NS)


class Desk:
    """A user's home, a store and a follower between them."""

    def __init__(self, folder: Path, kinds: tuple[AgentFiles, ...] = KINDS) -> None:
        self.kinds = kinds
        self.where = Surroundings(folder / "user", {}, folder / "spool")
        self.projects = self.where.user_home / ".claude" / "projects"
        (self.projects / "p").mkdir(parents=True, exist_ok=True)
        self.clock = Clock()
        self.submitted: list[Batch] = []
        self.store: DuckStore = open_store(folder / "store", time.time_ns)
        self.road = Road(self.store, (self.submitted.append,), lambda: False, time.monotonic_ns, Telemetry(), 64 << 20)
        self.follower = self.new_follower()

    def new_follower(self, **more: Any) -> Follower:
        given: dict[str, Any] = {
            "submit": self.road.submit,
            "positions": self.store.positions,
            "queued_bytes": lambda: 0,
            "kinds": self.kinds,
            "where": self.where,
            "clock": self.clock,
            "wall_clock": time.time_ns,
        }
        return Follower(**given | more)

    def rounds(self, seconds: float = 700) -> None:
        """As many rounds as are needed to see all there is, some time later."""
        self.clock.pass_s(seconds)
        self.follower.round()
        while not self.follower.is_idle():
            self.follower.round()

    def ids(self) -> list[str]:
        """The ids of all answers that are kept, each as often as it is."""
        scan = Scan("events", {"id": "response_id"})
        return sorted(name for name in self.store.scan(scan).data["id"] if name)

    def file(self, name: str = "s.jsonl") -> Path:
        return self.projects / "p" / name

    def close(self) -> None:
        self.follower.close()
        self.road.close()
        self.store.close()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.close()


def ids(*numbers: int) -> list[str]:
    return [f"msg_{number:04}" for number in numbers]


def test_history_then_what_is_appended(desk: Desk) -> None:
    desk.file().write_bytes(answer(1) + answer(2))
    desk.rounds()
    assert desk.ids() == ids(1, 2)
    with desk.file().open("ab") as file:
        file.write(answer(3) + answer(4)[:50])
    desk.rounds()
    assert desk.ids() == ids(1, 2, 3)
    with desk.file().open("ab") as file:
        file.write(answer(4)[50:])
    desk.rounds(1)
    assert desk.ids() == ids(1, 2, 3, 4), "a file that has just changed is looked at again after a second"


def test_a_second_process_reads_nothing_again(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.file().write_bytes(answer(1))
    desk.rounds()
    desk.close()
    again = Desk(tmp_path)
    again.rounds()
    assert not again.submitted
    with again.file().open("ab") as file:
        file.write(answer(2))
    again.rounds()
    assert again.ids() == ids(1, 2)
    assert [len(batch.events) for batch in again.submitted] == [1]
    again.close()


def test_new_files_and_folders_are_found(desk: Desk) -> None:
    desk.file().write_bytes(answer(1))
    desk.rounds()
    time.sleep(0.02)  # the clock of folders ticks every few milliseconds
    desk.file("t.jsonl").write_bytes(answer(2))
    desk.rounds(2)
    assert desk.ids() == ids(1, 2), "its folder has changed"
    (desk.projects / "q" / "deep").mkdir(parents=True)
    (desk.projects / "q" / "deep" / "u.jsonl").write_bytes(answer(3))
    desk.rounds(700)
    assert desk.ids() == ids(1, 2, 3)


def test_the_newest_file_first(desk: Desk) -> None:
    for number in range(1, 6):
        desk.file(f"{number}.jsonl").write_bytes(answer(number))
        os.utime(desk.file(f"{number}.jsonl"), (1_790_000_000 + number, 1_790_000_000 + number))
    desk.rounds()
    told = [event.meaning.response_id for batch in desk.submitted for event in batch.events if event.meaning]
    assert told == ids(5, 4, 3, 2, 1)


def test_truncated_rewritten_and_gone(desk: Desk) -> None:
    desk.file().write_bytes(answer(1) + answer(2))
    desk.rounds()
    desk.file().write_bytes(answer(3))
    desk.rounds()
    assert desk.ids() == ids(1, 2, 3)
    desk.file().write_bytes(answer(4) + answer(5))
    desk.rounds()
    desk.file().unlink()
    desk.rounds()
    assert desk.ids() == ids(1, 2, 3, 4, 5)
    assert {told.agent: told.files for told in desk.follower.state()}["claude-code"] == 0


def test_a_moved_file_is_not_read_again(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    old = desk.where.user_home / ".codex" / "sessions" / "2026" / "rollout-1.jsonl"
    new = desk.where.user_home / ".codex" / "archived_sessions" / "rollout-1.jsonl"
    old.parent.mkdir(parents=True)
    new.parent.mkdir(parents=True)
    prompt = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hello"}]}
    old.write_text(json.dumps({"type": "response_item", "timestamp": "2026-11-01T10:00:00Z", "payload": prompt}) + "\n")
    desk.rounds()
    assert len(desk.store.scan(Scan("events", {"name": "name"}))) == 1
    old.rename(new)
    desk.rounds()
    assert len(desk.submitted) == 1, "the position is carried on"
    desk.close()
    again = Desk(tmp_path)  # nobody looked while it was moved
    again.rounds()
    assert not [batch for batch in again.submitted if batch.events]
    assert len(again.store.scan(Scan("events", {"name": "name"}))) == 1
    again.close()


def test_the_same_piece_under_another_path_counts_as_read(desk: Desk) -> None:
    """Its digest is known, so its data is left out; how far it was read is kept all the same."""
    first, second = desk.file(), desk.projects / "q" / "s.jsonl"
    second.parent.mkdir()
    for path in (first, second):
        path.write_bytes(answer(1))
    desk.rounds()
    assert desk.ids() == ids(1)
    assert set(desk.store.positions()) == {str(first), str(second)}


def test_a_file_that_cannot_be_read_is_set_aside_until_it_changes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def read(path: Path, since: str) -> tuple[Batch, str]:
        if path.read_bytes().startswith(b"bad"):
            raise Rejected(f"{path.name}: got something else; expected lines")
        return CLAUDE.read(path, since)

    desk = Desk(tmp_path, (CLAUDE._replace(read=read),))
    desk.file().write_bytes(b"bad\n")
    desk.file("t.jsonl").write_bytes(answer(1))
    desk.rounds()
    desk.rounds()
    assert desk.ids() == ids(1), "its neighbours are read"
    (told,) = desk.follower.state()
    assert told.refused == {str(desk.file()): "s.jsonl: got something else; expected lines"}
    assert (told.files, told.waiting) == (2, 0)
    assert capsys.readouterr().err.count("got something else") == 1, "said once"
    desk.file().write_bytes(answer(2))
    desk.rounds()
    assert desk.ids() == ids(1, 2)
    assert desk.follower.state()[0].refused == {}
    desk.close()


def test_a_bug_in_one_reader_stops_nothing_else(tmp_path: Path) -> None:
    def read(path: Path, since: str) -> tuple[Batch, str]:
        raise KeyError("a bug")

    odd = tmp_path / "user" / ".claude" / "projects" / "p" / "x"
    desk = Desk(tmp_path, (CODEX._replace(discover=lambda where: [odd], read=read), CLAUDE))
    odd.write_bytes(b"x")
    desk.file().write_bytes(answer(1))
    desk.rounds()
    assert desk.ids() == ids(1)
    assert "KeyError" in desk.follower.state()[0].refused[str(odd)]
    desk.close()


def test_a_full_road_is_waited_for(desk: Desk) -> None:
    refusals = ["at the door", "at the commit"]

    def submit(batch: Batch) -> Future[int]:
        if not refusals:
            return desk.road.submit(batch)
        if refusals.pop() == "at the door":
            raise Busy("queue: full")
        kept: Future[int] = Future()
        kept.set_exception(Busy("the disk is full"))
        return kept

    desk.follower = desk.new_follower(submit=submit, busy_s=0.0)
    desk.file().write_bytes(answer(1))
    desk.rounds()
    assert not refusals
    assert desk.ids() == ids(1)
    assert desk.follower.state()[0].refused == {}


def test_others_go_first_but_not_for_ever(desk: Desk) -> None:
    asked = 0

    def queued_bytes() -> int:
        nonlocal asked
        asked += 1
        return 1 << 30

    desk.follower = desk.new_follower(queued_bytes=queued_bytes, busy_s=0.0)
    desk.file().write_bytes(answer(1))
    desk.rounds()
    assert asked >= following.YIELDS_MAX
    assert desk.ids() == ids(1)


def test_many_pieces_in_order_and_few_at_once(tmp_path: Path) -> None:
    def read(path: Path, since: str) -> tuple[Batch, str]:
        """A line at a time."""
        line = path.read_bytes()[int(since or 0) :].partition(b"\n")[0]
        piece = tmp_path / "piece.jsonl"
        piece.write_bytes(line + b"\n")
        batch, _ = CLAUDE.read(piece, "")
        batch.positions = {}
        return batch, str(int(since or 0) + len(line) + 1) if line else since

    most = 0

    def submit(batch: Batch) -> Future[int]:
        nonlocal most
        most = max(most, own.follower._flight_bytes + batch.size)
        return own.road.submit(batch)

    own = Desk(tmp_path, (CLAUDE._replace(read=read),))
    own.follower = own.new_follower(submit=submit, flight_bytes_max=1000)
    for name in range(5):
        own.file(f"{name}.jsonl").write_bytes(b"".join(answer(name * 100 + n) for n in range(20)))
    own.rounds()
    assert own.ids() == sorted(ids(*(name * 100 + n for name in range(5) for n in range(20))))
    assert most < 1000 + len(answer(1)) * 2
    own.close()


def spool(desk: Desk, pid: int) -> Path:
    path = desk.where.spool / "toy" / f"1790000000000-{pid}-1.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(answer(1))
    return path


def toy(tmp_path: Path) -> tuple[AgentFiles, ...]:
    return (AgentFiles("toy", "hook", lambda where: where.spool.glob("toy/*.jsonl"), lambda *_: True, CLAUDE.read),)


GONE = 2**22 + 1  # beyond the largest number that Linux gives to a process


def test_a_spooled_file_goes_once_it_is_read_and_its_process_is_gone(tmp_path: Path) -> None:
    desk = Desk(tmp_path, toy(tmp_path))
    written, being_written = spool(desk, GONE), spool(desk, os.getpid())
    being_written.write_bytes(answer(2))
    desk.rounds()
    assert desk.ids() == ids(1, 2)
    assert written.exists(), "it may be of a container, whose processes are not seen from here"
    old_s = time.time() - 2 * 3600
    for path in (written, being_written):
        os.utime(path, (old_s, old_s))
    desk.rounds()
    desk.follower.close()
    assert not written.exists()
    assert being_written.exists()
    desk.road.close()
    assert set(desk.store.positions()) == {str(being_written)}
    desk.store.close()


def test_a_spooled_file_that_was_not_read_stays(tmp_path: Path) -> None:
    def read(path: Path, since: str) -> tuple[Batch, str]:
        raise Rejected("not today")

    desk = Desk(tmp_path, (toy(tmp_path)[0]._replace(read=read),))
    path = spool(desk, GONE)
    os.utime(path, (1, 1))
    desk.rounds()
    desk.rounds()
    assert path.exists()
    desk.close()


@pytest.mark.parametrize(
    ("name", "quiet_ns", "is_over"),
    [
        (f"1-{GONE}-1.jsonl", spools.QUIET_NS, True),
        (f"1-{GONE}-1.jsonl", spools.QUIET_NS - 1, False),
        ("1-own-1.jsonl", spools.OLD_NS - 1, False),
        ("1-own-1.jsonl", spools.OLD_NS, True),
        ("else.jsonl", spools.QUIET_NS, False),
        ("1-9999999999-1.jsonl", 0, False),
    ],
)
@pytest.mark.skipif(os.name != "posix", reason="elsewhere no process is known to be gone")
def test_when_a_spooled_file_is_over(name: str, quiet_ns: int, is_over: bool) -> None:
    assert (
        spools.is_over(Path(name.replace("own", str(os.getpid()))), quiet_ns) is is_over
    )  # ids are the same in every worker


def test_a_database_has_changed_when_its_log_has(tmp_path: Path) -> None:
    home = tmp_path / "user"
    base = home / "agent" / "a.db"
    base.parent.mkdir(parents=True)
    base.write_bytes(b"1")
    kind = AgentFiles("toy", "transcript", lambda where: [base], lambda *_: False, CLAUDE.read, ("-wal",))
    clock = Clock()
    watch = Watch((kind,), Surroundings(home, {}, tmp_path / "spool"), clock)
    assert [file.path for file in watch.look()] == [base]
    clock.pass_s(20)
    assert watch.look() == []
    Path(f"{base}-wal").write_bytes(b"2")
    clock.pass_s(20)
    assert [file.path for file in watch.look()] == [base]


def test_still_files_are_looked_at_less_and_less(tmp_path: Path) -> None:
    home = tmp_path / "user"
    (home / "a").mkdir(parents=True)
    path = home / "a" / "s.jsonl"
    path.write_bytes(b"1")
    listed = 0

    def discover(where: Surroundings) -> list[Path]:
        nonlocal listed
        listed += 1
        return [path]

    clock = Clock()
    watch = Watch(
        (AgentFiles("toy", "transcript", discover, lambda *_: False, CLAUDE.read),),
        Surroundings(home, {}, tmp_path / "spool"),
        clock,
    )
    watch.look()
    clock.pass_s(4000)
    watch.look()
    assert listed == 2
    path.write_bytes(b"22")
    clock.pass_s(watching.LOOK_NS_MAX / SECOND_NS - 1)
    assert watch.look() == [], "not looked at yet"
    clock.pass_s(1)
    assert len(watch.look()) == 1
    path.write_bytes(b"333")
    clock.pass_s(1)
    assert len(watch.look()) == 1, "what has just changed is looked at every second"


def test_whose_files_are_read() -> None:
    kinds = (*TRANSCRIPTS, *toy(Path()))
    hooks = tuple(kind for kind in kinds if kind.origin == "hook")
    assert chosen(kinds, "auto", is_personal=True) == kinds
    assert chosen(kinds, "auto", is_personal=False) == hooks
    assert chosen(kinds, "all", is_personal=False) == kinds
    assert chosen(kinds, "off", is_personal=True) == ()
    assert [kind.agent for kind in chosen(kinds, "codex,toy", is_personal=False)] == ["codex", "toy"]
    with pytest.raises(ConfigError) as caught:
        chosen(kinds, "codex,emacs", is_personal=True)
    assert 'got "emacs"' in caught.value.what
    assert "claude-code" in caught.value.what


def test_a_thread_of_its_own(desk: Desk) -> None:
    desk.file().write_bytes(answer(1))
    desk.follower = desk.new_follower(clock=time.monotonic_ns)
    desk.follower.start()
    while desk.ids() != ids(1):
        time.sleep(0.01)
    desk.follower.close()
    desk.follower.close()


def test_settled_names_are_text(desk: Desk) -> None:
    """A name that is no UTF-8 is a name all the same."""
    name = os.fsdecode(b"\xff.jsonl")
    try:
        desk.file(name).write_bytes(answer(1))
    except OSError:
        pytest.skip("this file system takes no such name")
    desk.rounds()
    assert desk.ids() == ids(1)
    desk.follower = desk.new_follower()
    before = len(desk.submitted)
    desk.rounds()
    assert len(desk.submitted) == before
