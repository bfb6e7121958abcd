"""Keeps the collector of cyclic garbage away while a tree is made, whose many new objects it would walk in vain."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Collect nothing for the length of the block, which makes a bounded number of objects: a fifth of its time.

    Blocks of several threads may overlap: who found the collector at work sets it to work again, the others leave it.
    """
    was_at_work = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_at_work:
            gc.enable()
