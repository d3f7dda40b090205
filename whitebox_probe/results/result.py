"""The result of a probe: a tidy table, per-sample values, matrices, and where they came from."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from whitebox_probe._core.errors import MissingDependency, ResultError
from whitebox_probe._core.io import atomic_path
from whitebox_probe.stats import Trend, effect_size, interpolate, summarise, trend

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


def tabulate(
    *,
    model: str,
    basis: str,
    convention: str,
    samples: pd.DataFrame,
    measured: Sequence[tuple[str, str, int, int]],
    numbers: Mapping[tuple[str, int], tuple[float, int]],
    streamed: Mapping[tuple[str, str, int], float],
    count: int,
    seed: int,
) -> pd.DataFrame:
    """The tidy frame of per-sample columns and of numbers read from weights.

    Args:
        measured: (metric, site, layer, ddof) of each column of `samples`, in its order.
        numbers: (metric, layer) -> (value, how many pairs it is taken over); they carry no spread.
        streamed: (metric, site, layer) -> value, of all `count` samples together; no spread either.
    """
    rows: list[dict[str, Any]] = []
    if measured:
        ddof = np.array([m[3] for m in measured], dtype=np.int64)
        summary = summarise(samples.to_numpy(), ddof=ddof, seed=seed)
    for column, (metric, site, layer, _) in enumerate(measured):
        spread = {
            name: float(getattr(summary, name)[column])
            for name in ("mean", "std", "sem", "ci_low", "ci_high")
        }
        rows.append(
            {"layer": layer, "site": site, "metric": metric, **spread, "count": summary.count}
        )
    empty = dict.fromkeys(("std", "sem", "ci_low", "ci_high"), float("nan"))
    for (metric, layer), (value, pairs) in numbers.items():
        place = {"layer": layer, "site": "weights", "metric": metric}
        rows.append(place | {"mean": value, **empty, "count": pairs})
    for (metric, site, layer), value in streamed.items():
        place = {"layer": layer, "site": site, "metric": metric}
        rows.append(place | {"mean": value, **empty, "count": count})
    frame = pd.DataFrame(rows)
    frame["model"], frame["basis"], frame["convention"] = model, basis, convention
    return frame.sort_values(_KEYS, kind="stable").reset_index(drop=True)[list(COLUMNS)]


MUST_AGREE = {
    "convention": "convention",
    "eps": "coding precision",
    "prenorm": "treatment of norms (prenorm)",
    "class_token": "treatment of the class token",
}
"""What two results must share for their nats to mean the same -> what an error calls it."""
NULL_SEPARATOR = " | "
"""Stands in a result's name between its model and the null that was taken of it."""
FORMS = {
    "per_token": "divided by n",
    "per_entry": "divided by n d",
    "position": "0 at the smallest value that the official convention can take, 1 at the largest",
    "null_share": "divided by the Gaussian null's mean at the same layer",
}


def in_nats(result: Result, metric: str) -> bool:
    """Whether a measure is a rate, which grows with tokens, width and heads."""
    return bool(result.run.get("measures", {}).get(metric, {}).get("unit") == "nats")


