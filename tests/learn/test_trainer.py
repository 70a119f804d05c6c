"""The trainer's step: gradients, micro-batches, schedules, logs, empty steps, errors."""

import json
import math
import sys
import types

import numpy as np
import pytest
import torch

from steelyard.learn.advantages import centre, chain, only, scale
from steelyard.learn.config import load_train_config
from steelyard.learn.curricula import uniform
from steelyard.learn.objectives import clipped
from steelyard.learn.optimiser import Optimiser
from steelyard.learn.runs import to_json
from steelyard.learn.steps import pack, trained_prompts
from steelyard.rewards import linear, reward, scheduled
from steelyard.types import Advantages, Rollouts, Sample, Scores, SteelyardError
from tests.learn.tiny import TinyPolicy, Wanted, config, data, figures, recipe, trainer


def test_reward_rises(tmp_path):
    policy = TinyPolicy()
    rows = trainer(tmp_path, policy=policy, steps=60, prompts=8, lr=0.05, parts={"objective": clipped()}).run().rows()
    first, last = (np.mean([row["reward"] for row in part]) for part in (rows[:5], rows[-5:]))
    assert last > first + 0.4


def test_scheduled_rewards_follow_the_step(tmp_path):
    share = reward(batch=True, name="share")(lambda rollouts: np.ones(len(rollouts), np.float32))
    moving = scheduled(share, linear(1.0, 0.0, steps=4))
    rows = trainer(tmp_path, steps=3, parts={"reward": moving}).run().rows()
    assert [row["reward"] for row in rows] == pytest.approx([1.0, 0.75, 0.5])


def test_first_update_is_on_policy_and_log_has_the_contract_columns(tmp_path):
    row = trainer(tmp_path, steps=1).run().rows()[0]
    assert row["sampler_gap"] < 1e-6
    assert row["ratio"] == pytest.approx(1, abs=1e-6)
    assert row["kl"] == 0
    assert row["clip_fraction"] == 0
    columns = (
        "step reward part/share loss kl clip_fraction grad_norm lr completion_length rollouts prompts_trained nan_rows"
    )
    assert set(columns.split()) <= row.keys()
    assert {"seconds/sample", "seconds/reward", "seconds/update"} <= row.keys()
    assert row["rollouts"] == 24
    assert row["nan_rows"] == 24 - row["rows_trained"]


