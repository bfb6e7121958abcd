"""Runs first in a recorded Python program: starts the recorder, then the sitecustomize that this one stands before."""

import os
import sys
from importlib import machinery, util

_HERE = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - pathlib is slow to import at every start


def _record() -> None:
    """Start the recorder; whatever goes wrong, the program runs on."""
    told = os.environ.get("TACHOGRAPH_RUN", "")
    if not told or sys.version_info < (3, 10):  # the oldest that OpenTelemetry runs on
        return
    try:
        import tachograph_guest  # type: ignore[import-not-found] # it lies beside this file

        tachograph_guest.start(told)
    except Exception as error:  # noqa: BLE001 - a recorder that fails must not take the program with it
        print(f"tachograph: this program is not recorded: {error!r}", file=sys.stderr)


def _hand_over() -> None:
    """Leave the path as it would be without us and run the program's own sitecustomize, where there is one."""
    sys.path[:] = [entry for entry in sys.path if not entry or os.path.abspath(entry) != _HERE]  # noqa: PTH100
    spec = machinery.PathFinder.find_spec("sitecustomize")
    if spec is not None and spec.loader is not None:
        module = sys.modules["sitecustomize"] = util.module_from_spec(spec)
        spec.loader.exec_module(module)


_record()
_hand_over()
