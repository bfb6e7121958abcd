"""Start everything in one process: the doors for telemetry, the store, the pages; Ctrl-C stops it cleanly."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from tachograph import __version__
from tachograph.cli import running
from tachograph.cli.tables import write_lines
from tachograph.config import SETTINGS, Settings, load, origins
from tachograph.errors import ConfigError
from tachograph.telemetry import say

if TYPE_CHECKING:
    from tachograph.server import Server

EXAMPLES = ("tachograph up", "tachograph up --otlp-http 4328 --web 4329 --content none")


def arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `up`: one for each setting, and the demo."""
    for setting in SETTINGS:
        if setting.name != "home":  # every command has that one
            parser.add_argument(
                setting.flag, metavar=setting.type.upper(), help=f"{setting.what} (default: {setting.default})"
            )
    parser.add_argument(
        "--demo",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="play recorded sessions into an empty store, until real data comes",
    )


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM."""
    from tachograph import server

    flags = {setting.name: getattr(arguments, setting.name) for setting in SETTINGS}
    settings = load(flags)
    running.take_over(settings.home)
    _refuse_second(settings)
    file = settings.home / running.FILE_NAME

    def ready(started: Server) -> None:
        running.publish(settings.home, where(started))
        write_lines(_greeting(settings, started))
        _say_left_behind(settings, started)
        sys.stdout.flush()  # whoever waits for it at the other end of a pipe waits for this
        if arguments.demo:
            from tachograph.cli.demo import play_if_empty

            play_if_empty(started)

    try:
        server.run(settings, ready, origins=origins(settings.home, flags))
    finally:
        running.withdraw(file)
    return 0


def _refuse_second(settings: Settings) -> None:
    """Say where the server is that runs on this home already; what else may have it, opening the store says."""
    found = running.find(settings.home)
    if found is not None and not found.is_relay:
        what = f"{settings.home}: process {found.pid} runs here already, with its pages at {found.web}"
        raise ConfigError(what, "open them, stop that process, or give this one another folder: --home FOLDER")


def _say_left_behind(settings: Settings, started: Server) -> None:
    """Say for which destinations something is kept though they are no more."""
    from tachograph.pipeline.progress import FILE_NAME

    if not (settings.home / FILE_NAME).exists():
        return
    from tachograph.pipeline.roster import left_behind

    for line in left_behind(started.destinations()):
        say("warning", line)


def where(started: Server) -> running.Running:
    """What other commands have to know of it."""
    addresses = {name: running.reachable(address) for name, address in started.addresses.items()}
    return running.Running(
        pid=os.getpid(),
        web=_url(addresses, "web"),
        otlp_http=_url(addresses, "otlp_http"),
        otlp_grpc=addresses.get("otlp_grpc", ""),
        token=getattr(started, "api_token", ""),
        version=__version__,
        is_relay=started.is_relay,
    )


def _url(addresses: dict[str, str], name: str) -> str:
    return f"http://{addresses[name]}" if name in addresses else ""


def _greeting(settings: Settings, started: Server) -> list[str]:
    doors = where(started)
    return [
        f"tachograph {__version__}",
        f"  pages      {doors.web or 'off'}",
        f"  OTLP/HTTP  {doors.otlp_http or 'off'}",
        f"  OTLP/gRPC  {doors.otlp_grpc or 'off'}",
        f"  data       {settings.home}",
        "Connect an agent: tachograph connect. Stop: Ctrl-C.",
    ]
