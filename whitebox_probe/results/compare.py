"""Results side by side, and their differences sample by sample."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from whitebox_probe._core.errors import ResultError
from whitebox_probe._core.io import atomic_path
from whitebox_probe.results.forms import in_nats, normal_form
from whitebox_probe.results.result import Result
from whitebox_probe.stats import effect_size, interpolate, summarise

MUST_AGREE = {
    "convention": "convention",
    "eps": "coding precision",
    "prenorm": "treatment of norms (prenorm)",
    "class_token": "treatment of the class token",
}
"""What two results must share for their nats to mean the same -> what an error calls it."""


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
