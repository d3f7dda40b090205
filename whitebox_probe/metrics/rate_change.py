"""What the attention step does to R^c."""

from dataclasses import dataclass

from torch import Tensor

from whitebox_probe.metrics import _linalg
from whitebox_probe.metrics.compression import _sum_over_heads
from whitebox_probe.metrics.measure import SampleMeasure
from whitebox_probe.metrics.tokens import LayerTokens, project

__all__ = ["RateChangeNoSkip", "RateChangeSkip"]


@dataclass(frozen=True, kw_only=True)
class _RateChange(SampleMeasure):
    """Change of R^c from the tokens that enter the attention step to others."""

    unit = "nats"
    group = "fidelity"
    heavy = True
    source = "arXiv:2411.17182 (MSSA with its skip connection may raise R^c)"
    cost = "twice compression"
    site = {"paper": "z_in"}
    needs_basis = True
    uses_norm = True
    default = False
    better = "lower"
    invariances = frozenset(
        {"token_order", "repeated_tokens", "head_order", "rotation_in_subspace"}
    )
    after = "z_half"

    eps: float = 0.1

    def inputs(self, site: str) -> tuple[str, ...]:
        """Before and after."""
        return (site, self.after)

    def measure(self, layer: LayerTokens, site: str) -> Tensor:
        """After minus before, both after the attention norm where rates are."""
        before = _exact(layer, site, self.eps)
        if self.after != "attn_out" or layer.norm is None:
            return _exact(layer, self.after, self.eps) - before
        after = layer.norm(layer.at(self.after))  # which is no place of the residual stream
        return _compression(after, layer.basis(), self.eps) - before


def _compression(Z: Tensor, U: Tensor, eps: float) -> Tensor:
    V = project(_linalg.upcast(Z), _linalg.upcast(U))
    return _sum_over_heads(V, _linalg.gram(V), eps=eps)


def _exact(layer: LayerTokens, site: str, eps: float) -> Tensor:
    """R^c of a site's normed tokens, projected in float64; shared between measures and eps."""
    Z, U = layer.normed(site), layer.basis()
    V = layer.once("exact heads", site, lambda: project(_linalg.upcast(Z), _linalg.upcast(U)))
    G = layer.once("exact head gram", site, lambda: _linalg.gram(V))
    n, p = V.shape[-2:]
    return layer.half_logdet("exact", site, V, G, p / (n * eps**2)).sum(dim=-1)


class RateChangeSkip(_RateChange):
    """Change of R^c across the attention step with its skip connection: Z^l to Z^(l+1/2)."""

    name = "attention_rate_change"
    formula = "R^c(Z^(l+1/2); U) - R^c(Z^l; U)"
    label = r"$R^c(Z^{\ell+1/2}) - R^c(Z^{\ell})$"


class RateChangeNoSkip(_RateChange):
    """Change of R^c from the tokens to the attention's output alone, without the skip."""

    name = "attention_rate_change_no_skip"
    formula = "R^c(attn_out; U) - R^c(Z^l; U)"
    label = r"$R^c(\mathrm{attn\_out}) - R^c(Z^{\ell})$"
    after = "attn_out"
