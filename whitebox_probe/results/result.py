"""The result of a probe: a tidy table, per-sample values, matrices, and where they came from."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from whitebox_probe._core.errors import MissingDependency, ResultError
from whitebox_probe._core.io import atomic_path
from whitebox_probe.results.table import sample_key
from whitebox_probe.stats import Trend, trend

TABLE, SAMPLES, MATRICES, RUN = "table", "samples.parquet", "matrices.npz", "run.json"


@dataclass(frozen=True)
class Result:
    """What `probe` measured on one model and one data set.

    Attributes:
        frame: one row for each layer, site and metric, with the columns of `COLUMNS`.
        samples: one row a sample (index: its number in the data set), one column a measure, named
            `metric@site:layer`.
        matrices: name -> array over layers, such as `coherence` (L, K, K).
        run: provenance: versions, checkpoint, data, arguments, device, seconds.
    """

    frame: pd.DataFrame
    samples: pd.DataFrame
    matrices: dict[str, np.ndarray] = field(default_factory=dict)
    run: dict[str, Any] = field(default_factory=dict)

    @property
    def model(self) -> str:
        """The model's name in tables and figures."""
        return str(self.run["model"])

    def curve(self, metric: str, site: str | None = None) -> pd.DataFrame:
        """The rows of one metric, in the order of the layers.

        Raises: ResultError when it was not measured, or at several sites and none is named.
        """
        rows = self.frame[self.frame["metric"] == metric]
        if site is not None:
            rows = rows[rows["site"] == site]
        if rows.empty:
            have = sorted(set(self.frame["metric"] + "@" + self.frame["site"]))
            raise ResultError(
                f"'{metric}'{f' at {site}' if site else ''} is not in the result of {self.model}",
                "it was not measured",
                f"Use one of: {', '.join(have)}",
            )
        if rows["site"].nunique() > 1:
            raise ResultError(
                f"'{metric}' was measured at several sites",
                "one curve has one site",
                f"Name one with site=: {', '.join(sorted(rows['site'].unique()))}",
            )
        return rows.sort_values("layer").reset_index(drop=True)

    def values(self, metric: str, site: str | None = None) -> np.ndarray:
        """Per-sample values of one metric, (samples, layers), in the order of the layers.

        Raises: ResultError as `curve` does, and for a measure that has no value a sample.
        """
        curve = self.curve(metric, site)
        keys = [
            sample_key(metric, str(s), int(n))
            for s, n in zip(curve["site"], curve["layer"], strict=True)
        ]
        if not set(keys) <= set(self.samples.columns):
            raise ResultError(
                f"'{metric}' has no value a sample",
                "it is read from weights, or from all samples together",
                "Use curve() for its numbers",
            )
        return self.samples[keys].to_numpy()

    def trend(self, metric: str, site: str | None = None) -> Trend:
        """How a metric goes with depth: Spearman's rho, the change, steps that fall or rise.

        Raises: ResultError as `values` does, and for fewer than two layers or samples.
        """
        values = self.values(metric, site)
        if min(values.shape) < 2:
            raise ResultError(
                f"'{metric}' of {self.model} has no trend",
                f"there are {values.shape[0]} samples and {values.shape[1]} layers",
                "Probe two samples or more of a model with two layers or more",
            )
        return trend(values, seed=int(self.run["seed"]))

    def save(self, folder: str | Path) -> Path:
        """Write table.parquet, table.csv, samples.parquet, matrices.npz and run.json.

        run.json is written last: where it is, the rest is whole.

        Returns: the folder.
        """
        folder = Path(folder)
        _check_parquet()
        with atomic_path(folder / f"{TABLE}.csv") as path:
            self.frame.to_csv(path, index=False)
        with atomic_path(folder / f"{TABLE}.parquet") as path:
            self.frame.to_parquet(path)
        with atomic_path(folder / SAMPLES) as path:
            self.samples.to_parquet(path)
        with atomic_path(folder / MATRICES) as path:
            np.savez_compressed(path, **self.matrices)  # type: ignore[arg-type]
        with atomic_path(folder / RUN) as path:
            path.write_text(json.dumps(self.run, indent=2, sort_keys=True) + "\n")
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> "Result":
        """Read what `save` wrote.

        Raises: ResultError when the folder holds no whole result.
        """
        folder = Path(folder)
        if not (folder / RUN).is_file():
            raise ResultError(
                f"{folder} holds no result",
                "it has no run.json" if folder.is_dir() else "there is no such folder",
                "Pass a folder that `whitebox-probe run --out` or Result.save wrote",
            )
        _check_parquet()
        try:
            with np.load(folder / MATRICES, allow_pickle=False) as archive:
                matrices = dict(archive)
            return cls(
                frame=pd.read_parquet(folder / f"{TABLE}.parquet"),
                samples=pd.read_parquet(folder / SAMPLES),
                matrices=matrices,
                run=json.loads((folder / RUN).read_text()),
            )
        except (OSError, ValueError) as error:
            raise ResultError(
                f"the result in {folder} cannot be read", str(error), "Run the probe again"
            ) from error


def _check_parquet() -> None:
    try:
        import pyarrow  # noqa: F401 - only whether it is there
    except ImportError as error:
        raise MissingDependency(
            "pyarrow is missing", "results are kept as parquet", "Run: pip install pyarrow"
        ) from error
