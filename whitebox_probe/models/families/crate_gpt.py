"""CRATE-GPT2 and CRATE-LM: the networks of the official releases, their sites, their files."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from whitebox_probe._core.errors import CheckpointError
from whitebox_probe.models.anatomy import Tap
from whitebox_probe.models.families._gpt import GPT
from whitebox_probe.models.families._one_projection import (
    ONE_PROJECTION,
    OneProjectionAnatomy,
    Parts,
)
from whitebox_probe.models.families._steps import (
    ISTA,
    PUBLISHED_STEP,
    SubspaceAttention,
    head_width,
)
from whitebox_probe.models.family import NetworkFamily, Recognised
from whitebox_probe.models.keys.gpt import frame, marks, stated, tied
from whitebox_probe.models.offloaded import fetched


class CausalMSSA(SubspaceAttention):
    """Subspace self-attention over a token and those before it, named as nanoGPT names attention.

    out = concat_k softmax(V_k V_k^T / sqrt(p), causal) V_k W_o^T + b_o

    Shapes: X (B, n, d) -> (B, n, d).
    """

    projection = "c_attn"

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__(heads, head_width(dim, heads), causal=True)
        self.c_attn = nn.Linear(dim, dim, bias=False)
        self.c_proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(self.attend(self.c_attn(x)))


class OvercompleteISTA(nn.Module):
    """Two proximal steps from zero towards a sparse code in h > d atoms, and its reconstruction.

    A_1 = ReLU(eta Y W^T - eta lam)
    A_2 = ReLU(A_1 + eta (Y - A_1 W) W^T - eta lam);  Y^+ = A_2 W, with W = `weight`

    The release computes Y W^T - A_1 W W^T in three products; factored, it takes two.

    Shapes: Y (B, n, d) -> (B, n, d); A_1, A_2 (B, n, h); W (h, d). A_2 leaves `relu`.
    References: Bai and Ma 2024, arXiv:2410.16443, as in the released crate_overcomplete.py.
    """

    def __init__(self, dim: int, atoms: int, step_size: float, lam: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(atoms, dim))
        nn.init.kaiming_uniform_(self.weight)
        self.relu = nn.ReLU()
        self.step_size = step_size
        self.lam = lam

    def forward(self, y: Tensor) -> Tensor:
        shrink = self.step_size * self.lam
        first = F.relu(self.step_size * F.linear(y, self.weight) - shrink)  # (B, n, h)
        gradient = F.linear(y - first @ self.weight, self.weight)  # (B, n, h)
        code = self.relu(first + self.step_size * gradient - shrink)
        return code @ self.weight

    def operators(self) -> dict[str, Tensor | float]:
        """The dictionary D (d, h): the code A (n, h) reconstructs the tokens as `A D^T`."""
        return {"D": fetched(self, "weight").detach().mT, "lam": self.lam, "eta": self.step_size}


class Block(nn.Module):
    """MSSA with its skip connection, then ISTA without one."""

    def __init__(self, dim: int, heads: int, ista: nn.Module) -> None:
        super().__init__()
        self.prenorm_1 = nn.LayerNorm(dim)
        self.attn = CausalMSSA(dim, heads)
        self.prenorm_2 = nn.LayerNorm(dim)
        self.ista = ista

    def forward(self, x: Tensor) -> Tensor:
        return self.ista(self.prenorm_2(x + self.attn(self.prenorm_1(x))))


class CrateGPT(GPT):
    """White-box causal language model.

    Shapes: ids (B, n) -> logits of the last token (B, 1, vocabulary).
    Args:
        atoms: h, the atoms of CRATE-LM's overcomplete dictionary; None is CRATE-GPT2, whose
            dictionary is d x d and which has no final normalisation.
        eta: step size of the ISTA step. lam: its sparsity weight. Neither is a tensor in a file.
    Raises: DataError for ids outside the vocabulary, or more of them than `block_size`.
    References: Yu et al. 2023, arXiv:2311.13110; Bai and Ma 2024, arXiv:2410.16443.
    """

    def __init__(
        self,
        *,
        vocabulary: int = 50304,
        block_size: int = 1024,
        dim: int,
        depth: int,
        heads: int,
        atoms: int | None = None,
        eta: float = 0.1,
        lam: float = 0.1,
    ) -> None:
        def block() -> nn.Module:
            code = ISTA(dim, eta, lam) if atoms is None else OvercompleteISTA(dim, atoms, eta, lam)
            return Block(dim, heads, code)

        super().__init__(
            vocabulary=vocabulary,
            block_size=block_size,
            dim=dim,
            depth=depth,
            block=block,
            norm=None if atoms is None else nn.LayerNorm(dim),
        )


class CrateGptAnatomy(OneProjectionAnatomy):
    """Causal MSSA, then ISTA.

    In CRATE-GPT2 `z_out` is the sparse code; CRATE-LM's sparse object is the code in its
    overcomplete dictionary, at `code`, and `z_out` is what it reconstructs.
    """

    absent = {
        "mlp_hidden": "an ISTA block has no hidden activation; a CRATE-LM has 'code'",
        "code": "a square ISTA block's code is the stream itself, recorded as 'z_out'",
    } | ONE_PROJECTION

    def count(self, module: Any) -> int:
        """The blocks."""
        return len(module.transformer.h)

    def parts(self, module: Any, number: int) -> Parts:
        """`code` only where the dictionary is overcomplete."""
        path = f"transformer.h.{number - 1}"
        taps = {
            "z_in": Tap(path, "input"),
            "attn_in": Tap(f"{path}.prenorm_1", "output"),
            "attn_out": Tap(f"{path}.attn", "output"),
            "z_half": Tap(f"{path}.prenorm_2", "input"),
            "mlp_in": Tap(f"{path}.prenorm_2", "output"),
            "z_out": Tap(path, "output"),
        }
        if isinstance(module.get_submodule(f"{path}.ista"), OvercompleteISTA):
            taps["code"] = Tap(f"{path}.ista.relu", "output")
        return Parts(f"{path}.attn", f"{path}.prenorm_1", taps, step=f"{path}.ista", causal=True)

    def prefix_tokens(self, module: nn.Module) -> int:
        """None: a window starts with text."""
        return 0


class CrateGptFamily(NetworkFamily):
    """CRATE-GPT2 (arXiv:2311.13110) and CRATE-LM (arXiv:2410.16443); input is token ids (B, n)."""

    name = "crate_gpt"
    network = CrateGPT
    reads = CrateGptAnatomy
    example = tuple(
        {"vocabulary": 23, "block_size": 8, "dim": 16, "depth": 2, "heads": 2, "atoms": atoms}
        for atoms in (None, 40)
    )
    tested = (
        "outputs and sites of both kinds against the published equations, one head and token at "
        "a time; parameter counts; the nanoGPT file with its optimizer and arguments. The "
        "released file itself was not seen"
    )
    fingerprints = marks({"ista.weight": 2, "attn.c_attn.weight": 2})

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

    def head_arguments(self, heads: int, inner: int) -> dict[str, Any]:
        """The heads share the model's width."""
        return {"heads": heads}

    def stated(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Layers and width of nanoGPT's `model_args`, which a cut file contradicts."""
        return stated(arguments, bias=False)

    def convert(
        self, weights: dict[str, Tensor], module: nn.Module, *, source: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """As of every model in nanoGPT's frame.

        Raises: CheckpointError where embedding and head differ: the network ties them.
        """
        return tied(weights, of="CRATE language model")
