"""Samples by their numbers, and the batches that they are put into."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from whitebox_probe._core.errors import DataError, ProbeError
from whitebox_probe._core.gate import named, said
from whitebox_probe._core.memory import available
from whitebox_probe.data._parts import Parts
from whitebox_probe.data._reading import Reading

_STORES = (Tensor, np.ndarray, list, tuple, TensorDataset)
"""Data that hold all their samples at once: none is written over by the next."""
_REPAIR = "Remove or repair that sample"
_MANY, _BYTES = 1 << 20, 100
"""So many samples are numbered in memory without a look at it, a number in so many bytes."""


@dataclass(frozen=True)
class Batch:
    """Samples of a pass.

    Attributes: ids: numbers (B,). inputs (B, ...). identities: what tells the samples apart, 64
        bits each, (B,). labels: classes (B,), if known. mask: which tokens count (B, n).
        attended: which tokens are no padding (B, n), where the data say so.
        skipped: numbers of samples that were to be there and cannot be read -> why.
        classless: the number of the first sample without a class, if one has none, and why: what
        stands in its place. rows: of a part of a batch that was taken apart, which they were in it,
        (B,). ends: whether no other part of that batch comes behind.
    """

    ids: Tensor
    inputs: Tensor
    identities: Tensor
    labels: Tensor | None = None
    mask: Tensor | None = None
    attended: Tensor | None = None
    skipped: Mapping[int, str] = field(default_factory=dict)
    classless: int | None = None
    why: str = ""
    rows: Tensor | None = None
    ends: bool = True


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
        reading: Reading = Reading(),  # noqa: B008 (frozen)
        skip: bool = False,
    ) -> None:
        self.dataset = dataset
        self.name = name
        self.identify = identify
        self.gone = frozenset(gone)
        self.classify = classify
        self.reading = reading
        self.skip = skip
        self.stored = isinstance(dataset, _STORES)

    def __getitem__(self, number: int) -> "Sample | Unread":
        """The sample, or what is wrong with it."""
        what = f"sample {number} of {self.name}"
        try:
            whole = read(self.dataset, number, what)
            return self.made(whole, number)
        except ProbeError as error:
            return self.unread(number, error)

    def made(self, whole: Any, number: int) -> "Sample | Unread":
        """The sample of what the data gave for it, or what is wrong with it."""
        what = f"sample {number} of {self.name}"
        try:
            parts, identity = self.reading.sample(
                whole, what, identify=self.identify is None, copy=not self.stored
            )
            check_finite(parts.inputs, what, f"{_REPAIR}, or probe with on_error='skip'")
            if self.identify is not None:
                identity = self.identify(number)
        except ProbeError as error:
            return self.unread(number, error)
        except MemoryError:
            raise
        except Exception as error:  # whatever an object of no known kind leads to
            return self.unread(number, _unreadable(what, error))
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
        if label is None:
            return Unread(number, without_class(number, found.parts.why), skip=False)
        return label


def without_class(number: int, why: str = "") -> DataError:
    """That a sample has no class, where a class-wise measure is taken."""
    return DataError(
        f"sample {number} has no class",
        why or "a class-wise measure is asked for, which takes every sample's",
        "Give it one (a whole number beside the input), or leave it or the measure out",
    )


@dataclass(frozen=True)
class Sample:
    """What a data set gave, by which number, and what tells it apart."""

    number: int
    parts: Parts
    identity: int


def length_of(data: Any, name: str) -> int:
    """How many samples data say that they hold.

    Raises: DataError for whatever their own code raises or gives, and for more than can be counted.
    """
    try:
        count = len(data)
    except (ProbeError, MemoryError):
        raise
    except Exception as error:  # len() itself refuses what is negative or no whole number
        raise DataError(
            f"how many samples {name} holds cannot be had",
            f"its __len__ gave {named(error)}",
            "Mend it, or pass an iterable of the samples",
        ) from error
    if count > _MANY and count * _BYTES > available():
        raise DataError(
            f"{name} says that it holds {count} samples",
            "their numbers alone do not fit into memory",
            "Mend its __len__, or pass an IterableDataset, of which limit= takes the first ones",
        )
    return count


def length_if_any(data: Any, name: str) -> int | None:
    """How many samples a stream says that it holds; None where it does not say.

    A `__len__` that raises TypeError says that there is no length, to Python's list and to torch:
    so does that of torch's chains of streams without one.

    Raises: DataError as `length_of` does.
    """
    if not isinstance(data, Sized):
        return None
    try:
        type(data).__len__(data)  # not len(), whose own TypeError is of what this gave
    except TypeError:
        return None
    except Exception:
        pass  # told by length_of
    return length_of(data, name)


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
        raise _unreadable(what, error) from error


def _unreadable(what: str, error: Exception) -> DataError:
    return DataError(
        f"{what} cannot be read",
        named(error),
        "Mend the Dataset, or leave that sample out",
    )


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
    attended = [each.parts.attended for each in samples]
    classes = [each.parts.label for each in samples]
    try:
        return Batch(
            ids=torch.tensor(numbers),
            inputs=_stacked(_of_one_type(inputs, numbers), numbers, "shape"),
            identities=torch.tensor([each.identity for each in samples]),
            skipped=skipped,
            labels=None if None in classes else torch.tensor(classes),
            classless=numbers[classes.index(None)] if None in classes else None,
            why=samples[classes.index(None)].parts.why if None in classes else "",
            attended=_masks(attended, numbers),
            mask=_masks(masks, numbers),
        )
    except DataError as error:
        return error


def _of_one_type(inputs: Sequence[Tensor], numbers: Sequence[int]) -> Sequence[Tensor]:
    """The inputs, which have one type: else a batch's would depend on what is in it.

    Raises: DataError.
    """
    for number, each in zip(numbers, inputs, strict=True):
        if each.dtype != inputs[0].dtype:
            raise DataError(
                f"samples {numbers[0]} and {number} cannot be put into one batch",
                f"one is of {inputs[0].dtype}, the other of {each.dtype}",
                "Give all samples one type",
            )
    return inputs


def _masks(parts: Sequence[Tensor | None], numbers: Sequence[int]) -> Tensor | None:
    """The samples' masks as one tensor; None where no sample has any."""
    return None if all(each is None for each in parts) else _stacked(parts, numbers, "mask")


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


