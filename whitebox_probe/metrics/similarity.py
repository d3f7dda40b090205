"""Similarity of two sets of features of the same samples, from streamed sums."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from whitebox_probe._core.checks import expect_shape
from whitebox_probe._core.errors import ShapeError
from whitebox_probe.metrics._linalg import rounding, upcast

__all__ = ["cka", "procrustes_distance", "sample_overlap"]

SAMPLES_PER_DIRECTION = 3
"""Leading subspaces of unrelated features overlap by about rank / (N - 1): up to a third."""


@dataclass
class Moments:
    """Sums over samples that linear similarity measures need; `add` a batch at a time.

    Features are shifted by the mean of the first batch, which leaves every measure as it is: sums
    of features far from 0 would lose what they differ in.

    Attributes: share: of a feature's norm that is rounding, whatever it varies by.
    """

    sums: dict[str, Tensor] = field(default_factory=dict)
    count: int = 0
    share: float = 0.0
    shift: tuple[Tensor, Tensor] | None = None

    def add(self, X: Tensor, Y: Tensor) -> None:
        """Add features of the same samples, (B, d1) and (B, d2)."""
        expect_shape(X, "N d", name="X")
        expect_shape(Y, "N d", name="Y")
        if len(X) != len(Y):
            raise ShapeError(
                f"{len(X)} and {len(Y)} samples cannot be paired",
                "both must be of the same samples",
                "Pass rows of the same samples",
            )
        self.share = max(self.share, rounding(X), rounding(Y))
        X, Y = upcast(X), upcast(Y)
        if self.shift is None:
            self.shift = X.mean(dim=0), Y.mean(dim=0)
        X, Y = X - self.shift[0], Y - self.shift[1]
        x2, y2 = X.square().sum(dim=1), Y.square().sum(dim=1)
        new = {
            "xx": X.mT @ X,
            "yy": Y.mT @ Y,
            "xy": X.mT @ Y,
            "x": X.sum(dim=0),
            "y": Y.sum(dim=0),
            "x2": x2.sum(),
            "y2": y2.sum(),
            "x2y2": (x2 * y2).sum(),
            "x2x2": (x2 * x2).sum(),
            "y2y2": (y2 * y2).sum(),
            "x_y2": X.mT @ y2,
            "y_x2": Y.mT @ x2,
            "x_x2": X.mT @ x2,
            "y_y2": Y.mT @ y2,
        }
        self.count += len(X)
        for name, value in new.items():
            self.sums[name] = value if name not in self.sums else self.sums[name] + value

    def vary(self) -> bool:
        """Whether both features differ between samples by more than their rounding."""
        assert self.shift is not None
        n = self.count
        for name, shift in zip("xy", self.shift, strict=True):
            offset = self.sums[name] / n
            spread = self.sums[f"{name}2"] / n - offset.square().sum()
            if not spread > self.share**2 * (shift + offset).square().sum():
                return False
        return True


def cka(X: Tensor, Y: Tensor) -> Tensor:
    """Unbiased linear centred kernel alignment: 1 for equal up to rotation and scale, about 0 for
    unrelated features; it may be slightly negative and is not clamped.

    Shapes: X (N, d1), Y (N, d2), N > 3 -> (), float64.
    Raises: ShapeError.
    References: Kornblith et al. 2019, arXiv:1905.00414; Song et al. 2012, JMLR 13 (unbiased HSIC).
    """
    return torch.tensor(cka_of(_moments(X, Y)), dtype=torch.float64)


def procrustes_distance(X: Tensor, Y: Tensor) -> Tensor:
    """|X|_F^2 + |Y|_F^2 - 2 |X^T Y|_*, of centred features scaled to unit norm: 0 to 2.

    With few samples unrelated features come near, too, as a rotation is fitted to them: Gaussian
    ones of 64 dimensions are 0.31 apart for N = 40, 1.33 for N = 400 and 1.70 for N = 2000.
    Distances are to be compared with those of as many samples and dimensions.

    Shapes: X (N, d1), Y (N, d2) -> (), float64.
    Raises: ShapeError.
    References: Ding, Denain and Steinhardt 2021, arXiv:2108.01661, section 2.
    """
    return torch.tensor(procrustes_of(_moments(X, Y)), dtype=torch.float64)


def sample_overlap(X: Tensor, Y: Tensor, *, rank: int = 10) -> Tensor:
    """Share of the leading left singular subspaces of centred X and Y that they have in common.

    |P_r^T Q_r|_F^2 / r with P_r, Q_r (N, r): the mean squared canonical correlation of the leading
    principal components. r is `rank`, or how many directions the features have, if fewer.

    Unrelated features have about r / (N - 1) in common, and with N - 1 <= r everything: NaN for
    fewer than 3 r samples.

    Shapes: X (N, d1), Y (N, d2) -> (), float64, 0 to 1.
    Raises: ShapeError.
    References: Raghu et al. 2017, arXiv:1706.05806 (SVCCA).
    """
    return torch.tensor(subspace_overlap_of(_moments(X, Y), rank=rank), dtype=torch.float64)


def _moments(X: Tensor, Y: Tensor) -> Moments:
    moments = Moments()
    moments.add(X, Y)
    return moments


def cka_of(m: Moments) -> float:
    """CKA from sums; NaN where features do not vary."""
    if m.count < 4:
        raise ShapeError(
            f"{m.count} samples are too few", "the unbiased estimate divides by N - 3", "Use more"
        )
    if not m.vary():
        return math.nan
    s = m.sums
    xy = _hsic(m.count, s["xy"], s["x"], s["y"], s["x2"], s["y2"], s["x2y2"], s["x_y2"], s["y_x2"])
    xx = _hsic(m.count, s["xx"], s["x"], s["x"], s["x2"], s["x2"], s["x2x2"], s["x_x2"], s["x_x2"])
    yy = _hsic(m.count, s["yy"], s["y"], s["y"], s["y2"], s["y2"], s["y2y2"], s["y_y2"], s["y_y2"])
    return xy / math.sqrt(xx * yy) if xx > 0 and yy > 0 else math.nan


def _hsic(
    n: int,
    cross: Tensor,
    x: Tensor,
    y: Tensor,
    x2: Tensor,
    y2: Tensor,
    x2y2: Tensor,
    x_y2: Tensor,
    y_x2: Tensor,
) -> float:
    """Unbiased HSIC of linear kernels without their diagonals, from sums over samples."""
    trace = cross.square().sum() - x2y2
    ones_k = x @ x - x2
    ones_l = y @ y - y2
    both = x @ cross @ y - x @ x_y2 - y @ y_x2 + x2y2
    value = trace + ones_k * ones_l / ((n - 1) * (n - 2)) - 2 * both / (n - 2)
    return float(value / (n * (n - 3)))


def _centred(m: Moments) -> tuple[Tensor, Tensor, Tensor]:
    s, n = m.sums, m.count
    xx = s["xx"] - torch.outer(s["x"], s["x"]) / n
    yy = s["yy"] - torch.outer(s["y"], s["y"]) / n
    return xx, yy, s["xy"] - torch.outer(s["x"], s["y"]) / n


def procrustes_of(m: Moments) -> float:
    """Procrustes distance from sums; NaN where features do not vary."""
    if not m.vary():
        return math.nan
    xx, yy, xy = _centred(m)
    scale = xx.trace().clamp_min(0).sqrt() * yy.trace().clamp_min(0).sqrt()
    if scale == 0:
        return math.nan
    return float(2 - 2 * torch.linalg.svdvals(xy).sum() / scale)


def subspace_overlap_of(m: Moments, *, rank: int) -> float:
    """Overlap of leading subspaces from sums; of fewer directions where features have fewer.

    NaN where features do not vary, or samples are too few.
    """
    if not m.vary():
        return math.nan
    xx, yy, xy = _centred(m)
    (lx, vx), (ly, vy) = torch.linalg.eigh(xx), torch.linalg.eigh(yy)
    floor = 1e-10
    r = min(rank, int((lx > floor * lx[-1]).sum()), int((ly > floor * ly[-1]).sum()))
    if r == 0 or m.count < SAMPLES_PER_DIRECTION * r:
        return math.nan
    left = vx[:, -r:] / lx[-r:].sqrt()
    right = vy[:, -r:] / ly[-r:].sqrt()
    return float((left.mT @ xy @ right).square().sum() / r)
