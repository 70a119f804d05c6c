"""A judge that is a Python function."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from steelyard.types import Prompt


class RuleJudge:
    """Answers every prompt with a function: for worlds where the right verdict can be computed, and for tests.

    Args:
        function: one prompt in, one text out; None where the rule has no verdict.
        name: how logs call it; the function's own name unless given.
    """

    def __init__(self, function: Callable[[Prompt], str | None], *, name: str | None = None) -> None:
        self.function = function
        self.name = name or getattr(function, "__name__", "rule")
        self.failures: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"RuleJudge({self.name})"

    def ask(self, prompts: Sequence[Prompt]) -> list[str | None]:
        """One answer a prompt, in order; None (counted in `failures`) where the rule has none."""
        answers = [self.function(prompt) for prompt in prompts]
        self.failures["none"] += sum(answer is None for answer in answers)
        return answers
