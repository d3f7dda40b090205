"""Signal-to-noise ratio of tokens in the heads' subspaces, each head over its own cluster of them.

A token belongs to the head whose subspace holds most of its energy. Its signal is what lies in that
subspace, its noise all else. What other heads' tokens have there is no matter: over all tokens the
ratio would be 1/sqrt(K - 1) for tokens that lie in orthogonal subspaces, whatever the noise.
"""

import torch
from torch import Tensor

from whitebox_probe._core.checks import (
    expect_alike,
    expect_basis,
    expect_finite_heads,
    expect_shape,
)
from whitebox_probe._core.errors import NonFiniteError
from whitebox_probe.metrics import _linalg
from whitebox_probe.metrics.measure import SampleMeasure
from whitebox_probe.metrics.tokens import LayerTokens, project

__all__ = [
    "TokenSNR",
    "TokenSNREntropy",
    "TokenSNRGrowth",
    "token_clusters",
    "token_snr",
    "token_snr_entropy",
    "token_snr_growth",
]
_SOURCE = "arXiv:2506.03790 (attention-only transformers), definition of SNR"


def token_clusters(Z: Tensor, U: Tensor) -> Tensor:
    """The head whose subspace, made orthonormal, holds most of a token's energy; -1 for zero.

    Shapes: Z (B, n, d), U (K, d, p) -> (B, n), int64, heads from 0.
    Raises: ShapeError, NonFiniteError.
    References: arXiv:2506.03790 (attention-only transformers).
    """
    signal, whole = _energies(*_checked(Z, U))
    return signal.argmax(dim=1).masked_fill(whole == 0, -1)


def token_snr(Z: Tensor, U: Tensor) -> Tensor:
    """Signal-to-noise of each head's own tokens: |Q_k Q_k^T Z_k|_F / |(I - Q_k Q_k^T) Z_k|_F.

    Q_k from QR of U_k; Z_k are the tokens of which subspace k holds the largest share. NaN for a
    head that has none. Infinite only if they lie in the subspace entirely: then it is capped at
    1e8, what rounding allows to be told.

    Shapes: Z (B, n, d), U (K, d, p) -> (B, K), float64.
    Raises: ShapeError, NonFiniteError.
    References: arXiv:2506.03790 (attention-only transformers), definition of SNR.
    """
    signal, whole = _energies(*_checked(Z, U))
    ratio, has = _snr(signal, whole, _members(signal, whole))
    return ratio.masked_fill(~has, torch.nan)


def token_snr_entropy(Z: Tensor, U: Tensor) -> Tensor:
    """Entropy of how many tokens each head has: 0 (all in one) to ln K (equally many).

    NaN for a sample of zero tokens, which are of no head.

    Shapes: Z (B, n, d), U (K, d, p) -> (B,), float64, in nats.
    Raises: ShapeError, NonFiniteError.
    """
    signal, whole = _energies(*_checked(Z, U))
    return _entropy(_members(signal, whole)).masked_fill(_nothing(whole), torch.nan)


def token_snr_growth(Z: Tensor, moved: Tensor, U: Tensor) -> Tensor:
    """Relative growth of each head's SNR, of the tokens that were its own before they moved.

    An ideal step of size eta on tokens of K orthogonal subspaces grows it by a factor that is the
    same in every layer, 1 + eta tau. NaN for a head without tokens, or without signal before, and
    where its tokens have all become zero.

    Shapes: Z, moved (B, n, d), U (K, d, p) -> (B, K), float64.
    Raises: ShapeError, NonFiniteError.
    References: arXiv:2506.03790 (attention-only transformers), theorem on the growth of SNR.
    """
    expect_alike(moved, Z, name="moved")
    before = _energies(*_checked(Z, U))
    growth, has = _growth(before, _energies(*_checked(moved, U)))
    return growth.masked_fill(~has, torch.nan)


def _checked(Z: Tensor, U: Tensor) -> tuple[Tensor, Tensor]:
    expect_shape(Z, "B n d", name="Z")
    expect_basis(Z, U)
    expect_finite_heads(U)
    finite = Z.isfinite().all(dim=-1).all(dim=-1)
    if not bool(finite.all()):
        bad = int((~finite).nonzero()[0])
        raise NonFiniteError(
            f"Z is not finite for {int((~finite).sum())} of {len(Z)} samples",
            f"the tokens of sample {bad} hold NaN or infinity",
            "Check the weights and the input of that sample",
        )
    return _linalg.upcast(Z), _linalg.orthonormalise(U)