def test_first_step_is_adamw_on_the_hand_written_gradient(tmp_path):
    policy, other = TinyPolicy(), TinyPolicy()
    kept = {}

    class Recording(Wanted):
        def __call__(self, rollouts):
            kept["rollouts"], kept["scores"] = rollouts, super().__call__(rollouts)
            return kept["scores"]

    parts = {"reward": Recording(), "objective": clipped(), "advantage": chain(centre())}
    trainer(tmp_path, policy=policy, parts=parts, steps=1, micro_rows=5).run()
    rollouts, values = kept["rollouts"], kept["scores"].values
    mask = torch.tensor(rollouts.actions.mask & np.isfinite(values)[:, None])
    advantage = np.zeros(24)
    for group in range(4):
        rows = rollouts.groups == group
        advantage[rows] = values[rows] - np.nanmean(values[rows])
    advantage = torch.tensor(np.nan_to_num(advantage), dtype=torch.float32)[:, None]
    (-(other.logprobs(rollouts) * advantage)[mask].sum() / mask.sum()).backward()
    trained = [p for p in other.module.parameters() if p.requires_grad]
    torch.nn.utils.clip_grad_norm_(trained, 5.0)
    torch.optim.AdamW(trained, lr=0.02, weight_decay=0.01).step()
    for name in ("embedding", "head"):
        mine, expected = getattr(policy.module, name), getattr(other.module, name)
        clear = expected.grad.abs() > 1e-5  # where it is not, Adam's first step is rounding noise over rounding noise
        assert clear.sum() > 30
        torch.testing.assert_close(mine[clear], expected[clear], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("micro_rows", [1, 5, 64])
def test_micro_batches_do_not_change_the_figures(tmp_path, micro_rows):
    parts = lambda: {"objective": clipped(kl=0.1, average="rows")}  # noqa: E731
    whole = figures(trainer(tmp_path / "a", steps=3, micro_rows=24, updates=2, parts=parts()).run().rows())
    cut = figures(trainer(tmp_path / "b", steps=3, micro_rows=micro_rows, updates=2, parts=parts()).run().rows())
    for a, b in zip(whole, cut, strict=True):
        assert a == pytest.approx(b, rel=1e-4, abs=1e-5)


def test_only_rows_that_count_are_forwarded_prompt_by_prompt(tmp_path):
    class EveryOther:
        def __call__(self, advantages, rollouts, scores):
            return Advantages(advantages.values, advantages.weights * (np.arange(len(rollouts)) % 2))

    policy = TinyPolicy()
    log = trainer(tmp_path, policy=policy, steps=1, micro_rows=6, parts={"advantage": EveryOther()}).run().rows()[0]
    assert sum(len(rollouts) for rollouts in policy.forwarded) == log["rows_trained"] <= 12
    for rollouts in policy.forwarded:
        assert (np.diff(rollouts.groups) >= 0).all()
        assert rollouts.actions.mask.any(axis=0).all(), "cut to the longest completion"


def test_several_updates_move_off_policy(tmp_path):
    policy = TinyPolicy()
    row = trainer(tmp_path, policy=policy, steps=1, updates=4, lr=0.2).run().rows()[0]
    assert row["clip_fraction"] > 0
    assert row["sampler_gap"] < 1e-6


def test_a_step_without_candidates_or_weights_is_ordinary(tmp_path):
    class Never(type(uniform())):
        def next(self, *args):
            return []

    class Nothing:
        def __call__(self, advantages, rollouts, scores):
            return Advantages(advantages.values, np.zeros(len(rollouts)))

    for name, parts in {"empty": {"curriculum": Never()}, "weightless": {"advantage": Nothing()}}.items():
        policy = TinyPolicy()
        before = policy.module.head.detach().clone()
        rows = trainer(tmp_path / name, policy=policy, steps=2, parts=parts).run().rows()
        assert [row["prompts_trained"] for row in rows] == [0, 0]
        assert rows[1]["loss"] is None
        assert rows[1]["lr"] < rows[0]["lr"]
        assert torch.equal(policy.module.head, before)


def test_reference_stays_where_the_run_began(tmp_path):
    policy = TinyPolicy()
    start = policy.module.head.detach().clone()
    rows = trainer(tmp_path, policy=policy, steps=3).run().rows()
    assert torch.equal(policy.copies["reference"].head, start)
    assert rows[0]["kl"] == 0 < rows[2]["kl"]


def test_no_reference_is_made_without_need(tmp_path):
    policy = TinyPolicy()
    trainer(tmp_path, policy=policy, steps=1, parts={"objective": clipped()}).run()
    assert policy.copies == {}


def test_advantages_per_action(tmp_path):
    class Spread:
        def __call__(self, advantages, rollouts, scores):
            return Advantages(
                np.repeat(advantages.values[:, None], rollouts.actions.mask.shape[1], 1), advantages.weights
            )

    links = [chain(centre(), scale()), chain(centre(), scale(), Spread())]
    rows = [trainer(tmp_path / str(i), steps=2, parts={"advantage": link}).run().rows() for i, link in enumerate(links)]
    assert figures(rows[0]) == figures(rows[1])


def test_evaluates_before_on_schedule_and_after(tmp_path):
    run = trainer(tmp_path, steps=5, evaluate_every=2, evaluate=lambda policy: {"accuracy": np.float32(0.5)}).run()
    assert [row["step"] for row in run.evaluations()] == [0, 2, 4, 5]
    assert run.metrics == {"accuracy": 0.5}
    assert run.about["status"] == "finished"


def test_dropout_follows_the_seed_and_leaves_the_callers_generator(tmp_path):
    state = torch.get_rng_state()
    runs = [trainer(tmp_path / str(i), policy=TinyPolicy(dropout=0.3), steps=2).run().rows() for i in range(2)]
    assert figures(runs[0]) == figures(runs[1])
    assert torch.equal(state, torch.get_rng_state())


def test_schedule():
    made = config(steps=10, warmup=2, lr=1.0)
    rates = [made.rate(step) for step in range(10)]
    assert rates[:3] == [0.5, 1.0, 1.0]
    assert rates[6] == pytest.approx(0.5)
    assert rates[9] == pytest.approx((1 + math.cos(math.pi * 7 / 8)) / 2)
    assert config(schedule="constant", lr=1.0).rate(5) == 1.0


def test_bfloat16_weights_gather_small_steps():
    module = torch.nn.Linear(1, 1, bias=False, dtype=torch.bfloat16)
    with torch.no_grad():
        module.weight.fill_(1.0)
    optimiser = Optimiser(module, betas=(0.0, 0.0), weight_decay=0.0)
    for _ in range(100):
        module(torch.ones(1, 1, dtype=torch.bfloat16)).sum().backward()
        optimiser.collect()
        optimiser.step(rate=1e-3, clip=math.inf)
    assert module.weight.item() == pytest.approx(0.9, abs=0.004)
    assert optimiser.tensors()["master.weight"].dtype == torch.float32


def test_a_gradient_that_is_not_finite_moves_nothing():
    module = torch.nn.Linear(1, 1, bias=False)
    before = module.weight.detach().clone()
    optimiser = Optimiser(module, betas=(0.9, 0.999), weight_decay=0.1)
    (module.weight.sum() * math.inf).backward()
    assert not math.isfinite(optimiser.step(rate=0.1, clip=1.0))
    assert torch.equal(module.weight, before)


def test_pack_keeps_prompts_whole_where_they_fit():
    prompts = [np.arange(0, 3), np.arange(3, 5), np.arange(5, 12), np.arange(12, 13)]
    packed = pack(prompts, 5)
    assert [list(rows) for rows in packed] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11, 12]]
    assert pack([], 4) == []