def normal_form(
    result: Result, metric: str, form: str | None, null: pd.DataFrame | None = None
) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """How a rate's curve is brought to a form that models of different sizes can share.

    Args: form: one of `FORMS`, or None to leave curves alone. null: the null's curve.
    Returns: a function from a curve (`Result.curve`) to the same curve in that form.
    Raises: ResultError when the result does not hold what the form needs.
    """
    low, scale = 0.0, pd.Series(dtype=float)
    size = 1.0
    match form:
        case None:
            pass
        case "per_token":
            size = result.run["tokens"]
        case "per_entry":
            size = result.run["tokens"] * result.run["dim"]
        case "position":
            pair = result.run.get("bounds", {}).get(metric)
            if pair is None:
                raise ResultError(
                    f"the result of {result.model} has no bounds of '{metric}'",
                    "only compression in the official convention has them",
                    "Probe with convention='official', or use per_token",
                )
            low, size = pair[0], pair[1] - pair[0]
        case "null_share":
            if null is None:
                raise ResultError(
                    f"the Gaussian null of {result.model} is missing",
                    "the form divides by it",
                    "Pass nulls= with the result of wp.nulls(...)['gaussian'] first",
                )
            scale = null.set_index("layer")["mean"]
        case _:
            raise ResultError(
                f"unknown form '{form}'",
                "it says what nats are divided by",
                f"Use one of: {', '.join(FORMS)}, None",
            )

    def apply(curve: pd.DataFrame) -> pd.DataFrame:
        curve = curve.copy()
        by = curve["layer"].map(scale).to_numpy() if len(scale) else size
        for column in ("mean", "ci_low", "ci_high"):
            if column in curve:
                curve[column] = (curve[column] - low) / by
        for column in ("std", "sem"):
            if column in curve:
                curve[column] = curve[column] / by
        return curve

    return apply


@dataclass(frozen=True)
class Comparison:
    """Results side by side.

    Attributes:
        frame: all rows, with `relative_depth` (layer / number of layers) and, for nats, the value
            per token, per entry, and its position between the bounds of the official convention.
        differences: for each pair of models on the same samples and each measure that both have:
            mean difference (second minus first), std, sem, 95% interval, effect size and count at
            each layer, or at each relative depth where the models differ in depth. `form` says
            what nats of models of different sizes were divided by.
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


SIZES = ("tokens", "dim", "heads", "dim_head")


def compare(results: Sequence[Result], *, form: str | None = None, seed: int = 0) -> Comparison:
    """Align results by layer and relative depth, and pair models sample by sample.

    Models of different depth are paired at the relative depths of the shallower one, the deeper
    one's samples being interpolated linearly between its layers.

    Args: form: what rates are divided by before they are subtracted (`FORMS`, but not null_share);
        when not given, nothing for models of the same sizes and `per_token` for others.
    Raises: ResultError for fewer than two results, the same model twice, results that differ in
        what `MUST_AGREE` names or in orthonormality of the bases, or results on different data
        (their samples cannot be paired).
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
    for what in (*MUST_AGREE, "orthonormal", "data"):
        kinds = {json.dumps(_identity(r, what), sort_keys=True) for r in results}
        if len(kinds) > 1:
            raise ResultError(
                f"the results differ in {what}: {'; '.join(sorted(kinds))}",
                "their numbers do not mean the same",
                f"Probe all models with the same {what}",
            )
    if form is None and len({tuple(r.run[key] for key in SIZES) for r in results}) > 1:
        form = "per_token"
    frames = []
    for result in results:
        frame = result.frame.copy()
        frame["relative_depth"] = frame["layer"] / result.run["layers"]
        for each in ("per_token", "per_entry", "position"):
            frame[f"mean_{each}"] = _formed(result, frame, each)
        frames.append(frame)
    pairs = [
        _paired(first, second, form=form, seed=seed)
        for i, first in enumerate(results)
        for second in results[i + 1 :]
    ]
    return Comparison(
        frame=pd.concat(frames, ignore_index=True),
        differences=pd.concat(pairs, ignore_index=True),
    )


def _formed(result: Result, frame: pd.DataFrame, form: str) -> pd.Series:
    """The means of rates in a form; NaN for all else."""
    out = pd.Series(float("nan"), index=frame.index)
    for metric in frame["metric"].unique():
        bounded = form != "position" or metric in result.run.get("bounds", {})
        if in_nats(result, metric) and bounded:
            mine = frame[frame["metric"] == metric]
            out[mine.index] = normal_form(result, metric, form)(mine)["mean"]
    return out


