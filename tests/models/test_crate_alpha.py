"""CRATE-alpha against the published equations, in its three file formats."""

import re

import numpy as np
import oracle
import pytest
import torch

import whitebox_probe as wp
from tests.conftest import STEP
from whitebox_probe._core.errors import CheckpointError, SiteError
from whitebox_probe.checkpoints import architecture
from whitebox_probe.models.families.crate_alpha import CrateAlpha

OUT_KERNEL = "MultiHeadDotProductSubspaceAttention_0/out/kernel"
D, K, P, LAYERS, CLASSES, TOKENS = 16, 2, 8, 2, 5, 10  # 12 x 12 images, patches of 4


def published_shapes(d=D, layers=LAYERS, patch=4, tokens=TOKENS, classes=CLASSES):
    """Keys and shapes of a torch file, written out from the release's code."""
    shapes = {
        "conv1.weight": (d, 3, patch, patch),
        "conv1.bias": (d,),
        "pos_embedding": (1, tokens, d),
        "cls_token": (1, 1, d),
        "mlp_head.0.weight": (d,),
        "mlp_head.0.bias": (d,),
        "mlp_head.1.weight": (classes, d),
        "mlp_head.1.bias": (classes,),
    }
    for i in range(layers):
        layer = f"transformer.layers.{i}"
        for step in (0, 1):
            shapes |= {f"{layer}.{step}.norm.{part}": (d,) for part in ("weight", "bias")}
        shapes |= {f"{layer}.0.fn.{part}.weight": (d, d) for part in ("qkv", "to_out.0")}
        shapes |= {f"{layer}.1.fn.{part}": (d, 4 * d) for part in ("D", "D1")}
    return shapes


def jax_of(state):
    """The same weights as the JAX code saves them, with an optimizer that must not be read."""
    arrays = {
        "params/cls": state["cls_token"],
        "params/pos_embedding": state["pos_embedding"],
        "params/embedding/kernel": state["conv1.weight"].permute(2, 3, 1, 0),
        "params/embedding/bias": state["conv1.bias"],
        "params/encoder_norm/scale": state["mlp_head.0.weight"],
        "params/encoder_norm/bias": state["mlp_head.0.bias"],
        "params/head/kernel": state["mlp_head.1.weight"].T,
        "params/head/bias": state["mlp_head.1.bias"],
    }
    for i in range(LAYERS):
        ours, theirs = f"transformer.layers.{i}", f"params/Transformer/encoderblock_{i}"
        for step in (0, 1):
            arrays[f"{theirs}/LayerNorm_{step}/scale"] = state[f"{ours}.{step}.norm.weight"]
            arrays[f"{theirs}/LayerNorm_{step}/bias"] = state[f"{ours}.{step}.norm.bias"]
        attention = f"{theirs}/MultiHeadDotProductSubspaceAttention_0"
        # y[n, k, p] = sum_d x[n, d] proj[d, k, p], and out[n, d] = sum_kp y[n, k, p] out[k, p, d]
        arrays[f"{attention}/proj/kernel"] = state[f"{ours}.0.fn.qkv.weight"].T.reshape(D, K, P)
        arrays[f"{attention}/out/kernel"] = state[f"{ours}.0.fn.to_out.0.weight"].T.reshape(K, P, D)
        for part in ("D", "D1"):
            arrays[f"{theirs}/OvercompleteISTABlock_0/{part}"] = state[f"{ours}.1.fn.{part}"]
    found = {key: np.ascontiguousarray(value.numpy()) for key, value in arrays.items()}
    return found | {
        "opt/0/mu/cls": np.zeros((1, 1, D), np.int16).view("V2"),
        "opt/0/nu/cls": np.full((1, 1, D), np.nan, np.float32),
        "opt/0/count": np.array(7),
    }


