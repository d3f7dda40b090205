"""Similarity of every two layers, within a model or between two."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from whitebox_probe._core.io import atomic_path


@dataclass(frozen=True)
class Similarity:
    """Matrices over layers, (layers of the first, layers of the second).

    Attributes:
        cka: unbiased linear centred kernel alignment; may be slightly negative, and is not clamped.
        overlap: share of the leading principal subspaces (over samples) that two layers have in
            common, 0 to 1.
        procrustes: distance after the best rotation, of centred features of unit norm: 0 to 2.
        first, second: names. count: samples.
    """

    cka: np.ndarray
    overlap: np.ndarray
    procrustes: np.ndarray
    first: str
    second: str
    count: int

    def frame(self) -> pd.DataFrame:
        """One row a pair of layers."""
        rows = [
            {
                "first": self.first,
                "second": self.second,
                "first_layer": i + 1,
                "second_layer": j + 1,
                "cka": self.cka[i, j],
                "overlap": self.overlap[i, j],
                "procrustes": self.procrustes[i, j],
                "count": self.count,
            }
            for i in range(self.cka.shape[0])
            for j in range(self.cka.shape[1])
        ]
        return pd.DataFrame(rows)

    def save(self, folder: str | Path) -> Path:
        """Write similarity.csv; returns the folder."""
        folder = Path(folder)
        with atomic_path(folder / "similarity.csv") as path:
            self.frame().to_csv(path, index=False)
        return folder
