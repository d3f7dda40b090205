"""Every function of `wp.metrics.functional`, and every metric's `update`, refuses what is no input.

Found unaided: a new function is held to it by the names of its arguments; one that none of the
others has needs an example in `EXAMPLES`.
"""

import inspect
import math
import pickle
from contextlib import suppress

import pytest
import torch

import whitebox_probe as wp
from tests.contract.joining import MEASURES, batch, made
from whitebox_probe._core.errors import ProbeError, SettingError, ShapeError
from whitebox_probe.metrics import functional
from whitebox_probe.metrics.measure import WeightMeasure

G = torch.Generator().manual_seed(0)
Z = torch.randn(2, 6, 8, generator=G)
EXAMPLES = {
    **dict.fromkeys(("Z", "update", "mean", "moved", "start"), Z),
    "U": torch.randn(2, 8, 3, generator=G),
    "X": torch.randn(40, 8, generator=G),
    "Y": torch.randn(40, 8, generator=G),
    "A": torch.randn(2, 3, 6, 6, generator=G).softmax(dim=-1),
    **dict.fromkeys(("V", "W"), torch.randn(2, 2, 6, 3, generator=G)),
    "Pi": torch.randn(2, 2, 6, generator=G).softmax(dim=1),
    "D": torch.randn(8, 8, generator=G),
    "labels": torch.arange(40) % 4,
    "ids": torch.arange(2),
    **{"eps": 0.5, "lam": 0.1, "tau": 0.1, "tolerance": 0.01, "prefix": 2, "class_index": 0},
    **{"grid": (2, 2), "norm": None, "steps": 20, "causal": False, "heads": 2, "dim_head": 3},
    **{"tokens": 6, "d": 8, "p": 3, "draws": 4, "seed": 0, "rank": 4, "penalty": "l0"},
}
OF_LASSO = {"A": Z.abs(), "Y": Z}  # the same letters stand for codes and tokens there
FUNCTIONS = dir(functional)
each_function = pytest.mark.parametrize("name", FUNCTIONS)
each_metric = pytest.mark.parametrize("kind", MEASURES, ids=lambda kind: kind.name)


def arguments(name):
    own = EXAMPLES | (OF_LASSO if name.startswith("lasso") else {})
    asked = inspect.signature(getattr(functional, name)).parameters
    return {each: own[each] for each in asked}


def no_tensors(given):
    """What is no tensor of its kind of numbers, with which no computation is meant."""
    yield from ("text", 3.0, given.to("meta"), given.to_sparse(), given.to(torch.complex64))
    if given.is_floating_point():
        yield from (given.numpy(), given.tolist(), given.long(), given.bool())
    else:
        yield from (given + 0.5, torch.full(given.shape, math.nan), [[1, 2], [3]])


def other_shapes(given):
    yield from (given[0], given[None])


def changed_sizes(given):
    """Tensors of which some may be measured, and none may end in an error of torch's."""
    for axis in range(given.ndim):
        size = [*given.shape]
        size[axis] = 0
        yield given.new_zeros(size)
        yield torch.cat([given, given.narrow(axis, 0, 1)], dim=axis)


def no_numbers(given):
    """What stands for no number, choice or function of the kind that is given."""
    if given is None:
        return (3, "layer norm", lambda tokens: None)
    if isinstance(given, bool):
        return ("no", 2, None)
    if isinstance(given, str):
        return (None, 3, ["l0"], "l9")
    if isinstance(given, tuple):
        return (None, 3, (2,), (0, 4), (-2, -2), (1.5, 2), "22", (2, 2, 2))
    wrong = ("2", None, math.nan, math.inf, True, 10**400, torch.tensor([0.1, 0.2]))
    return (*wrong, 1.5) if isinstance(given, int) else (*wrong, -1.0)


def wrong_of(given):
    if isinstance(given, torch.Tensor):
        return [*no_tensors(given), *other_shapes(given)]
    return no_numbers(given)


@each_function
def test_it_takes_its_examples_and_is_one_that_is_pickled(name):
    function = getattr(functional, name)
    function(**arguments(name))
    assert function is getattr(functional, name)
    assert pickle.loads(pickle.dumps(function)) is function


