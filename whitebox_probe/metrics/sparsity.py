"""Sparsity of tokens: exact zeros, and graded measures for models that make none.

Graded measures have no scale, and a token that is all zero has no value: it is left out of the mean
over tokens, and a sample without any other token is NaN. Zeros are thus never the best score. `l0`
alone counts them, as it is a count of zeros.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from whitebox_probe._core.checks import expect_finite, expect_shape
from whitebox_probe.metrics import _linalg
from whitebox_probe.metrics.measure import SampleMeasure
from whitebox_probe.metrics.tokens import LayerTokens

__all__ = [
    "L0",
    "L1L2",
    "ExcessKurtosis",
    "Gini",
    "Hoyer",
    "Thresholded",
    "TrevesRolls",
    "excess_kurtosis",
    "gini",
    "hoyer",
    "l0",
    "l1_l2",
    "thresholded",
    "treves_rolls",
]


def l0(Z: Tensor) -> Tensor:
    """Share of entries that are not exactly zero: ||Z||_0 / (n d), from 0 (all zero) to 1.

    A count: zero tokens are part of it, and a sample of zeros has 0.

    Shapes: Z (B, n, d) -> (B,), float64.
    Raises: ShapeError, NonFiniteError.
    References: Yu et al. 2023, arXiv:2306.01129, figure 3.

    >>> import torch
    >>> float(l0(torch.tensor([[[0.0, 2.0], [0.0, 0.0]]])))
    0.25
    """
    expect_shape(Z, "B n d", name="Z")
    size = _linalg.wide(Z).abs()
    count = _linalg.count_positive(size).sum(dim=-1)
    return expect_finite(_share(count, Z, _linalg.token_norms(Z)), name="l0")


def _share(count: Tensor, Z: Tensor, norms: Tensor) -> Tensor:
    """The share of a sample's entries that are counted: count (B,), norms (B, n) -> (B,)."""
    share = count.double() / Z.shape[1:].numel()
    # A NaN entry is counted or not like any other: without this the share would look right.
    return share.masked_fill(~norms.sum(dim=-1).isfinite(), torch.nan)


def _over_tokens(values: Tensor, norms: Tensor) -> Tensor:
    """Mean over the tokens that are not zero, NaN without one: values and norms (..., n) -> (...).

    The gradient of a zero token is 0.
    """
    nothing = norms == 0  # a norm that is NaN counts, so that it is noticed
    count = (~nothing).sum(dim=-1)
    total = values.masked_fill(nothing, 0.0).sum(dim=-1)
    return (total / count.clamp_min(1)).masked_fill(count == 0, torch.nan)


def _zero(Z: Tensor) -> Tensor:
    """Which samples are all zero, (B,)."""
    return (_linalg.token_norms(Z) == 0).flatten(1).all(dim=1)


def hoyer(Z: Tensor) -> Tensor:
    """Hoyer's sparseness of a token, averaged over tokens: 0 (all equal) to 1 (one entry).

    (sqrt(d) - |z|_1 / |z|_2) / (sqrt(d) - 1). Zero tokens are left out; NaN if all are zero.

    Shapes: Z (B, n, d) -> (B,), float64, with d > 1.
    Raises: ShapeError, NonFiniteError.
    References: Hoyer 2004, JMLR 5, equation 5 ("sparseness").

    >>> import torch
    >>> hoyer(torch.tensor([[[3.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]]])).tolist()
    [0.5]
    """
    expect_shape(Z, "B n d", name="Z")
    found = _hoyer(_linalg.wide(Z).abs(), _linalg.token_norms(Z))
    return expect_finite(found, name="Hoyer sparseness", undefined=_zero(Z))


def _hoyer(size: Tensor, norms: Tensor) -> Tensor:
    root = math.sqrt(size.shape[-1])
    l1, l2 = size.sum(dim=-1, dtype=torch.float64), norms  # (B, n)
    ratio = l1 / l2.masked_fill(l2 == 0, 1.0)
    return _over_tokens((root - ratio) / (root - 1), norms)


def thresholded(Z: Tensor, *, tau: float = 0.1) -> Tensor:
    """Share of entries larger than tau times the root mean square of their own token.

    Scale-free, so that models without exact zeros can be compared: for Gaussian entries and
    tau = 0.1 it is 0.92. Zero tokens are left out; NaN if all are zero.

    Shapes: Z (B, n, d) -> (B,), float64.
    Raises: ShapeError, NonFiniteError.

    >>> import torch
    >>> float(thresholded(torch.tensor([[[0.01, 1.0], [0.0, 1.0]]])))
    0.5
    """
    expect_shape(Z, "B n d", name="Z")
    found = _thresholded(_linalg.wide(Z).abs(), _linalg.token_norms(Z), tau)
    return expect_finite(found, name="thresholded share", undefined=_zero(Z))


