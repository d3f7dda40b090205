"""A copy of a network computes with its own weights, whatever its functions hold."""

from functools import lru_cache, partial, wraps
from types import MethodType
from weakref import ref

import pytest
import torch
from torch import nn

from whitebox_probe._core.errors import ProbeError
from whitebox_probe.probing.copying import copied, without
from whitebox_probe.probing.provenance import passed

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
    twin = copied(net)
    with without(net, "net", twin):
        twin(X)
    replace(net[0])
    twin = copied(net)
    with (
        pytest.raises(ProbeError, match="a copy of net computes with the weights of net itself"),
        without(net, "net", twin),
    ):
        twin(X)


class Kept(nn.Module):
    """A linear map whose matrix is no parameter, kept as it is told; tokens are (B, n, d)."""

    def __init__(self, kind):
        super().__init__()
        weight = torch.randn(4, 4)
        self.kind = kind
        if kind == "buffer":
            self.register_buffer("weight", weight)
        elif kind == "halved":  # of buffers alone, and cast
            self.register_buffer("weight", (8 * weight).to(torch.int8))
        elif kind == "by parts":
            self.tables = {"all": [weight, weight.t().contiguous()]}
        elif kind == "by an object":
            self.holder = Held(weight)
        elif kind == "by a function":
            self.map = lambda z: z @ weight
        elif kind == "no parameter of a part":
            self.maps = (nn.Linear(4, 4),)
        else:
            self.weight = nn.Parameter(weight)
            self.view = self.weight.detach().t()  # which a copy has apart from its parameter

    def forward(self, z):
        if self.kind == "cached":
            if not hasattr(self, "_weight"):
                self._weight = self.weight.detach().t().contiguous()
            return z @ self._weight
        if self.kind == "view":
            return z @ self.view
        if self.kind == "halved":
            return nn.functional.linear(z, self.weight.to(z.dtype) / 8)
        if self.kind == "by parts":
            return torch.einsum("bnd,de->bne", z, self.tables["all"][1])
        if self.kind == "by an object":
            return z.matmul(self.holder.part.T)
        if self.kind == "by a function":
            return self.map(z)
        if self.kind == "no parameter of a part":
            return self.maps[0](z)
        return nn.functional.linear(z, self.weight)


KEPT = ["buffer", "cached", "view", "halved", "by parts", "by an object", "by a function"]
TOKENS = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", [*KEPT, "no parameter of a part"])
def test_a_matrix_that_the_copy_kept_is_seen_by_what_it_computes(kind):
    net = nn.Sequential(nn.Linear(4, 4), Kept(kind))
    net(TOKENS)
    twin = copied(net)
    with (
        pytest.raises(ProbeError, match=r"multiplied by '1\.\w+', which is no parameter"),
        without(net, "net", twin),
    ):
        passed(twin, TOKENS, {})


class Packed(nn.Module):
    """A linear map whose matrix lies in a buffer of whole numbers, and is unpacked in each pass."""

    def __init__(self, unpack):
        super().__init__()
        self.unpack = unpack
        self.register_buffer("codes", torch.randint(-128, 128, (4, 4), dtype=torch.int8))

    def forward(self, z):
        return nn.functional.linear(z, self.unpack(self.codes))


def by_shifts(codes):
    return ((codes.int()[:, None] >> torch.arange(0, 4, 2)[:, None]) & 3).sum(dim=1).float()


def into_zeros(codes):
    made = torch.zeros(4, 4)
    made[:] = codes
    return made


def into_a_view(codes):
    made = torch.zeros(16)
    made.view(4, 4)[:] = codes
    return made.view(4, 4)


