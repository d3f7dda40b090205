"""The recipes: sizes, optimiser and schedule, the same for both models of a pair."""

import math
import re
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from whitebox_probe._core.arguments import Check, expect, finite, one_of, optional, weight, whole
from whitebox_probe._core.errors import SettingError
from whitebox_probe.models.room import made

KINDS = ("crate", "vit")
TEXT_KINDS = ("crate-lm", "gpt")
_HIDDEN = re.compile(r"(blocks|transformer|transformer\.h)\.(layers\.)?\d+\.")
SIDE, CLASSES = 28, 10
_MOST = 2**16  # of sizes, and of steps of a kind: beyond it no network of a recipe's kind fits
_ADAM = ("step", "exp_avg", "exp_avg_sq")
_GREAT = 1e6  # of rates and weights: their products are numbers in float32


def _share(value: Any) -> str:
    return "" if finite(value) == "" and 0 <= value <= 1 else "Use a number from 0 to 1"


def _positive(value: Any) -> str:
    fits = weight(value) == "" and 0 < value <= _GREAT
    return "" if fits else f"Use a number above 0, to {_GREAT:,.0f}"


def _not_negative(value: Any) -> str:
    fits = weight(value) == "" and value <= _GREAT
    return "" if fits else f"Use a number from 0 to {_GREAT:,.0f}"


_SIZES = ("dim", "depth", "heads", "patch_size", "epochs", "batch_size", "validation", "length")
_SOUND: dict[str, Check] = {
    **dict.fromkeys(_SIZES, whole(1, most=_MOST)),
    "vocabulary": whole(256, most=_MOST),  # a byte-level encoding has each byte
    "limit_train": optional(whole(1)),
    "seed": whole(0, most=2**48),  # a thousand times as much seeds an epoch
    **dict.fromkeys(("mlp_ratio", "lr", "clip"), _positive),
    **dict.fromkeys(("eta", "lam", "weight_decay"), _not_negative),
    **dict.fromkeys(("warmup", "label_smoothing"), _share),
}


@dataclass(frozen=True)
class Recipe:
    """What a training run depends on, besides the data; the defaults made the shipped models.

    Hidden matrices are trained with Muon, everything else with AdamW at half its learning rate;
    both rise linearly over `warmup` of the steps and fall to zero along a cosine.
    """

    kind: str = "crate"
    dim: int = 96
    depth: int = 8
    heads: int = 4
    patch_size: int = 4
    mlp_ratio: float = 2.0
    eta: float = 0.1
    lam: float = 0.1
    epochs: int = 15
    batch_size: int = 128
    lr: float = 4e-3
    weight_decay: float = 0.05
    warmup: float = 0.1
    label_smoothing: float = 0.1
    clip: float = 1.0
    seed: int = 0
    validation: int = 5000
    limit_train: int | None = None

    def __post_init__(self) -> None:
        _expect_sound(self, KINDS)
        whole_patches = SIDE % self.patch_size == 0
        if not whole_patches or self.dim % 4:
            raise SettingError(
                f"dim is {self.dim}, and patch_size {self.patch_size}",
                f"positions are sines of a quarter of dim, and an image has a side of {SIDE}",
                f"Use a dim that 4 divides, and a patch_size that divides {SIDE}",
                setting="dim" if whole_patches else "patch_size",
            )

    def arch(self) -> dict[str, int | float]:
        """The architecture's arguments, as in checkpoints.yaml."""
        if self.kind == "crate":
            return {
                "image_size": SIDE,
                "patch_size": self.patch_size,
                "channels": 1,
                "classes": CLASSES,
                "dim": self.dim,
                "depth": self.depth,
                "heads": self.heads,
                "dim_head": self.dim // self.heads,
                "eta": self.eta,
                "lam": self.lam,
            }
        return {
            "img_size": SIDE,
            "patch_size": self.patch_size,
            "in_chans": 1,
            "num_classes": CLASSES,
            "embed_dim": self.dim,
            "depth": self.depth,
            "num_heads": self.heads,
            "mlp_ratio": self.mlp_ratio,
        }


def build(recipe: Recipe) -> nn.Module:
    """The network at its initialisation, by the recipe's seed.

    Position embeddings start as two-dimensional sines and cosines in both models: learned from
    noise they cost several epochs.

    Raises: CheckpointError for one that does not fit into memory.
    """
    return made(lambda: _built(recipe), recipe.arch(), source="this recipe")


