"""Random tokens for the tests of values."""

import torch
from hypothesis import strategies as st

shapes = st.tuples(st.integers(1, 9), st.integers(2, 9), st.integers(1, 3), st.integers(1, 2))
sizes = {"n": st.integers(2, 9), "d": st.integers(2, 9), "seed": st.integers(0, 99)}
scales = st.sampled_from([1e-4, 1.0, 1e4])
DTYPES = [torch.float64, torch.float32]


def draw(n, d, *, scale=1.0, rank=None, dtype=torch.float64, seed=0, batch=2):
    """Gaussian tokens (batch, n, d), of a rank if one is named."""
    generator = torch.Generator().manual_seed(seed)
    if rank is None:
        Z = torch.randn(batch, n, d, generator=generator, dtype=torch.float64)
    else:
        left = torch.randn(batch, n, rank, generator=generator, dtype=torch.float64)
        Z = left @ torch.randn(rank, d, generator=generator, dtype=torch.float64)
    return (scale * Z).to(dtype)


def bases(K, d, p, *, seed=1):
    """Gaussian subspaces (K, d, min(p, d))."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(K, d, min(p, d), generator=generator, dtype=torch.float64)
