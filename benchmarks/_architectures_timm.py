"""Which of timm's architectures are read, and how exactly.

Each is built small (two blocks, narrow heads, few patches where it takes that), with every
parameter drawn, in float64. What is recorded at `z_out` is compared with timm's own
`forward_intermediates`, and the attention maps with what the attention makes of the values.
"""

import re
from collections.abc import Iterator
from typing import Any

import timm
import torch
from _rows import Row, apart

import whitebox_probe as wp

MODULES = (
    *("vision_transformer", "deit", "eva", "beit", "cait", "vision_transformer_relpos"),
    *("vision_transformer_hybrid", "naflexvit", "qwen3_vit", "deepseek_vit", "gemma4_vit"),
    *("vitamin", "vision_transformer_sam", "hiera", "tnt", "pit", "convit", "crossvit", "xcit"),
    *("volo", "swin_transformer", "swin_transformer_v2", "levit", "mvitv2", "nest", "twins"),
)
_MOST = 100_000_000  # parameters, in the smallest form
_SIZES = re.compile(r"_(\d{3})(?=$|_)")


def names() -> list[str]:
    """One name of each architecture: those that differ in the size of the image are one."""
    found: dict[str, str] = {}
    for module in MODULES:
        for name in timm.list_models(module=module):
            found.setdefault(_SIZES.sub("", name), name)
    return list(found.values())


def rows(chosen: list[str] | None = None) -> Iterator[Row]:
    """Each architecture built, wrapped and compared."""
    for name in chosen or names():
        torch.manual_seed(0)
        with torch.device("meta"):
            whole = timm.create_model(name)
        try:
            wp.wrap(whole)  # what a class or a block is refused for needs no numbers
            model = built(name, whole)
        except wp.ProbeError as error:
            yield Row(name, str(error))
        except (TypeError, ValueError, RuntimeError, AssertionError, KeyError) as error:
            yield Row(name, f"not built in small: {error}")  # timm's own refusal
        else:
            yield compared(name, model)


def built(name: str, whole: Any) -> torch.nn.Module:
    """The smallest form of an architecture that timm builds.

    Args: whole: the architecture as it is, on the meta device.
    """
    tower = getattr(whole, "encoder", whole)
    first = tower.blocks[0]
    small: dict[str, Any] = {"depth": 2}
    heads = getattr(getattr(first, "attn", first), "num_heads", None)
    shared = {getattr(getattr(each, "attn", each), "num_kv_heads", heads) for each in tower.blocks}
    small |= {} if shared == {heads} else {"num_kv_heads": (min(shared), max(shared))}
    patch = getattr(getattr(tower, "patch_embed", None), "patch_size", None)
    side = {"img_size": 4 * max(patch) if max(patch) > 7 else 128} if patch else {}
    width = {"embed_dim": 16 * heads} if isinstance(heads, int) else {}
    forms = ({**small, **side, **width}, {**small, **side}, {**small, **width}, small)
    # Where the heads of keys are given block by block, there must be as many blocks as heads given.
    tries = (*forms, *({**form, "num_kv_heads": (heads, heads)} for form in forms), {})
    why: Exception = RuntimeError("no form of it is small enough")
    for arguments in tries:
        try:
            with torch.device("meta"):
                sketch = timm.create_model(name, pretrained=False, **arguments)
            if sum(p.numel() for p in sketch.parameters()) > _MOST:
                continue
            model = timm.create_model(name, pretrained=False, **arguments).eval().double()
        except (TypeError, ValueError, RuntimeError, AssertionError, KeyError) as error:
            why = error
            continue
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        return model
    raise why


def compared(name: str, module: Any) -> Row:
    """One architecture against timm's own."""
    try:
        model = wp.wrap(module)
    except wp.ProbeError as error:
        return Row(name, str(error))
    images = torch.randn(1, *_input_size(module), dtype=torch.float64)
    with torch.inference_mode():
        own = _intermediates(module, images)
        with wp.record(model, model.sites) as rec, _Contexts(model) as contexts:
            module(images)
    z_out = max(apart(rec["z_out", n], own[n - 1]) for n in range(1, model.layers + 1))
    maps = []
    for n in range(1, model.layers + 1):
        A, V = rec["attn_weights", n], rec["heads_v", n]
        V = V.repeat_interleave(A.shape[1] // V.shape[1], dim=1)
        maps.append(apart((A @ V).transpose(1, 2).flatten(2), contexts[n]))
    return Row(name, "loads", z_out, max(maps))


def _input_size(module: Any) -> tuple[int, int, int]:
    patches = getattr(getattr(module, "encoder", module), "patch_embed", None)
    side = getattr(patches, "img_size", None) or module.pretrained_cfg["input_size"][1:]
    if getattr(patches, "img_size", None) is None:
        side = (64, 64)
    return (getattr(module, "in_chans", 3), *map(int, side))


def _intermediates(module: Any, images: torch.Tensor) -> list[torch.Tensor]:
    """Every block's output as timm gives it, prefix tokens in front."""
    options = {"output_fmt": "NLC", "intermediates_only": True}
    try:
        found = module.forward_intermediates(images, return_prefix_tokens=True, **options)
    except (TypeError, UnboundLocalError):  # a tower without prefix tokens
        found = module.forward_intermediates(images, **options)
    return [
        each if isinstance(each, torch.Tensor) else torch.cat([each[1], each[0]], dim=1)
        for each in found
    ]


class _Contexts:
    """What each attention makes of the values, read by hooks of its own."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def __enter__(self) -> dict[int, torch.Tensor]:
        found: dict[int, torch.Tensor] = {}
        self._handles = []
        for n in range(1, self._model.layers + 1):
            tap = self._model.layer(n).context

            def keep(part: Any, args: Any, n: int = n, tap: Any = tap) -> None:
                found[n] = args[0] if tap.transform is None else tap.transform(args[0])

            part = self._model.module.get_submodule(tap.module)
            self._handles.append(part.register_forward_pre_hook(keep))
        return found

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()
