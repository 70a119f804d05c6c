"""Makes the shipped policy of the video world again: `python -m steelyard.worlds.video_questions_base --out DIR`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from steelyard.learn.supervised import muon, supervised
from steelyard.perturb.video import KINDS, VideoPerturbation
from steelyard.policies.sampling import Sampling
from steelyard.policies.vision import VisionLanguagePolicy
from steelyard.rewards.answers import problem_accuracy
from steelyard.types import Rollouts, Sample
from steelyard.worlds.video_questions import VideoQuestions, reasoning_agreement
from steelyard.worlds.video_questions_model import save_untrained
from steelyard.worlds.video_questions_tasks import TASKS

BATCH = 32
RATE = 3e-3
CLEAN = "clean"


def train(folder: Path, *, steps: int, seed: int = 0, progress: bool = True) -> VisionLanguagePolicy:
    """A policy trained from nothing on clean clips of the train split, each seen once, and saved to a folder.

    Args:
        folder: where model, tokenizer, image settings and `supervised.jsonl` are written.
        steps: updates of 32 clips.
        seed: of the weights, the clips and their order.
        progress: draw a bar.
    """
    world = VideoQuestions()
    with TemporaryDirectory() as untrained:
        save_untrained(Path(untrained), seed=seed)
        policy = VisionLanguagePolicy.from_pretrained(untrained, sampling=Sampling(max_tokens=32))
    samples = world.samples("train", steps * BATCH, seed=seed, keep=False)
    supervised(
        policy,
        samples,
        steps=steps,
        batch=BATCH,
        lr=RATE,
        generator=np.random.Generator(np.random.Philox(seed)),
        optimisers=muon,
        folder=folder,
        progress=progress,
    )
    return policy


def accuracies(rollouts: Rollouts) -> list[float]:
    """Accuracy of every row, 0 or 1."""
    columns = (rollouts.column(name) for name in ("completion", "answer", "problem_type"))
    return [float(problem_accuracy(*row)) for row in zip(*columns, strict=True)]


def measure(
    policy: VisionLanguagePolicy, samples: Sequence[Sample], *, severity: int = 3
) -> dict[str, dict[str, float]]:
    """What a policy gets right with greedy decoding, on the samples as they are and under each corruption.

    Args:
        policy: to measure.
        samples: with their reasoning column.
        severity: of all corruptions.

    Returns:
        `"clean"` and each kind to `accuracy`, the accuracy of each task, and `reasoning`: mean agreement with the gold.
    """
    results = {}
    for kind in (CLEAN, *KINDS):
        seen = [s if kind == CLEAN else VideoPerturbation(kind, severity, seed)(s) for seed, s in enumerate(samples)]
        right, agreement = [], []
        for start in range(0, len(seen), BATCH):
            rollouts = policy.sample(seen[start : start + BATCH], 1, generator=np.random.default_rng(0), greedy=True)
            right += accuracies(rollouts)
            gold = rollouts.column("reasoning")
            agreement += [reasoning_agreement(c, g) for c, g in zip(rollouts.completions, gold, strict=True)]
        by_task = {task: [r for r, s in zip(right, seen, strict=True) if s.columns["task"] == task] for task in TASKS}
        row = {"accuracy": float(np.mean(right)), "reasoning": float(np.mean(agreement))}
        results[kind] = row | {task: float(np.mean(hits)) for task, hits in by_task.items() if hits}
    return results


def sampled_diversity(policy: VisionLanguagePolicy, samples: Sequence[Sample], *, n: int = 8) -> dict[str, float]:
    """How different n completions of one sample are at temperature 1.

    Returns:
        `distinct`: mean share of distinct completions in a group; `mixed`: share of groups with right and wrong answers
        (where a group-relative advantage is not zero); `entropy`: mean −log-probability in nats a token.
    """
    rollouts = policy.sample(samples, n, generator=np.random.default_rng(0))
    groups = np.array(accuracies(rollouts)).reshape(-1, n).mean(axis=1)
    texts = np.array(rollouts.completions, dtype=object).reshape(-1, n)
    actions = rollouts.actions
    assert actions is not None
    return {
        "distinct": float(np.mean([len(set(row)) / n for row in texts])),
        "mixed": float(((groups > 0) & (groups < 1)).mean()),
        "entropy": float(-actions.logprobs[actions.mask].mean()),
    }


def table(results: Mapping[str, Mapping[str, float]]) -> list[list[str]]:
    """A header and one row of texts for clean clips, each corruption, and the mean over the corruptions."""
    columns = ["accuracy", *TASKS, "reasoning"]
    corrupted = [row for kind, row in results.items() if kind != CLEAN]
    mean = {column: float(np.mean([row[column] for row in corrupted])) for column in columns}
    rows = {**results, "mean of the corruptions": mean}
    return [["clips", *columns], *([name, *(f"{row[column]:.3f}" for column in columns)] for name, row in rows.items())]


CARD = """---
license: apache-2.0
library_name: transformers
pipeline_tag: video-text-to-text
---
# A tiny Qwen2.5-VL that answers the video questions

