"""The way in: the stages, the group commit, and the ledger kept up to date behind it."""

from tachograph.pipeline.following import Followed, Follower, chosen
from tachograph.pipeline.road import Road, Stage, stages
from tachograph.pipeline.settler import Settled, Settler

__all__ = ["Followed", "Follower", "Road", "Settled", "Settler", "Stage", "chosen", "stages"]
