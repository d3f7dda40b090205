"""Sizes and steps of a network that no network has are told before it is built."""

import pytest
import torch

import whitebox_probe as wp
from whitebox_probe._core.errors import CheckpointError, SettingError


@pytest.mark.parametrize(
    ("name", "value"),
    [("patch_size", 0), ("depth", 10**8), ("heads", True), ("dim", -3), ("eta", None)],
)
def test_are_one_line(name, value):
    with pytest.raises(CheckpointError, match=f"{name} is {value}. Give a") as error:
        wp.load("crate-tiny-fmnist", weights="random", **{name: value})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("eps", [1e-300, 1e160, 0.0, float("nan")])
def test_a_precision_whose_square_is_no_number_is_told(eps):
    with pytest.raises(SettingError, match="eps is .*from 1e-100 to 1e"):
        wp.probe("crate-tiny-fmnist", torch.rand(2, 1, 28, 28), eps=eps, progress=False)
