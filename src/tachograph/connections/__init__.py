"""How each agent is made to send here: the settings files it reads, edited the way its documentation says."""

from tachograph.connections.applying import Change, State, carry_out, needs_plugin, plan, plan_undo, state
from tachograph.connections.contract import Connection, Target

__all__ = ["Change", "Connection", "State", "Target", "carry_out", "needs_plugin", "plan", "plan_undo", "state"]
