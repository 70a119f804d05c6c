"""Golden adapter of sheet 01, ROVA."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from steelyard.audits.pvrbench import aggregate
from steelyard.learn.advantages import advantages_of, centre, chain, scale
from steelyard.learn.curricula import Entry, Memory, route
from steelyard.learn.difficulty import Judgement
from steelyard.perturb.video import functional, kept_frames
from steelyard.rewards.answers import ACCURACY, answer_text, correct, think_format
from steelyard.rewards.consistency import kl_consistency, topk_kl
from steelyard.rewards.core import Expression, reward
from steelyard.rewards.judges.parsing import released_parse_score
from steelyard.rewards.shaping import length_bonus
from steelyard.types import Rollouts, Sample, Scores

Inputs = Mapping[str, Any]


def rova(name: str, inputs: Inputs) -> dict[str, Any]:
    """Dispatch on the case's name up to the first slash, the longest that fits."""
    key = max((key for key in _CASES if name.startswith(key)), key=len)
    return _CASES[key](inputs)


def _accuracy(inputs: Inputs) -> dict[str, Any]:
    kind, completions = inputs["problem_type"], inputs["completions"]
    gold = answer_text(inputs["solution"]) or ""  # the released code reads a gold answer without its block as empty
    if kind not in ACCURACY:  # the released code scores an unknown type 0; ours is not applicable (NaN)
        return {"reward": np.nan_to_num(_score(correct, completions, answer=gold, problem_type=kind).values).tolist()}
    # It also reads a completion without a block as an empty answer, which an empty gold answer agrees with.
    blocks = [f"<answer>{answer_text(text) or ''}</answer>" for text in completions]
    rule = correct.using(regression_epsilon=1e-9)
    return {"reward": _score(rule, blocks, answer=f"<answer>{gold}</answer>", problem_type=kind).values.tolist()}


def _format(inputs: Inputs) -> dict[str, Any]:
    return {"reward": _score(think_format, inputs["completions"]).values.tolist()}


def _score(rule: Expression, completions: list[str], **columns: Any) -> Scores:
    return rule(Rollouts([Sample("case", "", columns=columns)] * len(completions), completions))


def _kl_consistency(inputs: Inputs) -> dict[str, Any]:
    mask = inputs.get("token_mask")
    kl, value = kl_consistency(
        np.asarray(inputs["logits_clean"]),
        np.asarray(inputs["logits_corrupted"]),
        None if mask is None else np.asarray(mask),
        alpha=inputs.get("alpha", 3.0),
    )
    return {"kl": kl.tolist(), "reward": value.tolist()}


def _topk_kl(inputs: Inputs) -> dict[str, Any]:
    arrays = [np.asarray(inputs[key]) for key in ("p_vals", "p_idx", "q_vals", "q_idx")]
    mask = inputs.get("mask")
    return {"kl": topk_kl(*arrays, None if mask is None else np.asarray(mask)).tolist()}


def _released_assembly(inputs: Inputs) -> dict[str, Any]:
    judged = inputs.get("consistency")
    total = column("acc") + column("fmt")
    if judged is not None:
        total = total + inputs.get("consistency_weight", 1.0) * column("judged")
    if inputs.get("len_control"):
        total = total + length_bonus(by=column("acc"), bonus=0.2, shortest=320, longest=512, least_right=2)
    n = len(inputs["acc"])
    columns = {"acc": inputs["acc"], "fmt": inputs["format"], "judged": judged, "length": inputs.get("lengths")}
    rollouts = Rollouts(
        [Sample("q", "")] * n,
        [""] * n,
        group=np.zeros(n),  # the released code counts right answers over its whole batch, not by group
        columns={name: values for name, values in columns.items() if values is not None},
    )
    scores = total(rollouts)
    rollouts.group = np.arange(n) // inputs.get("group_size", n)
    return {"reward": scores.values.tolist(), "advantage": _advantage(rollouts, scores, ddof=1, epsilon=1e-4)}


def column(name: str) -> Expression:
    """A reward that reads its value from a column."""

    def read(rollouts: Rollouts) -> Any:
        return np.asarray(rollouts.column(name), np.float32)

    return reward(batch=True, name=name)(read)


def _advantage(rollouts: Rollouts, scores: Scores, *, ddof: int, epsilon: float) -> list[float]:
    links = chain(centre(), scale(ddof=ddof, epsilon=epsilon))
    return list(map(float, links(advantages_of(scores), rollouts, scores).values))


def _paper_form(inputs: Inputs) -> dict[str, Any]:
    names = ("format", "accuracy", "sim_reasoning", "sim_answer")
    total = (
        column("format")
        + column("accuracy")
        + inputs["alpha_r"] * column("sim_reasoning")
        + inputs["alpha_a"] * column("sim_answer")
    )
    n = len(inputs["format"])
    rollouts = Rollouts(
        [Sample("q", "")] * n, [""] * n, group=np.zeros(n, int), columns={name: inputs[name] for name in names}
    )
    scores = total(rollouts)
    values = scores.values.astype(np.float64)
    return {
        "R": values.tolist(),
        "mean": float(values.mean()),
        "std_population": float(values.std()),
        "std_unbiased": float(values.std(ddof=1)),
        "A_population_eps1e-6": _advantage(rollouts, scores, ddof=0, epsilon=1e-6),
        "A_unbiased_eps1e-4": _advantage(rollouts, scores, ddof=1, epsilon=1e-4),
    }


