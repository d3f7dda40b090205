# Made of the code by docs/stubs.py; change that, and run it again.
"""Measures of the sparse rate reduction: one file each.

`whitebox_probe.metrics.functional` gathers the pure functions. The classes, such as
`whitebox_probe.metrics.Compression`, are `torchmetrics.Metric` modules, made of the measures by
`torch.py` when they are first used.
"""

from typing import Any

from torch import Tensor

from whitebox_probe.metrics import functional as functional
from whitebox_probe.metrics.attention import AttentionClassShare as _AttentionClassShare
from whitebox_probe.metrics.attention import AttentionDistance as _AttentionDistance
from whitebox_probe.metrics.attention import AttentionEntropy as _AttentionEntropy
from whitebox_probe.metrics.class_rate import ClassRate as _ClassRate
from whitebox_probe.metrics.coding_rate import CodingRate as _CodingRate
from whitebox_probe.metrics.coherence import Coherence as _Coherence
from whitebox_probe.metrics.compression import Compression as _Compression
from whitebox_probe.metrics.dead import DeadFeatures as _DeadFeatures
from whitebox_probe.metrics.descent import DescentAchieved as _DescentAchieved
from whitebox_probe.metrics.descent import DescentAchievedU as _DescentAchievedU
from whitebox_probe.metrics.descent import DescentCosine as _DescentCosine
from whitebox_probe.metrics.descent import DescentCosineCommon as _DescentCosineCommon
from whitebox_probe.metrics.descent import DescentCosineMean as _DescentCosineMean
from whitebox_probe.metrics.descent import DescentCosineShared as _DescentCosineShared
from whitebox_probe.metrics.descent import DescentCosineU as _DescentCosineU
from whitebox_probe.metrics.dictionary import DictionaryCoherence as _DictionaryCoherence
from whitebox_probe.metrics.dictionary import DictionaryCondition as _DictionaryCondition
from whitebox_probe.metrics.dictionary import LassoStep as _LassoStep
from whitebox_probe.metrics.geometry import MeanCosine as _MeanCosine
from whitebox_probe.metrics.geometry import TokenNorm as _TokenNorm
from whitebox_probe.metrics.intrinsic_dimension import IntrinsicDimension as _IntrinsicDimension
from whitebox_probe.metrics.lasso import LassoChange as _LassoChange
from whitebox_probe.metrics.lasso import LassoGapClosed as _LassoGapClosed
from whitebox_probe.metrics.lasso import LassoGapOfOthers as _LassoGapOfOthers
from whitebox_probe.metrics.lasso import LassoGapShrunk as _LassoGapShrunk
from whitebox_probe.metrics.lasso import LassoKkt as _LassoKkt
from whitebox_probe.metrics.lasso import LassoReconstruction as _LassoReconstruction
from whitebox_probe.metrics.lasso import LassoVsZero as _LassoVsZero
from whitebox_probe.metrics.neural_collapse import NeuralCollapse as _NeuralCollapse
from whitebox_probe.metrics.pooled_rate import PooledRate as _PooledRate
from whitebox_probe.metrics.rate_change import RateChangeCommon as _RateChangeCommon
from whitebox_probe.metrics.rate_change import RateChangeMean as _RateChangeMean
from whitebox_probe.metrics.rate_change import RateChangeNoSkip as _RateChangeNoSkip
from whitebox_probe.metrics.rate_change import RateChangeRadial as _RateChangeRadial
from whitebox_probe.metrics.rate_change import RateChangeShared as _RateChangeShared
from whitebox_probe.metrics.rate_change import RateChangeShuffled as _RateChangeShuffled
from whitebox_probe.metrics.rate_change import RateChangeSkip as _RateChangeSkip
from whitebox_probe.metrics.rate_change import RateChangeTangential as _RateChangeTangential
from whitebox_probe.metrics.rate_reduction import RateReduction as _RateReduction
from whitebox_probe.metrics.rate_reduction import SparseRateReduction as _SparseRateReduction
from whitebox_probe.metrics.signal_to_noise import TokenSNR as _TokenSNR
from whitebox_probe.metrics.signal_to_noise import TokenSNREntropy as _TokenSNREntropy
from whitebox_probe.metrics.signal_to_noise import TokenSNRGrowth as _TokenSNRGrowth
from whitebox_probe.metrics.sparsity import L0 as _L0
from whitebox_probe.metrics.sparsity import L1L2 as _L1L2
from whitebox_probe.metrics.sparsity import ExcessKurtosis as _ExcessKurtosis
from whitebox_probe.metrics.sparsity import Gini as _Gini
from whitebox_probe.metrics.sparsity import Hoyer as _Hoyer
from whitebox_probe.metrics.sparsity import Thresholded as _Thresholded
from whitebox_probe.metrics.sparsity import TrevesRolls as _TrevesRolls
from whitebox_probe.metrics.spectrum import EffectiveRank as _EffectiveRank
from whitebox_probe.metrics.spectrum import ParticipationRatio as _ParticipationRatio
from whitebox_probe.metrics.spectrum import RankMe as _RankMe
from whitebox_probe.metrics.spectrum import SpectralDecay as _SpectralDecay
from whitebox_probe.metrics.spectrum import StableRank as _StableRank
from whitebox_probe.metrics.spectrum import TokenSpectrum as _TokenSpectrum
from whitebox_probe.metrics.token_coherence import ClassCoherence as _ClassCoherence
from whitebox_probe.metrics.token_coherence import TokenCoherence as _TokenCoherence
from whitebox_probe.metrics.torch import DatasetMetric, SampleMetric, WeightMetric
from whitebox_probe.metrics.variational import VariationalCompression as _VariationalCompression

