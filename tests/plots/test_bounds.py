"""Dotted lines at the smallest and largest value possible: where the closed forms put them."""

import math

import pytest
import torch

import whitebox_probe as wp
from tests.conftest import small_crate
from whitebox_probe._core.errors import ResultError

IMAGES = torch.randn(3, 3, 12, 12, generator=torch.Generator().manual_seed(0))
K, P, N = 2, 4, 10  # heads, their dimension, tokens


def probed(**options):
    model = wp.wrap(small_crate(dim=8, heads=K, dim_head=P), name="crate")
    options = {"convention": "official"} | options
    return wp.probe(model, IMAGES, ["compression"], progress=False, **options)


def ends(eps):
    """All tokens the same, and tokens that fill every direction (the concepts' page)."""
    return (
        K / 2 * math.log(1 + P / eps**2),
        K * P / 2 * math.log(1 + 1 / eps**2),
    )


def lines(figure):
    found = [line for ax in figure.axes for line in ax.lines if line.get_linestyle() == ":"]
    assert {line.get_label() for line in found} <= {"smallest and largest value possible"}
    return [line.get_ydata()[0] for line in found]


@pytest.mark.parametrize("eps", [0.1, 0.5])
@pytest.mark.parametrize("several", [True, False])
def test_they_are_those_of_the_eps_that_is_drawn(eps, several):
    result = probed(eps=[0.1, 0.5] if several else eps)
    drawn = wp.plots.compression(result, eps=eps, bounds=True)
    assert lines(drawn) == pytest.approx(ends(eps))
    drawn = wp.plots.compression(result, eps=eps, bounds=True, normalise="per_token")
    assert lines(drawn) == pytest.approx([end / N for end in ends(eps)])
    drawn = wp.plots.compression(result, eps=eps, bounds=True, normalise="position")
    assert lines(drawn) == [0.0, 1.0]


def test_none_are_drawn_unless_they_are_asked_for():
    assert lines(wp.plots.compression(probed())) == []


def test_the_convention_of_the_paper_has_none():
    for result in (probed(convention="paper"), probed(convention=["paper", "official"])):
        with pytest.raises(ResultError, match="has no bounds of 'compression'"):
            wp.plots.compression(result, convention="paper", bounds=True)


def test_curves_of_models_that_differ_in_size_share_none():
    other = wp.probe(
        wp.wrap(small_crate(dim=12, heads=3, dim_head=P), name="other"),
        IMAGES,
        ["compression"],
        convention="official",
        progress=False,
    )
    with pytest.raises(ResultError, match="different bounds"):
        wp.plots.compression(probed(), other, bounds=True, normalise="per_token")
