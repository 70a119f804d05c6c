"""A person's own model and data as the setting of a recipe."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steelyard.environments.search import Passages, SearchTool
from steelyard.methods.arms import mean_rewards
from steelyard.methods.core import Measure, RecipeFor, Split
from steelyard.methods.video import pvr, write_examples
from steelyard.perturb.video import OutdoorCorruptions, outdoor_corruptions
from steelyard.rewards.agent_steps import judged_steps
from steelyard.rewards.answers import INSTRUCTION
from steelyard.rewards.code import code_tests
from steelyard.rewards.consistency import Similarity, shared_words
from steelyard.rewards.core import Expression
from steelyard.rewards.evidence import evidence_chain
from steelyard.rewards.judges import judged_similarity, verified
from steelyard.types import Judge, Policy, Sample, SteelyardError

TEST_SHARE, VALIDATION_SHARE = 0.1, 0.05


@dataclass(frozen=True)
class OwnTask:
    """A model (folder or hub id) and a JSONL file; a row's split follows from a hash of its id.

    Reasonings are compared word by word (`shared_words`) unless a judge is asked.

    Args:
        judge: compares reasonings (`steelyard.rewards.judges.judged_similarity`) or grades an agent's steps.
        corpus: JSONL of passages, which an agent searches.
        instruction: what is put behind every prompt.
    """

    model: str
    data: Path
    max_tokens: int = 768
    attempts: int = 8
    frames: int = 16
    size: int = 224
    judge: Judge | None = None
    instruction: str = INSTRUCTION
    corpus: Path | None = None

    name, budget = "own", 4
    corruptions = outdoor_corruptions()

    @property
    def similarity(self) -> Similarity:
        """How alike two reasonings are."""
        return shared_words if self.judge is None else judged_similarity(self.judge)

    @functools.cached_property
    def environment(self) -> SearchTool:
        """What answers an agent's steps: a search in the corpus.

        Raises:
            SteelyardError: where there is none.
        """
        if self.corpus is None:
            raise SteelyardError("this method searches; name a JSONL of passages: `options: {corpus: passages.jsonl}`")
        return SearchTool(Passages.from_jsonl(self.corpus))

    @functools.cached_property
    def steps(self) -> Expression:
        """What a step of an agent is worth, by the judge.

        Raises:
            SteelyardError: where there is none.
        """
        return judged_steps(self._asked("has every step graded by"), budget=self.budget)

    @property
    def verifier(self) -> Judge:
        """Who is asked whether an item of a checklist is met.

        Raises:
            SteelyardError: where there is nobody.
        """
        return self._asked("has checklists verified by")

    @functools.cached_property
    def outcome(self) -> Expression:
        """Whether an answer is right (1) or not (0), by the judge and the column `answer`.

        Raises:
            SteelyardError: where there is no judge.
        """
        return verified(self._asked("has answers verified by"))

    @functools.cached_property
    def evidence(self) -> Expression:
        """How much of the chain of evidence an answer gives, by the judge and the columns `statements` and `opened`.

        Raises:
            SteelyardError: where there is no judge.
        """
        return evidence_chain(self._asked("has evidence checked by"))

    def _asked(self, what: str) -> Judge:
        if self.judge is None:
            raise SteelyardError(f"this method {what} a judge; name one under `judge:`")
        return self.judge

    @property
    def test_corruptions(self) -> OutdoorCorruptions:
        """All kinds at severity 3."""
        return outdoor_corruptions(severities=(3,))

    @property
    def checks(self) -> Expression:
        """What judges programs: the `tests` of every row, run in the sandbox."""
        return code_tests

    @functools.cached_property
    def _splits(self) -> dict[Split, list[int]]:
        splits: dict[Split, list[int]] = {"train": [], "validation": [], "test": []}
        for row, name in enumerate(self._rows.ids):
            share = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest()) / 2**32
            held = share < TEST_SHARE, share < TEST_SHARE + VALIDATION_SHARE
            splits["test" if held[0] else "validation" if held[1] else "train"].append(row)
        for split, rows in splits.items():
            if not rows:
                raise SteelyardError(f"{self.data} leaves no row for the {split} split; give 60 rows or more")
        return splits

    @functools.cached_property
    def _rows(self):  # type: ignore[no-untyped-def]
        from steelyard.learn.data import load_samples

        return load_samples(self.data, frames=self.frames, size=self.size, instruction=self.instruction)

    @property
    def train_rows(self) -> int:
        """How many rows are trained on."""
        return len(self._splits["train"])

    @property
    def test_rows(self) -> int:
        """How many rows are held out for the test, 200 at most."""
        return min(200, len(self._splits["test"]))

    @functools.cached_property
    def of_videos(self) -> bool:
        """Whether the rows are clips."""
        return self._rows[0].video is not None

    def measure(self, recipe: RecipeFor) -> Measure:
        """PVRBench for clips; the recipe's own reward and its parts' sum for everything else."""
        return pvr if self.of_videos else mean_rewards(reward=recipe(self).reward)

    @property
    def examples(self) -> Callable[[Any, Path, str, int], None] | None:
        """What a page shows of single rows: strips of clips."""
        return write_examples if self.of_videos else None

    def samples(self, split: Split, count: int, *, seed: int = 0) -> Sequence[Sample]:
        """The first `count` rows of a split (the seed changes nothing)."""
        rows = self._splits[split][:count]
        return _Picked(self._rows, rows)

    def policy(self, *, seed: int = 0) -> Policy:
        """The model, loaded."""
        from steelyard.policies import load_policy
        from steelyard.policies.sampling import Sampling

        return load_policy(self.model, sampling=Sampling(max_tokens=self.max_tokens, top_p=0.95))


class _Picked(Sequence[Sample]):
    """Some rows of a lazy data set, still lazy."""

    def __init__(self, source, rows: list[int]) -> None:  # type: ignore[no-untyped-def]
        self.source, self.rows = source, rows
        self.ids = [source.ids[row] for row in rows]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        if isinstance(index, slice):
            return [self.source[row] for row in self.rows[index]]
        return self.source[self.rows[index]]