class AttentionClassShare(SampleMetric):
    """The class token's share of the patches' attention, a head at a time.

    mean over patches i of A_i,cls, in share of attention

    own definition

    Shapes: Z (B, K, n, n) at attn_weights (paper) or (B, K, n, n) at attn_weights (official)
    """

    definition: _AttentionClassShare
    @property
    def convention(self) -> str: ...
    def __init__(self, *, convention: str = "paper", **kwargs: Any) -> None: ...
    def compute(self) -> Tensor:
        """The mean over samples."""

class AttentionDistance(SampleMetric):
    """How far patches look, a head at a time.

    sum_j A_ij |x_i - x_j|, mean over patches i, in patches

    Dosovitskiy et al. 2021, arXiv:2010.11929, figure 7

    Shapes: Z (B, K, n, n) at attn_weights (paper) or (B, K, n, n) at attn_weights (official)
    """

    definition: _AttentionDistance
    @property
    def convention(self) -> str: ...
    def __init__(self, *, convention: str = "paper", **kwargs: Any) -> None: ...
    def compute(self) -> Tensor:
        """The mean over samples."""

class AttentionEntropy(SampleMetric):
    """Entropy of attention rows, a head at a time.

    -sum_j A_ij ln A_ij, mean over i, in nats of attention

    Zhai et al. 2023, arXiv:2303.06296

    Shapes: Z (B, K, n, n) at attn_weights (paper) or (B, K, n, n) at attn_weights (official)
    """

    definition: _AttentionEntropy
    @property
    def convention(self) -> str: ...
    def __init__(self, *, convention: str = "paper", **kwargs: Any) -> None: ...
    def compute(self) -> Tensor:
        """The mean over samples."""

class ClassCoherence(DatasetMetric):
    """Overlap of the subspaces that the tokens of each class span: 90% of their energy.

    mean over classes of |E_c^T E_c'|_F^2 / min(r_c, r_c'), E_c: 90% of the tokens, in 0 to 1

    Yu et al. 2020, arXiv:2006.08558, section 2.2; own definition

    Shapes: Z (B, n, d) at z_out (paper) or (B, n, d) at z_out (official)
    """

    definition: _ClassCoherence
    @property
    def convention(self) -> str: ...
    def __init__(self, *, convention: str = "paper", **kwargs: Any) -> None: ...
    def compute(self) -> dict[str, float]:
        """The numbers of the samples so far."""

class ClassRate(DatasetMetric):
    """Rates of the samples' pooled tokens over the data set: all, within classes, difference.

    A sample's feature is its mean token, or its class token with `pool="class"`, of unit norm.

    R - sum_j N_j/(2N) logdet(I + d/(N_j eps^2) X_j^T X_j), X: pooled tokens, in nats

    Yu et al. 2020, arXiv:2006.08558, equation 5

    Shapes: Z (B, n, d) at z_out (paper) or (B, n, d) at z_out (official)
    """

    definition: _ClassRate
    @property
    def convention(self) -> str: ...
    @property
    def eps(self) -> float: ...
    @property
    def pool(self) -> str: ...
    def __init__(
        self,
        *,
        convention: str = "paper",
        eps: float = 0.1,
        pool: str = "mean",
        **kwargs: Any,
    ) -> None: ...
    def compute(self) -> dict[str, float]:
        """The numbers of the samples so far."""

class CodingRate(SampleMetric):
    """R(Z) of each sample.

    In the `official` convention the tokens are those after the layer's normalisation, scaled to
    unit norm. The release has no code for R: this is its convention for R^c applied to R.

    R(Z) = 1/2 logdet(I + d/(n eps^2) Z^T Z), in nats

    Yu et al. 2023, arXiv:2306.01129, equation 1

    Shapes: Z (B, n, d) at z_out (paper) or (B, n, d) at attn_in (official)
    """

    definition: _CodingRate
    @property
    def convention(self) -> str: ...
    @property
    def eps(self) -> float: ...
    def __init__(self, *, convention: str = "paper", eps: float = 0.1, **kwargs: Any) -> None: ...
    def compute(self) -> Tensor:
        """The mean over samples."""

class Coherence(WeightMetric):
    """How far heads' subspaces overlap: pairs of heads, against chance, and the next layer's.

    `mutual_coherence` is of the columns as they are: a rotation within a subspace changes it alone.

    |Q_i^T Q_j|_2 and _F over pairs of heads, Q_k from QR of U_k, in 0 to 1

    Yu et al. 2023, arXiv:2306.01129, section 2

    Shapes: U (K, d, p)
    """

    definition: _Coherence
    def __init__(self, **kwargs: Any) -> None: ...
    def compute(self) -> dict[str, float]:
        """The numbers of the subspaces."""

class Compression(SampleMetric):
    """R^c(Z; U) of each sample, in the `paper` or the `official` convention.

    The official one may also be taken at `z_in`, `z_half` and `z_out`: of the tokens there after
    the layer's norm, in its subspaces, each of unit norm. The norm is always part of it.

    R^c(Z; U) = sum_k 1/2 logdet(I + p/(n eps^2) (Z U_k)^T (Z U_k)), in nats

    Yu et al. 2023, arXiv:2306.01129, equation 8

    Shapes: Z (B, n, d) at z_half (paper) or (B, K, n, p) at heads (official); U (K, d, p)
    """

    definition: _Compression
    @property
    def convention(self) -> str: ...
    @property
    def eps(self) -> float: ...
    def __init__(self, *, convention: str = "paper", eps: float = 0.1, **kwargs: Any) -> None: ...
    def compute(self) -> Tensor:
        """The mean over samples."""

