"""A view holds what the sites hold, of the samples that it shows."""

import numpy as np
import pytest
import torch

import whitebox_probe as wp
from whitebox_probe._core.errors import DataError, ProbeError, ResultError, SiteError
from whitebox_probe.data import kjv


def test_it_holds_what_a_recording_does(crate):
    images = torch.rand(3, 3, 12, 12)
    found = wp.view(crate, images, sites=["z_out", "attn_weights"], limit=3)
    with wp.record(crate, ["z_out", "attn_weights"]) as recording:
        crate.module(images)
    for site in ("z_out", "attn_weights"):
        for layer in (1, 2, 3):
            np.testing.assert_allclose(
                found.at(site, layer), recording[site, layer].numpy(), rtol=1e-5, atol=1e-6
            )
    assert (found.samples, found.layers, found.grid) == (3, [1, 2, 3], (3, 3))
    assert found.class_index == 0
    assert found.patches == tuple(range(1, 10))
    assert found.texts is None


def test_images_are_as_they_were_before_they_were_normalised():
    model = wp.load("crate-tiny-fmnist")
    found = wp.view(model, "fashion-mnist", limit=4, seed=1)
    assert found.images.shape == (4, 28, 28, 1)
    assert found.images.min() >= 0
    assert found.images.max() <= 1
    bytes_ = found.images * 255
    np.testing.assert_allclose(bytes_, bytes_.round(), atol=1e-3)


def test_texts_are_told_in_words():
    found = wp.view("gpt2-tiny-kjv", "kjv", limit=2, sites="z_out", layers=[1])
    assert len(found.texts) == 2
    assert len(found.texts[0]) == found.at("z_out", 1).shape[1]
    whole = "".join(found.texts[0])
    assert len(whole) > 100
    assert whole in kjv.read()


def test_what_cannot_be_viewed_is_one_line(crate):
    images = torch.rand(3, 3, 12, 12)
    with pytest.raises(DataError, match="a view holds 1 to 64 samples"):
        wp.view(crate, images, limit=65)
    with pytest.raises(SiteError, match="no site is named"):
        wp.view(crate, images, sites=[])
    with pytest.raises(ProbeError, match="atn_weights"):
        wp.view(crate, images, sites=["atn_weights"])
    found = wp.view(crate, images, sites=["z_out"], layers=[2])
    with pytest.raises(ResultError, match="does not hold layer 1 of 'z_out'"):
        found.at("z_out", 1)
    with pytest.raises(ResultError, match="does not hold 'attn_weights'"):
        found.at("attn_weights", 2)
    assert repr(found) == "View('crate', 3 samples, z_out, layer 2)"
