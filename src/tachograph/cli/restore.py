"""Bring a backup back into an empty home folder."""

from __future__ import annotations

import argparse
from pathlib import Path

from tachograph.cli import running
from tachograph.cli.arguments import add_json, settings
from tachograph.cli.tables import write_json, write_lines
from tachograph.errors import ConfigError

EXAMPLES = (
    "tachograph restore tachograph-backup --home ~/tachograph-restored",
    "tachograph restore tachograph-2026-11-21 --json",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `restore`."""
    parser.add_argument("source", metavar="FOLDER", help="a folder written by tachograph backup")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Restore; refuses a home that holds a store."""
    from tachograph.pipeline.progress import restored
    from tachograph.store.backup import restore

    chosen = settings(arguments)
    source = Path(arguments.source).expanduser().absolute()
    if not source.is_dir():
        raise ConfigError(f"restore: {source}: got no such folder; expected a backup", "tachograph backup FOLDER")
    if running.find(chosen.home) is not None:
        raise ConfigError(f"restore: {chosen.home}: got a home that a server runs on; expected an empty one")
    restore(source, chosen.home)
    restored(source, chosen.home)
    if arguments.json:
        write_json({"source": str(source), "home": str(chosen.home)})
    else:
        write_lines([f"restored into {chosen.home}"])
    return 0
