"""Files of plain vision transformers under timm's names: their sizes, and what stands around them.

DINO's official files have the same names, and so have those of He et al.'s masked autoencoders.
"""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from whitebox_probe._core.errors import CheckpointError
from whitebox_probe.checkpoints import listed
from whitebox_probe.models.family import Recognised

MARKS = {
    "patch_embed.proj.weight": 4,
    "blocks.0.norm1.weight": 1,
    "blocks.0.attn.qkv.weight": 2,
    "blocks.0.attn.proj.weight": 2,
    "blocks.0.mlp.fc1.weight": 2,
    "blocks.0.mlp.fc2.weight": 2,
}
_RANKS = {"cls_token": 3, "reg_token": 3, "pos_embed": 3, "head.weight": 2}
BACKBONE = "backbone."
# Beside a backbone, in a file of DINO's training: the head of its loss, which is no classifier.
_PROJECTION = ("head.mlp", "head.last_layer", "dino_head.", "ibot_head.")
# Beside an encoder: what a masked autoencoder or DINOv2 only needs while it is trained.
_TRAINING = ("mask_token", "decoder_")
_OUTSIDE = re.compile(
    r"(cls_token|reg_token|pos_embed|patch_embed\.proj\..*|norm_pre\..*|norm\..*|fc_norm\..*"
    r"|head\.(weight|bias)|attn_pool\..*)"
)
_IN_BLOCK = re.compile(
    r"blocks\.\d+\.(norm[12]\..*|attn\.(qkv|proj|q_norm|k_norm|norm)\..*|ls[12]\.gamma"
    r"|mlp\.(fc1|fc2|norm)\..*)"
)


_EVA = ("attn.q_proj.weight", "attn.q_bias", "gamma_1")
_LONGEST = 8  # times as wide as high: grids beyond are of no images
_FEW = 8  # class tokens and registers of published models

EVA_MARKS = tuple(
    {"patch_embed.proj.weight": 4, "blocks.0.norm1.weight": 1, "blocks.0.attn.proj.weight": 2}
    | {f"blocks.0.{mark}": 2 if mark.endswith("weight") else 1}
    for mark in _EVA
)