def test_trained_prompts_are_branches_of_groups():
    rollouts = Rollouts([Sample("a", "p")] * 6, list("abcdef"), group=[1, 0, 1, 0, 1, 0], branch=[0, 1, 1, 1, 0, 0])
    shares = np.array([[1], [1], [1], [1], [1], [0]], float)
    assert [list(rows) for rows in trained_prompts(rollouts, shares)] == [[1, 3], [0, 4], [2]]


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (
            {"reward": type("Short", (Wanted,), {"__call__": lambda self, rollouts: Scores([1.0])})()},
            "'wanted' returned 1",
        ),
        ({"advantage": lambda a, r, s: Advantages(np.full(len(r), np.nan))}, "advantage of row 0 is not finite"),
        ({"advantage": lambda a, r, s: Advantages(np.ones(3))}, "gave 3 advantages for 24 rollouts"),
        ({"advantage": lambda a, r, s: Advantages(a.values, a.weights * np.nan)}, "weight of row 0 is nan"),
        ({"advantage": lambda a, r, s: Advantages(a.values, a.weights - 2)}, "weight of row 0 is -"),
    ],
)
def test_wrong_parts_are_named(tmp_path, parts, words):
    with pytest.raises(SteelyardError, match=words):
        trainer(tmp_path, parts=parts).run()


def test_nothing_to_train_is_refused(tmp_path):
    policy = TinyPolicy()
    policy.module.requires_grad_(False)
    with pytest.raises(SteelyardError, match="no trainable parameter"):
        trainer(tmp_path, policy=policy)


def test_other_branch_left_out(tmp_path):
    row = trainer(tmp_path, steps=1, parts={"advantage": chain(only(branch=1), centre())}).run().rows()[0]
    assert row["rows_trained"] == 0
    assert row["rollouts"] == 24


def test_trackers(tmp_path, monkeypatch):
    calls = []
    fake = types.ModuleType("wandb")
    fake.__spec__ = types.SimpleNamespace(name="wandb")
    fake.init = lambda **settings: calls.append(("init", settings["id"]))
    fake.log = lambda row, step: calls.append(("log", step, row["reward"]))
    fake.finish = lambda: calls.append(("finish",))
    monkeypatch.setitem(sys.modules, "wandb", fake)
    run = trainer(tmp_path, steps=2, trackers=("wandb",)).run()
    assert [call[0] for call in calls] == ["init", "log", "log", "finish"]
    assert calls[1][2] == run.rows()[0]["reward"]
    events = list((tmp_path / "tensorboard").iterdir())
    assert len(events) == 1
    assert b"part/share" in events[0].read_bytes()


def test_a_tracker_that_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "trackio", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SteelyardError, match="trackio"):
        trainer(tmp_path, steps=1, trackers=("trackio",)).run()


