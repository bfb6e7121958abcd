"""Sessions whose every text is an attack on the page that shows it, one session for each attack."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tachograph.model import MODEL_CALL, PROMPT, TOOL_RUN, Batch, Content, Event, Meaning, Source, Span, Usage

# What would run says so by raising a dialog or by asking a host that is not ours.
ELSEWHERE = "http://attacker.test"
ATTACKS = {
    "script": "\"'></title></textarea></pre></script><script>alert(1)</script>",
    "image": f"\"'><img src=x onerror=alert(1)><img src={ELSEWHERE}/i.png>",
    "svg": '"><svg onload=alert(1)><script>alert(1)</script>'
    '<a xlink:href="javascript:alert(1)"><text>x</text></a></svg>',
    "frame": f'"><iframe src="javascript:alert(1)"></iframe><object data={ELSEWHERE}></object><base href={ELSEWHERE}>',
    "style": f"</style><style>body{{display:none}}@import url({ELSEWHERE}/x.css)</style>"
    f"<link rel=stylesheet href={ELSEWHERE}>",
    "form": f'"><form action={ELSEWHERE}><button autofocus onfocus=alert(1)>x</button></form>'
    f'<meta http-equiv=refresh content="0;url={ELSEWHERE}">',
    "markdown": f"[x](javascript:alert(1)) ![i]({ELSEWHERE}/i.png) <javascript:alert(1)> "
    f"[d](data:text/html,<script>alert(1)</script>) [r]\n\n[r]: vbscript:alert(1)\n\n<{ELSEWHERE}>\n\n"
    "```html\n<script>alert(1)</script>\n```\n\n| a |\n|-|\n| <b onclick=alert(1)>b</b> |",
    "template": "{{7*7}}${7*7}<%= 7*7 %>{% raw %}#{7*7}",
    "right-to-left": "\u202egnp.exe\u202c \u2066\u2067abc\u2069 שלום עולם \u200f\u061c مرحبا" + "\u202e" * 40,
    "null": "a\x00b\x00<script>alert(1)</script>\x01\x07\x08\x0b\x1b[31mred\x1b[0m\x7f\x85"
    "\u2028\u2029\ufeff\ufffe\uffff",
    "zero-width": "a" + "\u200b\u200c\u200d\u2060\ufeff" * 200 + "b",
    "combining": "Z" + "\u0300\u0301\u0302\u0303\u0304" * 60 + "algo",
    "emoji": "👩‍👩‍👧‍👦🏳️‍🌈🇩🇪🤦🏽‍♀️" * 120,
    "unbroken": "W" * 4_000,
    "wide": "﷽𒐫꧅" * 400,
    "newlines": "\r\n" * 300 + "end",
    "path": "../../../../etc/passwd%00%2e%2e%2f?x=1&y=2#z;/../\\..\\",
    "address": "javascript:alert(1)//https://user@attacker.test/",
    "json": '{"role":"user","content":[{"type":"text","text":"<script>alert(1)</script>"}]}]},{"\\u0000":"\\ud800"}',
}
MEGABYTE = 1_000_000
SHORT = 3_000  # names and ids are cut by nobody, but a megabyte of them is no name


def trace_of(name: str) -> str:
    """The trace id of the session of an attack."""
    return f"{[*ATTACKS, 'megabyte'].index(name) + 0xA77AC:032x}"


def sessions(start_ns: int) -> Iterator[Batch]:
    """A batch for each attack; the last one is a line of a megabyte."""
    for number, (name, text) in enumerate(ATTACKS.items()):
        yield _session(name, text, text[:SHORT], start_ns + number * 10_000_000_000)
    line = "<b>megabyte</b> " * (MEGABYTE // 16)
    yield _session("megabyte", line, line[:SHORT], start_ns)


def _session(name: str, text: str, short: str, start_ns: int) -> Batch:
    """A prompt, a call below it, a failed tool below that; `text` wherever a text may be long, else `short`."""
    trace, usage = trace_of(name), Usage(input_uncached=1_000, cache_read=200, output=30)
    source = Source({"service.name": short, short: text}, short, short)
    who: dict[str, Any] = dict.fromkeys(
        ("agent", "subagent", "project", "branch", "user", "team", "channel", "repository", "host", "environment"),
        short,
    )
    who |= {"session_id": f"{name} {short}", "prompt_id": short}
    call = Meaning(
        role=MODEL_CALL, is_call=True, usage=usage, provider=short, request_model=short, response_model=short + "!",
        response_id=short, request_id=short, finish_reason=short, service_tier=short, **who,
    )  # fmt: skip
    tool = Meaning(
        role=TOOL_RUN, tool_name=short, tool_call_id=short, is_error=True, error_type=short, error_message=text, **who
    )
    told = '{"role": "assistant", "content": ' + json.dumps(text) + "}"
    steps = (
        (1, "", Meaning(role=PROMPT, **who), [Content("prompt", "p", [text])]),
        (2, f"{1:016x}", call, [Content("input", "i", [told, text], True), Content("output", "o", [told], True)]),
        (3, f"{2:016x}", tool, [Content("arguments", "a", [text]), Content("result", "r", [text])]),
    )
    spans = [
        Span(
            source, trace, f"{number:016x}", parent, short, 1, start_ns + number, start_ns + number + 5_000_000,
            {short: text, "list": [short, {"deep": short}]}, 2 if number == 3 else 0, short,
            events=[{"time_ns": start_ns, "name": short, "attributes": {short: short}, "dropped": 0}],
            links=[{"trace_id": short, "span_id": short, "attributes": {short: short}}],
            meaning=meaning, contents=contents,
        )
        for number, parent, meaning, contents in steps
    ]  # fmt: skip
    event = Event(source, start_ns + 4, short, {short: short}, body=text, trace_id=trace, span_id=f"{2:016x}")
    return Batch(spans=spans, events=[event])
