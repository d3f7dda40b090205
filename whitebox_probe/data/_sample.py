"""What a sample is: an input, alone or with its class, its mask or both, in either order.

A class is one whole number. A mask says which of n tokens are measured: n booleans, or 0 and 1 as
tokenizers give them. Any other row of numbers beside an input is refused: it would be a mask that
nobody heeds. So is whatever else stands in a tuple of three parts or more.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from whitebox_probe._core.errors import DataError, ProbeError
from whitebox_probe.data import _digest


@dataclass(frozen=True)
class Batch:
    """Samples of a pass.

    Attributes: ids: numbers (B,). inputs (B, ...). identities: what tells the samples apart, 64
        bits each, (B,). labels: classes (B,), if known. mask: which tokens count (B, n).
        skipped: numbers of samples that were to be there and cannot be read -> why.
        classless: the number of the first sample without a class, if one has none.
    """

    ids: Tensor
    inputs: Tensor
    identities: Tensor
    labels: Tensor | None = None
    mask: Tensor | None = None
    skipped: Mapping[int, str] = field(default_factory=dict)
    classless: int | None = None


class Numbered(Dataset[Any]):
    """Samples with their numbers, checked one by one so that an error can name the sample.

    An error is a value here: torch hands those of its reading processes on as text in a
    RuntimeError. `collate` passes it on, and `raised` raises it.
    """

    def __init__(
        self,
        dataset: Any,
        name: str,
        identify: Callable[[int], int] | None = None,
        gone: Collection[int] = (),
        *,
        classify: Callable[[int], int] | None = None,
        skip: bool = False,
    ) -> None:
        self.dataset = dataset
        self.name = name
        self.identify = identify
        self.gone = frozenset(gone)
        self.classify = classify
        self.skip = skip

    def __getitem__(self, number: int) -> "Sample | Unread":
        """The sample, or what is wrong with it."""
        what = f"sample {number} of {self.name}"
        try:
            whole = read(self.dataset, number, what)
            parts = parts_of(whole, 1, what)
            _check(parts.inputs, what)
            known = None
            if self.identify is None:
                known = _digest.of_sample(parts.inputs, parts.mask)
            identity = self.identify(number) if self.identify is not None else known
        except ProbeError as error:
            return self.unread(number, error)
        assert identity is not None
        return Sample(number, parts, identity)

    def unread(self, number: int, error: ProbeError) -> "Unread":
        """What is known of a sample that cannot be read; one whose file is gone is skipped."""
        return Unread(number, error, self.skip or number in self.gone)


@dataclass(frozen=True)
class Unread:
    """A sample that cannot be read, why, and whether the pass goes on without it."""

    number: int
    error: ProbeError
    skip: bool


class Identities(Dataset[Any]):
    """What tells samples apart, without preparing them where that is known otherwise."""

    def __init__(self, numbered: Numbered) -> None:
        self.numbered = numbered

    def __getitem__(self, number: int) -> "int | Unread":
        """The identity of a sample, or what is wrong with it."""
        if self.numbered.identify is None:
            found = self.numbered[number]
            return found.identity if isinstance(found, Sample) else found
        try:
            return self.numbered.identify(number)
        except ProbeError as error:
            return self.numbered.unread(number, error)


class Classes(Dataset[Any]):
    """The classes of samples, without preparing them where these are known otherwise."""

    def __init__(self, numbered: Numbered) -> None:
        self.numbered = numbered

    def __getitem__(self, number: int) -> "int | Unread":
        """The class of a sample, or what is wrong with it."""
        if self.numbered.classify is not None:
            return self.numbered.classify(number)
        found = self.numbered[number]
        if isinstance(found, Unread):
            return found
        label: int | None = found.parts.label
        return Unread(number, without_class(number), skip=False) if label is None else label


def without_class(number: int) -> DataError:
    """That a sample has no class, where a class-wise measure is taken."""
    return DataError(
        f"sample {number} has no class",
        "a class-wise measure is asked for, which takes every sample's",
        "Give it one (a whole number beside the input), or leave it or the measure out",
    )


@dataclass(frozen=True)
class Sample:
    """What a data set gave, by which number, and what tells it apart."""

    number: int
    parts: "Parts"
    identity: int


@dataclass(frozen=True)
class Parts:
    """What a sample or a loader's batch consists of.

    Attributes: inputs: as they were given. label: a sample's class, or those of a batch (B,).
        mask: which tokens are measured, (n,) or (B, n).
    """

    inputs: Any
    label: Any = None
    mask: Tensor | None = None


def read(dataset: Any, number: int, what: str) -> Any:
    """A sample of a data set.

    Raises: DataError for whatever its own code raises: a StopIteration, say, would end the reading
        without a word.
    """
    try:
        return dataset[number]
    except (ProbeError, MemoryError):
        raise
    except Exception as error:
        told = (str(error).splitlines() or [""])[0]
        raise DataError(
            f"{what} cannot be read",
            f"{type(error).__name__}{f': {told}' if told else ''}",
            "Mend the Dataset, or leave that sample out",
        ) from error


def collate(items: Sequence[Sample | Unread]) -> Batch | ProbeError:
    """Numbered samples -> a batch, with classes and masks where every sample has one."""
    wrong = [item for item in items if isinstance(item, Unread)]
    if any(not each.skip for each in wrong):
        return next(each.error for each in wrong if not each.skip)
    skipped = {each.number: f"{each.error.what}: {each.error.why}" for each in wrong}
    samples = [item for item in items if isinstance(item, Sample)]
    if not samples:
        nothing = torch.empty(0, dtype=torch.int64)
        return Batch(ids=nothing, inputs=nothing, identities=nothing, skipped=skipped)
    numbers = [each.number for each in samples]
    inputs = [each.parts.inputs for each in samples]
    masks = [each.parts.mask for each in samples]
    classes = [each.parts.label for each in samples]
    try:
        return Batch(
            ids=torch.tensor(numbers),
            inputs=_stacked(inputs, numbers, "shape"),
            identities=torch.tensor([each.identity for each in samples]),
            skipped=skipped,
            labels=None if None in classes else torch.tensor(classes),
            classless=numbers[classes.index(None)] if None in classes else None,
            mask=None if all(m is None for m in masks) else _stacked(masks, numbers, "mask"),
        )
    except DataError as error:
        return error


def _stacked(parts: Sequence[Tensor | None], numbers: Sequence[int], what: str) -> Tensor:
    """The samples' parts as one tensor.

    Raises: DataError where their shapes are not the same, or one has none.
    """
    shapes = [None if part is None else tuple(part.shape) for part in parts]
    for number, shape in zip(numbers, shapes, strict=True):
        if shape != shapes[0]:
            told = " and ".join("none" if s is None else str(s) for s in (shapes[0], shape))
            raise DataError(
                f"samples {numbers[0]} and {number} cannot be put into one batch",
                f"their {what}s are {told}",
                f"Give all samples one {what}, or use a batch size of 1"
                if what == "shape"
                else "Give all samples a mask of their tokens, or none",
            )
    return torch.stack([part for part in parts if part is not None])


def agreeing(batches: Iterable[Batch | ProbeError]) -> Iterator[Batch]:
    """The batches; what was wrong with a sample is raised.

    Raises: DataError; also where some batches have masks and others have none.
    """
    masked = None
    for batch in batches:
        if isinstance(batch, ProbeError):
            raise batch
        if len(batch.ids) == 0:
            yield batch
            continue
        if masked is not None and masked != (batch.mask is not None):
            raise DataError(
                f"sample {int(batch.ids[0])} has {'a' if masked is False else 'no'} mask",
                f"those before it have {'none' if masked is False else 'one'}",
                "Give all samples a mask of their tokens, or none",
            )
        masked = batch.mask is not None
        yield batch


def batch_of(whole: Any, seen: int, room: int | None) -> Batch:
    """A loader's batch, numbered from `seen` and cut to the room that is left.

    Raises: DataError.
    """
    what = f"the loader's batch from sample {seen} on"
    parts = parts_of(whole, 2, what)
    inputs, mask, labels = parts.inputs, parts.mask, parts.label
    if not isinstance(inputs, Tensor) or inputs.ndim == 0:
        raise DataError(
            f"{what} is a {type(inputs).__name__}",
            "the model takes tensors",
            "Let it give tensors (B, ...), or pairs of them and classes (B,) or masks (B, n)",
        )
    inputs = inputs[:room]
    labels = labels if labels is None else labels[:room]
    mask = mask if mask is None else mask[:room]
    if inputs.is_floating_point() and not inputs.isfinite().all():
        bad = (~inputs.flatten(1).isfinite().all(dim=1)).nonzero()[0, 0]
        _check(inputs[bad], f"sample {seen + int(bad)} of the loader")
    ids = torch.arange(seen, seen + len(inputs))
    masks = [None] * len(inputs) if mask is None else list(mask)
    known = [_digest.of_sample(item, here) for item, here in zip(inputs, masks, strict=True)]
    identities = torch.tensor(known, dtype=torch.int64)
    return Batch(
        ids=ids,
        inputs=inputs,
        identities=identities,
        labels=labels,
        mask=mask,
        classless=seen if labels is None else None,
    )


def classed(batches: Iterable[Batch]) -> Iterator[Batch]:
    """The batches of a pass that needs classes.

    Raises: DataError that names the first sample without one.
    """
    for batch in batches:
        if batch.classless is not None:
            raise without_class(batch.classless)
        yield batch


def parts_of(whole: Any, axes: int, what: str) -> Parts:
    """The parts of a sample (axes 1) or of a loader's batch (axes 2).

    What stands beside an input in a pair and is no row of numbers, such as a caption, is left
    alone: it says nothing of tokens. In a longer tuple every part has to be understood.

    Raises: DataError for numbers that are neither a mask nor a class, and for a tuple of three
        parts or more that holds something else, or two of a kind.
    """
    if not isinstance(whole, tuple | list) or len(whole) == 0:
        return Parts(whole)
    inputs, *beside = whole
    labels, masks, others = [], [], []
    for part in beside:
        label = _class_in(part) if axes == 1 else _classes_in(part)
        mask = None if label is not None else _mask_in(part, inputs, axes, what)
        if label is not None:
            labels.append(label)
        elif mask is not None:
            masks.append(mask)
        elif part is not None:
            others.append(part)
    if len(beside) > 1 and (others or len(labels) > 1 or len(masks) > 1):
        kind = "two classes" if len(labels) > 1 else "two masks"
        raise DataError(
            f"{what} is a tuple of {len(whole)} parts that are not understood",
            f"beside its input it holds {f'a {type(others[0]).__name__}' if others else kind}, and "
            "a class and a mask of its tokens are all that is read",
            "Give (input, class, mask), or a part of it",
        )
    return Parts(inputs, labels[0] if labels else None, masks[0] if masks else None)


def class_of(whole: Any) -> int | None:
    """The class of a sample, if a whole number stands beside its input.

    Of what is not understood there is none: what puts a loader's batches together may mend it.
    """
    try:
        label: int | None = parts_of(whole, 1, "the sample").label
    except DataError:
        return None
    return label


def _class_in(part: Any) -> int | None:
    """A sample's class, if that is what a part of it is."""
    if isinstance(part, Tensor) and part.ndim == 0 and not part.is_floating_point():
        return int(part)
    is_whole = isinstance(part, int | np.integer) and not isinstance(part, bool)
    return int(part) if is_whole else None


