"""What runs now: each session's step and how long it takes, its last prompt, and what is spent by the minute."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from tachograph.questions import running as asking_running
from tachograph.questions.running import ALIVE_NS, MINUTE_NS, SPEND_MINUTES, STALLED_NS, Running
from tachograph.scan import Reader
from tachograph.web import messages, units
from tachograph.web.asking import Asked
from tachograph.web.pages.sessions import with_costs
from tachograph.web.plots import Plot, Series, plot, rounded
from tachograph.web.rendering import Site, render

_RECENT_MINUTES: Final = 5  # of which the mean by the minute is told
# Kind of cost -> what it is called, and its colour in the chart.
KINDS: Final = {
    "billed": ("billed", "2"),
    "source_estimate": ("estimated by the agent", "0"),
    "computed": ("computed", "1"),
    "notional": ("covered by a plan", "7"),
}


class Shown(Struct):
    """A running session as the page has it: its state in words, and the first words of its last prompt."""

    of: Running
    session: dict[str, Any]
    state: str
    words: str
    prompt: str


def running(site: Site, request: Request) -> Response:
    """The page; it is fetched anew when something comes in, and now and then, for what is not told."""
    sequence = site.reader.sequence()
    asked = Asked(site, request, default_range="24h")
    now_ns = asked.look.now_ns
    found = asking_running.running(site.reader, now_ns)
    spent = asking_running.spend(site.reader, now_ns)
    recent = {kind: sum(values[-_RECENT_MINUTES - 1 : -1]) / _RECENT_MINUTES for kind, values in spent.items()}
    return render(
        site, request, "running.html",
        sequence=sequence, look=asked.look, sessions=_shown(site.reader, found),
        at_work=sum(one.step.doing in ("tool", "model") and not one.is_stalled for one in found),
        stalled=sum(one.is_stalled for one in found), waiting=sum(one.step.doing == "user" for one in found),
        in_flight=sum(one.in_flight for one in found),
        recent=[(KINDS[kind][0], round(amount * 1e9)) for kind, amount in recent.items() if amount],
        chart=_chart(asked, spent), alive=units.duration(ALIVE_NS), stalled_after=units.duration(STALLED_NS),
        recent_minutes=_RECENT_MINUTES,
    )  # fmt: skip


def _shown(reader: Reader, found: list[Running]) -> list[Shown]:
    texts = reader.texts([one.prompt_hash for one in found if one.prompt_hash])
    costs = with_costs(reader, [one.session for one in found])
    made = []
    for one, row in zip(found, costs, strict=True):
        text = texts.get(one.prompt_hash, "")
        prompt = messages.first_text(messages.read(text)) if text else ""
        made.append(Shown(one, row, *_state(one), units.excerpt(prompt or row["title"], 200)))
    return made


def _state(one: Running) -> tuple[str, str]:
    """(class of the state, its words)."""
    doing = one.step.doing
    if one.is_stalled:
        return "stalled", "stalled in" if one.step.name else "stalled"
    if doing == "tool":
        return "work", "runs a tool"
    if doing == "model":
        return "work", "waits for the model"
    if doing == "user":
        return "user", "waits for the user"
    return "unknown", "its last call failed" if one.step.name else "its last call ended"


def _chart(asked: Asked, spent: dict[str, list[float]]) -> str:
    """Bars of the last hour by kind of cost, each leading to its calls; "" where nothing was spent."""
    if not spent:
        return ""
    last = asked.look.now_ns // MINUTE_NS
    starts = [(last - back) * MINUTE_NS for back in reversed(range(SPEND_MINUTES))]
    labels = [units.clock_time(start, asked.look.zone)[:5] for start in starts]
    series = [Series(KINDS[kind][0], rounded(spent[kind]), KINDS[kind][1]) for kind in KINDS if kind in spent]
    hrefs = [asked.link("/calls", **_between(start, asked)) for start in starts]
    total = units.money(round(sum(map(sum, spent.values())) * 1e9))
    made = Plot("stack", "dollars", labels, series, hrefs)
    return plot(made, "Spent by the minute in the last hour, by kind of cost", f"{total} in the last hour")


def _between(start_ns: int, asked: Asked) -> dict[str, str]:
    first, last = (
        datetime.fromtimestamp(at / 1e9, asked.look.zone).isoformat(timespec="seconds")
        for at in (start_ns, start_ns + MINUTE_NS)
    )
    return {"from": first, "to": last}
