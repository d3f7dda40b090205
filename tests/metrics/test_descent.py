"""Descent of R^c: closed form against autograd, guards, the derived step, causal masks."""

import numpy as np
import pytest
import torch
from torch import nn

import whitebox_probe as wp
from tests.conftest import small_crate, small_vit
from whitebox_probe._core.errors import NonFiniteError
from whitebox_probe.metrics import functional as F
from whitebox_probe.metrics._linalg import unguarded
from whitebox_probe.models.registry import build

G = torch.Generator().manual_seed(3)
Z = torch.randn(2, 7, 6, dtype=torch.float64, generator=G)
U = torch.randn(3, 6, 2, dtype=torch.float64, generator=G)
EPS = 0.5


def drawn(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def slow_compression(Z, U, eps):
    """R^c by an explicit determinant, differentiable, one head at a time."""
    n, p = Z.shape[1], U.shape[2]
    total = 0.0
    for k in range(len(U)):
        V = Z @ U[k]
        A = torch.eye(n, dtype=Z.dtype) + p / (n * eps**2) * V @ V.mT
        total = total + 0.5 * torch.linalg.eigvalsh(A).log().sum(-1)
    return total


def layer_norm(dim):
    norm = nn.LayerNorm(dim).double()
    with torch.no_grad():
        norm.weight.copy_(1 + 0.3 * drawn(dim, seed=1))
        norm.bias.copy_(0.2 * drawn(dim, seed=2))
    return norm


class Root(nn.Module):
    """Root mean square norm, written out."""

    def __init__(self, dim):
        super().__init__()
        self.weight = nn.Parameter(1 + 0.3 * drawn(dim, seed=1))

    def forward(self, x):
        return self.weight * x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt()


def root_norm(dim):
    norm = nn.RMSNorm(dim).double()
    with torch.no_grad():
        norm.weight.copy_(1 + 0.3 * drawn(dim, seed=1))
    return norm


NORMS = {"none": lambda d: None, "layer": layer_norm, "rms": root_norm, "own": Root}


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("eps", [0.05, 0.5, 3.0])
@pytest.mark.parametrize("n", [1, 2, 7, 20])
def test_the_gradient_is_autograds(eps, n, norm):
    norm = NORMS[norm](6)
    tokens = drawn(2, n, 6, seed=n).requires_grad_()
    slow_compression(tokens if norm is None else norm(tokens), U, eps).sum().backward()
    for part in [] if norm is None else norm.parameters():
        part.grad = None
    got = F.compression_gradient(tokens.detach(), U, eps=eps, norm=norm)
    torch.testing.assert_close(got, tokens.grad, rtol=1e-8, atol=1e-10)
    with torch.inference_mode():
        inside = F.compression_gradient(tokens.detach().clone(), U, eps=eps, norm=norm)
    torch.testing.assert_close(inside.clone(), got, rtol=0, atol=0)
    assert all(part.grad is None for part in (norm.parameters() if norm is not None else []))


def test_through_a_norm_it_is_followed_on():
    norm = layer_norm(6)
    leaf, step = Z.clone().requires_grad_(), drawn(2, 7, 6, seed=5)
    value = F.descent_cosine(leaf, step, U, eps=EPS, norm=norm).sum()
    (slope,) = torch.autograd.grad(value, leaf)
    way = 1e-6 * drawn(2, 7, 6, seed=6)
    ends = [F.descent_cosine(Z + s * way, step, U, eps=EPS, norm=norm).sum() for s in (1, -1)]
    assert float((slope * way).sum()) == pytest.approx(float(ends[0] - ends[1]) / 2, rel=1e-5)


def test_a_norm_without_gradient_says_so():
    with pytest.raises(wp.ProbeError, match="norm has no gradient"):
        F.compression_gradient(Z, U, eps=EPS, norm=lambda z: z.detach())


def of_known_spectrum(sigma, n, d, K, seed=0):
    """Tokens and orthonormal, mutually orthogonal U_k, whose heads' singular values are sigma."""
    p = d // K
    basis = torch.linalg.qr(drawn(d, d, seed=seed)).Q.unflatten(1, (K, p)).transpose(0, 1)
    lefts = [torch.linalg.qr(drawn(n, n, seed=seed + 1 + k)).Q[:, : len(sigma)] for k in range(K)]
    rights = [torch.linalg.qr(drawn(p, p, seed=seed + 9 + k)).Q[:, : len(sigma)] for k in range(K)]
    heads = [
        (left, right, basis[k]) for k, (left, right) in enumerate(zip(lefts, rights, strict=True))
    ]
    tokens = sum(left * sigma @ right.T @ U_k.T for left, right, U_k in heads)
    return tokens[None], basis, heads


@pytest.mark.parametrize("eps", [1e-4, 1e-3, 0.01, 0.1, 1.0])
@pytest.mark.parametrize("norm", [1e-3, 1.0, 1e2, 1e4, 1e6])
@pytest.mark.parametrize("rank", [1, 2, 4])
def test_the_gradient_of_known_singular_values(rank, norm, eps):
    n, d, K = 12, 8, 2
    sigma = norm * torch.tensor([1.0, 0.7, 0.05, 0.01], dtype=torch.float64)[:rank]
    tokens, basis, heads = of_known_spectrum(sigma, n, d, K)
    a = d / K / (n * eps**2)
    shrunk = a * sigma / (1 + a * sigma.square())
    want = sum(left * shrunk @ right.T @ U_k.T for left, right, U_k in heads)
    got = F.compression_gradient(tokens, basis, eps=eps)[0]
    assert float((got - want).norm() / want.norm()) < 2e-6
    down = -1e-3 * norm * want / want.norm()
    cosine = F.descent_cosine(tokens, down[None], basis, eps=eps)
    assert float(cosine) == pytest.approx(1.0, abs=1e-9)


def test_guard_and_closed_form_meet():
    tokens = drawn(2, 9, 8, seed=4) * 10.0 ** torch.linspace(0, 6, 9)[:, None].double()
    basis = drawn(2, 8, 4, seed=5)
    for eps in (1e-3, 0.1):
        leaf = tokens.clone().requires_grad_()
        got = F.compression_gradient(leaf, basis, eps=eps)
        (slope,) = torch.autograd.grad(got.square().sum(), leaf)
        assert got.isfinite().all()
        assert slope.isfinite().all()
        # Tokens that the guard looks at beside one that it does not are the same alone.
        mixed = torch.cat([drawn(1, 9, 8, seed=6), tokens])
        both = F.compression_gradient(mixed, basis, eps=eps)
        torch.testing.assert_close(both[1:], got.detach(), rtol=1e-9, atol=0)


def test_unguarded_it_is_nan_where_the_guard_would_look():
    tokens, basis, _ = of_known_spectrum(1e6 * torch.ones(2, dtype=torch.float64), 12, 8, 2)
    with unguarded(), pytest.raises(NonFiniteError):
        F.compression_gradient(tokens, basis, eps=1e-3)


def test_a_step_along_minus_the_gradient_has_cosine_one_and_achieves_it():
    for norm in (None, layer_norm(6)):
        options = {"eps": EPS, "norm": norm}
        down = -1e-6 * F.compression_gradient(Z, U, **options)
        assert F.descent_cosine(Z, down, U, **options).numpy() == pytest.approx(1.0)
        assert F.descent_achieved(Z, down, U, **options).numpy() == pytest.approx(1.0, rel=1e-3)
        assert F.descent_cosine(Z, -down, U, **options).numpy() == pytest.approx(-1.0)
        assert F.descent_achieved(Z, -down, U, **options).numpy() == pytest.approx(-1, rel=1e-3)
        assert F.descent_cosine(Z, torch.zeros_like(Z), U, **options).tolist() == [0.0, 0.0]
        assert F.descent_achieved(Z, torch.zeros_like(Z), U, **options).tolist() == [0.0, 0.0]


def test_what_the_norm_takes_away_is_no_descent():
    # Shrinking the tokens lowers R^c of them as they are, and nothing of what follows a norm.
    norm = nn.RMSNorm(6, eps=0.0, dtype=torch.float64, elementwise_affine=False)
    assert (F.descent_cosine(Z, -0.1 * Z, U, eps=EPS) > 0.3).all()
    assert F.descent_cosine(Z, -0.1 * Z, U, eps=EPS, norm=norm).abs().max() < 1e-12
    assert F.descent_achieved(Z, -0.1 * Z, U, eps=EPS, norm=norm).abs().max() < 1e-12


def test_achieved_is_the_actual_change_over_the_steepest_one():
    step = drawn(2, 7, 6, seed=8)
    for norm in (None, layer_norm(6)):
        gradient = F.compression_gradient(Z, U, eps=EPS, norm=norm)
        at = (lambda z: z) if norm is None else norm
        fall = slow_compression(at(Z), U, EPS) - slow_compression(at(Z + step), U, EPS)
        want = fall / (gradient.flatten(1).norm(dim=1) * step.flatten(1).norm(dim=1))
        torch.testing.assert_close(
            F.descent_achieved(Z, step, U, eps=EPS, norm=norm), want.detach()
        )


def mssa(Z, U, causal):
    """MSSA of one sample by loops over heads and tokens, in NumPy."""
    Z, U = np.asarray(Z), np.asarray(U)
    out = np.zeros_like(Z)
    for k in range(len(U)):
        V = Z @ U[k]
        for i in range(len(Z)):
            seen = i + 1 if causal else len(Z)
            weights = np.exp(V[:seen] @ V[i] / np.sqrt(U.shape[2]))
            out[i] += weights / weights.sum() @ V[:seen] @ U[k].T
    return out


@pytest.mark.parametrize("causal", [False, True])
def test_mssa_with_u_by_a_loop(causal):
    want = np.stack([mssa(Z[b], U, causal) for b in range(2)])
    np.testing.assert_allclose(F.mssa_with_u(Z, U, causal=causal).numpy(), want, rtol=1e-12)


def text_model(name):
    arch = {"dim": 8, "depth": 2, "heads": 2}
    words = {"vocabulary": 23, "block_size": 9}
    match name:
        case "crate_gpt":
            network = build(name, arch | words | {"atoms": None}, source="a test")
        case "aot":
            network = build(name, arch | words | {"dim_head": 4}, source="a test")
        case "gpt2":
            arch = {"model_type": "gpt2", "hidden_size": 8, "num_hidden_layers": 2}
            arch |= {"num_attention_heads": 2, "vocab_size": 23, "max_position_embeddings": 9}
            network = build("hf", arch, source="a test")
    return wp.wrap(network.double()), torch.randint(23, (3, 9))


@pytest.mark.parametrize("name", ["crate_gpt", "aot", "gpt2"])
@pytest.mark.parametrize("prenorm", [True, False])
def test_the_derived_step_of_a_causal_model_is_masked(name, prenorm):
    model, ids = text_model(name)
    assert all(model.layer(n).causal for n in (1, 2))
    names = ["descent_cosine_u", "descent_achieved_u"]
    mask = torch.ones(3, 9, dtype=torch.bool)
    mask[1, 3:6] = False  # tokens left out are no part of the step
    data = [(one, of) for one, of in zip(ids, mask, strict=True)]
    result = wp.probe(model, data, names, eps=EPS, prenorm=prenorm, progress=False)
    with wp.record(model, ["z_in", "attn_in"]) as rec, torch.no_grad():
        model.module(ids)
    for layer in (1, 2):
        B = model.subspaces(layer).detach().double()
        for i in range(3):
            X = rec["attn_in" if prenorm else "z_in", layer][i, mask[i]].detach()[None]
            step = torch.from_numpy(mssa(X[0], B, causal=True))[None] - X
            want = [F.descent_cosine(X, step, B, eps=EPS)]
            want += [F.descent_achieved(X, 0.5 * step, B, eps=EPS)]
            for metric, value in zip(names, want, strict=True):
                got = result.values(metric)[i, layer - 1]
                assert got == pytest.approx(float(value), rel=1e-5, abs=1e-8)


def test_what_a_model_says_of_its_mask_is_what_its_attention_does():
    for model, inputs in [
        *map(text_model, ("crate_gpt", "aot", "gpt2")),
        (wp.wrap(small_crate()), torch.randn(2, 3, 12, 12)),
        (wp.wrap(small_vit()), torch.randn(2, 3, 12, 12)),
    ]:
        with wp.record(model, ["attn_weights"]) as rec, torch.no_grad():
            model.module(inputs)
        for n in range(1, model.layers + 1):
            ahead = rec["attn_weights", n].triu(1)
            assert model.layer(n).causal == bool((ahead == 0).all())


def test_kappa_is_the_length_of_the_derived_step():
    for kappa in (0.1, 0.5, 1.0):
        metric = wp.metrics.DescentAchievedU(kappa=kappa, eps=EPS)
        metric.update(Z, U)
        step = kappa * (F.mssa_with_u(Z, U) - Z)
        want = F.descent_achieved(Z, step, U, eps=EPS)
        torch.testing.assert_close(metric.samples(), want)


@pytest.mark.parametrize("make", [small_crate, small_vit])
@pytest.mark.parametrize("prenorm", [True, False])
@pytest.mark.parametrize("class_token", [True, False])
def test_of_a_model_it_is_taken_in_the_residual_stream(make, prenorm, class_token):
    model = wp.wrap(make().double(), name="a model")
    images = torch.randn(4, 3, 12, 12, generator=G).double()
    names = ["descent_cosine", "descent_achieved", "descent_cosine_u", "descent_achieved_u"]
    options = {"prenorm": prenorm, "class_token": class_token, "progress": False}
    result = wp.probe(model, images, names, eps=EPS, fast=False, **options)
    swept = wp.probe(model, images, names, eps=[EPS, 0.1], batch_size=3, fast=False, **options)
    with wp.record(model, ["z_in", "attn_in", "attn_out"]) as rec, torch.no_grad():
        model.module(images)
    before = [p.requires_grad for p in model.module.parameters()]
    assert all(p.grad is None for p in model.module.parameters())
    for layer in (1, 2, 3):
        B = model.subspaces(layer).detach()
        first = 0 if class_token else 1
        at = {s: rec[s, layer][:, first:] for s in ("z_in", "attn_in", "attn_out")}
        norm = model.layer(layer).norm if prenorm else None
        X = at["attn_in"] if prenorm else at["z_in"]
        leaf = at["z_in"].clone().requires_grad_()
        rate = slow_compression(leaf if norm is None else norm.forward(leaf), B, EPS)
        (gradient,) = torch.autograd.grad(rate.sum(), leaf)
        D = at["attn_out"]
        with torch.no_grad():
            moved = leaf + D if norm is None else norm.forward(leaf + D)
            fall = rate - slow_compression(moved, B, EPS)
        length = gradient.flatten(1).norm(dim=1) * D.flatten(1).norm(dim=1)
        step = F.mssa_with_u(X, B) - X
        want = {
            "descent_cosine": -(gradient * D).sum((1, 2)) / length,
            "descent_achieved": fall.detach() / length,
            "descent_cosine_u": F.descent_cosine(X, step, B, eps=EPS),
            "descent_achieved_u": F.descent_achieved(X, 0.5 * step, B, eps=EPS),
        }
        for name, values in want.items():
            got = result.values(name)[:, layer - 1]
            np.testing.assert_allclose(got, values.numpy(), rtol=1e-6, atol=1e-9, err_msg=name)
            again = swept.values(name, eps=EPS)[:, layer - 1]
            np.testing.assert_allclose(again, got, rtol=1e-6, atol=1e-9, err_msg=name)
    assert before == [p.requires_grad for p in model.module.parameters()]
    assert not torch.is_inference_mode_enabled()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_model_made_and_probed_under_inference_mode(dtype):
    with torch.inference_mode():
        model = wp.wrap(small_vit().to(dtype), name="vit")
        images = torch.randn(3, 3, 12, 12, generator=G).to(dtype)
        result = wp.probe(model, images, ["descent_cosine"], progress=False)
    assert np.isfinite(result.values("descent_cosine")).all()


def test_gaussian_tokens_descend_nothing(crate):
    images = torch.randn(64, 3, 12, 12, generator=G)
    result = wp.probe(crate, images, ["descent_cosine"], null="gaussian", progress=False)
    values = result.values("descent_cosine")
    error = values.std(axis=0) / np.sqrt(len(values))
    assert (np.abs(values.mean(axis=0)) < 4 * error).all()


def test_a_layer_that_attends_second_is_left_out():
    arch = {"image_size": 12, "patch_size": 4, "dim": 16, "depth": 2, "decoder_depth": 3}
    arch |= {"heads": 2, "dim_head": 8, "lam": 0.5}
    mae = wp.wrap(build("crate_mae", arch, source="a test"), name="mae")
    names = ["descent_cosine", "attention_rate_change", "attention_rate_change_common", "l0"]
    result = wp.probe(mae, torch.randn(2, 3, 12, 12), names, progress=False)
    for name in names:
        layers = [1, 2, 3, 4, 5] if name == "l0" else [1, 2]
        assert result.curve(name)["layer"].tolist() == layers


def test_tokens_that_are_not_finite_are_refused_by_the_function_and_dropped_by_the_probe(crate):
    step = torch.ones_like(Z)
    step[1, 0, 0] = torch.nan
    with pytest.raises(wp.ProbeError, match="sample 1"):
        F.descent_achieved(Z, step, U, eps=EPS)

    def poison(module, args, out):
        out = out.clone()
        out[2] = torch.nan
        return out

    handle = crate.module.transformer.layers[0][1].register_forward_hook(poison)
    images = torch.randn(4, 3, 12, 12, generator=G)
    names = ["descent_achieved", "descent_cosine", "attention_rate_change_tangential"]
    result = wp.probe(crate, images, names, nonfinite="drop", progress=False)
    handle.remove()
    assert [place["sample"] for place in result.run["nonfinite"]["first"]] == [2]
    assert len(result.samples) == 3
