"""GPT-2 as nanoGPT has it, and the baselines beside CRATE-LM: the network, its sites, its files."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from whitebox_probe._core.errors import SiteError
from whitebox_probe.models.anatomy import Dims, Layer, Tap
from whitebox_probe.models.families._gpt import GPT
from whitebox_probe.models.families._qkv import QKV, QkvAnatomy, biased
from whitebox_probe.models.families._steps import attention_weights, head_width
from whitebox_probe.models.family import NetworkFamily, Recognised
from whitebox_probe.models.keys.gpt import frame, marks, stated, tied
from whitebox_probe.models.paths import found_at
from whitebox_probe.models.weights import affine, shape_of, tokens

_ACTS: dict[str, type[nn.Module]] = {"gelu": nn.GELU, "relu": nn.ReLU}


def split(heads: int, which: int, fused: Tensor) -> Tensor:
    """Queries, keys or values (0, 1, 2) of a fused projection: (B, n, 3*d) -> (B, K, n, p)."""
    third = fused.chunk(3, dim=-1)[which]
    return third.unflatten(-1, (heads, third.shape[-1] // heads)).transpose(1, 2)


def weights(heads: int, fused: Tensor) -> Tensor:
    """The softmax that fused attention never forms: (B, n, 3*d) -> (B, K, n, n)."""
    return attention_weights(split(heads, 0, fused), split(heads, 1, fused), causal=True)


class Attention(nn.Module):
    """Softmax attention over a token and those before it, of one fused projection.

    Shapes: X (B, n, d) -> (B, n, d).
    """

    def __init__(self, dim: int, heads: int, *, bias: bool) -> None:
        super().__init__()
        self.heads, self.dim_head = heads, head_width(dim, heads)
        self.c_attn = nn.Linear(dim, 3 * dim, bias=bias)
        self.c_proj = nn.Linear(dim, dim, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        fused = self.c_attn(x)
        q, k, v = (split(self.heads, which, fused) for which in range(3))
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)  # (B, K, n, p)
        return self.c_proj(out.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """One hidden layer, four times as wide in every published model."""

    def __init__(self, dim: int, hidden: int, act: str, *, bias: bool) -> None:
        super().__init__()
        self.c_fc = nn.Linear(dim, hidden, bias=bias)
        self.act = _ACTS[act]()
        self.c_proj = nn.Linear(hidden, dim, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(self.act(self.c_fc(x)))


class Block(nn.Module):
    """Attention, then the MLP, each behind a norm and with a skip connection."""

    def __init__(self, dim: int, heads: int, hidden: int, act: str, *, bias: bool) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(dim, bias=bias)
        self.attn = Attention(dim, heads, bias=bias)
        self.ln_2 = nn.LayerNorm(dim, bias=bias)
        self.mlp = MLP(dim, hidden, act, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class NanoGPT(GPT):
    """Causal language model.

    Shapes: ids (B, n) -> logits of the last token (B, 1, vocabulary).
    Args:
        hidden: width of the MLP's hidden layer, 4 d if not given.
        act: `gelu`, in its exact form, as nanoGPT has it; `relu` as the baselines of CRATE-LM.
        bias: of linear maps and norms alike.
    Raises: DataError for ids outside the vocabulary, or more of them than `block_size`.
    """

    def __init__(
        self,
        *,
        vocabulary: int = 50304,
        block_size: int = 1024,
        dim: int,
        depth: int,
        heads: int,
        hidden: int | None = None,
        act: Literal["gelu", "relu"] = "gelu",
        bias: bool = True,
    ) -> None:
        if act not in _ACTS:
            raise ValueError(f"act is '{act}', and not {' or '.join(_ACTS)}")
        super().__init__(
            vocabulary=vocabulary,
            block_size=block_size,
            dim=dim,
            depth=depth,
            block=lambda: Block(dim, heads, hidden or 4 * dim, act, bias=bias),
            norm=nn.LayerNorm(dim, bias=bias),
        )


class NanoGptAnatomy(QkvAnatomy):
    """Pre-norm blocks; the heads' tokens are thirds of the fused projection's output.

    A model of nanoGPT's own code is read likewise, and tried: its blocks bear the same names.
    """

    def dims(self, module: Any) -> Dims:
        """Read the sizes from the first block's attention; a window may have any length."""
        first = module.transformer.h[0].attn
        width, heads = first.c_proj.out_features, _heads(first)
        return Dims(len(module.transformer.h), width, heads, head_width(width, heads), None)

    def layer(self, module: nn.Module, number: int) -> Layer:
        """A block; U_k^T is rows k*p to (k+1)*p of a third of the fused weight."""
        path = f"transformer.h.{number - 1}"
        block: Any = module.get_submodule(path)
        fused, count = f"{path}.attn.c_attn", _heads(block.attn)
        heads = {
            f"heads_{third}": Tap(fused, "output", partial(split, count, which))
            for which, third in QKV
        }
        taps = {
            "z_in": Tap(path, "input"),
            "attn_in": Tap(f"{path}.ln_1", "output"),
            **heads,
            "attn_weights": Tap(fused, "output", partial(weights, count)),
            "attn_out": Tap(f"{path}.attn", "output"),
            "z_half": Tap(f"{path}.ln_2", "input"),
            "mlp_in": Tap(f"{path}.ln_2", "output"),
            "mlp_hidden": Tap(f"{path}.mlp.c_proj", "input"),
            "z_out": Tap(path, "output"),
        }

        def subspaces(basis: str) -> Tensor:
            weight, _ = affine(block.attn.c_attn)
            third = weight.chunk(3)["qkv".index(basis[-1])]
            return third.unflatten(0, (count, -1)).mT  # (K, d, p)

        return Layer(
            number,
            taps,
            block.ln_1,
            subspaces,
            exempt=biased([affine(block.attn.c_attn)[1]]),
            second=Tap(f"{path}.mlp", "output"),
            context=Tap(f"{path}.attn.c_proj", "input"),
            causal=True,
        )

    def prefix_tokens(self, module: nn.Module) -> int:
        """None: a window starts with text."""
        return 0

    def trial(self, module: nn.Module) -> Callable[[], object] | None:
        """The blocks of nanoGPT's own code are run: they are not of this package."""
        return None if isinstance(module, NanoGPT) else partial(_run, module)


