"""`steelyard train CONFIG.yaml`: one policy, one recipe, one run folder."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import replace
from pathlib import Path

from steelyard.learn.config import TrainFile, load_train_config
from steelyard.learn.data import load_samples
from steelyard.learn.sharding import local_device
from steelyard.learn.trainer import Evaluate, Trainer
from steelyard.methods.arms import mean_of, quiet_loading
from steelyard.methods.core import Method, Setting, World
from steelyard.methods.own import OwnTask
from steelyard.methods.registry import find
from steelyard.methods.study import recipe_of, validation_of
from steelyard.methods.video import validation
from steelyard.rewards.judges import EndpointJudge
from steelyard.types import Judge, Policy, Sample, SteelyardError
from steelyard.worlds.moving_blob import MovingBlob
from steelyard.worlds.video_questions import VideoQuestions

WORLDS: dict[str, Callable[[], World]] = {"moving-blob": MovingBlob, "video-questions": VideoQuestions}
"""Worlds of a method that has none of its own."""

WORLD_ROWS, PROBE_ROWS = 4096, 256


def train_from_file(path: Path) -> str:
    """Train as the file says; a run that was stopped goes on.

    Returns:
        A line that says where the run is.

    Raises:
        SteelyardError: for a file, method, model or data that cannot be used.
    """
    file = load_train_config(path)
    method = find(file.method)
    recipe_for = recipe_of(method)
    setting, policy, data = _task(file, method)
    recipe, evaluate = recipe_for(setting), _evaluation(file, setting, method)
    run = Trainer(policy, recipe, data, file.train, folder=file.out, evaluate=evaluate).run()
    return f"the run is in {run.folder}; see it with: steelyard report {run.folder}"


def _worlds(method: Method) -> dict[str, Callable[[], World]]:
    """The worlds on which a method trains, by name."""
    return {e.name: e.world for e in method.trained} or WORLDS


def _task(file: TrainFile, method: Method) -> tuple[Setting, Policy, Sequence[Sample]]:
    worlds = _worlds(method)
    _check_options(file, worlds)
    if file.data in worlds:
        if file.judge is not None:
            raise SteelyardError(f"{file.data} compares reasonings by its own rule; leave the key judge out")
        quiet_loading()
        world = worlds[file.data]()
        if file.model != "world":
            raise SteelyardError(f"model is {file.model!r}; with data: {file.data} it must be 'world', its own model")
        return world, world.policy(seed=file.train.seed), world.samples("train", WORLD_ROWS, seed=file.train.seed)
    own = OwnTask(
        file.model,
        Path(file.data),
        frames=file.frames,
        size=file.size,
        judge=_judge(file),
        instruction=method.instruction,
    )
    if "attempts" in file.options:
        own = replace(own, attempts=file.options["attempts"])
    if "corpus" in file.options:
        own = replace(own, corpus=Path(file.options["corpus"]))
    samples = load_samples(file.data, frames=file.frames, size=file.size, instruction=method.instruction)
    if file.model == "world":
        raise SteelyardError(
            f"model: world needs a world as data, one of {', '.join(worlds)}; name a model folder or id"
        )
    return own, _policy(file), samples


def _judge(file: TrainFile) -> Judge | None:
    """The judge that the file names; a missing key ends the run before it begins."""
    if file.judge is None:
        return None
    judge = EndpointJudge(file.judge.model, base_url=file.judge.url, api_key_env=file.judge.key_env)
    _ = judge.client
    return judge


def _check_options(file: TrainFile, worlds: Container[str]) -> None:
    known = () if file.data in worlds else ("attempts", "corpus")
    for name, value in file.options.items():
        if name not in known:
            hint = (
                f"known is {' and '.join(map(repr, known))}"
                if known
                else f"{file.data} has its own settings, so leave the key out"
            )
            raise SteelyardError(f"options has an unknown key {name!r}; {hint}")
        if name == "attempts" and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise SteelyardError(f"options: {name} is {value!r}; it must be a whole number of at least 1")
        if name == "corpus" and (not isinstance(value, str) or not Path(value).is_file()):
            raise SteelyardError(f"options: {name} is {value!r}; it must be a JSONL file of passages")


def _policy(file: TrainFile) -> Policy:
    from steelyard.policies import LoRA, Sampling, load_policy

    names = ("max_tokens", "temperature", "top_p", "stop")
    sampling = Sampling(**{name: getattr(file.sampling, name) for name in names})
    lora = None
    if file.lora is not None:
        chosen = {"targets": file.lora.targets} if file.lora.targets else {}
        lora = LoRA(rank=file.lora.rank, alpha=file.lora.alpha, dropout=file.lora.dropout, **chosen)
    return load_policy(
        file.model,
        sampling=sampling,
        dtype=file.dtype,
        lora=lora,
        gradient_checkpointing=file.gradient_checkpointing,
        device=local_device(),
    )


def _evaluation(file: TrainFile, setting: Setting, method: Method) -> Evaluate | None:
    """What is measured during training, on the world's validation rows or the file's; none where there are none."""
    worlds = _worlds(method)
    if file.data in worlds:
        world = worlds[file.data]()
        rows = world.samples("validation", PROBE_ROWS)
        return validation_of(world) if method.probe is None else method.probe(rows)
    if file.evaluate is None:
        return None
    rows = load_samples(file.evaluate, frames=file.frames, size=file.size, instruction=method.instruction)
    if method.probe is not None:
        return method.probe(rows)
    assert isinstance(setting, OwnTask)
    if setting.of_videos:
        return validation(rows, setting.corruptions, draws=1)
    reward = mean_of(rows, recipe_of(method)(setting).reward)
    return lambda policy: {"reward": reward(policy)}
