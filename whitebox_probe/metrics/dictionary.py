"""The dictionary of a proximal step, and the length of the step in its units."""

import torch
from torch import Tensor

from whitebox_probe.metrics import _linalg
from whitebox_probe.metrics.lasso import OfLasso, singular_values_of, squared_norm
from whitebox_probe.metrics.tokens import LayerTokens

__all__ = ["DictionaryCoherence", "DictionaryCondition", "LassoStep"]


class _OfDictionary(OfLasso):
    """A number of a layer's dictionary: the same for every sample."""

    cost = "O(d h min(d, h)), once a layer and batch"
    invariances = frozenset({"token_order", "repeated_tokens", "scale", "rotation"})
    exempt = {"gradient": "it is of weights, and no token is looked at"}

    def number(self, D: Tensor, layer: LayerTokens) -> Tensor:
        """Of the dictionary, ()."""
        raise NotImplementedError

    def measure(self, layer: LayerTokens, site: str) -> Tensor:
        """The same for every sample."""
        A, Y, D = layer.at(site), layer.at("mlp_in"), layer.operator("D")
        assert isinstance(D, Tensor)
        of_all = self.number(_linalg.upcast(D), layer).to(Y.device)
        whole = (A.sum(dim=(-2, -1)) + Y.sum(dim=(-2, -1))).isfinite()
        return of_all.expand(len(Y)).masked_fill(~whole, torch.nan)


class LassoStep(_OfDictionary):
    """The length of the proximal steps in units of the dictionary: below 2 they may descend."""

    name = "lasso_step"
    unit = "of 2 allowed"
    formula = "eta |D|_2^2"
    tex = r"\eta \, \|D\|_2^2"
    misleads = (
        "It is a worst case over all directions: above 2 a step may still descend on these "
        "tokens, and below 2 it may do so little that it does not matter. eta is in no checkpoint "
        "and is then an assumption. It is of weights: the same for every sample, so that its "
        "interval is of no width."
    )
    source = "Beck and Teboulle 2009, SIAM Journal on Imaging Sciences 2"
    label = r"$\eta\,\|D\|_2^2$"
    needs_operators = ("D", "lam", "eta")

    def number(self, D: Tensor, layer: LayerTokens) -> Tensor:
        """Of the layer's eta."""
        return float(layer.operator("eta")) * squared_norm(D)


class DictionaryCoherence(_OfDictionary):
    """The largest cosine, in size, of two atoms of the dictionary."""

    name = "dictionary_coherence"
    unit = "0 to 1"
    formula = "max over i < j of |<d_i, d_j>| / (|d_i| |d_j|), d_i the columns of D"
    tex = r"\max_{i < j} \frac{|\langle d_i, d_j \rangle|}{\|d_i\| \, \|d_j\|}"
    misleads = (
        "It is a maximum over all pairs: one pair of like atoms among thousands makes it 1. An "
        "overcomplete dictionary cannot be below a bound by Welch, sqrt((h - d)/(d (h - 1))), and "
        "random atoms are far above it. It is of weights and knows nothing of which atoms are "
        "used."
    )
    source = "Donoho and Huo 2001, IEEE Transactions on Information Theory 47"
    label = "mutual coherence of $D$"
    heavy = False

    def number(self, D: Tensor, layer: LayerTokens) -> Tensor:
        """Of the columns; 0 for one."""
        norms = torch.linalg.vector_norm(D, dim=0)
        unit = D / norms.masked_fill(norms == 0, 1.0)
        return (unit.mT @ unit).abs().fill_diagonal_(0.0).max()


class DictionaryCondition(_OfDictionary):
    """The largest singular value of the dictionary over the smallest."""

    name = "dictionary_condition"
    unit = "ratio"
    formula = "sigma_1(D) / sigma_min(D)"
    tex = r"\frac{\sigma_1(D)}{\sigma_{\min}(D)}"
    misleads = (
        "The smallest singular value decides it, along a direction that no token may ever have. "
        "Infinity stands for a dictionary that lacks a direction, and means of several layers are "
        "then infinite too. It is of weights: no sample counts."
    )
    source = "Golub and Van Loan 2013, section 2.6"
    label = "condition number of $D$"

    def number(self, D: Tensor, layer: LayerTokens) -> Tensor:
        """Infinite for a dictionary that lacks a direction."""
        sigma = singular_values_of(D)
        return sigma[-1] / sigma[0]
