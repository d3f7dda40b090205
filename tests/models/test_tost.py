"""ToST against the published equations, names and sizes, and its variational compression."""

import math

import numpy as np
import oracle
import pytest
import torch
import torch.nn.functional as F
from timm.models.xcit import ClassAttentionBlock, PositionalEncodingFourier

import whitebox_probe as wp
from whitebox_probe._core.errors import CheckpointError, NonFiniteError, ProbeError, SiteError
from whitebox_probe.checkpoints import architecture
from whitebox_probe.metrics.functional import variational_compression
from whitebox_probe.models.families.tost import ToST

D, K, LAYERS, CLASSES = 16, 4, 3, 5


def published_shapes(d=D, heads=K, layers=LAYERS, widths=(8, 16), classes=CLASSES):
    """Keys and shapes of a file, as the fact sheet and the release's code write them."""
    shapes = {}
    for i, (before, after) in enumerate(zip((3, *widths), widths, strict=False)):
        step = f"patch_embed.proj.{2 * i}"
        shapes[f"{step}.0.weight"] = (after, before, 3, 3)
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{step}.1.{part}"] = (after,)
        shapes[f"{step}.1.num_batches_tracked"] = ()
    shapes["pos_embeder.token_projection.weight"] = (d, 64, 1, 1)
    shapes["pos_embeder.token_projection.bias"] = (d,)
    shapes["cls_token"] = (1, 1, d)
    blocks = [(f"blocks.{i}", d) for i in range(layers)]
    blocks += [(f"cls_attn_blocks.{i}", 3 * d) for i in range(2)]
    for block, rows in blocks:
        for part in ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"):
            shapes[f"{block}.{part}"] = (d,)
        shapes |= {f"{block}.gamma1": (d,), f"{block}.gamma2": (d,)}
        shapes |= {f"{block}.attn.qkv.weight": (rows, d), f"{block}.attn.qkv.bias": (rows,)}
        out = "attn.to_out.0" if rows == d else "attn.proj"
        shapes |= {f"{block}.{out}.weight": (d, d), f"{block}.{out}.bias": (d,)}
        shapes |= {f"{block}.mlp.fc1.weight": (4 * d, d), f"{block}.mlp.fc1.bias": (4 * d,)}
        shapes |= {f"{block}.mlp.fc2.weight": (d, 4 * d), f"{block}.mlp.fc2.bias": (d,)}
        if rows == d:
            shapes[f"{block}.attn.temp"] = (heads, 1)
    shapes |= {"norm.weight": (d,), "norm.bias": (d,)}
    return shapes | {"head.weight": (classes, d), "head.bias": (classes,)}


@pytest.fixture
def state():
    found = {key: 0.3 * torch.randn(shape) for key, shape in published_shapes().items()}
    for key in found:
        if key.endswith("running_var"):
            found[key] = found[key].abs() + 0.5
        if key.endswith("num_batches_tracked"):
            found[key] = torch.tensor(100)
        if key.endswith("temp"):
            found[key] = 1 + 10 * found[key].abs()  # so that heads differ
    return found


def gelu(X):
    return X * 0.5 * (1 + np.vectorize(math.erf)(X / math.sqrt(2)))


