"""GitHub Copilot: CLI, SDK and VS Code; close to the GenAI conventions, agent spans repeat their calls' usage."""

from __future__ import annotations

from tachograph.dialects.table import Dialect, Dollars, Ms, Record, Seconds
from tachograph.model import AGENT, PROMPT, STEP, TOOL_RUN, Meaning, Span
from tachograph.vocabulary import text, whole

NAME = "copilot"


def finish(record: Record, meaning: Meaning) -> None:
    """The outermost agent span is the user's prompt; credits are list-price money of a plan."""
    # A sub-agent has a name; the outermost span may lie in the trace of whoever started the program.
    if isinstance(record, Span) and meaning.role == AGENT and not (record.parent_id and meaning.subagent):
        meaning.role = PROMPT
    credits = whole(record.attributes.get("github.copilot.nano_aiu"))
    if credits:
        # One AI credit is 1e9 nano-AIU and lists at 0.01 USD.
        meaning.cost_nanousd = round(credits / 100)
        meaning.cost_kind = "source_estimate"
        meaning.is_notional = True
    if meaning.role == TOOL_RUN:
        meaning.operation = "execute_tool"
    # A pseudonym of the installation: a person named by the operator says more.
    meaning.user = meaning.user or text(record.attributes.get("enduser.pseudo.id"))


COPILOT = Dialect(
    name=NAME,
    agent=NAME,
    scopes=("github.copilot*", "copilot-chat*"),
    services=("github-copilot", "copilot-chat"),
    names=("github.copilot.",),
    fields={
        "session_id": ("gen_ai.conversation.id", "copilot_chat.chat_session_id", "session.id", "session_id"),
        "prompt_id": ("github.copilot.interaction_id",),
        "ttft_ns": (Seconds("gen_ai.response.time_to_first_chunk"), Ms("copilot_chat.time_to_first_token")),
        "user": ("enduser.id", "user.email", "user.name"),
        "cost_nanousd": (Dollars("copilot_chat.total_cost_usd"),),
        "tool_name": ("gen_ai.tool.name", "github.copilot.external_tool.name"),
        "tool_call_id": ("gen_ai.tool.call.id", "github.copilot.external_tool.call_id"),
    },
    named_roles={"external_tool *": TOOL_RUN, "permission": STEP, "session.*": STEP},
    noise=("session.*",),
    finish=finish,
)
