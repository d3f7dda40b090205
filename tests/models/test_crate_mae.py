"""CRATE-MAE against the published equations, names and sizes, encoder and decoder."""

import numpy as np
import oracle
import pytest
import torch

import whitebox_probe as wp
from whitebox_probe._core.errors import CheckpointError, DataError, SiteError
from whitebox_probe.checkpoints import architecture
from whitebox_probe.models.families.crate_mae import CrateMAE

ARCH = {
    "image_size": 12,
    "patch_size": 4,
    "dim": 16,
    "depth": 2,
    "decoder_depth": 3,
    "heads": 4,
    "dim_head": 4,
    "lam": 0.5,
}


def small(**changes):
    torch.manual_seed(1)
    model = CrateMAE(**(ARCH | changes)).eval()
    for name, parameter in model.named_parameters():
        if name != "pos_embed":  # biases, norms and equal tables would hide faults
            parameter.data.add_(0.1 * torch.randn_like(parameter))
    return model


def published(state, image, *, heads=4, eta=0.1, lam=0.5, hidden=None):
    """One image (C, 12, 12) in float64, written from the equations; every site of every layer."""
    w = {key: tensor.double().numpy() for key, tensor in state.items()}
    sites = {}
    kernel = w["patch_embed.proj.weight"].reshape(len(w["patch_embed.proj.bias"]), -1)
    X = np.array(
        [
            kernel @ image[:, 4 * i : 4 * i + 4, 4 * j : 4 * j + 4].reshape(-1)
            for i in range(3)
            for j in range(3)
        ]
    )
    X = X + w["patch_embed.proj.bias"]
    if hidden is not None:
        X[hidden] = w["mask_token"][0, 0]
    X = np.concatenate([w["cls_token"][0], X]) + w["decoder_pos_embed"][0]

    def norm(X, name, eps=1e-5):
        return oracle.layer_norm(X, w[f"{name}.weight"], w[f"{name}.bias"], eps)

    def attend(Y, name, seen):
        projected = Y @ w[f"{name}.qkv.weight"].T
        V = np.stack(np.split(projected, heads, axis=1))
        A = oracle.softmax(V @ V.transpose(0, 2, 1) / np.sqrt(V.shape[-1]))
        seen |= {"heads": V, "attn_weights": A, "attn_in": Y}
        out = np.concatenate(list(A @ V), axis=1)
        return out @ w[f"{name}.to_out.0.weight"].T + w[f"{name}.to_out.0.bias"]

    layer = 0
    for i in range(2):
        b, layer, seen = f"blocks.{i}.layers.0", layer + 1, {"z_in": X}
        seen["attn_out"] = attend(norm(X, f"{b}.0.norm"), f"{b}.0.fn", seen)
        X = X + seen["attn_out"]
        Y, D = norm(X, f"{b}.1.norm"), w[f"{b}.1.fn.weight"]
        seen |= {"z_half": X, "mlp_in": Y}
        X = np.maximum(Y + eta * (Y @ D - Y @ D.T @ D) - eta * lam, 0)
        sites[layer] = seen | {"z_out": X}
    X = norm(X, "norm", 1e-6)
    for i in range(3):
        b, layer, seen = f"decoder_blocks.{i}.layers.0", layer + 1, {"z_in": X}
        seen["mlp_in"] = norm(X, f"{b}.0.norm")
        H = seen["mlp_in"] @ w[f"{b}.0.fn.weight"].T
        seen["attn_out"] = -attend(norm(H, f"{b}.1.norm"), f"{b}.1.fn", seen)
        X = H + seen["attn_out"]
        sites[layer] = seen | {"z_half": H, "z_out": X}
    X = norm(X, "decoder_norm", 1e-6)
    return (X @ w["decoder_pred.weight"].T + w["decoder_pred.bias"])[1:], sites


def close(got, want, tolerance=1e-5):
    got = got.detach().double().numpy()
    assert got.shape == want.shape
    assert np.linalg.norm(got - want) <= tolerance * np.linalg.norm(want)


@pytest.mark.parametrize("lam", [0.5, 5.0])
def test_outputs_and_every_site_equal_the_published_equations(lam):
    module = small(lam=lam)
    model = wp.wrap(module)
    image = torch.randn(3, 12, 12)
    with wp.record(model, model.sites) as rec:
        got = module(image[None])
    want, sites = published(module.state_dict(), image.double().numpy(), lam=lam)
    close(got[0], want)
    assert set(model.sites) == set(sites[1])
    for layer, seen in sites.items():
        for site, value in seen.items():
            close(rec[site, layer][0], value)
    assert model.layers == 5