class DeadFeatures(DatasetMetric):
    """Share of features (columns) that are exactly zero, or below tau rms, in every token seen.

    Rows: `dead_features` by exact zeros; `quiet_features` by |z| <= tau rms of the token, for
    models that make no exact zeros.

    share of columns j with z_ij = 0 (or |z_ij| <= tau rms(z_i)) for all tokens i, in share of
    features

    Bricken et al. 2023, Towards Monosemanticity (dead neurons); tau = 0.1

    Shapes: Z (B, n, d) at z_out (paper) or (B, n, d) at z_out (official)
    """

    definition: _DeadFeatures
    @property
    def convention(self) -> str: ...
    @property
    def tau(self) -> float: ...
    def __init__(self, *, convention: str = "paper", tau: float = 0.1, **kwargs: Any) -> None: ...
    def compute(self) -> dict[str, float]:
        """The numbers of the samples so far."""

class DescentAchieved(SampleMetric):
    """Fall of R^c by the model's attention update, as a share of the steepest first-order fall.

    (f(Z) - f(Z + D)) / (|grad f(Z)| |D|), f(Z) = R^c(N(Z); U), in -1 to 1

    Yu et al. 2023, arXiv:2306.01129, equations 9 to 12; own definition

    Shapes: Z (B, n, d) at z_in (paper); U (K, d, p)
    """

    definition: _DescentAchieved
    @property
    def convention(self) -> str: ...
    @property
    def eps(self) -> float: ...
    def __init__(self, *, convention: str = "paper", eps: float = 0.1, **kwargs: Any) -> None: ...
    def compute(self) -> Tensor:
        """The mean over samples."""

class DescentAchievedU(SampleMetric):
    """Fall of R^c by the step as derived, as a share of the steepest first-order fall.

    The step is kappa (MSSA(X; U) - X).

    (R^c(X) - R^c(X + D)) / (|grad R^c(X)| |D|), D = kappa (MSSA(X; U) - X), X = N(Z), in -1 to 1

    Yu et al. 2023, arXiv:2306.01129, equations 9 to 12; own definition

    Shapes: Z (B, n, d) at z_in (paper); U (K, d, p)
    """

    definition: _DescentAchievedU
    @property
    def convention(self) -> str: ...
    @property
    def eps(self) -> float: ...
    @property
    def kappa(self) -> float: ...
    def __init__(
        self,
        *,
        convention: str = "paper",
        eps: float = 0.1,
        kappa: float = 0.5,
        **kwargs: Any,
    ) -> None: ...
    def compute(self) -> Tensor:
        """The mean over samples."""

class DescentCosine(SampleMetric):
    """Cosine between the model's attention update and -grad R^c in the residual stream.

    <D, -grad f(Z)> / (|D| |grad f(Z)|), f(Z) = R^c(N(Z); U), in -1 to 1

    Yu et al. 2023, arXiv:2306.01129, equations 9 to 12; own definition

    Shapes: Z (B, n, d) at z_in (paper); U (K, d, p)
    """

    definition: _DescentCosine
    @property
    def convention(self) -> str: ...
    @property
    def eps(self) -> float: ...
    def __init__(self, *, convention: str = "paper", eps: float = 0.1, **kwargs: Any) -> None: ...
    def compute(self) -> Tensor:
        """The mean over samples."""

class DescentCosineCommon(SampleMetric):
    """The part of `descent_cosine` that the shift of all tokens by one vector brings.

    <m, -grad f(Z)> / (|D| |grad f(Z)|), m the mean of D over the tokens, in -1 to 1

    Yu et al. 2023, arXiv:2306.01129, equations 9 to 12; own definition

    Shapes: Z (B, n, d) at z_in (paper); U (K, d, p)
    """

    definition: _DescentCosineCommon
    @property
    def convention(self) -> str: ...
    @property
    def eps(self) -> float: ...
    def __init__(self, *, convention: str = "paper", eps: float = 0.1, **kwargs: Any) -> None: ...
    def compute(self) -> Tensor:
        """The mean over samples."""

class DescentCosineMean(SampleMetric):
    """The part of `descent_cosine` that the mean update over other samples brings.

    The mean is measured before (by `audit`): it is the same whatever the sample is.

    <M, -grad f(Z)> / (|D| |grad f(Z)|), M_i the mean over samples of D_i, in -1 to 1

    Yu et al. 2023, arXiv:2306.01129, equations 9 to 12; own definition

    Shapes: Z (B, n, d) at z_in (paper); U (K, d, p)
    """

    definition: _DescentCosineMean
    @property
    def convention(self) -> str: ...
    @property
    def eps(self) -> float: ...
    def __init__(self, *, convention: str = "paper", eps: float = 0.1, **kwargs: Any) -> None: ...
    def compute(self) -> Tensor:
        """The mean over samples."""

class DescentCosineShared(SampleMetric):
    """The part of `descent_cosine` that what looks at no token brings.

    That is the shift that all tokens of the sample share, and what their places get beyond one in
    other samples (measured before, by `audit`).

    <m + M - <M>, -grad f(Z)> / (|D| |grad f(Z)|), M_i the mean over samples of D_i, in -1 to 1

    Yu et al. 2023, arXiv:2306.01129, equations 9 to 12; own definition

    Shapes: Z (B, n, d) at z_in (paper); U (K, d, p)
    """

    definition: _DescentCosineShared
    @property
    def convention(self) -> str: ...
    @property
    def eps(self) -> float: ...
    def __init__(self, *, convention: str = "paper", eps: float = 0.1, **kwargs: Any) -> None: ...
    def compute(self) -> Tensor:
        """The mean over samples."""

