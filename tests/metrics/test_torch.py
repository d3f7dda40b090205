"""Metrics as torchmetrics: any split, any order, any process gives one value."""

import pickle

import pytest
import torch
from conftest import measured
from torchmetrics import MetricCollection

import whitebox_probe as wp
from whitebox_probe._core.errors import NonFiniteError, ProbeError
from whitebox_probe.metrics.measure import SampleMetric, catalogue, metric_named

SAMPLERS = [m for m in catalogue().values() if issubclass(m, SampleMetric)]
Z = torch.randn(23, 6, 8, generator=torch.Generator().manual_seed(3))
U = torch.randn(2, 8, 3, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize("kind", SAMPLERS, ids=lambda m: m.name)
def test_neither_batch_size_nor_order_changes_the_mean_by_a_bit(kind):
    def mean(order, size):
        metric = kind()
        for part in torch.as_tensor(order).split(size):
            metric.update(**measured(kind, Z[part], U), ids=part)
        return metric.compute()

    # Each sample's value is computed alone; only batched products may round differently.
    whole = mean(range(23), 23)
    for order, size in ((range(23), 1), (range(23), 7), (torch.randperm(23), 5)):
        torch.testing.assert_close(mean(order, size), whole, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", SAMPLERS, ids=lambda m: m.name)
def test_states_of_two_processes_join_to_the_whole(kind):
    parts = [kind(), kind()]
    parts[0].update(**measured(kind, Z[:10], U), ids=torch.arange(10))
    parts[1].update(**measured(kind, Z[10:], U), ids=torch.arange(10, 23))
    whole = kind()
    whole.update(**measured(kind, Z[:10], U))
    whole.update(**measured(kind, Z[10:], U))
    joined = kind()
    # What torchmetrics does with states reduced by "cat".
    joined.ids = torch.cat([p.ids for p in parts[::-1]])
    joined.values = torch.cat([p.values for p in parts[::-1]])
    joined._update_count = 2
    torch.testing.assert_close(joined.compute(), whole.compute(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", SAMPLERS, ids=lambda m: m.name)
def test_a_metric_can_be_pickled_cloned_and_reset(kind):
    metric = kind()
    metric.update(**measured(kind, Z, U))
    value = metric.compute()
    assert torch.equal(pickle.loads(pickle.dumps(metric)).compute(), value)
    assert torch.equal(metric.clone().compute(), value)
    metric.reset()
    assert len(metric.samples()) == 0
    assert torch.equal(metric(**measured(kind, Z, U)), value)


def test_metrics_work_in_a_collection():
    both = MetricCollection([wp.metrics.CodingRate(eps=0.2), wp.metrics.L0()])
    both.update(Z, None)
    values = both.compute()
    want = wp.metrics.functional.coding_rate(Z, eps=0.2).mean()
    torch.testing.assert_close(values["CodingRate"], want)


def test_a_non_finite_batch_is_refused_and_the_rest_is_kept():
    metric = wp.metrics.CodingRate()
    metric.update(Z[:5])
    with pytest.raises(NonFiniteError):
        metric.update(torch.full((1, 6, 8), torch.nan))
    assert len(metric.samples()) == 5


def test_a_measure_that_needs_subspaces_says_so():
    with pytest.raises(ProbeError, match="subspaces are missing"):
        wp.metrics.Compression().update(Z)


def test_a_measure_of_two_sites_says_which_is_missing():
    with pytest.raises(ProbeError, match="attn_out are missing"):
        metric_named("descent_cosine")().update(Z, U)


def test_a_convention_that_the_release_lacks_is_refused():
    with pytest.raises(ProbeError, match="no convention 'official'"):
        wp.metrics.SparseRateReduction(convention="official")


def test_unknown_metrics_are_named_with_the_nearest():
    with pytest.raises(ProbeError, match="Did you mean 'compression'"):
        metric_named("compresion")
    with pytest.raises(AttributeError, match="Nothing"):
        wp.metrics.Nothing  # noqa: B018
    with pytest.raises(AttributeError, match="there are"):
        wp.metrics.functional.nothing  # noqa: B018


def test_coherence_reads_only_the_weights():
    metric = wp.metrics.Coherence()
    metric.update(U)
    pairwise = wp.metrics.functional.coherence(U)
    assert metric.compute()["coherence_max"] == pytest.approx(pairwise[0, 1].item())
    one = wp.metrics.Coherence()
    one.update(U[:1])
    assert one.compute()["coherence_mean"] != one.compute()["coherence_mean"]  # NaN: no pair
