"""How each agent is made to send here: the settings files it reads, edited the way its documentation says."""

from tachograph.connections.applying import Change, State, by_hand, carry_out, needs_plugin, plan, plan_undo, state
from tachograph.connections.contract import ANY_SDK, Connection, Target

__all__ = [
    "ANY_SDK",
    "Change",
    "Connection",
    "State",
    "Target",
    "by_hand",
    "carry_out",
    "needs_plugin",
    "plan",
    "plan_undo",
    "state",
]
