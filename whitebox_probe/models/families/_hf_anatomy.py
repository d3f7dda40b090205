"""How models of transformers are read: the sites, the bases and the sizes of their blocks."""

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from whitebox_probe.models.anatomy import Dims, Layer, Tap
from whitebox_probe.models.families._hf_attention import Weights
from whitebox_probe.models.families._hf_blocks import Blocks, checked, find
from whitebox_probe.models.families._hf_inputs import Pictures, pictures_of, sample, takes_pictures
from whitebox_probe.models.families._qkv import QkvAnatomy, biased
from whitebox_probe.models.preprocess import Preprocess

_WRITTEN_OUT = (None, "eager", "sdpa")
_NO_HALF = (
    "attention and MLP both start from z_in in its blocks, so no tokens stand between them; "
    "record 'z_in' or 'z_out'"
)
_NO_HIDDEN = "each token passes experts of its own there, and no activation is made of all tokens"


class HfAnatomy(QkvAnatomy):
    """Blocks of the kinds in a table; names and numbers are both checked.

    A block with other parts, or whose updates are not simply added, is refused. `heads_q`,
    `heads_k` and `heads_v` are the linear projections, before any query-key norm or rotation; with
    grouped queries there are fewer key and value heads than K.

    Most are pre-norm: x + attn(norm(x)), then x + mlp(norm(x)); `attn_out` is the update as it is
    added, behind a scale or a second norm where there is one (DINOv2, Gemma 2, OLMo 2). **BERT is
    post-norm**: norm(x + attn(x)), then norm(x + mlp(x)). There `attn_in` is `z_in`, `z_half` and
    `z_out` are the tokens after the norm, `mlp_in` is `z_half`, `attn_out` is still the update
    alone, and no normalisation stands in front of the attention. **GPT-NeoX, Phi, Falcon, GPT-J and
    Cohere are parallel**: x + attn(norm(x)) + mlp(norm(x)), and have no `z_half`.

    `attn_weights` are those of the model's own code, rotations, masks and windows included.
    """

    absent = QkvAnatomy.absent | {
        "code": "its MLP is no dictionary step; record 'mlp_hidden'",
    }

    def dims(self, module: nn.Module) -> Dims:
        """Read the sizes from the blocks; a window may have any length.

        Raises: SiteError that names the part of the block that is not understood.
        """
        blocks = checked(module)
        own = blocks.attention
        return Dims(
            layers=blocks.count,
            dim=own.dim,
            heads=own.heads,
            dim_head=own.dim_head,
            tokens=None,
        )

    def layer(self, module: nn.Module, number: int) -> Layer:
        """A block, read at modules that every attention implementation calls."""
        blocks = find(module)
        at, pattern, own = partial(blocks.at, number), blocks.pattern, blocks.attention
        block = module.get_submodule(at(""))
        norm, after = None, None
        if pattern.norm1:
            norm = block.get_submodule(pattern.norm1)
        if pattern.after is not None:
            first, second = map(block.get_submodule, pattern.after)
            after = (first, second)
        taps, absent = _taps(block, blocks, number)
        attention = block.get_submodule(own.path)
        kept = getattr(getattr(attention, "config", module.config), "_attn_implementation", None)
        if kept in _WRITTEN_OUT:
            taps["attn_weights"] = Weights(at(own.path), attention, causal=blocks.causal)
        else:
            absent["attn_weights"] = (
                f"'{kept}' attention never forms them; load it with attn_implementation='eager'"
            )
        path, side = own.context
        return Layer(
            number,
            taps,
            norm=norm,
            bases=partial(_subspaces, block, blocks),
            exempt=_exempt(block, blocks),
            second=Tap(
                at(pattern.second or pattern.mlp),
                "output",
                _scaled(block, blocks, 1),
                like=_like(blocks, at),
            ),
            context=Tap(at(path), side),
            after=after,
            causal=blocks.causal,
            absent=absent,
        )

    def trial(self, module: nn.Module) -> Callable[[], object]:
        """A few token ids, or one picture."""
        return sample(module)

    def prefix_tokens(self, module: nn.Module) -> int:
        """Class token and registers of a picture; none of a causal model's window.

        The start token ([CLS]) of a framed window, for encoders of text.
        """
        pictures = pictures_of(module)
        if pictures is not None:
            return pictures.prefix
        return 0 if find(module).causal else 1

    def class_index(self, module: nn.Module) -> int | None:
        """The first token, where the model has a class token."""
        pictures = pictures_of(module)
        if pictures is not None:
            return 0 if pictures.has_class else None
        return super().class_index(module)

    def grid(self, module: nn.Module, inputs: Tensor) -> tuple[int, int] | None:
        """As the patch embedding cuts a picture; None for text."""
        pictures = pictures_of(module)
        return None if pictures is None else pictures.grid(inputs)

    def takes_ids(self, module: nn.Module) -> bool:
        """Token ids, or pictures."""
        return not takes_pictures(module)

    def preprocess(self, module: nn.Module) -> Preprocess | None:
        """What the image processor's file beside the model's configuration states."""
        pictures: Pictures | None = pictures_of(module)
        return None if pictures is None else pictures.preprocess(module)


