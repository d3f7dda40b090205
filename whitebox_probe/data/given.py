"""`wp.data`: any data, with what a user says of them."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from whitebox_probe._core.arguments import SEED, expect, optional, whole
from whitebox_probe._core.errors import DataError
from whitebox_probe.data._prepared import transform_of
from whitebox_probe.data.choices import Choices
from whitebox_probe.data.images import Transform
from whitebox_probe.data.once import once
from whitebox_probe.data.text import TextReader
from whitebox_probe.models.model import ProbeModel

if TYPE_CHECKING:
    from whitebox_probe.data._sample import Batch


@dataclass(frozen=True)
class Data:
    """Data of any kind that a probe reads, with what a user says of them: made by `data`.

    Attributes: data: as they were given. choices: what was said. model: that prepares them, for
        `batches`; a probe prepares them for its own model.
    """

    data: Any
    choices: Choices = field(default_factory=Choices)
    model: ProbeModel | None = None

    def __repr__(self) -> str:
        """One line: the kind of data, and what was said of them."""
        named = isinstance(self.data, str)
        told = [repr(self.data)[:60] if named else type(self.data).__name__]
        told += [f"{name}={value!r}" for name, value in self.choices.given().items()]
        told += [] if self.model is None else [f"model={self.model.name}"]
        return f"Data({', '.join(told)})"

    def batches(
        self, batch_size: int = 32, *, limit: int | None = None, seed: int = 0
    ) -> Iterator["Batch"]:
        """The samples as the model takes them: `inputs` (B, ...), `labels`, `mask` and `ids`.

        Args: limit: at most so many samples, drawn by `seed`.
        Raises: DataError.
        """
        from whitebox_probe.data.source import open_data

        batch_size = expect("batch_size", batch_size, whole(1), "a batch holds samples")
        limit = expect("limit", limit, optional(whole(1)), "at least one sample is needed")
        seed = expect("seed", seed, *SEED)
        with closing(open_data(self, limit=limit, seed=seed).batches(batch_size, 0)) as batches:
            yield from batches


def data(
    data: Any,
    *,
    model: ProbeModel | None = None,
    column: str | None = None,
    label: str | None = None,
    mask: str | None = None,
    separator: str | None = None,
    windows: str = "packed",
    pixels: bool = False,
    stream: bool = False,
) -> Data:
    """Anything that holds samples, as `probe`, `audit` and `similarity` take it.

    What needs no word of a user can be passed to them as it is; this says the rest.

    Args:
        data: a name (`whitebox-probe list --data`), a path (a folder of images, an image, a text,
            an array, shards), a pattern of paths, `hf:NAME`, or an object: arrays and tensors,
            lists, mappings, Datasets, DataLoaders, Hugging Face datasets, anything that can be
            iterated.
        model: that prepares the samples for `Data.batches`; a probe prepares them for its own.
        column, label, mask: keys of the input, of the class, and of which tokens are measured
            (True), where samples have keys or columns that do not go by their usual names. A mask
            whose name is usual means what that says: `key_padding_mask` is True for padding.
        separator: what stands between documents: texts of a list or a column are joined by it (a
            line end if not given), and a file of texts is divided at it.
        windows: of texts: `packed` (one text, cut into full windows) or `documents` (one window a
            document: what is longer is cut off, what is shorter is padded, and never measured).
        pixels: fractions from 0 to 1 are pixels that are to be prepared, and not a model's inputs.
        stream: `hf:NAME` is read in its order while it comes, and not fetched whole; a limit takes
            the first samples.

    Raises: SettingError; DataError for data that no kind takes, MissingDependency for one that an
        optional library reads: both before anything is read.

    Example:
        >>> import numpy as np
        >>> data({"scan": np.zeros((6, 8, 8), np.uint8)}, column="scan")
        Data(dict, column='scan')
    """
    said: dict[str, Any] = {
        "column": column,
        "label": label,
        "mask": mask,
        "separator": separator,
        "windows": windows,
        "pixels": pixels,
        "stream": stream,
    }
    if isinstance(data, Data):
        own = data.choices.given()
        kept = {name: value for name, value in said.items() if value not in (None, "packed", False)}
        return Data(data.data, Choices(**(own | kept)), model or data.model)
    if model is not None and not isinstance(model, ProbeModel):
        raise DataError(
            f"model is a {type(model).__name__}", "data are prepared by a model", "Use wp.load(...)"
        )
    from whitebox_probe.data.catalogue import expect_known

    found = Data(once(data), Choices(**said), model)
    expect_known(found.data, found.choices)
    return found


def as_chosen(
    data: Any, transform: Transform | TextReader | None
) -> tuple[Any, Transform | TextReader | None, Choices]:
    """Data, how they are prepared, and what was said of them."""
    if not isinstance(data, Data):
        return data, transform, Choices()
    if transform is None and data.model is not None:
        transform = transform_of(data.model.preprocess)
    return data.data, transform, data.choices


def expected(data: Any) -> Any:
    """The same data, checked for what can be known before a model is loaded or they are read.

    An iterator comes back as what tells when it is to be read a second time.

    Raises: DataError, MissingDependency.
    """
    from whitebox_probe.data.catalogue import expect_known

    if data is None:
        return None
    if isinstance(data, Data):
        return replace(data, data=once(data.data))
    found = once(data)
    expect_known(found, Choices())
    return found
