"""`audit`: does a model do what the principle says? A verdict for each claim."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import partial
from types import MappingProxyType
from typing import Any

from torch import nn

from whitebox_probe._core.arguments import (
    Check,
    bounded,
    expect,
    is_row,
    mapping,
    optional,
    plain,
    text,
    truth,
)
from whitebox_probe._core.arguments import whole as whole_number
from whitebox_probe._core.errors import (
    BasisError,
    DataError,
    NonFiniteError,
    ProbeError,
    SettingError,
    SiteError,
    expect_names_differ,
    nearest,
)
from whitebox_probe._core.process import as_found
from whitebox_probe.auditing import nulls
from whitebox_probe.auditing.claim import Claim, claims
from whitebox_probe.auditing.grid import FIRST, Setting, around, usual
from whitebox_probe.auditing.judge import Measured, judge, unsettled
from whitebox_probe.auditing.readings import Readings
from whitebox_probe.auditing.thresholds import Thresholds
from whitebox_probe.auditing.verdicts import Audit
from whitebox_probe.data._sample import length_if_any
from whitebox_probe.data.given import expected
from whitebox_probe.data.once import Once
from whitebox_probe.models.model import ProbeModel
from whitebox_probe.probing.bases import FREE
from whitebox_probe.probing.means import mean_updates, with_means
from whitebox_probe.probing.plan import Request, planned
from whitebox_probe.probing.probe import as_model, probe
from whitebox_probe.probing.settings import Execution, Settings
from whitebox_probe.results.held import uncopied
from whitebox_probe.results.result import Result

TAKING = ("dtype", "fast", "nonfinite", "on_error", "fit_limit")
"""Options of `probe` that an audit has too, and records."""
MOST_DRAWS = 100_000
_GIVEN: dict[str, tuple[Check, str]] = {
    "draws": (
        whole_number(2, most=MOST_DRAWS),
        "so many untrained networks are measured",
    ),
    "null_limit": (whole_number(2), "so many samples are read of each of them"),
    "first_layer": (whole_number(1), "claims are judged from it on"),
    "basis": (optional(text), "it says which subspaces U are"),
    "null": (truth, "models with random weights are measured beside, or not"),
    "robustness": (truth, "the other settings are measured, or not"),
    "thresholds": (optional(mapping), "they are shares that verdicts use"),
}
AROUND = 64
"""Samples on which the other settings are looked at, where there are more."""

Model = ProbeModel | nn.Module | str


@as_found()
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
    untrained: nulls.Untrained | None = None,
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
        null: whether random weights are measured as well: of a loaded model weights drawn anew, and
            its own permuted, half as often; of a wrapped module of a family its own permuted; of a
            module mapped by its paths nothing, unless `untrained` is given.
        untrained: a function of a seed that gives such a network without training, as a model or a
            module, in place of all these.
        draws, null_limit: how many times, and on how many samples.
        robustness: whether the other settings are measured.
        thresholds: that verdicts use, all or by name.
        options: of `probe`, those that say how tokens are taken (`dtype`, `fast`, `nonfinite`,
            `on_error`, `fit_data`, `fit_limit`) and how the pass is run (`batch_size`, `workers`,
            `device`, `progress`). Convention and orthonormality are each claim's own.

    Raises: ProbeError as `probe` does, and for two models of one name.
    """
    draws = expect("draws", draws, *_GIVEN["draws"])
    null_limit = expect("null_limit", null_limit, *_GIVEN["null_limit"])
    first_layer = expect("first_layer", first_layer, *_GIVEN["first_layer"])
    basis = expect("basis", basis, *_GIVEN["basis"])
    null = expect("null", null, *_GIVEN["null"])
    robustness = expect("robustness", robustness, *_GIVEN["robustness"])
    if not isinstance(thresholds, Thresholds):
        expect("thresholds", thresholds, *_GIVEN["thresholds"])
    alone = isinstance(models, str | bytes) or not is_row(models)
    # A module may be a container, whose parts are no models of their own.
    given: list[Any] = [models] if alone or isinstance(models, Model) else bounded("models", models)
    data = expected(data)
    if isinstance(getattr(data, "data", data), Once):
        raise DataError(
            "an audit reads its data several times",
            "a generator, or another iterator, can be read once",
            "Pass a list of it, or an iterable that begins anew, such as an IterableDataset",
        )
    whole = [as_model(model) for model in given]
    settings = Settings.of(limit=limit, seed=seed)
    limit, seed = settings.limit, settings.seed
    for model in whole:
        _expect_basis(model, basis)
    eps, lam = plain(eps), plain(lam)
    one = {"basis": basis, "eps": eps, "lam": lam, "prenorm": prenorm, "class_token": class_token}
    options = _checked(options, one)
    expect_names_differ([model.name for model in whole])
    for model in whole:
        _expect_layers(model, first_layer)
    drawing: Any = untrained
    if drawing is not None and not callable(drawing):
        why = "a function of a seed gives networks without training"
        what = f"untrained is a {type(drawing).__name__}"
        raise SettingError(what, why, "Pass a function", setting="untrained")
    t = thresholds if isinstance(thresholds, Thresholds) else Thresholds.of(**(thresholds or {}))
    common = {"limit": limit, "seed": seed, **options}
    few = {k: v for k, v in common.items() if k != "progress"}
    few["limit"] = null_limit if limit is None else min(limit, null_limit)
    told: dict[str, Any] = {"limit": limit, **one, "first_layer": first_layer, "seed": seed}
    told["device"] = str(options.get("device") or "cpu")
    told |= {name: value for name, value in options.items() if name in TAKING}
    measured: dict[str, Measured] = {}
    held: dict[tuple[str, ...], list[Result]] = {}  # steps of one training share random weights
    for model in whole:
        base = usual(model, **one, first_layer=first_layer)
        others = list(around(model, base)) if robustness else []
        means = mean_updates(model, data, **_of_pass(common)) if "attn_out" in model.sites else None
        apart = with_means(model, means)
        requests, absent = wanted(apart, base, ())
        _expect_some(model, requests, absent)
        try:
            result, other = _of_model(apart, data, requests, base, others, common, absent)
        except ProbeError as error:
            absent |= _unmeasured(apart, data, base, common, error)
            requests, _ = wanted(apart, base, (), absent)
            result, other = _of_model(apart, data, requests, base, others, common, absent)
        if Readings(result).count < 2:
            many = len(uncopied(result, "samples")) > 1
            raise DataError(
                "one sample is too few for an audit" + " (the others are copies of it)" * many,
                "its effects are judged by how samples differ",
                "Use other samples" if many else "Use more samples, or a larger limit",
            )
        if unsettled(Measured(result, base, others, other, absent=absent), t):
            other = probe(apart, data, wanted(apart, base, others, absent)[0], **common)
        drawn = {}
        of_draws = compared_with(base, absent)
        for kind in nulls.null_kinds(model, given=untrained is not None) if null else ():
            shared = nulls.identity(model) if kind == nulls.INITIAL else None
            at = (kind, shared or model.name, repr(of_draws))
            if at not in held:
                count = draws if kind != nulls.PERMUTED or model.entry is None else draws // 2
                measure = partial(_of_draw, data=data, metrics=of_draws, **few, progress=False)
                held[at] = [
                    nulls.measured(model, kind, each, measure, follow=number == 0)
                    for number, each in enumerate(
                        nulls.draws(model, kind, max(2, count), seed=seed, untrained=untrained)
                    )
                ]
            drawn[kind] = held[at]
        measured[model.name] = Measured(result, base, others, other, drawn, absent)
    told |= {"null": null, "draws": draws, "null_limit": null_limit, "robustness": robustness}
    told["robustness_limit"] = AROUND
    told["data"] = next((dict(each.result.run.data) for each in measured.values()), {})
    told["models"] = {name: _told(each) for name, each in measured.items()}
    told["count"] = {name: each.result.run.count for name, each in measured.items()}
    return judge(measured, thresholds=t, settings=told)