def _identity(result: Result, what: str) -> Any:
    if what == "data":
        return {key: result.run["data"].get(key) for key in ("name", "fingerprint")}
    if what == "orthonormal":  # learned projections as they are, or orthonormal bases
        basis = str(result.run["basis"])
        return basis.endswith("+qr") or not basis.startswith(("native", "qkv:"))
    return result.run.get(what)


def _paired(first: Result, second: Result, *, form: str | None, seed: int) -> pd.DataFrame:
    """Sample-by-sample differences, second minus first, for the measures that both have."""
    shared = first.samples.index.intersection(second.samples.index)
    if len(shared) < 2:
        raise ResultError(
            f"{first.model} and {second.model} share {len(shared)} samples",
            "a paired difference needs two or more",
            "Probe both with the same limit and seed",
        )
    left, right = _by_place(first), _by_place(second)
    shallow = min(first.run["layers"], second.run["layers"])
    both = {at: ((first, left[at]), (second, right[at])) for at in left if at in right}
    places = {at: _shared_depths(pair, shallow) for at, pair in both.items()}
    if not any(map(len, places.values())):
        raise ResultError(
            f"{first.model} and {second.model} share no measure at the same place",
            "their metrics, sites or layers differ",
            "Probe both with the same metrics",
        )
    parts = []
    for (metric, site), layers in places.items():
        bounded = form != "position" or all(
            metric in r.run.get("bounds", {}) for r in (first, second)
        )
        used = form if bounded and in_nats(first, metric) else None
        values = [
            _on_grid(result, columns, layers / shallow, metric, used, shared)
            for result, columns in both[metric, site]
        ]
        summary = summarise(values[1] - values[0], seed=seed)
        parts.append(
            pd.DataFrame(
                {
                    "first": first.model,
                    "second": second.model,
                    "metric": metric,
                    "site": site,
                    "layer": layers,
                    "relative_depth": layers / shallow,
                    "form": used or "",
                    "difference": summary.mean,
                    "std": summary.std,
                    "sem": summary.sem,
                    "ci_low": summary.ci_low,
                    "ci_high": summary.ci_high,
                    "effect_size": effect_size(values[1] - values[0]),
                    "count": summary.count,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def _shared_depths(both: Sequence[tuple[Result, Mapping[int, str]]], shallow: int) -> np.ndarray:
    """The layers of the shallower model at whose relative depth both have a measure.

    A measure that only some layers have is not continued to the others.
    """
    layers = np.arange(1, shallow + 1)
    for result, columns in both:
        depth = layers / shallow * result.run["layers"]
        # Down to the first depth of all, which a deeper model has no layer before.
        first = min(columns) if min(columns) > 1 else 0
        layers = layers[(depth >= first - 1e-9) & (depth <= max(columns) + 1e-9)]
    return layers


def _on_grid(
    result: Result,
    columns: Mapping[int, str],
    grid: np.ndarray,
    metric: str,
    form: str | None,
    shared: pd.Index,
) -> np.ndarray:
    """Values (samples, depths) at the relative depths of a grid."""
    layers = sorted(columns)
    whole = np.stack([result.samples.loc[shared, columns[n]].to_numpy() for n in layers], axis=1)
    formed = normal_form(result, metric, form)
    flat = formed(pd.DataFrame({"mean": whole.ravel(), "layer": 1}))["mean"].to_numpy()
    whole = flat.reshape(whole.shape)
    depth = np.array(layers) / result.run["layers"]
    if np.array_equal(depth, grid):
        return whole
    return interpolate(depth, whole, grid)


def _by_place(result: Result) -> dict[tuple[str, str], dict[int, str]]:
    """(metric, site) -> layer -> column; a ViT's `heads_k` is what `heads` is in a CRATE."""
    places: dict[tuple[str, str], dict[int, str]] = {}
    for column in result.samples.columns:
        metric, _, place = column.partition("@")
        site, _, layer = place.rpartition(":")
        key = (metric, "heads" if site.startswith("heads") else site)
        places.setdefault(key, {})[int(layer)] = column
    return places


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
