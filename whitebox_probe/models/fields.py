"""The preprocessing that a name stands for, or that an entry states, as its fields."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from whitebox_probe import checkpoints
from whitebox_probe._core.errors import CheckpointError, nearest
from whitebox_probe.checkpoints import Checkpoint
from whitebox_probe.models.preprocess import Preprocess, TextPreprocess

TEXT = "text:"
IMAGENET = "imagenet"


def fields_named(
    preprocess: Preprocess | TextPreprocess | str, entry: Checkpoint
) -> dict[str, Any]:
    """The fields of a `Preprocess` or `TextPreprocess`, given or named."""
    if isinstance(preprocess, Preprocess | TextPreprocess):
        return asdict(preprocess)
    if preprocess.startswith(TEXT):
        tokenizer, _, length = preprocess.removeprefix(TEXT).partition("@")
        if not tokenizer or (length and not length.isdigit()):
            raise CheckpointError(
                f"the preprocessing '{preprocess}' is not understood",
                "it names a tokenizer, and the tokens of a window after an @",
                "Write text:bytes@128, or text:NAME for a tokenizer of transformers",
            )
        return {"tokenizer": tokenizer} | ({"length": int(length)} if length else {})
    if preprocess == IMAGENET:
        return asdict(Preprocess.imagenet(size_stated(entry.arch) or 224))
    stating = {name for name, known in checkpoints.registry().items() if known.preprocess}
    if preprocess not in stating:
        raise CheckpointError(
            f"the preprocessing '{preprocess}' is not known",
            "it is neither 'imagenet' nor an entry that states its own",
            nearest(preprocess, [IMAGENET, *sorted(stating)]),
        )
    return dict(checkpoints.entry(preprocess).preprocess)


def size_stated(arch: Mapping[str, Any]) -> int | tuple[int, int] | None:
    """The size of the images that an architecture is for, (height, width) if they are no squares.

    None if it states none.
    """
    size = next((arch[key] for key in ("image_size", "img_size") if arch.get(key)), None)
    if isinstance(size, Sequence) and len(set(size)) == 1:
        size = size[0]
    if isinstance(size, Sequence) and len(size) == 2:
        return int(size[0]), int(size[1])
    return size if isinstance(size, int) else None


def with_tokenizer(entry: Checkpoint) -> dict[str, Any]:
    """An entry's preprocessing, with the path of a tokenizer that lies beside its weights."""
    stated = dict(entry.preprocess)
    tokenizer = str(stated.get("tokenizer", ""))
    weights = checkpoints.locate(entry) if tokenizer.endswith(".json") else None
    if weights is not None and not Path(tokenizer).is_absolute():
        stated["tokenizer"] = str(weights.with_name(tokenizer))
    return stated
