"""From what a pass has measured to the parts of a `Result`: rows, samples and matrices."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from whitebox_probe._core.checks import heads_not_finite
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
    may_lack = np.array([bool(_sampled(m).why_none("")) for _, m in having], dtype=bool)
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
        row["note"] = _left_out(_sampled(m), count, len(kept), *collector.left_out(m, n))
    return Samples(kept, rows, {"count": len(dropped), "first": dropped[:20]})


def _sampled(m: Measurement) -> SampleMeasure:
    assert isinstance(m.measure, SampleMeasure)
    return m.measure


def _left_out(measure: SampleMeasure, lacking: int, samples: int, tokens: int, of: int) -> str:
    """What a row says of tokens that have no value, and why it is NaN, if a sample has none."""
    if lacking:
        return f"none, as {measure.why_none(f'{lacking} of {samples} samples')}"
    return f"{tokens} of {of} tokens are {measure.lacks} and left out" if tokens else ""


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
                notes, counts = m.measure.notes(sums), m.measure.counts(sums)
                for name, value in m.measure.numbers(sums).items():
                    row = _number(m, name, layer, float(value), counts.get(name, count))
                    rows.append(row | {"note": notes.get(name, "") or _unsettled(row)})
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


def _unsettled(row: Row) -> str:
    """What is said of a number that is NaN, of finite features, where the measure has no reason."""
    return "" if np.isfinite(row["value"]) else "none, as it is not defined for these samples"


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
    known: dict[tuple[Measure, BasisKey], list[_OfLayer]] = {}
    for m in plan.weights:
        assert isinstance(m.measure, WeightMeasure)
        assert m.basis is not None
        of = {n: U.cpu() for n, U in bases[m.basis].items()}
        key = (m.measure, m.basis)
        if key not in known:
            _expect_finite_subspaces(of)
            known[key] = list(_of_layers(m.measure, of))
        stacks: dict[str, list[np.ndarray]] = {}
        for each in known[key]:
            for name, (value, count, note) in each.numbers.items():
                rows.append(_number(m, name, each.layer, value, count) | {"note": note})
            for name, matrix in each.matrices.items():
                stacks.setdefault(name, []).append(matrix.numpy())
        matrices += [(name, _where(m), np.stack(layers)) for name, layers in stacks.items()]
    return rows, matrices


@dataclass(frozen=True)
class _OfLayer:
    """What a measure says of a layer's subspaces.

    Attributes: numbers: row -> value, of how many pairs or heads it is, and a note.
    """

    layer: int
    numbers: dict[str, tuple[float, int, str]]
    matrices: dict[str, Tensor]


def _expect_finite_subspaces(of: Mapping[int, Tensor]) -> None:
    """Raise NonFiniteError that names the first layer and head whose weights are not finite."""
    for layer, U in of.items():
        if bad := heads_not_finite(U):
            raise NonFiniteError(
                f"{len(bad)} of {len(U)} subspaces of layer {layer} are not finite",
                f"the weights that head {bad[0] + 1} is read from hold NaN or infinity",
                "Check the weights: the training may have diverged",
            )


def _of_layers(measure: WeightMeasure, of: Mapping[int, Tensor]) -> Iterator[_OfLayer]:
    """Numbers and matrices of each layer, those between it and the next one among them."""
    layers, bases = list(of), list(of.values())
    prepared = [measure.prepare(U) for U in bases]
    heads = [int(measure.having(U).sum()) for U in bases]
    for i, U in enumerate(bases):
        found, matrices = measure.measure(U, prepared[i])
        pairs = heads[i] * (heads[i] - 1) // 2
        here = {layers[i]: (U, heads[i])}
        numbers = {name: (v, pairs, _note_of_heads(v, here)) for name, v in found.items()}
        if i + 1 < len(bases):
            both = here | {layers[i + 1]: (bases[i + 1], heads[i + 1])}
            between = measure.between(prepared[i], prepared[i + 1])
            numbers |= {n: (v, heads[i], _note_of_heads(v, both)) for n, v in between.items()}
        yield _OfLayer(layers[i], numbers, matrices)


def _note_of_heads(value: float, of: Mapping[int, tuple[Tensor, int]]) -> str:
    """Which subspaces a number leaves out, or why it is NaN.

    Args: of: layer -> its subspaces, and how many of them are measured.
    """
    finite, told = np.isfinite(value), []
    for layer, (U, measured) in of.items():
        zero = int((~U.flatten(1).bool().any(dim=1)).sum())
        if count := len(U) - measured if finite else zero:
            told.append(f"{count} of {len(U)} subspaces of layer {layer} are zero")
    if finite:
        return f"{' and '.join(told)} and left out" if told else ""
    return f"none, as {' and '.join(told) or 'there is nothing to compare with'}"


def bounds(plan: Plan, bases: Bases, tokens: Mapping[str, int]) -> dict[str, list[Any]]:
    """The smallest and largest value that a rate can take, where the convention sets them."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    if tokens["change"]:
        return {}  # they are of one number of tokens
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
