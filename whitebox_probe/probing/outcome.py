"""From what a pass has measured to the parts of a `Result`: samples, sums, numbers of weights."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from whitebox_probe._core.errors import NonFiniteError
from whitebox_probe.metrics.compression import official_bounds
from whitebox_probe.metrics.measure import HEADS, DatasetMetric, SampleMetric, WeightMetric
from whitebox_probe.models.family import Dims
from whitebox_probe.probing.collector import Collector
from whitebox_probe.results.table import keys_of, sample_key


def samples(
    collector: Collector, heads_site: str | None, nonfinite: str
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """One row a sample; those that are not finite are refused or dropped, and always counted."""
    ids, values = collector.table.finish()
    values = values[:, [n in m.layers for n in collector.layers for m in collector.columns]]
    names = [sample_key(*place[:3]) for place in places(collector, heads_site, "paper")]
    found = pd.DataFrame(values, columns=range(len(names)), index=pd.Index(ids, name="sample"))
    bad = ~np.isfinite(found.to_numpy())
    if not bad.any():
        return found, {"count": 0, "first": []}
    rows = bad.any(axis=1)
    bad_places = [
        {"sample": int(ids[row]), "where": str(names[int(bad[row].argmax())])}
        for row in np.flatnonzero(rows)
    ]
    _refuse(bad_places, len(found), everything=nonfinite == "raise" or bool(rows.all()))
    if collector.head_means or any(not m.per_sample for m in collector.plan):
        raise NonFiniteError(
            f"{len(bad_places)} of {len(found)} samples have features that are not finite",
            "a measure of all samples together, or of each head, holds them already",
            "Remove those samples from the data",
        )
    return found[~rows], {"count": len(bad_places), "first": bad_places[:20]}


def places(
    collector: Collector, heads_site: str | None, convention: str
) -> list[tuple[str, str, int, int]]:
    """(metric, site, layer, ddof) of each column of the samples."""
    heads = heads_site or "heads"
    return [
        (m.metric.name, heads if m.site == HEADS else m.site, layer, m.metric.ddof[convention])
        for layer in collector.layers
        for m in collector.columns
        if isinstance(m.metric, SampleMetric) and layer in m.layers
    ]


def _refuse(places: Sequence[Mapping[str, Any]], count: int, *, everything: bool) -> None:
    """NaN and infinity are never averaged in: name the first place and count the samples."""
    if not everything:
        return
    metric, _, place = str(places[0]["where"]).partition("@")
    site, _, layer = place.rpartition(":")
    raise NonFiniteError(
        f"{len(places)} of {count} samples have features that are not finite",
        f"first {metric} at {site} of layer {layer}, sample {places[0]['sample']}",
        "Check the weights, the dtype (float16 overflows), and that sample; "
        "nonfinite='drop' leaves such samples out",
    )


def rows(
    collector: Collector, heads_site: str | None, asked: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """The table's rows of the columns of the samples."""
    heads = heads_site or "heads"
    measured = [
        (m.metric, heads if m.site == HEADS else m.site, layer)
        for layer in collector.layers
        for m in collector.columns
        if isinstance(m.metric, SampleMetric) and layer in m.layers
    ]
    return [
        {"key": i, "ddof": metric.ddof[asked["convention"]], "metric": metric.name}
        | {"site": site, "layer": layer, **_depends(metric, site, asked)}
        for i, (metric, site, layer) in enumerate(measured)
    ]


