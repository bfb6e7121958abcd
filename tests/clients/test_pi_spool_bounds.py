"""The spool that the Pi extension writes: its parts, its bounds, and what a refusing disk does to it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import platformdirs
import pytest

import programs
from pi_runs import EXTENSION, Json

MIB = 1024 * 1024
_BEGIN = """
import fs from "node:fs";
import { state, write, now, checkFile, home } from "%s";
const counts = { prompts: 0, turns: 0, entries: 0 };
const live = { s: "one", facts: { pid: process.pid }, session_t: now(), tools: new Map(), ...counts };
state().sessions.set("one", live);
"""


def run(home: Path, script: str, **environment: str) -> str:
    """Run a script against the extension's own module in Node; what it printed."""
    source = (_BEGIN % (EXTENSION / "src" / "spool.ts").as_uri()) + script
    done = subprocess.run(
        [str(programs.node(22)), "--input-type=module", "-e", source],
        env={"TACHOGRAPH_HOME": str(home), "HOME": str(home / "user"), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def parts(home: Path) -> list[list[Json]]:
    """The lines of each file, by part."""
    files = sorted((home / "spool/pi").glob("*.jsonl"), key=lambda path: int(path.stem.split("-")[2]))
    return [[json.loads(line) for line in file.read_bytes().splitlines()] for file in files]


def test_a_part_ends_at_its_size_and_the_next_one_carries_on(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
        const text = "x".repeat(200_000);
        live.tools.set("t1", { id: "t1", name: "bash", t: 5 });
        for (let i = 0; i < 100; i++) {
          live.turns += 1;
          write(live, "turn_start", { turn: i });
          write(live, "tool_end", { text });
        }
        """,
    )
    first, second = parts(tmp_path)
    assert [line["part"] for line in (first[0], second[0])] == [1, 2]
    assert "carry" not in first[0]
    carried = second[0]["carry"]
    assert carried["open_t"] == first[0]["t"]
    assert carried["turns"] == second[1]["turn"] + 1
    assert [tool["id"] for tool in carried["tools"]] == ["t1"]
    assert second[1]["e"] == "turn_start"
    assert sum(line["e"] == "tool_end" for line in first + second) == 100


def test_a_part_ends_at_twice_its_size_whatever_happens(tmp_path: Path) -> None:
    run(tmp_path, 'const text = "x".repeat(200_000); for (let i = 0; i < 400; i++) write(live, "tool_end", { text });')
    found = parts(tmp_path)
    assert len(found) == 3
    assert all(file.stat().st_size < 33 * MIB for file in (tmp_path / "spool/pi").iterdir())
    assert sum(line["e"] == "tool_end" for part in found for line in part) == 400


def test_every_open_session_begins_in_a_new_part(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
        const other = { ...live, s: "two", facts: { mode: "print" }, tools: new Map(), prompts: 3 };
        write(live, "session_start", {});
        state().sessions.set("two", other);
        write(other, "session_start", {});
        const text = "x".repeat(200_000);
        for (let i = 0; i < 90; i++) write(live, "tool_end", { text });
        write(live, "turn_start", {});
        """,
    )
    opened = [line for line in parts(tmp_path)[1] if line["e"] == "open"]
    assert [(line["s"], line["carry"]["prompts"]) for line in opened] == [("one", 0), ("two", 3)]


def filled(folder: Path, sizes: dict[str, int]) -> None:
    """Files of these sizes, which take no room on the disk."""
    folder.mkdir(parents=True)
    for name, size in sizes.items():
        with (folder / name).open("wb") as file:
            file.truncate(size)


def test_the_oldest_parts_go_and_that_is_told(tmp_path: Path) -> None:
    gone = 99_999_999
    folder = tmp_path / "spool" / "pi"
    filled(folder, {f"{1000 + i}-{gone}-1.jsonl": 60 * MIB for i in range(6)})
    run(tmp_path, 'write(live, "input", {});')
    left = sorted(path.name for path in folder.iterdir())
    assert left[:4] == [f"{1002 + i}-{gone}-1.jsonl" for i in range(4)]
    lines = [json.loads(line) for line in (folder / left[4]).read_text().splitlines()]
    assert [line["e"] for line in lines] == ["open", "lost", "input"]
    assert (lines[1]["bytes"], lines[1]["why"]) == (120 * MIB, "spool_full")


def test_what_a_living_process_writes_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "spool" / "pi"
    filled(folder, {f"1000-{os.getpid()}-1.jsonl": 300 * MIB})
    run(tmp_path, 'write(live, "input", {});')
    assert (folder / f"1000-{os.getpid()}-1.jsonl").exists()


def test_so_many_files_are_too_many(tmp_path: Path) -> None:
    folder = tmp_path / "spool" / "pi"
    filled(folder, {f"{10_000 + i}-99999999-1.jsonl": 1 for i in range(4100)})
    run(tmp_path, 'write(live, "input", {});')
    left = sorted(path.name for path in folder.iterdir())
    assert len(left) == 4097
    assert left[0].startswith("10004-")


def test_a_long_text_keeps_its_ends(tmp_path: Path) -> None:
    text = '"a".repeat(300_000) + "z".repeat(300_000)'
    run(tmp_path, f'write(live, "input", {{ text: {text}, nested: ["b".repeat(300_000)] }});')
    line = parts(tmp_path)[0][1]
    assert line["text"].startswith("a" * 196_608 + "\n[... 337856 characters left out ...]\nz")
    assert line["text"].endswith("z" * 65_536)
    assert len(line["nested"][0]) < 263_000
    assert line["cut"] == 337_856 + 37_856


def test_a_line_of_many_texts_gives_them_up(tmp_path: Path) -> None:
    script = 'write(live, "tool_end", { id: "t", result: Array.from({ length: 30 }, () => "a".repeat(200_000)) });'
    run(tmp_path, script)
    line = parts(tmp_path)[0][1]
    assert (line["id"], line["cut"] > 6_000_000) == ("t", True)
    assert "result" not in line


def test_half_a_character_is_no_broken_line(tmp_path: Path) -> None:
    run(tmp_path, r'write(live, "input", { text: "\ud83d and \ud83d\ude00 and \ude00 and \\ud83d" });')
    assert parts(tmp_path)[0][1]["text"] == "\ufffd and \U0001f600 and \ufffd and \\ud83d"


@pytest.mark.parametrize("refused", ["folder", "file"])
def test_a_disk_that_refuses_is_tried_five_times(tmp_path: Path, refused: str) -> None:
    """And what was lost is told, once lines can be written again."""
    (tmp_path / "spool").write_text("in the way", encoding="utf-8")
    again = 'fs.rmSync(home() + "/spool");' if refused == "folder" else ""
    run(
        tmp_path,
        f"""
        for (let i = 0; i < 3; i++) write(live, "input", {{ i }});
        {again}
        for (let i = 3; i < 9; i++) write(live, "input", {{ i }});
        """,
    )
    if refused == "file":
        assert (tmp_path / "spool").read_text() == "in the way"
        return
    lines = parts(tmp_path)[0]
    assert [line["e"] for line in lines[:3]] == ["open", "lost", "input"]
    assert (lines[1]["lines"], lines[1]["why"], lines[1]["error"]) == (3, "write_error", "ENOTDIR")
    assert [line["i"] for line in lines[2:]] == [3, 4, 5, 6, 7, 8]


def test_a_torn_line_spoils_no_other(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
        write(live, "input", { i: 0 });
        const fd = state().fd;
        fs.writeSync(fd, '{"e":"inp');  // what a full disk leaves behind
        state().is_torn = true;
        write(live, "input", { i: 1 });
        """,
    )
    lines = next((tmp_path / "spool/pi").iterdir()).read_text().splitlines()
    assert lines[2] == '{"e":"inp'
    assert json.loads(lines[3])["i"] == 1


def test_the_home_is_where_tachograph_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = run(tmp_path, "console.log(home())", TACHOGRAPH_HOME="", XDG_DATA_HOME=str(tmp_path / "data")).strip()
    monkeypatch.delenv("TACHOGRAPH_HOME", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert home == platformdirs.user_data_dir("tachograph", appauthor=False)


def test_the_clock_is_the_wall_clock(tmp_path: Path) -> None:
    """Pi's own times come from it: both must agree, also after a machine has slept."""
    told = run(
        tmp_path,
        """
        const before = now();
        const real = Date.now;
        Date.now = () => real() + 3_600_000;  // woken an hour later: only the wall clock went on
        console.log(JSON.stringify([before - real(), now() - real()]));
        """,
    )
    awake, woken = json.loads(told)
    assert abs(awake) < 1000
    assert 3_599_000 < woken < 3_601_000
