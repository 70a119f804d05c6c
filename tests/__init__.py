"""The tests, as a package: no other distribution's `tests` may stand before it."""
