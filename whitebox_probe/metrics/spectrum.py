"""The spectrum of a sample's tokens: how many directions they use, and how it decays."""

from typing import ClassVar

import torch
from torch import Tensor

from whitebox_probe._core.checks import expect_finite, expect_shape
from whitebox_probe.metrics import _linalg
from whitebox_probe.metrics.measure import DatasetMeasure, SampleMeasure
from whitebox_probe.metrics.sums import Sums
from whitebox_probe.metrics.tokens import LayerTokens

__all__ = [
    "EffectiveRank",
    "ParticipationRatio",
    "RankMe",
    "SpectralDecay",
    "StableRank",
    "TokenSpectrum",
    "effective_rank",
    "participation_ratio",
    "rank_me",
    "spectral_decay",
    "stable_rank",
    "token_spectrum",
]


def effective_rank(Z: Tensor) -> Tensor:
    """Exp of the entropy of the singular values as shares of their sum: 1 to min(n, d).

    0 for tokens that are all zero.

    Shapes: Z (B, n, d) -> (B,), float64.
    Raises: ShapeError, NonFiniteError.
    References: Roy and Vetterli 2007, EUSIPCO.

    >>> import torch
    >>> effective_rank(torch.eye(3)[None]).round(decimals=6).tolist()
    [3.0]
    """
    expect_shape(Z, "B n d", name="Z")
    return expect_finite(_effective_rank(_singular(Z)), name="effective rank")


def stable_rank(Z: Tensor) -> Tensor:
    """|Z|_F^2 / |Z|_2^2: 1 to min(n, d); 0 for tokens that are all zero.

    Shapes: Z (B, n, d) -> (B,), float64.
    Raises: ShapeError, NonFiniteError.
    References: Rudelson and Vershynin 2007, Journal of the ACM 54(4).
    """
    expect_shape(Z, "B n d", name="Z")
    return expect_finite(_stable_rank(_singular(Z)), name="stable rank")


def participation_ratio(Z: Tensor) -> Tensor:
    """(sum lambda)^2 / sum lambda^2 of the eigenvalues of Z^T Z: 1 to min(n, d); 0 for zeros.

    Of the second moment, not centred: the mean token counts as a direction.

    Shapes: Z (B, n, d) -> (B,), float64.
    Raises: ShapeError, NonFiniteError.
    References: Gao et al. 2017, bioRxiv 214262.
    """
    expect_shape(Z, "B n d", name="Z")
    return expect_finite(_participation(_singular(Z)), name="participation ratio")


def spectral_decay(Z: Tensor) -> Tensor:
    """Exponent a of lambda_i ~ i^-a, by least squares in log-log over the eigenvalues of Z^T Z.

    Eigenvalues below 1e-12 of the largest are left out; NaN when fewer than two are left, such as
    of one token or of zeros: nothing decays, and 0 would say that nothing falls off.

    Shapes: Z (B, n, d) -> (B,), float64.
    Raises: ShapeError, NonFiniteError.
    References: Stringer et al. 2019, Nature 571 (power law of eigenspectra).
    """
    expect_shape(Z, "B n d", name="Z")
    sigma = _singular(Z)
    return expect_finite(_decay(sigma), name="spectral decay", undefined=_thin(sigma))


def token_spectrum(Z: Tensor) -> Tensor:
    """Eigenvalues of Z^T Z as shares of their sum, in falling order, d of them.

    Of the second moment, not centred. NaN for tokens that are all zero.

    Shapes: Z (B, n, d) -> (B, d), float64.
    Raises: ShapeError, NonFiniteError.

    >>> import torch
    >>> token_spectrum(torch.diag(torch.tensor([1.0, 3.0]))[None]).tolist()
    [[0.9, 0.1]]
    """
    expect_shape(Z, "B n d", name="Z")
    sigma = _singular(Z)
    nothing = (sigma == 0).all(dim=-1, keepdim=True)
    found = _shares(sigma, Z.shape[-1]).masked_fill(nothing, torch.nan)
    return expect_finite(found, name="spectrum of tokens", undefined=nothing)


