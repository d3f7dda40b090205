"""What saved tables, samples and matrices have to be before a figure or a comparison uses them."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd

from whitebox_probe._core.arrays import each_array
from whitebox_probe._core.gate import Unfit, gate, size_of
from whitebox_probe._core.lines import shown
from whitebox_probe._core.memory import available
from whitebox_probe.results.run import Run
from whitebox_probe.results.table import (
    BOOLEANS,
    COLUMNS,
    INTEGERS,
    TEXTS,
    keys_of,
    no_value,
)

_NUMBERS = [name for name in COLUMNS if name not in BOOLEANS | INTEGERS | TEXTS]
_SQUARE = ("coherence", "overlap")
_NEAR = 1e-5
_CELLS = 1 << 28
_WIDE = 512  # columns
_MOST = 1 << 40  # of layers, tokens or dimensions, as in a run
TINY = 1e-290
"""A mean nearer to 0 may be 0 itself once it is divided by sizes."""


def read_frame(path: Path) -> pd.DataFrame:
    """A table of parquet, once its own word on how much it holds was looked at.

    Raises: Unfit.
    """
    size_of(path)
    # Opened here: pyarrow takes names of UTF-8 only, and reads columns out of folders' names.
    with gate(), path.open("rb") as opened:
        import pyarrow.parquet as pq

        with pq.ParquetFile(opened) as file:
            told = file.metadata
            rows, columns = told.num_rows, told.num_columns
            size = sum(told.row_group(i).total_byte_size for i in range(told.num_row_groups))
            names = file.schema_arrow.names
        if rows * max(columns, 1) > _CELLS or size > available():
            raise Unfit(f"it says that it holds {rows:,} rows of {columns:,} columns")
        # Some columns at a time: of all at once, pyarrow holds three times what they take.
        wide = len(names) > _WIDE and len(set(names)) == len(names)
        some = [names[at : at + _WIDE] for at in range(0, len(names), _WIDE)] if wide else [None]
        frame = pd.concat([_columns(opened, each) for each in some], axis=1)
        if not frame.columns.is_unique or not all(isinstance(c, str) for c in frame.columns):
            raise Unfit("its columns have no names, or two have one")
    return frame


def _columns(opened: BinaryIO, names: list[str] | None) -> pd.DataFrame:
    opened.seek(0)
    return pd.read_parquet(opened, columns=names)


def read_matrices(path: Path, run: Run) -> Iterator[tuple[str, np.ndarray]]:
    """The matrices of a result by key, one at a time: arrays over the layers of its run.

    Raises: Unfit.
    """
    keys = set()
    for key, array in each_array(path, kinds="biuf"):
        _expect_matrix(key, array, run)
        keys.add(key)
        yield key, array
        del array  # before the next is read
    if missing := [key for key in run.matrices if key not in keys]:
        raise Unfit(f"'{shown(missing[0])}', of which run.json tells, is missing")


def expect_columns(frame: pd.DataFrame, columns: Sequence[str], *, some: bool = True) -> None:
    """Check that a table has all of these columns, and rows: no version wrote one without.

    Args: some: whether it has to have rows.
    Raises: Unfit.
    """
    if missing := [name for name in columns if name not in frame]:
        raise Unfit(f"it lacks the columns {', '.join(missing)}")
    if some and frame.empty:
        raise Unfit("it has no rows")


def expect_depths(frame: pd.DataFrame, of: Sequence[str]) -> None:
    """Check that the relative depths of a comparison's table are layers of networks.

    Args: of: the columns that tell the networks.
    Raises: Unfit.
    """
    layer, depth = (frame[name].to_numpy(float) for name in ("layer", "relative_depth"))
    with np.errstate(all="ignore"):
        layers = layer / depth
        whole = np.round(layers)
        fits = (layer > 0) & (depth > 0) & (whole >= layer) & (whole <= _MOST)
        fits &= np.abs(layers - whole) <= _NEAR * layers
    if not fits.all():
        at = int((~fits).argmax())
        raise Unfit(f"no network has its layer {layer[at]:g} at the relative depth {depth[at]:g}")
    if frame[list(of)].assign(layers=whole).drop_duplicates().duplicated(list(of)).any():
        raise Unfit("its relative depths are of several numbers of layers")
    if (frame["count"] < 0).any():
        raise Unfit(f"it has a count of {frame['count'].min()}")


def expect_sizes(frame: pd.DataFrame) -> None:
    """Check that a comparison's rates were divided by sizes: of tokens, and of their dimensions.

    Runs of the first format may not tell these, and are 0: what is divided by them is infinite.

    Raises: Unfit.
    """
    mean, token, entry = (
        frame[name].to_numpy(float) for name in ("mean", "mean_per_token", "mean_per_entry")
    )
    divided = ~(np.isnan(token) & np.isnan(entry))
    large = np.isfinite(mean) & (np.abs(mean) >= TINY)
    with np.errstate(all="ignore"):
        fits = _are_sizes(mean / token) & (_are_sizes(token / entry) | np.isinf(token + entry))
        fits |= np.isinf(token) & np.isinf(entry)
    # What is NaN, infinite or 0 is so after a division too, but for one by 0.
    kept = (np.isnan(token) | (token == mean)) & (np.isnan(entry) | (entry == mean))
    kept |= (np.abs(mean) < TINY) & (mean != 0) & _are_lost(token) & _are_lost(entry)
    if not (wrong := divided & ~np.where(large, fits, kept)).any():
        return
    row = frame.iloc[int(wrong.argmax())]
    told = ", ".join(f"{row[name]:g}" for name in ("mean", "mean_per_token", "mean_per_entry"))
    raise Unfit(
        f"'{shown(row['metric'])}' of layer {row['layer']} is no rate by numbers of tokens and "
        f"dimensions: {told}"
    )


def _are_lost(values: np.ndarray) -> np.ndarray:
    return (np.abs(values) <= TINY) | np.isinf(values)


def _are_sizes(sizes: np.ndarray) -> np.ndarray:
    return (sizes >= 1 - _NEAR) & (sizes <= _MOST)


def expect_frame(frame: pd.DataFrame, run: Run) -> None:
    """Check that a table has the columns and values of one of this run, and each row once.

    Raises: Unfit.
    """
    with gate():
        expect_columns(frame, COLUMNS)
        for name in COLUMNS:
            _expect_column(name, frame[name])
        models = set(frame["model"])
        if models - {run.model}:
            raise Unfit(f"it is of {shown(', '.join(map(str, models)))}, and run.json of another")
        if not 0 <= frame["layer"].min() <= frame["layer"].max() <= run.layers:
            raise Unfit(f"its layers are not those of a network of {run.layers}")
        # By name: settings that differ in more digits than names have are one column of samples.
        keys = keys_of(frame)
        if (twice := keys.duplicated()).any():
            raise Unfit(f"'{shown(keys[twice].iloc[0])}' is in it twice")


def _expect_column(name: str, column: "pd.Series[Any]") -> None:
    kind = column.dtype
    if name in TEXTS:
        fits = all(isinstance(each, str) for each in column)
    elif name in INTEGERS:
        fits = pd.api.types.is_integer_dtype(kind) and not column.isna().any()
    elif name in BOOLEANS:
        fits = pd.api.types.is_bool_dtype(kind)
    else:
        fits = pd.api.types.is_float_dtype(kind)
    if not fits:
        raise Unfit(f"its column '{name}' is of the type {shown(kind)}")
    if name in ("eps", "lam") and np.isinf(column.to_numpy(float)).any():
        raise Unfit(f"its column '{name}' holds infinity")


def expect_samples(samples: pd.DataFrame, known: Any, frame: pd.DataFrame, run: Run) -> None:
    """Check that the values a sample are those of which a table holds the means.

    Args: known: what tells samples apart, if anything.
    Raises: Unfit.
    """
    with gate():
        index = samples.index
        if len(samples) and not (pd.api.types.is_integer_dtype(index.dtype) and index.is_unique):
            raise Unfit("its samples have no numbers, or two have one")
        if known is not None and not pd.api.types.is_integer_dtype(known.dtype):
            raise Unfit(f"what tells its samples apart is of the type {shown(known.dtype)}")
        for name in samples:
            if not pd.api.types.is_float_dtype(samples[name].dtype):
                raise Unfit(f"its column '{shown(name)}' is of the type {samples[name].dtype}")
        keys = keys_of(frame)
        if not set(samples.columns) <= set(keys):
            other = sorted(set(samples.columns) - set(keys))[0]
            raise Unfit(f"its column '{shown(other)}' is none of the table's measures")
        _expect_means(samples, frame, keys)


def _expect_means(samples: pd.DataFrame, frame: pd.DataFrame, keys: "pd.Series[Any]") -> None:
    if samples.empty:
        return
    means = samples.mean(skipna=False)
    scale = np.maximum(samples.max(), -samples.min())  # no second table of absolute values
    for key, told in zip(keys, frame["mean"], strict=True):
        if key not in means.index or no_value(told):
            continue
        if not abs(means[key] - told) <= _NEAR * (scale[key] + 1e-300):
            raise Unfit(f"the mean of '{shown(key)}' is not that of the table")


def _expect_matrix(key: str, array: np.ndarray, run: Run) -> None:
    if run.matrices and key not in run.matrices:
        raise Unfit(f"run.json does not tell of '{shown(key)}'")
    if array.ndim < 2 or (run.layers and array.shape[0] != run.layers):
        raise Unfit(f"'{shown(key)}' is no array over the {run.layers} layers: {array.shape}")
    name = run.matrices.get(key, {}).get("name", key)
    if name in _SQUARE and (array.ndim != 3 or array.shape[1] != array.shape[2]):
        raise Unfit(f"'{shown(key)}' has the shape {array.shape}, and no square ones")
