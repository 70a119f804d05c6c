"""The adapter of sheet 01 on inputs that its golden file lacks; the answers were read off the authors' code."""

import math
from typing import Any

import pytest

from tests.golden.rova import rova


def accuracy(kind: str, solution: str, *completions: str) -> list[float]:
    found: list[float] = rova(f"accuracy/{kind}", {
        "problem_type": kind, "solution": solution, "completions": list(completions)})["reward"]  # fmt: skip
    return found


def test_a_missing_block_reads_as_an_empty_answer() -> None:
    assert accuracy("multiple choice", "A", "A", "<answer>A</answer>", "<answer></answer>") == [1, 0, 1]
    assert accuracy("OCR", "the car", "the car", "<answer>the</answer>") == [1, 0]
    assert accuracy("numerical", "42", "42") == accuracy("free-form", "a b", "a b") == accuracy("regression", "1", "1")
    assert accuracy("multiple choice", "<answer>A</answer>", "A") == [0]


@pytest.mark.parametrize(
    ("kind", "gold", "answer", "value"),
    [("numerical", "-1,234.50", "-1234.5", 1), ("numerical", "3,000", "3000", 0), ("numerical", "3,000", "3000.0", 1),
     ("numerical", "5", "5 m", 0), ("numerical", "0.004", "0.0", 1), ("numerical", "-0", "0", 1),
     ("regression", "-10", "-9", 0.9), ("regression", "1,000", "900", 0.9), ("regression", "5", "5 m", 0),
     ("regression", "0", "0", 0), ("OCR", "a b", "b\n a", 0), ("multiple choice", "A", "\n A\n", 1),
     ("multiple choice", "A", "A.", 0)],
)  # fmt: skip
def test_answers(kind: str, gold: str, answer: str, value: float) -> None:
    found = accuracy(kind, f"<answer>{gold}</answer>", f"<think>t</think> <answer>{answer}</answer> <answer>B</answer>")
    assert found == pytest.approx([value], abs=1e-6)


def test_judge_texts() -> None:
    texts = {'{"score": "0.3"}': 0.3, "[0.5]": 0.5, "1": 1, "Score: 0.85/1": 0.85, "": 0, "Score: 85": 0, "10": 1,
             '{"score": null}': 0, '{"points": 1}': 0, '{"score": NaN}': 1, '{"score": true}': 1, " 0.25\n": 0.25,
             '{"score": 1' + "0" * 400 + "}": 1, '[{"idx": 0, "score": 0.9}]': 0}  # fmt: skip
    assert rova("judge_score_parse", {"texts": list(texts)})["score"] == list(texts.values())


@pytest.mark.parametrize(
    ("inputs", "kept"),
    [({"T": 20, "frame_mask_ratio": 0.9}, 1), ({"T": 10, "frame_mask_ratio": 0.7}, 3),
     ({"T": 5, "frame_mask_ratio": 0}, 5), ({"T": 5, "frame_mask_ratio": 1.0}, 1), ({"T": 2}, 1), ({"T": 3}, 2),
     ({"T": 4, "temporal_mode": "keep_k", "keep_k_frames": 9}, 4),
     ({"T": 4, "temporal_mode": "keep_k", "keep_k_frames": 0}, 1),
     ({"T": 3, "temporal_mode": "drop_segments"}, 3),
     ({"T": 16, "temporal_mode": "drop_segments", "temporal_segment_len": 1}, 13),
     ({"T": 4, "temporal_mode": "keep_k", "enable_temporal_mask": False}, 4)],
)  # fmt: skip
def test_kept_frames(inputs: dict[str, Any], kept: int) -> None:
    assert rova("temporal_mask_kept_frames", inputs) == {"kept": kept}


def test_drawn_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="drawn"):
        rova("temporal_mask_kept_frames", {"T": 16, "temporal_mode": "drop_segments"})


