"""A loader of a stream (an IterableDataset) that several workers read: each sample is given once.

Each worker has a copy of the data set, and gives all of it unless the data set asks which worker it
is (`torch.utils.data.get_worker_info`). That it does shows in no attribute, but in what one worker
alone would give.
"""

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset

from whitebox_probe._core.errors import DataError
from whitebox_probe.data._sample import Batch

Reader = Callable[[Iterable[Any]], Generator[Batch, None, None]]


def given_once(loader: Any, batches: Iterable[Batch], read: Reader) -> Iterator[Batch]:
    """The batches of a loader, of which no sample may come from each of several workers.

    A sample that is the same as one before it is looked up in what one worker alone gives: once
    when the first one comes, as samples that are there twice may be the data's own, and at the end.

    Args: read: makes batches of what a loader gives.
    Raises: DataError.
    """
    is_loader = isinstance(loader, DataLoader)
    shared = is_loader and isinstance(loader.dataset, IterableDataset) and loader.num_workers > 1
    if not shared:
        yield from batches
        return
    given: Counter[int] = Counter()
    total, looked_up = 0, 0
    for batch in batches:
        given.update(batch.identities.tolist())
        total += len(batch.ids)
        if looked_up == 0 and len(given) < total:
            _look_up(loader, given, read)
            looked_up = total
        yield batch
    if len(given) < total != looked_up:
        _look_up(loader, given, read)


def _look_up(loader: DataLoader[Any], given: Counter[int], read: Reader) -> None:
    """Compare with one worker alone, which reads as far as all together can have come.

    Raises: DataError where it gives a sample less often than they did.
    """
    alone: DataLoader[Any] = DataLoader(
        loader.dataset,
        batch_size=loader.batch_size,
        num_workers=1,
        collate_fn=loader.collate_fn,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        timeout=loader.timeout,
        generator=torch.Generator(),  # the caller's random numbers are not ours to draw
    )
    most = given.total() + loader.num_workers * (loader.batch_size or 1)
    found: Counter[int] = Counter()
    whole = True
    with closing(read(alone)) as batches:
        for batch in batches:
            found.update(batch.identities.tolist())
            if found.total() > most:
                whole = False
                break
    again = sum(0 < found[each] < count for each, count in given.items())
    # Of a stream that goes on, a sample that came from further on may be there once more.
    if again and (whole or all(found[each] for each in given)):
        name, workers = type(loader.dataset).__name__, loader.num_workers
        raise DataError(
            f"the {workers} workers of the DataLoader of {name} give {again} samples more than "
            "once",
            "the dataset is read whole by each worker: it does not split itself among them",
            "Split it with torch.utils.data.get_worker_info, or use num_workers=0",
        )
