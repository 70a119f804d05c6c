"""One reinforcement-learning step beside TRL's GRPOTrainer: same tiny Qwen2, same prompts, steps taken in turn.

    python benchmarks/rl_step.py --pairs 12 --threads 1 --out benchmarks/rl_step.json

A step is 64 completions (8 prompts × 8) of at most 48 tokens, a reward, group advantages, a reference pass (KL on),
one forward and backward pass and one AdamW update. Case `fixed`: no completion ends early. Case `varied`: one token
in sixteen ends it. Our step runs inside TRL's loop, after each of its steps, so that both see the same load.
At the end both get the same rollouts and advantages, and loss and gradient are compared.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from steelyard.engines.trl import to_trl
from steelyard.learn.advantages import centre, chain, scale
from steelyard.learn.config import TrainConfig
from steelyard.learn.curricula import uniform
from steelyard.learn.objectives import clipped
from steelyard.learn.plans import groups
from steelyard.learn.recipe import Recipe
from steelyard.learn.trainer import Trainer
from steelyard.policies import LanguagePolicy, Sampling
from steelyard.rewards import reward
from steelyard.types import Actions, Rollouts, Sample

PROMPTS, ATTEMPTS, TOKENS, KL, RATE = 8, 8, 48, 0.04, 1e-4
CASES = {"fixed": 0.0, "varied": 1 / 16}
WANTED = {"fixed": 1.5, "varied": 2.5}


@reward
def even(completion: str) -> float:
    """The share of words with an even number."""
    words = completion.split()
    return sum(word[-1] in "02468" for word in words) / max(1, len(words))


def build(folder: Path, *, vocabulary: int, hidden: int, layers: int, ending: float) -> None:
    """Write a random Qwen2 whose completions end with probability `ending` a token, and a word-level tokenizer.

    The tokenizer's own end token is one that the model never writes; besides, the first `ending` share of words ends.
    """
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=hidden * 3,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 32,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
        tie_word_embeddings=True,
    )
    model = Qwen2ForCausalLM(config)
    model.generation_config.eos_token_id = [vocabulary, *range(1, 1 + round(vocabulary * ending))]
    model.save_pretrained(folder)
    words = {"<pad>": 0} | {f"w{i}": i for i in range(1, vocabulary)} | {"<end>": vocabulary}
    inner = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="<end>", unk_token="<pad>")
    fast.save_pretrained(folder)


def questions(vocabulary: int, longest: int) -> list[str]:
    """64 prompts of ¾ `longest` to `longest` words."""
    generator = np.random.default_rng(0)
    lengths = generator.integers(longest * 3 // 4, longest + 1, 64)
    return [" ".join(f"w{i}" for i in generator.integers(1, vocabulary, length)) for length in lengths]


def their_trainer(folder: Path, prompts: list[str], steps: int, scratch: Path, threads: int) -> GRPOTrainer:
    """TRL's trainer for the same step: KL on, k3, token average, no gradient checkpointing, float32."""
    settings = GRPOConfig(
        output_dir=str(scratch), use_cpu=True, bf16=False, seed=0, report_to=[], save_strategy="no",
        logging_strategy="no", disable_tqdm=True, max_steps=steps, learning_rate=RATE, lr_scheduler_type="constant",
        per_device_train_batch_size=PROMPTS * ATTEMPTS, gradient_accumulation_steps=1, num_generations=ATTEMPTS,
        max_completion_length=TOKENS, temperature=1.0, beta=KL, epsilon=0.2, loss_type="bnpo", max_grad_norm=5.0,
        gradient_checkpointing=False, weight_decay=0.01,
    )  # fmt: skip
    torch.set_num_threads(threads)
    return GRPOTrainer(
        Qwen2ForCausalLM.from_pretrained(folder, dtype=torch.float32),
        reward_funcs=[to_trl(even)],
        args=settings,
        train_dataset=Dataset.from_dict({"prompt": prompts}),
        processing_class=PreTrainedTokenizerFast.from_pretrained(folder),
    )


