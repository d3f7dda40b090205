"""A kind of input: what data it takes, and how they become numbered samples.

A kind is one file of this folder with a subclass of `Kind`; it is found by its place. Another
package adds one under the entry-point group `whitebox_probe.data`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from whitebox_probe._core.lines import in_characters
from whitebox_probe.data.choices import OF_SAMPLES, Choices
from whitebox_probe.data.images import Transform
from whitebox_probe.data.text import TextReader


@dataclass(frozen=True)
class Opened:
    """Data that were opened.

    Attributes:
        dataset: samples by their numbers from 0 on, with a length; or an iterable of batches.
        name: what a table calls the data. fingerprint: hash of what is known of their content
            before they are read, "" for nothing. identify: the number of a sample -> 64 bits that
            tell what it is before it is prepared (`_digest.of_sample`, `of_bytes`); None: the
            tensor that the model is given tells it. classify: the number -> its class, where that
            is known without reading it, and every sample has one.
        numbered: whether `dataset` gives any sample by its number. Batches come in their own order
            instead: they are neither drawn nor shared between processes.
        count, labelled: of batches alone: the number of samples, if known, and whether they have
            classes. why: what they have in the place of classes, or why they have none.
        single: whether what is not numbered gives single samples, of which batches are made; None
            where that is to be seen from the first. choices: in place of those of the user.
        left_out: why a part of the data is no sample -> its names, such as paths of files. A
            stream fills it while it is read, from its beginning each time; `tell` is called when a
            pass has ended, and warns of what it holds then.
        members, again: of files, their names -> sizes in bytes, and what opens those of an earlier
            run, of which `gone` are no longer there: numbers stay what they were.
        content: numbers of samples -> a hash of all that they are, by which a run that goes on
            knows those that it has yet to measure; None where `fingerprint` tells it, or nothing.
    """

    dataset: Any
    name: str
    fingerprint: str = ""
    numbered: bool = True
    count: int | None = None
    labelled: bool = False
    why: str = ""
    single: bool | None = False
    choices: Choices | None = None
    identify: Callable[[int], int] | None = None
    classify: Callable[[int], int] | None = None
    members: Mapping[str, int] | None = None
    again: "Callable[[Mapping[str, int]], Opened] | None" = None
    gone: Collection[int] = ()
    content: Callable[[Sequence[int]], str] | None = None
    left_out: Mapping[str, Sequence[str]] = field(default_factory=dict)
    tell: Callable[[], None] | None = None

    def __post_init__(self) -> None:
        """Bytes of a name that are no UTF-8 are shown escaped: tables and files hold text."""
        object.__setattr__(self, "name", in_characters(self.name))


class Kind(ABC):
    """A kind of input.

    A sample is an input, or a tuple of it and its class (a whole number), its mask (which of n
    tokens are measured: booleans, or whole numbers that are 0 or 1) or both, in either order.

    Attributes:
        name: of the kind, unique. words: what it takes, to follow "a probe reads".
        reads: what `open` is given a transform for: "images", "text", "either", or "inputs", which
            are the model's as they are.
        by_path: whether data are named by a path or a word, as on the command line.
        options: the `Choices` that it heeds.
        general: whether it takes what no other kind of this package does. Of the others, no two
            take the same data.
        exempt: each contract of tests/contract/test_every_source.py that it cannot keep -> why.
    """

    name: ClassVar[str]
    words: ClassVar[str]
    reads: ClassVar[str] = "inputs"
    options: ClassVar[frozenset[str]] = OF_SAMPLES
    by_path: ClassVar[bool] = False
    general: ClassVar[bool] = False
    exempt: ClassVar[Mapping[str, str]] = {}

    @abstractmethod
    def takes(self, data: Any) -> bool:
        """Whether data are of this kind. Cheap, without reading them, and never an error."""

    @abstractmethod
    def open(self, data: Any, transform: Transform | TextReader | None) -> Opened:
        """Open data that it takes.

        Raises: DataError.
        """

    def open_as(
        self, data: Any, transform: Transform | TextReader | None, choices: Choices
    ) -> Opened:
        """Open data as the user chose: for a kind whose opening depends on it.

        Those of single samples (`column`, `label`, `mask`, `pixels`) are heeded when these are
        read, whatever opens the data.
        """
        return self.open(data, transform)

    def expect(self, data: Any) -> None:  # noqa: B027 (most need no library)
        """Check that what reads data is installed, before any work.

        Raises: MissingDependency.
        """

    @abstractmethod
    def examples(self, folder: Path) -> Mapping[str, Any]:
        """Small data of this kind, for the contracts; `folder` is empty and there to write to.

        Returns: "plain": five samples or more; "other": the same with other content; "empty": no
            sample; "not finite": one sample has a NaN; "wrong type": a sample that is no input of
            a model. One that cannot be is left out and in `exempt`.
        """
