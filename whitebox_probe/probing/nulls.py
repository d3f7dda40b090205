"""Nulls: what a measure would be if there were nothing to find.

nulls = wp.nulls(model, "fashion-mnist", limit=500)
wp.plots.compression(wp.probe(model, "fashion-mnist", limit=500), nulls=nulls)
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from whitebox_probe._core.arguments import expect_each, expect_usual, text
from whitebox_probe._core.errors import ProbeError
from whitebox_probe._core.process import as_found
from whitebox_probe.data.given import expected
from whitebox_probe.models.load import load_random
from whitebox_probe.models.model import ProbeModel
from whitebox_probe.probing.null import kinds as known
from whitebox_probe.probing.null import null_named
from whitebox_probe.probing.probe import as_model, probe
from whitebox_probe.results.forms import NULL_SEPARATOR
from whitebox_probe.results.result import Result


@as_found()
def nulls(
    model: ProbeModel | str,
    data: Any,
    metrics: Any = None,
    *,
    kinds: Sequence[str] | str | None = None,
    seed: int = 0,
    **options: Any,
) -> dict[str, Result]:
    """Measure the nulls of a model: those of its tokens and subspaces in one pass.

    A null's name is the model's with what it is, such as `crate | gaussian`; figures find by it
    the curve that it belongs to.

    Args:
        kinds: of `gaussian`, `shuffled`, `random_subspaces` and `random_weights`; those that cost
            nothing to understand (all but `shuffled`) when not given.
        options: as for `probe`; give the same as for the model's own result.

    Returns: kind -> Result, in the order of `kinds`.
    Raises: ProbeError for an unknown kind, and for random weights of a module without an entry.
    """
    expect_usual(name=options.get("name"))
    data = expected(data)
    model = as_model(model)
    if kinds is None:
        kinds = [kind for kind, null in known().items() if null.usual]
    asked = (
        [kinds]
        if isinstance(kinds, str)
        else list(
            dict.fromkeys(expect_each("kinds", kinds, text, "they say what is measured instead"))
        )
    )
    of_weights = [kind for kind in asked if null_named(kind).replaces == "weights"]
    others = [kind for kind in asked if kind not in of_weights]
    if "null" in options:
        raise ProbeError("nulls was given a null", "it measures those of kinds=", "Leave null= out")
    title = options.pop("name", None) or model.name
    found: dict[str, Result] = {}
    for kind in of_weights:
        random = load_random(model, seed=seed)
        found[kind] = _named(probe(random, data, metrics, seed=seed, **options), title, kind)
    if others:
        whole = probe(model, data, metrics, null=others, seed=seed, **options)
        for kind in others:
            found[kind] = _named(whole.select(null=kind), title, kind)
    return {kind: found[kind] for kind in asked}


def _named(result: Result, of: str, kind: str) -> Result:
    """The result under the null's name; its rows are the table's own, not those of a null's."""
    title = f"{of}{NULL_SEPARATOR}{kind}"
    frame = result.frame.assign(model=title)
    run = replace(result.run, model=title, null_of=of, null_line=null_named(kind).line)
    return replace(result, frame=frame, run=run)
