"""A session as a file to keep or pass on: Markdown, or one HTML page that asks nobody for anything."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Final

from markupsafe import Markup

from tachograph.questions import Course, course
from tachograph.questions import session as find_session
from tachograph.redaction import redact_text
from tachograph.scan import Reader
from tachograph.tree import Node, session_tree
from tachograph.web import conversation, units
from tachograph.web.conversation import Section, Step
from tachograph.web.messages import Block, Message
from tachograph.web.pages.sessions import with_costs
from tachograph.web.rendering import STATIC, Look, fragment, path_of

FORMS: Final = {"md": "text/markdown; charset=utf-8", "html": "text/html; charset=utf-8"}
_AT_ONCE: Final = 50  # sections whose texts are in memory at a time
_IMAGE_CHARS_MAX: Final = 8_000_000  # of all images of a page
_ALL: Final = 1 << 40  # a file has room for every step, and for texts of any length
_END: Final = 1 << 62
_FENCE: Final = re.compile(r"`{3,}")
# A block of code that begins at the margin, by its fence.
_BEGUN: Final = re.compile(r"(?:(`{3,})[^`]*|(~{3,}).*)$")
# What begins an element of HTML, a link in angle brackets or an image, with the backslashes before it.
_ACTIVE: Final = re.compile(r"(?<!\\)(\\*)(<(?=[A-Za-z/!?])|!(?=\[))")
_LEAD: Final = re.compile(r"^(#{1,6}\s|[-=]{3,}\s*$)", re.MULTILINE)


def links(session_id: str) -> list[tuple[str, str]]:
    """What the page offers: (name, address)."""
    return [
        ("Markdown", path_of("sessions", session_id, "export.md")),
        ("HTML", path_of("sessions", session_id, "export.html")),
    ]


def name_of(session_id: str, form: str) -> str:
    """A file name that every system takes."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", session_id).strip("-")[:60]
    return f"session-{plain or 'one'}.{form}"


def written(reader: Reader, session_id: str, form: str, look: Look) -> str | None:
    """The whole session, None where there is none of this id. Secrets are taken out here too, whatever the store keeps.

    Forms: `md`, `html`.
    """
    row = find_session(reader, session_id)
    if row is None:
        return None
    row = with_costs(reader, [row])[0]
    row = row | {name: redact_text(row[name]) for name in ("title", "project", "branch", "repository")}
    went = course(reader, session_id)
    sections = _sections(reader, session_id, went)
    if form == "md":
        return "\n".join(_markdown(row, sections, look)) + "\n"
    return str(_html(reader, row, went, sections, look))


def _sections(reader: Reader, session_id: str, went: Course) -> list[Section]:
    tree = session_tree(reader, session_id)
    for _, node in tree.walk():
        node.error = redact_text(node.error)
    for one in went.happenings:
        one.said = redact_text(one.said)
    found = conversation.sections(tree, _ALL)
    conversation.note(found, went.happenings, 0, _END)
    for at in range(0, len(found), _AT_ONCE):
        conversation.fill(reader, found[at : at + _AT_ONCE], redact_text, _ALL, _ALL)
    return found


# HTML


def _html(reader: Reader, row: dict[str, Any], went: Course, sections: list[Section], look: Look) -> Markup:
    room = _IMAGE_CHARS_MAX
    for block in _images(sections):
        room -= len(block.data)
        if room < 0:
            block.data = ""
    return fragment(
        "export.html", look,
        session=row, sections=sections, style=_style(), calls={call["call_id"]: call for call in went.calls},
    )  # fmt: skip


@cache
def _style() -> Markup:
    """The style sheets of the page; they are ours, and hold nothing that could end a style element."""
    return Markup("\n".join((STATIC / name).read_text(encoding="utf-8") for name in ("style.css", "session.css")))


def _images(sections: Sequence[Section]) -> Iterator[Block]:
    for section in sections:
        yield from (block for message in section.asked for block in message.blocks if block.data)
        for step in conversation.all_steps(section.steps):
            yield from step.view.images if step.view else ()
            yield from (block for message in step.said for block in message.blocks if block.data)


# Markdown


def _markdown(row: dict[str, Any], sections: Sequence[Section], look: Look) -> Iterator[str]:
    yield f"# {_line(row['title']).lstrip('# ') or 'Session'}"
    yield ""
    facts = {
        "Session": row["session_id"], "Agent": row["agent"], "Models": ", ".join(row["models"] or []),
        "Project": row["project"], "Branch": row["branch"], "Started": units.stamp(row["start_ns"], look.zone),
        "Took": units.duration(row["end_ns"] - row["start_ns"]) if row["start_ns"] and row["end_ns"] else "",
        "Calls": f"{row['ok_calls']:,}" + (f", {row['failed_calls']:,} failed" if row["failed_calls"] else ""),
        "Tokens": f"{units.count(row['input_tokens'])} in, {units.count(row['output_tokens'])} out",
        "Cost": _cost(row["cost_nanousd"], row["cost_kind"], row["unpriced_calls"]),
    }  # fmt: skip
    for name, value in facts.items():
        if value:
            yield f"- {name}: {_line(value)}"
    for section in sections:
        yield ""
        yield f"## Prompt {section.number}" if section.number else "## Outside any prompt"
        yield ""
        for message in section.asked:
            yield from _said(message)
        yield from _steps(section.steps, "")
        if section.left_out:
            yield f"_{units.plural(section.left_out, 'more step')} left out_"


