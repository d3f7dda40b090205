"""`audit`: does a model do what the principle says? A verdict for each claim."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from whitebox_probe._core.errors import ProbeError, expect_names_differ, nearest
from whitebox_probe.auditing.claim import claims
from whitebox_probe.auditing.judge import judge
from whitebox_probe.auditing.verdicts import Audit, Thresholds
from whitebox_probe.models.load import load_random
from whitebox_probe.models.model import ProbeModel
from whitebox_probe.probing.plan import Request
from whitebox_probe.probing.probe import as_model, probe
from whitebox_probe.probing.settings import Execution
from whitebox_probe.results.result import Result

TAKING = ("prenorm", "class_token", "dtype", "fast", "nonfinite", "fit_limit")
"""Options of `probe` that an audit has too, and records."""


def audit(
    models: Sequence[ProbeModel | str] | ProbeModel | str,
    data: Any,
    *,
    limit: int | None = None,
    basis: str | None = None,
    eps: float = 0.1,
    lam: float = 0.1,
    null: bool = True,
    thresholds: Thresholds | None = None,
    seed: int = 0,
    **options: Any,
) -> Audit:
    """Judge each claim of the principle on each model, against its own random weights.

    Every claim says what is measured for it and how: rates in the official convention, the
    objective in the paper's with orthonormal bases, steps with the model's own bases after its
    attention norm. All of it is measured in one pass a model.

    Args:
        models: of different names. data, limit, eps, lam, seed: as for `probe`.
        basis: of every model; each model's default when not given.
        null: whether to measure random weights as well (not for wrapped modules).
        options: of `probe`, those that say how tokens are taken (`prenorm`, `class_token`, `dtype`,
            `fast`, `nonfinite`, `fit_data`, `fit_limit`) and how the pass is run (`batch_size`,
            `workers`, `device`, `progress`). Convention and orthonormality are each claim's own.

    Raises: ProbeError as `probe` does, and for two models of one name.
    """
    given = [models] if isinstance(models, ProbeModel | str) else models
    whole = [as_model(model) for model in given]
    _check_options(options)
    for setting, value in {"basis": basis, "eps": eps, "lam": lam}.items():
        _expect_one(setting, value)
    if not isinstance(null, bool):
        raise ProbeError(
            f"null={null!r} is no choice of an audit",
            "its null is the model with random weights, and is measured or not",
            "Use null=True or null=False",
        )
    expect_names_differ([model.name for model in whole])
    common = {"limit": limit, "basis": basis, "eps": eps, "lam": lam, "seed": seed, **options}

    def measured(model: ProbeModel) -> Result:
        return probe(model, data, wanted(model), **common)

    found = {model.name: measured(model) for model in whole}
    random = {
        model.name: measured(load_random(model, seed=seed))
        for model in whole
        if null and model.entry is not None
    }
    told: dict[str, Any] = {"limit": limit, "basis": basis, "eps": eps, "lam": lam, "seed": seed}
    told |= {name: value for name, value in options.items() if name in TAKING}
    told["data"] = next((dict(result.run.data) for result in found.values()), {})
    told["count"] = {name: result.run.count for name, result in found.items()}
    return judge(found, random, thresholds=thresholds, settings=told)


def _check_options(options: Mapping[str, Any]) -> None:
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


def _expect_one(name: str, value: Any) -> None:
    if isinstance(value, list | tuple):
        raise ProbeError(
            f"{name} has several values", "a verdict is of one", "Name one, and audit again"
        )


def wanted(model: ProbeModel) -> list[Request]:
    """What all claims measure of a model, each once."""
    asked = [request for claim in claims().values() for request in claim.requests(model)]
    return [request for i, request in enumerate(asked) if request not in asked[:i]]