def _thresholded(size: Tensor, norms: Tensor, tau: float) -> Tensor:
    quiet = (norms * (tau / math.sqrt(size.shape[-1])))[..., None].to(size.dtype)  # (B, n, 1)
    loud = _linalg.count_positive((size - quiet).clamp_min_(0.0))
    # A NaN entry is loud or not like any other: its norm alone tells.
    share = (loud / size.shape[-1]).masked_fill(~norms.isfinite(), torch.nan)
    return _over_tokens(share, norms)


_COUNTS = {"gradient": "a count moves by steps, and has no slope between them"}


class _OfTokens(SampleMeasure):
    """What the measures of this file share: the same sites and invariances."""

    group = "sparsity"
    site = {"paper": "z_out", "official": "z_out"}
    default = False
    invariances = frozenset({"scale", "token_order", "repeated_tokens"})
    lacks = "zero"
    of: ClassVar["staticmethod[[Tensor], Tensor]"]

    def measure(self, layer: LayerTokens, site: str) -> Tensor:
        """Of the site's tokens, as they are."""
        return type(self).of(layer.at(site))

    def left_out(self, layer: LayerTokens, site: str) -> Tensor | None:
        """Zero tokens."""
        return (layer.norms(site) == 0).sum(dim=-1)


class L0(_OfTokens):
    """Share of entries that are not exactly zero.

    The release reports the population std of this measure (numpy's default), and the unbiased
    one of R^c; the `official` convention follows it in both.
    """

    name = "l0"
    unit = "share of entries"
    formula = "|Z|_0 / (n d)"
    tex = r"\frac{\|Z\|_0}{n d}"
    misleads = (
        "It counts exact zeros, which a ReLU makes and almost nothing else does: a ViT has none, "
        "and its 1 is a fact of its activation and not of its features. Entries of 1e-30 count as "
        "much as entries of 1, so that one addition after the ReLU, such as a skip connection, "
        "sets it to 1; compare graded measures across families."
    )
    source = "Yu et al. 2023, arXiv:2306.01129, figure 3"
    label = r"non-zero entries $\|<Z>\|_0\,/\,nd$"
    better = "lower"
    default = True
    ddof = {"paper": 1, "official": 0}
    exempt = _COUNTS
    lacks = ""

    def left_out(self, layer: LayerTokens, site: str) -> Tensor | None:
        """None: zeros are what it counts."""
        return None

    def measure(self, layer: LayerTokens, site: str) -> Tensor:
        """The share at the site."""
        return _share(layer.nonzero(site), layer.at(site), layer.norms(site))


class Hoyer(_OfTokens):
    """Hoyer's sparseness, averaged over the tokens of a sample."""

    name = "hoyer"
    unit = "0 to 1"
    formula = "(sqrt(d) - |z|_1 / |z|_2) / (sqrt(d) - 1)"
    tex = r"\frac{\sqrt{d} - \|z\|_1 / \|z\|_2}{\sqrt{d} - 1}, \text{ mean over tokens}"
    misleads = (
        "One outlier feature that every token has makes all tokens look sparse: drop it and "
        "measure again before believing a rise. It is of a token's entries in the given "
        "coordinates, so that a rotation which changes nothing for the next layer changes it. "
        "Gaussian entries have about 0.2 and not 0, more in small d."
    )
    source = "Hoyer 2004, JMLR 5"
    label = r"Hoyer sparseness of $<Z>$"
    better = "higher"
    default = True

    def measure(self, layer: LayerTokens, site: str) -> Tensor:
        """Of the site's tokens, as they are."""
        return _hoyer(layer.magnitudes(site), layer.norms(site))


@dataclass(frozen=True, kw_only=True)
class Thresholded(_OfTokens):
    """Share of entries larger than tau times the root mean square of their token."""

    name = "thresholded"
    unit = "share of entries"
    formula = "share of entries |z_ij| > tau rms(z_i)"
    tex = r"\frac{1}{n d} \left|\left\{(i, j) : |z_{ij}| > \tau \, \mathrm{rms}(z_i)\right\}\right|"
    misleads = (
        "The threshold moves with the token: one huge entry raises the rms, pushes the others "
        "under it, and the token counts as sparse. Gaussian entries have 0.92 at tau = 0.1, so "
        "that a value near it is no sparsity. Curves of different tau may cross; state the tau."
    )
    source = "own definition; tau = 0.1"
    label = r"entries $|z| > \tau\,\mathrm{rms}(z)$ of $<Z>$"
    better = "lower"
    default = True
    exempt = _COUNTS

    tau: float = 0.1

    def measure(self, layer: LayerTokens, site: str) -> Tensor:
        """The share at the site."""
        return _thresholded(layer.magnitudes(site), layer.norms(site), self.tau)