def rank_me(X: Tensor, *, eps: float = 1e-7) -> Tensor:
    """RankMe of the features X of a data set: exp of the entropy of their singular values.

    p_k = sigma_k / |sigma|_1 + eps; singular values, not eigenvalues. NaN for features that are all
    zero.

    Shapes: X (N, d) -> (), float64.
    Raises: ShapeError, NonFiniteError.
    References: Garrido et al. 2023, arXiv:2210.02885, equation 1.
    """
    expect_shape(X, "N d", name="X")
    expect_finite(X, name="X")
    return _rank_me(torch.linalg.svdvals(_linalg.upcast(X)), eps)


def _rank_me(sigma: Tensor, eps: float = 1e-7) -> Tensor:
    share = sigma / sigma.sum() + eps  # 0/0 for zeros, which have no shares
    return (-(share * share.log()).sum()).exp()


def _singular(Z: Tensor) -> Tensor:
    """Singular values, descending; NaN for tokens that are not finite."""
    Z = _linalg.upcast(Z)
    finite = Z.isfinite().all(dim=-1).all(dim=-1)
    safe = torch.where(finite[:, None, None], Z, torch.zeros_like(Z))
    with _linalg.one_thread(Z.device):
        sigma = torch.linalg.svdvals(safe)
    return sigma.masked_fill(~finite[:, None], torch.nan)


def _effective_rank(sigma: Tensor) -> Tensor:
    total = sigma.sum(dim=-1, keepdim=True)
    share = sigma / total.masked_fill(total == 0, 1.0)
    entropy = -torch.special.xlogy(share, share).sum(dim=-1)
    return entropy.exp().masked_fill(total[:, 0] == 0, 0.0)


def _stable_rank(sigma: Tensor) -> Tensor:
    power = sigma.square()
    top = power[:, 0]
    return power.sum(dim=-1) / top.masked_fill(top == 0, 1.0)


def _participation(sigma: Tensor) -> Tensor:
    power = sigma.square()
    squares = power.square().sum(dim=-1)
    return power.sum(dim=-1).square() / squares.masked_fill(squares == 0, 1.0)


def _shares(sigma: Tensor, d: int) -> Tensor:
    power = sigma.square()
    total = power.sum(dim=-1, keepdim=True)
    share = power / total.masked_fill(total == 0, 1.0)
    return torch.nn.functional.pad(share, (0, d - share.shape[-1]))


def _used(sigma: Tensor) -> Tensor:
    """Which eigenvalues are no rounding beside the largest, (B, m)."""
    power = sigma.square()
    return power > 1e-12 * power[:, :1]


def _thin(sigma: Tensor) -> Tensor:
    """Which samples span fewer than two directions, (B,)."""
    return (_used(sigma).sum(dim=-1) < 2) & sigma[:, 0].isfinite()


def _decay(sigma: Tensor) -> Tensor:
    power, used = sigma.square(), _used(sigma)
    count = used.sum(dim=-1)
    x = torch.arange(1, power.shape[-1] + 1, dtype=power.dtype, device=power.device).log()
    y = torch.where(used, power, torch.ones_like(power)).log()
    weight = used.double()
    n = count.clamp_min(1)
    x_mean = (weight * x).sum(dim=-1) / n
    y_mean = (weight * y).sum(dim=-1) / n
    dx = (x - x_mean[:, None]) * weight
    spread = (dx * dx).sum(dim=-1)
    slope = (dx * (y - y_mean[:, None])).sum(dim=-1) / spread.masked_fill(spread == 0, 1.0)
    return (-slope).masked_fill((count < 2) | ~power[:, 0].isfinite(), torch.nan)


class _OfSpectrum(SampleMeasure):
    """What the measures of this file share: singular values are taken once a site."""

    group = "geometry"
    heavy = True
    cost = "O(n d min(n, d)), a singular value decomposition"
    site = {"paper": "z_out", "official": "z_out"}
    default = False
    invariances = frozenset({"rotation", "scale", "token_order", "repeated_tokens"})
    of: ClassVar["staticmethod[[Tensor], Tensor]"]

    def measure(self, layer: LayerTokens, site: str) -> Tensor:
        """Of the singular values of the site's tokens, as they are."""
        expect_shape(layer.at(site), "B n d", name=site)
        return type(self).of(layer.singular_values(site, _singular))


