"""All methods by slug."""

from __future__ import annotations

import difflib
import functools
import importlib

from steelyard.methods.core import Method
from steelyard.types import SteelyardError

_MODULES = {
    "rova": "steelyard.methods.rova",
    "cream": "steelyard.methods.cream",
    "rpo": "steelyard.methods.rpo",
    "master-rm": "steelyard.methods.master_rm",
    "grpo": "steelyard.methods.grpo",
}


@functools.cache
def find(slug: str) -> Method:
    """The method of this slug.

    Raises:
        SteelyardError: naming the nearest one, for a slug that no method has.
    """
    if slug not in _MODULES:
        near = difflib.get_close_matches(slug, _MODULES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(slugs())}"
        raise SteelyardError(f"no method is called {slug!r}; {hint}")
    method: Method = importlib.import_module(_MODULES[slug]).METHOD
    return method


def slugs() -> list[str]:
    """The names of all methods, papers in the order of their sheets."""
    return list(_MODULES)