class DescentCosineU(SampleMetric):
    """Cosine between the step as derived and -grad R^c, on the tokens after the norm.

    cosine of MSSA(X; U) - X and -grad R^c(X; U), X = N(Z), in -1 to 1

    Yu et al. 2023, arXiv:2306.01129, equations 9 to 12; own definition

    Shapes: Z (B, n, d) at z_in (paper); U (K, d, p)
    """

    definition: _DescentCosineU
    @property
    def convention(self) -> str: ...
    @property
    def eps(self) -> float: ...
    def __init__(self, *, convention: str = "paper", eps: float = 0.1, **kwargs: Any) -> None: ...
    def compute(self) -> Tensor:
        """The mean over samples."""

class DictionaryCoherence(SampleMetric):
    """The largest cosine, in size, of two atoms of the dictionary.

    max over i < j of |<d_i, d_j>| / (|d_i| |d_j|), d_i the columns of D, in 0 to 1

    Donoho and Huo 2001, IEEE Transactions on Information Theory 47

    Shapes: Z (B, n, d) at z_out (paper)
    """

    definition: _DictionaryCoherence
    @property
    def convention(self) -> str: ...
    def __init__(self, *, convention: str = "paper", **kwargs: Any) -> None: ...
    def compute(self) -> Tensor:
        """The mean over samples."""

class DictionaryCondition(SampleMetric):
    """The largest singular value of the dictionary over the smallest.

    sigma_1(D) / sigma_min(D), in ratio

    Golub and Van Loan 2013, section 2.6

    Shapes: Z (B, n, d) at z_out (paper)
    """

    definition: _DictionaryCondition
    @property
    def convention(self) -> str: ...
    def __init__(self, *, convention: str = "paper", **kwargs: Any) -> None: ...
    def compute(self) -> Tensor:
        """The mean over samples."""

class EffectiveRank(SampleMetric):
    """Effective rank of a sample's tokens.

    exp(-sum_i p_i ln p_i), p = sigma / |sigma|_1, in directions

    Roy and Vetterli 2007

    Shapes: Z (B, n, d) at z_out (paper) or (B, n, d) at z_out (official)
    """

    definition: _EffectiveRank
    @property
    def convention(self) -> str: ...
    def __init__(self, *, convention: str = "paper", **kwargs: Any) -> None: ...
    def compute(self) -> Tensor:
        """The mean over samples."""

class ExcessKurtosis(SampleMetric):
    """Excess kurtosis of all entries of a sample.

    mean (z - m)^4 / var(z)^2 - 3, in 1

    Olshausen and Field 2004

    Shapes: Z (B, n, d) at z_out (paper) or (B, n, d) at z_out (official)
    """

    definition: _ExcessKurtosis
    @property
    def convention(self) -> str: ...
    def __init__(self, *, convention: str = "paper", **kwargs: Any) -> None: ...
    def compute(self) -> Tensor:
        """The mean over samples."""

class Gini(SampleMetric):
    """Gini index of a token's magnitudes, averaged over tokens.

    1 - 2 sum_i |z|_(i) (d - i + 1/2) / (d |z|_1), |z| sorted, in 0 to 1

    Hurley and Rickard 2009, equation 5

    Shapes: Z (B, n, d) at z_out (paper) or (B, n, d) at z_out (official)
    """

    definition: _Gini
    @property
    def convention(self) -> str: ...
    def __init__(self, *, convention: str = "paper", **kwargs: Any) -> None: ...
    def compute(self) -> Tensor:
        """The mean over samples."""

class Hoyer(SampleMetric):
    """Hoyer's sparseness, averaged over the tokens of a sample.

    (sqrt(d) - |z|_1 / |z|_2) / (sqrt(d) - 1), in 0 to 1

    Hoyer 2004, JMLR 5

    Shapes: Z (B, n, d) at z_out (paper) or (B, n, d) at z_out (official)
    """

    definition: _Hoyer
    @property
    def convention(self) -> str: ...
    def __init__(self, *, convention: str = "paper", **kwargs: Any) -> None: ...
    def compute(self) -> Tensor:
        """The mean over samples."""

class IntrinsicDimension(DatasetMetric):
    """TwoNN and MLE dimension of the samples' mean tokens: of at most 2,000 samples.

    Which ones are kept goes by a hash of their numbers, so that order does not show.

    TwoNN and maximum likelihood over nearest neighbours of mean tokens, in dimensions

    Facco et al. 2017; Levina and Bickel 2004; scikit-dimension

    Shapes: Z (B, n, d) at z_out (paper) or (B, n, d) at z_out (official)
    """

    definition: _IntrinsicDimension
    @property
    def convention(self) -> str: ...
    def __init__(self, *, convention: str = "paper", **kwargs: Any) -> None: ...
    def compute(self) -> dict[str, float]:
        """The numbers of the samples so far."""

class L0(SampleMetric):
    """Share of entries that are not exactly zero.

    The release reports the population std of this measure (numpy's default), and the unbiased
    one of R^c; the `official` convention follows it in both.

    |Z|_0 / (n d), in share of entries

    Yu et al. 2023, arXiv:2306.01129, figure 3

    Shapes: Z (B, n, d) at z_out (paper) or (B, n, d) at z_out (official)
    """

    definition: _L0
    @property
    def convention(self) -> str: ...
    def __init__(self, *, convention: str = "paper", **kwargs: Any) -> None: ...
    def compute(self) -> Tensor:
        """The mean over samples."""

class L1L2(SampleMetric):
    """Ratio of a token's l1 to its l2 norm, over sqrt(d), averaged over tokens.

    |z|_1 / (sqrt(d) |z|_2), in 0 to 1

    Hurley and Rickard 2009

    Shapes: Z (B, n, d) at z_out (paper) or (B, n, d) at z_out (official)
    """

    definition: _L1L2
    @property
    def convention(self) -> str: ...
    def __init__(self, *, convention: str = "paper", **kwargs: Any) -> None: ...
    def compute(self) -> Tensor:
        """The mean over samples."""