def test_hidden_patches_are_the_mask_token_for_the_encoder_already():
    module = small()
    image = torch.randn(3, 12, 12)
    picture, mask = module.reconstruct(image[None], 0.75, torch.Generator().manual_seed(3))
    assert picture.shape == (1, 3, 12, 12)
    assert mask.shape == (1, 1, 12, 12)
    blocks = mask[0, 0].unflatten(0, (3, 4)).unflatten(-1, (3, 4)).transpose(1, 2)
    hidden = blocks.flatten(2).float().mean(-1).flatten()
    assert hidden.sum() == 7  # int(9 * 0.25) = 2 patches are seen
    want, _ = published(module.state_dict(), image.double().numpy(), hidden=hidden.bool().numpy())
    drawn = np.zeros((3, 12, 12))
    for patch, values in enumerate(want):
        i, j = divmod(patch, 3)
        drawn[:, 4 * i : 4 * i + 4, 4 * j : 4 * j + 4] = values.reshape(4, 4, 3).transpose(2, 0, 1)
    close(picture[0], drawn)
    whole, unmasked = module.reconstruct(image[None], 0.0)
    assert not unmasked.any()
    assert torch.equal(whole[0, :, :4, :4].permute(1, 2, 0).flatten(), module(image[None])[0, 0])
    with pytest.raises(DataError, match="mask_ratio is 1.0.*some must be seen"):
        module.reconstruct(image[None], 1.0)


MASKED = torch.randn(7, 3, 12, 12, generator=torch.Generator().manual_seed(5))


def test_masked_images_are_probed_and_each_has_its_own_mask():
    model = wp.wrap(small(mask_ratio=0.75), name="mae")
    hidden = model.module.draw_mask(MASKED, 0.75)
    assert hidden.sum(dim=1).tolist() == [7] * 7
    assert len(hidden.unique(dim=0)) > 3
    names = ["l0", "coding_rate"]
    result = wp.probe(model, MASKED, names, prenorm=False, batch_size=3, progress=False)
    for i, image in enumerate(MASKED):
        _, sites = published(
            model.module.state_dict(), image.double().numpy(), hidden=hidden[i].numpy()
        )
        for layer, seen in sites.items():
            want = oracle.coding_rate(seen["z_out"], eps=0.1)
            got = result.samples.loc[i, f"coding_rate@z_out:{layer}"]
            assert got == pytest.approx(want, rel=1e-5)  # of a forward pass in float32
    whole = wp.probe(wp.wrap(small(), name="mae"), MASKED, names, prenorm=False, progress=False)
    assert (whole.values("coding_rate") != result.values("coding_rate")).all()


def test_a_mask_depends_on_the_image_and_the_seed_alone():
    model = wp.wrap(small(mask_ratio=0.6), name="mae")
    results = [
        wp.probe(model, MASKED, ["l0", "coding_rate"], batch_size=size, progress=False)
        for size in (1, 4)
    ]
    values = [result.samples.to_numpy() for result in results]
    np.testing.assert_allclose(values[0], values[1], rtol=1e-5)
    turned = wp.probe(model, MASKED.flip(0), ["l0", "coding_rate"], progress=False)
    np.testing.assert_allclose(turned.samples.to_numpy()[::-1], values[0], rtol=1e-5)
    first = model.module.draw_mask(MASKED, 0.6)
    assert torch.equal(small(dim=24, mask_ratio=0.6).draw_mask(MASKED, 0.6), first)
    assert not torch.equal(small(mask_seed=1).draw_mask(MASKED, 0.6), first)
    _, shown = model.module.reconstruct(MASKED)  # the figure shows what was probed
    assert torch.equal(shown[:, 0, ::4, ::4].flatten(1), first)
    assert small().reconstruct(MASKED)[1].float().mean() == pytest.approx(7 / 9)


def test_how_much_is_hidden_is_an_argument_of_the_network(tmp_path, state):
    path = official(tmp_path, state)
    model = wp.load(path, heads=4, lam=0.5, eta=0.1, mask_ratio=0.5, name="mae")
    result = wp.probe(model, MASKED, ["l0"], limit=4, progress=False)
    assert result.run["network"]["arch"]["mask_ratio"] == 0.5
    found = wp.nulls(model, MASKED, ["l0"], kinds=["random_weights"], progress=False)
    assert found["random_weights"].run["network"]["arch"]["mask_ratio"] == 0.5
    for wrong in (1.0, -0.1):
        with pytest.raises(DataError, match=f"mask_ratio is {wrong}.*some must be seen"):
            wp.load(path, heads=4, lam=0.5, eta=0.1, mask_ratio=wrong)


def test_position_embeddings_are_the_fixed_ones():
    table = small().pos_embed[0].double().numpy()
    assert not table[0].any()
    for i, j in ((0, 2), (2, 1)):
        row = table[1 + 3 * i + j]
        for half, place in ((row[:8], j), (row[8:], i)):  # column first
            angles = place / 10000 ** (np.arange(4) / 4)
            np.testing.assert_allclose(half, [*np.sin(angles), *np.cos(angles)], atol=1e-7)


@pytest.mark.parametrize(
    ("name", "parameters"), [("crate_mae_small", 25_405_824), ("crate_mae_base", 44_638_464)]
)
def test_published_sizes_have_the_published_number_of_parameters(name, parameters):
    family, arch = architecture(name)
    assert family == "crate_mae"
    with torch.device("meta"):
        model = CrateMAE(**arch)
    assert sum(p.numel() for p in model.parameters()) == parameters


