"""Write a session to a file to keep or pass on: Markdown, or one HTML page; secrets are taken out."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tachograph.cli.arguments import settings
from tachograph.cli.formats import size
from tachograph.cli.periods import add_timezone, clock, timezone_name
from tachograph.cli.tables import write_lines
from tachograph.errors import ConfigError

EXAMPLES = ("tachograph export last --out session.html", "tachograph export last --format md")
_FORMS = ("md", "html")


def arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `export`."""
    parser.add_argument("session", metavar="SESSION", help="an id or the beginning of one, or last")
    parser.add_argument("--format", choices=_FORMS, help="md or html (default: as the file is called, else md)")
    parser.add_argument("--out", metavar="FILE", help="where to; replaced if it is there (default: standard output)")
    add_timezone(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write the file."""
    from tachograph import questions
    from tachograph.cli.reading import open_reader
    from tachograph.web.rendering import Look
    from tachograph.web.session_files import written

    name = timezone_name(arguments)
    look = Look(name, questions.zone_of(name), clock())
    target = Path(arguments.out).expanduser() if arguments.out else None
    if target is not None and target.is_dir():
        raise ConfigError(f"export: {target}: got a folder; expected the name of a file")
    with open_reader(settings(arguments)) as reader:
        found = questions.find(reader, arguments.session, ("session",))
        text = written(reader, found.id, arguments.format or _form(target), look) or ""
    data = text.encode("utf-8", "replace")
    if target is None:
        sys.stdout.buffer.write(data)
        return 0
    target.write_bytes(data)
    write_lines([f"{size(len(data))} in {target}"])
    return 0


def _form(target: Path | None) -> str:
    return "html" if target is not None and target.suffix.lower() in (".html", ".htm") else "md"
