"""What models of transformers take: token ids, or pictures with their patches and preparation."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from whitebox_probe._core.errors import SiteError
from whitebox_probe.models.hub import PROCESSORS
from whitebox_probe.models.offloaded import device_of
from whitebox_probe.models.preprocess import Preprocess
from whitebox_probe.models.processors import preprocess_in

_CLASS = ("cls_token", "class_embedding")


@dataclass(frozen=True)
class Pictures:
    """How a tower cuts pictures: the size it is for, its patches, the tokens in front of them."""

    size: tuple[int, int]
    patch: tuple[int, int]
    channels: int
    prefix: int
    has_class: bool
    ordered: bool = True

    def grid(self, inputs: Tensor) -> tuple[int, int] | None:
        """Rows and columns of patches; None where the model shuffles them."""
        if not self.ordered:
            return None
        high, wide = inputs.shape[-2:]
        return high // self.patch[0], wide // self.patch[1]

    def preprocess(self, module: nn.Module) -> Preprocess | None:
        """What the processor beside the model's configuration does; None without one."""
        folder = _beside(module)
        if folder is None:
            return None
        return preprocess_in(folder, size=self.size, channels=self.channels)


def takes_pictures(module: nn.Module) -> bool:
    """Whether a model of transformers takes pixels."""
    return getattr(module, "main_input_name", "") == "pixel_values"


def pictures_of(module: nn.Module) -> Pictures | None:
    """How a model cuts pictures; None where it takes token ids.

    Raises: SiteError where its configuration does not say it.
    """
    if not takes_pictures(module):
        return None
    config: Any = module.config
    config = getattr(config, "vision_config", None) or config
    size, patch = (
        _pair(getattr(config, "image_size", None)),
        _pair(getattr(config, "patch_size", None)),
    )
    if size is None or patch is None:
        raise SiteError(
            f"the pictures of a {type(module).__name__} are not understood",
            "its configuration has no image_size and patch_size",
            "Map its modules with wrap(module, sites=...)",
        )
    embedded = [name for name, _ in module.named_parameters() if "embeddings." in f".{name}"]
    names = {name.rpartition(".")[2] for name in embedded}
    has_class = any(name in names for name in _CLASS)
    count = int(has_class) + int("distillation_token" in names)
    registers = getattr(config, "num_register_tokens", 0) or 0
    return Pictures(
        size=size,
        patch=patch,
        channels=int(getattr(config, "num_channels", 3)),
        prefix=count + registers,
        has_class=has_class,
        ordered=not hasattr(config, "mask_ratio"),
    )


def _pair(size: Any) -> tuple[int, int] | None:
    if isinstance(size, int):
        return size, size
    if isinstance(size, list | tuple) and len(size) == 2:
        return int(size[0]), int(size[1])
    return None


def sample(module: nn.Module) -> Callable[[], object]:
    """What runs a model on a few token ids, or on one picture."""
    pictures = pictures_of(module)
    if pictures is None:
        _expect_ids(module)
        return partial(module, ids(module), use_cache=False)
    _expect_whole(module)
    weights: Any = next(p for p in module.parameters() if p.is_floating_point())
    random = torch.Generator().manual_seed(0)
    shape = (1, pictures.channels, *pictures.size)
    picture = torch.randn(shape, generator=random).to(device_of(module), weights.dtype)
    return partial(_see, module, pictures, picture)


def _see(module: nn.Module, pictures: Pictures, picture: Tensor) -> None:
    """Run a picture through a model, and count the tokens that it makes."""
    found: Any = module(picture)
    last = found.last_hidden_state if hasattr(found, "last_hidden_state") else None
    rows, columns = (s // p for s, p in zip(pictures.size, pictures.patch, strict=True))
    wanted = pictures.prefix + rows * columns
    if isinstance(last, Tensor) and (last.ndim != 3 or last.shape[1] != wanted):
        raise SiteError(
            f"the tokens of a {type(module).__name__} are not understood",
            f"a picture gives {tuple(last.shape[1:])}, where {pictures.prefix} tokens and "
            f"{rows} x {columns} patches are expected",
            "Map its modules with wrap(module, sites=...)",
        )


def _expect_whole(module: nn.Module) -> None:
    """Refuse a model that leaves patches out at random.

    Raises: SiteError.
    """
    share = getattr(module.config, "mask_ratio", 0)
    if share:
        raise SiteError(
            f"a {type(module).__name__} cannot be measured as it is",
            f"it leaves {share:.0%} of the patches out of each pass, drawn at random",
            "Load it with mask_ratio=0.0, or set module.config.mask_ratio = 0.0",
        )


def _expect_ids(module: nn.Module) -> None:
    """Refuse a model that takes neither token ids nor pictures.

    Raises: SiteError naming what it takes.
    """
    takes = getattr(module, "main_input_name", "input_ids")
    try:
        embedding: Any = module.get_input_embeddings()  # type: ignore[operator]
    except NotImplementedError:
        embedding = None
    if takes != "input_ids" or not hasattr(embedding, "weight"):
        raise SiteError(
            f"a {type(module).__name__} cannot be measured as it is",
            f"it takes {takes}, and neither token ids nor images through an embedding of its own",
            "Pass a tower of it that takes token ids or images, or map its modules with "
            "wrap(module, sites=...)",
        )


def ids(module: nn.Module) -> Tensor:
    """A few token ids, (1, 4), from the middle of the vocabulary: special ones are at its ends."""
    embedding: Any = module.get_input_embeddings()  # type: ignore[operator]
    count: int = getattr(embedding, "num_embeddings", None) or embedding.weight.shape[0]
    return (torch.arange(4, device=device_of(embedding))[None] + count // 2) % count


def _beside(module: nn.Module) -> Path | None:
    """The folder with the file of a model's image processor: its own, or in the hub's cache."""
    name = getattr(module.config, "_name_or_path", "")
    if not name or Path(name).is_dir():
        there = any((Path(name) / file).is_file() for file in PROCESSORS) if name else False
        return Path(name) if there else None
    from huggingface_hub import try_to_load_from_cache

    revision = getattr(module.config, "_commit_hash", None)
    for file in PROCESSORS:
        try:
            found = try_to_load_from_cache(name, file, revision=revision)
        except ValueError:  # it is no repository's name
            return None
        if isinstance(found, str):
            return Path(found).parent
    return None
