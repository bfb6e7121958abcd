"""A small process: what is let go of comes back when it is used, and nothing that was changed is lost."""

from __future__ import annotations

import sys
import threading

import duckdb
import pytest

from tachograph import footprint

CODE = """7f00000000-7f00001000 r-xp 00000000 08:01 42   /lib/libone.so.1
Size:                  4 kB
Anonymous:             0 kB
7f00002000-7f00003000 r-xp 00000000 08:01 42   /lib/libchanged.so
Anonymous:             4 kB
7f00004000-7f00005000 rw-p 00000000 08:01 42   /lib/libone.so.1
Anonymous:             0 kB
7f00006000-7f00007000 r-xp 00000000 00:00 0    [vdso]
Anonymous:             0 kB
7f00008000-7f00009000 r-xp 00000000 00:00 0
Anonymous:             0 kB
7f0000a000-7f0000b000 r--p 00000000 08:01 42   /lib/libone.so.1
Anonymous:             0 kB
7f0000c000-7f0000d000 r--p 00000000 08:01 42   /lib/a-file-that-somebody-maps
Anonymous:             0 kB
"""


def test_only_code_of_libraries_that_is_as_in_its_file() -> None:
    kept = [(0x7F00000000, 0x7F00001000), (0x7F0000A000, 0x7F0000B000)]
    assert list(footprint._code(iter(CODE.splitlines()))) == kept


def test_a_library_works_after_its_code_was_let_go_of() -> None:
    with duckdb.connect() as con:
        for _ in range(3):
            footprint.give_back()
            footprint.give_back_code()
            assert con.execute("SELECT count(*) FROM range(10) WHERE range::VARCHAR LIKE '%3'").fetchall() == [(1,)]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells, and is asked")
def test_it_lets_go_of_code_where_there_is_too_much() -> None:
    duckdb.connect().close()
    before = of_files()
    footprint.give_back_code(beyond_bytes=1 << 40)
    assert of_files() > before / 2
    footprint.give_back_code()
    assert of_files() < before / 2


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells, and is asked")
def test_within_the_block_code_does_not_stay() -> None:
    duckdb.connect().close()
    before = of_files()
    with footprint.little_code(beyond_bytes=0):
        while of_files() > before / 2:
            pass
    assert "footprint" not in {thread.name for thread in threading.enumerate()}


def of_files() -> int:
    return int(footprint._STATM.read_text().split()[2])
