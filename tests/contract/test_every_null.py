"""What holds for each null, found unaided.

A contract that does not apply to a null is named in its `exempt`, with the reason.
"""

import inspect
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.lines import Line2D

import whitebox_probe as wp
from whitebox_probe.plots._nulls import _dashes
from whitebox_probe.probing.null import Null, generator, kinds

ROOT = Path(__file__).parents[2]
NULLS = list(kinds())
CONTRACTS = {"says", "line", "shape", "drawing", "batches", "independent"}
DRAWS = {"tokens": "tokens", "subspaces": "subspaces"}
SHAPES = {"tokens": [(7, 6), (2, 7, 3)], "subspaces": [(2, 6, 3)]}
MODEL = "crate-tiny-fmnist"
IMAGES = torch.randn(6, 1, 28, 28, generator=torch.Generator().manual_seed(1))


def drawn(null, shape, dtype, *what):
    """What stands in for random numbers of a shape, by the generator of a place."""
    given = torch.randn(shape, generator=torch.Generator().manual_seed(2)).to(dtype)
    before = given.clone()
    found = getattr(null, DRAWS[null.replaces])(given, generator(0, null.kind, *what))
    assert torch.equal(given, before)
    return found


def says(null):
    """A name, words, and what it stands in for."""
    assert null.kind.isidentifier()
    assert len(null.text.split()) >= 3
    assert type(null).__doc__
    assert null.replaces in ("tokens", "subspaces", "weights")
    own = [name for name in DRAWS if getattr(type(null), name) is not getattr(Null, name)]
    assert own == ([null.replaces] if null.replaces in DRAWS else [])


def line(null):
    """matplotlib takes it, also after it was saved."""
    for told in (null.line, json.loads(json.dumps(null.line))):
        Line2D([0, 1], [0, 1], linestyle=_dashes(told))


def shape(null):
    """It keeps shape and dtype, and is finite."""
    for sizes in SHAPES[null.replaces]:
        # Subspaces are given in float32 and used in what the tokens are in.
        for dtype in (torch.float32, torch.float64) if null.replaces == "tokens" else [None]:
            found = drawn(null, sizes, dtype or torch.float32, 1)
            assert tuple(found.shape) == sizes
            assert dtype is None or found.dtype == dtype
            assert found.isfinite().all()


def drawing(null):
    """It draws from the generator that it is given and from nothing else."""
    for sizes in SHAPES[null.replaces]:
        state = torch.get_rng_state()
        first, again, other = (drawn(null, sizes, torch.float32, n) for n in (1, 1, 2))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
        assert torch.equal(state, torch.get_rng_state())


def measured(null, data=IMAGES, metrics=("compression", "mean_cosine"), **options):
    found = wp.nulls(
        wp.load(MODEL), data, list(metrics), kinds=null.kind, progress=False, **options
    )
    return found[null.kind]


def batches(null):
    """No number depends on the batch size, or on the samples beside it."""
    whole, parts = (measured(null, batch_size=size) for size in (6, 4))
    few = measured(null, limit=3)
    for metric in ("compression", "mean_cosine"):
        values = whole.values(metric)
        np.testing.assert_allclose(parts.values(metric), values, rtol=1e-5, atol=1e-7)
        chosen = [whole.samples.index.get_loc(number) for number in few.samples.index]
        np.testing.assert_allclose(few.values(metric), values[chosen], rtol=1e-5, atol=1e-7)


def independent(null):
    """Two sites of the same tokens, or two layers' subspaces, are drawn by themselves."""
    if null.replaces == "subspaces":
        model = wp.load(MODEL)
        result = wp.probe(model, IMAGES, ["coherence"], null=null.kind, progress=False)
        assert result.curve("overlap_mean")["mean"].nunique() == model.layers
        return
    # What leaves a layer is what enters the next one.
    found = measured(null, metrics=["mean_cosine"], sites={"mean_cosine": ["z_in", "z_out"]})
    out, into = (found.values("mean_cosine", site=site) for site in ("z_out", "z_in"))
    assert not np.isclose(out[:, :-1], into[:, 1:], rtol=1e-9, atol=0).any()


CHECKS = (says, line, shape, drawing, batches, independent)


def check_reasons(null):
    for contract, reason in null.exempt.items():
        assert contract in CONTRACTS
        assert len(reason.split()) >= 4, f"it does not say why {contract} does not apply"


def check(null):
    """Every contract that applies."""
    check_reasons(null)
    for each in CHECKS:
        if each.__name__ not in null.exempt:
            each(null)


def test_each_contract_is_checked():
    assert {check.__name__ for check in CHECKS} == CONTRACTS


@pytest.mark.parametrize("kind", NULLS)
def test_what_does_not_apply_has_a_reason(kind):
    check_reasons(kinds()[kind])


@pytest.mark.parametrize("contract", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("kind", NULLS)
def test_it_keeps_the_contract(kind, contract):
    null = kinds()[kind]
    if contract.__name__ in null.exempt:
        pytest.skip(null.exempt[contract.__name__])
    contract(null)


def test_lines_tell_the_nulls_apart():
    lines = [str(null.line) for null in kinds().values()]
    assert len(set(lines)) >= len(lines) - 1  # a line style that none declares is shared


def test_wp_nulls_names_every_kind():
    told = inspect.getdoc(wp.nulls)
    page = (ROOT / "docs" / "measures.md").read_text()
    for kind in NULLS:
        assert f"`{kind}`" in told
        assert f"| `{kind}` |" in page
