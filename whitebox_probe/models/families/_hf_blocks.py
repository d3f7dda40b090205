"""Where the parts of a transformers block are, for the block patterns that are understood.

A block is taken only if its parts are exactly those of a pattern. Names alone would let through a
block that scales its residual, or rotates its queries: what it computes is verified
(`models/verify.py`).
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from whitebox_probe._core.errors import SiteError
from whitebox_probe.models.weights import shape_of


@dataclass(frozen=True)
class Pattern:
    """Paths inside a block, and how its attention projects.

    Attributes:
        parts: the children that a block of this pattern has, no more and no fewer.
        attention: the module whose projections these are; `projections` its q, k and v, or the one
            that holds all three. update: whose output is added to the stream.
        norm1, norm2: the norm in front of the attention and of the MLP, where they are pre-norm.
        down: the MLP's last linear map. second: whose output the second step adds. after: in
            post-norm blocks, the attention with its norm.
        context: where the attention's mean of values passes, if queries are not rotated.
    """

    parts: frozenset[str]
    attention: str
    projections: tuple[str, ...]
    update: str
    down: str
    norm1: str = ""
    norm2: str = ""
    after: str = ""
    second: str = "mlp"
    context: tuple[str, Literal["input", "output"]] | None = None
    positions: Literal["added", "rotated"] = "added"


AFTER = ("attention.output.LayerNorm", "output.LayerNorm")
"""The norms behind the two sums of a post-norm block."""
PATTERNS = {
    "GPT-2": Pattern(
        parts=frozenset({"ln_1", "attn", "ln_2", "mlp"}),
        attention="attn",
        projections=("attn.c_attn",),
        update="attn",
        down="mlp.c_proj",
        norm1="ln_1",
        norm2="ln_2",
        context=("attn.c_proj", "input"),
    ),
    "BERT": Pattern(
        parts=frozenset({"attention", "intermediate", "output"}),
        attention="attention.self",
        projections=("attention.self.query", "attention.self.key", "attention.self.value"),
        update="attention.output.dropout",
        down="output.dense",
        after="attention",
        second="output.dropout",
        context=("attention.self", "output"),
    ),
    "Llama": Pattern(
        parts=frozenset({"input_layernorm", "self_attn", "post_attention_layernorm", "mlp"}),
        attention="self_attn",
        projections=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        update="self_attn",
        down="mlp.down_proj",
        norm1="input_layernorm",
        norm2="post_attention_layernorm",
        positions="rotated",
    ),
}


@dataclass(frozen=True)
class Blocks:
    """The blocks of a module: their path and number, their pattern, and their attention's sizes."""

    path: str
    count: int
    pattern: Pattern
    dim: int
    heads: int
    dim_head: int
    causal: bool

    def at(self, layer: int, part: str) -> str:
        """The path of a part of a layer (from 1); of the layer itself when `part` is empty."""
        return f"{self.path}.{layer - 1}" + (f".{part}" if part else "")


