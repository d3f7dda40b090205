"""Sparsity of tokens: exact zeros, and graded measures for models that make none."""

import math
from typing import Any

import torch
from torch import Tensor

from whitebox_probe._core.checks import expect_finite, expect_shape
from whitebox_probe.metrics import _linalg
from whitebox_probe.metrics.base import LayerTokens, SampleMetric

__all__ = ["L0", "Hoyer", "Thresholded", "hoyer", "l0", "thresholded"]


def l0(Z: Tensor) -> Tensor:
    """Share of entries that are not exactly zero: ||Z||_0 / (n d), from 0 (all zero) to 1.

    Shapes: Z (B, n, d) -> (B,), float64.
    Raises: ShapeError, NonFiniteError.
    References: Yu et al. 2023, arXiv:2306.01129, figure 3.

    >>> import torch
    >>> float(l0(torch.tensor([[[0.0, 2.0], [0.0, 0.0]]])))
    0.25
    """
    expect_shape(Z, "B n d", name="Z")
    return expect_finite(_l0(Z), name="l0")


def _l0(Z: Tensor) -> Tensor:
    share = torch.count_nonzero(Z, dim=(-2, -1)).double() / Z[0].numel()
    # A NaN entry counts as "not zero": without this the share would look right.
    return share.masked_fill(~Z.sum(dim=(-2, -1)).isfinite(), torch.nan)


def hoyer(Z: Tensor) -> Tensor:
    """Hoyer's sparseness of a token, averaged over tokens: 0 (all equal) to 1 (one entry).

    (sqrt(d) - |z|_1 / |z|_2) / (sqrt(d) - 1). A zero token is as sparse as can be: 1.

    Shapes: Z (B, n, d) -> (B,), float64, with d > 1.
    Raises: ShapeError, NonFiniteError.
    References: Hoyer 2004, JMLR 5, equation 5 ("sparseness").

    >>> import torch
    >>> hoyer(torch.tensor([[[3.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]]])).tolist()
    [0.5]
    """
    expect_shape(Z, "B n d", name="Z")
    return expect_finite(_hoyer(Z), name="Hoyer sparseness")


def _hoyer(Z: Tensor) -> Tensor:
    Z = _linalg.upcast(Z)
    root = math.sqrt(Z.shape[-1])
    l1 = Z.abs().sum(dim=-1)  # (B, n)
    l2 = torch.linalg.vector_norm(Z, dim=-1)  # (B, n)
    ratio = torch.where(l2 == 0, torch.ones_like(l1), l1 / l2)
    return ((root - ratio) / (root - 1)).mean(dim=-1)


def thresholded(Z: Tensor, *, tau: float = 0.1) -> Tensor:
    """Share of entries larger than tau times the sample's root mean square.

    Scale-free, so that models without exact zeros can be compared: for Gaussian entries and
    tau = 0.1 it is 0.92. It is 0 when all entries are zero.

    Shapes: Z (B, n, d) -> (B,), float64.
    Raises: ShapeError, NonFiniteError.

    >>> import torch
    >>> float(thresholded(torch.tensor([[[0.01, 1.0], [0.0, 1.0]]])))
    0.5
    """
    expect_shape(Z, "B n d", name="Z")
    return expect_finite(_thresholded(Z, tau), name="thresholded share")


def _thresholded(Z: Tensor, tau: float) -> Tensor:
    Z = _linalg.upcast(Z)
    rms = Z.square().mean(dim=(-2, -1), keepdim=True).sqrt()  # (B, 1, 1)
    share = (Z.abs() > tau * rms).double().mean(dim=(-2, -1))
    return share.masked_fill(~rms[:, 0, 0].isfinite(), torch.nan)


class L0(SampleMetric):
    """Share of entries that are not exactly zero.

    The release reports the population std of this measure (numpy's default), and the unbiased
    one of R^c; the `official` convention follows it in both.
    """

    name = "l0"
    unit = "share of entries"
    formula = "|Z|_0 / (n d)"
    source = "Yu et al. 2023, arXiv:2306.01129, figure 3"
    site = {"paper": "z_out", "official": "z_out"}
    invariances = frozenset({"scale", "token_order", "repeated_tokens"})
    ddof = {"paper": 1, "official": 0}

    def measure(self, layer: LayerTokens, site: str) -> Tensor:
        """The share at the site."""
        return _l0(layer.tokens[site])


class Hoyer(SampleMetric):
    """Hoyer's sparseness, averaged over the tokens of a sample."""

    name = "hoyer"
    unit = "0 to 1"
    formula = "(sqrt(d) - |z|_1 / |z|_2) / (sqrt(d) - 1)"
    source = "Hoyer 2004, JMLR 5"
    site = {"paper": "z_out", "official": "z_out"}
    invariances = frozenset({"scale", "token_order", "repeated_tokens"})

    def measure(self, layer: LayerTokens, site: str) -> Tensor:
        """The mean over the site's tokens."""
        return _hoyer(layer.tokens[site])


class Thresholded(SampleMetric):
    """Share of entries larger than tau times the sample's root mean square."""

    name = "thresholded"
    unit = "share of entries"
    formula = "share of |z| > tau rms(Z)"
    source = "own definition; tau = 0.1"
    site = {"paper": "z_out", "official": "z_out"}
    invariances = frozenset({"scale", "token_order", "repeated_tokens"})

    def __init__(self, *, tau: float = 0.1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.tau = tau

    def measure(self, layer: LayerTokens, site: str) -> Tensor:
        """The share at the site."""
        return _thresholded(layer.tokens[site], self.tau)
