"""Columns by name: a mapping of arrays or lists of one length, or their file (.npz)."""

import os
from collections.abc import Mapping, Sized
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from whitebox_probe._core.errors import DataError
from whitebox_probe._core.gate import named
from whitebox_probe._core.lines import shown
from whitebox_probe.data import _digest, _keys, _masks, _paths, names
from whitebox_probe.data._reading import Reading, expect_plain, knowing_white
from whitebox_probe.data.arrays import loaded
from whitebox_probe.data.choices import OF_SAMPLES, OF_TEXTS, Choices
from whitebox_probe.data.datasets import Datasets
from whitebox_probe.data.images import Transform
from whitebox_probe.data.kind import Kind, Opened
from whitebox_probe.data.text import TextReader

SUFFIX = ".npz"


class Columns(Kind):
    """What a tokenizer or an image processor gives, or any mapping from names to N values each."""

    name = "columns"
    words = f"a mapping of columns of one length, or their file ({SUFFIX})"
    by_path = True
    options = OF_SAMPLES | OF_TEXTS

    def takes(self, data: Any) -> bool:
        """Whether it is a mapping and no data set, or a path that ends in .npz and is no folder."""
        path = names.path_of(data)
        is_file = path is not None and path.suffix == SUFFIX and not os.path.isdir(path)
        kinds = {kind.__name__ for kind in type(data).__mro__}  # geopandas has one of its own
        is_table = "DataFrame" in kinds and hasattr(data, "to_dict")
        return (
            is_file or is_table or (isinstance(data, Mapping) and not hasattr(data, "column_names"))
        )

    def open(self, data: Any, transform: Transform | TextReader | None) -> Opened:
        """The rows of the columns."""
        return self.open_as(data, transform, Choices())

    def open_as(
        self, data: Any, transform: Transform | TextReader | None, choices: Choices
    ) -> Opened:
        """The rows of the columns, as samples with keys."""
        name = type(data).__name__
        if hasattr(data, "to_dict") and not isinstance(data, Mapping):
            data = data.to_dict("list")  # a DataFrame's
        if isinstance(data, Mapping):
            columns = {str(key): _keys.by_rows(value) for key, value in data.items()}
            if len(columns) < len(data):
                raise DataError(
                    f"two columns of a {name} have one name",
                    "their keys are the same as text, and by it samples are read",
                    "Name them by texts",
                )
        else:
            columns, name = _of_file(Path(data)), Path(data).name
        if list(columns) == [""]:
            raise DataError(
                f"the one array of {name} has no name",
                "its key is empty, and by it samples are read",
                "Give it one, as numpy.savez(FILE, images=array) does",
            )
        rows = _Rows(columns, name)
        reading = Reading(transform, choices)
        known = {*_keys.IMAGES, *_keys.FILES, *_keys.IDS, *_keys.TEXTS}
        if len(columns) == 1 and choices.column is None and not known & columns.keys():
            choices = replace(choices, column=next(iter(columns)))
            reading = Reading(transform, choices)
        _keys.expect_whole(columns, f"a {name}")
        key = _keys.input_key(dict.fromkeys(columns), f"a {name}", reading.choices, reading.reads)
        opened = Datasets().open_as(rows, transform, choices)
        if isinstance(opened.dataset, _Rows):
            expect_plain(columns[key], f"'{shown(key)}' of a {name}")
            fingerprint = f"{len(rows)}-{key}-{_hashed(columns[key]) or opened.fingerprint}"
            content = partial(_digest.of_rows, [*rows.columns.values()])
            choices = knowing_white(choices, columns[key])
            return Opened(rows, name, fingerprint, choices=choices, content=content)
        return opened

    def expect(self, data: Any) -> None:
        """Check that a file is there.

        Raises: DataError.
        """
        if isinstance(data, str | Path):
            _paths.files_of(Path(data))

    def examples(self, folder: Path) -> Mapping[str, Any]:
        """Six inputs of four numbers, of three classes."""
        inputs, classes = torch.arange(24.0).view(6, 4), torch.arange(6) % 3
        broken = inputs.clone()
        broken[3, 1] = torch.nan
        np.savez(folder / "other.npz", inputs=(inputs + 1).numpy(), labels=classes.numpy())
        return {
            "plain": {"inputs": inputs, "labels": classes},
            "other": folder / "other.npz",
            "empty": {"inputs": inputs[:0], "labels": classes[:0]},
            "not finite": {"inputs": broken, "labels": classes},
            "wrong type": {"inputs": inputs, "labels": classes[:2]},
        }


class _Rows:
    """The rows of columns, each a mapping."""

    def __init__(self, columns: Mapping[str, Any], name: str) -> None:
        self.columns = {key: each for key, each in columns.items() if _is_column(each)}
        for key in columns.keys() - self.columns.keys():
            if columns[key] is not None and key in _masks.MASKS:
                raise DataError(
                    f"'{shown(key)}' of a {name} is no mask",
                    f"it is a {type(columns[key]).__name__}, and no column of one mask a sample",
                    "Give each sample its mask, or leave it out",
                )
        sizes = {
            key: _length(each, f"'{shown(key)}' of a {name}") for key, each in self.columns.items()
        }
        if len(set(sizes.values())) != 1:
            told = ", ".join(f"'{key}' has {size}" for key, size in sizes.items())
            raise DataError(
                f"a {name} is no set of columns",
                f"they are of several lengths: {told}" if told else "it holds no list or array",
                "Give each as many values as there are samples",
            )
        self.called = name
        self.count = next(iter(sizes.values()))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> Mapping[str, Any]:
        return {key: each[number] for key, each in self.columns.items()}


def _hashed(column: Any) -> str:
    """The hash of a column of numbers; "" of any other."""
    if isinstance(column, Tensor):
        return _digest.of_tensor(column)
    is_numbers = isinstance(column, np.ndarray) and column.dtype.kind in "biuf"
    return _digest.of_array(column) if is_numbers else ""


def _length(column: Any, what: str) -> int:
    """Raises: DataError for a tensor that is no rows of numbers."""
    try:
        return len(column)
    except Exception as error:  # of a nested tensor, or of a user's own
        raise DataError(
            f"{what} has no length", named(error), "Give a list with one value a sample"
        ) from error


def _is_column(value: Any) -> bool:
    if isinstance(value, Tensor | np.ndarray):
        return value.ndim > 0
    return isinstance(value, Sized) and not isinstance(value, str | bytes | Mapping)


def _of_file(path: Path) -> dict[str, Any]:
    found = loaded(path)
    if isinstance(found, np.ndarray):
        raise DataError(f"{path} holds one array", "it is a .npy by another name", "Rename it")
    return dict(found)
