"""Measures of a sample's singular values against independent ones."""

import oracle
import pytest
import torch
from hypothesis import given

from tests.metrics.drawing import draw, sizes
from whitebox_probe._core.errors import NonFiniteError
from whitebox_probe.metrics import functional as F

NAMES = ["effective_rank", "stable_rank", "participation_ratio", "spectral_decay"]


@given(**sizes)
def test_they_equal_their_definitions(n, d, seed):
    Z = draw(n, d, seed=seed)
    for name in NAMES:
        for z, got in zip(Z, getattr(F, name)(Z), strict=True):
            want = getattr(oracle, name)(z)
            assert got == pytest.approx(want, rel=1e-8, abs=1e-8), name


@pytest.mark.parametrize("name", NAMES)
def test_zero_rank_one_and_huge_tokens_give_finite_values(name):
    measure = getattr(F, name)
    zero = torch.zeros(1, 4, 6)
    one = torch.ones(1, 4, 1) @ torch.arange(1.0, 7.0)[None, None]
    for Z in (zero, one, 1e4 * draw(4, 6), draw(40, 6, dtype=torch.float32)):
        assert measure(Z).isfinite().all()
    if name != "spectral_decay":
        assert measure(one).item() == pytest.approx(1, rel=1e-6)
        assert measure(zero).item() == 0
        Q = torch.linalg.qr(draw(6, 6)).Q
        assert measure(Q[:1]).item() == pytest.approx(6, rel=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_nan_is_named_and_never_a_number(name):
    Z = draw(4, 6, batch=3)
    Z[1, 2, 3] = torch.nan
    with pytest.raises(NonFiniteError, match="sample 1"):
        getattr(F, name)(Z)


def test_rank_me_uses_singular_values():
    X = draw(30, 7, seed=3, batch=1)[0]
    assert F.rank_me(X).item() == pytest.approx(oracle.rank_me(X), rel=1e-10)
