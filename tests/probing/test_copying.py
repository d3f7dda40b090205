"""A copy of a network computes with its own weights, whatever its functions hold."""

from functools import lru_cache, partial, wraps
from types import MethodType
from weakref import ref

import pytest
import torch
from torch import nn

from whitebox_probe._core.errors import ProbeError
from whitebox_probe.probing.copying import copied, without

X = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
HELD = {}


def by_name(z):
    return helper(z) + 1


def helper(z):
    return HELD["old"](z)


def method(part):
    old = part.forward
    part.forward = MethodType(lambda self, z: old(z) + 1, part)


def of_itself(part):
    part.forward = MethodType(lambda self, z: type(self).forward(self, z) + 1, part)


def closure(part):
    old = part.forward
    part.forward = lambda z: old(z) + 1


def of_weights(part):
    weight, bias = part.weight, part.bias
    part.forward = lambda z: nn.functional.linear(z, weight, bias) + 1


def default(part):
    def forward(z, old=part.forward, *, more=(part, [1])):
        return old(z) + more[1][0]

    part.forward = forward


def wrapped(part):
    old = part.forward

    @wraps(old)
    def forward(z):
        return old(z) + 1

    part.forward = partial(forward)


def of_notebook(part):
    HELD["old"] = part.forward
    part.forward = by_name


def hook(part):
    def add(_, inputs, output):
        return output + 1 + 0 * nn.functional.linear(inputs[0], part.weight)

    part.register_forward_hook(add)


REPLACED = [method, of_itself, closure, of_weights, default, wrapped, of_notebook, hook]


@pytest.mark.parametrize("replace", REPLACED, ids=lambda each: each.__name__)
def test_a_copy_computes_with_its_own_weights(replace):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
    replace(net[0])
    want = net(X)
    twin = copied(net)
    torch.testing.assert_close(twin(X), want)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(0.5)
    weight, bias = twin[0].weight, twin[0].bias
    torch.testing.assert_close(twin(X), (nn.functional.linear(X, weight, bias) + 1).tanh())
    torch.testing.assert_close(net(X), want)


def test_what_is_not_of_the_original_stays_as_it_is():
    seen = []

    def note(part, inputs, output):
        seen.append(output.shape)

    net = nn.Sequential(nn.Linear(4, 4))
    net[0].register_forward_hook(note)
    twin = copied(net)
    assert next(iter(twin[0]._forward_hooks.values())) is note
    twin(X)
    assert seen == [(3, 4)]


class Held:
    """What calls a part, and no copy follows."""

    def __init__(self, part):
        self.part = part

    def __call__(self, z):
        return type(self.part).forward(self.part, z)


def weakly(part):
    held = ref(part)
    part.forward = lambda z: nn.Linear.forward(held(), z)


def by_object(part):
    held = Held(part)
    part.forward = lambda z: held(z)


def by_cache(part):
    weight = lru_cache(lambda: part.weight)
    part.forward = lambda z: z @ weight().T


@pytest.mark.parametrize("replace", [weakly, by_object, by_cache], ids=lambda each: each.__name__)
def test_a_copy_that_computes_with_others_weights_is_seen(replace):
    net = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
    with without(net, "net"):
        copied(nn.Sequential(nn.Linear(4, 4)))(X)
    replace(net[0])
    twin = copied(net)
    with (
        pytest.raises(ProbeError, match="a copy of net computes with the weights of net itself"),
        without(net, "net"),
    ):
        twin(X)


@pytest.mark.parametrize(
    "compute",
    [
        lambda weight: weight.sum(),
        lambda weight: nn.functional.linear(X, weight=weight[:2]),
        lambda weight: torch.cat([X, weight]),
        lambda weight: torch.einsum("bi,ij->bj", (X, weight)),
        lambda weight: torch.cat(tensors=(X, weight)),
    ],
    ids=["argument", "view by a keyword", "list", "tuple", "tuple by a keyword"],
)
def test_a_weight_is_seen_in_whatever_it_is_given(compute):
    net = nn.Linear(4, 4)
    with pytest.raises(ProbeError, match="the weights of net itself"), without(net, "net"):
        compute(net.weight.data)
    with without(net, "net"):
        compute(torch.ones(4, 4))