def _built(recipe: Recipe) -> nn.Module:
    from timm.models.vision_transformer import VisionTransformer

    from whitebox_probe.models.families.crate import CRATE

    torch.manual_seed(recipe.seed)
    arguments = recipe.arch()
    grid = sincos(SIDE // recipe.patch_size, recipe.dim)
    with torch.no_grad():
        if recipe.kind == "crate":
            crate = CRATE(**arguments)  # type: ignore[arg-type]
            crate.pos_embedding.copy_(grid)
            crate.cls_token.normal_(std=0.02)
            return crate
        vit = VisionTransformer(**arguments)  # type: ignore[arg-type]
        assert vit.pos_embed is not None
        vit.pos_embed.copy_(0.5 * grid)  # its patch embedding is not normalised, and smaller
        return vit


def sincos(side: int, dim: int) -> Tensor:
    """Sines and cosines of a patch's column and row; the class token's row is zero.

    Shapes: -> (1, side*side + 1, dim).
    """
    rates = 100.0 ** -(torch.arange(dim // 4) / (dim // 4))
    row, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    x, y = column.reshape(-1, 1) * rates, row.reshape(-1, 1) * rates
    grid = torch.cat([x.sin(), x.cos(), y.sin(), y.cos()], dim=1)
    return torch.cat([torch.zeros(1, dim), grid])[None]


@dataclass(frozen=True)
class TextRecipe:
    """The same for language models: what a run depends on, besides the text.

    An epoch goes once through the training text, cut into windows of `length` tokens at another
    place each time.
    """

    kind: str = "crate-lm"
    dim: int = 96
    depth: int = 6
    heads: int = 4
    length: int = 128
    vocabulary: int = 1024
    mlp_ratio: float = 2.0
    eta: float = 0.1
    lam: float = 0.1
    epochs: int = 6
    batch_size: int = 32
    lr: float = 6e-3
    weight_decay: float = 0.05
    warmup: float = 0.1
    clip: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        _expect_sound(self, TEXT_KINDS)

    def arch(self) -> dict[str, Any]:
        """The architecture's arguments, as in checkpoints.yaml."""
        if self.kind == "crate-lm":
            return {
                "vocabulary": self.vocabulary,
                "block_size": self.length,
                "dim": self.dim,
                "depth": self.depth,
                "heads": self.heads,
                "eta": self.eta,
                "lam": self.lam,
            }
        return {
            "model_type": "gpt2",
            "vocab_size": self.vocabulary,
            "n_positions": self.length,
            "n_embd": self.dim,
            "n_layer": self.depth,
            "n_head": self.heads,
            "n_inner": round(self.mlp_ratio * self.dim),
            "bos_token_id": None,
            "eos_token_id": None,
        }


def _expect_sound(recipe: "Recipe | TextRecipe", kinds: tuple[str, ...]) -> None:
    """Check what a recipe says, before anything is built by it.

    Raises: SettingError.
    """
    expect("kind", recipe.kind, one_of(*kinds), "a recipe is of a kind of model")
    for field in fields(recipe):
        if field.name != "kind":
            expect(
                field.name, getattr(recipe, field.name), _SOUND[field.name], "a run depends on it"
            )
    if recipe.dim % recipe.heads:
        raise SettingError(
            f"heads is {recipe.heads}",
            f"the {recipe.dim} numbers of a token are shared by all heads alike",
            "Use a number that divides dim",
            setting="heads",
        )
    if not 1 <= recipe.mlp_ratio * recipe.dim <= 16 * _MOST:
        raise SettingError(
            f"mlp_ratio is {recipe.mlp_ratio}",
            f"of a dim of {recipe.dim} it gives an MLP's width, which is from 1 to {16 * _MOST:,}",
            "Use a ratio such as 2 or 4",
            setting="mlp_ratio",
        )


def build_text(recipe: TextRecipe) -> nn.Module:
    """The language model at its initialisation, by the recipe's seed; nothing is dropped out.

    Linear maps and embeddings start at a standard deviation of 0.02, as GPT-2's do and as the
    CRATE-GPT2 release has them; the ISTA dictionaries start as that release has them.

    Raises: CheckpointError for one that does not fit into memory.
    """
    return made(lambda: _built_text(recipe), recipe.arch(), source="this recipe")


def _built_text(recipe: TextRecipe) -> nn.Module:
    torch.manual_seed(recipe.seed)
    if recipe.kind == "crate-lm":
        from whitebox_probe.models.families.crate_gpt import CrateGPT

        crate = CrateGPT(**recipe.arch())
        for module in crate.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
                if getattr(module, "bias", None) is not None:
                    nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        return crate
    from whitebox_probe.models.configuration import configuration, transformers

    none = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    config = configuration(recipe.arch() | none)
    return transformers().GPT2LMHeadModel(config)


def optimizers(model: nn.Module, recipe: Recipe | TextRecipe) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices; AdamW for embeddings, norms and the head."""
    hidden, decayed, free = [], [], []
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2 and _HIDDEN.match(name):
            hidden.append(parameter)
        elif parameter.ndim in (2, 4):
            decayed.append(parameter)
        else:
            free.append(parameter)
    muon = torch.optim.Muon(
        hidden,
        lr=recipe.lr,
        weight_decay=recipe.weight_decay,
        momentum=0.95,
        adjust_lr_fn="match_rms_adamw",
    )
    groups = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    return [muon, torch.optim.AdamW(groups, lr=recipe.lr / 2, betas=(0.9, 0.99))]


def moments(optimizer: torch.optim.Optimizer) -> dict[int, dict[str, Tensor]]:
    """Tensors like those that an optimiser keeps of each parameter, by the parameter's number."""
    names = ["momentum_buffer"] if isinstance(optimizer, torch.optim.Muon) else _ADAM
    held = [p for group in optimizer.param_groups for p in group["params"]]
    one = torch.tensor(0.0)
    return {i: {n: one if n == "step" else p.detach() for n in names} for i, p in enumerate(held)}


def schedule(step: int, steps: int, recipe: Recipe | TextRecipe) -> float:
    """The learning rate's factor: a linear rise, then a cosine to zero."""
    rise = max(1, round(recipe.warmup * steps))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))
