"""Signal-to-noise ratio of tokens in the heads' subspaces."""

from torch import Tensor

from whitebox_probe._core.checks import expect_finite, expect_shape
from whitebox_probe.metrics import _linalg
from whitebox_probe.metrics.compression import _expect_basis
from whitebox_probe.metrics.measure import SampleMeasure
from whitebox_probe.metrics.tokens import LayerTokens, project

__all__ = ["TokenSNR", "token_snr"]


def token_snr(Z: Tensor, U: Tensor) -> Tensor:
    """Signal-to-noise of tokens in each subspace: |Q_k Q_k^T Z|_F / |(I - Q_k Q_k^T) Z|_F.

    Q_k from QR of U_k. Infinite only if the tokens lie in the subspace entirely: then it is capped
    at 1e8, what rounding allows to be told.

    Shapes: Z (B, n, d), U (K, d, p) -> (B, K), float64.
    Raises: ShapeError, NonFiniteError.
    References: arXiv:2506.03790 (attention-only transformers), definition of SNR.
    """
    expect_shape(Z, "B n d", name="Z")
    _expect_basis(Z, U)
    return expect_finite(_snr(_linalg.upcast(Z), _linalg.orthonormalise(U)), name="token SNR")


def _snr(Z: Tensor, Q: Tensor) -> Tensor:
    whole = Z.square().sum(dim=(-2, -1))[:, None]
    signal = project(Z, Q).square().sum(dim=(-2, -1))
    noise = (whole - signal).clamp_min(1e-16 * whole)
    return (signal / noise.masked_fill(whole == 0, 1.0)).sqrt()


class TokenSNR(SampleMeasure):
    """Signal-to-noise ratio of tokens in each head's subspace."""

    name = "token_snr"
    unit = "ratio"
    formula = "|Q_k Q_k^T Z|_F / |(I - Q_k Q_k^T) Z|_F"
    source = "arXiv:2506.03790"
    label = r"token SNR of $<Z>$"
    group = "fidelity"
    heavy = True
    cost = "O(n d K p) in float64"
    site = {"paper": "z_out"}
    needs_basis = True
    uses_norm = True
    default = False
    invariances = frozenset(
        {"scale", "token_order", "repeated_tokens", "head_order", "rotation_in_subspace"}
    )

    def measure(self, layer: LayerTokens, site: str) -> Tensor:
        """Of each head, on the normed tokens."""
        return _snr(_linalg.upcast(layer.normed(site)), layer.orthonormal())
