"""The ledger: what every source reports about model calls, merged into each call once."""

from tachograph.ledger.identity import report
from tachograph.ledger.working import settle

__all__ = ["report", "settle"]
