"""Gradients of the functional measures, for training with them."""

import re
from pathlib import Path

import numpy as np
import oracle
import pytest
import torch
from torch.autograd import gradcheck

import whitebox_probe as wp
from tests.metrics.drawing import bases, draw
from whitebox_probe.metrics import functional as F

GRADED = ["hoyer", "l1_l2", "gini", "excess_kurtosis", "treves_rolls"]
RATES = {
    "R": lambda Z, U: F.coding_rate(Z, eps=0.5),
    "R^c": lambda Z, U: F.compression(Z, U, eps=0.5),
    "R - R^c": lambda Z, U: F.rate_reduction(Z, U, eps=0.5),
    "SRR": lambda Z, U: F.sparse_rate_reduction(Z, U, eps=0.5, lam=0.3, penalty="l1"),
}


def of_tokens(name):
    return lambda Z, U: getattr(F, name)(Z)


ALL = RATES | {name: of_tokens(name) for name in GRADED}


def gradient(of, Z, U):
    Z = Z.clone().requires_grad_()
    (found,) = torch.autograd.grad(of(Z, U).sum(), Z)
    return found


@pytest.mark.parametrize(("n", "d"), [(6, 4), (4, 6), (5, 5), (1, 4)])
@pytest.mark.parametrize("name", ALL)
def test_they_are_autograds_by_differences(name, n, d):
    Z = draw(n, d).requires_grad_()
    assert gradcheck(lambda Z: ALL[name](Z, bases(3, d, 2)), Z)


@pytest.mark.parametrize("name", ["R^c", "R - R^c", "SRR"])
def test_subspaces_can_be_trained_too(name):
    assert gradcheck(RATES[name], (draw(5, 4).requires_grad_(), bases(3, 4, 2).requires_grad_()))


@pytest.mark.parametrize("name", ALL)
def test_of_zero_tokens_they_are_zero(name):
    U = bases(2, 6, 3)
    assert not gradient(ALL[name], torch.zeros(2, 4, 6), U).any()
    some = draw(5, 6)
    some[:, 2] = 0
    found = gradient(ALL[name], some, U)
    assert found.isfinite().all()
    if name != "excess_kurtosis":  # its mean is of all entries
        assert not found[:, 2].any()
    assert found[:, [0, 1, 3, 4]].any()


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_they_have_the_precision_of_the_tokens(name, dtype):
    Z, U = draw(20, 8).to(dtype), bases(2, 8, 3)
    found = gradient(ALL[name], Z, U)
    assert found.dtype == dtype
    want = gradient(ALL[name], Z.double(), U).to(dtype)
    # Parts are added up in the tokens' own precision.
    off = torch.finfo(dtype).eps * float(want.abs().max())
    torch.testing.assert_close(found, want, rtol=torch.finfo(dtype).eps, atol=off)


# Cholesky factors do up to about 1 and fail from about 1e5 on: then singular values are taken.
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e2, 1e4, 1e5, 1e6, 1e7])
@pytest.mark.parametrize(("n", "d"), [(40, 90), (90, 40)])
def test_of_long_tokens_of_low_rank_they_are_right(n, d, scale):
    rank, eps = 3, 0.1
    Z = torch.cat([draw(n, d, scale=scale, rank=rank, batch=1), draw(n, d, seed=2, batch=1)])
    found = gradient(lambda Z, U: F.coding_rate(Z, eps=eps), Z, None)
    for z, got, known in zip(Z, found, (rank, None), strict=True):
        want = oracle.rate_gradient(z, d / (n * eps**2), known)
        np.testing.assert_allclose(got, want, atol=1e-6 * np.abs(want).max())
    U = torch.linalg.qr(bases(2, d, 8)).Q
    found = gradient(lambda Z, U: F.compression(Z, U, eps=eps), Z, U)
    for z, got, known in zip(Z, found, (rank, None), strict=True):
        want = sum(
            oracle.rate_gradient(z @ u, u.shape[1] / (n * eps**2), known) @ u.numpy().T for u in U
        )
        np.testing.assert_allclose(got, want, atol=1e-6 * np.abs(want).max())


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_a_metric_is_differentiable_in_float32(scale):
    # Projected in float32 by another library, and again in float64 where its rounding would show.
    Z = draw(30, 12, scale=scale, rank=2, dtype=torch.float32)
    U = bases(2, 12, 4)
    found = gradient(lambda Z, U: wp.metrics.Compression()(Z, U), Z, U)
    want = gradient(lambda Z, U: F.compression(Z, U, eps=0.1).mean(), Z, U)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, want, rtol=1e-3, atol=1e-3 * float(want.abs().max()))


def test_what_is_not_finite_is_named_with_a_gradient_too():
    Z = draw(4, 6, batch=3)
    Z[1, 2, 3] = torch.nan
    with pytest.raises(wp.ProbeError, match="sample 1"):
        F.coding_rate(Z.requires_grad_(), eps=0.1)


def test_values_are_the_same_with_a_gradient():
    Z, U = torch.cat([draw(9, 12), draw(9, 12, scale=1e6, rank=1)]), bases(2, 12, 4)
    for name, of in ALL.items():
        got = of(Z.clone().requires_grad_(), U).detach()
        torch.testing.assert_close(got, of(Z, U), rtol=1e-12, atol=0, msg=name)


def test_the_example_in_the_docs_trains():
    page = Path(__file__).parents[2] / "docs" / "measures.md"
    section = page.read_text().partition("## As a regulariser")[2].partition("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.S)
    names = {"__name__": "regulariser"}
    exec(compile(code, "measures.md", "exec"), names)
    layer, inputs, U = names["layer"], names["inputs"], names["U"]
    torch.manual_seed(0)
    untrained = torch.nn.Linear(16, 16)
    found = [
        F.sparse_rate_reduction(of(inputs).relu(), U, eps=0.5, lam=0.1, penalty="l1").mean()
        for of in (untrained, layer)
    ]
    assert found[1] > found[0]