`Qwen2_5_VLForConditionalGeneration` with {parameters:,} parameters in float32 and a tokenizer of {words} words.
It reads 8 frames of 56×56 pixels as 4 tokens and writes `<think> … </think> <answer> … </answer>`.
It was trained by teacher forcing on clean clips only: {steps} steps of {batch} clips ({clips:,}, each seen once),
Muon and AdamW, learning rate {rate}, seed {seed}. It knows nothing but the questions of
`steelyard.worlds.video_questions.VideoQuestions`.

Made by:

```
python -m steelyard.worlds.video_questions_base --out DIR --steps {steps} --seed {seed}
```

Greedy decoding on {count} clips of the test split (seed 0), corruptions at severity 3. `reasoning` is the agreement
of the facts in the think block with those of the gold reasoning (`reasoning_agreement`).

{table}

Sampled at temperature 1 on clean and on foggy clips, 8 completions a clip: {diversity}.
"""


def card(policy: VisionLanguagePolicy, *, steps: int, seed: int, test: int) -> str:
    """The model card, with everything in it measured."""
    samples = VideoQuestions().samples("test", test)
    results = measure(policy, samples)
    rows = table(results)
    _print(rows)
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|" + " --- |" * len(rows[0]))
    few = samples[:64]
    foggy = [VideoPerturbation("fog", 3, seed)(sample) for seed, sample in enumerate(few)]
    diversity = {name: sampled_diversity(policy, clips) for name, clips in {CLEAN: few, "fog": foggy}.items()}
    said = "; ".join(
        f"{name}: {d['distinct']:.0%} of a clip's completions distinct, {d['mixed']:.0%} of clips with right and wrong "
        f"answers, {d['entropy']:.2f} nats a token"
        for name, d in diversity.items()
    )
    return CARD.format(
        parameters=sum(p.numel() for p in policy.module.parameters()),
        words=len(policy.tokenizer),
        steps=steps,
        batch=BATCH,
        clips=steps * BATCH,
        rate=RATE,
        seed=seed,
        count=test,
        table="\n".join(lines),
        diversity=said,
    )


def _print(rows: list[list[str]]) -> None:
    printed = Table(*rows[0])
    for row in rows[1:]:
        printed.add_row(*row)
    Console().print(printed)


def main(
    out: Annotated[Path, typer.Option(help="Folder for model, tokenizer, image settings and model card.")],
    steps: Annotated[int, typer.Option(help="Updates of 32 clips.")] = 2000,
    seed: Annotated[int, typer.Option(help="Of weights, clips and their order.")] = 0,
    test: Annotated[int, typer.Option(help="Clips of the test split on which the card's table is measured.")] = 500,
    threads: Annotated[int, typer.Option(help="Of torch.")] = 1,
) -> None:
    """Train the video world's base policy, measure it on clean and corrupted clips, and write its card."""
    torch.set_num_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    policy = train(out, steps=steps, seed=seed)
    (out / "README.md").write_text(card(policy, steps=steps, seed=seed, test=test))
    Console().print(json.dumps({"out": str(out), "steps": steps, "seed": seed}))


if __name__ == "__main__":
    typer.run(main)