class LassoChange(SampleMetric):
    """Relative change of the LASSO objective over a layer's proximal steps.

    (F(A) - F(A_0)) / F(A_0), F(A) = 1/2 |Y - A D^T|^2 + lam |A|_1, A_0 = max(Y, 0) or 0, in share
    of the objective

    Yu et al. 2023, arXiv:2306.01129, equations 14 to 16

    Shapes: Z (B, n, d) at z_out (paper)
    """

    definition: _LassoChange
    @property
    def convention(self) -> str: ...
    def __init__(self, *, convention: str = "paper", **kwargs: Any) -> None: ...
    def compute(self) -> Tensor:
        """The mean over samples."""

class LassoGapClosed(SampleMetric):
    """Share of the way from the start to the optimum that a layer's proximal steps go.

    Negative where the objective rises. The optimum is that of FISTA, to a hundredth of the way by
    its duality gap, or after 500 steps. Of more than 64 tokens, 64 are taken, evenly spread.

    (F(A_0) - F(A)) / (F(A_0) - F*), F* the least F over A >= 0, in share of the gap

    Yu et al. 2023, arXiv:2306.01129, equations 14 to 16

    Shapes: Z (B, n, d) at z_out (paper)
    """

    definition: _LassoGapClosed
    @property
    def convention(self) -> str: ...
    def __init__(self, *, convention: str = "paper", **kwargs: Any) -> None: ...
    def compute(self) -> Tensor:
        """The mean over samples."""

class LassoGapOfOthers(SampleMetric):
    """The same, were each code's entries handed to other atoms: a null of `lasso_gap_closed`.

    Entries, their sizes and their number stay; a step that lowers the objective of a dictionary
    that it does not use, as any shrinkage may, closes as much here. The optimum is the same: it
    does not depend on the order of the atoms.

    the share for codes A P and A_0 P, P one random order of the atoms, in share of the gap

    own definition

    Shapes: Z (B, n, d) at z_out (paper)
    """

    definition: _LassoGapOfOthers
    @property
    def convention(self) -> str: ...
    def __init__(self, *, convention: str = "paper", **kwargs: Any) -> None: ...
    def compute(self) -> Tensor:
        """The mean over samples."""

class LassoGapShrunk(SampleMetric):
    """The same for the step's start, shrunk or stretched as the step does it on the whole.

    The code at the end is its start times <A, A_0>/|A_0|^2, and something more. What that scaling
    closes asks for no dictionary: a step that does nothing else closes no more than this.

    the share for codes c A_0, c = <A, A_0> / |A_0|_F^2 of each sample, in share of the gap

    own definition

    Shapes: Z (B, n, d) at z_out (paper)
    """

    definition: _LassoGapShrunk
    @property
    def convention(self) -> str: ...
    def __init__(self, *, convention: str = "paper", **kwargs: Any) -> None: ...
    def compute(self) -> Tensor:
        """The mean over samples."""

class LassoKkt(SampleMetric):
    """How far the code is from fulfilling the conditions of the optimum.

    |A - max(A - g, 0)|_F / |max(Y D - lam, 0)|_F, g = (A D^T - Y) D + lam, in ratio

    Boyd and Vandenberghe 2004, section 5.5.3

    Shapes: Z (B, n, d) at z_out (paper)
    """

    definition: _LassoKkt
    @property
    def convention(self) -> str: ...
    def __init__(self, *, convention: str = "paper", **kwargs: Any) -> None: ...
    def compute(self) -> Tensor:
        """The mean over samples."""

class LassoReconstruction(SampleMetric):
    """What the code leaves of the tokens that it codes.

    |Y - A D^T|_F^2 / |Y|_F^2, in share of |Y|^2

    Yu et al. 2023, arXiv:2306.01129, equations 14 to 16

    Shapes: Z (B, n, d) at z_out (paper)
    """

    definition: _LassoReconstruction
    @property
    def convention(self) -> str: ...
    def __init__(self, *, convention: str = "paper", **kwargs: Any) -> None: ...
    def compute(self) -> Tensor:
        """The mean over samples."""

class LassoStep(SampleMetric):
    """The length of the proximal steps in units of the dictionary: below 2 they may descend.

    eta |D|_2^2, in of 2 allowed

    Beck and Teboulle 2009, SIAM Journal on Imaging Sciences 2

    Shapes: Z (B, n, d) at z_out (paper)
    """

    definition: _LassoStep
    @property
    def convention(self) -> str: ...
    def __init__(self, *, convention: str = "paper", **kwargs: Any) -> None: ...
    def compute(self) -> Tensor:
        """The mean over samples."""

class LassoVsZero(SampleMetric):
    """The objective of the code over that of a code of zeros.

    F(A) / F(0), F(0) = 1/2 |Y|_F^2, in ratio

    Yu et al. 2023, arXiv:2306.01129, equations 14 to 16

    Shapes: Z (B, n, d) at z_out (paper)
    """

    definition: _LassoVsZero
    @property
    def convention(self) -> str: ...
    def __init__(self, *, convention: str = "paper", **kwargs: Any) -> None: ...
    def compute(self) -> Tensor:
        """The mean over samples."""

class MeanCosine(SampleMetric):
    """Mean cosine between two different tokens of a sample.

    mean over i != j of <z_i, z_j> / (|z_i| |z_j|), in -1 to 1

    Ethayarajh 2019, arXiv:1909.00512

    Shapes: Z (B, n, d) at z_out (paper) or (B, n, d) at z_out (official)
    """

    definition: _MeanCosine
    @property
    def convention(self) -> str: ...
    def __init__(self, *, convention: str = "paper", **kwargs: Any) -> None: ...
    def compute(self) -> Tensor:
        """The mean over samples."""

