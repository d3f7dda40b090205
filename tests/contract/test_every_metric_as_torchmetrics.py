"""What torchmetrics promises of its metrics, for each measure of the catalogue, found unaided."""

import contextlib
import inspect
import math
import os
import pickle
import signal
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import pytest
import torch
from torchmetrics import Metric, MetricCollection

import whitebox_probe as wp
from tests.conftest import measured
from tests.contract.joining import BATCHES, MEASURES, U, batch, made, numbered
from whitebox_probe.metrics.measure import DatasetMeasure, SampleMeasure, WeightMeasure

ROOT = Path(__file__).parents[2]
each = pytest.mark.parametrize("kind", MEASURES, ids=lambda m: m.name)


def fed(kind, *numbers, **options):
    metric = made(kind, **options)
    for number in numbers:
        metric.update(**batch(kind, number))
    return metric


def expect_same(got, want):
    if isinstance(want, dict):
        assert got.keys() == want.keys()
        for name, value in want.items():
            assert got[name] == pytest.approx(value, rel=1e-9, abs=1e-12, nan_ok=True), name
    else:
        torch.testing.assert_close(got.detach(), want, rtol=1e-12, atol=1e-12, equal_nan=True)
        assert got.dtype == torch.float64


def floats(metric):
    states = [getattr(metric, name) for name in metric._defaults]
    tensors = [t for s in states for t in (s if isinstance(s, list) else [s])]
    return {t.dtype for t in tensors if t.is_floating_point()}


@each
def test_it_is_a_module_of_its_measure(kind):
    cls = getattr(wp.metrics, kind.__name__)
    assert issubclass(cls, Metric)
    assert (cls.__module__, cls.__qualname__) == ("whitebox_probe.metrics.torch", kind.__name__)
    assert getattr(wp.metrics, kind.__name__) is cls
    assert kind.formula in cls.__doc__
    assert kind.unit in cls.__doc__
    assert "Shapes:" in cls.__doc__
    metric = cls()
    assert metric.definition == kind()
    own = inspect.signature(kind).parameters
    shown = inspect.signature(cls).parameters
    assert list(shown) == [*own, "kwargs"]
    for name, parameter in own.items():
        assert shown[name].default == parameter.default == getattr(metric, name)
        assert f"{name}={parameter.default!r}" in repr(metric)
    with pytest.raises(wp.ProbeError, match="nonsense.*torchmetrics'"):
        cls(nonsense=1)


@each
def test_forward_gives_the_batchs_value_and_accumulates(kind):
    metric = made(kind)
    for number in (0, 1):
        expect_same(metric(**batch(kind, number)), fed(kind, number).compute())
    expect_same(metric.compute(), fed(kind, 0, 1).compute())
    metric.update(**batch(kind, 2))
    expect_same(metric.compute(), fed(kind, 0, 1, 2).compute())


@each
def test_after_an_error_it_is_as_it_was(kind):
    metric = fed(kind, 0)
    bad = batch(kind, 1)
    bad["U" if issubclass(kind, WeightMeasure) else "Z"] = torch.full_like(BATCHES[0], torch.nan)
    for call in (metric.update, metric):
        if issubclass(kind, WeightMeasure) and call == metric.update:
            continue  # it looks at subspaces when it computes
        with pytest.raises(wp.ProbeError):
            call(**bad)
    expect_same(metric.compute(), fed(kind, 0).compute())


@each
def test_reset_forgets(kind):
    metric = fed(kind, 0)
    metric.compute()
    metric.reset()
    assert not metric.update_called
    metric.update(**batch(kind, 1))
    expect_same(metric.compute(), fed(kind, 1).compute())


@each
def test_before_any_update_it_says_so(kind):
    for metric in (made(kind), fed(kind, 0)):
        metric.reset()
        with pytest.raises(wp.ProbeError, match=f"'{kind.name}' has seen nothing yet"):
            metric.compute()