def clipa_of(state):
    """The same weights as a CLIPA file has them, with a text tower beside."""
    found = {
        "visual.conv1.weight": state["conv1.weight"],
        "visual.class_embedding": state["cls_token"][0, 0],
        "visual.positional_embedding": state["pos_embedding"][0],
        "visual.ln_post.weight": state["mlp_head.0.weight"],
        "visual.ln_post.bias": state["mlp_head.0.bias"],
        "visual.proj": state["mlp_head.1.weight"].T.contiguous(),
        "positional_embedding": torch.randn(7, 8),
        "text_projection": torch.randn(8, CLASSES),
        "logit_scale": torch.tensor(4.6),
        "token_embedding.weight": torch.randn(11, 8),
        "transformer.resblocks.0.ln_1.weight": torch.randn(8),
        "ln_final.weight": torch.randn(8),
    }
    for i in range(LAYERS):
        ours, theirs = f"transformer.layers.{i}", f"visual.transformer.resblocks.{i}"
        for part in ("weight", "bias"):
            found[f"{theirs}.ln_1.{part}"] = state[f"{ours}.0.norm.{part}"]
            found[f"{theirs}.ln_2.{part}"] = state[f"{ours}.1.norm.{part}"]
        found[f"{theirs}.attn.in_proj_weight"] = state[f"{ours}.0.fn.qkv.weight"].repeat(3, 1)
        found[f"{theirs}.attn.out_proj.weight"] = state[f"{ours}.0.fn.to_out.0.weight"]
        found[f"{theirs}.mlp.c_fc"] = state[f"{ours}.1.fn.D"]
        found[f"{theirs}.mlp.c_proj"] = state[f"{ours}.1.fn.D1"]
    return found


@pytest.fixture
def state():
    return {key: 0.3 * torch.randn(shape) for key, shape in published_shapes().items()}


FORMATS = {
    "torch": ("crate_alpha_B16.pth", lambda s: s, {"heads": K}),
    "jax": ("crate_alpha_B16_in1k.npz", jax_of, {}),
    "jax without extension": ("crate_alpha_B16_IN21K", jax_of, {}),
    "clipa": ("crate_alpha_CLIPA_L14.pth", clipa_of, {"heads": K}),
}


def save(path, weights):
    if any(isinstance(value, np.ndarray) for value in weights.values()):
        with path.open("wb") as file:
            np.savez(file, **weights)
    else:
        torch.save(weights, path)
    return path


def published(state, image, *, head_eps, biases=True, eta=0.1, lam=0.1):
    """One image (3, 12, 12) in float64, written from the equations; every site of every layer."""
    w = {key: tensor.double().numpy() for key, tensor in state.items()}
    kernel = w["conv1.weight"].reshape(D, -1)
    corners = [(4 * i, 4 * j) for i in range(3) for j in range(3)]
    X = np.array([kernel @ image[:, i : i + 4, j : j + 4].reshape(-1) for i, j in corners])
    if biases:
        X = X + w["conv1.bias"]
    X = np.concatenate([w["cls_token"][0], X]) + w["pos_embedding"][0]
    sites = {}
    for i in range(LAYERS):
        t = f"transformer.layers.{i}"
        seen = {"z_in": X}
        Y = oracle.layer_norm(X, w[f"{t}.0.norm.weight"], w[f"{t}.0.norm.bias"], 1e-6)
        V = np.stack(np.split(Y @ w[f"{t}.0.fn.qkv.weight"].T, K, axis=1))
        A = oracle.softmax(V @ V.transpose(0, 2, 1) / np.sqrt(P))
        update = np.concatenate(list(A @ V), axis=1) @ w[f"{t}.0.fn.to_out.0.weight"].T
        seen |= {"attn_in": Y, "heads": V, "attn_weights": A, "attn_out": update}
        X = X + update
        Y = oracle.layer_norm(X, w[f"{t}.1.norm.weight"], w[f"{t}.1.norm.bias"], 1e-6)
        seen |= {"z_half": X, "mlp_in": Y}
        dictionary, D1 = w[f"{t}.1.fn.D"], w[f"{t}.1.fn.D1"]
        a1 = np.maximum(eta * Y @ dictionary - eta * lam, 0)
        gradient = (a1 @ dictionary.T - Y) @ dictionary
        a2 = np.maximum(a1 - eta * gradient - eta * lam, 0)
        X = X + a2 @ D1.T
        sites[i + 1] = seen | {"code": a2, "z_out": X}
    X = oracle.layer_norm(X[0], w["mlp_head.0.weight"], w["mlp_head.0.bias"], head_eps)
    return X @ w["mlp_head.1.weight"].T + (w["mlp_head.1.bias"] if biases else 0), sites


