"""Padding in windows of text: what a model is told of it, so that no token attends to it.

A mask says which tokens are measured, and special tokens that are not are attended to all the same:
they are part of the text as the model was trained on it. Padding is what a mask leaves out at
either end of a window and that is one id over and over, whichever it is: tokenizers are made to pad
with another id than the configuration states.

Of a single token there an id has to tell. It is padding if it is the configuration's padding id.
At the left end of a causal model's window it also is if it ends texts, or if the configuration
states no padding id, unless it is what begins every text. To leave a first token out of the
measures that is to be attended to, state a `pad_token_id` that is another.
"""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from whitebox_probe._core.errors import DataError
from whitebox_probe.data._masks import TAKEN
from whitebox_probe.models.model import ProbeModel

UNPADDED = (
    "Pass samples without padding, of several lengths with a batch size of 1; or call the mask "
    "'mask' (True: measured), if the model is to attend to what is left out"
)
_AS_ONE = "pass windows without padding: pack the texts, or use TextWindows with drop_last=True"
_FIX = f"P{_AS_ONE[1:]}"


def arguments(
    model: ProbeModel,
    ids: Tensor,
    mask: Tensor | None,
    sites: Sequence[str],
    attended: Tensor | None = None,
) -> Mapping[str, Tensor]:
    """What the model is to be given beside the ids of a batch (B, n): nothing without padding.

    Args: mask: which tokens are measured, (B, n). sites: those that are read.
        attended: which tokens are no padding, where the data say so; else it is told by the mask.
    Raises: DataError for padding that the model would attend to, or that would shift positions.
    """
    taken = inspect.signature(model.module.forward).parameters
    if ids.ndim == 4 and attended is None:
        return _in_order(model, ids) if "noise" in taken else {}
    text = is_text(ids)
    name = mask_name(model.module)
    needed = name is not None and taken[name].default is inspect.Parameter.empty
    keep = kept(model, ids, mask, attended)
    if keep is None or bool(keep.all()):
        if name is None or not needed:
            return {}
        return {name: _as_taken(name, ids.new_ones(ids.shape[:2], dtype=torch.bool))}
    before = not bool(keep[:, 0].all())
    if not (before or needed) and bool((keep.long().diff(dim=1) <= 0).all()) and _causal(model):
        return {}  # what stands behind a token changes nothing of it
    if name is None:
        why = "it takes no attention mask, and would attend to padding"
        raise refused(model, why, _FIX if text else UNPADDED)
    if "attn_weights" in sites:
        why = "attention maps are read without an attention mask"
        raise refused(model, why, f"Leave the measures of attention maps out. Or {_AS_ONE}")
    more = {name: _as_taken(name, keep)}
    if text and before:  # vectors stay where they are
        if "position_ids" not in taken:
            raise refused(model, "it takes no positions, and padding on the left shifts them")
        first = _position_of_padding(model.module)
        counted = keep.long().cumsum(dim=1)
        # Told, and not left to the model: it knows padding by one id, and any may stand there.
        more["position_ids"] = (
            (counted - 1).clamp_min(0) if first is None else counted * keep + first
        )
    return {name: value.to(ids.device) for name, value in more.items()}


def _as_taken(name: str, keep: Tensor) -> Tensor:
    """The mask of a batch (B, n), as a model takes it under that name."""
    return keep.long() if name == "attention_mask" else keep ^ TAKEN[name]


def mask_name(module: nn.Module) -> str | None:
    """What a model's forward calls the mask of its padding; None where it takes none."""
    taken = inspect.signature(module.forward).parameters
    return next((name for name in TAKEN if name in taken), None)


def kept(
    model: ProbeModel, inputs: Tensor, mask: Tensor | None, attended: Tensor | None
) -> Tensor | None:
    """Which tokens are no padding, (B, n); None where nothing tells: of vectors the data say so."""
    if not is_text(inputs):
        return None if attended is None else attended.cpu()
    found = _padding(model, inputs, mask, attended)
    return None if found is None else ~(found[0] | found[1])


def is_text(inputs: Tensor) -> bool:
    """Whether a batch is of ids, (B, n)."""
    return inputs.ndim == 2 and not inputs.is_floating_point()


def _in_order(model: ProbeModel, images: Tensor) -> Mapping[str, Tensor]:
    """For a masked autoencoder of transformers, which sorts its patches by noise: their own order.

    With a mask_ratio of 0 it hides none of them, and would shuffle them all the same.
    """
    counts = (getattr(part, "num_patches", None) for part in model.module.modules())
    patches = next((count for count in counts if isinstance(count, int)), None)
    if patches is None:
        return {}
    order = torch.arange(patches, dtype=images.dtype, device=images.device)
    return {"noise": order.expand(len(images), -1)}


def left_padding(
    model: ProbeModel, ids: Tensor, mask: Tensor | None, attended: Tensor | None = None
) -> Tensor | None:
    """How many tokens pad each window of a batch in front, (B,); None where none does."""
    if not is_text(ids):  # of vectors any may be left out, in the midst too
        front = None if attended is None else _front(~attended.cpu())
    else:
        found = _padding(model, ids, mask, attended)
        front = None if found is None else found[0]
    return None if front is None or not bool(front.any()) else front.sum(dim=1)


def _front(off: Tensor) -> Tensor:
    """Of each row what is True in front of all that is not, (B, n)."""
    return off.long().cumprod(dim=1).bool()


