"""The tables of a sweep: one row a cell, and every cell's numbers beside what varies."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whitebox_probe._core.io import atomic_path
from whitebox_probe.results.writing import as_csv, as_parquet
from whitebox_probe.sweeping.cell import written

if TYPE_CHECKING:
    import pandas as pd

    from whitebox_probe.sweeping.sweep import Done

SUMMARY, CELLS = "summary", "cells.csv"
FILES = (f"{SUMMARY}.csv", f"{SUMMARY}.parquet", CELLS)
FACTOR = "factor_"
"""Begins the columns of settings that vary: the table's own tell what a number depends on."""


def of_cells(cells: "Sequence[Done]") -> "pd.DataFrame":
    """One row a cell: its factors, how far it is, and why it failed."""
    import pandas as pd

    rows = [
        {
            **told,
            "state": each.state,
            "samples": None if each.run is None else each.run.count,
            "seconds": None if each.run is None else each.run.seconds,
            "error": "" if each.failure is None else each.failure.line,
            "folder": each.folder.name,
        }
        for each, told in zip(cells, _factors(cells), strict=True)
    ]
    frame = pd.DataFrame(rows)
    return frame.assign(
        samples=frame["samples"].astype("Int64"), seconds=frame["seconds"].astype("Float64")
    )


def of_numbers(cells: "Sequence[Done]") -> "pd.DataFrame":
    """The tables of the cells that are done, one below the other, with the factors of each."""
    import pandas as pd

    from whitebox_probe.results.result import Result
    from whitebox_probe.results.table import COLUMNS, with_types

    tables = []
    for each, told in zip(cells, _factors(cells), strict=True):
        if each.state == "done":
            frame = Result.load(each.folder).frame.drop(columns="model")
            tables.append(frame.assign(**told)[[*told, *frame.columns]])
    if not tables:
        return pd.DataFrame({name: [] for name in ("cell", "data", *COLUMNS)})
    return with_types(pd.concat(tables, ignore_index=True))


def _factors(cells: "Sequence[Done]") -> list[dict[str, Any]]:
    """Of each cell its name, its model and data, and the settings that vary.

    A setting of which some values are texts, or several in one pass, is told in texts.
    """
    found = []
    names = [name for name in cells[0].cell.factors if name not in ("model", "data")]
    of_all = {name: [each.cell.factors[name] for each in cells] for name in names}
    numeric = {
        name: all(isinstance(value, int | float) for value in values)
        for name, values in of_all.items()
    }
    for each in cells:
        cell = each.cell
        told = {"cell": cell.name, "model": cell.model["name"], "data": cell.data["name"]}
        for name in names:
            value = cell.factors[name]
            told[f"{FACTOR}{name}"] = value if numeric[name] else written(value)
        found.append(told)
    return found


def save(folder: Path, cells: "Sequence[Done]") -> None:
    """Write summary.csv, summary.parquet and cells.csv, each whole or not at all."""
    numbers = of_numbers(cells)
    writers = (as_csv(numbers), as_parquet(numbers, index=False), as_csv(of_cells(cells)))
    for name, write in zip(FILES, writers, strict=True):
        with atomic_path(folder / name) as path:
            write(path)