def _cost(nanousd: int | None, kind: str, unpriced: int) -> str:
    if nanousd is None:
        return units.UNPRICED
    told = units.money(nanousd) + (f" ({kind.replace('_', ' ')})" if kind else "")
    return told + (f", and {units.plural(unpriced, 'unpriced call')}" if unpriced else "")


def _steps(steps: Sequence[Step], indent: str) -> Iterator[str]:
    for step in steps:
        yield from (f"{indent}{line}" if line else "" for line in _step(step))
        if step.steps:
            yield from _steps(step.steps, f"{indent}> ")


def _step(step: Step) -> Iterator[str]:
    node = step.node
    if step.happening is not None:
        yield f"_{step.happening.kind}{': ' + _line(step.happening.said) if step.happening.said else ''}_"
    elif step.kind == "call":
        tokens = f"{units.tokens(node.input_tokens)} in, {units.tokens(node.output_tokens)} out"
        cost = units.money(node.cost_nanousd) if node.call_id and node.status == "ok" else ""
        yield (
            "_" + ", ".join(word for word in (_line(node.model) or "model", tokens, cost, _failed(step)) if word) + "_"
        )
    elif step.kind == "agent":
        yield f"**Sub-agent {_line(node.subagent or node.name)}**"
    else:
        words = [f"**{_line(node.tool_name or node.name)}**", _took(node), _failed(step)]
        yield ", ".join(word for word in words if word)
    yield ""
    for message in step.said:
        yield from _said(message)
    yield from _run(step)


def _took(node: Node) -> str:
    return "duration unknown" if node.duration_ns is None else units.duration(node.duration_ns)


def _failed(step: Step) -> str:
    node = step.node
    return f"failed: {_line(node.error)[:400]}" if node.is_error and node.error else "failed" if node.is_error else ""


def _run(step: Step) -> Iterator[str]:
    view = step.view
    if view is None:
        return
    if view.command:
        yield from _fenced(view.command, "sh")
    elif view.change:
        signs = {"add": "+", "del": "-", "same": " "}
        if view.headline:
            yield f"`{' '.join(view.headline.split()).replace('`', '')}`"
            yield ""
        yield from _fenced("\n".join(signs.get(line.kind, "") + line.text for line in view.change), "diff")
    elif view.todos:
        yield from (
            f"- [{'x' if status in ('completed', 'done') else ' '}] {_line(words)}" for status, words in view.todos
        )
        yield ""
    elif view.task or view.headline or view.rest:
        yield from _fenced(view.task or view.headline, "")
    if view.rest:
        yield from _fenced(view.rest, "json")
    if view.exit_code:
        yield f"exit code {view.exit_code}"
        yield ""
    if view.output:
        yield from _fenced(view.output + ("\n… (cut)" if view.is_cut else ""), "")
    for block in view.images:
        yield f"[image: {_line(block.text)}]"
        yield ""


def _said(message: Message) -> Iterator[str]:
    for block in message.blocks:
        if block.kind == "text":
            written = "\n".join(_inert(block.text))
            yield written if block.role != "user" else _quoted(written)
            yield ""
        elif block.kind == "image":
            yield f"[image: {_line(block.text)}]"
            yield ""
        else:
            yield f"{block.kind.replace('_', ' ')}{' ' + _line(block.name) if block.name else ''}:"
            yield ""
            yield from _fenced(block.text, "")


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}" for line in text.splitlines())


def _fenced(text: str, language: str) -> Iterator[str]:
    """A text as a block of code that it cannot end."""
    longest = max((len(found) for found in _FENCE.findall(text)), default=2)
    fence = "`" * (longest + 1)
    yield fence + language
    yield from text.splitlines()
    yield fence
    yield ""


def _line(text: str) -> str:
    return _ACTIVE.sub(_escaped, " ".join(text.split()))


def _inert(text: str) -> Iterator[str]:
    """The lines of a text, in which no HTML and no image works outside its blocks of code.

    A heading of a text must not pass for one of the file, and a block of code that it leaves open ends with it. Only a
    block that begins at the margin is one for certain: a list or a quotation may end, and its block with it.
    """
    fence = ""
    for line in text.splitlines():
        if fence:
            yield line
            bare = line.strip()
            fence = "" if len(bare) >= len(fence) and not bare.strip(fence[0]) else fence
        elif begun := _BEGUN.match(line):
            fence = begun[1] or begun[2]
            yield line
        else:
            yield _ACTIVE.sub(_escaped, _LEAD.sub(lambda found: "\\" + found[0], line))
    if fence:
        yield fence


def _escaped(found: re.Match[str]) -> str:
    """With a backslash before it, where there is none that counts already."""
    return found[0] if len(found[1]) % 2 else f"{found[1]}\\{found[2]}"
