"""Writes the dashboards as Grafana imports them: `make dashboards`."""

from __future__ import annotations

import sys
from pathlib import Path

import boards
from grafana_foundation_sdk.cog.encoder import JSONEncoder

OUT = Path(__file__).parents[1]


def built() -> dict[str, str]:
    """The text of each file, by its name."""
    return {
        f"{name}.json": JSONEncoder(sort_keys=True, indent=2).encode(made.build()) + "\n"
        for name, made in boards.built().items()
    }


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else OUT
    for name, text in built().items():
        (folder / name).write_text(text, encoding="utf-8")