class NeuralCollapse(DatasetMetric):
    """Neural-collapse measures of the samples' pooled tokens, at every layer.

    Of two classes there is `nc1` alone: the geometry of two means is given beforehand.

    tr(S_W S_B^+)/C; std/mean of |m_c|; mean |cos(m_c, m_c') + 1/(C-1)|, m_c: class means from the
    mean of all samples, in 1

    Papyan, Han and Donoho 2020, arXiv:2008.08186

    Shapes: Z (B, n, d) at z_out (paper) or (B, n, d) at z_out (official)
    """

    definition: _NeuralCollapse
    @property
    def convention(self) -> str: ...
    @property
    def pool(self) -> str: ...
    def __init__(self, *, convention: str = "paper", pool: str = "mean", **kwargs: Any) -> None: ...
    def compute(self) -> dict[str, float]:
        """The numbers of the samples so far."""

class ParticipationRatio(SampleMetric):
    """Participation ratio of a sample's tokens.

    (sum lambda)^2 / sum lambda^2, lambda: eigenvalues of Z^T Z, not centred, in directions

    Gao et al. 2017

    Shapes: Z (B, n, d) at z_out (paper) or (B, n, d) at z_out (official)
    """

    definition: _ParticipationRatio
    @property
    def convention(self) -> str: ...
    def __init__(self, *, convention: str = "paper", **kwargs: Any) -> None: ...
    def compute(self) -> Tensor:
        """The mean over samples."""

class PooledRate(DatasetMetric):
    """R, R^c and R - R^c with all tokens of the data set as one Z.

    Larger than the mean over samples by what samples differ in (R is concave in the moment).

    R and R^c with Z^T Z / n of all tokens of the data set as one Z, in nats

    Yu et al. 2020, arXiv:2006.08558, equation 3; Yu et al. 2023, equation 8

    Shapes: Z (B, n, d) at z_out (paper); U (K, d, p)
    """

    definition: _PooledRate
    @property
    def convention(self) -> str: ...
    @property
    def eps(self) -> float: ...
    def __init__(self, *, convention: str = "paper", eps: float = 0.1, **kwargs: Any) -> None: ...
    def compute(self) -> dict[str, float]:
        """The numbers of the samples so far."""

class RankMe(DatasetMetric):
    """RankMe of the samples' mean tokens over the data set, from their streamed second moment.

    Singular values below 1e-7 of the largest are lost in forming the moment; they carry no weight.

    exp(-sum_k p_k ln p_k), p_k = sigma_k / |sigma|_1 + 1e-7, of mean tokens, in directions

    Garrido et al. 2023, arXiv:2210.02885, equation 1

    Shapes: Z (B, n, d) at z_out (paper) or (B, n, d) at z_out (official)
    """

    definition: _RankMe
    @property
    def convention(self) -> str: ...
    def __init__(self, *, convention: str = "paper", **kwargs: Any) -> None: ...
    def compute(self) -> dict[str, float]:
        """The numbers of the samples so far."""

class RateChangeCommon(SampleMetric):
    """Change of R^c by what the attention adds to all tokens alike: its update's mean.

    R^c(Z + m; U) - R^c(Z; U), m the mean of D over the tokens, in nats

    own definition

    Shapes: Z (B, n, d) at z_in (paper); U (K, d, p)
    """

    definition: _RateChangeCommon
    @property
    def convention(self) -> str: ...
    @property
    def eps(self) -> float: ...
    def __init__(self, *, convention: str = "paper", eps: float = 0.1, **kwargs: Any) -> None: ...
    def compute(self) -> Tensor:
        """The mean over samples."""

class RateChangeMean(SampleMetric):
    """Change of R^c if each token got the mean of what the attention adds at its place elsewhere.

    The mean is over other samples, and is measured before (by `audit`): what it does is done
    without a look at the sample.

    R^c(Z + M; U) - R^c(Z; U), M_i the mean over samples of D_i, in nats

    own definition

    Shapes: Z (B, n, d) at z_in (paper); U (K, d, p)
    """

    definition: _RateChangeMean
    @property
    def convention(self) -> str: ...
    @property
    def eps(self) -> float: ...
    def __init__(self, *, convention: str = "paper", eps: float = 0.1, **kwargs: Any) -> None: ...
    def compute(self) -> Tensor:
        """The mean over samples."""

class RateChangeNoSkip(SampleMetric):
    """Change of R^c from the tokens to the attention's output alone, without the skip.

    R^c(attn_out; U) - R^c(Z^l; U), in nats

    arXiv:2411.17182 (MSSA with its skip connection may raise R^c)

    Shapes: Z (B, n, d) at z_in (paper); U (K, d, p)
    """

    definition: _RateChangeNoSkip
    @property
    def convention(self) -> str: ...
    @property
    def eps(self) -> float: ...
    def __init__(self, *, convention: str = "paper", eps: float = 0.1, **kwargs: Any) -> None: ...
    def compute(self) -> Tensor:
        """The mean over samples."""

class RateChangeRadial(SampleMetric):
    """Change of R^c by what of the update lies along each token, after the common shift.

    R^c(Z + m + r; U) - R^c(Z + m; U), r_i = <D_i - m, z_i> z_i / |z_i|^2, in nats

    own definition

    Shapes: Z (B, n, d) at z_in (paper); U (K, d, p)
    """

    definition: _RateChangeRadial
    @property
    def convention(self) -> str: ...
    @property
    def eps(self) -> float: ...
    def __init__(self, *, convention: str = "paper", eps: float = 0.1, **kwargs: Any) -> None: ...
    def compute(self) -> Tensor:
        """The mean over samples."""

