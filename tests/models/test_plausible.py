"""A number of heads that the weights contradict is refused; weights that do not tell are not."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import whitebox_probe as wp
from whitebox_probe._core.errors import CheckpointError
from whitebox_probe.models.plausible import evidence

TRAINED = {"crate-tiny-fmnist": 4, "vit-tiny-fmnist": 4, "gpt2-tiny-kjv": 4}
UNTRAINED = ["crate-tiny-fmnist-init", "vit-tiny-fmnist-init", "gpt2-tiny-kjv-init"]


@pytest.mark.parametrize(("name", "heads"), TRAINED.items())
def test_the_right_number_stands_out_of_trained_weights(name, heads):
    seen = evidence(wp.load(name))
    assert max(seen, key=seen.get) == heads
    assert seen[heads] > 7
    assert all(score < seen[heads] / 2 for other, score in seen.items() if other != heads)


@pytest.mark.parametrize("name", UNTRAINED)
def test_nothing_is_seen_in_untrained_weights(name):
    assert max(np.abs(list(evidence(wp.load(name)).values()))) < 3


def test_planted_heads_are_found_at_any_width():
    model = wp.load("crate-tiny-fmnist-init")
    generator = torch.Generator().manual_seed(0)
    for layer in range(1, 9):
        U = model.subspaces(layer, "native")
        K, d, p = 6, U.shape[1], U.shape[0] * U.shape[2] // 6
        mixed = torch.randn(K, p, 4, generator=generator) @ torch.randn(
            K, 4, d, generator=generator
        )
        mixed += 0.3 * torch.randn(K, p, d, generator=generator)
        weight = next(w for w in model.module.parameters() if w.data_ptr() == U.data_ptr())
        weight.data.copy_(mixed.reshape(weight.shape))
    seen = evidence(model)
    assert max(seen, key=seen.get) == 6


@pytest.fixture
def trained(tmp_path):
    model = wp.load("crate-tiny-fmnist")
    path = tmp_path / "trained.safetensors"
    save_file({k: v.contiguous() for k, v in model.module.state_dict().items()}, path)
    return path


@pytest.mark.filterwarnings("ignore::whitebox_probe.AssumedWarning")
@pytest.mark.parametrize("heads", [2, 3, 6, 12, 16, 24])
def test_a_number_that_the_weights_contradict_is_refused(trained, heads):
    with pytest.raises(CheckpointError, match=f"cannot have {heads} heads: the rows .* 4 groups"):
        wp.load(trained, heads=heads)


@pytest.mark.filterwarnings("ignore::whitebox_probe.AssumedWarning")
def test_the_right_number_loads(trained):
    assert wp.load(trained, heads=4).dims.heads == 4


@pytest.mark.filterwarnings("ignore::whitebox_probe.AssumedWarning")
def test_untrained_weights_take_any_number(tmp_path):
    model = wp.load("crate-tiny-fmnist-init")
    path = tmp_path / "new.safetensors"
    save_file({k: v.contiguous() for k, v in model.module.state_dict().items()}, path)
    assert wp.load(path, heads=8).dims.heads == 8
