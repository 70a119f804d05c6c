"""The quickened vision tower computes what transformers' own does, and its gradient."""

import copy

import pytest
import torch

from steelyard.policies.tower import quicken, windows_by_size
from tests.policies.tiny import vision_config

GRIDS = {
    "alike": [[2, 4, 4], [2, 4, 4], [4, 4, 4]],
    "uneven": [[2, 4, 6], [1, 10, 8], [3, 2, 2]],
}


def run(tower, patches, grid):
    out = tower(patches, grid_thw=grid).pooler_output
    out.square().sum().backward()
    return out, {name: p.grad for name, p in tower.named_parameters()}


@pytest.mark.parametrize("grids", GRIDS)
def test_results_and_gradients_are_transformers_own(grids):
    from transformers import Qwen2_5_VLForConditionalGeneration

    torch.manual_seed(0)
    plain = Qwen2_5_VLForConditionalGeneration(vision_config()).eval().model.visual
    quick = copy.deepcopy(plain)
    quicken(quick)
    again = copy.deepcopy(quick)
    grid = torch.tensor(GRIDS[grids])
    patches = torch.randn(int(grid.prod(1).sum()), 3 * 2 * 4 * 4)
    expected, expected_gradients = run(plain, patches, grid)
    for tower in (quick, again):
        found, gradients = run(tower, patches, grid)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        assert gradients.keys() == expected_gradients.keys()
        for name, gradient in expected_gradients.items():
            scale = max(1.0, float(gradient.abs().max()))
            torch.testing.assert_close(gradients[name], gradient, atol=1e-5 * scale, rtol=0)


def test_windows_are_sorted_by_size():
    found = [places.tolist() for places in windows_by_size(torch.tensor([0, 2, 5, 7]))]
    assert found == [[[0, 1], [5, 6]], [[2, 3, 4]]]
