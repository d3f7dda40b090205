"""The figure of a masked autoencoder holds the pixels that it was given."""

import numpy as np
import pytest
import torch

import whitebox_probe as wp
from whitebox_probe.models.registry import build

PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def test_it_shows_image_input_and_prediction(tmp_path):
    torch.manual_seed(0)
    arch = {"image_size": 32, "dim": 32, "depth": 2, "heads": 4, "dim_head": 8}
    arch |= {"decoder_depth": 2, "lam": 0.5}
    network = build("crate_mae", arch, source="a test")
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        rebuilt, hidden = network.reconstruct(images, 0.5)
    figure = wp.plots.reconstruction(images, rebuilt, hidden, **PLAIN)
    assert len(figure.axes) == 6
    drawn = [ax.images[0].get_array() for ax in figure.axes]
    np.testing.assert_allclose(drawn[0], images[0].permute(1, 2, 0))
    mask = hidden[0, 0].numpy()
    assert (drawn[1][mask] == 0).all()
    np.testing.assert_allclose(drawn[1][~mask], drawn[0][~mask])
    np.testing.assert_allclose(drawn[2], rebuilt[0].permute(1, 2, 0).clip(0, 1), rtol=1e-6)
    assert wp.plots.save(figure, tmp_path / "a", "png")[0].stat().st_size > 1000
    assert len(wp.plots.reconstruction(images, rebuilt, **PLAIN).axes) == 4


def test_what_does_not_fit_is_refused():
    with pytest.raises(wp.ProbeError, match="side by side"):
        wp.plots.reconstruction(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 4, 4))
