"""Frozen copies of a module, kept under names."""

from __future__ import annotations

import copy
from typing import Any

from steelyard.types import SteelyardError


class Copies(dict[str, Any]):
    """Name to module: the reference, the previous weights, ….

    A None stands for a copy that needs no weights of its own, as the adapter that would differ was untouched then.

    Raises:
        SteelyardError: on asking for a copy that was not made.
    """

    def keep(self, name: str, module: Any) -> None:
        """A frozen copy of a `torch.nn.Module` as it is now."""
        self[name] = copy.deepcopy(module).requires_grad_(False)

    def __missing__(self, name: str) -> Any:
        known = f" (it has {', '.join(sorted(self))})" if self else ""
        raise SteelyardError(f"there is no copy {name!r}; call snapshot({name!r}) first{known}")
