"""Where timm's blocks keep their parts: the paths of sites, by kind of block.

A kind is known by its class's name; whether a block computes what its kind says is tried when a
model is made.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from whitebox_probe._core.errors import SiteError
from whitebox_probe.models.anatomy import Tap
from whitebox_probe.models.wrappers import inside, kind_of


@dataclass(frozen=True)
class Parts:
    """Where the parts of a block are.

    Attributes:
        attention: its path. norm: in front of the attention; None where there is none.
        taps: of every site but the attention's own ones.
        second: the second step's update as it is added.
    """

    attention: str
    norm: nn.Module | None
    taps: Mapping[str, Tap]
    second: Tap


def pre_norm(block: Any, path: str) -> Parts:
    """Blocks x + attn(norm1(x)), then x + mlp(norm2(x)), each scaled if the block has a scale."""
    _expect(block, "norm1", "attn", "drop_path1", "norm2", "mlp", "drop_path2")
    return Parts(
        f"{path}.attn",
        block.norm1,
        {
            "z_in": Tap(f"{path}.norm1", "input"),
            "attn_in": Tap(f"{path}.attn", "input"),
            "attn_out": Tap(f"{path}.drop_path1", "output"),
            "z_half": Tap(f"{path}.norm2", "input"),
            "mlp_in": Tap(f"{path}.mlp", "input"),
            "z_out": Tap(path, "output"),
            **hidden(block.mlp, f"{path}.mlp"),
        },
        Tap(f"{path}.drop_path2", "output"),
    )


def scaled(block: Any, path: str) -> Parts:
    """The same in CaiT, whose one `drop_path` is called twice: updates are scaled here."""
    _expect(block, "norm1", "attn", "gamma_1", "norm2", "mlp", "gamma_2")
    plain = {
        "z_in": Tap(f"{path}.norm1", "input"),
        "attn_in": Tap(f"{path}.attn", "input"),
        "attn_out": Tap(f"{path}.attn", "output", lambda update: block.gamma_1 * update),
        "z_half": Tap(f"{path}.norm2", "input"),
        "mlp_in": Tap(f"{path}.mlp", "input"),
        "z_out": Tap(path, "output"),
        **hidden(block.mlp, f"{path}.mlp"),
    }
    second = Tap(f"{path}.mlp", "output", lambda update: block.gamma_2 * update)
    return Parts(f"{path}.attn", block.norm1, plain, second)


def update_norm(block: Any, path: str) -> Parts:
    """Blocks x + norm1(attn(x)), then x + norm2(mlp(x)): updates are normalised, inputs are not."""
    _expect(block, "attn", "norm1", "drop_path1", "mlp", "norm2", "drop_path2")
    found = pre_norm(block, path)
    moved = {"z_in": Tap(f"{path}.attn", "input"), "z_half": Tap(f"{path}.mlp", "input")}
    return Parts(found.attention, None, {**found.taps, **moved}, found.second)


def parallel(block: Any, path: str) -> Parts:
    """Blocks x + attn(norm(x)) + mlp(norm(x)): there is no half step.

    `attn_out` is there only where the attention has an output map of its own; `second` is what is
    added to it, or all that is added.
    """
    _expect(block, "in_norm", "in_proj", "in_split", "mlp_act", "ls", "drop_path")
    taps = {
        "z_in": Tap(f"{path}.in_norm", "input"),
        "attn_in": Tap(f"{path}.in_proj", "input"),
        "mlp_in": Tap(f"{path}.in_proj", "input"),
        "mlp_hidden": Tap(f"{path}.mlp_drop", "input"),
        "z_out": Tap(path, "output"),
    }

    def of(update: Tensor) -> Tensor:  # a scale of each channel, the same for both updates
        scaled: Tensor = block.ls.forward(update)
        return scaled

    if getattr(block, "attn_out_proj", None) is None:
        return Parts(path, block.in_norm, taps, Tap(f"{path}.drop_path", "output"))
    taps["attn_out"] = Tap(f"{path}.attn_out_proj", "output", of)
    return Parts(path, block.in_norm, taps, Tap(f"{path}.mlp_out_proj", "output", of))


def hidden(mlp: nn.Module, path: str) -> dict[str, Tap]:
    """`mlp_hidden`: what enters the last map of an MLP, or the norm right in front of it.

    Nothing where no such map is known. The norm of an MLP whose last map is `w2` (ViTamin's) stands
    at its beginning.
    """
    last = next((name for name in ("fc2", "w2") if hasattr(mlp, name)), None)
    if last is None:
        return {}
    norm = last == "fc2" and hasattr(mlp, "norm")
    return {"mlp_hidden": Tap(f"{path}.{'norm' if norm else last}", "input")}


KINDS: dict[str, Callable[[Any, str], Parts]] = {
    "Block": pre_norm,
    "EvaBlock": pre_norm,
    "RelPosBlock": pre_norm,
    "DeepseekVitBlock": pre_norm,
    "LayerScaleBlock": scaled,
    "ResPostBlock": update_norm,
    "ResPostRelPosBlock": update_norm,
    "EvaBlockPostNorm": update_norm,
    "ParallelScalingBlock": parallel,
    "DiffParallelScalingBlock": parallel,
}

_WHY = {
    "ParallelThingsBlock": "its attentions stand side by side, each behind a norm of its own, so "
    "that no tokens enter them all",
    "Gemma4Block": "its values are normalised in each head, and are no projections of the tokens",
}


def parts(block: nn.Module, path: str) -> Parts:
    """Where a block keeps its parts.

    Raises: SiteError for a block of another kind, or without a part of its kind.
    """
    block = inside(block)
    kind = kind_of(block)
    if kind not in KINDS:
        raise SiteError(
            f"blocks of type {kind} are not understood",
            _WHY.get(kind, f"one of {', '.join(KINDS)} is expected"),
            "Use a model with one of these blocks, or map its modules with wrap(module, sites=...)",
        )
    return KINDS[kind](block, path)


def _expect(block: nn.Module, *names: str) -> None:
    missing = [name for name in names if not hasattr(block, name)]
    if missing:
        raise SiteError(
            f"blocks of type {type(block).__name__} are not understood",
            f"they have no {', '.join(missing)}",
            "Use a model whose blocks are timm's own, or map its modules",
        )
