"""Other people's machines: a reward, or a whole recipe, leaves the house in the form that their trainer asks for."""

from steelyard.engines.export import export_trl, export_verl
from steelyard.engines.openrlhf import to_openrlhf
from steelyard.engines.trl import to_trl
from steelyard.engines.trl_monitor import TrlMonitor
from steelyard.engines.verl import to_verl, to_verl_batch

__all__ = ["TrlMonitor", "export_trl", "export_verl", "to_openrlhf", "to_trl", "to_verl", "to_verl_batch"]
