"""Metrics as torchmetrics users have them: what is not the same for every measure."""

import math
import pickle
import subprocess
import sys
from copy import deepcopy

import pytest
import torch
from torchmetrics import MetricCollection

import whitebox_probe as wp
from whitebox_probe._core.errors import NonFiniteError, ProbeError, ShapeError
from whitebox_probe.metrics import functional as F
from whitebox_probe.metrics import intrinsic_dimension
from whitebox_probe.metrics.catalogue import measure_named

Z = torch.randn(23, 6, 8, generator=torch.Generator().manual_seed(3))
U = torch.randn(2, 8, 3, generator=torch.Generator().manual_seed(4))


def test_numbers_sort_the_samples_however_they_came():
    metric, other = wp.metrics.TokenNorm(), wp.metrics.TokenNorm()
    order = torch.randperm(23)
    metric(Z[order[:10]], ids=order[:10])
    other.update(Z[order[10:]], ids=order[10:])
    metric.merge_state(other)
    torch.testing.assert_close(metric.samples(), F.token_norm(Z), rtol=1e-12, atol=0)


def test_without_numbers_samples_keep_the_order_in_which_they_came():
    metric, other = wp.metrics.TokenNorm(), wp.metrics.TokenNorm()
    metric(Z[:3])
    metric.update(Z[3:9])
    other.update(Z[9:])
    metric.merge_state(other)
    torch.testing.assert_close(metric.samples(), F.token_norm(Z), rtol=1e-12, atol=0)


def test_many_small_batches_are_put_together():
    metric = wp.metrics.TokenNorm()
    for i in range(600):
        metric.update(Z[i % 23 : i % 23 + 1])
    assert len(metric.values) <= 257
    want = F.token_norm(Z)[torch.arange(600) % 23]
    torch.testing.assert_close(metric.samples(), want, rtol=1e-12, atol=0)


def test_states_are_never_changed_in_place():
    first, second = wp.metrics.Hoyer(), wp.metrics.NeuralCollapse()
    labels = torch.arange(23) % 3
    first.update(Z)
    second.update(Z, labels=labels)
    before = [dict(m.metric_state) for m in (first, second)]
    copies = deepcopy(before)
    first.update(Z)
    second.update(Z, labels=labels)
    first.reset()
    second.reset()
    for held, copied in zip(before, copies, strict=True):
        for name, value in copied.items():
            parts = (held[name], value) if isinstance(value, list) else ([held[name]], [value])
            assert all(map(torch.equal, *parts))
            assert len(parts[0]) == len(parts[1])


def test_a_collection_does_not_take_two_measures_for_one():
    # Nothing small but not zero in the first batch: both shares are the same.
    generator = torch.Generator().manual_seed(0)
    first = torch.relu(torch.randn(4, 8, 16, generator=generator))
    first[first < 0.2] = 0
    then = torch.relu(torch.randn(4, 8, 16, generator=generator))
    metrics = {"l0": wp.metrics.L0(), "loud": wp.metrics.Thresholded(tau=0.1)}
    together = MetricCollection(metrics)
    for batch in (first, then):
        together.update(batch)
    assert len(together.compute_groups) == 2
    want = {"l0": F.l0, "loud": F.thresholded}
    for name, value in together.compute().items():
        torch.testing.assert_close(value, want[name](torch.cat([first, then])).mean())


def test_a_collection_of_all_kinds_takes_what_each_needs_by_name():
    together = MetricCollection(
        [wp.metrics.CodingRate(eps=0.2), wp.metrics.ClassRate(), wp.metrics.Coherence()]
    )
    labels = torch.arange(23) % 4
    together(Z=Z[:9], U=U, labels=labels[:9])
    together.update(Z=Z[9:], U=U, labels=labels[9:])
    found = together.compute()
    want = F.coding_rate(Z, eps=0.2).mean()
    torch.testing.assert_close(found["CodingRate"], want)
    rates = F.class_rates(Z.double().mean(dim=1), labels, eps=0.1)
    assert found["class_rate_within"] == pytest.approx(rates[1].item(), rel=1e-6)
    assert found["coherence_max"] == pytest.approx(F.coherence(U)[0, 1].item())


