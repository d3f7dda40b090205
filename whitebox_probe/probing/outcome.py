"""From what a pass has measured to the parts of a `Result`: rows, samples and matrices."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from whitebox_probe._core.errors import NonFiniteError
from whitebox_probe.metrics.compression import official_bounds
from whitebox_probe.metrics.measure import DatasetMeasure, Measure, SampleMeasure, WeightMeasure
from whitebox_probe.probing.bases import Bases
from whitebox_probe.probing.collector import Collector
from whitebox_probe.probing.plan import BasisKey, Measurement, Plan
from whitebox_probe.probing.table import NOTHING
from whitebox_probe.results.table import keys_of, no_value, with_types

Row = dict[str, Any]
Matrix = tuple[str, dict[str, Any], np.ndarray]
"""A name, the settings that it was taken with, and an array over layers."""


@dataclass(frozen=True)
class Samples:
    """Values a sample: one row each, with a column for each of `rows`.

    Attributes: frame: index: the samples' numbers. rows: what the table says of each column.
        dropped: which samples were left out, as their features are not finite.
    """

    frame: pd.DataFrame
    rows: Sequence[Row]
    dropped: Mapping[str, Any]


def samples(collector: Collector, nonfinite: str) -> Samples:
    """The values of the samples; those that are not finite are refused or dropped, and counted.

    Raises: NonFiniteError.
    """
    ids, values = collector.table.finish()
    having = [(n, m) for n in collector.layers for m in collector.columns]
    values = values[:, [n in m.layers for n, m in having]]
    having = [(n, m) for n, m in having if n in m.layers]
    may_lack = np.array([bool(_sampled(m).lacks) for _, m in having], dtype=bool)
    nothing = (values == NOTHING) & may_lack
    values = np.where(nothing, np.nan, values)
    rows = [_sample_row(m, n) for n, m in having]
    keys = list(keys_of(with_types(pd.DataFrame(rows)))) if rows else []
    for row, key in zip(rows, keys, strict=True):
        row["key"] = key
    frame = pd.DataFrame(
        values, columns=[row["key"] for row in rows], index=pd.Index(ids, name="sample")
    )
    bad = ~np.isfinite(values) & ~nothing
    dropped = _not_finite(collector, frame, bad, rows, nonfinite)
    kept = frame.drop(index=[each["sample"] for each in dropped])
    lacking = pd.DataFrame(nothing, index=frame.index).loc[kept.index].sum().tolist()
    for row, (n, m), count in zip(rows, having, lacking, strict=True):
        row["note"] = _left_out(_sampled(m).lacks, count, len(kept), *collector.left_out(m, n))
    return Samples(kept, rows, {"count": len(dropped), "first": dropped[:20]})


def _sampled(m: Measurement) -> SampleMeasure:
    assert isinstance(m.measure, SampleMeasure)
    return m.measure


def _left_out(what: str, lacking: int, samples: int, tokens: int, of: int) -> str:
    """What a row says of tokens that have no value, and why it is NaN, if a sample has none."""
    if lacking:
        return f"none, as all entries of {lacking} of {samples} samples are {what}"
    return f"{tokens} of {of} tokens are {what} and left out" if tokens else ""


def _sample_row(m: Measurement, layer: int) -> Row:
    measure = _sampled(m)
    row = {"metric": measure.name, "layer": layer, **m.row()}
    return row | {"ddof": measure.ddof[measure.convention]}


def _not_finite(
    collector: Collector,
    frame: pd.DataFrame,
    bad: np.ndarray,
    rows: Sequence[Row],
    nonfinite: str,
) -> list[dict[str, Any]]:
    """The samples that hold a value that is no number, and where they do first."""
    if not bad.any():
        return []
    ids = frame.index.to_numpy()
    found = [
        (int(ids[row]), rows[int(bad[row].argmax())]) for row in np.flatnonzero(bad.any(axis=1))
    ]
    sample, first = found[0]
    if nonfinite == "raise" or len(found) == len(frame):
        raise NonFiniteError(
            f"{len(found)} of {len(frame)} samples have features that are not finite",
            f"first {first['metric']} at {first['site']} of layer {first['layer']}, "
            f"sample {sample}",
            "Check the weights, the dtype (float16 overflows), and that sample; "
            "nonfinite='drop' leaves such samples out",
        )
    if collector.head_sums() or any(not m.per_sample for m in collector.plan):
        raise NonFiniteError(
            f"{len(found)} of {len(frame)} samples have features that are not finite",
            "a measure of all samples together, or of each head, holds them already",
            "Remove those samples from the data",
        )
    return [{"sample": each, "where": row["key"]} for each, row in found]


def streamed(collector: Collector, count: int) -> tuple[list[Row], list[Matrix]]:
    """Rows and matrices of measures of all samples, and matrices of those with a value a head."""
    rows: list[Row] = []
    matrices: list[Matrix] = []
    for m in collector.plan:
        stacks: dict[str, list[np.ndarray]] = {}
        if isinstance(m.measure, DatasetMeasure):
            for layer in sorted(m.layers):
                if bad := collector.not_finite(m, layer):
                    raise _not_finite_together(m, layer, bad, count)
                sums = collector.sums(m, layer)
                notes = m.measure.notes(sums)
                for name, value in m.measure.numbers(sums).items():
                    row = _number(m, name, layer, float(value), count)
                    rows.append(row | {"note": notes.get(name, "") or _unsettled(row, collector)})
                for name, matrix in m.measure.matrices(sums).items():
                    stacks.setdefault(name, []).append(matrix.numpy(force=True))
        matrices += [(name, _where(m), np.stack(layers)) for name, layers in stacks.items()]
    of_heads: dict[Measurement, list[np.ndarray]] = {}
    for (m, _), total in collector.head_sums().items():
        mean = total.numpy(force=True) / max(collector.table.used, 1)
        of_heads.setdefault(m, []).append(mean)
    matrices += [(m.measure.name, _where(m), np.stack(each)) for m, each in of_heads.items()]
    return rows, matrices


def _not_finite_together(m: Measurement, layer: int, bad: int, count: int) -> NonFiniteError:
    return NonFiniteError(
        f"{bad} of {count} samples have features that are not finite",
        f"{m.measure.name} at {m.place} of layer {layer} is taken of all samples together",
        "Check the weights, the dtype (float16 overflows), and the samples; a measure of each "
        "sample, such as token_norm, names the first one",
    )


def _unsettled(row: Row, collector: Collector) -> str:
    """Why a measure of finite features has no value."""
    if np.isfinite(row["value"]):
        return ""
    tokens = collector.tokens["all" if row["class_token"] else "patches"]
    return f"none, as it is not defined for {tokens} tokens a sample and {row['count']} samples"


def _where(m: Measurement) -> dict[str, Any]:
    """The settings that a matrix was taken with, those that it does not depend on left out."""
    row = m.row()
    return {name: row[name] for name in row if name == "null" or not no_value(row[name])}


def _number(m: Measurement, name: str, layer: int, value: float, count: int) -> Row:
    return {"metric": name, "layer": layer, **m.row(), "value": value, "count": count}


def weighed(plan: Plan, bases: Bases) -> tuple[list[Row], list[Matrix]]:
    """Rows and matrices of each layer's subspaces; each basis is measured once."""
    rows: list[Row] = []
    matrices: list[Matrix] = []
    known: dict[tuple[Measure, BasisKey], list[tuple[dict[str, float], dict[str, Tensor]]]] = {}
    for m in plan.weights:
        assert isinstance(m.measure, WeightMeasure)
        assert m.basis is not None
        of = {n: U.cpu() for n, U in bases[m.basis].items()}
        key = (m.measure, m.basis)
        if key not in known:
            known[key] = list(_of_layers(m.measure, list(of.values())))
        pairs = {n: len(U) * (len(U) - 1) // 2 for n, U in of.items()}
        stacks: dict[str, list[np.ndarray]] = {}
        for layer, (numbers, found) in zip(of, known[key], strict=True):
            for name, value in numbers.items():
                note = "" if np.isfinite(value) else _why_none(of, layer)
                rows.append(_number(m, name, layer, value, pairs[layer]) | {"note": note})
            for name, matrix in found.items():
                stacks.setdefault(name, []).append(matrix.numpy())
        matrices += [(name, _where(m), np.stack(layers)) for name, layers in stacks.items()]
    return rows, matrices


def _why_none(of: Mapping[int, Tensor], layer: int) -> str:
    """Why a measure of subspaces has no value; of this layer's, or of the next one's.

    Raises: NonFiniteError for weights that are not finite.
    """
    for number in (layer, layer + 1):
        U = of.get(number)
        if U is None:
            continue
        if not bool(U.isfinite().all()):
            raise NonFiniteError(
                f"the subspaces of layer {number} are not finite",
                "weights that they are read from hold NaN or infinity",
                "Check the weights: the training may have diverged",
            )
        zero = int((~U.flatten(1).bool().any(dim=1)).sum())
        if zero:
            return f"none, as {zero} of {len(U)} subspaces of layer {number} are zero"
    return "none, as there is nothing to compare with"


def _of_layers(
    measure: WeightMeasure, bases: Sequence[Tensor]
) -> Iterator[tuple[dict[str, float], dict[str, Tensor]]]:
    """Numbers and matrices of each layer, those between it and the next one among them."""
    prepared = [measure.prepare(U) for U in bases]
    for i, U in enumerate(bases):
        numbers, matrices = measure.measure(U, prepared[i])
        if i + 1 < len(bases):
            numbers = numbers | measure.between(prepared[i], prepared[i + 1])
        yield numbers, matrices


def bounds(plan: Plan, bases: Bases, tokens: Mapping[str, int]) -> dict[str, list[Any]]:
    """The smallest and largest value that a rate can take, where the convention sets them."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for m in plan.tokens:
        row = m.row()
        if m.measure.name != "compression" or row["convention"] != "official" or m.basis is None:
            continue
        n = tokens["all" if m.class_token else "patches"]
        U = next(iter(bases[m.basis].values()), None) if m.basis in bases else None
        if n == 0 or U is None:
            continue
        K, _, p = U.shape
        low, high = official_bounds(heads=K, dim_head=p, tokens=n, eps=row["eps"])
        where = {k: row[k] for k in ("basis", "convention", "class_token", "eps")}
        found[tuple(where.values())] = {"low": low, "high": high, **where}
    told = list(found.values())
    if len(told) == 1:
        return {"compression": [told[0]["low"], told[0]["high"]]}
    return {"compression": told} if told else {}


def labels(plan: Plan) -> dict[str, dict[str, Any]]:
    """What figures need to know of each row of the table, so that they know no measure."""
    told: dict[str, dict[str, Any]] = {}
    for measure in dict.fromkeys(m.measure for m in plan):
        common = {"unit": measure.unit, "group": measure.group, "bases": measure.needs_basis}
        common["metric"] = measure.name
        if isinstance(measure, SampleMeasure):
            label = measure.label or measure.name.replace("_", " ")
            told[measure.name] = common | {"label": label, "better": measure.better}
        elif isinstance(measure, DatasetMeasure | WeightMeasure):
            for row in measure.rows:
                label = measure.labels.get(row, row.replace("_", " "))
                unit = measure.units.get(row, measure.unit)
                told[row] = common | {"label": label, "better": None, "unit": unit}
    return told