def l1_l2(Z: Tensor) -> Tensor:
    """Ratio |z|_1 / (sqrt(d) |z|_2), averaged over tokens: 1 (all equal) down to 1/sqrt(d).

    Zero tokens are left out; NaN if all are zero.

    Shapes: Z (B, n, d) -> (B,), float64.
    Raises: ShapeError, NonFiniteError.
    References: Hurley and Rickard 2009, IEEE Trans. Information Theory 55(10).

    >>> import torch
    >>> l1_l2(torch.tensor([[[3.0, 0.0, 0.0, 0.0]]])).tolist()
    [0.5]
    """
    expect_shape(Z, "B n d", name="Z")
    return expect_finite(_l1_l2(Z), name="l1/l2", undefined=_zero(Z))


def _l1_l2(Z: Tensor) -> Tensor:
    Z = _linalg.upcast(Z)
    l1, l2 = Z.abs().sum(dim=-1), torch.linalg.vector_norm(Z, dim=-1)
    ratio = l1 / l2.masked_fill(l2 == 0, 1.0)
    return _over_tokens(ratio, l2) / math.sqrt(Z.shape[-1])


def gini(Z: Tensor) -> Tensor:
    """Gini index of a token's magnitudes, averaged over tokens: 0 (all equal) to 1 - 1/d (one).

    Zero tokens are left out; NaN if all are zero.

    Shapes: Z (B, n, d) -> (B,), float64.
    Raises: ShapeError, NonFiniteError.
    References: Hurley and Rickard 2009, IEEE Trans. Information Theory 55(10), equation 5.

    >>> import torch
    >>> gini(torch.tensor([[[3.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]]])).tolist()
    [0.375]
    """
    expect_shape(Z, "B n d", name="Z")
    return expect_finite(_gini(Z), name="Gini index", undefined=_zero(Z))


def _gini(Z: Tensor) -> Tensor:
    size = _linalg.upcast(Z).abs().sort(dim=-1).values
    d = Z.shape[-1]
    total = size.sum(dim=-1)
    rank = torch.arange(1, d + 1, dtype=size.dtype, device=size.device)
    weighted = (size * (d - rank + 0.5)).sum(dim=-1)
    index = 1 - 2 * weighted / (total.masked_fill(total == 0, 1.0) * d)
    return _over_tokens(index, total)


def excess_kurtosis(Z: Tensor) -> Tensor:
    """Excess kurtosis of all entries of a sample: 0 for Gaussian ones, larger for sparse ones.

    Biased moments, as `scipy.stats.kurtosis` has them; NaN when all entries are equal up to their
    rounding, zeros among them.

    Shapes: Z (B, n, d) -> (B,), float64.
    Raises: ShapeError, NonFiniteError.
    References: Olshausen and Field 2004, Current Opinion in Neurobiology 14.

    >>> import torch
    >>> excess_kurtosis(torch.tensor([[[1.0, -1.0]]])).tolist()
    [-2.0]
    """
    expect_shape(Z, "B n d", name="Z")
    moments = _moments(Z)
    flat = _flat(moments, Z)
    return expect_finite(_excess(moments, flat), name="excess kurtosis", undefined=flat)


def _moments(Z: Tensor) -> Tensor:
    """Mean, variance and fourth central moment of all entries of a sample, (3, B).

    They are seen from the first entry: the mean of a million equal ones is off by rounding, and
    they would seem to vary.
    """
    Z = _linalg.upcast(Z).flatten(1)
    first = Z[:, :1].detach()
    shifted = Z - first
    mean = shifted.mean(dim=1)
    centred = shifted - mean[:, None]
    return torch.stack(
        [first[:, 0] + mean, centred.square().mean(dim=1), centred.pow(4).mean(dim=1)]
    )


def _flat(moments: Tensor, Z: Tensor) -> Tensor:
    """Which samples vary by no more than the rounding of their entries, (B,)."""
    mean, variance, _ = moments
    return variance <= (torch.finfo(_linalg.wide(Z).dtype).eps * mean).square()


def _excess(moments: Tensor, flat: Tensor) -> Tensor:
    _, variance, fourth = moments
    value = fourth / variance.masked_fill(flat, 1.0).square() - 3
    return value.masked_fill(flat, torch.nan)


def treves_rolls(Z: Tensor) -> Tensor:
    """Treves and Rolls's activity ratio (mean |z|)^2 / mean z^2 of a token, averaged over tokens.

    1 when all magnitudes are equal, 1/d when one entry is active. Zero tokens are left out; NaN if
    all are zero.

    Shapes: Z (B, n, d) -> (B,), float64.
    Raises: ShapeError, NonFiniteError.
    References: Treves and Rolls 1991, Network 2(4).

    >>> import torch
    >>> treves_rolls(torch.tensor([[[3.0, 0.0, 0.0, 0.0]]])).tolist()
    [0.25]
    """
    expect_shape(Z, "B n d", name="Z")
    return expect_finite(_treves_rolls(Z), name="Treves-Rolls ratio", undefined=_zero(Z))