class RateChangeShared(SampleMetric):
    """Change of R^c by what of the attention's update looks at no token.

    Each token gets the shift that all tokens of its sample share, and what tokens at its place get
    beyond such a shift in other samples (measured before, by `audit`).

    R^c(Z + m + M - <M>; U) - R^c(Z; U), M_i the mean over samples of D_i, <M> over tokens, in nats

    own definition

    Shapes: Z (B, n, d) at z_in (paper); U (K, d, p)
    """

    definition: _RateChangeShared
    @property
    def convention(self) -> str: ...
    @property
    def eps(self) -> float: ...
    def __init__(self, *, convention: str = "paper", eps: float = 0.1, **kwargs: Any) -> None: ...
    def compute(self) -> Tensor:
        """The mean over samples."""

class RateChangeShuffled(SampleMetric):
    """Change of R^c if the attention's update were handed to other tokens of its sample.

    One order a sample, drawn by its number: a null that keeps the common shift and all norms.

    R^c(Z + P D; U) - R^c(Z; U), P a permutation of the sample's tokens, in nats

    own definition

    Shapes: Z (B, n, d) at z_in (paper); U (K, d, p)
    """

    definition: _RateChangeShuffled
    @property
    def convention(self) -> str: ...
    @property
    def eps(self) -> float: ...
    def __init__(self, *, convention: str = "paper", eps: float = 0.1, **kwargs: Any) -> None: ...
    def compute(self) -> Tensor:
        """The mean over samples."""

class RateChangeSkip(SampleMetric):
    """Change of R^c across the attention step with its skip connection: Z^l to Z^(l+1/2).

    R^c(Z^(l+1/2); U) - R^c(Z^l; U), in nats

    arXiv:2411.17182 (MSSA with its skip connection may raise R^c)

    Shapes: Z (B, n, d) at z_in (paper); U (K, d, p)
    """

    definition: _RateChangeSkip
    @property
    def convention(self) -> str: ...
    @property
    def eps(self) -> float: ...
    def __init__(self, *, convention: str = "paper", eps: float = 0.1, **kwargs: Any) -> None: ...
    def compute(self) -> Tensor:
        """The mean over samples."""

class RateChangeTangential(SampleMetric):
    """Change of R^c by what is left of the update, after its common shift and radial part.

    R^c(Z + D; U) - R^c(Z + m + r; U), in nats

    own definition

    Shapes: Z (B, n, d) at z_in (paper); U (K, d, p)
    """

    definition: _RateChangeTangential
    @property
    def convention(self) -> str: ...
    @property
    def eps(self) -> float: ...
    def __init__(self, *, convention: str = "paper", eps: float = 0.1, **kwargs: Any) -> None: ...
    def compute(self) -> Tensor:
        """The mean over samples."""

class RateReduction(SampleMetric):
    """R(Z) - R^c(Z; U) of each sample, both taken on the same tokens.

    R(Z) - R^c(Z; U), in nats

    Yu et al. 2020, arXiv:2006.08558, equation 4

    Shapes: Z (B, n, d) at z_out (paper) or (B, n, d) at attn_in (official); U (K, d, p)
    """

    definition: _RateReduction
    @property
    def convention(self) -> str: ...
    @property
    def eps(self) -> float: ...
    def __init__(self, *, convention: str = "paper", eps: float = 0.1, **kwargs: Any) -> None: ...
    def compute(self) -> Tensor:
        """The mean over samples."""

class SparseRateReduction(SampleMetric):
    """R(Z) - R^c(Z; U) - lam ||Z||_0 of each sample: the objective itself.

    R(Z) - R^c(Z; U) - lam |Z|_0, in nats

    Yu et al. 2023, arXiv:2306.01129, equation 1

    Shapes: Z (B, n, d) at z_out (paper); U (K, d, p)
    """

    definition: _SparseRateReduction
    @property
    def convention(self) -> str: ...
    @property
    def eps(self) -> float: ...
    @property
    def lam(self) -> float: ...
    def __init__(
        self,
        *,
        convention: str = "paper",
        eps: float = 0.1,
        lam: float = 0.1,
        **kwargs: Any,
    ) -> None: ...
    def compute(self) -> Tensor:
        """The mean over samples."""

class SpectralDecay(SampleMetric):
    """Power-law exponent of the eigenvalues of a sample's tokens.

    a of lambda_i ~ i^-a, least squares in log-log, in 1

    Stringer et al. 2019

    Shapes: Z (B, n, d) at z_out (paper) or (B, n, d) at z_out (official)
    """

    definition: _SpectralDecay
    @property
    def convention(self) -> str: ...
    def __init__(self, *, convention: str = "paper", **kwargs: Any) -> None: ...
    def compute(self) -> Tensor:
        """The mean over samples."""

class StableRank(SampleMetric):
    """Stable rank of a sample's tokens.

    |Z|_F^2 / |Z|_2^2, in directions

    Rudelson and Vershynin 2007

    Shapes: Z (B, n, d) at z_out (paper) or (B, n, d) at z_out (official)
    """

    definition: _StableRank
    @property
    def convention(self) -> str: ...
    def __init__(self, *, convention: str = "paper", **kwargs: Any) -> None: ...
    def compute(self) -> Tensor:
        """The mean over samples."""

class Thresholded(SampleMetric):
    """Share of entries larger than tau times the root mean square of their token.

    share of entries |z_ij| > tau rms(z_i), in share of entries

    own definition; tau = 0.1

    Shapes: Z (B, n, d) at z_out (paper) or (B, n, d) at z_out (official)
    """

    definition: _Thresholded
    @property
    def convention(self) -> str: ...
    @property
    def tau(self) -> float: ...
    def __init__(self, *, convention: str = "paper", tau: float = 0.1, **kwargs: Any) -> None: ...
    def compute(self) -> Tensor:
        """The mean over samples."""

