"""Play recorded sessions of real agents into the store, marked as a demo; gone as soon as real data comes."""

from __future__ import annotations

import argparse
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from tachograph.cli import running
from tachograph.cli.arguments import settings
from tachograph.cli.periods import clock
from tachograph.cli.tables import write_lines
from tachograph.config import Settings
from tachograph.errors import ConfigError, TachographError
from tachograph.scan import Agg, Any_, Match, Reader, Scan

if TYPE_CHECKING:
    from tachograph.cli.reading import Sink
    from tachograph.model import Batch
    from tachograph.server import Server

EXAMPLES = ("tachograph demo", "tachograph demo --clear")

FOLDER: Final = Path(__file__).parent.parent / "demo"
_MINUTE_NS: Final = 60_000_000_000
_DAY_NS: Final = 1440 * _MINUTE_NS
_DAYS: Final = 7
_NEWEST_NS: Final = 4 * _MINUTE_NS  # ago: the demo ends as if somebody had just left
_AHEAD: Final = 32  # batches on their way at most
_PROJECTS: Final = ("website", "billing", "search", "mobile-app")
_USERS: Final = ("ada", "grace", "linus", "margaret")
_TEAMS: Final = {"ada": "platform", "grace": "platform", "linus": "product", "margaret": "product"}


class Set(NamedTuple):
    """One recording, and how often it is played: noisy ones seldom."""

    name: str
    times: int


SETS: Final = (
    Set("claude-code-content", 14),
    Set("claude-code-subagent", 8),
    Set("claude-code-errors", 6),
    Set("codex-tools", 4),
    Set("codex-errors", 4),
    Set("gemini-cli-tools", 10),
    Set("copilot-cli-content", 10),
    Set("opencode-errors", 3),
    Set("openclaw-otel", 6),
    Set("py-langgraph-traceloop", 6),
    Set("py-pydantic-ai", 6),
    Set("pi", 8),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `demo`."""
    parser.add_argument("--clear", action="store_true", help="remove every trace of it")


def run(arguments: argparse.Namespace) -> int:
    """Play it in, or clear it."""
    from tachograph.cli.progress import tracked
    from tachograph.cli.reading import open_reader, open_sink

    chosen = settings(arguments)
    if arguments.clear:
        write_lines([f"demo cleared: {_clear(chosen):,} records removed"])
        return 0
    with open_reader(chosen) as reader:
        if has_real_data(reader):
            raise ConfigError(
                f"demo: {chosen.home}: got a store with real data; expected an empty one",
                "tachograph demo --home ~/tachograph-demo",
            )
        is_old = has_demo(reader)
    if is_old:
        _clear(chosen)
    with open_sink(chosen) as sink:
        sessions = scenes(clock())
        kept: list[Future[int]] = []
        for scene in tracked(sessions, "demo", len(sessions)):
            kept += play(sink, scene)
            _wait(kept, _AHEAD)
        _wait(kept, 0)
    write_lines([f"demo: {len(sessions)} sessions of {_DAYS} days; gone with the first real data, or with --clear"])
    return 0


def _clear(chosen: Settings) -> int:
    from tachograph.server import open_store

    found = running.find(chosen.home)
    if found is not None:
        return running.Server(found).clear_demo()
    with closing(open_store(chosen, clock)) as store:
        return store.clear_demo()


def has_real_data(reader: Reader) -> bool:
    """Whether anything was committed that is no demo; what was cleared stays as empty commits."""
    is_something = Any_(tuple(Match(name, ">", 0) for name in ("spans", "events", "points")))
    scan = Scan("commits", {"count": Agg("count")}, (Match("is_demo", "=", False), is_something))
    return int(reader.scan(scan).data["count"][0]) > 0


def has_demo(reader: Reader) -> bool:
    """Whether a demo was played and not cleared."""
    scan = Scan("commits", {"count": Agg("count")}, (Match("is_demo", "=", True),))
    return int(reader.scan(scan).data["count"][0]) > 0


def play_if_empty(server: Server) -> None:
    """Play the demo into a running server in the background, if its store is empty."""
    if has_real_data(server.store) or has_demo(server.store):
        return
    threading.Thread(target=_play_into, args=(server,), name="demo", daemon=True).start()


def _play_into(server: Server) -> None:
    from tachograph.telemetry import say

    try:
        for scene in reversed(scenes(clock())):  # the newest first: it is what a newcomer sees first
            if has_real_data(server.store):
                break
            _wait([*play(server.road, scene)], 0)  # one by one: the server has other things to do
        if has_real_data(server.store):
            server.store.clear_demo()
    except (TachographError, OSError) as error:
        say("warning", f"demo: {error}")


class Scene(NamedTuple):
    """One session to be played: which recording, as whose, ending when."""

    set_name: str
    name: str
    end_ns: int
    labels: dict[str, str]


def scenes(now_ns: int) -> list[Scene]:
    """All sessions of the demo, the oldest first; the same each time but for when they are."""
    found = []
    for one in SETS:
        for number in range(one.times):
            name = f"{one.name}/{number}"
            chance = int.from_bytes(blake2b(name.encode(), digest_size=6).digest(), "big")
            spread = (number * _DAYS * _DAY_NS) // one.times + chance % (_DAYS * _DAY_NS // one.times)
            user = _USERS[chance // 7 % len(_USERS)]
            labels = {
                "project.name": _PROJECTS[chance // 29 % len(_PROJECTS)],
                "enduser.id": user,
                "team.name": _TEAMS[user],
                "deployment.environment.name": "demo",
            }
            found.append(Scene(one.name, name, now_ns - _NEWEST_NS - spread, labels))
    found.sort(key=lambda scene: scene.end_ns)
    newest = found[-1]
    return [*found[:-1], newest._replace(end_ns=now_ns - _NEWEST_NS)]


def play(sink: Sink, scene: Scene) -> Iterator[Future[int]]:
    """Send a scene down a road."""
    from tachograph.cli.staging import Stage, newest_ns

    recorded = _recorded(scene.set_name)
    end_ns = max(map(newest_ns, recorded), default=0)
    stage = Stage(scene.name, scene.end_ns - end_ns, scene.labels)
    for batch in recorded:
        yield sink.submit(stage.play(batch))


def _wait(kept: list[Future[int]], ahead: int) -> None:
    """Until at most so many are not durable yet: together they share commits, all of them would fill the queue."""
    while len(kept) > ahead:
        kept.pop(0).result()


def _recorded(name: str) -> list[Batch]:
    """The batches of one recording, decoded once."""
    if name not in _KEPT:
        from tachograph.cli.recordings import parts_of, read
        from tachograph.receivers import bodies

        with tempfile.TemporaryDirectory(prefix="tachograph-demo-") as folder:
            packed = (FOLDER / f"{name}.tar.zst").read_bytes()
            unpacked = Path(folder) / "demo.tar"
            unpacked.write_bytes(bodies.decompress(packed, "zstd", _SET_BYTES_MAX))
            with tarfile.open(unpacked) as archive:
                archive.extractall(folder, filter="data")
            _KEPT[name] = [batch for part in parts_of([Path(folder)]) for batch in read(part)]
    return _KEPT[name]


_SET_BYTES_MAX: Final = 64 * 1024 * 1024
_KEPT: Final[dict[str, list[Batch]]] = {}