def _treves_rolls(Z: Tensor) -> Tensor:
    Z = _linalg.upcast(Z)
    power = Z.square().mean(dim=-1)
    ratio = Z.abs().mean(dim=-1).square() / power.masked_fill(power == 0, 1.0)
    return _over_tokens(ratio, power)


class L1L2(_OfTokens):
    """Ratio of a token's l1 to its l2 norm, over sqrt(d), averaged over tokens."""

    name = "l1_l2"
    unit = "0 to 1"
    formula = "|z|_1 / (sqrt(d) |z|_2)"
    tex = r"\frac{\|z\|_1}{\sqrt{d} \, \|z\|_2}, \text{ mean over tokens}"
    misleads = (
        "It runs against most people's reading: low is sparse. Gaussian entries have sqrt(2/pi) = "
        "0.80. One outlier feature shared by all tokens lowers it, and the smallest possible "
        "value, 1/sqrt(d), depends on the width."
    )
    source = "Hurley and Rickard 2009"
    label = r"$\|z\|_1 / (\sqrt{d}\,\|z\|_2)$ of $<Z>$"
    better = "lower"
    of = staticmethod(_l1_l2)


class Gini(_OfTokens):
    """Gini index of a token's magnitudes, averaged over tokens."""

    name = "gini"
    heavy = True
    unit = "0 to 1"
    formula = "1 - 2 sum_i |z|_(i) (d - i + 1/2) / (d |z|_1), |z| sorted"
    tex = (
        r"1 - \frac{2}{d \, \|z\|_1} \sum_{i=1}^{d} |z|_{(i)} \left(d - i + \frac{1}{2}\right), "
        r"\text{ mean over tokens}"
    )
    misleads = (
        "Gaussian entries have 0.41 and a ReLU of them 0.71: neither has learnt anything. It "
        "answers to the whole distribution of sizes and hardly to the largest one, so that it and "
        "excess kurtosis may point in opposite directions."
    )
    source = "Hurley and Rickard 2009, equation 5"
    label = r"Gini index of $<Z>$"
    cost = "O(n d log d)"
    better = "higher"
    of = staticmethod(_gini)


class ExcessKurtosis(_OfTokens):
    """Excess kurtosis of all entries of a sample."""

    name = "excess_kurtosis"
    heavy = True
    unit = "1"
    formula = "mean (z - m)^4 / var(z)^2 - 3"
    tex = r"\frac{\mathrm{mean}\,(z - m)^4}{\mathrm{var}(z)^2} - 3"
    misleads = (
        "A fourth power: a handful of outliers decides it, and the mean over few samples is far "
        "from settled, with an interval that is too narrow. It is of all entries of a sample "
        "together, so that tokens of different norms (a class token, a register) make it large "
        "without any token being sparse."
    )
    source = "Olshausen and Field 2004"
    label = r"excess kurtosis of $<Z>$"
    better = "higher"
    lacks = "equal"

    def measure(self, layer: LayerTokens, site: str) -> Tensor:
        """Of the site's tokens, as they are."""
        moments = self._moments(layer, site)
        return _excess(moments, _flat(moments, layer.at(site)))

    def left_out(self, layer: LayerTokens, site: str) -> Tensor | None:
        """All tokens of a sample, or none: its entries are taken together."""
        Z = layer.at(site)
        return _flat(self._moments(layer, site), Z).long() * Z.shape[1:-1].numel()

    @staticmethod
    def _moments(layer: LayerTokens, site: str) -> Tensor:
        return layer.once("moments", site, lambda: _moments(layer.at(site)), of_norm=False)


class TrevesRolls(_OfTokens):
    """Treves and Rolls's activity ratio of a token, averaged over tokens."""

    name = "treves_rolls"
    unit = "0 to 1"
    formula = "(mean |z|)^2 / mean z^2"
    tex = r"\frac{(\mathrm{mean}\,|z|)^2}{\mathrm{mean}\,z^2}, \text{ mean over tokens}"
    misleads = (
        "Low is sparse, against the habit. It is the square of l1_l2 token by token, and no "
        "second witness beside it. Gaussian entries have 2/pi = 0.64; its floor, 1/d, depends on "
        "the width."
    )
    source = "Treves and Rolls 1991"
    label = r"Treves–Rolls ratio of $<Z>$"
    better = "lower"
    of = staticmethod(_treves_rolls)
