"""Open any kind of data as one `Source` of numbered samples."""

import hashlib
import importlib
import signal
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Sized
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
from whitebox_probe.data.text import SUFFIX, TextReader, TextWindows


def _named() -> dict[str, Any]:
    """Name -> the file of this folder that reads it.

    Such a file has `NAMES` (name -> what it is), `read(name)` -> images and labels, or a text, and
    `about(name)` -> facts.
    """
    found: dict[str, Any] = {}
    for name in discover.module_names(folder_of_data):
        if f"{folder_of_data.__name__}.{name}" != __name__:
            module = importlib.import_module(f"{folder_of_data.__name__}.{name}")
            for each in getattr(module, "NAMES", {}):
                discover.unique(found, each, module)
    return found


COLUMN = "text"
READERS: dict[str, Any] = _named()
NAMES: dict[str, str] = {name: module.NAMES[name] for name, module in READERS.items()}


@dataclass(frozen=True)
class Batch:
    """Samples: numbers (B,), inputs (B, ...), classes (B,) if known, which tokens count (B, n)."""

    ids: Tensor
    inputs: Tensor
    labels: Tensor | None = None
    mask: Tensor | None = None


@dataclass(frozen=True)
class Source:
    """Numbered samples.

    Attributes:
        name: what the table calls the data. fingerprint: hash of what was read, "" when a loader
            does not let it be known. count: number of samples, None for a loader of unknown length.
        numbers: of the samples that it gives, () for a loader. labelled: whether they have classes.
        batches: called with (batch size, workers), yields `Batch`es; with first= and step= too, it
            yields of these only every step-th, from the first-th on (not for a loader).
    """

    name: str
    fingerprint: str
    count: int | None
    batches: Callable[..., Iterator[Batch]]
    numbers: Sequence[int] = ()
    labelled: bool = False


def open_data(
    data: Any,
    *,
    transform: Transform | TextReader | None = None,
    limit: int | None = None,
    seed: int = 0,
    without: Collection[int] = (),
) -> Source:
    """Open data for a probe.

    Args:
        data: a registry name, a folder of images (any depth), a text file (.txt), a tensor of
            inputs (N, ...), a torch Dataset, a Hugging Face dataset with a column `text` (its rows
            are joined by line ends), or a DataLoader of batches. A sample is an input, or a pair of
            an input and its class (a whole number) or its mask (n booleans: which tokens are
            measured).
        transform: makes a model's input of a PIL image, or of a text; needed for names, folders and
            texts.
        limit: at most so many samples, drawn without replacement by `seed`, kept in their order
            (a folder sorted by class would otherwise give one class). A loader's first ones.
        seed: of the draw. without: numbers of samples that are not to be drawn.

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
    left = sorted(set(range(total)) - set(without))
    if not left:
        raise DataError(
            f"no sample of {name} is left",
            "a basis is fitted on samples that are not measured, and all are measured",
            "Give limit=, or other data with fit_data=",
        )
    if limit is not None and limit < len(left):
        chosen = torch.randperm(len(left), generator=torch.Generator().manual_seed(seed))[:limit]
        left = [left[i] for i in chosen.sort().values.tolist()]

    def batches(batch_size: int, workers: int, *, first: int = 0, step: int = 1) -> Iterator[Batch]:
        starts = range(first * batch_size, len(left), step * batch_size)
        mine = [number for start in starts for number in left[start : start + batch_size]]
        loader = DataLoader(
            Subset(_Numbered(dataset, name), mine),
            batch_size=batch_size,
            num_workers=workers,
            collate_fn=_collate,
            worker_init_fn=_ignore_interrupt,
        )
        yield from loader

    return Source(
        name=name,
        fingerprint=fingerprint,
        count=len(left),
        batches=batches,
        numbers=left,
        labelled=_class_of(dataset[left[0]]) is not None,
    )


def _ignore_interrupt(worker: int) -> None:
    """Ctrl-C reaches the readers too; when to stop is their parent's to decide."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _class_of(item: Any) -> int | None:
    """The class of a sample, if it is a pair of an input and a whole number."""
    if not isinstance(item, tuple | list) or len(item) < 2:
        return None
    second = item[1]
    if isinstance(second, Tensor) and second.ndim == 0 and not second.is_floating_point():
        return int(second)
    whole = isinstance(second, int | np.integer) and not isinstance(second, bool)
    return int(second) if whole else None


