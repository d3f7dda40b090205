"""The signal-to-noise of tokens in heads' subspaces, by hand."""

import torch

from whitebox_probe.metrics import functional as F

G = torch.Generator().manual_seed(3)
Z = torch.randn(2, 7, 6, dtype=torch.float64, generator=G)
U = torch.randn(3, 6, 2, dtype=torch.float64, generator=G)


def test_token_snr_by_projectors():
    Q = torch.linalg.qr(U).Q
    got = F.token_snr(Z, U)
    for k in range(3):
        P = Q[k] @ Q[k].T
        signal, noise = (Z @ P).flatten(1).norm(dim=1), (Z - Z @ P).flatten(1).norm(dim=1)
        torch.testing.assert_close(got[:, k], signal / noise)
    inside = torch.randn(1, 5, 2, dtype=torch.float64, generator=G) @ U[0].T
    assert F.token_snr(inside, U)[0, 0] > 1e6
