"""Boxes about what heads look at, against closed forms."""

import sys
from pathlib import Path

import numpy as np
import pytest

import whitebox_probe as wp
from whitebox_probe.results import boxes
from whitebox_probe.results.attention_maps import boxes_of

sys.path.insert(0, str(Path(__file__).parent))
from test_attention_maps import looking, quarter, view


def test_a_box_is_about_the_part_that_holds_the_most_and_patches_touch_at_edges_alone():
    seen = np.array([[1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    weights = np.array([[5, 0, 0, 0], [0, 2, 2, 0], [0, 0, 2, 0], [0, 0, 0, 5]])
    assert boxes.about_the_heaviest(seen, weights).tolist() == [1, 1, 3, 3]
    weights[0, 0] = 7
    assert boxes.about_the_heaviest(seen, weights).tolist() == [0, 0, 1, 1]
    several = boxes.about_the_heaviest(np.stack([seen, 0 * seen])[None], np.stack([weights] * 2))
    assert several.tolist() == [[[0, 0, 1, 1], [0, 0, 0, 0]]]


def test_the_box_about_a_mask_holds_all_of_it():
    masks = np.zeros((2, 6, 8), dtype=bool)
    masks[0, 1, 2] = masks[0, 4, 6] = True
    assert boxes.about(masks).tolist() == [[1, 2, 5, 7], [0, 0, 0, 0]]


def test_where_patches_do_not_divide_the_image_a_box_has_the_pixels_that_are_read_as_its_patches():
    rows = np.arange(7) * 3 // 7  # of each pixel
    for first, end in ((0, 1), (1, 2), (1, 3), (2, 3)):
        held = np.flatnonzero((rows >= first) & (rows < end))
        box = boxes.in_pixels(np.array([first, 0, end, 1]), (3, 1), (7, 5))
        assert box.tolist() == [held[0], 0, held[-1] + 1, 5]


@pytest.mark.parametrize(
    ("other", "wanted"),
    [
        ((0, 0, 4, 4), 1.0),
        ((2, 2, 6, 6), 4 / 28),
        ((1, 1, 3, 3), 4 / 16),
        ((4, 0, 8, 4), 0.0),
        ((0, 0, 0, 0), 0.0),
        ((5, 5, 9, 9), 0.0),
    ],
)
def test_the_share_of_two_boxes(other, wanted):
    one, two = np.array([0, 0, 4, 4]), np.array(other)
    assert boxes.iou(one, two) == boxes.iou(two, one) == pytest.approx(wanted)


def test_scores_of_boxes_are_those_of_closed_forms():
    on, beside, half = [0.97, 0.01, 0.01, 0.01], [0.01, 0.97, 0.01, 0.01], [0.49, 0.49, 0.01, 0.01]
    across = [0.51, 0.0, 0.0, 0.49]  # two patches that touch at a corner alone
    made = view(looking(on, beside, half, across))
    assert boxes_of(made, 1)[0].tolist() == [[0, 0, 4, 4], [0, 4, 4, 8], [0, 0, 4, 8], [0, 0, 4, 4]]
    found = wp.segmentation(made, quarter(0, 0))
    assert found["box_iou"].tolist() == pytest.approx([1, 0, 0.5, 1])
    assert found["miou"].tolist() == pytest.approx([1, 0, 0.5, 0.5])


def test_chance_of_boxes_is_that_of_as_many_patches_at_random():
    """Two patches of four touch in four draws of six, where their box is half of the image: half of
    these hold the object's quarter. Of the two draws at a corner the heavier patch is the box.
    """
    many = np.repeat(looking([0.6, 0.39, 0.005, 0.005]), 600, axis=0)
    found = wp.segmentation(view(many), np.repeat(quarter(0, 0), 600, axis=0), mass=0.9)
    assert found["box_chance"].item() == pytest.approx((2 * 0.5 + 2 * 0.25) / 6, abs=0.02)
    assert found["box_iou"].item() == pytest.approx(0.5)