def _of_draw(draw: ProbeModel, **options: Any) -> Result:
    """What is measured of random weights; no mean update is taken of them."""
    return probe(with_means(draw, None), **options)


def _of_pass(options: Mapping[str, Any]) -> dict[str, Any]:
    """What an average over samples needs of the options, on `AROUND` of them at most."""
    names = ("seed", "batch_size", "device", "fast", "dtype", "on_error")
    limit = options["limit"]
    few = AROUND if limit is None else min(limit, AROUND)
    return {"limit": few} | {name: options[name] for name in names if name in options}


def _of_model(
    model: ProbeModel,
    data: Any,
    usually: Sequence[Request],
    base: Setting,
    others: Sequence[Setting],
    options: Mapping[str, Any],
    absent: Mapping[str, str],
) -> tuple[Result, Result | None]:
    """The model under the usual setting, and under the others, in one pass where samples are few.

    Of many, the others are looked at on the first `AROUND` that are drawn: whether an effect turns
    shows on these.
    """
    samples = getattr(data, "dataset", data)  # a DataLoader's length counts batches
    known = None if isinstance(data, str) else length_if_any(samples, type(samples).__name__)
    limit = known if options["limit"] is None else options["limit"]
    if not others:
        return probe(model, data, usually, **options), None
    around_it, _ = wanted(model, base, others, absent)
    if limit is not None and limit <= AROUND:
        whole = probe(model, data, around_it, **options)
        return whole, whole
    result = probe(model, data, usually, **options)
    few = {**options, "limit": min(AROUND, len(uncopied(result, "samples"))), "progress": False}
    return result, probe(model, data, around_it, **few)


