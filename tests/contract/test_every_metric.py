"""What holds for each measure of the catalogue, found unaided.

A contract that is not applied to some measure says why in that measure's own file, in `exempt`.
"""

import pytest
import torch
from matplotlib.mathtext import MathTextParser

import whitebox_probe as wp
from tests.conftest import measured
from whitebox_probe.metrics.catalogue import catalogue
from whitebox_probe.metrics.measure import DatasetMeasure, SampleMeasure, WeightMeasure
from whitebox_probe.metrics.tokens import HEADS
from whitebox_probe.sites import SITES

MEASURES = list(catalogue().values())
SAMPLERS = [kind for kind in MEASURES if issubclass(kind, SampleMeasure)]
TOGETHER = [kind for kind in MEASURES if not issubclass(kind, SampleMeasure)]
Z = torch.relu(
    torch.randn(3, 6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
)
U = torch.randn(2, 8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(6))


def rotation(d, seed=7):
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(d, d, dtype=torch.float64, generator=generator)).Q


CHANGES = {
    "rotation": lambda Z, U: (Z @ rotation(8), U),
    "rotation_in_subspace": lambda Z, U: (Z, U @ rotation(3)),
    "token_order": lambda Z, U: (Z[:, [3, 1, 5, 0, 2, 4]], U),
    "head_order": lambda Z, U: (Z, U.flip(0)),
    "repeated_tokens": lambda Z, U: (Z.repeat(1, 2, 1), U),
    "scale": lambda Z, U: (5 * Z, U),
}
OF_BASES = {"rotation_in_subspace", "head_order"}
# The same of attention maps, (B, K, n, n): the first token, which stands before the patches, stays
# the first; attention to a token that is there twice goes to both in equal parts.
OF_MAPS = {
    "token_order": lambda A: A[..., [0, 2, 1, 3, 4], :][..., [0, 2, 1, 3, 4]],
    "head_order": lambda A: A.flip(1),
    "repeated_tokens": lambda A: A.repeat(1, 1, 2, 2) / 2,
}
CONTRACTS = {*CHANGES, "gradient", "gradient_of_zeros"}


def made(kind):
    return getattr(wp.metrics, kind.__name__)()


def samples(kind, given):
    metric = made(kind)
    metric.update(**given)
    return metric.samples()


@pytest.mark.parametrize("kind", MEASURES, ids=lambda m: m.name)
def test_it_says_what_it_is(kind):
    assert kind.name.isidentifier()
    assert kind.unit
    assert kind.formula
    assert kind.source
    assert kind.__doc__
    assert kind.group
    assert kind.cost
    assert set(kind.exempt) <= CONTRACTS
    assert all(len(reason) > 10 for reason in kind.exempt.values())
    assert kind.invariances <= set(CHANGES)
    assert not kind.invariances & set(kind.exempt)
    if issubclass(kind, SampleMeasure):
        assert set(kind.site.values()) <= {*SITES, HEADS}
        assert kind.label
    elif issubclass(kind, DatasetMeasure):
        assert set(kind.site.values()) <= set(SITES)
        assert set(kind.labels) == set(kind.rows)
    else:
        assert issubclass(kind, WeightMeasure)
        found = kind().measure(U)[0] | kind().between(U, U)
        assert set(found) == set(kind.rows)
        assert set(kind.labels) == set(kind.rows)


