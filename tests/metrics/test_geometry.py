"""Angles and norms of tokens against their definitions."""

import oracle
import pytest
import torch
from hypothesis import given

from tests.metrics.drawing import draw, sizes
from whitebox_probe._core.errors import NonFiniteError, ShapeError
from whitebox_probe.metrics import functional as F

NAMES = ["mean_cosine", "token_norm"]


@given(**sizes)
def test_they_equal_their_definitions(n, d, seed):
    Z = draw(n, d, seed=seed)
    for z, cosine, norm in zip(Z, F.mean_cosine(Z), F.token_norm(Z), strict=True):
        assert cosine == pytest.approx(oracle.mean_cosine(z), rel=1e-9, abs=1e-12)
        assert norm == pytest.approx(oracle.token_norm(z), rel=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_zero_rank_one_and_huge_tokens_give_finite_values(name):
    one = torch.ones(1, 4, 1) @ torch.arange(1.0, 7.0)[None, None]
    for Z in (torch.zeros(1, 4, 6), one, 1e4 * draw(4, 6), draw(40, 6, dtype=torch.float32)):
        assert getattr(F, name)(Z).isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_nan_is_named_and_never_a_number(name):
    Z = draw(4, 6, batch=3)
    Z[1, 2, 3] = torch.nan
    with pytest.raises(NonFiniteError, match="sample 1"):
        getattr(F, name)(Z)


def test_one_token_has_no_angle():
    with pytest.raises(ShapeError, match="one token"):
        F.mean_cosine(torch.ones(1, 1, 3))
