"""Follow what agents do as it comes in: one line for each model call and tool run, until Ctrl-C."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable
from datetime import tzinfo
from typing import Any, Final

from tachograph.cli import running
from tachograph.cli.arguments import settings
from tachograph.cli.formats import clock_time, count, duration, nanousd
from tachograph.cli.periods import add_timezone, timezone_name
from tachograph.cli.tables import write_cut
from tachograph.errors import ConfigError, TachographError
from tachograph.scan import Agg, Match, Reader, Scan

EXAMPLES = ("tachograph tail", "tachograph tail --lines 50 --no-follow --json")

_EVERY_S: Final = 0.5
_CALL: Final = (
    *("call_id", "seq", "start_ns", "duration_ns", "agent", "subagent", "session_id", "project", "provider", "model"),
    *("status", "error_type", "error_message", "usage_status", "input_tokens", "cache_read_tokens", "output_tokens"),
    *("cost_nanousd", "cost_kind", "is_notional", "is_demo"),
)
_TOOL: Final = ("seq", "trace_id", "span_id", "agent", "session_id", "tool_name", "tool_call_id", "is_error")
_BATCH: Final = 1000  # lines of one look: more than that in half a second nobody reads


def arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `tail`."""
    parser.add_argument("--lines", metavar="N", type=int, default=10, help="begin with the last N (default: 10)")
    parser.add_argument("--no-follow", action="store_true", help="end after these")
    add_timezone(parser)
    parser.add_argument("--json", action="store_true", help="write JSON, one line each")


def run(arguments: argparse.Namespace) -> int:
    """Print lines until interrupted."""
    from tachograph import questions
    from tachograph.cli.reading import open_reader

    chosen = settings(arguments)
    zone = questions.zone_of(timezone_name(arguments))
    if not arguments.no_follow and running.find(chosen.home) is None:
        raise ConfigError(f"tail: no server runs on {chosen.home}; expected one to follow", "tachograph up")
    with open_reader(chosen) as reader:
        follower = Follower(reader)
        _write(follower.last(arguments.lines), zone, arguments.json)
        while not arguments.no_follow:
            time.sleep(_EVERY_S)
            try:
                _write(follower.new(), zone, arguments.json)
            except (OSError, TachographError):
                _wait_for(follower, chosen.home)
    return 0


def _wait_for(follower: Follower, home: Any) -> None:
    """The server is gone: go on with the one that takes its place."""
    print("tachograph: the server is gone; waiting for it", file=sys.stderr)
    while (found := running.find(home)) is None:
        time.sleep(_EVERY_S)
    follower.reader = running.Server(found)


class Follower:
    """Remembers how far it has read, and what it has shown: a call is told again when another source tells of it."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        newest = reader.scan(Scan("calls", {"seq": Agg("max", "seq")})).data["seq"]
        self._seen_calls = (newest and newest[0]) or 0
        self._seen_spans = reader.sequence()
        self._shown: dict[str, None] = {}

    def last(self, lines: int) -> list[dict[str, Any]]:
        """The newest calls and tool runs, the oldest of them first."""
        if lines <= 0:
            return []
        calls = self._calls((), (("start_ns", True),), lines)
        tools = self._tools((), (("start_ns", True),), lines)
        return self._fresh([*calls, *tools])[-lines:]

    def new(self) -> list[dict[str, Any]]:
        """What has come since the last time."""
        order = (("seq", False), ("start_ns", False))
        sequence = self.reader.sequence()
        # Calls are settled after their commit, so they are followed by their own sequence.
        calls = self._calls((Match("seq", ">", self._seen_calls),), order, _BATCH)
        self._seen_calls = max((row["seq"] for row in calls), default=self._seen_calls)
        tools = []
        if sequence > self._seen_spans:
            tools = self._tools((Match("seq", ">", self._seen_spans),), order, _BATCH)
            self._seen_spans = sequence
        return self._fresh([*calls, *tools])

    def _calls(self, where: tuple[Match, ...], order: tuple[tuple[str, bool], ...], limit: int) -> list[dict[str, Any]]:
        scan = Scan("calls", {name: name for name in _CALL}, where, order_by=order, limit=limit)
        return [{"kind": "call", "id": row["call_id"]} | row for row in self.reader.scan(scan).rows()]

    def _tools(self, where: tuple[Match, ...], order: tuple[tuple[str, bool], ...], limit: int) -> list[dict[str, Any]]:
        """Tool runs of spans and events; the one of a pair that came first is shown."""
        role = (Match("role", "=", "tool_run"), Match("tool_name", "!=", ""))
        found = []
        for table, start in (("spans", "start_ns"), ("events", "time_ns")):
            select = {name: name for name in _TOOL} | {"start_ns": start, "duration_ns": "duration_ns"}
            scan = Scan(table, {**select}, (*where, *role), order_by=order, limit=limit)
            found += [{"kind": "tool", "id": _tool_id(row)} | row for row in self.reader.scan(scan).rows()]
        return found

    def _fresh(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Those not shown yet, by start."""
        fresh = []
        for row in sorted(rows, key=lambda row: row["start_ns"] or 0):
            if row["id"] not in self._shown:
                self._shown[row["id"]] = None
                fresh.append(row)
        while len(self._shown) > 100 * _BATCH:
            del self._shown[next(iter(self._shown))]
        return fresh


def _tool_id(row: dict[str, Any]) -> str:
    place = f"{row['trace_id']}:{row['span_id']}" if row["span_id"] else f"{row['start_ns']}:{row['tool_name']}"
    return f"tool:{row['tool_call_id'] or place}"


def _write(rows: Iterable[dict[str, Any]], zone: tzinfo, as_json: bool) -> None:
    if as_json:
        import msgspec

        for row in rows:
            sys.stdout.write(msgspec.json.encode(row).decode() + "\n")
    else:
        write_cut(_line(row, zone) for row in rows)
    sys.stdout.flush()


def _line(row: dict[str, Any], zone: tzinfo) -> str:
    who = row["agent"] or "-"
    took = duration(row["duration_ns"]) if row["duration_ns"] is not None else ""
    if row["kind"] == "tool":
        parts = ["tool", row["tool_name"], took, "✗ failed" if row["is_error"] else ""]
    elif row["status"] != "ok":
        why = row["error_message"] or row["error_type"]
        parts = ["call", row["model"], took, f"✗ {row['status']}", why]
    else:
        tokens = f"{count(row['input_tokens'])} in, {count(row['output_tokens'])} out"
        parts = ["call", row["model"], took, tokens, nanousd(row["cost_nanousd"])]
    return "  ".join(part for part in (clock_time(row["start_ns"], zone), who, *parts) if part)
