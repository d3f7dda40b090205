"""How timm's attentions are read: their projections, their heads' tokens, their weights.

Each is known by its class's name and by the parts that it has; what it computes is tried when a
model is made (A V must be its context), so that one that only looks alike is refused.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from whitebox_probe._core.errors import SiteError
from whitebox_probe.models.anatomy import Tap
from whitebox_probe.models.offloaded import fetched
from whitebox_probe.models.weights import affine
from whitebox_probe.models.wrappers import inside, kind_of

GIVEN = ("rope", "attn_mask", "is_causal", "shared_rel_pos_bias", "shared_rel_pos")
"""What an attention is called with beside the tokens, as keywords."""


class Reader:
    """Softmax of queries and keys, from three projections that are fused or not.

    Fused ones (`qkv`) with their bias or with one kept apart (`q_bias`), split ones (`q_proj`);
    query-key norms, rotations, relative positions added to the scores; fewer keys than queries.
    """

    def __init__(self, attention: nn.Module, path: str) -> None:
        self.attention: Any = attention
        self.path = path

    @property
    def heads(self) -> int:
        """K, of the queries."""
        return int(self.attention.num_heads)

    def projection(self, third: str) -> tuple[Tensor, Tensor | None]:
        """Weight (K*p, d) and bias (K*p) of the queries, keys or values ('q', 'k' or 'v')."""
        attention = self.attention
        if attention.qkv is None:
            return affine(getattr(attention, f"{third}_proj"))
        place = "qkv".index(third)
        weight, bias = affine(attention.qkv)
        bias = None if bias is None else bias.chunk(3)[place]
        if self._apart():
            bias = fetched(attention, f"{third}_bias")
        return weight.chunk(3)[place], bias

    def subspaces(self, third: str) -> Tensor:
        """U (K, d, p): rows k*p to (k+1)*p of the projection's weight are U_k^T."""
        weight, _ = self.projection(third)
        return weight.unflatten(0, (self.count(third), -1)).mT

    def count(self, third: str) -> int:
        """How many heads a projection has: keys and values may be fewer."""
        fewer = getattr(self.attention, "num_kv_heads", None)
        return self.heads if third == "q" or fewer is None else int(fewer)

    def taps(self) -> dict[str, Tap]:
        """`heads_q`, `heads_k`, `heads_v` and `attn_weights`.

        The heads' tokens are the projection's own output. Where its module is not called, because
        its bias is kept apart, they are made here of the attention's input.
        """

        def split(third: str, projected: Tensor) -> Tensor:
            return self._split(projected, third)

        if self._apart():
            taps = {f"heads_{t}": Tap(self.path, "input", partial(self._made, t)) for t in "qkv"}
        elif self.attention.qkv is None:
            taps = {
                f"heads_{t}": Tap(f"{self.path}.{t}_proj", "output", partial(split, t))
                for t in "qkv"
            }
        else:
            taps = {
                f"heads_{t}": Tap(f"{self.path}.qkv", "output", partial(self._third, t))
                for t in "qkv"
            }
        return taps | {"attn_weights": Tap(self.path, "input", self._weights, GIVEN)}

    def context(self) -> Tap:
        """What the attention makes of the values: before its norm, its gate, its output map."""
        norm = hasattr(self.attention, "norm")
        return Tap(f"{self.path}.{'norm' if norm else 'proj'}", "input")

    def _apart(self) -> bool:
        """Whether the fused projection's bias is kept apart from it."""
        return getattr(self.attention, "q_bias", None) is not None

    def _split(self, projected: Tensor, third: str) -> Tensor:  # (B, n, K*p) -> (B, K, n, p)
        return projected.unflatten(-1, (self.count(third), -1)).transpose(1, 2)

    def _third(self, third: str, fused: Tensor) -> Tensor:  # (B, n, 3*K*p) -> (B, K, n, p)
        return self._split(fused.chunk(3, dim=-1)["qkv".index(third)], third)

    def _made(self, third: str, x: Tensor) -> Tensor:  # (B, n, d) -> (B, K, n, p)
        attention = self.attention
        if self._apart():
            return self._split(F.linear(x, *self.projection(third)), third)
        if attention.qkv is None:
            return self._split(getattr(attention, f"{third}_proj").forward(x), third)
        return self._third(third, attention.qkv.forward(x))

    def _weights(self, x: Tensor, **given: Any) -> Tensor:  # (B, n, d) -> (B, K, n, n)
        refuse_masks(given)
        q, k = turned(self.attention, self._made("q", x), self._made("k", x), given.get("rope"))
        k = k.repeat_interleave(q.shape[1] // k.shape[1], dim=1)
        scores = q * self.attention.scale @ k.mT
        for bias in biases(self.attention, given):
            scores = scores + bias
        return self._mixed(scores)

    def _mixed(self, scores: Tensor) -> Tensor:
        """The weights that the values are given: (B, K, n, n)."""
        return scores.softmax(dim=-1)


class TalkingHeads(Reader):
    """Heads are mixed before and after the softmax: the weights are what the values are given.

    They may be negative, and their rows need not sum to 1.

    References: Shazeer et al. 2020, arXiv:2003.02436.
    """

    def _mixed(self, scores: Tensor) -> Tensor:
        attention = self.attention
        mixed = attention.proj_l.forward(scores.movedim(1, -1)).softmax(dim=-2)
        return torch.as_tensor(attention.proj_w.forward(mixed)).movedim(-1, 1)


class Differential(Reader):
    """The difference of two softmaxes: a head has both its queries, and both its keys, in one p.

    attn_weights = softmax(Q1 K1^T) - lambda softmax(Q2 K2^T); rows sum to 1 - lambda.

    References: Ye et al. 2024, arXiv:2410.05258.
    """

    def context(self) -> Tap:
        """Before the norm of each head."""
        return Tap(f"{self.path}.sub_norm", "input", side_by_side)

    def _weights(self, x: Tensor, **given: Any) -> Tensor:
        refuse_masks(given)
        return differential(self.attention, self._made("q", x), self._made("k", x))


class Fused(Reader):
    """The attention of a parallel block: one map makes the MLP's hidden part, q, k and v."""

    def projection(self, third: str) -> tuple[Tensor, Tensor | None]:
        """Rows of the block's one map, behind those of the MLP."""
        weight, bias = affine(self.attention.in_proj)
        place = 1 + "qkv".index(third)
        sizes = self.attention.in_split
        return weight.split(sizes)[place], None if bias is None else bias.split(sizes)[place]

    def taps(self) -> dict[str, Tap]:
        """Parts of the one map's output."""
        projected = f"{self.path}.in_proj"
        taps = {f"heads_{t}": Tap(projected, "output", partial(self._part, t)) for t in "qkv"}
        return taps | {"attn_weights": Tap(self.path, "input", self._weights, GIVEN)}

    def context(self) -> Tap:
        """What enters the attention's own output map, or its part of a common one."""
        if self.attention.out_proj is None:
            return Tap(f"{self.path}.attn_out_proj", "input")
        width = self.subspaces("v").shape[1]
        return Tap(f"{self.path}.out_proj", "input", lambda both: both[..., :width])

    def _part(self, third: str, projected: Tensor) -> Tensor:
        parts = projected.split(self.attention.in_split, dim=-1)
        return self._split(parts[1 + "qkv".index(third)], third)

    def _weights(self, x: Tensor, **given: Any) -> Tensor:
        refuse_masks(given)
        block = self.attention
        projected = block.in_proj.forward(block.in_norm.forward(x))
        q, k = self._part("q", projected), self._part("k", projected)
        return self._softmax(q, k)

    def _softmax(self, q: Tensor, k: Tensor) -> Tensor:
        q, k = turned(self.attention, q, k, None)
        return (q * self.attention.scale @ k.mT).softmax(dim=-1)


class FusedDifferential(Fused):
    """The same, with differential attention."""

    def context(self) -> Tap:
        """Before the norm of each head."""
        return Tap(f"{self.path}.sub_norm", "input", side_by_side)

    def _softmax(self, q: Tensor, k: Tensor) -> Tensor:
        return differential(self.attention, q, k)


READERS: dict[str, Callable[[nn.Module, str], Reader]] = {
    "Attention": Reader,
    "AttentionRope": Reader,
    "EvaAttention": Reader,
    "RelPosAttention": Reader,
    "TalkingHeadAttn": TalkingHeads,
    "DiffAttention": Differential,
    "ParallelScalingBlock": Fused,
    "DiffParallelScalingBlock": FusedDifferential,
}


def reader(attention: nn.Module, path: str) -> Reader:
    """How an attention is read.

    Raises: SiteError for one of another kind.
    """
    attention = inside(attention)
    kind = kind_of(attention)
    if kind not in READERS:
        raise SiteError(
            f"attention of type {kind} is not understood",
            f"softmax attention of queries and keys is expected ({', '.join(READERS)})",
            "Use a model with one of these, or map its modules with wrap(module, sites=...)",
        )
    return READERS[kind](attention, path)


def refuse_masks(given: dict[str, Any]) -> None:
    """Masks are not read.

    Raises: SiteError where the attention was called with one.
    """
    if given.get("attn_mask") is not None or given.get("is_causal"):
        raise SiteError(
            "masked attention is not recorded as 'attn_weights'",
            "the model was called with a mask",
            "Call it without one, or leave the site out",
        )


def turned(attention: Any, q: Tensor, k: Tensor, rope: Tensor | None) -> tuple[Tensor, Tensor]:
    """Queries and keys after their norms, and after the rotation that the block was called with.

    Shapes: q, k (B, K, n, p); rope (patches, 2p) or one of each head.
    """
    if hasattr(attention, "q_norm"):
        q, k = attention.q_norm(q), attention.k_norm(k)
    if rope is None:
        return q, k
    from timm.layers import apply_rot_embed_cat

    prefix = attention.num_prefix_tokens
    half = getattr(attention, "rotate_half", False)

    def turn(x: Tensor) -> Tensor:
        patches = apply_rot_embed_cat(x[:, :, prefix:], rope, half=half)
        return torch.cat([x[:, :, :prefix], patches], dim=2).to(x.dtype)

    return turn(q), turn(k)


def biases(attention: Any, given: dict[str, Any]) -> list[Tensor]:
    """What is added to the scores: relative positions of the attention's own, and common ones."""
    found = []
    if getattr(attention, "relative_position_bias_table", None) is not None:
        found.append(attention._get_rel_pos_bias())
    own = getattr(attention, "rel_pos", None)
    if own is not None:
        found.append(own.get_bias())
    common = [given.get("shared_rel_pos_bias")]
    if own is None:
        common.append(given.get("shared_rel_pos"))
    return found + [each for each in common if each is not None]


def differential(attention: Any, q: Tensor, k: Tensor) -> Tensor:
    """The difference of a head's two softmaxes.

    Shapes: q, k (B, K, n, 2h), both of a head side by side -> (B, K, n, n)
    """
    q, k = (x.unflatten(-1, (2, -1)).transpose(2, 3) for x in (q, k))  # (B, K, 2, n, h)
    q, k = attention.q_norm(q), attention.k_norm(k)
    both = (q * attention.scale @ k.mT).softmax(dim=-1)
    return both[:, :, 0] - attention._compute_lambda().to(both) * both[:, :, 1]


def side_by_side(context: Tensor) -> Tensor:  # (B, K, n, p) -> (B, n, K*p)
    return context.transpose(1, 2).flatten(2)
