"""Other people's machines: a reward leaves the house as the callable that their trainer asks for."""

from steelyard.engines.trl import to_trl

__all__ = ["to_trl"]
