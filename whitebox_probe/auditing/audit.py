"""`audit`: does a model do what the principle says? A verdict for each claim."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from torch import nn

from whitebox_probe._core.errors import BasisError, ProbeError, expect_names_differ, nearest
from whitebox_probe.auditing import nulls
from whitebox_probe.auditing.claim import claims
from whitebox_probe.auditing.grid import FIRST, Setting, around, usual
from whitebox_probe.auditing.judge import Measured, judge
from whitebox_probe.auditing.thresholds import Thresholds
from whitebox_probe.auditing.verdicts import Audit
from whitebox_probe.models.model import ProbeModel
from whitebox_probe.probing.bases import FREE
from whitebox_probe.probing.plan import Measurement, Request, planned
from whitebox_probe.probing.probe import as_model, probe
from whitebox_probe.probing.settings import Execution, Settings
from whitebox_probe.results.result import Result

TAKING = ("dtype", "fast", "nonfinite", "on_error", "fit_limit")
"""Options of `probe` that an audit has too, and records."""
AROUND = 64
"""Samples on which the other settings are looked at, where there are more."""

Model = ProbeModel | nn.Module | str


def audit(
    models: Sequence[Model] | Model,
    data: Any,
    *,
    limit: int | None = None,
    basis: str | None = None,
    eps: float = 0.1,
    lam: float = 0.1,
    prenorm: bool = True,
    class_token: bool = True,
    first_layer: int = FIRST,
    null: bool = True,
    draws: int = nulls.DRAWS,
    null_limit: int = nulls.SAMPLES,
    robustness: bool = True,
    thresholds: Thresholds | Mapping[str, float] | None = None,
    seed: int = 0,
    **options: Any,
) -> Audit:
    """Judge each claim of the principle on each model, against random weights of its own.

    Every claim says what is measured for it and how: rates in the official convention, the
    objective in the paper's with orthonormal bases, steps in the residual stream with the model's
    own bases after its attention norm. All of it is measured in one pass a model, and around it
    under other settings: one that overturns a verdict is told in its place.

    Args:
        models: of different names; names, wrapped or bare modules.
        data, limit, eps, lam, prenorm, class_token, seed: as for `probe`.
        basis: of every model; each model's default when not given.
        first_layer: where curves begin.
        null: whether random weights are measured as well; of a wrapped module of a family its
            weights permuted, of a module mapped by its paths nothing.
        draws, null_limit: how many times, and on how many samples.
        robustness: whether the other settings are measured.
        thresholds: that verdicts use, all or by name.
        options: of `probe`, those that say how tokens are taken (`dtype`, `fast`, `nonfinite`,
            `on_error`, `fit_data`, `fit_limit`) and how the pass is run (`batch_size`, `workers`,
            `device`, `progress`). Convention and orthonormality are each claim's own.

    Raises: ProbeError as `probe` does, and for two models of one name.
    """
    given = [models] if isinstance(models, Model) else models
    whole = [as_model(model) for model in given]
    one = {"basis": basis, "eps": eps, "lam": lam, "prenorm": prenorm, "class_token": class_token}
    _check_options(options, one, null, draws, first_layer)
    expect_names_differ([model.name for model in whole])
    t = thresholds if isinstance(thresholds, Thresholds) else Thresholds.of(**(thresholds or {}))
    common = {"limit": limit, "seed": seed, **options}
    few = {k: v for k, v in common.items() if k != "progress"}
    few["limit"] = null_limit if limit is None else min(limit, null_limit)
    told: dict[str, Any] = {"limit": limit, **one, "first_layer": first_layer, "seed": seed}
    told |= {name: value for name, value in options.items() if name in TAKING}
    measured: dict[str, Measured] = {}
    untrained: dict[str, list[Result]] = {}  # steps of one training share them
    for model in whole:
        base = usual(model, **one, first_layer=first_layer)
        others = list(around(model, base)) if robustness else []
        requests, absent = wanted(model, base, ())
        result, other = _of_model(model, data, requests, base, others, common)
        kind = nulls.null_kind(model) if null else ""
        same = nulls.identity(model) or model.name
        same += repr(requests)
        if same not in untrained:
            untrained[same] = [
                probe(each, data, requests, **few, progress=False)
                for each in nulls.draws(model, draws if kind else 0, seed=seed)
            ]
        drawn = untrained[same]
        measured[model.name] = Measured(result, base, others, other, drawn, kind, absent)
    told |= {"null": null, "draws": draws, "null_limit": null_limit, "robustness": robustness}
    told["data"] = next((dict(each.result.run.data) for each in measured.values()), {})
    told["count"] = {name: each.result.run.count for name, each in measured.items()}
    return judge(measured, thresholds=t, settings=told)


def _of_model(
    model: ProbeModel,
    data: Any,
    usually: Sequence[Request],
    base: Setting,
    others: Sequence[Setting],
    options: Mapping[str, Any],
) -> tuple[Result, Result | None]:
    """The model under the usual setting, and under the others, in one pass where samples are few.

    Of many, the others are looked at on the first `AROUND` that are drawn: whether an effect turns
    shows on these.
    """
    samples = getattr(data, "dataset", data)  # a DataLoader's length counts batches
    known = len(samples) if hasattr(samples, "__len__") and not isinstance(data, str) else None
    limit = known if options["limit"] is None else options["limit"]
    if not others:
        return probe(model, data, usually, **options), None
    around_it, _ = wanted(model, base, others)
    if limit is not None and limit <= AROUND:
        whole = probe(model, data, around_it, **options)
        return whole, whole
    result = probe(model, data, usually, **options)
    few = {**options, "limit": min(AROUND, len(result.samples)), "progress": False}
    return result, probe(model, data, around_it, **few)


def _check_options(
    options: Mapping[str, Any], one: Mapping[str, Any], null: Any, draws: Any, first_layer: Any
) -> None:
    known = (*TAKING, "fit_data", *(each.name for each in fields(Execution)))
    for name, value in options.items():
        if name not in known:
            raise ProbeError(
                f"an audit has no option '{name}'",
                "each claim says for itself what it measures, and how",
                nearest(name, known),
            )
        if name in TAKING:
            _expect_one(name, value)
    for name, value in one.items():
        _expect_one(name, value)
    Settings.of(**{name: value for name, value in one.items() if value is not None})
    if not isinstance(null, bool):
        raise ProbeError(
            f"null={null!r} is no choice of an audit",
            "its null is the model with random weights, and is measured or not",
            "Use null=True or null=False",
        )
    for name, value, least in (("draws", draws, 2), ("first_layer", first_layer, 1)):
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ProbeError(
                f"{name} is {value!r}",
                f"it is a whole number from {least} on",
                f"Use {name}={least}",
            )


def _expect_one(name: str, value: Any) -> None:
    if isinstance(value, list | tuple):
        raise ProbeError(
            f"{name} has several values",
            "a verdict is of one, and others are looked at around it",
            "Name one, and audit again",
        )


def wanted(
    model: ProbeModel, base: Setting, others: Sequence[Setting]
) -> tuple[list[Request], dict[str, str]]:
    """What all claims measure of a model, each once; and claim -> why it cannot be measured."""
    asked: dict[str, Request] = {}
    absent: dict[str, str] = {}
    for claim in claims().values():
        try:
            for request in claim.requests(base):
                for each in planned(model, [request], Settings(), {}):
                    _expect_basis(model, each)
        except ProbeError as error:
            absent[claim.name] = f"{error.what}: {error.why}"
            continue
        for setting in (base, *others):
            if setting is base or claim.looks_at(setting):
                for request in claim.requests(setting):
                    asked[repr(request)] = request
    return list(asked.values()), absent


def _expect_basis(model: ProbeModel, measurement: Measurement) -> None:
    """Raises: BasisError where a measure needs subspaces that neither weights nor tokens give."""
    basis = measurement.basis
    if basis is not None and basis.name not in (*model.bases, *FREE):
        raise BasisError(
            f"{model.name} has no subspaces '{basis.name}'",
            "its mapping names none, or another",
            "Pass subspaces= to wrap(), or basis='pca'",
        )