def _like(blocks: Blocks, at: Callable[[str], str]) -> str:
    """The module that is given tokens as (B, n, d) where an MLP in the block itself is not."""
    return at(blocks.attention.path) if blocks.pattern.mlp == "fc1" else ""


def _scaled(block: nn.Module, blocks: Blocks, step: int) -> Callable[[Tensor], Tensor] | None:
    """What the update of the first or second step (0 or 1) is multiplied by, where it is."""
    scale = blocks.pattern.scale
    if scale is None:
        return None
    return lambda update: update * getattr(block, scale[step])


def _taps(block: nn.Module, blocks: Blocks, number: int) -> tuple[dict[str, Tap], dict[str, str]]:
    """The sites of a block's stream and heads, and why others are not there."""
    at, pattern = partial(blocks.at, number), blocks.pattern
    own, like = blocks.attention, _like(blocks, partial(blocks.at, number))
    taps = {
        "z_in": Tap(at(""), "input"),
        "attn_in": Tap(at(pattern.norm1), "output")
        if pattern.norm1
        else Tap(at(own.path), "input"),
        **own.taps(at),
        "attn_out": Tap(at(pattern.update or own.out), "output", _scaled(block, blocks, 0)),
        "z_out": Tap(at(""), "output"),
    }
    absent: dict[str, str] = {}
    if pattern.half is None:
        absent["z_half"] = _NO_HALF
    else:
        taps["z_half"] = Tap(at(pattern.half[0]), pattern.half[1], like=like)
    if pattern.norm2:
        taps["mlp_in"] = Tap(at(pattern.norm2), "output", like=like)
    else:
        taps["mlp_in"] = taps["z_half"]
    down = blocks.down[number - 1]
    if down is None or None in blocks.down:
        absent["mlp_hidden"] = _NO_HIDDEN
    else:
        taps["mlp_hidden"] = Tap(at(down), "input", like=like)
    return taps, absent


def _subspaces(block: nn.Module, blocks: Blocks, basis: str) -> Tensor:
    """U (K, d, p): rows k*p to (k+1)*p of the named projection's weight, as (out, in)."""
    weight, _ = blocks.attention.parameters(block, "qkv".index(basis[-1]))
    return weight.unflatten(0, (-1, blocks.attention.dim_head)).mT  # (K, d, p)


def _exempt(block: nn.Module, blocks: Blocks) -> dict[str, str]:
    """What does not hold in a block, by its pattern, and why."""
    own = blocks.attention
    linears = map(block.get_submodule, own.projections)
    found = biased(getattr(linear, "bias", None) for linear in linears)
    if blocks.pattern.after:
        found["attention_adds"] = "the block is post-norm: z_half is z_in + attn_out, normalised"
    if own.groups != own.heads:
        found["heads_for_each"] = "groups of heads share one head of keys and of values"
    return found
