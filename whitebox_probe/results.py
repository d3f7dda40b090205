"""The result of a probe: a tidy table, per-sample values, matrices, and where they came from."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from whitebox_probe._core.errors import MissingDependency, ResultError
from whitebox_probe._core.io import atomic_path
from whitebox_probe.stats import summarise

COLUMNS = (
    "model",
    "layer",
    "site",
    "metric",
    "basis",
    "convention",
    "mean",
    "std",
    "sem",
    "ci_low",
    "ci_high",
    "count",
)
TABLE, SAMPLES, MATRICES, RUN = "table", "samples.parquet", "matrices.npz", "run.json"
_KEYS = ["metric", "site", "layer"]


def sample_key(metric: str, site: str, layer: int) -> str:
    """The name of a measure's column in `Result.samples`.

    >>> sample_key("l0", "z_out", 3)
    'l0@z_out:3'
    """
    return f"{metric}@{site}:{layer}"


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


def tabulate(
    *,
    model: str,
    basis: str,
    convention: str,
    samples: pd.DataFrame,
    measured: Sequence[tuple[str, str, int, int]],
    numbers: Mapping[tuple[str, int], tuple[float, int]],
    seed: int,
) -> pd.DataFrame:
    """The tidy frame of per-sample columns and of numbers read from weights.

    Args:
        measured: (metric, site, layer, ddof) of each column of `samples`, in its order.
        numbers: (metric, layer) -> (value, how many pairs it is taken over); they carry no spread.
    """
    summary = summarise(
        samples.to_numpy(), ddof=np.array([m[3] for m in measured], dtype=np.int64), seed=seed
    )
    rows: list[dict[str, Any]] = []
    for column, (metric, site, layer, _) in enumerate(measured):
        spread = {
            name: float(getattr(summary, name)[column])
            for name in ("mean", "std", "sem", "ci_low", "ci_high")
        }
        rows.append(
            {"layer": layer, "site": site, "metric": metric, **spread, "count": summary.count}
        )
    nan = float("nan")
    for (metric, layer), (value, count) in numbers.items():
        empty = {"std": nan, "sem": nan, "ci_low": nan, "ci_high": nan}
        rows.append(
            {"layer": layer, "site": "weights", "metric": metric, "mean": value, **empty}
            | {"count": count}
        )
    frame = pd.DataFrame(rows)
    frame["model"], frame["basis"], frame["convention"] = model, basis, convention
    return frame.sort_values(_KEYS, kind="stable").reset_index(drop=True)[list(COLUMNS)]


@dataclass(frozen=True)
class Comparison:
    """Results side by side.

    Attributes:
        frame: all rows, with `relative_depth` (layer / number of layers) and, for nats, the value
            per token (`mean_per_token`), which is what models of different n may be compared in.
        differences: for each pair of models on the same samples and each measure that both have at
            the same layer: mean difference (second minus first), std, sem, 95% interval, count.
    """

    frame: pd.DataFrame
    differences: pd.DataFrame

    def save(self, folder: str | Path) -> Path:
        """Write comparison.csv and differences.csv; returns the folder."""
        folder = Path(folder)
        for name, frame in (("comparison", self.frame), ("differences", self.differences)):
            with atomic_path(folder / f"{name}.csv") as path:
                frame.to_csv(path, index=False)
        return folder


_NATS = ("coding_rate", "compression", "rate_reduction", "sparse_rate_reduction")


def compare(results: Sequence[Result], *, seed: int = 0) -> Comparison:
    """Align results by layer and relative depth, and pair models sample by sample.

    Raises: ResultError for fewer than two results, the same model twice, different conventions, or
        results on different data (their samples cannot be paired).
    """
    if len(results) < 2:
        raise ResultError(
            f"{len(results)} result cannot be compared",
            "a comparison takes two or more",
            "Pass several results",
        )
    names = [r.model for r in results]
    if len(set(names)) < len(names):
        raise ResultError(
            f"two results are of the same model ({', '.join(names)})",
            "their rows could not be told apart",
            "Give one another name with probe(..., name=)",
        )
    for what in ("convention", "data"):
        kinds = {json.dumps(_identity(r, what), sort_keys=True) for r in results}
        if len(kinds) > 1:
            raise ResultError(
                f"the results differ in {what}: {'; '.join(sorted(kinds))}",
                "their numbers do not mean the same",
                f"Probe all models with the same {what}",
            )
    frames = []
    for result in results:
        frame = result.frame.copy()
        frame["relative_depth"] = frame["layer"] / result.run["layers"]
        nats = frame["metric"].isin(_NATS)
        frame["mean_per_token"] = (frame["mean"] / result.run["tokens"]).where(nats)
        frames.append(frame)
    pairs = [
        _paired(first, second, seed=seed)
        for i, first in enumerate(results)
        for second in results[i + 1 :]
    ]
    return Comparison(
        frame=pd.concat(frames, ignore_index=True),
        differences=pd.concat(pairs, ignore_index=True),
    )


def _identity(result: Result, what: str) -> Any:
    if what == "data":
        return {key: result.run["data"].get(key) for key in ("name", "fingerprint")}
    return result.run[what]


def _paired(first: Result, second: Result, *, seed: int) -> pd.DataFrame:
    """Sample-by-sample differences, second minus first, for the measures that both have."""
    shared = first.samples.index.intersection(second.samples.index)
    if len(shared) < 2:
        raise ResultError(
            f"{first.model} and {second.model} share {len(shared)} samples",
            "a paired difference needs two or more",
            "Probe both with the same limit and seed",
        )
    left, right = _by_place(first), _by_place(second)
    places = [place for place in left if place in right]
    if not places:
        raise ResultError(
            f"{first.model} and {second.model} share no measure at the same place",
            "their metrics, sites or layers differ",
            "Probe both with the same metrics",
        )
    of_first = first.samples.loc[shared, [left[place] for place in places]].to_numpy()
    of_second = second.samples.loc[shared, [right[place] for place in places]].to_numpy()
    summary = summarise(of_second - of_first, seed=seed)
    return pd.DataFrame(
        {
            "first": first.model,
            "second": second.model,
            "metric": [metric for metric, _, _ in places],
            "site": [site for _, site, _ in places],
            "layer": [layer for _, _, layer in places],
            "difference": summary.mean,
            "std": summary.std,
            "sem": summary.sem,
            "ci_low": summary.ci_low,
            "ci_high": summary.ci_high,
            "count": summary.count,
        }
    )


def _by_place(result: Result) -> dict[tuple[str, str, int], str]:
    """(metric, site, layer) -> its column; a ViT's `heads_k` is what `heads` is in a CRATE."""
    places: dict[tuple[str, str, int], str] = {}
    for column in result.samples.columns:
        metric, _, place = column.partition("@")
        site, _, layer = place.rpartition(":")
        places[metric, "heads" if site.startswith("heads") else site, int(layer)] = column
    return places
