"""What DINOv3's files hold and timm leaves out: it must be what the network has anyway.

Reference: Siméoni et al. 2025, arXiv:2508.10104.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from whitebox_probe._core.errors import CheckpointError
from whitebox_probe._core.lines import shown

MARK = "storage_tokens"
"""The name by which timm knows such a file."""
_BIAS = re.compile(r"blocks\.\d+\.attn\.qkv\.bias")
_MASK, _PERIODS = "_mask", "rope_embed.periods"
_OTHERWISE = "timm reads it without its mask, and none for the keys"
_CLOSE = 0.01  # the periods of the releases are bfloat16, which timm's are not


def expect_nothing_lost(weights: Mapping[str, Tensor], module: nn.Module) -> None:
    """Refuse biases and rotary periods that timm would leave out, though the network has others.

    A bias counts as far as its mask lets it through; that of the keys is 0 in every release.

    Raises: CheckpointError.
    """
    if MARK not in weights:
        return
    own = module.state_dict()
    for key, bias in weights.items():
        if not _BIAS.fullmatch(key):
            continue
        if bias.ndim != 1 or len(bias) % 3:
            raise _lost(key, f"it has the shape {tuple(bias.shape)}")
        mask = weights.get(f"{key}{_MASK}", torch.ones(1))
        if mask.shape not in (bias.shape, (1,)):
            raise _lost(key, f"its mask has the shape {tuple(mask.shape)}")
        bias = bias.double()
        used = bias * mask
        has = f"{key.removesuffix('qkv.bias')}q_bias" in own
        expected = bias.clone() if has else torch.zeros_like(bias)
        expected[len(bias) // 3 : -len(bias) // 3] = 0
        if not torch.equal(used, expected):
            raise _lost(key, _OTHERWISE if has else "the architecture has none")
    periods, made = weights.get(_PERIODS), getattr(getattr(module, "rope", None), "periods", None)
    if isinstance(periods, Tensor):
        if not isinstance(made, Tensor):
            raise _lost(_PERIODS, "the architecture has none")
        fits = periods.shape == made.shape
        if not fits or not torch.allclose(periods.to(made), made, rtol=_CLOSE, atol=0):
            raise _lost(_PERIODS, "the architecture has others")


def is_compared(key: str) -> bool:
    """Whether it is a name that `expect_nothing_lost` looks at."""
    return key == _PERIODS or _BIAS.fullmatch(key.removesuffix(_MASK)) is not None


def _lost(key: str, why: str) -> CheckpointError:
    return CheckpointError(
        f"the file's '{shown(key)}' would not be read as it is",
        f"{why}, and the network would be another",
        "Name the model in timm that the file is of, such as vit_small_patch16_dinov3_qkvb",
    )