@each_function
def test_it_refuses_what_is_no_argument_of_its(name):
    function, given = getattr(functional, name), arguments(name)
    for each, value in given.items():
        required = inspect.signature(function).parameters[each].default is not None
        for wrong in [*wrong_of(value), *([None] if required else [])]:
            with pytest.raises(ProbeError) as error:
                function(**given | {each: wrong})
            assert len(str(error.value)) < 500
            if isinstance(value, torch.Tensor):
                assert isinstance(error.value, ShapeError), each
            elif value is not None and value not in ("l0",):
                assert isinstance(error.value, SettingError), each


@each_function
def test_tensors_of_other_sizes_are_measured_or_refused(name):
    function, given = getattr(functional, name), arguments(name)
    for each, value in given.items():
        for other in changed_sizes(value) if isinstance(value, torch.Tensor) else ():
            try:
                found = function(**given | {each: other})
            except ProbeError:
                continue
            if not other.numel():
                assert not found.numel(), each


@pytest.mark.parametrize("eps", [0.0, -0.1, 1e-200, math.nan, "0.1", None])
def test_a_precision_that_is_none_is_refused_wherever_there_is_one(eps):
    for name in FUNCTIONS:
        if "eps" in arguments(name):
            with pytest.raises(SettingError, match="eps is"):
                getattr(functional, name)(**arguments(name) | {"eps": eps})
    for kind in MEASURES:
        if "eps" in inspect.signature(kind).parameters:
            with pytest.raises(SettingError, match="eps is"):
                made(kind, eps=eps)


def test_what_the_remedy_says_works():
    want = functional.coding_rate(Z, eps=0.5)
    for wrong in (Z.numpy(), Z.tolist(), Z.to_sparse()):
        with pytest.raises(ShapeError) as error:
            functional.coding_rate(wrong, eps=0.5)
        remedy = error.value.fix.removeprefix("Pass ")
        again = eval(remedy, {"torch": torch, "Z": wrong})
        assert torch.equal(functional.coding_rate(again, eps=0.5), want)
    with pytest.raises(ShapeError, match=r"Z\.float\(\)"):
        functional.coding_rate(Z.long(), eps=0.5)


def test_a_number_that_is_learnt_keeps_its_gradient():
    lam = torch.tensor(0.1, requires_grad=True)
    functional.lasso_objective(Z.abs(), Z, EXAMPLES["D"], lam=lam).sum().backward()
    assert lam.grad > 0


def test_an_argument_that_is_missing_is_pythons_to_say():
    with pytest.raises(TypeError, match="eps"):
        functional.coding_rate(Z)


@each_metric
def test_an_update_refuses_what_is_no_input_and_leaves_the_metric_as_it_was(kind):
    given = batch(kind, 0)
    uses_basis = issubclass(kind, WeightMeasure) or kind.needs_basis
    for each, value in given.items():
        if each.startswith("mean_update"):  # an audit's own
            continue
        wrong = no_tensors(value) if isinstance(value, torch.Tensor) else wrong_of(value)
        if each == "grid":
            wrong = [other for other in wrong if other is not None]  # it may be unknown
        for other in wrong:
            metric = made(kind)
            with pytest.raises(ProbeError) as error:
                metric.update(**given | {each: other})
            assert len(str(error.value)) < 500
            assert not metric.update_called
        if not isinstance(value, torch.Tensor) or (each == "U" and not uses_basis):
            continue
        for other in other_shapes(value):
            with pytest.raises(ProbeError):
                measured(kind, given | {each: other})
        for other in changed_sizes(value):
            with suppress(ProbeError):
                measured(kind, given | {each: other})


def measured(kind, given):
    metric = made(kind)
    metric.update(**given)
    return metric.compute()  # where subspaces alone are looked at


def test_a_parameter_of_a_metric_is_held_to_its_kind():
    for kind, wrong in (
        (wp.metrics.Thresholded, {"tau": -1.0}),
        (wp.metrics.SparseRateReduction, {"lam": math.nan}),
        (wp.metrics.ClassRate, {"pool": 3}),
    ):
        with pytest.raises(SettingError):
            kind(**wrong)
