"""Explain one model call: each field and the report it comes from, why these reports are one call, and its price."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from datetime import tzinfo
from string import ascii_uppercase
from typing import Any

from tachograph.cli.arguments import add_json, settings
from tachograph.cli.formats import clock_time, count, duration, moment, nanousd, text
from tachograph.cli.periods import add_timezone, timezone_name
from tachograph.cli.tables import Column, write_json, write_lines, write_table

EXAMPLES = ("tachograph explain last", "tachograph explain last --json")

_REPORTS = (
    Column(""),
    Column("source"),
    Column("name", width_min=16),
    Column("by", rank=2, width_min=12),
    Column("dialect", rank=3),
    Column("time", rank=1),
    Column("span", rank=4),
)
_FIELDS = (
    Column("field"),
    Column("value", width_min=12),
    Column("from", rank=1),
    Column("others say", rank=2, width_min=12),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `explain`."""
    parser.add_argument("id", metavar="CALL", help="the id of a call or its beginning, or last")
    add_timezone(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print where everything comes from."""
    from tachograph import questions
    from tachograph.cli.reading import open_reader

    zone = questions.zone_of(timezone_name(arguments))
    with open_reader(settings(arguments)) as reader:
        told = questions.explain(reader, questions.find(reader, arguments.id, ("call",)).id)
    if arguments.json:
        write_json(told)
    else:
        _print(told, zone)
    return 0


def _print(told: Mapping[str, Any], zone: tzinfo) -> None:
    letters = {report["report_id"]: _letter(i) for i, report in enumerate(told["reports"])}
    write_lines([*_heading(told["call"], zone), "", "told by"])
    write_table(_REPORTS, [_report(report, letters, zone) for report in told["reports"]])
    write_lines(["", "one call because", *_reasons(told, letters), "", "what is known of it"])
    write_table(_FIELDS, [_field(field, letters, zone) for field in told["fields"]])
    write_lines(["", "price", *_price(told["price"], letters)])


def _letter(index: int) -> str:
    """A, B, ... Z, AA, AB, ...: short names for reports."""
    high, low = divmod(index, len(ascii_uppercase))
    return (_letter(high - 1) if high else "") + ascii_uppercase[low]


def _heading(call: Mapping[str, Any], zone: tzinfo) -> list[str]:
    facts = [call["agent"], call["provider"], call["model"], call["status"], moment(call["start_ns"], zone, True)]
    facts.append(duration(call["duration_ns"]) if call["duration_ns"] is not None else "")
    session = f"session {call['session_id']}" if call["session_id"] else f"trace {call['trace_id'] or 'none'}"
    lines = [f"call {call['call_id']}", "  " + " · ".join(fact for fact in facts if fact), f"  {session}"]
    return [*lines, f"  retry of {call['retry_of']}"] if call["retry_of"] else lines


def _report(report: Mapping[str, Any], letters: Mapping[str, str], zone: tzinfo) -> list[str]:
    return [
        letters[report["report_id"]],
        report["origin"] + (" (sum of others)" if report["is_rollup"] else ""),
        report["name"],
        report["service"],
        report["dialect"],
        clock_time(report["start_ns"], zone),
        report["span_id"],
    ]


def _reasons(told: Mapping[str, Any], letters: Mapping[str, str]) -> Iterator[str]:
    if len(told["reports"]) < 2:
        yield "  only one report tells of it"
        return
    named = set()
    for shared in told["shared"]:
        named.update(shared["report_ids"])
        who = " ".join(letters[report_id] for report_id in shared["report_ids"])
        yield f"  {who}: {shared['words']}, {shared['value']}"
    rest = [letters[report["report_id"]] for report in told["reports"] if report["report_id"] not in named]
    if rest:
        yield f"  {' '.join(rest)}: the same session, tokens, model and time, or the tree of spans"


def _field(field: Mapping[str, Any], letters: Mapping[str, str], zone: tzinfo) -> list[str]:
    others = ", ".join(f"{letters[o['report_id']]} {_other(field, o['value'], zone)}" for o in field["others"])
    source = letters.get(field["report_id"], "all" if not field["others"] else "merged")
    return [field["field"], _value(field["field"], field["value"], zone), source, others]


def _other(field: Mapping[str, Any], value: Any, zone: tzinfo) -> str:
    """What another report says: a time as far as it is another, as both are mostly of the same second."""
    if field["field"] in ("start_ns", "end_ns") and value and field["value"]:
        apart_ns = value - field["value"]
        return f"{duration(abs(apart_ns))} {'later' if apart_ns > 0 else 'earlier'}"
    return _value(field["field"], value, zone)


def _value(name: str, value: Any, zone: tzinfo) -> str:
    if name in ("start_ns", "end_ns"):
        return moment(value, zone, True)
    if name.endswith("_ns"):
        return duration(value)
    if name.endswith("_tokens"):
        return count(value)
    return text(value) or "unknown"


def _price(price: Mapping[str, Any], letters: Mapping[str, str]) -> Iterator[str]:
    words = [price["cost_kind"].replace("_", " "), "notional: paid by a subscription" if price["is_notional"] else ""]
    words += [f"by {price['source']}" if price["source"] else "", price["note"]]
    yield "  " + " · ".join([nanousd(price["cost_nanousd"]), *(word for word in words if word)])
    for told in price["told"]:
        kind = told["cost_kind"].replace("_", " ")
        yield f"  {letters[told['report_id']]} says {nanousd(told['cost_nanousd'])} ({kind})"
