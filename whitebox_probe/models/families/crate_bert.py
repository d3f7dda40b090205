"""CRATE-BERT, a bidirectional text encoder: sites, native subspaces, construction."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from whitebox_probe.models.families._crate_bert_network import CrateBert
from whitebox_probe.models.families._steps import PUBLISHED_STEP, attention_weights
from whitebox_probe.models.family import Dims, Family, Recognised, Tap

_LAYERS = "crate.encoder.layer"
_ONE_PROJECTION = "queries, keys and values are one projection, recorded as 'heads'"
_TABLES = ("word", "position", "token_type")
_AFTER_THE_LAYERS = ("crate.pooler.", "lm_head.", "classifier.", "qa_outputs.")
_BUFFERS = ("crate.embeddings.position_ids", "crate.embeddings.token_type_ids")


class CrateBertFamily(Family):
    """CRATE-BERT (arXiv:2311.13110) in the format of transformers pull request 27759.

    Input is token ids (B, n), without a padding mask: give windows without padding. The format is
    that of the pull request's code, which was never merged; no released file was seen.
    """

    name = "crate_bert"
    default_basis = "native"
    assumed_from = "the pull request has them as defaults"
    absent = {
        "mlp_hidden": "an ISTA block has no hidden activation",
        "code": "a square ISTA block's code is the stream itself, recorded as 'z_out'",
        "heads_q": _ONE_PROJECTION,
        "heads_k": _ONE_PROJECTION,
        "heads_v": _ONE_PROJECTION,
    }

    fingerprints = tuple(
        {f"{prefix}encoder.layer.0.attention.self.qkv.weight": 2}
        | {f"{prefix}embeddings.{kind}_embeddings.weight": 2 for kind in _TABLES}
        for prefix in ("crate.", "")
    )

    def build(self, arch: Mapping[str, Any]) -> nn.Module:
        """Build a network from the arguments of `CrateBert`."""
        return CrateBert(**arch)

    def matches(self, module: nn.Module) -> bool:
        """Only this package's network: another implementation may compute other things."""
        return isinstance(module, CrateBert)

    def dims(self, module: nn.Module) -> Dims:
        """Read the sizes from the first layer's attention; a window may have any length."""
        layers: Any = module.get_submodule(_LAYERS)
        attention = layers[0].attention.self
        return Dims(
            layers=len(layers),
            dim=attention.qkv.in_features,
            heads=attention.heads,
            dim_head=attention.dim_head,
            tokens=None,
        )

    def taps(self, module: nn.Module, layer: int) -> dict[str, Tap]:
        """Sites of a layer; the skip connection is inside the original's `attention.output`."""
        path = f"{_LAYERS}.{layer - 1}"
        attention: Any = module.get_submodule(f"{path}.attention.self")

        def heads(projected: Tensor) -> Tensor:  # (B, n, K*p) -> (B, K, n, p)
            return projected.unflatten(-1, (attention.heads, attention.dim_head)).transpose(1, 2)

        def weights(projected: Tensor) -> Tensor:  # (B, n, K*p) -> (B, K, n, n)
            V = heads(projected)
            return attention_weights(V, V, causal=False)

        return {
            "z_in": Tap(path, "input"),
            "attn_in": Tap(f"{path}.attention.self.prenorm", "output"),
            "heads": Tap(f"{path}.attention.self.qkv", "output", heads),
            "attn_weights": Tap(f"{path}.attention.self.qkv", "output", weights),
            "attn_out": Tap(f"{path}.attention.output.dense", "output"),
            "z_half": Tap(f"{path}.output", "input"),
            "mlp_in": Tap(f"{path}.output.prenorm", "output"),
            "z_out": Tap(path, "output"),
        }

    def bases(self, module: nn.Module) -> tuple[str, ...]:
        """Its own subspaces, and no separate queries, keys and values."""
        return ("native",)

    def subspaces(self, module: nn.Module, layer: int, basis: str) -> Tensor:
        """U_k^T is rows k*p to (k+1)*p of the projection's weight."""
        attention: Any = module.get_submodule(f"{_LAYERS}.{layer - 1}.attention.self")
        weight = attention.qkv.weight  # (K*p, d)
        return weight.unflatten(0, (attention.heads, attention.dim_head)).mT  # (K, d, p)

    def operators(self, module: nn.Module, layer: int) -> dict[str, Tensor | float]:
        """The ISTA step's dictionary, sparsity weight and step size."""
        ista: Any = module.get_submodule(f"{_LAYERS}.{layer - 1}.output")
        return {"D": ista.weight.detach(), "lam": ista.lam, "eta": ista.step_size}

    def prenorm(self, module: nn.Module, layer: int) -> nn.Module:
        """The layer norm in front of MSSA."""
        return module.get_submodule(f"{_LAYERS}.{layer - 1}.attention.self.prenorm")

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
            "depth": len({key.split(".")[3] for key in named if key.startswith(f"{_LAYERS}.")}),
        }
        return Recognised(arch, inner=qkv[0])

    def head_arguments(self, heads: int, inner: int) -> dict[str, Any]:
        """The heads share the model's width."""
        return {"heads": heads}

    def official_site(self, basis: str) -> str:
        """The projection's output, as the release hooks it in images."""
        return "heads"

    def prefix_tokens(self, module: nn.Module) -> int:
        """The start token `<s>`, in a window that the tokenizer has framed."""
        return 1

    def convert(
        self, weights: dict[str, Tensor], module: nn.Module, *, source: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Leave out what stands after the last layer, and buffers that older files hold."""
        named = {_full(key): tensor for key, tensor in weights.items()}
        return {
            key: tensor
            for key, tensor in named.items()
            if not key.startswith(_AFTER_THE_LAYERS) and key not in _BUFFERS
        }


def _full(key: str) -> str:
    """The key as a model with a task head names it."""
    return f"crate.{key}" if key.startswith(("embeddings.", "encoder.", "pooler.")) else key