def _mask_of(item: Any) -> Tensor | None:
    """Which tokens of a sample are measured, if it is a pair of an input and booleans."""
    second = item[1] if isinstance(item, tuple | list) and len(item) > 1 else None
    if isinstance(second, Tensor) and second.dtype == torch.bool and second.ndim == 1:
        return second
    return None


def _collate(items: list[tuple[int, Any]]) -> Batch:
    """Numbered samples -> a batch, with classes and masks where every sample has one."""
    inputs = [item[0] if isinstance(item, tuple | list) else item for _, item in items]
    classes = [_class_of(item) for _, item in items]
    masks = [mask for _, item in items if (mask := _mask_of(item)) is not None]
    return Batch(
        ids=torch.tensor([number for number, _ in items]),
        inputs=torch.stack(inputs),
        labels=None if None in classes else torch.tensor(classes),
        mask=torch.stack(masks) if len(masks) == len(items) else None,
    )


class _Numbered(Dataset[tuple[int, Any]]):
    """Samples with their numbers, checked one by one so that an error can name the sample."""

    def __init__(self, dataset: Any, name: str) -> None:
        self.dataset = dataset
        self.name = name

    def __getitem__(self, number: int) -> tuple[int, Any]:
        whole = self.dataset[number]
        item = whole[0] if isinstance(whole, tuple | list) else whole
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
        return number, whole


def _open(data: Any, transform: Transform | TextReader | None) -> tuple[Any, str, str]:
    """The map-style data set, its name and its fingerprint."""
    if isinstance(data, Tensor):
        return data, f"tensor {tuple(data.shape)}", _hash_of(data)
    if isinstance(data, str) and data in NAMES:
        content = READERS[data].read(data)
        if isinstance(content, str):
            return _of_text(content, data, transform)
        images, labels = content
        dataset = ImageArray(images, labels, _needed(transform, data))
        return dataset, data, _hash(images)
    if isinstance(data, str | Path):
        folder = Path(data)
        if folder.suffix == SUFFIX:
            return _of_text(folder, folder.name, transform)
        if not folder.is_dir():
            raise DataError(
                f"data '{data}' cannot be opened",
                "it is a file" if folder.exists() else "it is neither a folder nor a known name",
                nearest(str(data), NAMES) + ", a folder of images, or a .txt file",
            )
        images_in = ImageFolder(folder, _needed(transform, str(data)))
        return images_in, folder.name, images_in.fingerprint
    if isinstance(data, TextWindows):
        return data, data.name, data.fingerprint
    if hasattr(data, "column_names"):
        return _of_text(_column(data), type(data).__name__, transform)
    if isinstance(data, Sized) and hasattr(data, "__getitem__"):
        first = data[0][0] if isinstance(data[0], tuple | list) else data[0]
        known = _hash_of(first) if isinstance(first, Tensor) else ""
        return data, type(data).__name__, f"{len(data)}-{known}"
    raise DataError(
        f"data of type {type(data).__name__} cannot be opened",
        "a probe reads names, folders, text files, tensors, Datasets and DataLoaders",
        f"Pass one of them, or a name: {', '.join(NAMES)}",
    )


