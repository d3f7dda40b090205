"""What families with separate queries, keys and values share: their bases, their wording."""

from collections.abc import Iterable

from torch import Tensor, nn

from whitebox_probe.models.anatomy import Anatomy

QKV = tuple(enumerate("qkv"))
"""The three projections, in the order in which a fused one holds them."""


class QkvAnatomy(Anatomy):
    """Softmax attention whose queries, keys and values are three projections, fused or not."""

    default_basis = "qkv:k"
    absent = {"heads": "queries, keys and values differ; record 'heads_q', 'heads_k' or 'heads_v'"}

    def bases(self, module: nn.Module) -> tuple[str, ...]:
        """The three projections; there are no native subspaces."""
        return ("qkv:k", "qkv:q", "qkv:v")

    def official_site(self, basis: str) -> str:
        """The projection's own output, its bias included: what the release's hook would see."""
        return f"heads_{basis[-1]}"


def biased(biases: Iterable[Tensor | None]) -> dict[str, str]:
    """Why `heads_q`, `heads_k` or `heads_v` are not `attn_in` under U, where one has a bias."""
    why = "a projection has a bias, which U leaves out"
    return {} if all(bias is None for bias in biases) else {"heads_without_bias": why}