def test_logs_are_strict_json():
    assert json.loads(to_json({"a": np.float32("nan"), "b": [np.int64(2), (1.5, np.inf)]})) == {
        "a": None,
        "b": [2, [1.5, None]],
    }
    assert math.isnan(json.loads(to_json({"a": math.nan}, exact=True))["a"])
    with pytest.raises(SteelyardError, match="plain JSON"):
        to_json({"a": object()})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"prompts": 1.5}, "prompts is 1.5"),
        ({"lr": "fast"}, "lr is 'fast'"),
        ({"lr": math.inf}, "lr is infinite"),
        ({"grad_clip": 0}, "grad_clip is 0"),
        ({"schedule": "linear"}, "cosine, constant"),
        ({"warmup": 7}, "warmup is 7 steps of 6"),
        ({"betas": (0.9, 1.0)}, "betas"),
        ({"trackers": ("mlflow",)}, "mlflow"),
    ],
)
def test_settings_out_of_range(settings, words):
    with pytest.raises(SteelyardError, match=words):
        config(**settings)


GOOD = "method: rova\nmodel: world\ndata: video-questions\nout: runs/a\ntrain: {steps: 3, lr: 1e-6}\nlora: {rank: 4}\n"


def test_training_file(tmp_path):
    path = tmp_path / "train.yaml"
    path.write_text(GOOD)
    made = load_train_config(path)
    path.write_text(GOOD + "sampling: {temperature: 5e-1, top_p: '0.9'}\n")
    assert (load_train_config(path).sampling.temperature, load_train_config(path).sampling.top_p) == (0.5, 0.9)
    assert (made.train.steps, made.train.lr, made.lora.rank, made.sampling.top_p) == (3, 1e-6, 4, 1.0)
    assert made.out == tmp_path / "runs/a"
    assert made.data == "video-questions"
    (tmp_path / "video-questions").write_text("")
    assert load_train_config(path).data == str(tmp_path / "video-questions")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOOD.replace("steps", "stepps"), "train has an unknown key 'stepps'; did you mean 'steps'?"),
        (GOOD.replace("model:", "modell:"), "did you mean 'model'?"),
        (GOOD.replace("method: rova\n", ""), "lacks 'method'"),
        (GOOD.replace("rank: 4", "rank: 0"), "lora.rank is 0"),
        (GOOD + "sampling: 3\n", "sampling is 3; it must be a mapping"),
        (GOOD + "sampling: {top_p: '1.5'}\n", "sampling.top_p is 1.5; it must lie in (0, 1]"),
        (GOOD + "sampling: {temperature: warm}\n", "sampling.temperature is 'warm'"),
        (GOOD + "sampling: {stop: 3}\n", "sampling.stop is 3; it must be a list of texts"),
        (GOOD.replace("rank: 4", "dropout: '1'"), "lora.dropout is 1.0"),
        (GOOD.replace("runs/a", "5"), "out is 5; it must be the path of a folder"),
        ("- a\n", "no mapping"),
        ("a: [", "not YAML"),
        ("method: !!python/object/apply:os.getcwd []\n", "not YAML"),
    ],
)
def test_training_file_errors(tmp_path, text, words):
    path = tmp_path / "train.yaml"
    path.write_text(text)
    with pytest.raises(SteelyardError) as caught:
        load_train_config(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_lazy_data_set_works(tmp_path):
    from steelyard.learn.trainer import Trainer

    class Lazy:
        asked: list[int] = []  # noqa: RUF012

        def __len__(self):
            return 8

        def __getitem__(self, i):
            self.asked.append(i)
            return data()[i]

    Trainer(TinyPolicy(), recipe(), Lazy(), config(steps=1), folder=tmp_path, progress=False).run()
    assert len(Lazy.asked) == 4


def test_weights_that_no_process_reached_stay():
    module = torch.nn.ModuleDict(
        {"used": torch.nn.Linear(1, 1), "idle": torch.nn.Linear(1, 1), "far": torch.nn.Linear(1, 1)}
    )
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    optimiser = Optimiser(module, betas=(0.9, 0.999), weight_decay=0.5)
    module["used"](torch.ones(1, 1)).sum().backward()
    elsewhere = [False, False, False, False, True, True]
    assert len(optimiser.gradients([optimiser.reached(), elsewhere])) == 4
    optimiser.step(rate=0.1, clip=1.0)
    moved = {name for name, p in module.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {"used.weight", "used.bias", "far.weight", "far.bias"}


def test_gradients_that_an_earlier_training_left_behind_are_forgotten() -> None:
    module = torch.nn.Linear(2, 1)
    module(torch.ones(1, 2)).sum().backward()
    optimiser = Optimiser(module, betas=(0.9, 0.999), weight_decay=0.0)
    assert not any(optimiser.reached())
