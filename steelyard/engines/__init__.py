"""Other people's machines: a reward leaves the house as the callable that their trainer asks for."""

from steelyard.engines.trl import to_trl
from steelyard.engines.trl_monitor import TrlMonitor

__all__ = ["TrlMonitor", "to_trl"]
