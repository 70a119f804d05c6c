"""Pages and plots: one self-contained HTML page per study or run."""

from steelyard.report.page import build_report

__all__ = ["build_report"]