def _of_text(
    text: str | Path, name: str, transform: Transform | TextReader | None
) -> tuple[TextWindows, str, str]:
    """Windows of a text by the model's own tokenizer."""
    if transform is None:
        raise DataError(
            f"the text of {name} cannot be prepared",
            "the model does not say how (its tokenizer)",
            "Pass preprocess='text:bytes@128', say, or a TextPreprocess, to load or wrap it",
        )
    if not isinstance(transform, TextReader):
        raise DataError(
            f"{name} is text",
            "the model reads images",
            "Pass images, such as 'fashion-mnist' or a folder, or use a language model",
        )
    windows = transform.windows(text)
    return windows, name, windows.fingerprint


def _column(data: Any) -> str:
    """The rows of a Hugging Face dataset's column `text`, one after another."""
    columns = data.column_names
    if isinstance(columns, Mapping):
        raise DataError(
            f"a {type(data).__name__} of {', '.join(columns)} cannot be opened",
            "it is several data sets",
            f"Pass one of them, such as data['{next(iter(columns), 'train')}']",
        )
    if not columns or COLUMN not in columns:
        raise DataError(
            f"a {type(data).__name__} has no column '{COLUMN}'",
            f"its columns are {', '.join(columns or []) or 'not known'}",
            f"Name it so, with data.rename_column(..., '{COLUMN}')",
        )
    return "\n".join(str(row) for row in data[COLUMN])


def _needed(transform: Transform | TextReader | None, name: str) -> Transform:
    if isinstance(transform, TextReader):
        raise DataError(
            f"{name} holds images",
            "the model reads text",
            "Pass a text, such as 'kjv' or a .txt file, or use an image model",
        )
    if transform is None:
        raise DataError(
            f"the images of {name} cannot be prepared",
            "the model does not say how (size, mean and std)",
            "Pass preprocess='imagenet' if it was trained so, or a Preprocess of its own",
        )
    return transform


def _of_loader(loader: DataLoader[Any], limit: int | None) -> Source:
    """A loader's own batches, numbered in the order that they come."""
    dataset = loader.dataset
    count = len(dataset) if isinstance(dataset, Sized) and not loader.drop_last else None
    count = min(count, limit) if count is not None and limit is not None else count

    def batches(batch_size: int, workers: int, *, first: int = 0, step: int = 1) -> Iterator[Batch]:
        assert (first, step) == (0, 1)
        seen = 0
        for whole in loader:
            batch = _of_batch(whole, seen, None if limit is None else limit - seen)
            inputs = batch.inputs
            if inputs.is_floating_point() and not inputs.isfinite().all():
                bad = (~inputs.flatten(1).isfinite().all(dim=1)).nonzero()[0, 0]
                raise DataError(
                    f"sample {seen + int(bad)} of the loader holds NaN or infinity",
                    "every measure of it would be meaningless",
                    "Remove or repair that sample",
                )
            yield batch
            seen += len(batch.ids)
            if limit is not None and seen >= limit:
                return

    return Source(
        name=f"DataLoader of {type(dataset).__name__}",
        fingerprint="",
        count=count,
        batches=batches,
        labelled=isinstance(dataset, Sized) and _class_of(dataset[0]) is not None,
    )


def _of_batch(whole: Any, seen: int, room: int | None) -> Batch:
    """A loader's batch, numbered from `seen` and cut to the room that is left."""
    inputs = whole[0] if isinstance(whole, tuple | list) else whole
    second = whole[1] if isinstance(whole, tuple | list) and len(whole) > 1 else None
    inputs = inputs[:room]
    labels = mask = None
    if isinstance(second, Tensor):
        if second.dtype == torch.bool and second.ndim == 2:
            mask = second[:room]
        elif second.ndim == 1 and not second.is_floating_point():
            labels = second[:room]
    ids = torch.arange(seen, seen + len(inputs))
    return Batch(ids=ids, inputs=inputs, labels=labels, mask=mask)


def _hash_of(tensor: Tensor) -> str:
    plain = tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor  # NumPy has none
    return _hash(plain.numpy(force=True))


def _hash(array: np.ndarray[Any, Any]) -> str:
    digest = hashlib.sha256(str((array.shape, array.dtype)).encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]