def _run(module: Any) -> None:
    x = tokens(module, module.transformer.wte.embedding_dim, 5)
    for block in module.transformer.h:
        x = block(x)


def _heads(attention: Any) -> int:
    """K; nanoGPT's own code calls it `n_head`."""
    return int(attention.heads if isinstance(attention, Attention) else attention.n_head)


def _is_block(block: Any) -> bool:
    """Whether a block has the parts of nanoGPT's, with a fused projection of 3d rows."""
    paths = ("ln_1", "ln_2", "attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    if not all(isinstance(found_at(block, path), nn.Module) for path in paths):
        return False
    if not isinstance(getattr(block.attn, "n_head", None), int):
        return False
    try:
        rows, columns = shape_of(block.attn.c_attn)
    except SiteError:
        return False
    return rows == 3 * columns


class NanoGptFamily(NetworkFamily):
    """GPT-2 in nanoGPT's files, as the baselines of CRATE-LM and ToST; input is token ids (B, n).

    References: Radford et al. 2019; Bai and Ma 2024, arXiv:2410.16443.
    """

    name = "nanogpt"
    network = NanoGPT
    reads = NanoGptAnatomy
    example = tuple(
        {"vocabulary": 23, "block_size": 8, "dim": 16, "depth": 2, "heads": 2, **kind}
        for kind in ({"act": "gelu"}, {"act": "relu", "bias": False})
    )
    tested = (
        "every site and the logits against transformers' GPT-2 with the same weights, in float64; "
        "nanoGPT's file with its arguments, with and without biases; a `GPT` of its own code, "
        "every site and the logits against its file's reading. No released file was seen"
    )
    fingerprints = marks({"ln_1.weight": 1, "attn.c_attn.weight": 2, "mlp.c_fc.weight": 2})

    def matches(self, module: nn.Module) -> bool:
        """One of this package, or a `GPT` of nanoGPT's own code, known by its structure."""
        if isinstance(module, NanoGPT):
            return True
        parts: Any = getattr(module, "transformer", None)
        if not isinstance(parts, nn.ModuleDict) or not {"wte", "wpe", "h"} <= set(parts):
            return False
        blocks: Any = parts["h"]
        return len(blocks) > 0 and all(_is_block(block) for block in blocks)

    def recognise(self, shapes: Mapping[str, tuple[int, ...]]) -> Recognised | None:
        """A fused projection (3d, d): a Linear, where transformers' GPT-2 has it transposed."""
        if not self.marked(shapes):
            return None
        fused, dim = shapes["transformer.h.0.attn.c_attn.weight"]
        hidden, into = shapes["transformer.h.0.mlp.c_fc.weight"]
        if fused != 3 * dim or into != dim:
            return None
        arch = frame(shapes) | {"hidden": hidden, "bias": "transformer.h.0.ln_1.bias" in shapes}
        return Recognised(arch, inner=dim, ask={"act": tuple(_ACTS)})

    def stated(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Layers and width of nanoGPT's `model_args`, which a cut file contradicts."""
        return stated(arguments, bias=True)

    def head_arguments(self, heads: int, inner: int) -> dict[str, Any]:
        """The heads share the model's width."""
        return {"heads": heads}

    def convert(
        self, weights: dict[str, Tensor], module: nn.Module, *, source: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """As of every model in nanoGPT's frame.

        Raises: CheckpointError where embedding and head differ: the network ties them.
        """
        return tied(weights, of="nanoGPT model")