def is_eva(shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether the first block has a part of timm's Eva class and of no VisionTransformer."""
    return any(f"blocks.0.{mark}" in shapes for mark in _EVA)


def encoder(keys: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """The encoder's keys -> their names in timm's network, and the keys that are left out.

    `backbone.` comes off where other keys do not have it. The head of DINO's loss beside it, and
    the mask token and decoder of a masked autoencoder, are left out; any other key is kept.
    """
    keys = list(keys)
    short = [key.removeprefix(BACKBONE) for key in keys]
    wrapped = f"{BACKBONE}patch_embed.proj.weight" in keys and len(set(short)) == len(keys)
    unused = (*_TRAINING, *(_PROJECTION if wrapped else ()))
    names = dict(zip(keys, short if wrapped else keys, strict=True))
    left = [key for key, name in names.items() if name.startswith(unused)]
    return {key: name for key, name in names.items() if key not in left}, left


def in_training(keys: Iterable[str]) -> bool:
    """Whether the head of DINO's loss, or of its kin, stands among the keys."""
    return any(key.startswith(_PROJECTION) for key in keys)


def sizes(shapes: Mapping[str, tuple[int, ...]]) -> Recognised:
    """The arguments of timm's VisionTransformer that keys and shapes settle.

    Raises: CheckpointError for parts that a plain vision transformer does not have.
    """
    _refuse_others(shapes)
    odd = [
        f"{key} {shapes[key]} where {rank} dimensions are expected"
        for key, rank in _RANKS.items()
        if key in shapes and len(shapes[key]) != rank
    ]
    if odd:
        raise CheckpointError(
            "the file is no vision transformer's as timm has it",
            f"{len(odd)} wrongly shaped: {', '.join(odd)}",
            "Give the state dict as it was saved",
        )
    dim, channels, *patch = shapes["patch_embed.proj.weight"]
    hidden = shapes["blocks.0.mlp.fc1.weight"][0]
    arch: dict[str, Any] = {
        "patch_size": patch[0] if patch[0] == patch[1] else patch,
        "in_chans": channels,
        "num_classes": shapes.get("head.weight", (0,))[0],
        "embed_dim": dim,
        "depth": len({key.split(".")[1] for key in shapes if key.startswith("blocks.")}),
        "mlp_ratio": hidden / dim,
        "qkv_bias": "blocks.0.attn.qkv.bias" in shapes,
        "qk_norm": "blocks.0.attn.q_norm.weight" in shapes,
        "class_token": "cls_token" in shapes,
        "reg_tokens": shapes.get("reg_token", (1, 0))[1],
        "pre_norm": "norm_pre.weight" in shapes,
        "fc_norm": "fc_norm.weight" in shapes,
        "final_norm": "norm.weight" in shapes or "fc_norm.weight" in shapes,
        "global_pool": _pool(shapes),
    }
    if "blocks.0.ls1.gamma" in shapes:
        arch["init_values"] = 1.0  # that LayerScale is there; its values are the file's
    placed, asked = _positions(shapes, patch, int(arch["class_token"]) + arch["reg_tokens"])
    if arch["pre_norm"]:
        asked["act_layer"] = ("gelu", "quick_gelu")  # CLIP's towers were published with either
    return Recognised(arch | placed, inner=shapes["blocks.0.attn.qkv.weight"][0] // 3, ask=asked)


def _pool(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """What the head reads, as far as keys tell; no site depends on it."""
    if "attn_pool.latent" in shapes:
        return "map"
    return "avg" if "fc_norm.weight" in shapes or "cls_token" not in shapes else "token"


def _positions(
    shapes: Mapping[str, tuple[int, ...]], patch: list[int], prefix: int
) -> tuple[dict[str, Any], dict[str, tuple[Any, ...]]]:
    """The image's size, and whether positions are for patches only; what is to be asked for.

    A table of n rows is of n patches, or of the prefix tokens too; that one of them is a square
    grid tells which. Where neither is, positions are taken to be for the prefix tokens too, as is
    usual, and another size of the image does not fit the table.
    """
    if "pos_embed" not in shapes:
        return {"pos_embed": "none"}, {"img_size": ("224",)}
    rows = shapes["pos_embed"][1]
    counts = {False: rows - prefix} | ({True: rows} if prefix else {})
    square = {only: n for only, n in counts.items() if n > 0 and math.isqrt(n) ** 2 == n}
    if len(square) == 1 and patch[0] == patch[1]:
        ((only, n),) = square.items()
        return {"img_size": math.isqrt(n) * patch[0], "no_embed_class": only}, {}
    if len(square) == 2:
        sides = tuple(math.isqrt(n) * patch[0] for n in square.values())
        return {}, {"img_size": sides, "no_embed_class": (False, True)}
    n = max(rows - prefix, 1)
    grids = [(h, n // h) for h in range(math.isqrt(n), 0, -1) if n % h == 0][:3]
    grids = [(h, w) for h, w in grids if w <= _LONGEST * h]
    if not grids:
        _refuse_table(rows, prefix)
    sizes = tuple(f"[{h * patch[0]},{w * patch[1]}]" for h, w in grids) or ("[HEIGHT,WIDTH]",)
    return {"no_embed_class": False}, {"img_size": sizes}


def _refuse_table(rows: int, prefix: int) -> None:
    """Raise where a table is of a square grid and of a few tokens more than the file has.

    Raises: CheckpointError.
    """
    side = math.isqrt(rows)
    more = rows - side**2
    if 0 < more <= _FEW and more != prefix:
        raise CheckpointError(
            "the file is no plain vision transformer's",
            f"its {rows} positions are of {side} x {side} patches and {more} in front of them, "
            f"where the file has {prefix} such tokens",
            "Give the state dict with cls_token (and reg_token) as it was saved, or pass "
            "arch='timm:NAME', the name that timm has for it",
        )


def _refuse_others(shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise for parts that a plain vision transformer does not have, by their keys."""
    known = (_OUTSIDE, _IN_BLOCK)
    others = [key for key in shapes if not any(form.fullmatch(key) for form in known)]
    what = "the file is no plain vision transformer's"
    if others:
        raise by_name(what, f"it has {listed(others)}")
    (wide, _), (_, narrow) = (shapes[f"blocks.0.mlp.{part}.weight"] for part in ("fc1", "fc2"))
    if wide != narrow:
        told = f"its MLP is gated: fc1 gives {wide} features, of which fc2 takes {narrow}"
        raise by_name(what, told)


def by_name(what: str, why: str) -> CheckpointError:
    """The refusal of a file whose architecture only a name of timm settles."""
    return CheckpointError(
        what,
        f"{why}, and its shapes do not settle how that is computed",
        "Pass arch='timm:NAME', the name that timm has for it, such as "
        "arch='timm:eva02_tiny_patch14_224'",
    )
