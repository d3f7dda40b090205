"""What can be read once: a generator, or another iterator."""

from collections.abc import Iterator
from itertools import chain
from typing import Any

from whitebox_probe._core.errors import DataError


class Once:
    """An iterator that tells when it is to be read a second time, in place of giving nothing."""

    def __init__(self, iterator: Iterator[Any]) -> None:
        self.iterator = iterator
        self.name = type(iterator).__name__
        self._start: list[Any] = []
        self._read = False

    def first(self) -> list[Any]:
        """The first of what it gives, which is given again; nothing of an empty one.

        Raises: DataError if it has been read.
        """
        self._expect_unread()
        if not self._start:
            self._start = [each for each in [next(self.iterator, _END)] if each is not _END]
        return self._start

    def __iter__(self) -> Iterator[Any]:
        """Everything, once.

        Raises: DataError for the second time.
        """
        self._expect_unread()
        self._read = True
        start, self._start = self._start, []
        return chain(start, self.iterator)

    def _expect_unread(self) -> None:
        if self._read:
            raise read_already(self.name)


_END = object()


def read_already(name: str) -> DataError:
    """That an iterator has nothing left to give."""
    return DataError(
        f"a {name} can be read once",
        "it has been read, and is needed again (a fitted basis, a second model or pass)",
        "Pass a list of it, or an iterable that begins anew, such as an IterableDataset",
    )


def once(data: Any) -> Any:
    """The data; an iterator as what tells of a second reading."""
    is_iterator = hasattr(data, "__next__") and not isinstance(data, str)
    return Once(data) if is_iterator else data
