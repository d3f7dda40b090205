"""The linear algebra that everything rests on is right on this machine, with any threads."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

import whitebox_probe
from whitebox_probe.metrics import functional
from whitebox_probe.metrics._linalg import half_logdet


@pytest.mark.parametrize("threads", [1, 2])
def test_batched_cholesky_gives_numpys_log_determinants(threads):
    # The size at which batched LU was seen to give NaN with two threads.
    Z = torch.randn(192, 197, 48, dtype=torch.float64)
    G = Z @ Z.mT
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        got = half_logdet(Z, G, 0.3)
    finally:
        torch.set_num_threads(before)
    want = np.linalg.slogdet(np.eye(197) + 0.3 * G.numpy())[1] / 2
    np.testing.assert_allclose(got, want, rtol=1e-10)


def test_a_matrix_that_is_not_finite_gives_nan_and_no_number():
    G = torch.stack([torch.eye(3), torch.full((3, 3), torch.nan)]).double()
    assert half_logdet(torch.eye(3).expand(2, 3, 3), G, 1.0).isnan().tolist() == [False, True]


def test_a_factorisation_that_fails_is_replaced_by_singular_values():
    # Rounding can push the smallest eigenvalue of I + scale G below zero; the tokens still know.
    G = torch.stack([torch.eye(3), -5 * torch.eye(3)]).double()
    got = half_logdet(torch.eye(3).expand(2, 3, 3), G, 1.0)
    torch.testing.assert_close(got, torch.full((2,), 1.5 * np.log(2)).double())


def test_nothing_in_the_package_goes_through_lu():
    call = re.compile(
        r"(torch|linalg)\.(logdet|slogdet|det|inv|solve|lu_\w+|lu)\(|\.(logdet|slogdet|det)\("
    )
    folder = Path(whitebox_probe.__file__).parent
    found = [
        f"{p.name}: {m[0]}" for p in folder.rglob("*.py") for m in call.finditer(p.read_text())
    ]
    assert found == []


def test_factorising_leaves_the_number_of_threads_as_it_was():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        Z = torch.randn(3, 40, 50, generator=torch.Generator().manual_seed(0))
        functional.coding_rate(Z, eps=0.1)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
