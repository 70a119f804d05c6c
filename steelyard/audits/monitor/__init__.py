"""The monitor: watch a reward while a policy is trained on it, and be told when it is hacked or breaks."""

from steelyard.audits.monitor.alerts import Alert
from steelyard.audits.monitor.core import Monitor, detectors
from steelyard.audits.monitor.figures import step_figures
from steelyard.audits.monitor.outlets import Terminal
from steelyard.audits.monitor.replay import read_log, replay
from steelyard.audits.monitor.watching import WatchedReward, watch

__all__ = ["Alert", "Monitor", "Terminal", "WatchedReward", "detectors", "read_log", "replay", "step_figures", "watch"]