def _routing(inputs: Inputs) -> dict[str, Any]:
    return {
        "action": [
            route(
                Judgement(case["label"], case["confidence"]),
                tau=case.get("tau", 0.8),
                k_max=case.get("k_max", 3),
                evaluations=case.get("n_reeval", 0),
                from_memory=case.get("from_buffer", False),
            )
            for case in inputs["decisions"]
        ]
    }


def _memory(inputs: Inputs) -> dict[str, Any]:
    memory, log = Memory(capacity=inputs["max_size"], k_max=2), []
    for operation, *arguments in inputs["script"]:
        if operation == "add":
            video, seed, *step = arguments
            stored = memory.add(f"{video}_{seed}", Entry(video, {"seed": seed}, stored_at=(step or [0])[0]))
            log.append(["add", stored, len(memory.entries), memory.full])
        else:
            answerable, hopeless, *_ = arguments
            released = [key for key in (f"{v}_{s}" for v, s in answerable) if memory.release(key)]
            for video, seed in hopeless:
                memory.fail(f"{video}_{seed}")
            log.append(["cleanup", released, len(memory.entries), sorted(_flagged(memory))])
    flagged, counts = _flagged(memory), memory.counts
    return {
        "log": log,
        "final_keys": sorted(memory.entries),
        "stats": {
            "current_memory_size": len(memory.entries),
            "normal_samples": len(memory.entries) - len(flagged),
            "dangerous_samples": len(flagged),
            "total_added": counts["added"],
            "total_removed_sufficient": counts["released"],
            "total_removed_dangerous": counts["evicted"],
            "total_marked_dangerous": counts["failed_once"],
        },
    }


def _flagged(memory: Memory) -> list[str]:
    return [key for key, entry in memory.entries.items() if entry.evaluations]


def _kept(inputs: Inputs) -> dict[str, Any]:
    frames, ratio = inputs["T"], inputs.get("frame_mask_ratio", 0.2)
    mode, enabled = inputs.get("temporal_mode", "random_drop"), inputs.get("enable_temporal_mask", True)
    # The released code takes the floor of the float product as it is: 20 * (1 - 0.9) keeps 1, where we keep 2.
    keep = {
        "random_drop": math.floor(frames * (1 - ratio)),
        "keep_k": inputs.get("keep_k_frames"),
        "drop_segments": frames - math.floor(frames * ratio),
    }[mode]
    if enabled and mode == "drop_segments" and keep < frames and inputs.get("temporal_segment_len", 4) > 1:
        raise ValueError("how many frames segments of several leave is drawn, and differs from draw to draw")
    if enabled and keep is None:
        raise ValueError("keep_k without keep_k_frames is an error in the released code too")
    return {"kept": kept_frames(frames, ratio=ratio, keep=keep, enabled=enabled)}


def _fog(inputs: Inputs) -> dict[str, Any]:
    image, depth = np.asarray(inputs["image_hwc_01"], np.float64), np.asarray(inputs["depth_hw"], np.float64)
    return {"image": functional.fog(image, depth, inputs["beta"], inputs["airlight"]).tolist()}


def _dark(inputs: Inputs) -> dict[str, Any]:
    image = np.asarray(inputs["image"], np.float64)
    return {"image": functional.dark(image, inputs["gain"], inputs["gamma"]).tolist()}


def _bright(inputs: Inputs) -> dict[str, Any]:
    return {"image": functional.bright(np.asarray(inputs["image"], np.float64), inputs["gain"]).tolist()}


def _motion_blur(inputs: Inputs) -> dict[str, Any]:
    row = np.asarray(inputs["row"], np.float64)
    image = np.repeat(row[None, :, None], 3, axis=2)
    return {"row": functional.motion_blur(image, inputs["length"])[0, :, 0].tolist()}


def _ar1(inputs: Inputs) -> dict[str, Any]:
    return {"path": functional.ar1(np.asarray(inputs["innovations"]), inputs["rho"]).tolist()}


def _aggregate(inputs: Inputs) -> dict[str, Any]:
    scores = inputs.get("reasoning_scores")
    found: dict[str, Any] = aggregate(inputs["accuracy_by_family"], inputs["original_accuracy"], scores)
    if not scores:  # where nobody judged, the figure is absent or null as its input was
        average = {"reasoning_avg_excl_fragility": None} if "reasoning_scores" in inputs else {}
        return {name: value for name, value in found.items() if name != "reasoning_avg_excl_fragility"} | average
    return found


_CASES: dict[str, Callable[[Inputs], dict[str, Any]]] = {
    "accuracy": _accuracy,
    "format": _format,
    "kl_consistency": _kl_consistency,
    "kl_dual_topk": _topk_kl,
    "reward_assembly_released_code": _released_assembly,
    "reward_paper_form": _paper_form,
    "routing": _routing,
    "memory_released_code": _memory,
    "temporal_mask_kept_frames": _kept,
    "judge_score_parse": lambda inputs: {"score": [released_parse_score(text) for text in inputs["texts"]]},
    "perturb_recommended/fog": _fog,
    "perturb_recommended/dark": _dark,
    "perturb_recommended/bright": _bright,
    "perturb_recommended/motion_blur_row": _motion_blur,
    "temporal_coherence_ar1": _ar1,
    "pvrbench_aggregate": _aggregate,
}
