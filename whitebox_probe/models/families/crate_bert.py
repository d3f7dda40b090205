"""CRATE-BERT, a bidirectional text encoder: the network, its sites, its files."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from whitebox_probe.models.anatomy import Tap
from whitebox_probe.models.families._one_projection import (
    ONE_PROJECTION,
    OneProjectionAnatomy,
    Parts,
)
from whitebox_probe.models.families._steps import (
    ISTA,
    PUBLISHED_STEP,
    SubspaceAttention,
    expect_ids,
    head_width,
)
from whitebox_probe.models.family import NetworkFamily, Recognised
from whitebox_probe.models.keys.counts import numbered
from whitebox_probe.models.keys.twice import Renamed

_LAYERS = "crate.encoder.layer"
_TABLES = ("word", "position", "token_type")
_AFTER_THE_LAYERS = ("crate.pooler.", "lm_head.", "classifier.", "qa_outputs.")
_BUFFERS = ("crate.embeddings.position_ids", "crate.embeddings.token_type_ids")


class Embeddings(nn.Module):
    """Words, positions and token types, summed and normalised.

    As in RoBERTa, positions count from `pad` + 1 and padding stays at `pad`.
    """

    def __init__(self, vocabulary: int, positions: int, types: int, dim: int, pad: int) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(vocabulary, dim, padding_idx=pad)
        self.position_embeddings = nn.Embedding(positions, dim, padding_idx=pad)
        self.token_type_embeddings = nn.Embedding(types, dim)
        self.LayerNorm = nn.LayerNorm(dim, eps=1e-12)
        self.pad = pad

    def forward(self, ids: Tensor) -> Tensor:
        expect_ids(
            ids,
            vocabulary=self.word_embeddings.num_embeddings,
            length=self.position_embeddings.num_embeddings - self.pad - 1,
        )
        real = (ids != self.pad).long()  # (B, n)
        positions = real.cumsum(dim=1) * real + self.pad
        x = self.word_embeddings(ids) + self.position_embeddings(positions)
        return self.LayerNorm(x + self.token_type_embeddings.weight[0])


class SelfAttention(SubspaceAttention):
    """Normalisation, and MSSA without its output map."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__(heads, head_width(dim, heads))
        self.prenorm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.attend(self.qkv(self.prenorm(x)))


class SelfOutput(nn.Module):
    """MSSA's output map, without a bias, and the skip connection."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dense = nn.Linear(dim, dim, bias=False)

    def forward(self, heads: Tensor, x: Tensor) -> Tensor:
        return self.dense(heads) + x


class Attention(nn.Module):
    """The attention step with its skip connection."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.self = SelfAttention(dim, heads)
        self.output = SelfOutput(dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.self(x), x)


class NormedISTA(ISTA):
    """A proximal step behind its own normalisation, without a skip connection."""

    def __init__(self, dim: int, step_size: float, lam: float) -> None:
        super().__init__(dim, step_size, lam)
        self.prenorm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.prenorm(x))


class Layer(nn.Module):
    """MSSA with its skip connection, then ISTA."""

    def __init__(self, dim: int, heads: int, eta: float, lam: float) -> None:
        super().__init__()
        self.attention = Attention(dim, heads)
        self.output = NormedISTA(dim, eta, lam)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.attention(x))


class CrateBert(nn.Module):
    """White-box bidirectional encoder of text.

    Shapes: ids (B, n) -> tokens of the last layer (B, n, d). The pooler and the task heads, which
    stand after the last layer, are not built.
    Args:
        pad: the padding token's id. As in the original without a mask, padding is attended to.
        eta: step size of the ISTA step. lam: its sparsity weight. Neither is a tensor in a file.
    Raises: DataError for ids outside the vocabulary, or more of them than positions.
    References: Yu et al. 2023, arXiv:2311.13110; huggingface/transformers pull request 27759.
    """

    def __init__(
        self,
        *,
        vocabulary: int = 50265,
        positions: int = 512,
        types: int = 2,
        pad: int = 1,
        dim: int,
        depth: int,
        heads: int,
        eta: float = 0.1,
        lam: float = 0.1,
    ) -> None:
        super().__init__()
        layers = nn.ModuleList([Layer(dim, heads, eta, lam) for _ in range(depth)])
        self.crate = nn.ModuleDict(
            {
                "embeddings": Embeddings(vocabulary, positions, types, dim, pad),
                "encoder": nn.ModuleDict({"layer": layers}),
            }
        )

    def forward(self, ids: Tensor) -> Tensor:
        parts: Any = self.crate
        x: Tensor = parts.embeddings(ids)
        for layer in parts.encoder.layer:
            x = layer(x)
        return x