def close(got, want):
    got = got.detach().double().numpy()
    assert got.shape == want.shape
    assert np.linalg.norm(got - want) <= 1e-5 * np.linalg.norm(want)


@pytest.mark.parametrize("kind", FORMATS)
def test_each_format_loads_unnamed_and_computes_the_published_equations(tmp_path, state, kind):
    name, change, options = FORMATS[kind]
    stated = STEP | ({"head_eps": 1e-5} if kind == "torch" else {})
    model = wp.load(save(tmp_path / name, change(state)), **options, **stated)
    assert model.family.name == "crate_alpha"
    assert (model.layers, model.dims.heads, model.dims.dim_head) == (LAYERS, K, P)
    assert model.module.mlp_head[0].eps == (1e-5 if kind == "torch" else 1e-6)
    image = torch.randn(3, 12, 12)
    with wp.record(model, model.sites) as rec:
        got = model.module(image[None])
    want, sites = published(
        state,
        image.double().numpy(),
        head_eps=1e-5 if kind == "torch" else 1e-6,
        biases=kind != "clipa",
    )
    close(got[0], want)
    assert set(model.sites) == set(sites[1])
    for layer, seen in sites.items():
        for site, value in seen.items():
            close(rec[site, layer][0], value)
    assert rec["code", 1].shape == (1, TOKENS, 4 * D)
    assert (rec["code", 1] >= 0).all()
    U = model.subspaces(2)
    torch.testing.assert_close(U, state["transformer.layers.1.0.fn.qkv.weight"].view(K, P, D).mT)
    torch.testing.assert_close(model.layer(2).norm.bias, state["transformer.layers.1.0.norm.bias"])
    parts = model.layer(2).operators
    assert torch.equal(parts["D"], state["transformer.layers.1.1.fn.D"])
    assert (parts["lam"], parts["eta"]) == (0.1, 0.1)


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("crate_alpha_b16", 72.33),
        ("crate_alpha_b8", 72.34),
        ("crate_alpha_l14", 253.65),
        ("crate_alpha_l8", 253.79),
    ],
)
def test_published_sizes_have_the_published_number_of_parameters(name, millions):
    family, arch = architecture(name)
    assert family == "crate_alpha"
    with torch.device("meta"):
        model = CrateAlpha(**arch)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 2) == millions


def test_the_release_of_the_large_model_has_these_keys_and_shapes():
    _, arch = architecture("crate_alpha_l14")
    with torch.device("meta"):
        found = {key: tuple(x.shape) for key, x in CrateAlpha(**arch).state_dict().items()}
    assert found == published_shapes(1024, 24, patch=14, tokens=257, classes=1000)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("fault", ["missing", "renamed", "reshaped"])
def test_a_file_that_does_not_fit_is_refused_with_the_keys(tmp_path, state, kind, fault):
    name, change, options = FORMATS[kind]
    weights = dict(change(state))
    key = {
        "torch": "transformer.layers.1.1.fn.D1",
        "clipa": "visual.transformer.resblocks.1.mlp.c_proj",
    }.get(kind, "params/Transformer/encoderblock_1/OvercompleteISTABlock_0/D1")
    value = weights.pop(key)
    told = "1 missing: transformer.layers.1.1.fn.D1"
    if fault == "renamed":
        weights[f"{key}_"] = value
        told += rf"; 1 unexpected: {re.escape(key)}_"
    elif fault == "reshaped":
        weights[key] = value[:3]
        told = r"1 wrongly shaped: transformer.layers.1.1.fn.D1 \(3, 64\)"
    with pytest.raises(CheckpointError, match=told):
        wp.load(save(tmp_path / name, weights), **options)