def published(state, image, *, tokens_norm=True):
    """One image, in float64; embedding and class attention through torch's and timm's modules."""
    w = {key: tensor.double().numpy() for key, tensor in state.items()}
    s = {key: tensor.double() for key, tensor in state.items()}
    x = image[None].double()
    for i in (0, 2):
        e = f"patch_embed.proj.{i}"
        x = F.conv2d(x, s[f"{e}.0.weight"], stride=2, padding=1)
        centred = x - s[f"{e}.1.running_mean"][:, None, None]
        x = centred / (s[f"{e}.1.running_var"] + 1e-5).sqrt()[:, None, None]
        x = x * s[f"{e}.1.weight"][:, None, None] + s[f"{e}.1.bias"][:, None, None]
        x = torch.from_numpy(gelu(x.numpy())) if i == 0 else x
    positions = PositionalEncodingFourier(dim=D)
    for part in ("weight", "bias"):
        getattr(positions.token_projection, part).data = state[
            f"pos_embeder.token_projection.{part}"
        ]
    X = (x + positions(1, *x.shape[-2:]).detach().double())[0].flatten(1).T.numpy()
    sites = {}
    for layer in range(LAYERS):
        b = f"blocks.{layer}"
        seen = {"z_in": X}
        Y = oracle.layer_norm(X, w[f"{b}.norm1.weight"], w[f"{b}.norm1.bias"], 1e-6)
        projected = Y @ w[f"{b}.attn.qkv.weight"].T + w[f"{b}.attn.qkv.bias"]
        n, p = len(X), D // K
        W = np.stack(np.split(projected, K, axis=1))
        logits = np.zeros((K, n))
        for h in range(K):
            for c in range(p):
                column = W[h, :, c] / np.linalg.norm(W[h, :, c])
                logits[h] += w[f"{b}.attn.temp"][h, 0] * column**2
        Pi = np.exp(logits) / np.exp(logits).sum(axis=0)
        out = np.zeros((K, n, p))
        for h in range(K):
            for c in range(p):
                m = (Pi[h] * W[h, :, c] ** 2).sum() / (Pi[h].sum() + 1e-8)
                out[h, :, c] = -Pi[h] * W[h, :, c] / (1 + m)
        update = np.concatenate(list(out), axis=1) @ w[f"{b}.attn.to_out.0.weight"].T
        update = (update + w[f"{b}.attn.to_out.0.bias"]) * w[f"{b}.gamma1"]
        seen |= {"attn_in": Y, "heads": W, "memberships": Pi, "attn_out": update}
        X = X + update
        Y = oracle.layer_norm(X, w[f"{b}.norm2.weight"], w[f"{b}.norm2.bias"], 1e-6)
        H = gelu(Y @ w[f"{b}.mlp.fc1.weight"].T + w[f"{b}.mlp.fc1.bias"])
        seen |= {"z_half": X, "mlp_in": Y, "mlp_hidden": H}
        update = H @ w[f"{b}.mlp.fc2.weight"].T + w[f"{b}.mlp.fc2.bias"]
        X = X + w[f"{b}.gamma2"] * update
        sites[layer + 1] = seen | {"z_out": X}
    x = torch.cat([s["cls_token"][0], torch.from_numpy(X)])[None]
    for i in range(2):
        prefix = f"cls_attn_blocks.{i}."
        norm = lambda dim, **kwargs: torch.nn.LayerNorm(dim, eps=1e-6)  # noqa: E731
        block = ClassAttentionBlock(
            D, K, qkv_bias=True, norm_layer=norm, tokens_norm=tokens_norm
        ).double()
        mine = {k.removeprefix(prefix): v for k, v in s.items() if k.startswith(prefix)}
        for part in ("weight", "bias"):
            thirds = mine.pop(f"attn.qkv.{part}").chunk(3)
            mine |= {f"attn.{n}.{part}": v for n, v in zip("qkv", thirds, strict=True)}
        block.load_state_dict(mine)
        x = block.eval()(x).detach()
    X = oracle.layer_norm(x[0, 0].numpy(), w["norm.weight"], w["norm.bias"], 1e-6)
    return X @ w["head.weight"].T + w["head.bias"], sites


def close(got, want):
    got = got.detach().double().numpy()
    assert got.shape == want.shape
    assert np.linalg.norm(got - want) <= 1e-5 * np.linalg.norm(want)


def official(folder, state, **also):
    path = folder / "checkpoint.pth"
    torch.save({"model": state, "epoch": 399, **also}, path)
    return path


