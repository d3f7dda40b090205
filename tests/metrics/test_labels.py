"""Labels and numbers of samples as measures are given them: whole numbers, or refused."""

import numpy as np
import pytest
import torch

import whitebox_probe as wp
from tests.contract.joining import MEASURES, batch, made
from whitebox_probe._core.errors import ProbeError, ShapeError
from whitebox_probe.metrics import functional as F

X = torch.randn(12, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
CLASSES = [0, 1, 2] * 4
OF_CLASSES = {
    "class_rates": lambda labels: F.class_rates(X, labels, eps=0.5),
    "neural_collapse": lambda labels: F.neural_collapse(X, labels),
}
WITH_LABELS = [kind for kind in MEASURES if getattr(kind, "needs_labels", False)]
WRONG = {
    "fractions": torch.tensor([0.2, 0.7, 1.5] * 4),
    "whole, but of float": torch.tensor([0.0, 1.0, 2.0] * 4),
    "NaN": torch.full((12,), torch.nan),
    "an array of fractions": np.array([0.2, 0.7, 1.5] * 4),
    "a list of fractions": [0.2, 0.7, 1.5] * 4,
    "complex": torch.zeros(12, dtype=torch.complex64),
    "one too few": torch.tensor(CLASSES[:-1]),
    "one too many": torch.tensor([*CLASSES, 0]),
    "a column": torch.tensor(CLASSES)[:, None],
    "a number": 3,
    "texts": ["cat", "dog", "cow"] * 4,
    "one text": "cat",
    "too large": np.array([2**63, 1, 2] * 4, dtype=np.uint64),
    "too large for Python": [2**80, 1, 2] * 4,
    "masked": np.ma.masked_equal(np.array(CLASSES), 2),
    "sparse": torch.tensor(CLASSES).to_sparse(),
    "meta": torch.tensor(CLASSES, device="meta"),
}
KINDS = {
    "list": CLASSES,
    "array": np.array(CLASSES),
    "short": torch.tensor(CLASSES, dtype=torch.int16),
    "uint8": torch.tensor(CLASSES, dtype=torch.uint8),
    "uint64": torch.from_numpy(np.array(CLASSES, dtype=np.uint64)),
}


@pytest.mark.parametrize("labels", [*WRONG.values(), None], ids=[*WRONG, "none"])
@pytest.mark.parametrize("name", OF_CLASSES)
def test_a_function_refuses_labels_that_are_none(name, labels):
    with pytest.raises(ShapeError, match="labels") as error:
        OF_CLASSES[name](labels)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("labels", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("kind", WITH_LABELS, ids=lambda kind: kind.name)
def test_a_metric_refuses_them_and_is_as_it_was(kind, labels):
    metric, given = made(kind), batch(kind, 0)
    given["Z"] = given["Z"][:12]
    with pytest.raises(ShapeError, match="labels"):
        metric.update(**{**given, "labels": labels})
    assert not metric.update_called


@pytest.mark.parametrize("ids", WRONG.values(), ids=WRONG)
def test_numbers_of_samples_are_held_to_the_same(ids):
    Z = torch.randn(12, 3, 4)
    for metric in (wp.metrics.TokenNorm(), wp.metrics.PooledRate()):
        with pytest.raises(ShapeError, match="ids"):
            metric.update(Z, ids=ids)
    with pytest.raises(ShapeError, match="ids"):
        F.shuffled_update(Z, ids)


@pytest.mark.parametrize("labels", KINDS.values(), ids=KINDS)
def test_whole_numbers_of_any_kind_are_the_same_classes(labels):
    for name, measured in OF_CLASSES.items():
        want = measured(torch.tensor(CLASSES))
        assert measured(labels) == want, name
    rates = []
    for given in (torch.tensor(CLASSES), labels):
        metric = wp.metrics.ClassRate()
        metric.update(X[:, None], labels=given)
        rates.append(metric.compute())
    assert rates[0] == rates[1]


def test_two_truth_values_are_two_classes():
    first = torch.tensor(CLASSES) == 0
    assert F.class_rates(X, first, eps=0.5) == F.class_rates(X, first.long(), eps=0.5)


def test_a_metric_leaves_out_samples_of_no_class_as_a_probe_does():
    labels = torch.tensor([-100, -1, *CLASSES[2:]])
    metric, rest = wp.metrics.ClassRate(), wp.metrics.ClassRate()
    metric.update(X[:, None], labels=labels)
    rest.update(X[2:, None], labels=labels[2:])
    assert metric.compute() == pytest.approx(rest.compute(), rel=1e-12)


@pytest.mark.parametrize(
    "eps",
    [
        0.5,
        np.float32(0.5),
        np.array(0.5),
        torch.tensor(0.5),
        torch.nn.Parameter(torch.tensor([0.5])),
    ],
    ids=["float", "of NumPy", "array", "tensor", "learnt"],
)
def test_a_number_may_stand_alone_in_an_array_or_a_tensor(eps):
    Z = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0))
    want = F.coding_rate(Z, eps=0.5)
    torch.testing.assert_close(F.coding_rate(Z, eps=eps), want)
    assert wp.metrics.CodingRate(eps=eps).definition.eps == 0.5


@pytest.mark.parametrize("eps", [torch.rand(2), np.ones(2), [0.5], torch.tensor(0.0), np.array(-1)])
def test_several_numbers_or_one_that_cannot_be_are_refused(eps):
    with pytest.raises(ProbeError, match="eps is"):
        wp.metrics.CodingRate(eps=eps)
    with pytest.raises(ProbeError, match="eps is"):
        F.coding_rate(torch.randn(2, 6, 4), eps=eps)


def test_labels_lie_in_memory_as_they_may():
    X = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    labels = np.arange(60) % 4
    want = F.neural_collapse(X, torch.tensor(labels[::-1].copy()))
    for given in (labels[::-1], labels[::-1].astype(">i4"), np.repeat(labels[::-1], 2)[::2]):
        assert F.neural_collapse(X, given) == want


def test_sizes_of_a_grid_may_be_numbers_of_numpy():
    A = torch.rand(2, 2, 5, 5, generator=torch.Generator().manual_seed(0)).softmax(-1)
    of_numpy = F.attention_distance(A, prefix=1, grid=(np.int64(2), np.int64(2)))
    assert torch.equal(of_numpy, F.attention_distance(A, prefix=1, grid=(2, 2)))
