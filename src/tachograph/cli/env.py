"""Print the variables that have an agent or a program send here by itself, for a shell to take."""

from __future__ import annotations

import argparse

from tachograph.cli import running
from tachograph.cli.arguments import add_json, settings
from tachograph.cli.tables import write_json, write_whole
from tachograph.config import Settings
from tachograph.errors import ConfigError

EXAMPLES = ("tachograph env", "tachograph env --shell fish")


def arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `env`."""
    from tachograph.instrumentation.variables import SHELLS

    parser.add_argument("--shell", choices=SHELLS, default="sh", help="the shell to write for (default: sh)")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print one line for each variable."""
    from tachograph.instrumentation.variables import lines, variables

    chosen = settings(arguments)
    told = variables(endpoint(chosen), chosen.content != "none", chosen.ingest_token)
    if arguments.json:
        write_json(told)
    else:
        write_whole(lines(told, arguments.shell))
    return 0


def endpoint(chosen: Settings) -> str:
    """Where OTLP over HTTP comes in: of the server that runs, else as the settings say."""
    found = running.find(chosen.home)
    if found is not None and found.otlp_http:
        return found.otlp_http
    if chosen.otlp_http is None:
        raise ConfigError("otlp_http: got off; expected an address to send to", "--otlp-http 4318, or otlp_http = 4318")
    return f"http://{running.reachable(chosen.otlp_http)}"
