"""Slug to adapter: (case name, inputs) to a dict with the keys of the case's outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tests.golden.cream import cream
from tests.golden.g_ra import g_ra
from tests.golden.rova import rova
from tests.golden.rpo import rpo_case
from tests.golden.verpo import verpo

Adapter = Callable[[str, Mapping[str, Any]], Mapping[str, Any]]

ADAPTERS: dict[str, Adapter] = {
    "cream": cream,
    "g-ra": g_ra,
    "rova": rova,
    "rpo": rpo_case,
    "VeRPO": verpo,
}
