"""Similarity of every two layers, within a model or between two."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from whitebox_probe._core.errors import ResultError
from whitebox_probe._core.gate import Unfit, gate, is_file
from whitebox_probe._core.lines import names
from whitebox_probe.results.folder import as_folder, read_sealed, save_sealed
from whitebox_probe.results.held import copied, same_arrays
from whitebox_probe.results.reading import expect_columns
from whitebox_probe.results.table import read_table
from whitebox_probe.results.writing import as_csv

MATRICES = ("cka", "overlap", "procrustes")
COLUMNS = ("first", "second", "first_layer", "second_layer", *MATRICES, "count")
FILE, SEAL = "similarity.csv", "similarity.json"
_FIX = "Pass a folder that Similarity.save wrote"


@copied(*MATRICES)
@dataclass(frozen=True, eq=False)
class Similarity:
    """Matrices over layers, (layers of the first, layers of the second): read-only copies.

    Attributes:
        cka: unbiased linear centred kernel alignment; may be slightly negative, and is not clamped.
        overlap: share of the leading principal subspaces (over samples) that two layers have in
            common, 0 to 1; NaN for fewer than three samples a direction.
        procrustes: distance after the best rotation, of centred features of unit norm: 0 to 2.
        first, second: names. count: samples.
    """

    cka: np.ndarray
    overlap: np.ndarray
    procrustes: np.ndarray
    first: str
    second: str
    count: int

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Similarity):
            return NotImplemented
        names = ("first", "second", "count")
        return all(getattr(self, n) == getattr(other, n) for n in names) and same_arrays(
            self._matrices(), other._matrices()
        )

    def __hash__(self) -> NoReturn:
        raise TypeError("a Similarity is compared by content and has no hash: use its names as key")

    def __repr__(self) -> str:
        """One line: the models, their layers, and how many samples."""
        told = names(list(dict.fromkeys([self.first, self.second])))
        layers = " x ".join(map(str, self.cka.shape))
        return f"Similarity({told}: {layers} layers, {self.count} samples)"

    def _repr_html_(self) -> str:
        from whitebox_probe.results.pages import of_similarity

        return of_similarity(self)

    def _matrices(self) -> dict[str, np.ndarray]:
        return {name: getattr(self, name) for name in MATRICES}

    def frame(self) -> pd.DataFrame:
        """One row a pair of layers."""
        rows, columns = self.cka.shape
        first, second = np.divmod(np.arange(rows * columns), columns)
        made: dict[str, Any] = {"first": self.first, "second": self.second}
        made |= {"first_layer": first + 1, "second_layer": second + 1}
        made |= {name: matrix.ravel() for name, matrix in self._matrices().items()}
        return pd.DataFrame(made | {"count": self.count}, columns=list(COLUMNS))

    def save(self, folder: str | Path) -> Path:
        """Write similarity.csv, and similarity.json with its digest; returns the folder.

        Raises: ResultError, before anything is replaced, for what `load` would refuse.
        """
        writers = {FILE: as_csv(self.frame())}
        return save_sealed(as_folder(folder), writers, SEAL, {"format": 1}, check=Similarity.load)

    @classmethod
    def load(cls, folder: str | Path) -> "Similarity":
        """Read what `save` wrote.

        Raises: ResultError when the folder holds none, or not every pair of layers.
        """
        folder = as_folder(folder)
        if not is_file(folder / SEAL):  # older ones have none
            return cls._read(folder)
        return read_sealed(
            folder,
            SEAL,
            lambda _: cls._read(folder),
            what="similarity",
            fix=_FIX,
            needed=[FILE],
        )

    @classmethod
    def _read(cls, folder: Path) -> "Similarity":
        try:
            with gate():
                frame = read_table(folder / FILE)
                expect_columns(frame, COLUMNS)
                if len(frame[["first", "second", "count"]].drop_duplicates()) > 1:
                    raise Unfit("it is of several pairs of models, or several counts of samples")
                ordered = frame.sort_values(["first_layer", "second_layer"])[list(COLUMNS)]
                shape = (int(frame["first_layer"].max()), int(frame["second_layer"].max()))
                pairs = list(zip(ordered["first_layer"], ordered["second_layer"], strict=True))
                if pairs != [(i + 1, j + 1) for i in range(shape[0]) for j in range(shape[1])]:
                    raise Unfit("not every pair of layers is in it once")
                matrices = {name: ordered[name].to_numpy().reshape(shape) for name in MATRICES}
                about = ordered.iloc[0]
        except Unfit as why:
            raise ResultError(f"{folder} holds no similarity", str(why), _FIX) from why
        return cls(
            **matrices,
            first=str(about["first"]),
            second=str(about["second"]),
            count=int(about["count"]),
        )
