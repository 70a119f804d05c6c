"""Golden values: one table of adapters, slug to a function that takes a case and returns its outputs."""