class CrateBertAnatomy(OneProjectionAnatomy):
    """MSSA, then ISTA; the skip connection is inside the original's `attention.output`."""

    absent = {
        "mlp_hidden": "an ISTA block has no hidden activation",
        "code": "a square ISTA block's code is the stream itself, recorded as 'z_out'",
    } | ONE_PROJECTION

    def count(self, module: nn.Module) -> int:
        """The encoder's layers."""
        return len(module.get_submodule(_LAYERS))  # type: ignore[arg-type]

    def parts(self, module: nn.Module, number: int) -> Parts:
        """Where the pull request has them."""
        path = f"{_LAYERS}.{number - 1}"
        attention = f"{path}.attention.self"
        taps = {
            "z_in": Tap(path, "input"),
            "attn_in": Tap(f"{attention}.prenorm", "output"),
            "attn_out": Tap(f"{path}.attention.output.dense", "output"),
            "z_half": Tap(f"{path}.output", "input"),
            "mlp_in": Tap(f"{path}.output.prenorm", "output"),
            "z_out": Tap(path, "output"),
        }
        return Parts(attention, f"{attention}.prenorm", taps, step=f"{path}.output")

    def prefix_tokens(self, module: nn.Module) -> int:
        """The start token `<s>`, in a window that the tokenizer has framed."""
        return 1


class CrateBertFamily(NetworkFamily):
    """CRATE-BERT (arXiv:2311.13110) in the format of transformers pull request 27759.

    Input is token ids (B, n), without a padding mask: give windows without padding. The format is
    that of the pull request's code, which was never merged; no released file was seen.
    """

    name = "crate_bert"
    network = CrateBert
    reads = CrateBertAnatomy
    example = ({"vocabulary": 23, "positions": 12, "dim": 16, "depth": 2, "heads": 2},)
    tested = (
        "outputs and sites against the pull request's equations; a file in its format, with and "
        "without a task's head. The request was never merged; the repository that it names, and "
        "the name of a file in it, could not be seen"
    )
    assumed_from = "the pull request has them as defaults"
    fingerprints = tuple(
        {f"{prefix}encoder.layer.0.attention.self.qkv.weight": 2}
        | {f"{prefix}embeddings.{kind}_embeddings.weight": 2 for kind in _TABLES}
        for prefix in ("crate.", "")
    )

    def assumed(self, arch: Mapping[str, Any]) -> dict[str, Any]:
        """The step of the other models, and the padding id that positions are counted from."""
        return PUBLISHED_STEP | {"pad": 1}

    def recognise(self, shapes: Mapping[str, tuple[int, ...]]) -> Recognised | None:
        """One `qkv` under BERT's names; the base model's file has no `crate.` before its keys."""
        if not self.marked(shapes):
            return None
        named = {_full(key): shape for key, shape in shapes.items()}
        qkv = named[f"{_LAYERS}.0.attention.self.qkv.weight"]
        words, positions, types = (
            named[f"crate.embeddings.{kind}_embeddings.weight"][0] for kind in _TABLES
        )
        arch = {
            "vocabulary": words,
            "positions": positions,
            "types": types,
            "dim": qkv[1],
            "depth": numbered(named, f"{_LAYERS}."),
        }
        return Recognised(arch, inner=qkv[0])

    def head_arguments(self, heads: int, inner: int) -> dict[str, Any]:
        """The heads share the model's width."""
        return {"heads": heads}

    def convert(
        self, weights: dict[str, Tensor], module: nn.Module, *, source: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Leave out what stands after the last layer, and buffers that older files hold."""
        named = Renamed()
        for key, tensor in weights.items():
            named.put(_full(key), key, tensor)
        return {
            key: tensor
            for key, tensor in named.items()
            if not key.startswith(_AFTER_THE_LAYERS) and key not in _BUFFERS
        }


def _full(key: str) -> str:
    """The key as a model with a task head names it."""
    return f"crate.{key}" if key.startswith(("embeddings.", "encoder.", "pooler.")) else key