class EffectiveRank(_OfSpectrum):
    """Effective rank of a sample's tokens."""

    name = "effective_rank"
    unit = "directions"
    formula = "exp(-sum_i p_i ln p_i), p = sigma / |sigma|_1"
    tex = r"\exp\left(-\sum_i p_i \log p_i\right), \quad p = \frac{\sigma}{\|\sigma\|_1}"
    misleads = (
        "Tokens are not centred: a mean that all share is one large direction, and lowers it. It "
        "can be no more than min(n, d), so that models of different numbers of tokens or widths "
        "have different ceilings. Low rank is not compression into subspaces: it says nothing of "
        "which directions those are. Tokens that are all zero have 0, as they use none."
    )
    source = "Roy and Vetterli 2007"
    label = "effective rank of $<Z>$"
    exempt = {"gradient_of_zeros": "an entropy has no slope where a share is zero"}
    of = staticmethod(_effective_rank)


class StableRank(_OfSpectrum):
    """Stable rank of a sample's tokens."""

    name = "stable_rank"
    unit = "directions"
    formula = "|Z|_F^2 / |Z|_2^2"
    tex = r"\frac{\|Z\|_F^2}{\|Z\|_2^2}"
    misleads = (
        "The largest direction alone divides it: one outlier feature or a common mean brings it "
        "to 1, whatever the other directions hold. A change of it is then a change of that one "
        "direction; look at the effective rank beside it, which weighs them all. Tokens that "
        "are all zero have 0, as they use none."
    )
    source = "Rudelson and Vershynin 2007"
    label = "stable rank of $<Z>$"
    of = staticmethod(_stable_rank)


class ParticipationRatio(_OfSpectrum):
    """Participation ratio of a sample's tokens."""

    name = "participation_ratio"
    unit = "directions"
    formula = "(sum lambda)^2 / sum lambda^2, lambda: eigenvalues of Z^T Z, not centred"
    tex = r"\frac{\left(\sum_i \lambda_i\right)^2}{\sum_i \lambda_i^2}"
    misleads = (
        "The eigenvalues are of tokens that are not centred, unlike in neuroscience, where it is "
        "taken of a covariance: a shared mean brings it near 1. It weighs squares of energies and "
        "sees hardly anything beyond the few largest directions; its ceiling is min(n, d). "
        "Tokens that are all zero have 0, as they use none."
    )
    source = "Gao et al. 2017"
    label = "participation ratio of $<Z>$"
    of = staticmethod(_participation)


class SpectralDecay(_OfSpectrum):
    """Power-law exponent of the eigenvalues of a sample's tokens."""

    name = "spectral_decay"
    unit = "1"
    formula = "a of lambda_i ~ i^-a, least squares in log-log"
    tex = r"a \text{ in } \lambda_i \sim i^{-a}"
    misleads = (
        "A line is fitted through the spectrum whether it is a power law or not: with few tokens "
        "the tail ends in a cliff at min(n, d), which decides the slope. All directions weigh the "
        "same in it, the thousandth rounding-sized one as the first. Only compare spectra of as "
        "many tokens and as many dimensions. Samples of one direction, such as of one "
        "token, have none."
    )
    source = "Stringer et al. 2019"
    label = "spectral decay of $<Z>$"
    of = staticmethod(_decay)
    none_where = "{} span fewer than two directions"

    def undefined(self, layer: LayerTokens, site: str) -> Tensor | None:
        """Those of one direction, and of none."""
        return _thin(layer.singular_values(site, _singular))