def test_a_non_finite_batch_is_refused_and_the_rest_is_kept():
    metric = wp.metrics.CodingRate()
    metric.update(Z[:5])
    for call in (metric.update, metric):
        with pytest.raises(NonFiniteError):
            call(torch.full((1, 6, 8), torch.nan))
    assert len(metric.samples()) == 5


def test_a_value_that_cannot_be_had_yet_leaves_it_as_it_was():
    metric = wp.metrics.NeuralCollapse()
    metric.update(Z[:5], labels=torch.zeros(5, dtype=torch.long))
    assert all(math.isnan(value) for value in metric.compute().values())
    metric.update(Z[5:], labels=torch.arange(18) % 3)
    labels = torch.cat([torch.zeros(5, dtype=torch.long), torch.arange(18) % 3])
    want = F.neural_collapse(Z.double().mean(dim=1), labels)
    assert metric.compute() == pytest.approx(want)


def test_what_is_missing_is_named():
    with pytest.raises(ProbeError, match="subspaces are missing"):
        wp.metrics.Compression().update(Z)
    with pytest.raises(ProbeError, match="attn_out are missing.*Pass attn_out="):
        wp.metrics.DescentCosine().update(Z, U)
    with pytest.raises(ProbeError, match="D, lam of the layer's step is missing.*Pass D="):
        wp.metrics.LassoChange().update(Z, mlp_in=Z)
    with pytest.raises(ProbeError, match="labels are missing"):
        wp.metrics.ClassRate().update(Z)


def test_numbers_that_do_not_fit_are_named():
    with pytest.raises(ShapeError, match=r"ids has shape \(3,\).*23 samples"):
        wp.metrics.L0().update(Z, ids=torch.arange(3))
    with pytest.raises(ProbeError, match="ids hold -1"):
        wp.metrics.L0().update(Z, ids=torch.arange(23) - 1)
    with pytest.raises(ShapeError, match="labels has shape"):
        wp.metrics.ClassRate().update(Z, labels=torch.arange(3))


def test_a_convention_that_the_release_lacks_is_refused():
    with pytest.raises(ProbeError, match="no convention 'official'"):
        wp.metrics.SparseRateReduction(convention="official")


def test_the_official_convention_takes_each_heads_tokens():
    V = torch.randn(5, 2, 6, 3)
    metric = wp.metrics.Compression(convention="official")
    metric.update(V)
    torch.testing.assert_close(metric.compute(), F.official_compression(V).mean())
    both = wp.metrics.RateReduction(convention="official")
    both.update(Z, U)
    assert len(both.samples()) == 23


def test_a_class_token_is_pooled_when_it_is_there():
    labels = torch.arange(23) % 4
    metric = wp.metrics.ClassRate(pool="class")
    with pytest.raises(ProbeError, match="no class token"):
        metric.update(Z, labels=labels)
    metric.update(Z, labels=labels, prefix=1)
    want = F.class_rates(Z[:, 0], labels, eps=0.1)[0].item()
    assert metric.compute()["class_rate_whole"] == pytest.approx(want)


def test_unknown_metrics_are_named_with_the_nearest():
    with pytest.raises(ProbeError, match="Did you mean 'compression'"):
        measure_named("compresion")
    with pytest.raises(AttributeError, match="no measure 'Compresion'. Did you mean 'Compression'"):
        wp.metrics.Compresion  # noqa: B018
    with pytest.raises(AttributeError, match="Use one of: .*CodingRate"):
        wp.metrics.Nonsense  # noqa: B018
    with pytest.raises(AttributeError, match="nonsense"):
        wp.metrics.nonsense  # noqa: B018
    with pytest.raises(AttributeError, match="there are"):
        F.nothing  # noqa: B018
    assert {"Compression", "TokenSNR", "functional"} <= {*dir(wp.metrics), "functional"}


def test_parameters_are_the_measures_and_stay_as_they_are():
    metric = wp.metrics.Thresholded(tau=0.5, sync_on_compute=False)
    assert metric.tau == metric.definition.tau == 0.5
    assert not metric.sync_on_compute
    with pytest.raises(AttributeError):
        metric.tau = 0.1