def _checked(options: Mapping[str, Any], one: Mapping[str, Any]) -> dict[str, Any]:
    """The options as every pass of the audit takes them, whichever is the first to run.

    Raises: ProbeError for one that an audit does not have, or of several values; SettingError.
    """
    running = [each.name for each in fields(Execution) if each.name != "begin"]
    known = (*TAKING, "fit_data", *running)
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
    taking = {name: value for name, value in options.items() if name in TAKING}
    named = {name: value for name, value in one.items() if name != "basis" or value is not None}
    settings = Settings.of(**named, **taking)
    if not one["lam"] > 0:
        raise SettingError(
            f"lam is {one['lam']}",
            "an audit looks at other weights of sparsity as well, a tenth and ten times this one",
            "Use lam=0.1",
            setting="lam",
        )
    run = {name: value for name, value in options.items() if name in running}
    execution = Execution.of(**run)
    found = {name: getattr(settings, name) for name in taking}
    found |= {name: getattr(execution, name) for name in run}
    if "fit_data" in options:
        found["fit_data"] = expected(options["fit_data"])
    return found


def _expect_one(name: str, value: Any) -> None:
    if isinstance(value, list | tuple):
        raise ProbeError(
            f"{name} has several values",
            "a verdict is of one, and others are looked at around it",
            "Name one, and audit again",
        )


def _unmeasured(
    model: ProbeModel, data: Any, base: Setting, options: Mapping[str, Any], error: ProbeError
) -> dict[str, str]:
    """Claim -> why it cannot be measured of these tokens, where that is why a pass was refused.

    Raises: the error itself, where it is of all claims, or of none of them alone.
    """
    if isinstance(error, DataError | NonFiniteError | SiteError):
        raise error  # of the samples, or of what the model does with them
    found, few = {}, {**options, "progress": False}
    for claim in claims().values():
        requests, absent = wanted(model, base, (), {}, [claim])
        if absent:
            continue
        try:
            probe(model, data, requests, **few)
        except ProbeError as own:
            found[claim.name] = f"{own.what}: {own.why}"
    if not found or len(found) == len(claims()):
        raise error
    return found


def wanted(
    model: ProbeModel,
    base: Setting,
    others: Sequence[Setting],
    without: Mapping[str, str] = MappingProxyType({}),
    of: Sequence[Claim] | None = None,
) -> tuple[list[Request], dict[str, str]]:
    """What claims measure of a model, each once; and claim -> why it cannot be measured.

    Args: without: claims that are left out. of: the claims, all when not given.
    """
    asked: dict[str, Request] = {}
    absent: dict[str, str] = {}
    for claim in claims().values() if of is None else of:
        if claim.name in without:
            continue
        try:
            for request in claim.requests(base):
                for each in planned(model, [request], Settings(), {}):
                    _expect_basis(model, None if each.basis is None else each.basis.name)
        except ProbeError as error:
            absent[claim.name] = f"{error.what}: {error.why}"
            continue
        for setting in (base, *others):
            if setting is base or claim.looks_at(setting):
                for request in claim.requests(setting):
                    asked[repr(request)] = request
    return list(asked.values()), absent


def compared_with(base: Setting, absent: Mapping[str, str]) -> list[Request]:
    """What is measured of random weights, each once: what claims are compared by, and no more."""
    asked = {
        repr(request): request
        for claim in claims().values()
        if claim.name not in absent
        for request in claim.compared_requests(base)
    }
    return list(asked.values())


def _expect_some(model: ProbeModel, requests: Sequence[Request], absent: Mapping[str, str]) -> None:
    """Raises: ProbeError where no claim at all can be measured."""
    if not requests:
        claim, why = next(iter(absent.items()))
        raise ProbeError(
            f"no claim can be judged on {model.name}",
            f"each lacks something, as {claim}: {why}",
            "Map more of its sites: z_in, z_out, attn_in and attn_out",
        )


def _expect_layers(model: ProbeModel, first_layer: int) -> None:
    """Raises: SettingError for curves that would begin behind the last layer."""
    if first_layer > model.layers:
        raise SettingError(
            f"first_layer is {first_layer}",
            f"{model.name} has {model.layers} layers, and curves begin at one of them",
            f"Use first_layer={min(FIRST, model.layers)}",
            setting="first_layer",
        )


def _expect_basis(model: ProbeModel, basis: str | None) -> None:
    """Raises: BasisError for subspaces that neither a model's weights nor its tokens give."""
    known = (*model.bases, *FREE)
    if basis is None or basis in known:
        return
    if model.bases:
        why, fix = "an audit is of one basis, which each model has to have", nearest(basis, known)
    else:
        why = "its mapping names no subspaces"
        fix = "Pass subspaces= to wrap(), or basis='pca'"
    raise BasisError(f"{model.name} has no subspaces '{basis}'", why, fix)


def _told(measured: Measured) -> dict[str, Any]:
    """What the verdicts of a model depend on, besides what all of them share."""
    run = measured.result.run
    return {
        "basis": measured.base.basis,
        "checkpoint": dict(run.checkpoint),
        "family": run.family,
        "network": dict(run.network),
        "preprocess": run.preprocess,
        "nulls": {kind: len(drawn) for kind, drawn in measured.nulls.items()},
    }
