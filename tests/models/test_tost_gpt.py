"""The language ToST against its equations, token by token, its names, sizes and files."""

import math

import numpy as np
import oracle
import pytest
import torch

import whitebox_probe as wp
from tests.conftest import save_nanogpt
from whitebox_probe._core.errors import CheckpointError, DataError, SiteError
from whitebox_probe.checkpoints import architecture
from whitebox_probe.metrics.functional import variational_compression
from whitebox_probe.models.families.tost_gpt import ToSTGPT
from whitebox_probe.sites import SITES

VOCABULARY, POSITIONS, D, K, LAYERS = 23, 12, 16, 4, 3
SIZES = {"vocabulary": VOCABULARY, "block_size": POSITIONS, "dim": D, "depth": LAYERS, "heads": K}


def published_shapes(
    d=D, heads=K, layers=LAYERS, positions=POSITIONS, vocabulary=VOCABULARY, bias=False
):
    """Keys and shapes of a file: nanoGPT's, with what ToST adds, and biases where it has them."""
    maps = {"attn.c_attn": (d, d), "attn.c_proj": (d, d)}
    maps |= {"mlp.c_fc": (4 * d, d), "mlp.c_proj": (d, 4 * d)}
    shapes = {"transformer.wte.weight": (vocabulary, d), "transformer.wpe.weight": (positions, d)}
    for i in range(layers):
        at = f"transformer.h.{i}"
        shapes |= {f"{at}.gamma1": (d,), f"{at}.gamma2": (d,)}
        shapes |= {f"{at}.attn.temp": (heads, 1), f"{at}.attn.denom_bias": (heads, positions, 1)}
        shapes |= {f"{at}.{name}.weight": shape for name, shape in maps.items()}
        shapes |= {f"{at}.{name}.weight": (d,) for name in ("ln_1", "ln_2")}
        if bias:
            shapes |= {f"{at}.{name}.bias": shape[:1] for name, shape in maps.items()}
            shapes |= {f"{at}.{name}.bias": (d,) for name in ("ln_1", "ln_2")}
    shapes |= {"transformer.ln_f.weight": (d,)} | ({"transformer.ln_f.bias": (d,)} if bias else {})
    return shapes | {"lm_head.weight": (vocabulary, d)}


def published_state(**changes):
    found = {key: 0.3 * torch.randn(shape) for key, shape in published_shapes(**changes).items()}
    for key in found:
        if key.endswith("temp"):
            found[key] = 1 + 3 * found[key].abs()  # so that heads differ
    found["lm_head.weight"] = found["transformer.wte.weight"]
    return found


def save(path, state, **changes):
    return save_nanogpt(path, state, heads=K, **changes)


def attention(W, temp, beta):
    """Memberships and update of one window, (K, n, p), by sums over the tokens so far."""
    heads, n, p = W.shape
    Pi, out = np.zeros((heads, n)), np.zeros_like(W)
    for t in range(n):
        logits = np.zeros(heads)
        for k in range(heads):
            for c in range(p):
                energy = sum(W[k, j, c] ** 2 for j in range(t + 1))
                logits[k] += temp[k, 0] * (W[k, t, c] ** 2 / max(energy, 1e-12) + beta[k, t, 0])
        Pi[:, t] = np.exp(logits) / np.exp(logits).sum()
        for k in range(heads):
            taken = sum(Pi[k, j] for j in range(t + 1)) + 1e-8
            for c in range(p):
                m = sum(Pi[k, j] * W[k, j, c] ** 2 for j in range(t + 1)) / taken
                out[k, t, c] = -Pi[k, t] * W[k, t, c] / (1 + m)
    return Pi, out


def naive(state, ids):
    """One window in float64: the last token's logits, and the sites of each layer."""
    w = {key: tensor.double().numpy() for key, tensor in state.items()}
    bias = {key: w.get(key, 0.0) for key in published_shapes(bias=True)}

    def linear(X, name):
        return X @ w[f"{name}.weight"].T + bias[f"{name}.bias"]

    def norm(X, name):
        return oracle.layer_norm(X, w[f"{name}.weight"], bias[f"{name}.bias"])

    X = w["transformer.wte.weight"][ids] + w["transformer.wpe.weight"][: len(ids)]
    sites = {}
    for layer in range(LAYERS):
        at = f"transformer.h.{layer}"
        seen = {"z_in": X, "attn_in": norm(X, f"{at}.ln_1")}
        W = np.stack(np.split(linear(seen["attn_in"], f"{at}.attn.c_attn"), K, axis=1))
        Pi, out = attention(W, w[f"{at}.attn.temp"], w[f"{at}.attn.denom_bias"])
        update = linear(np.concatenate(list(out), axis=1), f"{at}.attn.c_proj") * w[f"{at}.gamma1"]
        X = X + update
        seen |= {"heads": W, "memberships": Pi, "attn_out": update, "z_half": X}
        seen["mlp_in"] = norm(X, f"{at}.ln_2")
        H = linear(seen["mlp_in"], f"{at}.mlp.c_fc")
        H = H * 0.5 * (1 + np.vectorize(math.erf)(H / math.sqrt(2)))
        X = X + w[f"{at}.gamma2"] * linear(H, f"{at}.mlp.c_proj")
        sites[layer + 1] = seen | {"mlp_hidden": H, "z_out": X}
    return norm(X, "transformer.ln_f")[-1] @ w["lm_head.weight"].T, sites