def test_coherence_is_of_the_subspaces_last_given():
    metric = wp.metrics.Coherence()
    metric.update(torch.randn(2, 8, 3))
    metric(U)
    pairwise = F.coherence(U)
    assert metric.compute()["coherence_max"] == pytest.approx(pairwise[0, 1].item())
    torch.testing.assert_close(metric.matrices()["coherence"], pairwise)
    one = wp.metrics.Coherence()
    one.update(U[:1])
    assert one.compute()["coherence_mean"] != one.compute()["coherence_mean"]  # NaN: no pair
    with pytest.raises(ProbeError, match="different subspaces"):
        metric.merge_state(one)
    assert metric.compute()["coherence_max"] == pytest.approx(pairwise[0, 1].item())


def test_the_weights_may_be_trained_on_after_an_update():
    W = U.clone()
    metric = wp.metrics.Coherence()
    metric.update(W)
    before = metric.compute()
    W.mul_(torch.randn_like(W))
    metric._computed = None
    assert metric.compute() == pytest.approx(before, nan_ok=True)


def test_the_value_of_a_batch_can_be_trained_on_and_is_kept_without_its_graph():
    tokens = Z.clone().requires_grad_()
    metric = wp.metrics.CodingRate()
    metric(tokens).backward()
    assert tokens.grad.isfinite().all()
    assert not any(value.requires_grad for value in metric.values)
    pickle.loads(pickle.dumps(metric.clone()))
    with torch.no_grad():
        assert not metric(tokens).requires_grad


def test_lists_can_be_kept_on_the_cpu():
    metric = wp.metrics.CodingRate(compute_on_cpu=True)
    metric.update(Z[:9])
    metric(Z[9:])
    torch.testing.assert_close(metric.compute(), F.coding_rate(Z, eps=0.1).mean())


def test_of_one_numbers_metric_each_number_is_a_metric():
    metric = wp.metrics.NeuralCollapse()
    higher = metric["nc1"] + 1.0
    value = higher(Z, labels=torch.arange(23) % 3)
    want = F.neural_collapse(Z.double().mean(dim=1), torch.arange(23) % 3)["nc1"]
    assert value.item() == pytest.approx(want + 1)
    assert pickle.loads(pickle.dumps(higher)).compute().item() == pytest.approx(want + 1)


def test_only_the_adapter_loads_torchmetrics():
    script = (
        "import sys\n"
        "from whitebox_probe.metrics import functional\n"
        "from whitebox_probe.metrics.catalogue import catalogue\n"
        "catalogue(), dir(functional)\n"
        "assert 'torchmetrics' not in sys.modules\n"
        "import whitebox_probe as wp\n"
        "wp.metrics.L0\n"
        "assert 'torchmetrics' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_samples_without_numbers_are_drawn_from_all_batches(monkeypatch):
    monkeypatch.setattr(intrinsic_dimension, "MOST", 5)
    by_update, by_forward = wp.metrics.IntrinsicDimension(), wp.metrics.IntrinsicDimension()
    whole = wp.metrics.IntrinsicDimension()
    whole.update(Z)
    for part in Z.split(6):
        by_update.update(part)
        by_forward(part)
    want = whole.sums()["points"]
    for metric in (by_update, by_forward):
        kept = intrinsic_dimension._smallest(metric.sums()["points"], metric.sums()["keys"])[0]
        assert torch.equal(kept, want)


def test_an_update_in_inference_mode_can_be_gone_on_with_outside_it():
    labels = torch.arange(23) % 3
    sample, classes, weights = wp.metrics.Hoyer(), wp.metrics.ClassRate(), wp.metrics.Coherence()
    with torch.inference_mode():
        sample(Z[:9])
        classes.update(Z[:9], labels=labels[:9])
        weights(U)
    sample.update(Z[9:])
    classes(Z[9:], labels=labels[9:])
    weights.clone().compute()
    torch.testing.assert_close(sample.clone().compute(), F.hoyer(Z).mean())
    want = F.class_rates(Z.double().mean(dim=1), labels, eps=0.1)[0].item()
    assert classes.clone().compute()["class_rate_whole"] == pytest.approx(want, rel=1e-6)
