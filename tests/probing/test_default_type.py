"""torch's default type is the caller's: no number of ours depends on it."""

import numpy as np
import pytest
import torch

import whitebox_probe as wp

NAMES = ["crate-tiny-fmnist", "vit-tiny-fmnist"]
OPTIONS = [
    *({"null": null} for null in (None, "gaussian", "shuffled", "random_subspaces")),
    *({"basis": basis, "fit_limit": 4} for basis in ("random", "pca:clusters")),
]


def means(model, **options):
    found = wp.probe(
        model, "fashion-mnist", ["coding_rate", "compression", "coherence"],
        limit=3, progress=False, **options,
    )  # fmt: skip
    return found.frame["mean"].to_numpy()


@pytest.fixture
def in_float64():
    before = torch.get_default_dtype()
    yield lambda: torch.set_default_dtype(torch.float64)
    torch.set_default_dtype(before)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("when", ["before", "under"])
def test_values_are_the_same_under_a_default_of_float64(options, when, in_float64):
    model = wp.load(NAMES[0])
    want = means(model, **options)
    in_float64()
    if when == "under":
        model = wp.load(NAMES[0])
        assert {p.dtype for p in model.module.parameters()} == {torch.float32}
    np.testing.assert_array_equal(means(model, **options), want)
    assert torch.get_default_dtype() == torch.float64


@pytest.mark.parametrize("name", NAMES)
def test_random_weights_and_images_are_the_same_under_a_default_of_float64(name, in_float64):
    def drawn():
        model = wp.load(name, weights="random")
        found = {key: value.clone() for key, value in model.module.state_dict().items()}
        return found | {"image": model.prepare(np.zeros((28, 28), np.uint8))}

    want = drawn()
    in_float64()
    got = drawn()
    assert all(torch.equal(got[key], want[key]) for key in want)
    assert got["image"].dtype == torch.float32