@pytest.mark.parametrize("tokens_norm", [True, False])
def test_an_official_file_computes_the_published_equations(tmp_path, state, tokens_norm):
    prefixed = {f"module.{key}": value for key, value in state.items()}
    model = wp.load(official(tmp_path, prefixed), tokens_norm=tokens_norm)
    assert model.family.name == "tost"
    assert (model.layers, model.dims.heads, model.dims.dim_head) == (LAYERS, K, D // K)
    assert model.prefix_tokens == 0
    image = torch.randn(3, 12, 16)
    with wp.record(model, model.sites) as rec:
        got = model.module(image[None])
    want, sites = published(state, image, tokens_norm=tokens_norm)
    close(got[0], want)
    assert set(model.sites) == set(sites[1])
    for layer, seen in sites.items():
        for site, value in seen.items():
            close(rec[site, layer][0], value)
    torch.testing.assert_close(rec["memberships", 2].sum(1), torch.ones(1, 12))
    U = model.subspaces(2)
    assert torch.equal(U, state["blocks.1.attn.qkv.weight"].view(K, D // K, D).mT)
    bias = state["blocks.1.attn.qkv.bias"].view(K, 1, -1)
    torch.testing.assert_close(rec["attn_in", 2][0] @ U + bias, rec["heads", 2][0])
    assert torch.equal(model.layer(3).norm.weight, state["blocks.2.norm1.weight"])
    assert model.layer(1).operators == {}


@pytest.mark.parametrize(
    ("name", "millions", "digits"),
    [("tost_tiny", 5.77, 2), ("tost_small", 22.59, 2), ("tost_medium", 71.5, 1)],
)
def test_published_sizes_have_the_published_number_of_parameters(name, millions, digits):
    family, arch = architecture(name)
    assert family == "tost"
    with torch.device("meta"):
        model = ToST(**arch)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, digits) == millions


def test_the_published_network_has_these_keys_and_shapes():
    _, arch = architecture("tost_small")
    with torch.device("meta"):
        found = {key: tuple(x.shape) for key, x in ToST(**arch).state_dict().items()}
    assert found == published_shapes(384, 8, 12, (48, 96, 192, 384), 1000)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda s: s.pop("cls_token"), "1 missing: cls_token"),
        (lambda s: s.update(gamma=s.pop("blocks.1.gamma1")), "missing: blocks.1.gamma1.*gamma"),
        (lambda s: s.update({"norm.bias": torch.zeros(3)}), r"wrongly shaped: norm.bias \(3,\)"),
        (lambda s: s.pop("blocks.0.attn.temp"), "family .* is not recognised"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_with_the_keys(tmp_path, state, change, told):
    change(state)
    with pytest.raises(CheckpointError, match=told):
        wp.load(official(tmp_path, state))


def test_the_averaged_weights_beside_are_chosen_by_name(tmp_path, state):
    averaged = state | {"cls_token": torch.ones(1, 1, D)}
    path = official(tmp_path, state, model_ema=averaged)
    with pytest.raises(CheckpointError, match="several state dicts.*model_ema"):
        wp.load(path)
    assert (wp.load(path, wrapper="model_ema", tokens_norm=True).module.cls_token == 1).all()
    assert torch.equal(
        wp.load(path, wrapper="model", tokens_norm=True).module.cls_token, state["cls_token"]
    )


def test_it_is_probed(tmp_path, state):
    model = wp.load(official(tmp_path, state), tokens_norm=True)
    images = torch.randn(5, 3, 16, 12)
    result = wp.probe(
        model, images, ["compression", "l0", "variational_compression"], progress=False
    )
    for metric in ("compression", "l0", "variational_compression"):
        assert len(result.curve(metric)) == LAYERS
    assert result.run["tokens"] == 12
    with wp.record(model, ["heads", "memberships"]) as rec:
        model.module(images)
    want = variational_compression(rec["heads", 2], rec["memberships", 2], eps=0.1)
    got = result.curve("variational_compression")["mean"].iloc[1]
    assert got == pytest.approx(float(want.mean()))
    alone = wp.probe(model, images, ["variational_compression"], progress=False)
    assert alone.run["tokens"] == 12
    with pytest.raises(SiteError, match="'attn_weights'.*no n x n weights"):
        model.tap("attn_weights", 1)


def naive(W, Pi, eps):
    """R^var of one sample, entry by entry, from [U_k^T Z diag(pi_k) Z^T U_k]_ii."""
    heads, n, p = W.shape
    total = 0.0
    for k in range(heads):
        count = Pi[k].sum()
        inner = W[k].T @ np.diag(Pi[k]) @ W[k]
        for i in range(p):
            total += 0.5 * count / n * np.log(1 + heads * p / eps**2 * inner[i, i] / count)
    return total


class TestVariationalCompression:
    W = torch.randn(3, 2, 6, 4, generator=torch.Generator().manual_seed(1)).double()
    Pi = torch.rand(3, 2, 6, generator=torch.Generator().manual_seed(2)).double().softmax(1)

    @pytest.mark.parametrize("eps", [0.1, 1.0])
    @pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
    def test_it_is_the_published_formula(self, eps, dtype, rtol):
        got = variational_compression(self.W.to(dtype), self.Pi.to(dtype), eps=eps)
        want = [naive(w, pi, eps) for w, pi in zip(self.W.numpy(), self.Pi.numpy(), strict=True)]
        np.testing.assert_allclose(got.numpy(), want, rtol=rtol)

    def test_the_metric_is_the_function_and_keeps_its_invariances(self):
        order = [3, 1, 5, 0, 2, 4]
        changes = {
            "token_order": (self.W[:, :, order], self.Pi[:, :, order]),
            "head_order": (self.W.flip(1), self.Pi.flip(1)),
            "repeated_tokens": (self.W.repeat(1, 1, 2, 1), self.Pi.repeat(1, 1, 2)),
            "scale": (5 * self.W, self.Pi),
        }
        want = variational_compression(self.W, self.Pi, eps=0.1)
        metric = wp.metrics.VariationalCompression()
        metric.update(self.W[:2], memberships=self.Pi[:2])
        metric.update(self.W[2:], memberships=self.Pi[2:])
        torch.testing.assert_close(metric.samples(), want)
        for name, (W, Pi) in changes.items():
            same = torch.allclose(variational_compression(W, Pi, eps=0.1), want)
            assert same == (name in metric.definition.invariances), name

    def test_a_head_without_tokens_adds_nothing(self):
        Pi = torch.stack([torch.ones(3, 6), torch.zeros(3, 6)], dim=1)
        once = variational_compression(self.W, Pi, eps=0.1)
        other = self.W.clone()
        other[:, 1] *= 7
        assert torch.equal(variational_compression(other, Pi, eps=0.1), once)

    def test_what_does_not_fit_is_refused(self):
        with pytest.raises(ProbeError, match=r"memberships have shape \(3, 2, 5\).*\(3, 2, 6\)"):
            variational_compression(self.W, self.Pi[..., :5], eps=0.1)
        with pytest.raises(ProbeError, match="memberships are missing"):
            wp.metrics.VariationalCompression().update(self.W)
        bad = self.W.clone()
        bad[1, 0, 0, 0] = torch.nan
        with pytest.raises(NonFiniteError, match="sample 1"):
            variational_compression(bad, self.Pi, eps=0.1)

    def test_other_families_say_that_they_have_no_memberships(self, crate):
        with pytest.raises(SiteError, match="'memberships' is not in family 'crate'"):
            wp.probe(crate, torch.randn(2, 3, 12, 12), ["variational_compression"], progress=False)
