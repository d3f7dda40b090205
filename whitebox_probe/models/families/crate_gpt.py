"""CRATE language models, CRATE-GPT2 and CRATE-LM: sites, native subspaces, construction."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from whitebox_probe._core.errors import CheckpointError
from whitebox_probe.models.families._crate_gpt_network import CrateGPT
from whitebox_probe.models.families._steps import PUBLISHED_STEP, attention_weights
from whitebox_probe.models.family import Dims, Family, Recognised, Tap
from whitebox_probe.models.keys.gpt import frame, marks, tied

_ONE_PROJECTION = "queries, keys and values are one projection, recorded as 'heads'"


class CrateGptFamily(Family):
    """CRATE-GPT2 (arXiv:2311.13110) and CRATE-LM (arXiv:2410.16443): causal MSSA, then ISTA.

    Input is token ids (B, n). In CRATE-GPT2 `z_out` is the sparse code; CRATE-LM's sparse object is
    the code in its overcomplete dictionary, at `code`, and `z_out` is what it reconstructs.
    """

    name = "crate_gpt"
    default_basis = "native"
    absent = {
        "mlp_hidden": "an ISTA block has no hidden activation; a CRATE-LM has 'code'",
        "code": "a square ISTA block's code is the stream itself, recorded as 'z_out'",
        "heads_q": _ONE_PROJECTION,
        "heads_k": _ONE_PROJECTION,
        "heads_v": _ONE_PROJECTION,
    }

    fingerprints = marks({"ista.weight": 2, "attn.c_attn.weight": 2})

    def build(self, arch: Mapping[str, Any]) -> nn.Module:
        """Build a network from the arguments of `CrateGPT`."""
        return CrateGPT(**arch)

    def matches(self, module: nn.Module) -> bool:
        """Only this package's network: another implementation may compute other things."""
        return isinstance(module, CrateGPT)

    def dims(self, module: nn.Module) -> Dims:
        """Read the sizes from the first layer's attention; a window may have any length."""
        assert isinstance(module, CrateGPT)
        blocks: Any = module.transformer["h"]
        attention = blocks[0].attn
        return Dims(
            layers=len(blocks),
            dim=attention.c_attn.in_features,
            heads=attention.heads,
            dim_head=attention.dim_head,
            tokens=None,
        )

    def taps(self, module: nn.Module, layer: int) -> dict[str, Tap]:
        """Sites of a layer; `code` only where the dictionary is overcomplete."""
        path = f"transformer.h.{layer - 1}"
        block: Any = module.get_submodule(path)
        shape = (block.attn.heads, block.attn.dim_head)

        def heads(projected: Tensor) -> Tensor:  # (B, n, K*p) -> (B, K, n, p)
            return projected.unflatten(-1, shape).transpose(1, 2)

        def weights(projected: Tensor) -> Tensor:  # (B, n, K*p) -> (B, K, n, n)
            V = heads(projected)
            return attention_weights(V, V, causal=True)

        taps = {
            "z_in": Tap(path, "input"),
            "attn_in": Tap(f"{path}.prenorm_1", "output"),
            "heads": Tap(f"{path}.attn.c_attn", "output", heads),
            "attn_weights": Tap(f"{path}.attn.c_attn", "output", weights),
            "attn_out": Tap(f"{path}.attn", "output"),
            "z_half": Tap(f"{path}.prenorm_2", "input"),
            "mlp_in": Tap(f"{path}.prenorm_2", "output"),
            "z_out": Tap(path, "output"),
        }
        if hasattr(block.ista, "relu"):
            taps["code"] = Tap(f"{path}.ista.relu", "output")
        return taps

    def bases(self, module: nn.Module) -> tuple[str, ...]:
        """Its own subspaces, and no separate queries, keys and values."""
        return ("native",)

    def subspaces(self, module: nn.Module, layer: int, basis: str) -> Tensor:
        """U_k^T is rows k*p to (k+1)*p of the projection's weight."""
        attention: Any = module.get_submodule(f"transformer.h.{layer - 1}.attn")
        weight = attention.c_attn.weight  # (K*p, d)
        return weight.unflatten(0, (attention.heads, attention.dim_head)).mT  # (K, d, p)

    def operators(self, module: nn.Module, layer: int) -> dict[str, Tensor | float]:
        """The dictionary, sparsity weight and step size.

        `D` is (d, d) in CRATE-GPT2. In CRATE-LM it is (d, h): the code A (n, h) at site `code`
        reconstructs the tokens as `A D^T`, after two steps from zero.
        """
        ista: Any = module.get_submodule(f"transformer.h.{layer - 1}.ista")
        weight = ista.weight.detach()
        D = weight.mT if hasattr(ista, "relu") else weight
        return {"D": D, "lam": ista.lam, "eta": ista.step_size}

    def prenorm(self, module: nn.Module, layer: int) -> nn.Module:
        """The layer norm in front of MSSA."""
        return module.get_submodule(f"transformer.h.{layer - 1}.prenorm_1")

    def assumed(self, arch: Mapping[str, Any]) -> dict[str, Any]:
        """The step size and sparsity weight of the published models."""
        return dict(PUBLISHED_STEP)

    def recognise(self, shapes: Mapping[str, tuple[int, ...]]) -> Recognised | None:
        """ISTA weights d x d (CRATE-GPT2) or h x d with a final norm (CRATE-LM).

        Raises: CheckpointError for the weights of one with the final norm of the other.
        """
        if not self.marked(shapes):
            return None
        atoms, dim = shapes["transformer.h.0.ista.weight"]
        normed = "transformer.ln_f.weight" in shapes
        if normed == (atoms == dim):
            raise CheckpointError(
                "the file is neither a CRATE-GPT2's nor a CRATE-LM's",
                f"its ISTA weights are {atoms} x {dim}, as in "
                f"{'CRATE-GPT2' if normed else 'CRATE-LM'}, and it has "
                f"{'a' if normed else 'no'} final norm (transformer.ln_f.weight)",
                f"Pass arch= with atoms ({atoms} in a CRATE-LM, None in a CRATE-GPT2) to say which "
                "it is",
            )
        return Recognised(
            frame(shapes) | {"dim": dim, "atoms": atoms if normed else None}, inner=dim
        )

    def stated(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """NanoGPT's `model_args` hold the number of heads."""
        return {"heads": arguments["n_head"]} if "n_head" in arguments else {}

    def head_arguments(self, heads: int, inner: int) -> dict[str, Any]:
        """The heads share the model's width."""
        return {"heads": heads}

    def official_site(self, basis: str) -> str:
        """The projection's output, as the release hooks it in images."""
        return "heads"

    def prefix_tokens(self, module: nn.Module) -> int:
        """None: a window starts with text."""
        return 0

    def convert(
        self, weights: dict[str, Tensor], module: nn.Module, *, source: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """As of every model in nanoGPT's frame.

        Raises: CheckpointError where embedding and head differ: the network ties them.
        """
        return tied(weights, of="CRATE language model")