def test_a_key_with_too_few_dimensions_is_refused_under_its_own_name(tmp_path, state):
    weights = jax_of(state)
    (key,) = [k for k in weights if k.endswith(f"encoderblock_1/{OUT_KERNEL}")]
    weights[key] = np.zeros(3, np.float32)
    with pytest.raises(CheckpointError, match="1 missing.*to_out.*unexpected.*out/kernel"):
        wp.load(save(tmp_path / "x.npz", weights))


@pytest.mark.parametrize("turned", [False, True], ids=["last", "first"])
def test_a_tensor_by_the_releases_name_too_is_refused(tmp_path, state, turned):
    """Of an archive nothing but its `params/` is read."""
    name, change, options = FORMATS["clipa"]
    weights = change(state)
    key = "transformer.layers.1.1.fn.D"
    more = {key: torch.ones(D, 4 * D)}
    path = save(tmp_path / name, more | weights if turned else weights | more)
    with pytest.raises(CheckpointError, match=rf"two tensors .*'{re.escape(key)}'"):
        wp.load(path, **options, **STEP)


def test_a_tower_with_three_projections_is_refused(tmp_path, state):
    weights = clipa_of(state)
    weights["visual.transformer.resblocks.1.attn.in_proj_weight"][-1, -1] += 1
    with pytest.raises(CheckpointError, match=r"resblocks\.1\.attn.*three projections that differ"):
        wp.load(save(tmp_path / "x.pth", weights), heads=K)


class TestArchives:
    def test_objects_are_never_unpickled(self, tmp_path):
        np.savez(tmp_path / "x.npz", **{"params/a": np.array([{}], dtype=object)})
        with pytest.raises(CheckpointError, match="refused.*Python objects"):
            wp.load(tmp_path / "x.npz")

    def test_bfloat16_is_read_as_jax_wrote_it(self, tmp_path):
        from whitebox_probe.checkpoints import read_state_dict

        bits = torch.tensor([[1.5, -2.0]]).bfloat16().view(torch.int16).numpy()
        np.savez(tmp_path / "x.npz", **{"params/a": bits.view("V2"), "opt/a": bits, "step": 3})
        found = read_state_dict(tmp_path / "x.npz")
        assert list(found) == ["params/a"]
        assert found["params/a"].float().tolist() == [[1.5, -2.0]]

    def test_an_archive_without_parameters_or_with_text_is_refused(self, tmp_path):
        np.savez(tmp_path / "a.npz", **{"opt/a": np.zeros(2)})
        with pytest.raises(CheckpointError, match="holds no state dict.*without parameters"):
            wp.load(tmp_path / "a.npz")
        np.savez(tmp_path / "b.npz", **{"params/a": np.array("text")})
        with pytest.raises(CheckpointError, match="not a whole checkpoint"):
            wp.load(tmp_path / "b.npz")

    def test_a_wrapper_is_refused(self, tmp_path, state):
        with pytest.raises(CheckpointError, match="no 'model'.*one state dict"):
            wp.load(save(tmp_path / "x.npz", jax_of(state)), wrapper="model")


def test_positions_are_resampled_only_when_asked_for(tmp_path, state):
    path = save(tmp_path / "x.npz", jax_of(state))
    with pytest.raises(CheckpointError, match="1 wrongly shaped: pos_embedding"):
        wp.load(path, image_size=20)
    assert wp.load(path, image_size=20, interpolate_positions=True, **STEP).dims.tokens == 26


def test_it_is_probed_and_its_code_is_sparse(tmp_path, state):
    model = wp.load(save(tmp_path / "x.pth", state), heads=K, head_eps=1e-5, **STEP)
    images = torch.randn(5, 3, 12, 12)
    dense = wp.probe(model, images, ["compression", "l0"], progress=False)
    assert (dense.curve("l0")["mean"] == 1).all()
    sparse = wp.probe(model, images, ["l0"], sites={"l0": "code"}, progress=False)
    assert (sparse.curve("l0")["mean"] < 1).all()
    with pytest.raises(SiteError, match="'mlp_hidden'.*recorded as 'code'"):
        model.tap("mlp_hidden", 1)
