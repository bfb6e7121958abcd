"""What must not lose or double anything: kill -9, a full disk, a limit on file size, a second process."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from made import Clock, batch, event, opened, rows, said, span
from tachograph.errors import Busy, ConfigError, Rejected, TachographError
from tachograph.model import Event
from tachograph.store.duckdb import open_store

HERE = Path(__file__).parent
ROUNDS = 6

# Commits for ever and prints each acknowledged number; every batch has spans, an event, a text, a digest, a position.
COMMITTING = """
import sys
from pathlib import Path
from made import *
from tachograph.store import room
room.LARGE = room.LARGE._replace(log_bytes=int(sys.argv[2]))
store = open_store(Path(sys.argv[1]), Clock())
seq = store.sequence()
print("open", seq, flush=True)
while True:
    seq += 1
    records = [span(seq * 100 + n, contents=said(f"text {seq} {n}")) for n in range(5)]
    kept = store.commit([batch(*records, event(seq), digest=f"{seq:032x}", positions={"file": str(seq)})])
    assert kept == seq
    print("kept", seq, flush=True)
"""


def start(program: str, *arguments: str) -> subprocess.Popen[str]:
    """A real process that can import the test's own modules."""
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(HERE)!r})\n{program}", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def killed(folder: Path, commits: int, log_bytes: int) -> int:
    """The last number acknowledged by a process that is killed after so many commits and a moment."""
    process = start(COMMITTING, str(folder), str(log_bytes))
    assert process.stdout is not None
    acknowledged = 0
    for number, line in enumerate(process.stdout):
        acknowledged = int(line.split()[1])
        if number == commits:
            time.sleep(random.random() / 50)  # anywhere within the next commits
            process.send_signal(signal.SIGKILL)
            break
    rest = process.stdout.read()
    _, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, errors
    said_whole = [line for line in rest.splitlines(keepends=True) if line.endswith("\n")]
    return int(said_whole[-1].split()[1]) if said_whole else acknowledged


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
@pytest.mark.parametrize("log_bytes", [1 << 30, 5_000], ids=["log", "checkpoints"])
def test_nothing_acknowledged_is_lost_by_kill_9(tmp_path: Path, log_bytes: int) -> None:
    for commits in (random.randrange(1, 25) for _ in range(ROUNDS)):
        acknowledged = killed(tmp_path, commits, log_bytes)
        with opened(tmp_path) as store:
            last = store.sequence()
            assert acknowledged <= last <= acknowledged + 1
            counts = rows(
                store, "SELECT count(*) AS n, count(DISTINCT span_id) AS d, count(DISTINCT seq) AS s FROM spans"
            )
            assert list(counts[0].values()) == [last * 5, last * 5, last]
            for table, expected in (("events", last), ("contents", last * 5), ("digests", last), ("commits", last)):
                assert rows(store, f"SELECT count(*) AS n FROM {table}") == [{"n": expected}]
            assert store.positions() == {"file": str(last)}
            # what was sent without an answer is sent again
            assert store.commit([batch(span(1), digest=f"{last:032x}")]) == last


FILLING = """
import resource, sys
from pathlib import Path
from made import *
from tachograph.errors import Busy
store = open_store(Path(sys.argv[1]), Clock())
store.commit([batch(span(1))])
limits = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, limits[1]))
busy = 0
for number in range(2, 100):
    try:
        store.commit([batch(span(number, contents=said(str(number) * 20_000)))])
    except Busy as error:
        assert "bytes are free" in error.what, error.what
        busy += 1
    else:
        assert not busy, "nothing fits any more"
assert busy > 50, busy
assert rows(store, "SELECT count(*) AS n FROM spans")[0]["n"] <= 99 - busy  # readable; the rest lies landed
resource.setrlimit(resource.RLIMIT_FSIZE, limits)
assert rows(store, "SELECT count(*) AS n FROM spans") == [{"n": 99 - busy}]
seq = store.sequence()
assert store.commit([batch(span(1000))]) == seq + 1
assert rows(store, "SELECT count(*) AS n FROM spans") == [{"n": 100 - busy}]
store.close()
print(100 - busy)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
def test_files_that_cannot_grow_are_busy_and_then_work_again(tmp_path: Path) -> None:
    process = start(FILLING, str(tmp_path))
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    with opened(tmp_path) as store:
        assert rows(store, "SELECT count(*) AS n FROM spans") == [{"n": int(output)}]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MiB."""
    mount = tmp_path / "disk"
    mount.mkdir()
    if sys.platform != "linux" or shutil.which("mount") is None:
        pytest.skip("needs Linux' mount")
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(mount)], capture_output=True)
    if made.returncode:
        pytest.skip("mounting needs rights that this user has not")
    yield mount
    subprocess.run(["umount", str(mount)], check=True)


