"""All methods by slug."""

from __future__ import annotations

import difflib
import functools
import importlib

from steelyard.methods.core import Method
from steelyard.types import SteelyardError

_SLUGS = (
    "flow-grpo",
    "rova",
    "verpo",
    "contrast-instructions",
    "copo",
    "paco-rl",
    "policy-cliff",
    "brme",
    "cream",
    "urlvr",
    "toolrl",
    "firm",
    "unlikeliness",
    "rpo",
    "sarm",
    "rlpr",
    "ace-rl",
    "master-rm",
    "densegrpo",
    "bleuberi",
    "carr",
    "rlcm",
    "slate",
    "grpo",
)
"""In the order of their sheets; each is a file of this folder by that name. The baseline comes last."""


@functools.cache
def find(slug: str) -> Method:
    """The method of this slug.

    Raises:
        SteelyardError: naming the nearest one, for a slug that no method has.
    """
    if slug not in _SLUGS:
        near = difflib.get_close_matches(slug, _SLUGS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(slugs())}"
        raise SteelyardError(f"no method is called {slug!r}; {hint}")
    method: Method = importlib.import_module(f"steelyard.methods.{slug.replace('-', '_')}").METHOD
    return method


def slugs() -> list[str]:
    """The names of all methods, papers in the order of their sheets."""
    return list(_SLUGS)