def our_trainer(folder: Path, prompts: list[str], steps: int, scratch: Path) -> Trainer:
    """The house's trainer for the same step."""
    recipe = Recipe(
        plan=groups(ATTEMPTS),
        reward=even,
        advantage=chain(centre(), scale()),
        objective=clipped(epsilon=0.2, kl=KL),
        curriculum=uniform(),
    )
    config = TrainConfig(steps=steps, prompts=PROMPTS, lr=RATE, schedule="constant", weight_decay=0.01)
    policy = LanguagePolicy.from_pretrained(folder, sampling=Sampling(TOKENS), dtype=torch.float32, device="cpu")
    samples = [Sample(str(i), prompt) for i, prompt in enumerate(prompts)]
    return Trainer(policy, recipe, samples, config, folder=scratch, progress=False)


class InTurn(TrainerCallback):
    """After every step of TRL's, one of ours; wall and processor seconds [steps, 2] of both."""

    def __init__(self, ours: Trainer) -> None:
        self.ours, self.rows = ours, []
        self.their_seconds: list[np.ndarray] = []
        self.our_seconds: list[np.ndarray] = []

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        self._since = clocks()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.their_seconds.append(clocks() - self._since)
        self._since = clocks()
        row = self.ours.train_step()
        self.ours._log(row, [])
        self.our_seconds.append(clocks() - self._since)
        self.rows.append(row)
        self._since = clocks()


def clocks() -> np.ndarray:
    """Wall seconds, and seconds that this process computed (which other processes on the machine do not change)."""
    return np.array([time.perf_counter(), time.process_time()])


def same_thing(theirs: GRPOTrainer, folder: Path) -> dict[str, float]:
    """Both losses and gradients on one batch of TRL's rollouts, with the policy away from the reference."""
    theirs.model.train()
    theirs._step = 0
    inputs = theirs._prepare_inputs(next(iter(theirs.get_train_dataloader())))
    model = theirs.model
    model.zero_grad()
    their_loss = theirs.compute_loss(model, inputs)
    their_loss.backward()
    their_gradient = flat_gradient(model)

    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    policy = LanguagePolicy(model, tokenizer, Sampling(TOKENS))
    policy._copies["reference"] = theirs.ref_model
    model.zero_grad()
    objective, rollouts = clipped(epsilon=0.2, kl=KL), as_rollouts(inputs, tokenizer)
    assert rollouts.actions is not None
    weights = torch.from_numpy(objective.weights(rollouts.actions.mask, np.ones(len(rollouts), np.float32)))
    logprobs = policy.logprobs(rollouts)
    reference = policy.logprobs(rollouts, copy="reference")
    advantages = inputs["advantages"][:, None].expand_as(logprobs)
    our_loss = (objective(logprobs, logprobs.detach(), reference, advantages).loss * weights).sum()
    our_loss.backward()
    our_gradient = flat_gradient(model)
    return {
        "loss_trl": float(their_loss),
        "loss_steelyard": float(our_loss),
        "gradient_cosine": float(torch.nn.functional.cosine_similarity(their_gradient, our_gradient, dim=0)),
        "gradient_norm_ratio": float(our_gradient.norm() / their_gradient.norm()),
        "advantage_difference": advantage_difference(rollouts, inputs["advantages"]),
    }


def as_rollouts(inputs: dict[str, torch.Tensor], tokenizer: PreTrainedTokenizerFast) -> Rollouts:
    """TRL's batch as rollouts; equal prompts share one sample."""
    samples: dict[str, Sample] = {}
    for ids, mask in zip(inputs["prompt_ids"], inputs["prompt_mask"], strict=True):
        text = tokenizer.decode(ids[mask.bool()])
        samples.setdefault(text, Sample(text, text))
    texts = [tokenizer.decode(i[m.bool()]) for i, m in zip(inputs["prompt_ids"], inputs["prompt_mask"], strict=True)]
    mask = inputs["completion_mask"].numpy().astype(bool)
    tokens = np.where(mask, inputs["completion_ids"].numpy(), 0)
    completions = [
        tokenizer.decode(row[keep], skip_special_tokens=True) for row, keep in zip(tokens, mask, strict=True)
    ]
    actions = Actions(np.zeros(mask.shape, np.float32), mask, {"tokens": tokens})
    order = {text: index for index, text in enumerate(samples)}
    return Rollouts([samples[t] for t in texts], completions, np.array([order[t] for t in texts]), actions=actions)