Energies = tuple[Tensor, Tensor]


def _energies(Z: Tensor, Q: Tensor) -> Energies:
    """Of each token: within each subspace (B, K, n), and in all (B, n)."""
    return project(Z, Q).square().sum(dim=-1), Z.square().sum(dim=-1)


def _nothing(whole: Tensor) -> Tensor:
    """Which samples have no token that is not zero: whole (B, n) -> (B,)."""
    return (whole == 0).all(dim=-1)


def _members(signal: Tensor, whole: Tensor) -> Tensor:
    """Which head each token is of, (B, K, n) of zeros and ones; of zero tokens, none."""
    heads = torch.arange(signal.shape[1], device=signal.device)[:, None]
    mine = signal.argmax(dim=1, keepdim=True) == heads
    return (mine & (whole > 0)[:, None]).to(signal.dtype)


def _snr(signal: Tensor, whole: Tensor, members: Tensor) -> tuple[Tensor, Tensor]:
    """SNR (B, K) of each head's tokens, and whether it has any; 1 where not."""
    inside = (signal * members).sum(dim=-1)
    total = (whole[:, None] * members).sum(dim=-1)
    has = inside > 0
    noise = (total - inside).maximum(1e-16 * total).masked_fill(~has, 1.0)
    ratio = (inside.masked_fill(~has, 1.0) / noise).sqrt()
    lost = ~whole.isfinite().all(dim=-1, keepdim=True)
    return ratio.masked_fill(lost, torch.nan), has | lost


def _growth(before: Energies, after: Energies) -> tuple[Tensor, Tensor]:
    members = _members(*before)
    first, has = _snr(*before, members)
    then, still = _snr(*after, members)
    # Tokens that have left their subspace have an SNR of 0; zeros have none.
    left = (after[1][:, None] * members).sum(dim=-1) > 0
    lost = ~(before[1] + after[1]).isfinite().all(dim=-1, keepdim=True)
    ratio = then.masked_fill(~still, 0.0)
    return (ratio / first - 1).masked_fill(lost, torch.nan), (has & (still | left)) | lost


def _entropy(members: Tensor) -> Tensor:
    counts = members.sum(dim=-1)
    share = counts / counts.sum(dim=-1, keepdim=True).clamp_min(1.0)
    return -torch.special.xlogy(share, share).sum(dim=-1)


def _over_heads(values: Tensor, has: Tensor) -> Tensor:
    """Mean over the heads that have a value, (B, K) -> (B,); NaN where none has."""
    mean = values.masked_fill(~has, 0.0).sum(dim=-1) / has.sum(dim=-1).clamp_min(1)
    return mean.masked_fill(~has.any(dim=-1), torch.nan)


class OfClusters(SampleMeasure):
    """What measures of clusters share: the normed tokens' energies in each subspace."""

    source = _SOURCE
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

    def energies(self, layer: LayerTokens, site: str) -> Energies:
        """Within each subspace (B, K, n), and in all (B, n)."""
        Z = _linalg.upcast(layer.normed(site))
        signal = layer.once(
            "energy in heads",
            site,
            lambda: project(Z, layer.orthonormal()).square().sum(dim=-1),
        )
        return signal, Z.square().sum(dim=-1)


