"""`audit`: does a model do what the principle says? A verdict for each claim."""

from collections.abc import Sequence
from typing import Any

from whitebox_probe._core.errors import ProbeError
from whitebox_probe.auditing.claims import Audit, Taken, Thresholds, judge
from whitebox_probe.models.load import load_random
from whitebox_probe.models.model import ProbeModel
from whitebox_probe.probing.probe import probe
from whitebox_probe.results.result import Result

RATES = ["compression", "coding_rate"]
STEPS = ["l0", "hoyer", "coherence", "descent_cosine", "descent_cosine_u", "descent_achieved"]
STEPS += ["descent_achieved_u", "attention_rate_change", "attention_rate_change_no_skip"]
STEPS += ["token_snr"]


def audit(
    models: Sequence[ProbeModel],
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

    Rates are taken in the official convention; the objective in the paper's, with orthonormal
    bases; steps with the model's own bases, after its attention norm.

    Args:
        models: of different names. data, limit, eps, lam, seed: as for `probe`.
        basis: of every model; each model's default when not given.
        null: whether to measure random weights as well (not for wrapped modules).
        options: batch_size, workers, device and progress of `probe`.

    Raises: ProbeError as `probe` does, and for two models of one name.
    """
    names = [model.name for model in models]
    if len(set(names)) < len(names):
        raise ProbeError(
            f"two models have one name ({', '.join(names)})",
            "their rows could not be told apart",
            "Give one another name with load(..., name=)",
        )
    common = {"limit": limit, "basis": basis, "eps": eps, "seed": seed, **options}
    found = {model.name: _take(model, data, lam, common) for model in models}
    random: dict[str, Taken] = {}
    for model in models:
        if null and model.entry is not None:
            random[model.name] = _take(load_random(model, seed=seed), data, lam, common)
    return judge(found, random, thresholds=thresholds)


def _take(model: ProbeModel, data: Any, lam: float, common: dict[str, Any]) -> dict[str, Result]:
    layers = range(1, model.layers + 1)
    has_ista = any({"D", "lam"} <= set(model.layer(n).operators) for n in layers)
    steps = STEPS + (["ista_objective_change"] if has_ista else [])
    objective = ["sparse_rate_reduction", "rate_reduction", "compression", "coding_rate"]
    return {
        "official": probe(model, data, RATES, convention="official", **common),
        "paper": probe(model, data, objective, orthonormal=True, lam=lam, **common),
        "steps": probe(model, data, steps, **common),
    }