@pytest.mark.parametrize("kind", MEASURES, ids=lambda m: m.name)
def test_it_says_when_it_misleads_and_sets_its_formula(kind):
    sentences = kind.misleads.split(". ")
    assert len(sentences) > 1
    assert kind.misleads.endswith(".")
    assert all(len(sentence) > 15 for sentence in sentences)
    assert MathTextParser("path").parse(f"${kind.tex}$").width > 0


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", SAMPLERS, ids=lambda m: m.name)
def test_declared_invariances_hold_and_the_others_do_not(kind, change):
    site = kind.site["paper"]
    given = measured(kind, Z, U)
    of_maps = site == "attn_weights"
    if of_maps and change in OF_MAPS and change not in kind.exempt:
        changed = given | {"Z": OF_MAPS[change](given["Z"])}
    elif not of_maps and change not in kind.exempt:
        changed = measured(kind, *CHANGES[change](Z, U))
    else:
        assert kind.exempt.get(change), f"say in {kind.__module__} why '{change}' is not tried"
        return
    before, after = samples(kind, given), samples(kind, changed)
    if change in OF_BASES and not (kind.needs_basis or of_maps or site == HEADS):
        assert torch.equal(before, after)  # it does not look at a basis
        assert change not in kind.invariances
        return
    assert torch.allclose(before, after, rtol=1e-9, atol=1e-9) == (change in kind.invariances)


def thin():
    """60 samples whose tokens lie mostly in few directions, one feature of them zero throughout."""
    generator = torch.Generator().manual_seed(10)
    tokens = torch.randn(60, 6, 8, dtype=torch.float64, generator=generator).relu()
    return tokens * torch.tensor([9, 6, 3, 1, 0.5, 0.2, 0.1, 0], dtype=torch.float64)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", TOGETHER, ids=lambda m: m.name)
def test_invariances_of_measures_of_all_samples_hold_and_the_others_do_not(kind, change):
    metric, other = made(kind), made(kind)
    Z = thin()
    metric.update(**measured(kind, Z, U))
    other.update(**measured(kind, *CHANGES[change](Z, U)))
    before, after = ({k: float(v) for k, v in m.compute().items()} for m in (metric, other))
    assert not any(value != value for value in before.values())
    # Points are kept in float32; of an empty direction the root of its rounding is taken.
    loose = {"intrinsic_dimension": 1e-5, "rank_me": 1e-7}
    same = pytest.approx(before, rel=loose.get(kind.name, 1e-9))
    if issubclass(kind, WeightMeasure) and change not in OF_BASES:
        assert before == after  # it does not look at tokens
        return
    if change in OF_BASES and not kind.needs_basis:
        assert before == after  # it does not look at a basis
        assert change not in kind.invariances
        return
    assert (after == same) == (change in kind.invariances)


@pytest.mark.parametrize("kind", SAMPLERS, ids=lambda m: m.name)
def test_one_token_and_zeros_have_a_value_or_a_reason_for_none(kind):
    if kind.site["paper"] == "attn_weights":
        return  # rows of a map are distributions, whatever the tokens are
    for tokens in (Z[:, :1], torch.cat([Z[:1], 0 * Z[:1]])):
        found = samples(kind, measured(kind, tokens, U))  # NaN without a reason would be refused
        assert (found.isfinite() | torch.tensor(bool(kind.why_none("1 sample")))).all()


def value(kind, tokens):
    return made(kind)(**measured(kind, tokens, U))


TOKENS = torch.randn(2, 6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(8))


@pytest.mark.parametrize("kind", SAMPLERS, ids=lambda m: m.name)
def test_its_gradient_is_its_slope(kind):
    generator = torch.Generator().manual_seed(9)
    step = 1e-5 * torch.randn(TOKENS.shape, dtype=torch.float64, generator=generator)
    slope = float(value(kind, TOKENS + step) - value(kind, TOKENS - step)) / 2
    if "gradient" in kind.exempt:
        assert slope == 0 or not value(kind, TOKENS.clone().requires_grad_()).requires_grad
        return
    leaf = TOKENS.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(value(kind, leaf), leaf)
    assert float((gradient * step).sum()) == pytest.approx(slope, rel=1e-5, abs=1e-12)


@pytest.mark.parametrize("kind", SAMPLERS, ids=lambda m: m.name)
def test_zero_tokens_leave_the_gradient_finite(kind):
    if {"gradient", "gradient_of_zeros"} & set(kind.exempt):
        return
    leaf = TOKENS.clone()
    leaf[:, 3:] = 0
    leaf.requires_grad_()
    (gradient,) = torch.autograd.grad(value(kind, leaf), leaf)
    assert gradient.isfinite().all()
