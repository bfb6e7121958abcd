"""Write a consistent copy of the store to a new folder, while a server runs or without one."""

from __future__ import annotations

import argparse
from contextlib import closing
from pathlib import Path

from tachograph.cli import running
from tachograph.cli.arguments import add_json, settings
from tachograph.cli.formats import size
from tachograph.cli.tables import write_json, write_lines
from tachograph.errors import ConfigError

EXAMPLES = ("tachograph backup tachograph-backup", "tachograph backup tachograph-2026-11-21 --json")


def arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `backup`."""
    parser.add_argument("target", metavar="FOLDER", help="where to; must not exist yet, or be empty")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write the backup."""
    from tachograph.cli.periods import clock
    from tachograph.server import back_up, open_store

    chosen = settings(arguments)
    target = Path(arguments.target).expanduser().absolute()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"backup: {target}: got something that is there already; expected a new or empty folder")
    found = running.find(chosen.home)
    if found is not None:
        running.Server(found).backup(target)
    else:
        with closing(open_store(chosen, clock)) as store:
            back_up(store, chosen, target)
    written = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    if arguments.json:
        write_json({"target": str(target), "bytes": written})
    else:
        write_lines([f"{size(written)} in {target}", f"to bring it back: tachograph restore {target}"])
    return 0