def advantage_difference(rollouts: Rollouts, theirs: torch.Tensor) -> float:
    """The largest difference between our chain's advantages and TRL's."""
    from steelyard.learn.advantages import advantages_of

    scores = even(rollouts)
    ours = chain(centre(), scale())(advantages_of(scores), rollouts, scores).values
    return float(np.abs(ours - theirs.numpy()).max())


def flat_gradient(model: torch.nn.Module) -> torch.Tensor:
    """All gradients in one float64 vector."""
    return torch.cat([p.grad.flatten().double() for p in model.parameters() if p.grad is not None])


def measure(case: str, arguments: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Seconds of both, and whether they optimise the same thing, for one case."""
    folder = scratch / case
    build(
        folder,
        vocabulary=arguments.vocabulary,
        hidden=arguments.hidden,
        layers=arguments.layers,
        ending=CASES[case],
    )
    prompts = questions(arguments.vocabulary, arguments.prompt)
    steps = arguments.pairs + arguments.warmup
    ours = our_trainer(folder, prompts, steps, scratch / f"{case}-run")
    theirs = their_trainer(folder, prompts, steps, scratch / f"{case}-trl", arguments.threads)
    turns = InTurn(ours)
    theirs.add_callback(turns)
    theirs.train()
    mine, other = (np.array(s[arguments.warmup :]) for s in (turns.our_seconds, turns.their_seconds))
    result: dict[str, Any] = {"wanted": WANTED[case]}
    for index, clock in enumerate(("wall", "processor")):
        ratios = other[:, index] / mine[:, index]
        result[clock] = {
            "seconds_steelyard": float(np.median(mine[:, index])),
            "seconds_trl": float(np.median(other[:, index])),
            "ratio": float(np.median(ratios)),
            "ratio_quartiles": [float(q) for q in np.quantile(ratios, [0.25, 0.75])],
        }
    result |= {
        "mean_length": float(np.mean([row["completion_length"] for row in turns.rows])),
        "stages": {
            k[8:]: float(np.median([row[k] for row in turns.rows])) for k in turns.rows[0] if k[:8] == "seconds/"
        },
    }
    return result | same_thing(theirs, folder)


def main() -> None:
    """Measure, print a table, write JSON, and fail if loss or gradient differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=12, help="timed steps of each")
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--hidden", type=int, default=192)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--vocabulary", type=int, default=1024)
    parser.add_argument("--prompt", type=int, default=64, help="longest prompt, in tokens")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as scratch:
        cases = {case: measure(case, arguments, Path(scratch)) for case in CASES}
    settings = {k: v for k, v in vars(arguments).items() if k != "out"}
    machine = {"processor": processor(), "python": platform.python_version()}
    versions = {name: version(name) for name in ("torch", "transformers", "trl", "numpy")}
    report = {"settings": settings, "machine": machine, "versions": versions, "cases": cases}
    for case, row in cases.items():
        for clock in ("wall", "processor"):
            mine, other, ratio = (row[clock][name] for name in ("seconds_steelyard", "seconds_trl", "ratio"))
            both = f"Steelyard {mine:.3f} s  TRL {other:.3f} s"
            print(f"{case:7} {clock:9} {both}  ratio {ratio:.2f} (wanted {row['wanted']})")
        print(f"{case:7} mean length {row['mean_length']:.1f}  gradient cosine {row['gradient_cosine']:.7f}")
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=2) + "\n")
    differing = [case for case, row in cases.items() if differs(row)]
    if differing:
        raise SystemExit(f"loss, gradient or advantages differ in {', '.join(differing)}")


def differs(row: dict[str, Any]) -> bool:
    """Whether loss, gradient or advantages are not the same."""
    apart = max(abs(row["loss_trl"] - row["loss_steelyard"]), row["advantage_difference"])
    return row["gradient_cosine"] < 0.9999 or apart > 1e-4


def processor() -> str:
    """The processor's name."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