def _padding(
    model: ProbeModel, ids: Tensor, mask: Tensor | None, attended: Tensor | None
) -> tuple[Tensor, Tensor] | None:
    """Which tokens pad windows of text on the left, and on the right, each (B, n)."""
    if mask is None or not is_text(ids) or mask.shape != ids.shape:
        return None
    if attended is not None:
        return _stated(attended.cpu())
    taken = inspect.signature(model.module.forward).parameters
    # A network that takes no mask was trained on whole windows: its first token is text.
    marked = _causal(model) and "attention_mask" in taken
    marks = Marks.of(model.module) if marked else None
    return padding_of(ids.cpu(), mask.cpu(), pad_id(model.module), marks)


def _stated(attended: Tensor) -> tuple[Tensor, Tensor]:
    """Which tokens pad each window on its left, and on its right, as the data state it.

    Raises: DataError for what is left out in the midst of a window.
    """
    off = ~attended
    left, right = _front(off), _front(off.flip(1)).flip(1)
    if bool((off & ~left & ~right).any()):
        raise DataError(
            "an attention mask leaves tokens out in the midst of a window",
            "padding stands at its ends",
            "Give masks of padding alone; of what is not measured, another (mask=...)",
        )
    return left, right & ~left


@dataclass(frozen=True)
class Marks:
    """The ids that a causal model's configuration says begin texts, and end them."""

    begin: frozenset[int]
    end: frozenset[int]

    @classmethod
    def of(cls, module: nn.Module) -> "Marks | None":
        """Those of a model; None for one without a configuration."""
        config = getattr(module, "config", None)
        if config is None:
            return None
        begin, end = (_ids(getattr(config, f"{name}_token_id", None)) for name in ("bos", "eos"))
        return cls(begin, end)

    def pads(self, first: Tensor, pad: int | None) -> Tensor:
        """Whether single tokens at the left end are padding by their ids."""
        # One id for both, as GPT-2's, begins no window by itself, and tokenizers pad with it.
        begin, end = (torch.tensor(sorted(each)) for each in (self.begin - self.end, self.end))
        begins = torch.isin(first, begin.to(first.dtype))
        return ~begins if pad is None else torch.isin(first, end.to(first.dtype)) & ~begins


def _ids(value: Any) -> frozenset[int]:
    several = value if isinstance(value, tuple | list) else [value]
    return frozenset(each for each in several if isinstance(each, int))


def padding_of(
    ids: Tensor, mask: Tensor, pad: int | None, marks: Marks | None = None
) -> tuple[Tensor, Tensor]:
    """Which tokens pad a window on its left, and on its right; all are (B, n).

    Args: pad: the padding id that is stated. marks: of a causal model.
    """
    right = _run(ids, mask, pad)
    left = _run(ids.flip(1), mask.flip(1), pad, marks).flip(1)
    return left, right


def _run(ids: Tensor, mask: Tensor, pad: int | None, marks: Marks | None = None) -> Tensor:
    """The tokens at the end of each row that are left out, and the same as the last one."""
    last = ids[:, -1:]
    same = (ids == last) & ~mask
    found = _front(same.flip(1)).flip(1)
    # A single one may be a special token, such as the end of a sentence.
    sure = found.sum(dim=1, keepdim=True) > 1
    if pad is not None:
        sure |= last == pad
    if marks is not None:
        sure |= marks.pads(last, pad)
    return found & sure


def pad_id(module: nn.Module) -> int | None:
    """The id that the model's configuration pads with, if it states one."""
    found = getattr(getattr(module, "config", None), "pad_token_id", None)
    return found if isinstance(found, int) and found >= 0 else None


def _causal(model: ProbeModel) -> bool:
    """Whether a token attends to those before it alone: as its layers say, which was tried."""
    if all(model.layer(number).causal for number in (1, model.layers)):
        return True
    if model.family is not None:
        return False
    # Mapped by its paths, and perhaps not told to be causal: a part of its layers may say so.
    parts = [part for layer in _layers(model) for part in layer.modules()]
    config = getattr(model.module, "config", None)
    several = getattr(config, "is_encoder_decoder", None) is True
    names: tuple[str, ...] = ("causal", "is_causal", "is_decoder")
    told = [*parts, None if several else config]
    stated = any(getattr(part, name, None) is True for part in told for name in names)
    return stated or any("Causal" in type(part).__name__ for part in parts)


def _layers(model: ProbeModel) -> list[nn.Module]:
    """The first and the last layer, as far as the places of its sites tell: no decoder beside."""
    ends = (1, model.layers)
    found = []
    for site in model.sites:
        first, last = (model.tap(site, n).module.split(".") for n in ends)
        count = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), None)
        shared = len(first) if count is None else count + 1
        found += [model.module.get_submodule(".".join(each[:shared])) for each in (first, last)]
    return found


def _position_of_padding(module: nn.Module) -> int | None:
    """The position that padding has, behind which those of tokens begin, as in RoBERTa."""
    for name, part in module.named_modules():
        if name.endswith("position_embeddings"):
            found = getattr(part, "padding_idx", None)
            if found is not None:
                return int(found)
    return None


def refused(model: ProbeModel, why: str, fix: str = _FIX) -> DataError:
    """That a model cannot be given padding."""
    return DataError(f"windows with padding cannot be given to {model.name}", why, fix)