def _classes_in(part: Any) -> Tensor | None:
    """A batch's classes (B,), if that is what a part of it is."""
    is_row = isinstance(part, Tensor) and part.ndim == 1 and not part.is_floating_point()
    return part if is_row else None


def _mask_in(part: Any, inputs: Any, axes: int, what: str) -> Tensor | None:
    """Which tokens are measured, if a part beside the inputs says so.

    Args: axes: 1 for a sample, whose mask is (n,); 2 for a batch, whose masks are (B, n).
    Raises: DataError for numbers that are neither a mask nor a class.
    """
    second = _as_tensor(part)
    # More axes beside an image are its segmentation, say; a text has nothing of that kind.
    reads_ids = isinstance(inputs, Tensor) and not inputs.is_floating_point()
    if second is None or second.ndim < axes or (second.ndim > axes and not reads_ids):
        return None
    if second.ndim == axes and second.dtype == torch.bool:
        return second
    is_whole = not (second.is_floating_point() or second.is_complex())
    is_mask = second.ndim == axes and second.shape[-1] > 1
    if is_mask and is_whole and bool(((second == 0) | (second == 1)).all()):
        return second.bool()
    raise DataError(
        f"{what} has {tuple(second.shape)} numbers of {str(second.dtype).removeprefix('torch.')} "
        "beside its input",
        "they are neither a mask (booleans, or whole numbers that are 0 or 1, one a token) nor a "
        "class (one whole number)",
        "Give the mask of the tokens that are measured, or the class, or the input alone",
    )


def _as_tensor(second: Any) -> Tensor | None:
    """A tensor, an array of numbers or a list of numbers, as a tensor; None for anything else."""
    if isinstance(second, Tensor):
        return second
    is_list = isinstance(second, tuple | list) and len(second) > 0
    if is_list and all(isinstance(each, int | float | np.number) for each in second):
        return torch.tensor(second)
    if isinstance(second, np.ndarray) and second.dtype.kind in "biuf":
        return torch.tensor(np.ascontiguousarray(second))
    return None


def _check(item: Any, what: str) -> None:
    """Refuse an input that is no tensor of finite numbers.

    Raises: DataError.
    """
    if not isinstance(item, Tensor):
        raise DataError(
            f"{what} is a {type(item).__name__}",
            "the model takes tensors",
            "Give the Dataset a transform that makes a tensor",
        )
    if item.is_floating_point() and not item.isfinite().all():
        raise DataError(
            f"{what} holds NaN or infinity",
            "every measure of it would be meaningless",
            "Remove or repair that sample",
        )