def _depends(metric: Any, site: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """What a measure's number depends on, of what was asked for."""
    told = {name: asked[name] for name in ("convention", "class_token", "null")}
    told |= {"basis": asked["basis"] if metric.needs_basis else ""}
    told |= {"eps": getattr(metric, "eps", None), "lam": getattr(metric, "lam", None)}
    normed = metric.group == "rate" and site in ("z_in", "z_half", "z_out")
    return told | {"prenorm": asked["prenorm"] if normed else None}


def numbers(
    weights: Mapping[tuple[str, int], tuple[float, int]],
    sums: Sequence[Mapping[str, Any]],
    asked: Mapping[str, Any],
    count: int,
) -> list[dict[str, Any]]:
    """The table's rows that have no value a sample."""
    read = [
        {"metric": metric, "layer": layer, "site": "weights", "basis": asked["basis"]}
        | {"value": value, "count": pairs}
        for (metric, layer), (value, pairs) in weights.items()
    ]
    return read + [
        {"metric": row["metric"], "layer": row["layer"], "site": row["site"], "count": count}
        | {"value": row["value"], **_depends(row["of"], row["site"], asked)}
        for row in sums
    ]


def names(frame: pd.DataFrame, measured: Sequence[Mapping[str, Any]]) -> dict[int, str]:
    """Number of a column of the samples -> its name."""
    places = zip(frame["metric"], frame["site"], frame["layer"], frame["eps"], strict=True)
    keys = {_place(*place): key for place, key in zip(places, keys_of(frame), strict=True)}
    return {
        row["key"]: keys[_place(row["metric"], row["site"], row["layer"], row["eps"])]
        for row in measured
    }


def _place(metric: str, site: str, layer: int, eps: float | None) -> tuple[Any, ...]:
    return metric, site, layer, None if eps is None or eps != eps else eps


def streamed(collector: Collector) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Numbers and matrices of measures of all samples, and of measures with a value a head."""
    found: list[dict[str, Any]] = []
    stacks: dict[str, list[np.ndarray]] = {}
    for (m, layer), stream in collector.streams.items():
        assert isinstance(stream, DatasetMetric)
        for row, value in stream.numbers().items():
            found.append({"metric": row, "site": m.site, "layer": layer, "value": float(value)})
            found[-1]["of"] = m.metric
        for key, matrix in stream.matrices().items():
            stacks.setdefault(key, []).append(matrix.numpy(force=True))
    for (m, _), total in sorted(collector.head_means.items(), key=lambda item: item[0][1]):
        mean = total.numpy(force=True) / max(collector.table.used, 1)
        stacks.setdefault(m.metric.name, []).append(mean)
    return found, {key: np.stack(layers) for key, layers in stacks.items()}


def weighed(
    weighers: Sequence[WeightMetric], bases: dict[int, Tensor]
) -> tuple[dict[tuple[str, int], tuple[float, int]], dict[str, np.ndarray]]:
    """Numbers and matrices of each layer's subspaces."""
    numbers: dict[tuple[str, int], tuple[float, int]] = {}
    stacks: dict[str, list[np.ndarray]] = {}
    here = {layer: U.cpu() for layer, U in bases.items()}
    for metric in weighers:
        for layer, U in here.items():
            values, matrices = metric.measure(U)
            if layer + 1 in here:
                values = values | metric.between(U, here[layer + 1])
            pairs = len(U) * (len(U) - 1) // 2
            numbers |= {(name, layer): (value, pairs) for name, value in values.items()}
            for name, matrix in matrices.items():
                stacks.setdefault(name, []).append(matrix.numpy())
    return numbers, {name: np.stack(layers) for name, layers in stacks.items()}


def bounds(d: Dims, tokens: int, convention: str, eps: Sequence[float]) -> dict[str, list[float]]:
    """The smallest and largest value that a rate can take, where the convention sets them."""
    if convention != "official" or len(eps) > 1 or tokens == 0:
        return {}
    pair = official_bounds(heads=d.heads, dim_head=d.dim_head, tokens=tokens, eps=eps[0])
    return {"compression": list(pair)}


def labels(metrics: Iterable[Any]) -> dict[str, dict[str, Any]]:
    """What figures need to know of each row of the table, so that they need not know the metric."""
    told: dict[str, dict[str, Any]] = {}
    for metric in metrics:
        common = {"unit": metric.unit, "group": metric.group, "bases": metric.needs_basis}
        if isinstance(metric, SampleMetric):
            label = metric.label or metric.name.replace("_", " ")
            told[metric.name] = common | {"label": label, "better": metric.better}
            told[metric.name] |= {"metric": metric.name}
        else:
            for row in metric.rows:
                label = metric.labels.get(row, row.replace("_", " "))
                told[row] = common | {"label": label, "better": None, "metric": metric.name}
    return told