def published_shapes(d=16, layers=2, decoder_layers=3, patch=4, tokens=10):
    """Keys and shapes of a released file, written out from its code."""
    shapes = dict.fromkeys(["cls_token", "mask_token"], (1, 1, d))
    shapes |= dict.fromkeys(["pos_embed", "decoder_pos_embed"], (1, tokens, d))
    shapes |= {"patch_embed.proj.weight": (d, 3, patch, patch), "patch_embed.proj.bias": (d,)}
    for part in ("norm", "decoder_norm"):
        shapes |= {f"{part}.weight": (d,), f"{part}.bias": (d,)}
    shapes |= {"decoder_embed.weight": (d, d), "decoder_embed.bias": (d,)}
    out = 3 * patch * patch
    shapes |= {"decoder_pred.weight": (out, d), "decoder_pred.bias": (out,)}
    for blocks, count, attention, other in (
        ("blocks", layers, 0, 1),
        ("decoder_blocks", decoder_layers, 1, 0),
    ):
        for i in range(count):
            for step in (0, 1):
                norm = f"{blocks}.{i}.layers.0.{step}.norm"
                shapes |= {f"{norm}.weight": (d,), f"{norm}.bias": (d,)}
            at = f"{blocks}.{i}.layers.0.{attention}.fn"
            shapes |= {f"{at}.qkv.weight": (d, d), f"{at}.to_out.0.weight": (d, d)}
            shapes |= {f"{at}.to_out.0.bias": (d,)}
            shapes[f"{blocks}.{i}.layers.0.{other}.fn.weight"] = (d, d)
    return shapes


def official(folder, state):
    """As the release saves it, with the optimizer beside."""
    path = folder / "checkpoint-799.pth"
    torch.save({"model": state, "optimizer": {"state": {}}, "epoch": 799}, path)
    return path


@pytest.fixture
def state():
    return {key: 0.1 * torch.randn(shape) for key, shape in published_shapes().items()}


def test_an_official_file_loads_without_naming_its_architecture(tmp_path, state):
    path = official(tmp_path, {f"module.{key}": value for key, value in state.items()})
    with pytest.warns(wp.AssumedWarning, match=r"with eta=0\.1: .*Pass others with eta=\.$"):
        model = wp.load(path, heads=4, lam=5.0)
    assert (model.entry.arch["lam"], model.entry.arch["eta"]) == (5.0, 0.1)
    assert model.family.name == "crate_mae"
    assert (model.layers, model.dims.tokens, model.dims.dim_head) == (5, 10, 4)
    for key, value in model.module.state_dict().items():
        assert torch.equal(value, state[key])
    operators = model.layer(2).operators
    assert torch.equal(operators["D"], state["blocks.1.layers.0.1.fn.weight"])
    assert (operators["lam"], operators["eta"]) == (5.0, 0.1)
    assert model.layer(3).operators == {}
    for layer, key in ((1, "blocks.0.layers.0.0"), (4, "decoder_blocks.1.layers.0.1")):
        U = state[f"{key}.fn.qkv.weight"]
        assert torch.equal(model.subspaces(layer), U.view(4, 4, 16).mT)
        assert torch.equal(model.layer(layer).norm.weight, state[f"{key}.norm.weight"])


def test_lambda_and_heads_are_asked_for(tmp_path, state):
    with pytest.raises(CheckpointError, match=r"lam, heads.*Pass lam=0\.5 or 5\.0; heads="):
        wp.load(official(tmp_path, state))
    with pytest.raises(CheckpointError, match="it does not say lam"):
        wp.load(official(tmp_path, state), heads=4)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda s: s.pop("mask_token"), "1 missing: mask_token"),
        (lambda s: s.update(norm2=s.pop("norm.weight")), "missing: norm.weight.*unexpected: norm2"),
        (lambda s: s.update(cls_token=torch.zeros(1, 1, 3)), "wrongly shaped: cls_token"),
        (lambda s: s.pop("decoder_pos_embed"), "family .* is not recognised"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_with_the_keys(tmp_path, state, change, told):
    change(state)
    with pytest.raises(CheckpointError, match=told):
        wp.load(official(tmp_path, state), heads=4, lam=0.5)


def test_positions_are_resampled_only_when_asked_for(tmp_path, state):
    path = official(tmp_path, state)
    with pytest.raises(CheckpointError, match="2 wrongly shaped: pos_embed"):
        wp.load(path, heads=4, lam=0.5, image_size=20)
    model = wp.load(path, heads=4, lam=0.5, eta=0.1, image_size=20, interpolate_positions=True)
    assert model.dims.tokens == 26
    assert torch.equal(model.module.pos_embed[0, 0], state["pos_embed"][0, 0])


def test_it_is_probed():
    model = wp.wrap(small(), name="mae")
    result = wp.probe(model, torch.randn(5, 3, 12, 12), ["compression", "l0"], progress=False)
    l0 = result.curve("l0")["mean"].to_numpy()
    assert len(l0) == 5
    assert (l0[:2] < 1).all()
    assert (l0[2:] == 1).all()  # the decoder has no ReLU
    with pytest.raises(SiteError, match="'mlp_hidden'.*has a hidden activation"):
        model.tap("mlp_hidden", 1)