def is_death(error: BaseException) -> bool:
    """Whether a DataLoader says so that a process of its has ended."""
    # What a data set raises there is handed on as "Caught ... in DataLoader worker process".
    return isinstance(error, RuntimeError) and said(error).startswith("DataLoader worker (pid")


def _of_workers(batches: Iterable[Batch | ProbeError]) -> Iterator[Batch | ProbeError]:
    """The batches; a process of torch's that read them may have ended.

    Raises: DataError.
    """
    try:
        yield from batches
    except (RuntimeError, ConnectionError, EOFError) as error:
        if isinstance(error, RuntimeError) and not is_death(error):
            raise
        raise DataError(
            "a process that reads the data has ended",
            named(error),
            "Use fewer workers (0 reads in this process), in case memory was short",
        ) from error


def agreeing(batches: Iterable[Batch | ProbeError]) -> Iterator[Batch]:
    """The batches; what was wrong with a sample is raised.

    Raises: DataError; also where some batches have masks and others have none, or another kind.
    """
    before: str | None = None
    for batch in _of_workers(batches):
        if isinstance(batch, ProbeError):
            raise batch
        if len(batch.ids) == 0:
            yield batch
            continue
        found = "no mask" if batch.mask is None else "a mask of what is measured"
        found = found if batch.attended is None else "a mask of padding"
        if before not in (None, found):
            raise DataError(
                f"sample {int(batch.ids[0])} has {found}",
                f"those before it have {before}",
                "Give all samples a mask of their tokens, or none",
            )
        before = found
        yield batch


def batch_of(whole: Any, seen: int, room: int | None, reading: Reading) -> Batch:
    """A loader's batch, numbered from `seen` and cut to the room that is left.

    Raises: DataError.
    """
    parts, known = reading.batch(whole, f"the loader's batch from sample {seen} on", room)
    inputs: Tensor = parts.inputs
    if len(inputs) and inputs.numel() == 0:
        check_finite(inputs[0], f"sample {seen} of the loader")
    if inputs.is_floating_point() and not inputs.isfinite().all():
        bad = (~inputs.reshape(len(inputs), -1).isfinite().all(dim=1)).nonzero()[0, 0]
        check_finite(inputs[bad], f"sample {seen + int(bad)} of the loader")
    return Batch(
        ids=torch.arange(seen, seen + len(inputs)),
        inputs=inputs,
        identities=torch.tensor(known, dtype=torch.int64),
        labels=parts.label,
        mask=parts.mask,
        attended=parts.attended,
        classless=seen if parts.label is None else None,
        why=parts.why,
    )


def classed(batches: Iterable[Batch]) -> Iterator[Batch]:
    """The batches of a pass that needs classes.

    Raises: DataError that names the first sample without one.
    """
    for batch in batches:
        if batch.classless is not None:
            raise without_class(batch.classless, batch.why)
        yield batch


def check_finite(item: Tensor, what: str, fix: str = _REPAIR) -> None:
    """Refuse an input with NaN or infinity, or of no numbers at all.

    Raises: DataError.
    """
    if item.numel() == 0 and item.is_floating_point():
        raise DataError(
            f"{what} holds no numbers", f"its shape is {tuple(item.shape)}", "Leave it out"
        )
    if item.is_floating_point() and not item.isfinite().all():
        raise DataError(
            f"{what} holds NaN or infinity",
            "every measure of it would be meaningless",
            fix,
        )
