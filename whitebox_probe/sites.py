"""The named places in a layer where features are recorded, the same for every family.

Layers count from 1. Z^l enters layer l, Z^(l+1/2) follows attention with its skip connection, and
Z^(l+1) leaves the layer.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Site:
    """A named place in a layer: the shape of its tensor, and what it holds.

    `role` is "residual" for the stream between the layer's steps, "map" for what is made of tokens
    and is none (attention, memberships), "code" for a sparse code, and "" for all else.
    """

    name: str
    shape: str
    meaning: str
    per_head: bool = False
    role: str = ""

    @property
    def residual(self) -> bool:
        """Whether it is a place of the residual stream, which the attention norm is applied to."""
        return self.role == "residual"

    @property
    def token_axis(self) -> int:
        """Which dimension of the tensor counts the tokens n."""
        return self.shape.strip("()").split(", ").index("n")


_ALL = (
    Site("z_in", "(B, n, d)", "Z^l, the tokens that enter layer l", role="residual"),
    Site("attn_in", "(B, n, d)", "the tokens after the attention's normalisation"),
    Site("heads", "(B, K, n, p)", "the tokens in each head's subspace", per_head=True),
    Site("heads_q", "(B, K, n, p)", "the tokens under each head's query projection", per_head=True),
    Site("heads_k", "(B, K, n, p)", "the tokens under each head's key projection", per_head=True),
    Site("heads_v", "(B, K, n, p)", "the tokens under each head's value projection", per_head=True),
    Site(
        "attn_weights",
        "(B, K, n, n)",
        "softmax attention, each row over the keys",
        per_head=True,
        role="map",
    ),
    Site(
        "memberships",
        "(B, K, n)",
        "how the heads share each token, 1 over heads",
        per_head=True,
        role="map",
    ),
    Site("attn_out", "(B, n, d)", "the attention's update, before the skip connection"),
    Site(
        "z_half",
        "(B, n, d)",
        "Z^(l+1/2), the tokens after attention and its skip connection",
        role="residual",
    ),
    Site("mlp_in", "(B, n, d)", "the tokens after the second normalisation"),
    Site("mlp_hidden", "(B, n, h)", "the activation inside the MLP, where there is one"),
    Site(
        "code", "(B, n, h)", "the sparse code inside an overcomplete dictionary step", role="code"
    ),
    Site(
        "z_out",
        "(B, n, d)",
        "Z^(l+1), the tokens that leave layer l (a CRATE's ISTA output)",
        role="residual",
    ),
)

SITES: dict[str, Site] = {site.name: site for site in _ALL}


def is_residual(name: str) -> bool:
    """Whether a name is that of a place of the residual stream."""
    return name in SITES and SITES[name].residual