class TokenSNR(OfClusters):
    """Signal-to-noise ratio of each head's own tokens in its subspace, mean over heads.

    A head without a token of its own has none, and does not count.
    """

    name = "token_snr"
    unit = "ratio"
    formula = "|Q_k Q_k^T Z_k|_F / |(I - Q_k Q_k^T) Z_k|_F, Z_k: the tokens nearest to subspace k"
    tex = r"\frac{\|Q_k Q_k^\top Z_k\|_F}{\|(I - Q_k Q_k^\top) Z_k\|_F}, \text{ mean over heads}"
    misleads = (
        "Tokens are given to the subspace that fits them best, and so the ratio is above that of "
        "chance even for noise: compare with random subspaces. The wider a subspace, the more of "
        "any token lies in it: noise has about sqrt(p/(d - p)). Heads without tokens of their own "
        "do not count, so that one head which takes all gives a clean-looking mean; where none has "
        "any, there is no value."
    )
    label = r"token SNR of $<Z>$"
    none_where = "no token of {} has a part in a head's subspace"

    def measure(self, layer: LayerTokens, site: str) -> Tensor:
        """Of the normed tokens."""
        return _over_heads(*self._of_heads(layer, site))

    def undefined(self, layer: LayerTokens, site: str) -> Tensor | None:
        """Those of which no head has tokens, such as zeros."""
        return ~self._of_heads(layer, site)[1].any(dim=-1)

    def _of_heads(self, layer: LayerTokens, site: str) -> tuple[Tensor, Tensor]:
        signal, whole = self.energies(layer, site)
        return _snr(signal, whole, _members(signal, whole))


class TokenSNREntropy(OfClusters):
    """How evenly tokens share the heads: the entropy of the number of each head's own tokens."""

    name = "token_snr_entropy"
    unit = "nats of tokens"
    formula = "-sum_k s_k ln s_k, s_k: the share of tokens that are nearest to subspace k"
    tex = r"-\sum_k s_k \log s_k, \quad s_k: \text{ share of tokens nearest to subspace } k"
    misleads = (
        "Its ceiling is ln K, and for fewer tokens than heads ln n. Even shares say nothing of "
        "whether tokens lie in their subspaces: noise is shared evenly. A token between two heads "
        "counts wholly for one, so that small changes of weights move it by jumps. Zero tokens are "
        "of no head."
    )
    label = r"entropy of heads' shares of $<Z>$ [nats]"
    exempt = {"gradient": "it is of counts, which do not change by a little"}
    none_where = "all tokens of {} are zero"

    def measure(self, layer: LayerTokens, site: str) -> Tensor:
        """Of the normed tokens."""
        signal, whole = self.energies(layer, site)
        lost = ~whole.isfinite().all(dim=-1) | _nothing(whole)
        return _entropy(_members(signal, whole)).masked_fill(lost, torch.nan)

    def undefined(self, layer: LayerTokens, site: str) -> Tensor | None:
        """Those of zero tokens, which are of no head."""
        return _nothing(self.energies(layer, site)[1])


class TokenSNRGrowth(OfClusters):
    """Relative growth of SNR from where tokens enter the layer, in the clusters of that place.

    An ideal attention-only layer has 1 + eta tau, the same in every layer: eta tau here.
    """

    name = "token_snr_growth"
    unit = "share of the ratio"
    formula = "SNR_k(Z^(l+1)) / SNR_k(Z^l) - 1, mean over heads; clusters of Z^l"
    tex = r"\frac{\mathrm{SNR}_k(Z^{\ell+1})}{\mathrm{SNR}_k(Z^\ell)} - 1, \text{ mean over heads}"
    misleads = (
        "Clusters are those of the tokens that enter, chosen by the largest energy, and regress "
        "to the mean: a layer that does nothing but add noise shows a fall, and one that shuffles "
        "tokens a large one. The norm and U of the layer are used on both sides, though what "
        "leaves the layer meets those of the next. Heads whose tokens have all become zero do not "
        "count."
    )
    label = r"growth of token SNR to $<Z>$"
    cost = "O(n d K p) in float64, twice"
    none_where = "in {} no head has a signal before and tokens other than zero after"
    better = "higher"

    def inputs(self, site: str) -> tuple[str, ...]:
        """The tokens before, and after."""
        return ("z_in", site)

    def measure(self, layer: LayerTokens, site: str) -> Tensor:
        """Of the normed tokens."""
        return _over_heads(*self._of_heads(layer, site))

    def undefined(self, layer: LayerTokens, site: str) -> Tensor | None:
        """Those of which no head has tokens before that are tokens after."""
        return ~self._of_heads(layer, site)[1].any(dim=-1)

    def _of_heads(self, layer: LayerTokens, site: str) -> tuple[Tensor, Tensor]:
        return _growth(self.energies(layer, "z_in"), self.energies(layer, site))
