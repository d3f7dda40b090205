"""A NumPy array of inputs, or the file of one (.npy)."""

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from whitebox_probe._core.arrays import NUMBERS, mapped_array, read_arrays
from whitebox_probe._core.errors import DataError
from whitebox_probe._core.gate import Unfit
from whitebox_probe.data import _digest, _paths, names
from whitebox_probe.data._reading import expect_plain, knowing_white
from whitebox_probe.data.choices import OF_SAMPLES, OF_TEXTS, Choices
from whitebox_probe.data.datasets import Datasets
from whitebox_probe.data.images import Transform
from whitebox_probe.data.kind import Kind, Opened
from whitebox_probe.data.text import TextReader

SUFFIX = ".npy"
_KINDS = f"{NUMBERS}U"


class Arrays(Kind):
    """An array (N, ...): inputs as they are, or pixels of images, channels first or last.

    Whole numbers of images are pixels; fractions and ids of tokens are inputs. The fingerprint
    hashes the whole array, or of a file its shape, type and first input.
    """

    name = "array"
    words = f"a NumPy array of inputs (N, ...), or its file ({SUFFIX})"
    by_path = True
    options = OF_SAMPLES | OF_TEXTS

    def takes(self, data: Any) -> bool:
        """Whether it is an array, or a path that ends in .npy and is no folder."""
        path = names.path_of(data)
        is_file = path is not None and path.suffix == SUFFIX and not os.path.isdir(path)
        return is_file or isinstance(data, np.ndarray)

    def open(self, data: Any, transform: Transform | TextReader | None) -> Opened:
        """The rows of the array."""
        return self.open_as(data, transform, Choices())

    def open_as(
        self, data: Any, transform: Transform | TextReader | None, choices: Choices
    ) -> Opened:
        """The rows of the array, read from a file when they are asked for."""
        in_memory = isinstance(data, np.ndarray)
        array = data if in_memory else _one(Path(data))
        expect_plain(array, f"an array {array.shape}")
        if array.ndim == 0:
            raise DataError(
                "an array without axes cannot be opened",
                "its first axis counts the samples",
                "Pass inputs (N, ...), such as x[None] for one sample x",
            )
        if array.dtype.kind in "OU":
            return Datasets().open_as(list(array), transform, choices)
        if array.dtype.kind not in "biuf":
            raise DataError(
                f"an array of {array.dtype} cannot be opened", "it holds no numbers", "Pass numbers"
            )
        choices.expect(OF_SAMPLES, "an array")
        name = f"array {array.shape}" if in_memory else Path(data).name
        known = array if in_memory else array[:1]
        fingerprint = f"{array.shape}-{_digest.of_array(np.asarray(known))}"
        content = None if in_memory else partial(_digest.of_rows, [array])
        choices = knowing_white(choices, array)
        return Opened(array, name, fingerprint, content=content, choices=choices)

    def expect(self, data: Any) -> None:
        """Check that a file is there.

        Raises: DataError.
        """
        if isinstance(data, str | Path):
            _paths.files_of(Path(data))

    def examples(self, folder: Path) -> Mapping[str, Any]:
        """Six inputs of four numbers."""
        plain = np.arange(24.0, dtype=np.float32).reshape(6, 4)
        broken = plain.copy()
        broken[3, 1] = np.nan
        np.save(folder / "other.npy", plain + 1)
        return {
            "plain": plain,
            "other": folder / "other.npy",
            "empty": plain[:0],
            "not finite": broken,
            "wrong type": np.array(1.0),
        }


def _one(path: Path) -> Any:
    """The one array that a path or a pattern names.

    Raises: DataError for several: arrays may be of many shapes.
    """
    files = _paths.files_of(path)
    if len(files) > 1:
        raise DataError(
            f"{path} names {len(files)} arrays", "one is read at a time", "Put them into one"
        )
    return loaded(files[0])


def loaded(path: Path) -> Any:
    """What a file of NumPy's holds, without unpickling: an array, or several by their names.

    Raises: DataError.
    """
    try:
        if path.suffix == SUFFIX:
            return mapped_array(path, kinds=_KINDS)
        return read_arrays(path, kinds=_KINDS)
    except Unfit as why:
        told = str(why)
        if "Python objects" in told:
            told = "it holds Python objects, which are not read"
        raise DataError(
            f"{path} cannot be read", told, "Save it with numpy.save or numpy.savez, of numbers"
        ) from why
