"""Nulls: what a measure would be if there were nothing to find.

nulls = wp.nulls(model, "fashion-mnist", limit=500)
wp.plots.compression(wp.probe(model, "fashion-mnist", limit=500), nulls=nulls)
"""

from collections.abc import Sequence
from typing import Any

from whitebox_probe._core.errors import ProbeError, nearest
from whitebox_probe.models.load import load_random
from whitebox_probe.models.model import ProbeModel
from whitebox_probe.probing.collector import NULLS
from whitebox_probe.probing.probe import probe
from whitebox_probe.results.result import NULL_SEPARATOR, Result

KINDS = {
    "gaussian": "Gaussian tokens of the same number, width and norms",
    "shuffled": "each feature's values in another order over the tokens of its sample",
    "random_subspaces": "the model's tokens in uniformly drawn subspaces",
    "random_weights": "the same architecture with random weights",
}


def nulls(
    model: ProbeModel,
    data: Any,
    metrics: Any = None,
    *,
    kinds: Sequence[str] = ("gaussian", "random_subspaces", "random_weights"),
    seed: int = 0,
    **options: Any,
) -> list[Result]:
    """Measure the nulls of a model, one result each, in the order of `kinds`.

    A null's name is the model's with what it is, such as `crate | gaussian`; figures find by it
    the curve that it belongs to.

    Args:
        kinds: of `gaussian`, `shuffled`, `random_subspaces` and `random_weights`.
        options: as for `probe`; give the same as for the model's own result.

    Raises: ProbeError for an unknown kind, and for random weights of a module without an entry.
    """
    title = options.pop("name", None) or model.name
    found = []
    for kind in kinds:
        if kind not in KINDS:
            raise ProbeError(
                f"unknown null '{kind}'", "it is none of those known", nearest(kind, KINDS)
            )
        where = load_random(model, seed=seed) if kind == "random_weights" else model
        found.append(
            probe(
                where,
                data,
                metrics,
                null=kind if kind in NULLS else None,
                seed=seed,
                name=f"{title}{NULL_SEPARATOR}{kind}",
                **options,
            )
        )
    return found
