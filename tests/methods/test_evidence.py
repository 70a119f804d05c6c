"""Verdicts, intervals, and a quick run of the harness on real arms."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from steelyard.learn.config import TrainConfig
from steelyard.learn.runs import RunFolder
from steelyard.learn.trainer import about_run
from steelyard.methods.arms import train_arm
from steelyard.methods.core import Claim
from steelyard.methods.evidence import effect_of, judge, overall, paired_bootstrap, run_evidence, verdict_of
from steelyard.methods.registry import find
from steelyard.methods.rova import BENCH_TOP
from steelyard.methods.video import pvr, validation
from steelyard.rewards.answers import correct
from steelyard.types import SteelyardError


def claim(**threshold: float) -> Claim:
    return Claim("text", "m", "a", "b", **threshold)


def test_effects() -> None:
    arm, baseline = np.array([0.6, 0.8]), np.array([0.4, 0.6])
    assert effect_of(claim(at_least=0.1), arm, baseline) == pytest.approx(0.2)
    assert effect_of(replace(claim(at_least=0.1), form="relative"), arm, baseline) == pytest.approx(0.4)
    assert effect_of(replace(claim(at_most=0.1), form="share"), arm, baseline) == pytest.approx(1.4)


def test_a_baseline_of_zero_is_unclear_without_a_warning(recwarn) -> None:
    ratio, zeros = replace(claim(at_least=0.1), form="share"), np.zeros(3)
    for arm in (zeros, zeros + 1):
        effect, interval = float(effect_of(ratio, arm, zeros)), paired_bootstrap(ratio, arm, zeros)
        assert verdict_of(ratio, effect, interval) == "unclear"
    assert not len(recwarn)
    with pytest.raises(SteelyardError, match="has the form 'relativ'"):
        replace(ratio, form="relativ")  # type: ignore[arg-type]


def test_the_bootstrap_is_paired() -> None:
    seeds = np.array([0.1, 0.5, 0.9, 0.3, 0.7])
    low, high = paired_bootstrap(claim(at_least=0.1), seeds + 0.1, seeds)
    assert low == pytest.approx(0.1) and high == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("threshold", "effect", "interval", "verdict"),
    [
        ({"at_least": 0.07}, 0.1, (0.02, 0.2), "holds"),
        ({"at_least": 0.07}, 0.1, (-0.01, 0.2), "unclear"),
        ({"at_least": 0.07}, 0.05, (0.02, 0.09), "unclear"),
        ({"at_least": 0.07}, 0.01, (0.0, 0.02), "fails"),
        ({"at_least": -0.02}, -0.01, (-0.015, 0.0), "holds"),
        ({"at_least": -0.02}, -0.01, (-0.03, 0.0), "unclear"),
        ({"at_least": -0.02}, -0.05, (-0.06, -0.03), "fails"),
        ({"at_most": 0.4}, 0.3, (0.28, 0.33), "holds"),
        ({"at_most": 0.4}, 0.39, (0.35, 0.45), "unclear"),
        ({"at_most": 0.4}, 0.5, (0.45, 0.55), "fails"),
        ({"at_least": 0.1}, float("nan"), (0.0, 1.0), "unclear"),
    ],
)
def test_verdicts(threshold, effect: float, interval: tuple[float, float], verdict: str) -> None:
    assert verdict_of(claim(**threshold), effect, interval) == verdict


def test_the_whole_holds_only_if_every_claim_does() -> None:
    assert overall(["holds", "holds"]) == "holds" and overall(["holds", "unclear"]) == "unclear"
    assert overall(["holds", "fails", "unclear"]) == "fails" and overall([]) == "unclear"


def test_claims_need_one_threshold_and_known_measures() -> None:
    with pytest.raises(SteelyardError, match="one threshold"):
        claim()
    seeds = [0, 1]
    measured = {(arm, s): {"corrupted": 0.5, "clean": 1.0, "agreement": 0.9, "gradient_prompts": 10.0}
                for arm in BENCH_TOP.arms for s in seeds}  # fmt: skip
    verdicts = judge(BENCH_TOP, measured, seeds)
    assert verdicts["verdict"] == "fails", "arms that do not differ must not pass"


def test_a_quick_run_writes_every_figure_and_goes_on_from_what_is_there(tmp_path: Path, monkeypatch) -> None:
    method = find("rova")
    arms = {name: BENCH_TOP.arms[name] for name in ("grpo", "rova")}
    claims = tuple(c for c in BENCH_TOP.claims if {c.arm, c.baseline} <= set(arms))
    only = replace(method, evidence=(replace(BENCH_TOP, arms=arms, claims=claims),))
    monkeypatch.setattr("steelyard.methods.evidence.find", lambda slug: only)
    out, work = tmp_path / "r.json", tmp_path / "work"
    first = run_evidence("rova", seeds=1, first_seed=50, out=out, quick=True, work=work, workers=1)
    assert json.loads(out.read_text())["seeds"] == [50] and first["quick"]
    assert set(first["experiments"][0]["arms"]) == set(arms)
    measures = work / "moving-blob" / "rova-50" / "measures.json"
    stored = json.loads(measures.read_text()) | {"clean": 0.123}
    measures.write_text(json.dumps(stored))
    again = run_evidence("rova", seeds=1, first_seed=50, out=out, quick=True, work=work, workers=1)
    assert again["experiments"][0]["arms"]["rova"]["clean"] == [0.123], "a finished arm is not run again"


def test_a_method_without_a_claim_is_refused() -> None:
    with pytest.raises(SteelyardError, match="nothing to test"):
        run_evidence("grpo")


@pytest.mark.parametrize("numbers", [{"seeds": 0}, {"first_seed": -1}, {"workers": 0}])
def test_numbers_that_run_nothing_are_refused(numbers) -> None:
    with pytest.raises(SteelyardError, match="at least one seed and one worker"):
        run_evidence("rova", **numbers)


def test_a_finished_arm_is_not_passed_off_as_one_of_other_settings(tmp_path: Path) -> None:
    def describe(config: TrainConfig, rows: int) -> None:
        RunFolder(tmp_path).describe({"config": config.to_json(), "data_rows": rows})

    def arm(config: TrainConfig) -> dict[str, float]:
        world = BENCH_TOP.world()
        return train_arm(
            world,
            BENCH_TOP.arms["grpo"],
            config,
            folder=tmp_path,
            data=8,
            measure=lambda policy: pvr(world, policy, folder=tmp_path, count=1, greedy=False),
        )

    config = TrainConfig(steps=2, grad_clip=float("inf"))
    (tmp_path / "measures.json").write_text('{"clean": 0.5}')
    describe(config, 8)
    assert arm(config) == {"clean": 0.5}
    with pytest.raises(SteelyardError, match="holds a run with another steps; use its settings"):
        arm(replace(config, steps=3))
    world = BENCH_TOP.world()
    RunFolder(tmp_path).describe(about_run(BENCH_TOP.arms["rova"](world), config, 8))
    with pytest.raises(SteelyardError, match="another plan, reward, advantage, curriculum;"):
        arm(config)
    describe(config, 9)
    with pytest.raises(SteelyardError, match="another data_rows"):
        arm(config)


def test_a_validation_asks_a_few_clips_at_a_time_and_gives_the_same() -> None:
    world = BENCH_TOP.world()
    policy, asked = world.policy(), []
    sample = policy.sample

    def counted(samples, n, **options):
        asked.append(len(samples))
        return sample(samples, n, **options)

    policy.sample = counted  # type: ignore[method-assign]
    rows = world.samples("validation", 50, seed=1)
    found = validation(rows, world.test_corruptions, draws=2)(policy)
    assert max(asked) == 64 and sum(asked) == 150
    policy.sample = sample  # type: ignore[method-assign]
    whole = policy.sample(rows, 1, generator=np.random.default_rng(0), greedy=True)
    assert found["clean"] == pytest.approx(float(correct(whole).values.mean()))


def test_one_seed_settles_nothing() -> None:
    measured = {(arm, 0): {"corrupted": float(arm == "rova"), "clean": 1.0, "agreement": 0.9, "gradient_prompts": 10.0}
                for arm in BENCH_TOP.arms}  # fmt: skip
    assert {claim["verdict"] for claim in judge(BENCH_TOP, measured, [0])["claims"]} == {"unclear"}