def test_assembly_over_several_groups_counts_right_answers_over_the_batch() -> None:
    inputs = {"acc": [1, 0, 1, 0], "format": [1, 1, 1, 1], "lengths": [320, 400, 512, 400], "len_control": True}
    found = rova("reward_assembly_released_code/two", {**inputs, "group_size": 2})
    assert found["reward"] == pytest.approx([2.2, 1, 2.2, 1])
    assert found["advantage"] == pytest.approx(
        [0.6 / (1.2 / math.sqrt(2) + 1e-4), -0.6 / (1.2 / math.sqrt(2) + 1e-4)] * 2
    )
    alone = rova("reward_assembly_released_code/off", {**inputs, "len_control": False, "group_size": 2})
    assert alone["reward"] == [2, 1, 2, 1]
    one = rova("reward_assembly_released_code/one", {**inputs, "acc": [1, 0.1, 0, 0], "group_size": 4})
    assert one["reward"] == pytest.approx([2, 1.1, 1, 1])


def test_memory_with_absent_and_repeated_keys() -> None:
    script = [
        ["cleanup", [["x", 1]], [["y", 2]], 0],
        ["add", "v", 1, 1],
        ["cleanup", [["v", 1], ["v", 1]], [["v", 1]], 2],
        ["add", "v", 1, 3],
        ["cleanup", [], [["v", 1], ["v", 1]], 4],
        ["add", "w", 1],
        ["add", "v", 1],
    ]
    found = rova("memory_released_code/odd", {"script": script, "max_size": 1})
    assert found["log"] == [["cleanup", [], 0, []], ["add", True, 1, True], ["cleanup", ["v_1"], 0, []],
                            ["add", True, 1, True], ["cleanup", [], 0, []], ["add", True, 1, True],
                            ["add", False, 1, True]]  # fmt: skip
    assert found["stats"] == {"current_memory_size": 1, "normal_samples": 1, "dangerous_samples": 0, "total_added": 3,
                              "total_removed_sufficient": 1, "total_removed_dangerous": 1,
                              "total_marked_dangerous": 1}  # fmt: skip


def test_routing_at_the_threshold_and_masks() -> None:
    easy = {"label": "easy", "confidence": 0.8, "tau": 0.8, "n_reeval": 0, "k_max": 3, "from_buffer": False}
    late = {**easy, "label": "difficult", "n_reeval": 4, "from_buffer": True}
    assert rova("routing/edge", {"decisions": [easy, late]}) == {"action": ["discard", "evict"]}
    logits = [[[1.0, 0.0], [5.0, 0.0]]]
    other = [[[0.0, 1.0], [0.0, 9.0]]]
    kl = rova("kl_consistency/mask", {"logits_clean": logits, "logits_corrupted": other, "token_mask": [[1, 0]]})
    assert kl["kl"] == pytest.approx([math.tanh(0.5)])
    empty = rova("kl_consistency/none", {"logits_clean": logits, "logits_corrupted": other, "token_mask": [[0, 0]]})
    assert empty == {"kl": [0.0], "reward": [1.0]}
    top = {
        "p_vals": logits,
        "p_idx": [[[1, 2], [1, 2]]],
        "q_vals": other,
        "q_idx": [[[1, 2], [3, 4]]],
        "mask": [[1, 0]],
    }
    assert rova("kl_dual_topk/mask", top)["kl"] == pytest.approx([math.tanh(0.5)])


def test_aggregate_without_reasoning() -> None:
    inputs = {"accuracy_by_family": {"weather": 0.3}, "original_accuracy": 0.6}
    assert rova("pvrbench_aggregate/a", inputs) == {"avg_perturbed": 0.3, "relative_drop": 0.5}
    assert rova("pvrbench_aggregate/b", {**inputs, "reasoning_scores": None})["reasoning_avg_excl_fragility"] is None


def test_long_blurs_and_images_of_any_shape() -> None:
    blurred = rova("perturb_recommended/motion_blur_row/long", {"row": [1, 0, 0], "length": 9})["row"]
    assert blurred == pytest.approx([5 / 9, 4 / 9, 3 / 9])
    dark = rova("perturb_recommended/dark/3d", {"image": [[[0.5, 1]]], "gain": 0.6, "gamma": 1.8})["image"]
    assert dark == [[pytest.approx([0.17230475, 0.6])]]
    assert rova("perturb_recommended/bright/2d", {"image": [[0.5, 1]], "gain": 1.6})["image"] == [[0.8, 1.0]]
    fog = {"image_hwc_01": [[[0, 1, 0.5]] * 3] * 2, "depth_hw": [[0] * 3] * 2, "beta": 2.0, "airlight": 0.9}
    assert rova("perturb_recommended/fog/clear", fog)["image"] == fog["image_hwc_01"]
