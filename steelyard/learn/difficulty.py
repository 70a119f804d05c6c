"""How hard a perturbed sample is for the policy as it is now, told without the gold answer."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Protocol

import numpy as np

from steelyard.learn.recipe import Candidate
from steelyard.types import Policy, Prompt, Rollouts, SteelyardError

Label = Literal["easy", "informative", "difficult"]


class Judgement(NamedTuple):
    """A label and how sure it is, in [0, 1]."""

    label: Label
    confidence: float


class Difficulty(Protocol):
    """Judges candidates; `samples_per_candidate` is what that costs."""

    samples_per_candidate: int

    def __call__(
        self, policy: Policy, candidates: Sequence[Candidate], generator: np.random.Generator
    ) -> list[Judgement]:
        """One judgement a candidate."""
        ...


@dataclass(frozen=True)
class Behavioural:
    """See `behavioural`."""

    answer: Callable[[str], Hashable]
    attempts: int

    def __repr__(self) -> str:
        return f"behavioural({getattr(self.answer, '__name__', self.answer)}, attempts={self.attempts})"

    @property
    def samples_per_candidate(self) -> int:
        """Rollouts spent on one candidate."""
        return 2 * self.attempts

    def __call__(
        self, policy: Policy, candidates: Sequence[Candidate], generator: np.random.Generator
    ) -> list[Judgement]:
        """One judgement a candidate."""
        if not candidates:
            return []
        views = [c.sample for c in candidates] + [c.view for c in candidates]
        rollouts = policy.sample(views, self.attempts, generator=generator)
        answers = [self.answer(text) for text in rollouts.completions]
        table = np.fromiter(answers, object, len(answers))  # an answer may be a tuple, which is still one answer
        branches = table.reshape(2, len(candidates), self.attempts)
        return [agreement(list(clean), list(corrupted)) for clean, corrupted in zip(*branches, strict=True)]


def agreement(clean: Sequence[Hashable], corrupted: Sequence[Hashable]) -> Judgement:
    """a = share of the corrupted answers that equal the clean branch's majority answer (the first met wins a tie).

    a = 1 easy, a = 0 difficult, else informative; c = |2a − 1|. No answer (None) agrees with nothing.
    """
    majority = Counter(answer for answer in clean if answer is not None).most_common(1)
    share = float(np.mean([bool(majority) and answer == majority[0][0] for answer in corrupted]))
    label: Label = "easy" if share == 1 else "difficult" if share == 0 else "informative"
    return Judgement(label, abs(2 * share - 1))


def behavioural(answer: Callable[[str], Hashable], *, attempts: int = 4) -> Behavioural:
    """Difficulty by what the policy does: `attempts` answers to the clean and to the corrupted sample each.

    Args:
        answer: completion to comparable answer; None where it gave none.
        attempts: k on either branch, so 2k samples a candidate.

    Raises:
        SteelyardError: for fewer than one attempt.

    Source: sheet 01, section 2, the estimate for policies that cannot be prompted.
    """
    if attempts < 1:
        raise SteelyardError(f"difficulty cannot be told from {attempts} attempts; give at least 1")
    return Behavioural(answer, attempts)


EVALUATION_PROMPT = """You are shown a video whose quality may be disturbed. \
Two answers to the question below were given: one to the original video, one to this disturbed video.

Question: {question}

Answer to the original video:
{clean}

Answer to the disturbed video:
{corrupted}

How hard is the disturbed video to answer from? Reply with JSON only: \
{{"difficulty": "easy" | "informative" | "difficult", "confidence": a number from 0 to 1}}. \
Say "easy" if both answers follow from what is visible and agree, "difficult" if what is needed cannot be seen, \
"informative" otherwise."""


@dataclass(frozen=True)
class SelfJudged:
    """See `self_judged`."""

    prompt: str
    samples_per_candidate: int = 3

    def __call__(
        self, policy: Policy, candidates: Sequence[Candidate], generator: np.random.Generator
    ) -> list[Judgement]:
        """One judgement a candidate."""
        if not candidates:
            return []
        count, views = len(candidates), [c.view for c in candidates]
        outputs = policy.sample([c.sample for c in candidates] + views, 1, generator=generator).completions
        asked = [
            replace(view, prompt=_ask(view.prompt, self.prompt, str(outputs[i]), str(outputs[count + i])))
            for i, view in enumerate(views)
        ]
        replies: Rollouts = policy.sample(asked, 1, generator=generator, greedy=True)
        return [parse_judgement(str(text)) for text in replies.completions]


def self_judged(*, prompt: str = EVALUATION_PROMPT) -> SelfJudged:
    """Difficulty as the policy itself states it, shown the disturbed clip and its own two outputs, greedily decoded.

    The wording is ours (not found in the paper). A reply that does not parse is informative with confidence 0:
    the sample is trained, nothing is thrown away on a misreading. Source: sheet 01, section 2.
    """
    return SelfJudged(prompt)


def parse_judgement(text: str) -> Judgement:
    """Read `{"difficulty": …, "confidence": …}`; see `self_judged` for what does not parse."""
    found = re.search(r"\{[^{}]*\}", text)
    try:
        reply = json.loads(found.group(0)) if found else {}
        label, confidence = reply.get("difficulty"), float(reply.get("confidence", "nan"))
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        label, confidence = None, float("nan")
    if label not in ("easy", "informative", "difficult") or not 0 <= confidence <= 1:
        return Judgement("informative", 0.0)
    return Judgement(label, confidence)


def _ask(prompt: Prompt, template: str, clean: str, corrupted: str) -> Prompt:
    """The evaluation prompt in place of the question, with the same video and image parts before it."""
    if isinstance(prompt, str):
        return template.format(question=prompt, clean=clean, corrupted=corrupted)
    parts = [p for m in prompt for p in _parts(m["content"])]
    question = "\n".join(p["text"] for p in parts if p["type"] == "text")
    text = template.format(question=question, clean=clean, corrupted=corrupted)
    media = [p for p in parts if p["type"] != "text"]
    return [{"role": "user", "content": [*media, {"type": "text", "text": text}]}]


def _parts(content: object) -> list[dict[str, str]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)  # type: ignore[call-overload]