@pytest.mark.parametrize(
    "unpack",
    [
        by_shifts,
        into_zeros,
        into_a_view,
        lambda codes: codes.float() * torch.tensor(0.1),
        lambda codes: torch.empty(4, 4).copy_(codes),
        lambda codes: torch.mul(codes, 0.1, out=torch.empty(4, 4)),
    ],
    ids=["shifts", "zeros", "view", "scale", "copy", "out"],
)
def test_a_matrix_that_is_unpacked_in_a_pass_is_seen(unpack):
    net = nn.Sequential(nn.Linear(4, 4), Packed(unpack), nn.Linear(4, 4))
    twin = copied(net)
    with (
        pytest.raises(ProbeError, match=r"multiplied by '1\.codes', which is no parameter"),
        without(net, "net", twin),
    ):
        passed(twin, TOKENS, {})


def test_inputs_may_be_blurred():
    net = nn.Sequential(Kept("buffer"), nn.Linear(4, 4))
    twin = copied(net)
    with without(net, "net", twin):
        passed(twin, TOKENS, {})


@pytest.mark.parametrize("changes", [False, True])
def test_a_hook_may_look_and_what_it_changes_is_seen(changes):
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    probe = torch.randn(4, 4)  # of a hook
    seen = []

    def look(module, inputs, out):
        seen.append(out @ probe)
        return seen[-1] if changes else None

    net[0].register_forward_hook(look)
    twin = copied(net)
    if not changes:
        with without(net, "net", twin):
            passed(twin, TOKENS, {})
        return
    with (
        pytest.raises(ProbeError, match="cannot all be permuted"),
        without(net, "net", twin),
    ):
        passed(twin, TOKENS, {})


def test_a_cache_that_is_filled_in_the_copy_is_its_own():
    net = nn.Sequential(nn.Linear(4, 4), Kept("cached"))
    twin = copied(net)
    with without(net, "net", twin):
        passed(twin, TOKENS, {})
        passed(twin, TOKENS, {})


class Ordinary(nn.Module):
    """What networks hold besides their parameters, and is nothing that training gave them."""

    def __init__(self):
        super().__init__()
        self.query, self.places = nn.Linear(4, 4), nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4)
        self.table = nn.Parameter(torch.randn(9, 1))
        angles = torch.arange(5.0)[:, None] * torch.rand(4)
        for name, value in {
            "mask": torch.ones(5, 5).tril(),
            "cos": angles.cos(),
            "sinusoids": angles.sin(),
            "registers": torch.randn(1, 2, 4),
            "bias": torch.randn(4),
            "relative": torch.arange(5)[:, None] - torch.arange(5) + 4,
            "keys": torch.zeros(2, 5, 4),
            "frequencies": torch.rand(2),
            "ids": torch.arange(5),
        }.items():
            self.register_buffer(name, value)

    def forward(self, z):
        z = torch.cat([z, self.registers.expand(len(z), -1, -1)], dim=1)
        at = self.frequencies[None, :, None].expand(2, -1, 1) @ self.ids[None, None].float()
        z = z * self.cos + self.sinusoids + self.places(self.sinusoids) + at.sum()
        torch.max(z, dim=1, out=(torch.empty(0), torch.empty(0, dtype=torch.int64)))
        z = self.norm(z.mT).mT + nn.functional.embedding(self.ids, self.sinusoids)
        queries = self.query(z) + self.bias
        self.keys[:] = z
        score = queries @ self.keys.mT + queries @ self.places(self.sinusoids).T
        score = score + self.table[self.relative][..., 0]
        return score.masked_fill(self.mask == 0, -torch.inf).softmax(-1) @ z


def test_masks_tables_and_statistics_are_no_weights_that_were_kept():
    net = Ordinary().eval()
    with pytest.warns(FutureWarning):  # its weight is an attribute, made anew in front of a pass
        nn.utils.weight_norm(net.places)
    with torch.no_grad():
        net(TOKENS)
        twin = copied(net)
        with without(net, "net", twin):
            passed(twin, TOKENS, {})


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
    with (
        pytest.raises(ProbeError, match="the weights of net itself"),
        without(net, "net", copied(net)),
    ):
        compute(net.weight.data)
    with without(net, "net", copied(net)):
        compute(torch.ones(4, 4))
