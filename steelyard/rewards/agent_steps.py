"""What one step of a searching agent is worth: its thought, and its query or answer, graded apart (SLATE, sheet 67)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from steelyard.rewards.core import BatchReward, reward
from steelyard.rewards.judges.asking import read_verdicts
from steelyard.rewards.judges.parsing import Parse, parse_ternary
from steelyard.rewards.judges.scoring import named_reward, texts_of
from steelyard.rewards.judges.templates import step_prompt
from steelyard.rewards.text import normalised
from steelyard.types import Array, Judge, Prompt, Rollouts, Scores, Status, SteelyardError, Verdict

THOUGHT = (
    "Grade `thought`, which was written after `context`. 1: it bears on the question, says clearly what is known and "
    "what is missing, comes nearer to the answer, and states nothing that the context does not give. 0: it bears on "
    "the question but is vague or hardly comes nearer. -1: beside the question, misleading, or untrue to the context."
)
QUERY = (
    "Grade `query` before anything is retrieved; it need not answer the question in one go. 1: it asks for what is "
    "needed next, names it with words that a search engine can match, follows from the thought, and is new. 0: partly "
    "so. -1: a lone general word, beside the question, or something that the context holds already."
)
ANSWER = "Grade `answer` by `reference`, in meaning and not word by word. 1: the same. 0: in part. -1: another or none."

_ACTION = re.compile(r"<(/?)(search|answer)>")
_THINK = re.compile(r"\A\s*<think>(.*)</think>\s*\Z", re.DOTALL)


class AgentStep(NamedTuple):
    """A step as it was meant: a thought, and an action with its text; None where there is no action."""

    thought: str
    action: Literal["search", "answer"] | None
    text: str


def read_agent_step(step: str) -> AgentStep:
    """`<think> thought </think> <search> query </search>`, or with `<answer>`; the action ends the step.

    Think tags may be left out. A step with no action, an empty one, or two of them has none.
    """
    marks = list(_ACTION.finditer(step))
    closed = [(mark[1], mark[2]) for mark in marks]
    if closed not in ([("", "search"), ("/", "search")], [("", "answer"), ("/", "answer")]):
        return AgentStep(step.strip(), None, "")
    first, last = marks
    text = step[first.end() : last.start()].strip()
    if not text or step[last.end() :].strip():
        return AgentStep(step.strip(), None, "")
    before = step[: first.start()]
    inner = _THINK.match(before)
    return AgentStep((inner[1] if inner else before).strip(), "answer" if first[2] == "answer" else "search", text)


def step_rewards(
    thought: Array, action: Array, answers: Array, step: Array, *, budget: int, bonus: float = 0.1
) -> Array:
    """r = r_think + r_query for a search, r_think + r_answer + λ (B − t) / B for an answer at step t = 0, 1, …

    Args:
        thought, action: grades [N] in {−1, 0, 1}; NaN where one could not be judged.
        answers: bool [N], whether the action is an answer.
        step: t, int [N].
        budget: B, steps of an attempt; bonus: λ, what an early answer earns.

    Returns:
        float64 [N].

    Raises:
        SteelyardError: for a budget below 1.

    Source: sheet 67, step 2; t counts from 0 as in the released code.
    """
    if budget < 1:
        raise SteelyardError(f"a budget of {budget} steps lets nobody act; give at least 1")
    early = np.where(np.asarray(answers, bool), bonus * (budget - np.asarray(step)) / budget, 0.0)
    return np.asarray(np.asarray(thought, np.float64) + np.asarray(action, np.float64) + early)


def judged_steps(
    judge: Judge,
    *,
    budget: int = 4,
    bonus: float = 0.1,
    malformed: float = -2.0,
    question: str = "prompt",
    reference: str = "answer",
    parse: Parse = parse_ternary,
) -> BatchReward:
    """What each step is worth by a judge, in ternary parts (`step_rewards`); equal prompts are asked once.

    The judge sees question, context (the sample's prefix) and thought; then the query before it is run, or the answer
    beside the reference. Parts in the log: `thought`, `query`, `answer`. A part that the judge did not grade makes the
    step NaN. A step without an action is the policy's fault, not the judge's: it is worth `malformed` and nobody is
    asked.

    Args:
        judge: who is asked, up to 2N prompts at once.
        budget, bonus: B and λ.
        malformed: of a step that neither searches nor answers.
        question, reference: columns. t is the number of steps that the sample's prefix holds.
        parse: of a reply.

    Source: sheet 67.
    """

    def score(rollouts: Rollouts) -> Scores:
        steps = [read_agent_step(str(text)) for text in rollouts.completions]
        acted = np.array([step.action is not None for step in steps], bool)
        answers = np.array([step.action == "answer" for step in steps], bool)
        rows = np.flatnonzero(acted)
        shown = rollouts.take(rows)
        references = texts_of(shown, reference) if answers.any() else [""] * len(rows)
        prompts = _prompts([steps[i] for i in rows], shown, texts_of(shown, question), references)
        verdicts = ask_once(judge, prompts, parse)
        thought, action = (_laid(verdicts[part::2], rows, len(steps)) for part in (0, 1))
        taken = [sample.prefix.steps if sample.prefix else 0 for sample in rollouts.samples]
        values = step_rewards(thought, action, answers, np.array(taken, np.int64), budget=budget, bonus=bonus)
        values[~acted] = malformed
        parts = {"thought": thought, "query": np.where(answers, np.nan, action)}
        parts["answer"] = np.where(answers, action, np.nan)
        return Scores(values, _status(verdicts, rows, len(steps)), parts=parts)

    name = getattr(judge, "name", type(judge).__name__)
    return named_reward(score, "judged_steps", f"judged_steps({name!r}, budget={budget}, bonus={bonus:g})")


def _prompts(
    steps: Sequence[AgentStep], rollouts: Rollouts, questions: Sequence[str], references: Sequence[str]
) -> list[Prompt]:
    """Two a step: of its thought, and of its action."""
    prompts = []
    for step, sample, asked, known in zip(steps, rollouts.samples, questions, references, strict=True):
        before = {"question": asked, "context": sample.prefix.text if sample.prefix else ""}
        prompts.append(step_prompt(THOUGHT, **before, thought=step.thought))
        if step.action == "answer":
            prompts.append(step_prompt(ANSWER, question=asked, reference=known, answer=step.text))
        else:
            prompts.append(step_prompt(QUERY, **before, thought=step.thought, query=step.text))
    return prompts


def ask_once(judge: Judge, prompts: Sequence[Prompt], parse: Parse) -> list[Verdict]:
    """One verdict a prompt, equal prompts sharing one; nobody is asked where there are none."""
    keys = [repr(prompt) for prompt in prompts]
    first = dict(zip(keys, prompts, strict=True))
    verdicts = dict(zip(first, read_verdicts(judge, list(first.values()), parse), strict=True)) if first else {}
    return [verdicts[key] for key in keys]


def _laid(verdicts: Sequence[Verdict], rows: Array, count: int) -> Array:
    values = np.full(count, np.nan, np.float32)
    values[rows] = [verdict.value for verdict in verdicts]
    return values


def _status(verdicts: Sequence[Verdict], rows: Array, count: int) -> Array:
    """Scored, or why not: the first of a step's two parts that says so."""
    status = np.full(count, Status.SCORED, np.int8)
    both = np.asarray([verdict.status for verdict in verdicts], np.int8).reshape(-1, 2)
    status[rows] = np.where(both[:, 0] != Status.SCORED, both[:, 0], both[:, 1])
    return status


@reward
def final_answer_match(final: str, answer: str | Sequence[str]) -> float:
    """1 iff an attempt's last step (column `final`) answers, with the reference or one of them; case, articles and
    punctuation do not count. The outcome of an attempt, beside what its steps earn."""
    step = read_agent_step(final)
    accepted = [answer] if isinstance(answer, str) else answer
    return float(step.action == "answer" and normalised(step.text) in [normalised(str(each)) for each in accepted])
