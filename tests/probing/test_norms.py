"""The copy of a norm in float64: of which measures, how often, and what it leaves alone."""

import threading

import pytest
import torch
from torch import nn

import whitebox_probe as wp
from tests.conftest import small_crate, small_vit
from whitebox_probe.probing import norms

IMAGES = torch.randn(6, 3, 12, 12, generator=torch.Generator().manual_seed(1))
OF_RATES = ["descent_achieved", "attention_rate_change", "attention_rate_change_no_skip"]


@pytest.fixture
def copies(monkeypatch):
    """How often each norm was copied."""
    found = []
    made = norms._twin

    def counted(part):
        found.append(part)
        return made(part)

    monkeypatch.setattr(norms, "_twin", counted)
    return found


@pytest.mark.parametrize("make", [small_crate, small_vit])
def test_it_is_made_once_a_pass_and_only_where_rates_are_subtracted(make, copies):
    model = wp.wrap(make(), name="a model")
    wp.probe(model, IMAGES, ["compression", "rate_reduction", "l0"], progress=False)
    assert copies == []
    wp.probe(model, IMAGES, OF_RATES, prenorm=False, progress=False)
    assert copies == []
    wp.probe(model, IMAGES, OF_RATES, eps=[0.1, 0.5], batch_size=2, progress=False)
    assert copies == [model.layer(n).norm for n in (1, 2, 3)]


def test_hooks_and_what_they_hold_are_not_copied():
    model = wp.wrap(small_vit(), name="vit")
    before = wp.probe(model, IMAGES, OF_RATES, progress=False)
    lock, seen = threading.Lock(), []  # which cannot be copied

    def look(module, args, out):
        with lock:
            seen.append(len(out))

    handle = model.layer(1).norm.register_forward_hook(look)
    after = wp.probe(model, IMAGES, OF_RATES, batch_size=3, progress=False)
    handle.remove()
    assert seen[-2:] == [3, 3]  # by the model's own passes
    assert abs(after.frame["mean"] - before.frame["mean"]).max() < 1e-5


def test_the_models_own_norm_stays_as_it_is():
    norm = nn.LayerNorm(6)
    tensors = dict(norm.named_parameters())
    own, exact = norms.norms_of(norm)
    Z = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(2))
    got = exact(Z.double())
    assert got.dtype == torch.float64
    assert (got - own(Z)).abs().max() < 1e-6
    for name, tensor in norm.named_parameters():
        assert tensor is tensors[name]
        assert tensor.dtype == torch.float32
        assert tensor.requires_grad


class Other(nn.Module):
    """Another norm in float64 than in float32."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(6))

    def forward(self, x):
        return self.weight * x if x.dtype == torch.float32 else 2 * self.weight * x


class Refuses(Other):
    """A kernel that takes float32 alone."""

    def forward(self, x):
        if x.dtype != torch.float32:
            raise RuntimeError("not implemented for 'Double'")
        return self.weight * x


@pytest.mark.parametrize("kind", [Other, Refuses])
def test_a_norm_that_float64_cannot_pass_is_taken_in_its_own_precision(kind):
    own, exact = norms.norms_of(kind())
    Z = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(2))
    got = exact(Z.double())
    assert got.dtype == torch.float64
    assert torch.equal(got, own(Z).double())


def test_no_sample_decides_how_a_norm_is_taken():
    own, exact = norms.norms_of(nn.LayerNorm(6))
    broken = torch.full((2, 5, 6), torch.nan, dtype=torch.float64)
    assert exact(broken).isnan().all()
    Z = torch.randn(2, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    assert (exact(Z) - own(Z)).abs().max() > 0  # not in float32
