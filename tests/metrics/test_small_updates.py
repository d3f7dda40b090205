"""Updates so small that float32's rounding of either rate would hide their difference."""

import numpy as np
import pytest
import torch
from torch import nn

import whitebox_probe as wp
from whitebox_probe.metrics import functional as F

DIM, HEADS, TOKENS, SAMPLES = 16, 2, 9, 6
EPS = 0.1
SMALL = [1e-4, 1e-5, 1e-6, 1e-7, 1e-8]
PARTS = [f"attention_rate_change_{part}" for part in ("common", "radial", "tangential")]
NAMES = ["descent_achieved", "descent_cosine", "attention_rate_change", *PARTS]
NAMES += ["attention_rate_change_shuffled"]


def drawn(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


TOKENS_IN = drawn(SAMPLES, TOKENS, DIM, seed=1)
U = (drawn(HEADS, DIM, DIM // HEADS, seed=2) / 4).contiguous()
WEIGHT, BIAS = 1 + 0.3 * drawn(DIM, seed=3), 0.2 * drawn(DIM, seed=4)
SQUARE = drawn(DIM, DIM, seed=5) / 4


class Root(nn.Module):
    """Root mean square norm, written out."""

    def __init__(self, *, inside=None):
        super().__init__()
        self.weight, self.inside = nn.Parameter(torch.ones(DIM)), inside

    def forward(self, x):
        wide = x if self.inside is None else x.to(self.inside)
        wide = wide * (wide.square().mean(-1, keepdim=True) + 1e-6).rsqrt()
        return self.weight * wide.to(x.dtype)


class Bound(nn.Module):
    """A layer norm whose weight is no parameter: a copy in float64 cannot be made of it."""

    def __init__(self):
        super().__init__()
        self.held = [torch.ones(DIM)]

    def forward(self, x):
        return nn.functional.layer_norm(x, (DIM,), self.held[0].to(x.device))


NORMS = {
    "none": lambda: None,
    "layer": lambda: nn.LayerNorm(DIM),
    "layer, bare": lambda: nn.LayerNorm(DIM, elementwise_affine=False),
    "rms": lambda: nn.RMSNorm(DIM, eps=1e-6),
    "own": Root,
    "of parts": lambda: nn.Sequential(nn.LayerNorm(DIM), nn.Linear(DIM, DIM, bias=False)),
}
IN_FLOAT32 = {"inside": lambda: Root(inside=torch.float32), "bound": Bound}


def made(name):
    norm = (NORMS | IN_FLOAT32)[name]()
    if norm is not None:
        with torch.no_grad():
            for part, value in norm.named_parameters():
                vector = BIAS if part.endswith("bias") else WEIGHT
                value.copy_(SQUARE if value.ndim == 2 else vector)
    return norm


def exactly(name):
    """The same norm by its formula, in float64 NumPy."""
    weight, bias = WEIGHT.double().numpy(), BIAS.double().numpy()

    def standard(Z):
        return (Z - Z.mean(-1, keepdims=True)) / np.sqrt(Z.var(-1, keepdims=True) + 1e-5)

    def root(Z):
        return weight * Z / np.sqrt((Z**2).mean(-1, keepdims=True) + 1e-6)

    return {
        "none": lambda Z: Z,
        "layer": lambda Z: weight * standard(Z) + bias,
        "layer, bare": standard,
        "rms": root,
        "own": root,
        "inside": root,
        "of parts": lambda Z: (weight * standard(Z) + bias) @ SQUARE.double().numpy().T,
    }[name]


def rate(Z, name):
    """f of one sample: by singular values, (n, d) -> a number."""
    X, total = exactly(name)(Z), 0.0
    for U_k in U.double().numpy():
        sigma = np.linalg.svd(X @ U_k, compute_uv=False)
        total += 0.5 * np.log1p(U_k.shape[1] / (len(Z) * EPS**2) * sigma**2).sum()
    return total


class Add(nn.Module):
    def __init__(self, update):
        super().__init__()
        self.register_buffer("update", update, persistent=False)

    def forward(self, X):
        return self.update[: len(X)] + 0.0 * X


class Block(nn.Module):
    def __init__(self, norm, update):
        super().__init__()
        self.norm, self.attn = norm or nn.Identity(), Add(update)

    def forward(self, Z):
        return Z + self.attn(self.norm(Z))


def wrapped(norm, update):
    """A layer in float32 that adds a given update to its tokens."""
    sites = {"z_in": "{layer}:input", "attn_in": "{layer}.attn:input"}
    sites |= {"attn_out": "{layer}.attn:output", "z_half": "{layer}:output"}
    prenorm = None if norm is None else "{layer}.norm"
    return wp.wrap(
        nn.Sequential(Block(norm, update)), sites=sites, heads=HEADS, dim_head=DIM // HEADS,
        dim=DIM, prenorm=prenorm, subspaces=lambda module, layer: U,
    )  # fmt: skip


def measured(norm, update, names=NAMES, **options):
    model = wrapped(norm, update)
    options = {"eps": EPS, "batch_size": SAMPLES, "progress": False} | options
    result = wp.probe(model, TOKENS_IN, names, **options)
    return {name: result.values(name)[:, 0] for name in names}


def downhill(name, share):
    """An update along -grad f, as long as a share of the tokens: of float32, as a model has it."""
    norm = made(name)
    at = None if norm is None else norm.double()
    gradient = F.compression_gradient(TOKENS_IN.double(), U.double(), eps=EPS, norm=at)
    lengths = [
        each.double().flatten(1).norm(dim=1)[:, None, None] for each in (TOKENS_IN, gradient)
    ]
    return (-share * gradient * lengths[0] / lengths[1]).float()


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("share", SMALL)
def test_a_small_update_along_minus_the_gradient_achieves_all_of_it(share, name):
    update = downhill(name, share)
    found = measured(made(name), update)
    start, end = TOKENS_IN.double().numpy(), (TOKENS_IN.double() + update.double()).numpy()
    fall = np.array([rate(a, name) - rate(b, name) for a, b in zip(start, end, strict=True)])
    # Of rates of tens of nats float64 itself rounds up to 1e-13 away.
    np.testing.assert_allclose(sum(-found[part] for part in PARTS), fall, rtol=1e-7, atol=3e-13)
    np.testing.assert_allclose(found["descent_cosine"], 1.0, atol=1e-9)
    # What is of second order grows with the step; and float32 rounds the update by itself.
    np.testing.assert_allclose(found["descent_achieved"], 1.0, atol=50 * share + 1e-6)


@pytest.mark.parametrize("share", SMALL)
@pytest.mark.parametrize("name", NORMS)
def test_the_change_is_that_of_the_tokens_as_the_model_rounds_them(name, share):
    update = downhill(name, share)
    change = measured(made(name), update)["attention_rate_change"]
    half = (TOKENS_IN + update).double().numpy()  # in float32, as the layer adds
    pairs = zip(half, TOKENS_IN.double().numpy(), strict=True)
    want = np.array([rate(after, name) - rate(before, name) for after, before in pairs])
    np.testing.assert_allclose(change, want, rtol=1e-7, atol=3e-13)


@pytest.mark.parametrize("name", [*NORMS, *IN_FLOAT32])
@pytest.mark.parametrize("options", [{}, {"batch_size": 4}, {"prenorm": False}])
def test_no_update_changes_nothing_at_all(options, name):
    found = measured(made(name), torch.zeros_like(TOKENS_IN), **options)
    for metric, values in found.items():
        assert (values == 0).all(), metric


def test_of_several_eps_as_well_no_update_changes_nothing_at_all():
    model = wrapped(made("layer"), torch.zeros_like(TOKENS_IN))
    many = [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]  # so many are taken from eigenvalues
    for eps in (many[:2], many):
        result = wp.probe(model, TOKENS_IN, NAMES, eps=eps, progress=False)
        assert (result.frame["mean"] == 0).all()


@pytest.mark.parametrize("name", IN_FLOAT32)
def test_a_norm_that_computes_in_float32_is_measured_as_it_is(name):
    update = downhill("own" if name == "inside" else "layer, bare", 1e-2)
    found = measured(made(name), update)
    np.testing.assert_allclose(found["descent_cosine"], 1.0, atol=1e-4 if name == "inside" else 0.2)
    assert np.isfinite(found["descent_achieved"]).all()


def test_a_module_in_half_precision_has_its_norm_in_float64_too():
    model = wrapped(made("layer"), torch.zeros_like(TOKENS_IN))
    model.module.bfloat16()
    result = wp.probe(model, TOKENS_IN.bfloat16(), NAMES, eps=EPS, progress=False)
    assert (result.frame["mean"] == 0).all()


def test_the_functions_achieve_all_of_it_in_float64():
    for name in NORMS:
        norm = made(name)
        at = None if norm is None else norm.double()
        update = downhill(name, 1e-7).double()
        got = F.descent_achieved(TOKENS_IN.double(), update, U.double(), eps=EPS, norm=at)
        np.testing.assert_allclose(got.detach().numpy(), 1.0, atol=6e-6)
