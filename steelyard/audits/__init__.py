"""Can this reward be trusted: audits, and the papers' benchmarks."""

from steelyard.audits.auditing import AuditResult, audit
from steelyard.audits.labelled import labelled_rollouts
from steelyard.audits.probing import Case, DoesNotFit, Finding, Outcome, Probe, Severity

__all__ = ["AuditResult", "Case", "DoesNotFit", "Finding", "Outcome", "Probe", "Severity", "audit", "labelled_rollouts"]
