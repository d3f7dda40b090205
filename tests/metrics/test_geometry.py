"""Angles and norms of tokens against their definitions."""

import oracle
import pytest
import torch
from hypothesis import given

from tests.metrics.drawing import draw, sizes
from whitebox_probe._core.errors import NonFiniteError
from whitebox_probe.metrics import functional as F

NAMES = ["mean_cosine", "token_norm"]


@given(**sizes)
def test_they_equal_their_definitions(n, d, seed):
    Z = draw(n, d, seed=seed)
    for z, cosine, norm in zip(Z, F.mean_cosine(Z), F.token_norm(Z), strict=True):
        assert cosine == pytest.approx(oracle.mean_cosine(z), rel=1e-9, abs=1e-12)
        assert norm == pytest.approx(oracle.token_norm(z), rel=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_rank_one_and_huge_tokens_give_finite_values(name):
    one = torch.ones(1, 4, 1) @ torch.arange(1.0, 7.0)[None, None]
    for Z in (one, 1e4 * draw(4, 6), draw(40, 6, dtype=torch.float32)):
        assert getattr(F, name)(Z).isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_nan_is_named_and_never_a_number(name):
    Z = draw(4, 6, batch=3)
    Z[1, 2, 3] = torch.nan
    with pytest.raises(NonFiniteError, match="sample 1"):
        getattr(F, name)(Z)


def test_one_token_has_no_angle():
    assert F.mean_cosine(torch.ones(2, 1, 3)).isnan().all()
    Z = draw(4, 6, batch=3)
    whole = F.mean_cosine(Z)
    Z[0], Z[2, 1:] = 0, 0  # none, and one that is not zero
    found = F.mean_cosine(Z)
    assert found.isnan().tolist() == [True, False, True]
    assert found[1] == whole[1]
    assert F.token_norm(torch.zeros(1, 4, 6)).item() == 0
    Z[2, 1, 0] = 1.0
    assert F.mean_cosine(Z)[2].isfinite()
