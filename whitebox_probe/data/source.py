"""Open any kind of data as one `Source` of numbered samples."""

import multiprocessing
import signal
from collections.abc import (
    Callable,
    Collection,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Subset

from whitebox_probe._core.errors import DataError, ProbeError
from whitebox_probe._core.gate import named
from whitebox_probe._core.randomness import apart, beside
from whitebox_probe.data._reading import Reading
from whitebox_probe.data._sample import Batch as Batch
from whitebox_probe.data._sample import (
    Classes,
    Identities,
    Numbered,
    Sample,
    Unread,
    agreeing,
    batch_of,
    collate,
    is_death,
    length_of,
)
from whitebox_probe.data._sample import classed as classed
from whitebox_probe.data._streams import given_once
from whitebox_probe.data.catalogue import open_any
from whitebox_probe.data.choices import Choices
from whitebox_probe.data.given import as_chosen
from whitebox_probe.data.images import Transform
from whitebox_probe.data.kind import Opened
from whitebox_probe.data.text import TextReader

Batches = Generator[Batch, None, None]
_READ_AT_ONCE = 64


@dataclass(frozen=True)
class Source:
    """Numbered samples.

    Attributes:
        name: what the table calls the data. fingerprint: hash of what is known before they are
            read, "" for a loader. count: number of samples, None for a loader of unknown length.
        numbers: of the samples that it gives, () for a loader. labelled: whether they have classes,
            or it is not known; why: what they have in their place.
        batches: called with (batch size, workers), yields `Batch`es; with first= and step= too, it
            yields of these only every step-th, from the first-th on (not for a loader).
        left_out: why a part of the data is no sample -> its names, such as paths of files.
        identities: called with (numbers, workers), what tells these samples apart, 64 bits
            each; None for one that is skipped. classes: called so, their classes. members: of
            files, names -> sizes in bytes. content: called with a batch size, and first= and step=
            as `batches` is, a hash of all that these samples are, read but not prepared; None where
            the fingerprint tells it, or nothing does.
    """

    name: str
    fingerprint: str
    count: int | None
    batches: Callable[..., Batches]
    numbers: Sequence[int] = ()
    labelled: bool = False
    why: str = ""
    left_out: Mapping[str, Sequence[str]] = field(default_factory=dict)
    identities: Callable[[Sequence[int], int], list[int | None]] | None = None
    classes: Callable[[Sequence[int], int], list[int | None]] | None = None
    members: Mapping[str, int] | None = None
    content: Callable[..., str] | None = None

    def expect_whole(self, ids: NDArray[np.int64], skipped: Collection[int] = ()) -> None:
        """Check that a pass got the samples that it was promised.

        Raises: DataError for one too few, too many, or another.
        """
        if self.numbers:
            got, wanted = ids.tolist(), sorted(set(self.numbers) - set(skipped))
            if sorted(got) == wanted:
                return
            missing, others = (sorted(set(a) - set(b)) for a, b in ((wanted, got), (got, wanted)))
            told = [
                f"sample {each[0]} is {what}"
                for each, what in ((missing, "missing"), (others, "none of them"))
                if each
            ]
            why = " and ".join(told) or "one came twice"
        elif self.count is None or self.count == len(ids) + len(skipped):
            return
        else:
            why = "it says how many it has, and gives another number"
        fix = "Mend the data: a pass over a part of them would be taken for the whole"
        if not self.numbers and self.count is not None and len(ids) > self.count:
            fix = (
                "Mend its length; of a DataLoader whose data set gives batches, use batch_size=None"
            )
        raise DataError(
            f"{len(ids)} samples of {self.name} were read of {self.count or len(self.numbers)}",
            why,
            fix,
        )


def open_data(
    data: Any,
    *,
    transform: Transform | TextReader | None = None,
    limit: int | None = None,
    seed: int = 0,
    without: Collection[int] = (),
    on_error: str = "stop",
    before: Mapping[str, int] | None = None,
    input_name: str | None = None,
    mask_name: str | None = None,
    sample_axes: int | None = None,
    dtype: torch.dtype | None = None,
) -> Source:
    """Open data for a probe.

    Args:
        data: of one of the kinds that `whitebox-probe list --data` names: a file of this folder
            each. A sample is an input, or a tuple of it and its class (a whole number), its mask
            (which of n tokens are measured: booleans, or whole numbers that are 0 or 1) or both.
        transform: makes a model's input of a PIL image, or of a text; needed for names, folders and
            texts.
        limit: at most so many samples, drawn without replacement by `seed`, kept in their order
            (a folder sorted by class would otherwise give one class). A loader's first ones.
        seed: of the draw. without: numbers of samples that are not to be drawn.
        on_error: what becomes of a sample that cannot be read: `stop`, or `skip`. before: `members`
            of an earlier source of the same data, whose numbers stay when files are gone.
        input_name, mask_name, sample_axes, dtype: of the model, as `Choices` describes them.

    Raises: DataError; PluginError for a kind that another package adds.
    """
    if limit is not None and limit < 1:
        raise DataError(
            f"limit is {limit}", "at least one sample is needed", "Use a limit of 1 or more"
        )
    data, transform, choices = as_chosen(data, transform)
    choices = replace(
        choices, input_name=input_name, mask_name=mask_name, sample_axes=sample_axes, dtype=dtype
    )
    with beside():
        return _opened(data, transform, choices, limit, seed, without, on_error, before)


def _opened(
    data: Any,
    transform: Transform | TextReader | None,
    choices: Choices,
    limit: int | None,
    seed: int,
    without: Collection[int],
    on_error: str,
    before: Mapping[str, int] | None,
) -> Source:
    """The data as a source; its first samples are read."""
    opened = _as_before(open_any(data, transform, choices), before)
    reading = Reading(transform, opened.choices or choices)
    count = length_of(opened.dataset, opened.name) if opened.numbered else opened.count
    if count == 0:
        raise DataError(
            f"{opened.name} is empty", "it holds no sample", "Pass data with at least one sample"
        )
    if not opened.numbered:
        if on_error == "skip" and not opened.single:
            raise DataError(
                f"no sample of {opened.name} can be skipped",
                "it hands out whole batches",
                _unbatched(opened),
            )
        return _in_their_order(opened, reading, limit, skip=on_error == "skip")
    numbers = _drawn(opened, limit=limit, seed=seed, without=without)
    return _by_number(opened, reading, numbers, skip=on_error == "skip")


def _context(workers: int) -> Any:
    """How readers are started: as the caller chose, or as usual, which then stays to be chosen."""
    if workers == 0:
        return None
    chosen = multiprocessing.get_start_method(allow_none=True)
    return multiprocessing.get_context(chosen or multiprocessing.get_all_start_methods()[0])


def _unbatched(opened: Opened) -> str:
    """How to pass the single samples of what gives whole batches."""
    if isinstance(opened.dataset, DataLoader) and opened.dataset.batch_sampler is not None:
        return "Pass the loader's Dataset, or on_error='stop'"
    return "Let it give single samples (without .batched(...), say), or on_error='stop'"


def _as_before(opened: Opened, before: Mapping[str, int] | None) -> Opened:
    """The data with the files that an earlier run had, if these only lost some since."""
    now = opened.members
    if before is None or now is None or opened.again is None:
        return opened
    lost_some = now.items() < before.items()
    return opened.again(before) if lost_some else opened


def _drawn(
    opened: Opened, *, limit: int | None, seed: int, without: Collection[int]
) -> Sequence[int]:
    """The numbers of the samples that are given, in order."""
    left = sorted(set(range(length_of(opened.dataset, opened.name))) - set(without))
    if not left:
        raise DataError(
            f"no sample of {opened.name} is left",
            "a basis is fitted on samples that are not measured, and all are measured",
            "Give limit=, or other data with fit_data=",
        )
    if limit is None or limit >= len(left):
        return left
    chosen = torch.randperm(len(left), generator=torch.Generator().manual_seed(seed))[:limit]
    return [left[i] for i in chosen.sort().values.tolist()]


def _by_number(opened: Opened, reading: Reading, numbers: Sequence[int], *, skip: bool) -> Source:
    """Samples that are asked for one by one, and may be shared between processes."""
    numbered = Numbered(
        opened.dataset,
        opened.name,
        opened.identify,
        opened.gone,
        classify=opened.classify,
        reading=reading,
        skip=skip,
    )

    def dealt(batch_size: int, first: int = 0, step: int = 1) -> list[int]:
        starts = range(first * batch_size, len(numbers), step * batch_size)
        return [number for start in starts for number in numbers[start : start + batch_size]]

    def content(batch_size: int, *, first: int = 0, step: int = 1) -> str:
        assert opened.content is not None
        return opened.content(dealt(batch_size, first, step))

    def batches(batch_size: int, workers: int, *, first: int = 0, step: int = 1) -> Batches:
        loader = DataLoader(
            Subset(numbered, dealt(batch_size, first, step)),
            batch_size=batch_size,
            num_workers=workers,
            multiprocessing_context=_context(workers),
            collate_fn=collate,
            worker_init_fn=_ignore_interrupt,
            generator=torch.Generator(),  # the caller's random numbers are not ours to draw
        )
        with closing(apart(loader)) as read:
            yield from agreeing(read)

    def told(each: Any, some: Sequence[int], workers: int) -> list[int | None]:
        loader = DataLoader(
            Subset(each, some),
            batch_size=_READ_AT_ONCE,
            num_workers=workers,
            multiprocessing_context=_context(workers),
            collate_fn=list,
            worker_init_fn=_ignore_interrupt,
            generator=torch.Generator(),  # the caller's random numbers are not ours to draw
        )
        with closing(apart(loader)) as read:
            found = [each for part in read for each in part]
        for each in found:
            if isinstance(each, Unread) and not each.skip:
                raise each.error
        return [None if isinstance(each, Unread) else each for each in found]

    labelled, why = _labelled(numbered, numbers)
    return Source(
        name=opened.name,
        fingerprint=opened.fingerprint,
        count=len(numbers),
        batches=batches,
        numbers=numbers,
        labelled=labelled,
        why=opened.why or why,
        left_out=opened.left_out,
        identities=partial(told, Identities(numbered)),
        classes=partial(told, Classes(numbered)),
        members=opened.members,
        content=None if opened.content is None else content,
    )


def _labelled(numbered: Numbered, numbers: Sequence[int]) -> tuple[bool, str]:
    """Whether the first sample that is not skipped has a class, and what stands in its place.

    Raises: DataError for one that cannot be read, or if none can.
    """
    for number in numbers:
        found = numbered[number]
        if isinstance(found, Sample):
            return found.parts.label is not None, found.parts.why
        if not found.skip or number == numbers[-1]:
            raise found.error
    return False, ""


def _in_their_order(opened: Opened, reading: Reading, limit: int | None, *, skip: bool) -> Source:
    """Batches as they come, their samples numbered in that order."""
    numbered = Numbered(opened.dataset, opened.name, reading=reading, skip=skip)

    def batches(batch_size: int, workers: int, *, first: int = 0, step: int = 1) -> Batches:
        assert (first, step) == (0, 1)

        def read(loader: Iterable[Any], most: int | None = None) -> Batches:
            with closing(_read(loader)) as given:
                start = list(islice(given, 1)) if opened.single is None else []
                single = opened.single
                if start:  # it is to be seen from what comes first
                    single = reading.is_single(start[0])
                whole = chain(start, given)
                yield from agreeing(
                    _batched(whole, numbered, batch_size, most)
                    if single
                    else _cut(whole, reading, most)
                )

        with closing(read(opened.dataset, limit)) as found:
            yield from given_once(opened.dataset, found, read)
        if opened.tell is not None:
            opened.tell()

    count = opened.count
    if count is not None and limit is not None:
        count = min(count, limit)
    return Source(
        name=opened.name,
        fingerprint=opened.fingerprint,
        count=count,
        batches=batches,
        labelled=opened.labelled,
        why=opened.why,
        left_out=opened.left_out,
    )


def _read(loader: Iterable[Any]) -> Generator[Any, None, None]:
    """What a loader or a stream gives; what its own code raises is told in one line."""
    given = 0
    with closing(apart(loader)) as stream:
        while True:
            try:
                whole = next(stream)
            except StopIteration:
                return
            except (ProbeError, MemoryError):
                raise
            except Exception as error:  # whatever the code of the data set raises
                if is_death(error):
                    raise  # told as that of our own readers
                is_loader = isinstance(loader, DataLoader)
                one, more = ("batch", "batches") if is_loader else ("sample", "samples")
                raise DataError(
                    f"the {'loader' if is_loader else 'stream'} cannot be read behind {given} "
                    f"{one if given == 1 else more}",
                    named(error, -1),
                    "Mend its data set",
                ) from error
            yield whole
            given += 1


def _batched(
    stream: Iterable[Any], numbered: Numbered, size: int, limit: int | None
) -> Iterator[Batch | ProbeError]:
    """Single samples, up to so many, numbered as they come and put into batches."""
    held: list[Sample | Unread] = []
    for number, whole in enumerate(islice(stream, limit)):
        held.append(numbered.made(whole, number))
        if len(held) == size:
            yield collate(held)
            held = []
    if held:
        yield collate(held)


def _cut(whole: Iterable[Any], reading: Reading, limit: int | None) -> Iterator[Batch]:
    """A loader's batches, up to so many samples."""
    seen = 0
    for each in whole:
        batch = batch_of(each, seen, None if limit is None else limit - seen, reading)
        yield batch
        seen += len(batch.ids)
        if limit is not None and seen >= limit:
            return


def _ignore_interrupt(worker: int) -> None:
    """Ctrl-C reaches the readers too; when to stop is their parent's to decide."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
