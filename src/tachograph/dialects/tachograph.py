"""What another Tachograph forwards normalised: its steps, in the names of the GenAI conventions and its own."""

from __future__ import annotations

from tachograph.dialects.table import Dialect, Dollars, Record
from tachograph.model import AGENT, MODEL_CALL, PROMPT, TOOL_RUN, TURN, Meaning


def finish(record: Record, meaning: Meaning) -> None:
    """What was billed stays so; what the sender computed is an estimate of the source's, which it is here."""
    if record.attributes.get("tachograph.cost.kind") == "billed":
        meaning.cost_kind = "billed"


TACHOGRAPH = Dialect(
    name="tachograph",
    scopes=("tachograph.steps",),
    fields={
        "prompt_id": ("tachograph.prompt.id",),
        "subagent": ("tachograph.subagent",),
        "project": ("tachograph.project",),
        "team": ("tachograph.team",),
        "channel": ("tachograph.channel",),
        "cost_nanousd": (Dollars("tachograph.cost.usd"),),
        "is_notional": ("tachograph.cost.is_notional",),
    },
    roles={"tachograph.role": {role: role for role in (PROMPT, AGENT, TURN, MODEL_CALL, TOOL_RUN)}},
    finish=finish,
)