def test_a_full_disk_is_busy_and_recovers_by_itself(small_disk: Path) -> None:
    folder, filler = small_disk / "home", small_disk / "filler"
    with opened(folder) as store:
        store.commit([batch(span(1), event(1))])
        kept, refused = 1, 0
        for checkpoint in (False, True):
            fill(filler, small_disk)
            for number in range(5):
                try:
                    store.commit([batch(span(100 + kept), contents_of(kept))])
                    kept += 1
                except Busy as error:
                    refused += 1
                    assert "free" in error.what, number
            if checkpoint:
                with pytest.raises(Busy):
                    for _ in range(20):
                        store.tidy()
                        store.commit([batch(contents_of(kept))])
                        kept += 1
            # It can be read all the time; what landed on a nearly full disk is sorted when there is room again.
            assert 1 <= rows(store, "SELECT count(*) AS n FROM commits")[0]["n"] <= kept
            filler.unlink()
            assert rows(store, "SELECT count(*) AS n FROM commits") == [{"n": kept}]
            store.commit([batch(span(100 + kept), contents_of(kept))])
            kept += 1
        assert refused
        assert rows(store, "SELECT count(*) AS n FROM commits") == [{"n": kept}]
    with opened(folder) as store:
        assert store.sequence() == kept


def contents_of(number: int) -> Event:
    """An event with a text that takes 400 kB."""
    return event(number, contents=said(random.Random(number).randbytes(200_000).hex()))


def fill(filler: Path, disk: Path) -> None:
    """Leave no more than 100 kB of the disk free."""
    with filler.open("wb") as file:
        while (free := shutil.disk_usage(disk).free) > 100_000:
            file.write(bytes(min(free - 50_000, 1 << 20)))
            file.flush()


HOLDING = """
import sys
from pathlib import Path
from made import *
store = open_store(Path(sys.argv[1]), Clock())
print("open", flush=True)
sys.stdin.read()
"""


def test_a_second_process_is_told_who_has_the_folder(tmp_path: Path) -> None:
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(HERE)!r})\n{HOLDING}", str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        with pytest.raises(ConfigError) as refused, opened(tmp_path):
            pass
        assert str(process.pid) in refused.value.what
        assert str(tmp_path) in refused.value.what
        assert refused.value.hint
        process.kill()
    assert process.returncode
    with opened(tmp_path) as store:  # the lock file that is left behind is no hindrance
        assert store.sequence() == 0


def test_reading_only(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.commit([batch(span(1))])
    first, second = (open_store(tmp_path, Clock(), read_only=True) for _ in range(2))
    assert (first.sequence(), second.sequence()) == (1, 1)
    with pytest.raises(Rejected, match="read-only"):
        first.commit([batch(span(2))])
    with pytest.raises(ConfigError), opened(tmp_path):
        pass
    first.close()
    assert rows(second, "SELECT count(*) AS n FROM spans") == [{"n": 1}]
    second.close()
    second.close()
    with opened(tmp_path) as store:
        assert store.commit([batch(span(2))]) == 2


def test_a_file_that_is_no_database_is_our_error(tmp_path: Path) -> None:
    (tmp_path / "tachograph.duckdb").write_bytes(b"not a database" * 1000)
    with pytest.raises(TachographError), opened(tmp_path):
        pass