class TokenCoherence(DatasetMetric):
    """Overlap of the subspaces that the tokens of each head actually span.

    Within head k's subspace, the fewest directions that hold 90% of its tokens' energy.

    mean over i < j of |E_i^T E_j|_F^2 / min(r_i, r_j), E_k: 90% of Q_k Q_k^T Z, in 0 to 1

    Yu et al. 2023, arXiv:2306.01129, section 2 (incoherent supports); own definition

    Shapes: Z (B, n, d) at z_out (paper); U (K, d, p)
    """

    definition: _TokenCoherence
    @property
    def convention(self) -> str: ...
    def __init__(self, *, convention: str = "paper", **kwargs: Any) -> None: ...
    def compute(self) -> dict[str, float]:
        """The numbers of the samples so far."""

class TokenNorm(SampleMetric):
    """Mean Euclidean norm of a sample's tokens.

    mean over i of |z_i|_2, in as the features

    standard

    Shapes: Z (B, n, d) at z_out (paper) or (B, n, d) at z_out (official)
    """

    definition: _TokenNorm
    @property
    def convention(self) -> str: ...
    def __init__(self, *, convention: str = "paper", **kwargs: Any) -> None: ...
    def compute(self) -> Tensor:
        """The mean over samples."""

class TokenSNR(SampleMetric):
    """Signal-to-noise ratio of each head's own tokens in its subspace, mean over heads.

    A head without a token of its own has none, and does not count.

    |Q_k Q_k^T Z_k|_F / |(I - Q_k Q_k^T) Z_k|_F, Z_k: the tokens nearest to subspace k, in ratio

    arXiv:2506.03790 (attention-only transformers), definition of SNR

    Shapes: Z (B, n, d) at z_out (paper); U (K, d, p)
    """

    definition: _TokenSNR
    @property
    def convention(self) -> str: ...
    def __init__(self, *, convention: str = "paper", **kwargs: Any) -> None: ...
    def compute(self) -> Tensor:
        """The mean over samples."""

class TokenSNREntropy(SampleMetric):
    """How evenly tokens share the heads: the entropy of the number of each head's own tokens.

    -sum_k s_k ln s_k, s_k: the share of tokens that are nearest to subspace k, in nats of tokens

    arXiv:2506.03790 (attention-only transformers), definition of SNR

    Shapes: Z (B, n, d) at z_out (paper); U (K, d, p)
    """

    definition: _TokenSNREntropy
    @property
    def convention(self) -> str: ...
    def __init__(self, *, convention: str = "paper", **kwargs: Any) -> None: ...
    def compute(self) -> Tensor:
        """The mean over samples."""

class TokenSNRGrowth(SampleMetric):
    """Relative growth of SNR from where tokens enter the layer, in the clusters of that place.

    An ideal attention-only layer has 1 + eta tau, the same in every layer: eta tau here.

    SNR_k(Z^(l+1)) / SNR_k(Z^l) - 1, mean over heads; clusters of Z^l, in share of the ratio

    arXiv:2506.03790 (attention-only transformers), definition of SNR

    Shapes: Z (B, n, d) at z_out (paper); U (K, d, p)
    """

    definition: _TokenSNRGrowth
    @property
    def convention(self) -> str: ...
    def __init__(self, *, convention: str = "paper", **kwargs: Any) -> None: ...
    def compute(self) -> Tensor:
        """The mean over samples."""

class TokenSpectrum(DatasetMetric):
    """The spectrum of a sample's tokens, averaged over samples: which share each direction holds.

    Its matrix `token_spectrum` holds d shares a layer, in falling order, in each sample by itself:
    the i-th of one sample is along another direction than the i-th of the next.

    mean over samples of lambda_i / sum_j lambda_j, lambda: eigenvalues of Z^T Z, in 0 to 1

    Yu et al. 2020, arXiv:2006.08558, figure 4 (spectra of features)

    Shapes: Z (B, n, d) at z_out (paper) or (B, n, d) at z_out (official)
    """

    definition: _TokenSpectrum
    @property
    def convention(self) -> str: ...
    def __init__(self, *, convention: str = "paper", **kwargs: Any) -> None: ...
    def compute(self) -> dict[str, float]:
        """The numbers of the samples so far."""

class TrevesRolls(SampleMetric):
    """Treves and Rolls's activity ratio of a token, averaged over tokens.

    (mean |z|)^2 / mean z^2, in 0 to 1

    Treves and Rolls 1991

    Shapes: Z (B, n, d) at z_out (paper) or (B, n, d) at z_out (official)
    """

    definition: _TrevesRolls
    @property
    def convention(self) -> str: ...
    def __init__(self, *, convention: str = "paper", **kwargs: Any) -> None: ...
    def compute(self) -> Tensor:
        """The mean over samples."""

class VariationalCompression(SampleMetric):
    """R^var of each sample, for models whose heads share the tokens by memberships (ToST).

    Where memberships are causal (a language ToST), the value is of the whole window, with the
    membership that each token got as the last one so far. A token's attention step descends R^var
    of the text up to it, so that only the last token's descends this value itself.

    R^var = 1/2 sum_k n_k/n sum_i log(1 + d/eps^2 sum_j Pi_kj W_kji^2 / n_k), in nats

    Wu et al. 2025, arXiv:2412.17810

    Shapes: Z (B, K, n, p) at heads (paper)
    """

    definition: _VariationalCompression
    @property
    def convention(self) -> str: ...
    @property
    def eps(self) -> float: ...
    def __init__(self, *, convention: str = "paper", eps: float = 0.1, **kwargs: Any) -> None: ...
    def compute(self) -> Tensor:
        """The mean over samples."""
