"""Can this reward be trusted: audits, and the papers' benchmarks."""