class RankMe(DatasetMeasure):
    """RankMe of the samples' mean tokens over the data set, from their streamed second moment.

    Singular values below 1e-7 of the largest are lost in forming the moment; they carry no weight.
    """

    name = "rank_me"
    heavy = True
    unit = "directions"
    formula = "exp(-sum_k p_k ln p_k), p_k = sigma_k / |sigma|_1 + 1e-7, of mean tokens"
    tex = (
        r"\exp\left(-\sum_k p_k \log p_k\right), \quad p_k = \frac{\sigma_k}{\|\sigma\|_1} + "
        r"10^{-7}"
    )
    misleads = (
        "It can be no more than the number of samples: with fewer than a few times d of them it "
        "measures how many samples there were. It is of mean tokens, which lose what tokens "
        "differ in, and is not centred, so that a mean of all samples lowers it. It was proposed "
        "for the embeddings of self-supervised models, not for every layer. Mean tokens that are "
        "all zero have none."
    )
    source = "Garrido et al. 2023, arXiv:2210.02885, equation 1"
    site = {"paper": "z_out", "official": "z_out"}
    rows = ("rank_me",)
    invariances = frozenset({"rotation", "scale", "token_order", "repeated_tokens"})
    labels = {"rank_me": "RankMe of mean tokens of $<Z>$"}
    group = "geometry"

    def add(self, sums: Sums, layer: LayerTokens, site: str, labels: Tensor | None) -> None:
        """Add the second moment of the batch's mean tokens."""
        X = _linalg.upcast(layer.at(site)).mean(dim=-2)
        sums.total("moment", X.mT @ X)
        sums.total("count", torch.tensor(float(len(X)), dtype=torch.float64))

    def numbers(self, sums: Sums) -> dict[str, float]:
        """RankMe of the samples so far."""
        sigma = _linalg.spectrum(sums["moment"]).flip(0).sqrt()
        return {"rank_me": _rank_me(sigma[: int(sums["count"])]).item()}

    def notes(self, sums: Sums) -> dict[str, str]:
        """Why there is no value."""
        zero = not bool(sums["moment"].any())
        return {"rank_me": "none, as the mean tokens of all samples are zero" if zero else ""}


class TokenSpectrum(DatasetMeasure):
    """The spectrum of a sample's tokens, averaged over samples: which share each direction holds.

    Its matrix `token_spectrum` holds d shares a layer, in falling order, in each sample by itself:
    the i-th of one sample is along another direction than the i-th of the next.
    """

    name = "token_spectrum"
    heavy = True
    unit = "0 to 1"
    formula = "mean over samples of lambda_i / sum_j lambda_j, lambda: eigenvalues of Z^T Z"
    tex = r"\frac{1}{N} \sum_{s} \frac{\lambda_i(s)}{\sum_j \lambda_j(s)}"
    misleads = (
        "Shares are sorted within each sample, so that the first direction of one sample is "
        "another than that of the next: a flat mean spectrum may hide samples that are all of "
        "rank one, each along its own. The leading share holds the mean of the tokens, which is "
        "not taken away. Samples that are all zero have no shares and are left out."
    )
    source = "Yu et al. 2020, arXiv:2006.08558, figure 4 (spectra of features)"
    site = {"paper": "z_out", "official": "z_out"}
    rows = ("leading_share",)
    labels = {"leading_share": "share of the leading direction of $<Z>$"}
    group = "geometry"
    cost = "O(n d min(n, d)), a singular value decomposition"
    invariances = frozenset({"rotation", "scale", "token_order", "repeated_tokens"})

    def add(self, sums: Sums, layer: LayerTokens, site: str, labels: Tensor | None) -> None:
        """Add the shares of each of the batch's samples."""
        Z = layer.at(site)
        expect_shape(Z, "B n d", name=site)
        shares = _shares(layer.singular_values(site, _singular), Z.shape[-1])
        nothing = (layer.norms(site) == 0).all(dim=-1)
        sums.total("shares", shares.sum(dim=0))
        sums.total("count", (~nothing).sum())
        sums.total("zero", nothing.sum())

    def numbers(self, sums: Sums) -> dict[str, float]:
        """The leading one's share, of the samples so far."""
        return {"leading_share": float(sums["shares"][0] / sums["count"])}

    def matrices(self, sums: Sums) -> dict[str, Tensor]:
        """All shares, (d,)."""
        return {"token_spectrum": sums["shares"] / sums["count"]}

    def counts(self, sums: Sums) -> dict[str, int]:
        """The samples that are not zero."""
        return {"leading_share": int(sums["count"])}

    def notes(self, sums: Sums) -> dict[str, str]:
        """How many samples are zero, which have no shares."""
        zero, count = int(sums["zero"]), int(sums["count"])
        if not count:
            return {"leading_share": f"none, as all entries of all {zero} samples are zero"}
        told = f"{zero} of {zero + count} samples are zero and left out" if zero else ""
        return {"leading_share": told}