def find(module: nn.Module) -> Blocks:
    """Read the blocks of a transformers model.

    Raises: SiteError that names the part that is not understood.
    """
    title = type(module).__name__
    config: Any = module.config
    if getattr(config, "is_encoder_decoder", False):
        raise _not_understood(title, "an encoder and a decoder in one model")
    if getattr(config, "chunk_size_feed_forward", 0):
        raise _not_understood(title, "an MLP that is run in chunks (chunk_size_feed_forward)")
    if getattr(config, "position_embedding_type", None) not in (None, "absolute"):
        raise _not_understood(title, f"positions of type '{config.position_embedding_type}'")
    for name in ("num_hidden_layers", "num_attention_heads", "hidden_size"):
        if not isinstance(getattr(config, name, None), int):
            raise _not_understood(title, f"no {name} in their configuration")
    path, blocks = _stack(module, config.num_hidden_layers)
    block: Any = blocks[0]
    pattern = _pattern(block)
    attention: Any = block.get_submodule(pattern.attention)
    heads = int(config.num_attention_heads)
    dim = int(config.hidden_size)
    dim_head = int(getattr(attention, "head_dim", None) or dim // heads)
    causal = bool(getattr(attention, "is_causal", False) or getattr(config, "is_decoder", False))
    _check_widths(block, pattern, dim, heads, dim_head)
    return Blocks(path, len(blocks), pattern, dim, heads, dim_head, causal)


def check_blocks(module: nn.Module, blocks: Blocks) -> None:
    """Every block is of the first one's pattern and widths.

    Raises: SiteError naming the layer and the part that is another.
    """
    for number in range(1, blocks.count + 1):
        block = module.get_submodule(blocks.at(number, ""))
        try:
            pattern = _pattern(block)
            _check_widths(block, pattern, blocks.dim, blocks.heads, blocks.dim_head)
        except SiteError as error:
            raise SiteError(f"layer {number}: {error.what}", error.why, error.fix) from error
        if pattern != blocks.pattern:
            raise _not_understood(type(module).__name__, f"another kind of block in layer {number}")


def _not_understood(title: str, what: str) -> SiteError:
    return SiteError(
        f"the blocks of {title} are not understood",
        f"they have {what}",
        "Use a model whose blocks are those of " + " or ".join(PATTERNS),
    )


def _stack(module: nn.Module, count: int) -> tuple[str, nn.ModuleList]:
    """The list of blocks: the first one of the configured length."""
    for name, thing in module.named_modules():
        if isinstance(thing, nn.ModuleList) and len(thing) == count:
            return name, thing
    raise _not_understood(type(module).__name__, f"no list of {count} layers")


def _pattern(block: nn.Module) -> Pattern:
    parts = {name for name, part in block.named_children() if not isinstance(part, nn.Dropout)}
    title = type(block).__name__
    for pattern in PATTERNS.values():
        if parts != pattern.parts:
            continue
        norms = AFTER if pattern.after else ()
        for path in (*pattern.projections, pattern.update, pattern.down, *norms):
            if not _has(block, path):
                above, _, name = path.rpartition(".")
                while not _has(block, above):
                    above, _, name = above.rpartition(".")
                here = [child for child, _ in block.get_submodule(above).named_children()]
                raise SiteError(
                    f"the {repr(above) if above else 'block'} of {title} is not understood",
                    f"it has no '{name}', only {', '.join(here)}",
                    "Use a model whose blocks are those of " + " or ".join(PATTERNS),
                )
        return pattern
    nearby = min(PATTERNS, key=lambda name: len(PATTERNS[name].parts ^ parts))
    wanted = PATTERNS[nearby].parts
    told = [f"without '{name}'" for name in sorted(wanted - parts)]
    told += [f"with '{name}'" for name in sorted(parts - wanted)]
    raise _not_understood(title, f"the parts of a {nearby} block {', '.join(told)}")


def _has(block: nn.Module, path: str) -> bool:
    try:
        block.get_submodule(path)
    except AttributeError:
        return False
    return True


def _check_widths(block: nn.Module, pattern: Pattern, dim: int, heads: int, dim_head: int) -> None:
    """Each projection is one linear map from d to whole heads."""
    for path in pattern.projections:
        linear: Any = block.get_submodule(path)
        rows, columns = shape_of(linear)
        fused = 3 if len(pattern.projections) == 1 else 1
        fits = rows == fused * heads * dim_head if fused == 3 else rows % dim_head == 0
        if columns != dim or not fits:
            raise SiteError(
                f"'{path}' of {type(block).__name__} is not understood",
                f"it maps {columns} to {rows}, with {heads} heads of {dim_head} in a width of "
                f"{dim}",
                "Use a model whose heads each project the whole stream",
            )


def sample(module: nn.Module) -> Tensor:
    """A few token ids, (1, 4), from the middle of the vocabulary: special ones are at its ends."""
    embedding: Any = module.get_input_embeddings()  # type: ignore[operator]
    count: int = embedding.num_embeddings
    return (torch.arange(4, device=embedding.weight.device)[None] + count // 2) % count
