"""Play recorded sessions of real agents into the store, marked as a demo; gone as soon as real data comes."""

from __future__ import annotations

import argparse

EXAMPLES = ("tachograph demo", "tachograph demo --clear")


def arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `demo`."""
    parser.add_argument("--clear", action="store_true", help="remove every trace of it")


def run(arguments: argparse.Namespace) -> int:
    return 0
