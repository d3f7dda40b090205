"""Maps of attention and their segmentation scores, against closed forms."""

import numpy as np
import pytest

import whitebox_probe as wp
from whitebox_probe._core.errors import DataError, ProbeError, ResultError
from whitebox_probe.results.attention_maps import heaviest, maps_of
from whitebox_probe.results.view import View


def view(weights, *, class_index=0, side=8):
    """Images of two by two patches, of one layer, with given attention (B, K, n, n)."""
    images = np.zeros((len(weights), side, side, 3))
    first = 0 if class_index is None else 1
    return View(
        "m",
        {("attn_weights", 1): np.asarray(weights, dtype=np.float32)},
        images,
        grid=(2, 2),
        patches=tuple(range(first, first + 4)),
        class_index=class_index,
    )


def looking(*rows):
    """One sample and one head a row: attention of the class token to four patches."""
    weights = np.full((1, len(rows), 5, 5), 0.2)
    for head, row in enumerate(rows):
        weights[0, head, 0] = [0.5, *np.multiply(row, 0.5)]
    return weights


def quarter(row, column, side=8):
    mask = np.zeros((1, side, side), dtype=bool)
    half = side // 2
    mask[0, half * row : half * (row + 1), half * column : half * (column + 1)] = True
    return mask


def test_a_map_is_the_query_s_attention_to_patches_alone():
    made = view(looking([0.1, 0.2, 0.3, 0.4]))
    np.testing.assert_allclose(maps_of(made, 1, "class")[0, 0], [0.1, 0.2, 0.3, 0.4], rtol=1e-6)
    np.testing.assert_allclose(maps_of(made, 1, (1, 0))[0, 0], np.full(4, 0.25), rtol=1e-6)
    np.testing.assert_allclose(maps_of(made, 1, "mean")[0, 0], np.full(4, 0.25), rtol=1e-6)
    np.testing.assert_array_equal(maps_of(made, 1, None), maps_of(made, 1, "class"))
    plain = view(np.full((1, 1, 4, 4), 0.25), class_index=None)
    np.testing.assert_array_equal(maps_of(plain, 1, None), maps_of(plain, 1, "mean"))
    with pytest.raises(ResultError, match="no class token"):
        maps_of(plain, 1, "class")
    with pytest.raises(ProbeError, match="no token of the image"):
        maps_of(made, 1, (2, 0))


def test_the_fewest_patches_that_hold_the_mass():
    rows = np.array([[0.4, 0.3, 0.2, 0.1], [0.1, 0.7, 0.1, 0.1], [0.25, 0.25, 0.25, 0.25]])
    found = heaviest(rows, 0.6)
    np.testing.assert_array_equal(found, [[1, 1, 0, 0], [0, 1, 0, 0], [1, 1, 1, 0]])
    assert ((found * rows).sum(axis=1) >= 0.6 - 1e-12).all()
    for wrong in (0, 1, -0.5):
        with pytest.raises(ProbeError, match="share of attention"):
            heaviest(rows, wrong)


def test_scores_are_those_of_closed_forms():
    on, beside, half = [0.97, 0.01, 0.01, 0.01], [0.01, 0.97, 0.01, 0.01], [0.49, 0.49, 0.01, 0.01]
    found = wp.segmentation(view(looking(on, beside, half)), quarter(0, 0))
    assert found["miou"].tolist() == pytest.approx([1.0, 0.0, 0.5])
    assert found["head"].tolist() == [1, 2, 3]
    assert set(found["count"]) == {1}


def test_chance_is_that_of_as_many_patches_at_random():
    many = np.repeat(looking([0.97, 0.01, 0.01, 0.01]), 400, axis=0)
    found = wp.segmentation(view(many), np.repeat(quarter(0, 0), 400, axis=0))
    assert found["chance"].item() == pytest.approx(0.25, abs=0.02)
    assert found["miou"].item() == 1
    again = wp.segmentation(view(many), np.repeat(quarter(0, 0), 400, axis=0))
    assert found.equals(again)


def test_masks_are_compared_at_the_size_of_the_images():
    mask = quarter(0, 0)
    mask[0, 0, 0] = False  # 15 of 16 pixels
    found = wp.segmentation(view(looking([0.97, 0.01, 0.01, 0.01])), mask)
    assert found["miou"].item() == pytest.approx(15 / 16)


def test_what_cannot_be_scored_is_refused():
    made = view(looking([0.97, 0.01, 0.01, 0.01]))
    with pytest.raises(DataError, match=r"masks have shape \(1, 4, 4\)"):
        wp.segmentation(made, np.ones((1, 4, 4)))
    with pytest.raises(DataError, match="no mask holds an object"):
        wp.segmentation(made, np.zeros((1, 8, 8)))
    two = view(np.concatenate([looking([1, 0, 0, 0])] * 2))
    masks = np.concatenate([quarter(0, 0), np.zeros((1, 8, 8), dtype=bool)])
    assert wp.segmentation(two, masks)["count"].tolist() == [1]
    texts = View("m", made.sites, None, texts=(("a",),))
    with pytest.raises(ResultError, match="are no images"):
        wp.segmentation(texts, np.ones((1, 8, 8)))
