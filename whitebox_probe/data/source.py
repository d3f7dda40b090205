"""Open any kind of data as one `Source` of numbered samples."""

import hashlib
import importlib
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from whitebox_probe import data as folder_of_data
from whitebox_probe._core import discover
from whitebox_probe._core.errors import DataError, nearest
from whitebox_probe.data.images import ImageArray, ImageFolder, Transform


def _named() -> dict[str, Any]:
    """Name -> the file of this folder that reads it.

    Such a file has `NAMES` (name -> what it is), `read(name)` -> images and labels, and
    `about(name)` -> facts.
    """
    found: dict[str, Any] = {}
    for name in discover.module_names(folder_of_data):
        if f"{folder_of_data.__name__}.{name}" != __name__:
            module = importlib.import_module(f"{folder_of_data.__name__}.{name}")
            for each in getattr(module, "NAMES", {}):
                discover.unique(found, each, module)
    return found


READERS: dict[str, Any] = _named()
NAMES: dict[str, str] = {name: module.NAMES[name] for name, module in READERS.items()}


@dataclass(frozen=True)
class Source:
    """Numbered samples.

    Attributes:
        name: what the table calls the data. fingerprint: hash of what was read, "" when a loader
            does not let it be known. count: number of samples, None for a loader of unknown length.
        batches: called with (batch size, workers), yields (ids (B,), inputs (B, ...)).
    """

    name: str
    fingerprint: str
    count: int | None
    batches: Callable[[int, int], Iterator[tuple[Tensor, Tensor]]]


def open_data(
    data: Any,
    *,
    transform: Transform | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> Source:
    """Open data for a probe.

    Args:
        data: a registry name, a folder of images (any depth), a tensor of inputs (N, ...), a torch
            Dataset of inputs or (input, label) pairs, or a DataLoader of such batches.
        transform: makes a model's input of a PIL image; needed for names and folders.
        limit: at most so many samples, drawn without replacement by `seed`, kept in their order
            (a folder sorted by class would otherwise give one class). A loader's first ones.
        seed: of the draw.

    Raises: DataError.
    """
    if limit is not None and limit < 1:
        raise DataError(
            f"limit is {limit}", "at least one sample is needed", "Use a limit of 1 or more"
        )
    if isinstance(data, DataLoader):
        return _of_loader(data, limit)
    dataset, name, fingerprint = _open(data, transform)
    total = len(dataset)
    if total == 0:
        raise DataError(
            f"{name} is empty", "it holds no sample", "Pass data with at least one sample"
        )
    if limit is not None and limit < total:
        chosen = torch.randperm(total, generator=torch.Generator().manual_seed(seed))[:limit]
        numbers = chosen.sort().values.tolist()
    else:
        numbers = list(range(total))

    def batches(batch_size: int, workers: int) -> Iterator[tuple[Tensor, Tensor]]:
        loader = DataLoader(
            Subset(_Numbered(dataset, name), numbers),
            batch_size=batch_size,
            num_workers=workers,
        )
        yield from loader

    return Source(name=name, fingerprint=fingerprint, count=len(numbers), batches=batches)


class _Numbered(Dataset[tuple[int, Tensor]]):
    """Samples with their numbers, checked one by one so that an error can name the sample."""

    def __init__(self, dataset: Any, name: str) -> None:
        self.dataset = dataset
        self.name = name

    def __getitem__(self, number: int) -> tuple[int, Tensor]:
        item = self.dataset[number]
        item = item[0] if isinstance(item, tuple | list) else item
        if not isinstance(item, Tensor):
            raise DataError(
                f"sample {number} of {self.name} is a {type(item).__name__}",
                "the model takes tensors",
                "Give the Dataset a transform that makes a tensor",
            )
        if item.is_floating_point() and not item.isfinite().all():
            raise DataError(
                f"sample {number} of {self.name} holds NaN or infinity",
                "every measure of it would be meaningless",
                "Remove or repair that sample",
            )
        return number, item


def _open(data: Any, transform: Transform | None) -> tuple[Any, str, str]:
    """The map-style data set, its name and its fingerprint."""
    if isinstance(data, Tensor):
        return data, f"tensor {tuple(data.shape)}", _hash(data.numpy(force=True))
    if isinstance(data, str) and data in NAMES:
        images, labels = READERS[data].read(data)
        dataset = ImageArray(images, labels, _needed(transform, data))
        return dataset, data, _hash(images)
    if isinstance(data, str | Path):
        folder = Path(data)
        if not folder.is_dir():
            raise DataError(
                f"data '{data}' cannot be opened",
                "it is a file" if folder.exists() else "it is neither a folder nor a known name",
                nearest(str(data), NAMES) + ", or a folder of images",
            )
        images_in = ImageFolder(folder, _needed(transform, str(data)))
        return images_in, folder.name, images_in.fingerprint
    if isinstance(data, Sized) and hasattr(data, "__getitem__"):
        first = data[0][0] if isinstance(data[0], tuple | list) else data[0]
        known = _hash(np.asarray(first)) if isinstance(first, Tensor) else ""
        return data, type(data).__name__, f"{len(data)}-{known}"
    raise DataError(
        f"data of type {type(data).__name__} cannot be opened",
        "a probe reads names, folders, tensors, Datasets and DataLoaders",
        f"Pass one of them, or a name: {', '.join(NAMES)}",
    )


def _needed(transform: Transform | None, name: str) -> Transform:
    if transform is None:
        raise DataError(
            f"the images of {name} cannot be prepared",
            "the model does not say how (size, mean and std)",
            "Pass preprocess= to load or wrap",
        )
    return transform


def _of_loader(loader: DataLoader[Any], limit: int | None) -> Source:
    """A loader's own batches, numbered in the order that they come."""
    dataset = loader.dataset
    count = len(dataset) if isinstance(dataset, Sized) and not loader.drop_last else None
    count = min(count, limit) if count is not None and limit is not None else count

    def batches(batch_size: int, workers: int) -> Iterator[tuple[Tensor, Tensor]]:
        seen = 0
        for batch in _inputs(loader):
            batch = batch if limit is None else batch[: limit - seen]
            if batch.is_floating_point() and not batch.isfinite().all():
                bad = (~batch.flatten(1).isfinite().all(dim=1)).nonzero()[0, 0]
                raise DataError(
                    f"sample {seen + int(bad)} of the loader holds NaN or infinity",
                    "every measure of it would be meaningless",
                    "Remove or repair that sample",
                )
            yield torch.arange(seen, seen + len(batch)), batch
            seen += len(batch)
            if limit is not None and seen >= limit:
                return

    return Source(
        name=f"DataLoader of {type(dataset).__name__}", fingerprint="", count=count, batches=batches
    )


def _inputs(loader: Iterable[Any]) -> Iterator[Tensor]:
    for batch in loader:
        yield batch[0] if isinstance(batch, tuple | list) else batch


def _hash(array: np.ndarray[Any, Any]) -> str:
    digest = hashlib.sha256(str((array.shape, array.dtype)).encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]
