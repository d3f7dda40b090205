"""What holds for each measure of the catalogue, found unaided."""

import pytest
import torch
from conftest import measured

from whitebox_probe.metrics.measure import (
    HEADS,
    DatasetMetric,
    SampleMetric,
    WeightMetric,
    catalogue,
)
from whitebox_probe.sites import SITES

METRICS = list(catalogue().values())
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


@pytest.mark.parametrize("kind", METRICS, ids=lambda m: m.name)
def test_it_says_what_it_is(kind):
    assert kind.name.isidentifier()
    assert kind.unit
    assert kind.formula
    assert kind.source
    assert kind.__doc__
    assert kind.group
    assert kind.cost
    if issubclass(kind, SampleMetric):
        assert set(kind.site.values()) <= {*SITES, HEADS}
        assert kind.invariances <= set(CHANGES)
        assert kind.label
    elif issubclass(kind, DatasetMetric):
        assert set(kind.site.values()) <= set(SITES)
        assert set(kind.labels) == set(kind.rows)
    else:
        assert issubclass(kind, WeightMetric)
        found = kind().measure(U)[0] | kind().between(U, U)
        assert set(found) == set(kind.rows)
        assert set(kind.labels) == set(kind.rows)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(
    "kind", [m for m in METRICS if issubclass(m, SampleMetric)], ids=lambda m: m.name
)
def test_declared_invariances_hold_and_the_others_do_not(kind, change):
    if not kind.needs_basis and change in ("head_order", "rotation_in_subspace"):
        return  # it has no basis to change
    if kind.group == "attention":
        return  # it is taken of attention maps, not of tokens
    metric, changed = kind(), kind()
    metric.update(**measured(kind, Z, U))
    changed.update(**measured(kind, *CHANGES[change](Z, U)))
    same = torch.allclose(metric.samples(), changed.samples(), rtol=1e-9, atol=1e-9)
    assert same == (change in kind.invariances)
