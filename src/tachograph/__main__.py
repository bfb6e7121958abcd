"""The command as a process of its own: what `tachograph` and `python -m tachograph` start."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from typing import NoReturn

from tachograph.cli import main


def run() -> NoReturn:
    """Run the command of this process and end it with its exit code.

    A destination that hangs, or a second Ctrl-C, leaves threads behind that nothing can end. All that had to be kept is
    kept by then; the process ends without them, since to take the interpreter apart under them fails, loudly.
    """
    code = main()
    if any(thread.daemon and thread is not threading.current_thread() for thread in threading.enumerate()):
        _end_at_once(code)
    sys.exit(code)


def _end_at_once(code: int) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody reads it any more
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    run()