@each
@pytest.mark.parametrize(
    "copied", [Metric.clone, lambda metric: pickle.loads(pickle.dumps(metric))]
)
def test_a_copy_goes_on_by_itself(kind, copied):
    metric = fed(kind, 0)
    metric(**batch(kind, 0))
    copy = copied(metric)
    assert type(copy) is type(metric)
    assert copy.definition == metric.definition
    copy.update(**batch(kind, 1))
    expect_same(copy.compute(), fed(kind, 0, 0, 1).compute())
    expect_same(metric.compute(), fed(kind, 0, 0).compute())


@each
def test_a_saved_state_goes_on(kind, tmp_path):
    metric = fed(kind, 0)
    assert metric.state_dict() == {}
    metric.persistent(True)
    torch.save(metric.state_dict(), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    other = made(kind)
    other.load_state_dict(state)
    expect_same(other.compute(), fed(kind, 0).compute())
    other.update(**batch(kind, 1))
    other.reset()
    other.load_state_dict(state)  # what happened in between did not change it
    other.update(**batch(kind, 1))
    expect_same(other.compute(), fed(kind, 0, 1).compute())
    parent = torch.nn.ModuleDict({"metric": fed(kind, 0, 1)})
    parent["metric"].persistent(True)
    again = torch.nn.ModuleDict({"metric": made(kind)})
    again.load_state_dict(parent.state_dict())
    expect_same(again["metric"].compute(), fed(kind, 0, 1).compute())
    stranger = wp.metrics.TokenNorm() if kind.name != "token_norm" else wp.metrics.MeanCosine()
    with pytest.raises(wp.ProbeError, match="states of different measures"):
        stranger.load_state_dict(state)


@each
def test_states_of_two_join_to_the_whole(kind):
    for incoming in (fed(kind, 1), fed(kind, 1).metric_state):
        metric = fed(kind, 0)
        metric.compute()
        metric.merge_state(incoming)
        expect_same(metric.compute(), fed(kind, 0, 1).compute())
        metric.update(**batch(kind, 2))
        expect_same(metric.compute(), fed(kind, 0, 1, 2).compute())
    empty = made(kind)
    empty.merge_state(fed(kind, 0))
    expect_same(empty.compute(), fed(kind, 0).compute())
    with pytest.raises(wp.ProbeError, match="states of different measures"):
        metric.merge_state(wp.metrics.L0() if kind.name != "l0" else wp.metrics.Hoyer())


@each
@pytest.mark.parametrize(
    "cast",
    [
        lambda m: m.half(),
        lambda m: m.float(),
        lambda m: m.to(torch.float16),
        lambda m: m.set_dtype(torch.bfloat16),
        lambda m: m.type(torch.float32),
        lambda m: torch.nn.ModuleList([m]).to(torch.bfloat16)[0],
        lambda m: m.cpu(),
    ],
    ids=["half", "float", "to", "set_dtype", "type", "parent", "cpu"],
)
def test_no_cast_changes_a_state(kind, cast):
    metric = cast(made(kind))
    metric.update(**batch(kind, 0))
    metric = cast(metric)
    assert floats(metric) <= {torch.float64}
    metric.update(**batch(kind, 1))
    expect_same(metric.compute(), fed(kind, 0, 1).compute())


@each
def test_it_composes(kind):
    metric = made(kind)
    name = None if issubclass(kind, SampleMeasure) else next(iter(fed(kind, 0).compute()))
    one = metric if name is None else metric[name]
    double = one + one
    higher = one + 1.0
    higher.update(**batch(kind, 0))
    want = fed(kind, 0).compute()
    want = float(want if name is None else want[name])
    assert float(higher.compute()) == pytest.approx(want + 1, nan_ok=True)
    assert float(double.compute()) == pytest.approx(2 * want, nan_ok=True)
    if name is not None:
        with pytest.raises(wp.ProbeError, match=f"no number '{name}s'.*Did you mean"):
            metric[f"{name}s"]


@pytest.mark.parametrize("grouped", [True, False])
def test_a_collection_of_all_gives_what_each_gives_alone(grouped):
    for group in (SampleMeasure, DatasetMeasure, WeightMeasure):
        members = [k for k in MEASURES if issubclass(k, group)]
        by_arguments = {}
        for kind in members:
            by_arguments.setdefault(tuple(sorted(batch(kind, 0))), []).append(kind)
        for alike in by_arguments.values():
            # Of several sites at once, they are given what the first is.
            given = [batch(alike[0], number) for number in range(3)]
            metrics = {f"{kind.name}_{i}": made(kind) for kind in alike for i in (0, 1)}
            alone = {kind.name: made(kind) for kind in alike}
            together = MetricCollection(metrics, compute_groups=grouped)
            together.update(**given[0])
            together(**given[1])
            together.update(**given[2])
            if grouped:
                assert len(together.compute_groups) == len(alike)  # a measure with itself
            for metric in alone.values():
                for each_given in given:
                    metric.update(**each_given)
            found = together.compute()
            for kind in alike:
                want = alone[kind.name].compute()
                for i in (0, 1):
                    label = f"{kind.name}_{i}"
                    if isinstance(want, dict):
                        for row, value in want.items():
                            assert found[f"{label}_{row}"] == pytest.approx(value, nan_ok=True)
                    else:
                        torch.testing.assert_close(found[label], want)


@each
def test_neither_batch_size_nor_order_shows(kind):
    whole = torch.cat(BATCHES[:2])
    labels = torch.arange(48) % 3

    def value(order, size):
        metric = made(kind)
        for part in torch.as_tensor(order).split(size):
            given = numbered_part(kind, whole, labels, part)
            metric.update(**given)
        return metric.compute()

    want = value(range(48), 48)
    for order, size in ((range(48), 1), (range(48), 7), (torch.randperm(48), 5)):
        got = value(order, size)
        if isinstance(want, dict):
            assert got == pytest.approx(want, rel=1e-8, nan_ok=True)
        else:
            torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


def numbered_part(kind, whole, labels, part):
    given = measured(kind, whole[part], U, labels=labels[part])
    return given if issubclass(kind, WeightMeasure) else given | {"ids": part}


@pytest.fixture(scope="module")
def joined(tmp_path_factory):
    """What two processes found together, of which the first had seen nothing."""
    folder = tmp_path_factory.mktemp("joined")
    env = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    words = [sys.executable, "-m", "tests.contract.joining", str(folder)]
    pipes = {"stderr": subprocess.PIPE, "text": True, "cwd": ROOT, "env": env}
    with subprocess.Popen(words, start_new_session=True, **pipes) as process:
        try:
            told = process.communicate(timeout=180)[1]
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # the two that it has forked as well
    assert process.returncode == 0, told
    assert "Warning" not in told
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.slow
@each
def test_two_processes_give_what_one_gives(kind, joined):
    metric = made(kind)
    metric.update(**numbered(kind, 0))
    want = [metric.compute()]
    metric.update(**numbered(kind, 1))
    metric.update(**numbered(kind, 2))
    want.append(metric.compute())
    for found in joined:
        first, both, empty = found[kind.name]
        expect_same(first, want[0])
        expect_same(both, want[1])
        assert f"'{kind.name}' has seen nothing yet" in empty


@pytest.mark.slow
def test_processes_with_different_parameters_are_not_joined(joined):
    for found in joined:
        assert "states of different measures" in found["different"]


def test_two_measures_or_parameters_never_have_one_digest():
    metrics = [made(kind) for kind in MEASURES]
    metrics += [wp.metrics.CodingRate(eps=0.2), wp.metrics.CodingRate(convention="official")]
    for a, b in combinations(metrics, 2):
        assert not torch.equal(a.digest, b.digest)
    assert torch.equal(wp.metrics.CodingRate().digest, wp.metrics.CodingRate(eps=0.1).digest)
    assert math.isclose(wp.metrics.CodingRate().eps, 0.1)
