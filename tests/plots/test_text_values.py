"""The number that colours each token of a text, against loops over what the view holds."""

import dataclasses

import numpy as np
import pytest

import whitebox_probe as wp
from tests.plots import synthetic
from whitebox_probe._core.errors import ProbeError
from whitebox_probe.plots.text import VALUES, _coloured

LAYER = 2


@pytest.fixture
def view():
    made = synthetic.view()
    count = made.at("z_out", LAYER).shape[1]
    return dataclasses.replace(made, texts=tuple(("a",) * count for _ in range(3)))


def expected(view, value):
    Z, before = view.at("z_out", LAYER), view.at("z_out", LAYER - 1)
    A = view.at("attn_weights", LAYER)
    B, H, n, _ = A.shape
    found = np.zeros((B, n))
    for b in range(B):
        for i in range(n):
            token, last = Z[b, i], before[b, i]
            later = [sum(A[b, h, j, i] for h in range(H)) / H for j in range(i + 1, n)]
            found[b, i] = {
                "norm": sum(x * x for x in token) ** 0.5,
                "l0": sum(x != 0 for x in token) / len(token),
                "change": (sum((token - last) ** 2) / sum(last**2)) ** 0.5,
                "received": sum(later) / max(len(later), 1),
                "attended": sum(A[b, h, n - 1, i] for h in range(H)) / H,
            }[value]
    return found


@pytest.mark.parametrize("value", VALUES)
def test_each_value_is_what_its_words_say(value, view):
    _, numbers, label = _coloured(view, value, LAYER)
    np.testing.assert_allclose(numbers, expected(view, value), rtol=1e-5)
    assert label == f"{VALUES[value]}, layer {LAYER}"
    assert len(np.unique(numbers.round(6))) > 2 or value == "l0"
    wp.plots.text(view, value=value, layer=LAYER).draw_without_rendering()


def test_numbers_of_ones_own_are_taken_as_they_are(view):
    own = np.random.default_rng(0).uniform(size=(3, len(view.texts[0])))
    _, numbers, label = _coloured(view, own, None)
    assert (numbers == own).all()
    assert label == "value"
    wp.plots.text(view, value=own).draw_without_rendering()


def test_what_is_no_value_is_refused(view):
    with pytest.raises(ProbeError, match="no value 'nrom'.*norm"):
        wp.plots.text(view, value="nrom")
    with pytest.raises(ProbeError, match="has shape .*Pass a number for each token"):
        wp.plots.text(view, value=np.ones((3, 2)))