def close(got, want):
    got = got.detach().double().numpy()
    assert got.shape == want.shape
    assert np.linalg.norm(got - want) <= 1e-5 * np.linalg.norm(want)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("prefix", ["", "_orig_mod.", "module."])
@pytest.mark.parametrize("length", [1, 7, POSITIONS])
def test_an_official_file_computes_the_published_equations(tmp_path, bias, prefix, length):
    state = published_state(bias=bias)
    model = wp.load(save(tmp_path / "ckpt.pt", state, prefix=prefix))
    assert (model.family.name, model.layers) == ("tost_gpt", LAYERS)
    assert (model.dims.dim, model.dims.heads, model.dims.dim_head) == (D, K, D // K)
    for key, tensor in model.module.state_dict().items():
        assert torch.equal(tensor, state[key])
    ids = torch.randint(VOCABULARY, (2, length))
    before = model.module(ids)
    with wp.record(model, model.sites) as rec:
        assert torch.equal(model.module(ids), before)
    sizes = {"B": 2, "n": length, "d": D, "K": K, "p": D // K, "h": 4 * D}
    for b in range(2):
        want, sites = naive(state, ids[b])
        close(before[b, 0], want)
        assert set(model.sites) == set(sites[1])
        for layer, seen in sites.items():
            for site, value in seen.items():
                close(rec[site, layer][b], value)
                grammar = SITES[site].shape.strip("()").split(", ")
                assert rec[site, layer].shape == tuple(sizes[s] for s in grammar)


def test_the_subspaces_are_the_projections_rows(tmp_path):
    state = published_state(bias=True)
    model = wp.load(save(tmp_path / "ckpt.pt", state))
    with wp.record(model, ["attn_in", "heads", "memberships"]) as rec:
        model.module(torch.randint(VOCABULARY, (1, 9)))
    torch.testing.assert_close(rec["memberships", 2].sum(1), torch.ones(1, 9))
    U = model.subspaces(2)
    assert torch.equal(U, state["transformer.h.1.attn.c_attn.weight"].view(K, D // K, D).mT)
    bias = state["transformer.h.1.attn.c_attn.bias"].view(K, 1, -1)
    torch.testing.assert_close(rec["attn_in", 2][0] @ U + bias, rec["heads", 2][0])
    norm = model.layer(3).norm
    assert torch.equal(norm.weight, state["transformer.h.2.ln_1.weight"])
    assert model.layer(1).operators == {}
    assert model.bases == ("native",)
    assert model.prefix_tokens == 0


def test_no_site_of_a_token_depends_on_a_later_one(tmp_path):
    model = wp.load(save(tmp_path / "ckpt.pt", published_state()))
    ids = torch.randint(VOCABULARY, (1, 9))
    changed = ids.clone()
    changed[0, 6:] = (ids[0, 6:] + 1) % VOCABULARY
    seen = []
    for each in (ids, changed, ids[:, :6]):
        with wp.record(model, model.sites) as rec:
            model.module(each)
        seen.append({site: rec[site, LAYERS] for site in model.sites})
    for site in model.sites:
        axis = SITES[site].token_axis
        first, *others = (one[site].narrow(axis, 0, 6) for one in seen)
        for other in others:
            torch.testing.assert_close(first, other)
        last, other = (one[site].narrow(axis, 8, 1) for one in seen[:2])
        assert not torch.allclose(last, other), site


def test_a_step_descends_the_variational_compression_of_the_text_so_far():
    attn = ToSTGPT(**SIZES).double().transformer["h"][0].attn
    torch.nn.init.normal_(attn.denom_bias, std=0.1)  # no head is left without tokens
    projected = torch.randn(2, 9, D, dtype=torch.float64)
    Pi = attn.memberships(projected).detach()
    step = attn.split(attn.step(projected))
    for n in (1, 4, 9):
        W = attn.split(projected)[:, :, :n].clone().requires_grad_()
        # d/eps^2 is 1 in the network; memberships are held, as the derivation holds them
        variational_compression(W, Pi[..., :n], eps=math.sqrt(D)).sum().backward()
        torch.testing.assert_close(W.grad[:, :, -1], -step[:, :, n - 1] / n, rtol=1e-6, atol=1e-9)
        if n > 1:  # an earlier token's step is of a shorter text
            assert not torch.allclose(W.grad[:, :, 0], -step[:, :, 0] / n, rtol=1e-3)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("name", "millions"),
    [("tost_gpt_base", 110), ("tost_gpt_medium", 304), ("tost_gpt_large", 655)],
)
def test_published_sizes_have_the_published_number_of_parameters(name, millions, bias):
    family, arch = architecture(name)
    assert family == "tost_gpt"
    with torch.device("meta"):
        model = ToSTGPT(**(arch | {"bias": bias}))
    count = sum(p.numel() for p in model.parameters()) - model.transformer["wpe"].weight.numel()
    assert arch["bias"] is False
    # With biases the large one would have 656: what speaks for their absence.
    assert round(count / 1e6) == millions + (bias and name == "tost_gpt_large")


@pytest.mark.parametrize("bias", [False, True])
def test_the_published_network_has_these_keys_and_shapes(bias):
    _, arch = architecture("tost_gpt_base")
    with torch.device("meta"):
        state = ToSTGPT(**(arch | {"bias": bias})).state_dict()
    found = {key: tuple(x.shape) for key, x in state.items()}
    assert found == published_shapes(768, 12, 12, 1024, 50304, bias)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda s: s.update({"transformer.h.1.scale": s.pop("transformer.h.1.gamma1")}),
            r"1 missing: transformer.h.1.gamma1; 1 unexpected: transformer.h.1.scale",
        ),
        (lambda s: s.pop("transformer.h.0.attn.temp"), "1 missing: transformer.h.0.attn.temp"),
        (lambda s: s.pop("transformer.ln_f.weight"), "1 missing: transformer.ln_f.weight"),
        (
            lambda s: s.update({"transformer.h.1.attn.denom_bias": torch.zeros(K, 8, 1)}),
            r"wrongly shaped: transformer.h.1.attn.denom_bias \(4, 8, 1\)",
        ),
        (lambda s: s.update({"lm_head.weight": torch.zeros(VOCABULARY, D)}), "differ.*one tensor"),
        (lambda s: s.pop("transformer.h.0.attn.denom_bias"), "family .* is not recognised"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_with_the_keys(tmp_path, bias, change, told):
    state = published_state(bias=bias)
    change(state)
    with pytest.raises(CheckpointError, match=told):
        wp.load(save(tmp_path / "ckpt.pt", state))


def test_one_bias_too_few_is_refused(tmp_path):
    state = published_state(bias=True)
    del state["transformer.h.1.mlp.c_fc.bias"]
    with pytest.raises(CheckpointError, match="1 missing: transformer.h.1.mlp.c_fc.bias"):
        wp.load(save(tmp_path / "ckpt.pt", state))


def test_a_mask_is_left_out_and_a_tied_tensor_may_be_stored_once(tmp_path):
    state = published_state()
    del state["lm_head.weight"]
    mask = torch.ones(POSITIONS, POSITIONS).tril()[None, None]
    held = state | {f"transformer.h.{i}.attn.bias": mask for i in range(LAYERS)}
    model = wp.load(save(tmp_path / "ckpt.pt", held, model_args=False))
    assert torch.equal(model.module.lm_head.weight, state["transformer.wte.weight"])


def test_it_is_probed_with_its_own_compression(tmp_path):
    model = wp.load(save(tmp_path / "ckpt.pt", published_state()))
    ids = torch.randint(VOCABULARY, (5, 9))
    metrics = ["compression", "l0", "variational_compression"]
    result = wp.probe(model, ids, metrics, batch_size=2, progress=False)
    assert result.run["tokens"] == 9
    for metric in metrics:
        assert len(result.curve(metric)) == LAYERS
    with wp.record(model, ["heads", "memberships"]) as rec:
        model.module(ids)
    want = variational_compression(rec["heads", 2], rec["memberships", 2], eps=0.1)
    got = result.curve("variational_compression")["mean"].iloc[1]
    assert got == pytest.approx(float(want.mean()))


def test_a_text_longer_than_its_positions_is_refused():
    model = wp.wrap(ToSTGPT(**SIZES).eval())
    with pytest.raises(DataError, match="13 tokens are more than its 12 positions"):
        model.module(torch.zeros(1, 13, dtype=torch.long))


def test_sites_that_it_lacks_say_where_to_look():
    model = wp.wrap(ToSTGPT(**SIZES).eval())
    assert model.family.name == "tost_gpt"
    with pytest.raises(SiteError, match="'attn_weights'.*no n x n weights"):
        model.tap("attn_weights", 1)
    with pytest.raises(SiteError, match="recorded as 'heads'"):
        model.tap("heads_q", 1)


def test_random_weights_are_drawn_as_nanogpt_draws_them():
    model = ToSTGPT(vocabulary=400, block_size=64, dim=64, depth=8, heads=4, bias=True)
    wanted = {"wte": 0.02, "wpe": 0.02, "c_attn": 0.02, "c_fc": 0.02, "c_proj": 0.02 / 4}
    for name, parameter in model.state_dict().items():
        part, kind = name.split(".")[-2:]
        if kind in ("bias", "denom_bias"):
            assert (parameter == 0).all()
        elif part in wanted:
            assert float(parameter.std()) == pytest.approx(wanted[part], rel=0.1), name


def test_heads_that_do_not_share_the_width_are_refused():
    with pytest.raises(ValueError, match="3 heads do not share a width of 16"):
        ToSTGPT(**(SIZES | {"heads": 3}))
