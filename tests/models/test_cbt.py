"""CBT against the equations of its release, one head and token at a time; its names and sizes."""

import math

import numpy as np
import oracle
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import whitebox_probe as wp
from tests.conftest import STEP
from whitebox_probe._core.errors import CheckpointError, ProbeError, SiteError
from whitebox_probe.checkpoints import architecture
from whitebox_probe.models.families.cbt import CBT
from whitebox_probe.models.registry import build

SIZES = {"image_size": 20, "patch_size": 4, "classes": 5, "dim": 16, "depth": 3, "heads": 2}
SITES = ("z_in", "attn_in", "heads", "attn_out", "z_half", "mlp_in", "z_out")


def published_shapes(dim=16, heads=2, depth=3, halved=2, patches=25, classes=5):
    """Keys and shapes of a file, as the release's code writes them."""
    widths = [3, *(dim // 2**k for k in reversed(range(halved)))]
    shapes = {"pos_embedding": (1, patches + 1, dim), "cls_token": (1, 1, dim)}
    for i in range(halved):
        step = f"to_patch_embedding.proj.{2 * i}"
        shapes[f"{step}.0.weight"] = (widths[i + 1], widths[i], 3, 3)
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{step}.1.{part}"] = (widths[i + 1],)
        shapes[f"{step}.1.num_batches_tracked"] = ()
    for layer in (f"transformer.layers.{i}" for i in range(depth)):
        for part in ("0.norm.weight", "0.norm.bias", "1.norm.weight", "1.norm.bias"):
            shapes[f"{layer}.{part}"] = (dim,)
        for part in ("0.fn.proj.weight", "0.fn.to_out.weight", "1.fn.weight"):
            shapes[f"{layer}.{part}"] = (dim, dim)
        shapes[f"{layer}.0.fn.to_out.bias"] = (dim,)
        shapes[f"{layer}.0.fn.step_x"] = shapes[f"{layer}.0.fn.step_rep"] = (heads, 1, 1)
    shapes |= {"mlp_head.0.weight": (dim,), "mlp_head.0.bias": (dim,)}
    return shapes | {"mlp_head.1.weight": (classes, dim), "mlp_head.1.bias": (classes,)}


@pytest.fixture
def state():
    found = {key: 0.4 * torch.randn(shape) for key, shape in published_shapes().items()}
    for key in found:
        if key.endswith("running_var"):
            found[key] = found[key].abs() + 0.5
        if key.endswith("num_batches_tracked"):
            found[key] = torch.tensor(100)
    return found


def official(folder, state, **also):
    path = folder / "cbt_small_best.pth.tar"
    held = {"epoch": 150, "arch": "Ours_small", "best_acc1": torch.tensor(71.4), "scheduler": {}}
    held["state_dict"] = {f"module.{key}": value for key, value in state.items()}
    torch.save(held | also, path)
    return path


def embedded(state, image):
    """The tokens of one image before the class token and the positions, (N, d)."""
    x = image[None].double()
    s = {key: tensor.double() for key, tensor in state.items()}
    for i in (0, 2):
        e = f"to_patch_embedding.proj.{i}"
        x = F.conv2d(x, s[f"{e}.0.weight"], stride=2, padding=1)
        centred = x - s[f"{e}.1.running_mean"][:, None, None]
        x = centred / (s[f"{e}.1.running_var"] + 1e-5).sqrt()[:, None, None]
        x = x * s[f"{e}.1.weight"][:, None, None] + s[f"{e}.1.bias"][:, None, None]
        if i == 0:
            x = x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))
    return x[0].flatten(1).T.numpy()


def pooled(tokens, side):
    """Averages of 8 x 8 parts of a grid of tokens (side^2, p), which overlap where they must."""
    means = []
    for row in range(8):
        for column in range(8):
            rows = range(row * side // 8, -(-(row + 1) * side // 8))
            columns = range(column * side // 8, -(-(column + 1) * side // 8))
            means.append(np.mean([tokens[r * side + c] for r in rows for c in columns], axis=0))
    return np.array(means)


def published(state, image, *, heads=2, eta=0.1, lam=0.1):
    """The logits of one image (C, H, W), and every site of each layer."""
    w = {key: tensor.double().numpy() for key, tensor in state.items()}
    X = np.concatenate([w["cls_token"][0], embedded(state, image)]) + w["pos_embedding"][0]
    side, sites, layer = math.isqrt(len(X) - 1), {}, 0
    while f"transformer.layers.{layer}.1.fn.weight" in w:
        t = f"transformer.layers.{layer}"
        seen = {"z_in": X}
        Y = oracle.layer_norm(X, w[f"{t}.0.norm.weight"], w[f"{t}.0.norm.bias"])
        W = np.stack(np.split(Y @ w[f"{t}.0.fn.proj.weight"].T, heads, axis=1))
        out = []
        for k in range(heads):
            p = W.shape[2]
            R = pooled(W[k][:-1], side)  # all tokens but the last, and the class token is the first
            A = oracle.softmax(R @ W[k].T / math.sqrt(p))
            R = R + w[f"{t}.0.fn.step_rep"][k, 0, 0] * (A @ W[k])
            contracted = oracle.softmax(R @ R.T / math.sqrt(p)) @ R
            update = np.zeros_like(W[k])
            for token in range(len(X)):
                update[token] = sum(A[r, token] * contracted[r] for r in range(64))
            out.append(w[f"{t}.0.fn.step_x"][k, 0, 0] * update)
        update = np.concatenate(out, axis=1) @ w[f"{t}.0.fn.to_out.weight"].T
        update = update + w[f"{t}.0.fn.to_out.bias"]
        seen |= {"attn_in": Y, "heads": W, "attn_out": update}
        X = X + update
        Y = oracle.layer_norm(X, w[f"{t}.1.norm.weight"], w[f"{t}.1.norm.bias"])
        seen |= {"z_half": X, "mlp_in": Y}
        D = w[f"{t}.1.fn.weight"]
        X = np.maximum(Y + eta * (Y @ D - Y @ D.T @ D) - eta * lam, 0)
        layer += 1
        sites[layer] = seen | {"z_out": X}
    head = oracle.layer_norm(X[0], w["mlp_head.0.weight"], w["mlp_head.0.bias"])
    return head @ w["mlp_head.1.weight"].T + w["mlp_head.1.bias"], sites


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_an_official_file_computes_the_released_equations(tmp_path, state, dtype, rtol):
    model = wp.load(official(tmp_path, state), **STEP)
    assert (model.family.name, model.layers, model.dims.heads) == ("cbt", 3, 2)
    assert (model.prefix_tokens, model.grid(torch.zeros(1, 3, 20, 20))) == (1, (5, 5))
    model.module.to(dtype)
    image = torch.randn(3, 20, 20, dtype=dtype)
    with torch.inference_mode(), wp.record(model, model.sites) as rec:
        got = model.module(image[None])[0]
    want, sites = published(state, image)
    np.testing.assert_allclose(got.double(), want, rtol=rtol, atol=rtol * abs(want).max())
    assert set(model.sites) == set(SITES) == set(sites[1])
    for layer, seen in sites.items():
        for site, value in seen.items():
            found = rec[site, layer][0].double().numpy()
            assert np.linalg.norm(found - value) <= rtol * np.linalg.norm(value), (site, layer)
        U = model.subspaces(layer)
        weight = state[f"transformer.layers.{layer - 1}.0.fn.proj.weight"]
        assert torch.equal(U, weight.to(dtype).view(2, 8, 16).mT)
    operators = model.layer(2).operators
    assert torch.equal(operators["D"].float(), state["transformer.layers.1.1.fn.weight"])


def test_sites_without_meaning_say_why(tmp_path, state):
    model = wp.load(official(tmp_path, state), **STEP)
    with pytest.raises(SiteError, match=r"'attn_weights'.*attend to representatives"):
        model.tap("attn_weights", 1)
    with pytest.raises(SiteError, match="'heads_q'.*one projection"):
        model.tap("heads_q", 1)


@pytest.mark.parametrize(
    ("name", "millions"),
    [("cbt_tiny", 1.8), ("cbt_small", 6.7), ("cbt_base", 25.7), ("cbt_large", 83.1)],
)
def test_published_sizes_have_the_published_number_of_parameters(name, millions):
    family, arch = architecture(name)
    assert family == "cbt"
    with torch.device("meta"):
        model = CBT(**arch)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 1) == millions


def test_the_published_network_has_these_keys_and_shapes():
    _, arch = architecture("cbt_small")
    with torch.device("meta"):
        found = {key: tuple(x.shape) for key, x in CBT(**arch).state_dict().items()}
    assert found == published_shapes(384, 6, 12, 4, 196, 1000)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda s: s.pop("cls_token"), "1 missing: cls_token"),
        (lambda s: s.update(extra=torch.zeros(2)), "1 unexpected: extra"),
        (lambda s: s.pop("transformer.layers.0.0.fn.step_rep"), "nearest to 'cbt'.*step_rep"),
        (lambda s: s.update(pos_embedding=torch.zeros(1, 21, 16)), "not recognised.*'cbt'"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_with_the_keys(tmp_path, state, change, told):
    change(state)
    with pytest.raises(CheckpointError, match=told):
        wp.load(official(tmp_path, state), **STEP)


@pytest.mark.parametrize("size", [[20, 24], 22])
def test_an_image_that_is_not_square_or_no_whole_number_of_patches_is_refused(size):
    with pytest.raises(CheckpointError, match="is not square|no multiple|Give a whole number"):
        build("cbt", SIZES | {"image_size": size}, source="a test")


def test_positions_are_resampled_where_it_is_asked_for(tmp_path, state):
    path = official(tmp_path, state)
    with pytest.raises(CheckpointError, match="pos_embedding"):
        wp.load(path, image_size=32, **STEP)
    model = wp.load(path, image_size=32, interpolate_positions="crate", **STEP)
    assert model.dims.tokens == 65
    result = wp.probe(model, torch.randn(2, 3, 32, 32), ["compression", "l0"], progress=False)
    assert result.run["tokens"] == 65


class Attention(nn.Module):
    """With the parts of the release's CBSA, and its two softmaxes in one place."""

    def __init__(self, dim, heads):
        super().__init__()
        self.heads, self.dim_head, self.scale = heads, dim // heads, (dim // heads) ** -0.5
        self.attend = nn.Softmax(dim=-1)
        self.proj = nn.Linear(dim, dim, bias=False)
        self.step_x = nn.Parameter(torch.randn(heads, 1, 1))
        self.step_rep = nn.Parameter(torch.randn(heads, 1, 1))
        self.to_out = nn.Linear(dim, dim)
        self.pool, self.qkv = nn.AdaptiveAvgPool2d((8, 8)), nn.Identity()

    def forward(self, x):
        side = math.isqrt(x.shape[1])
        w = self.qkv(self.proj(x))
        grid = w[:, :-1].unflatten(1, (side, side)).permute(0, 3, 1, 2)
        rep = self.pool(grid).flatten(2).permute(0, 2, 1)
        w, rep = (y.unflatten(-1, (self.heads, -1)).transpose(1, 2) for y in (w, rep))
        first = self.attend(rep @ w.mT * self.scale)
        rep = rep + self.step_rep * (first @ w)
        delta = self.attend(rep @ rep.mT * self.scale) @ rep
        delta = self.step_x * (first.mT @ delta)
        return self.to_out(delta.transpose(1, 2).flatten(2))


class Step(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.norm, self.fn = nn.LayerNorm(16), inner

    def forward(self, x):
        return self.fn(self.norm(x))


class Sparse(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(16, 16) * 0.2)
        self.step_size, self.lambd = 0.1, 0.1

    def forward(self, x):
        back = self.weight.t()
        update = F.linear(x, back) - F.linear(F.linear(x, self.weight), back)
        return F.relu(x + self.step_size * update - self.step_size * self.lambd)


class Stack(nn.Module):
    def __init__(self):
        super().__init__()
        pairs = [nn.ModuleList([Step(Attention(16, 2)), Step(Sparse())]) for _ in range(3)]
        self.layers = nn.ModuleList(pairs)

    def forward(self, x):
        for attention, step in self.layers:
            x = step(attention(x) + x)
        return x


class VisionTransformer(nn.Module):
    """With the structure of the release's network."""

    def __init__(self):
        super().__init__()
        own = build("cbt", SIZES, source="a test")
        self.to_patch_embedding, self.mlp_head = own.to_patch_embedding, own.mlp_head
        self.pos_embedding, self.cls_token = own.pos_embedding, own.cls_token
        self.transformer = Stack()

    def forward(self, img):
        x = self.to_patch_embedding(img).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embedding
        return self.mlp_head(self.transformer(x)[:, 0])


def test_a_module_of_the_official_code_reads_as_the_networks_own():
    theirs = VisionTransformer().double().eval()
    ours = build("cbt", SIZES, source="a test").double()
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 3, 20, 20, dtype=torch.float64)
    seen, known = wp.wrap(theirs, name="one"), wp.wrap(ours, name="one")
    assert seen.family.name == "cbt"
    assert (seen.dims, seen.sites, seen.prefix_tokens) == (known.dims, known.sites, 1)
    with torch.inference_mode():
        with wp.record(seen, seen.sites) as got:
            theirs(images)
        with wp.record(known, known.sites) as want:
            ours(images)
    for layer in (1, 2, 3):
        assert torch.equal(seen.subspaces(layer), known.subspaces(layer))
        for site in seen.sites:
            torch.testing.assert_close(got[site, layer], want[site, layer], rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("part", ["scale", "step", "projection"])
def test_an_official_module_that_computes_something_else_is_refused(part):
    theirs = VisionTransformer().double().eval()
    attention, step = (theirs.transformer.layers[1][i].fn for i in (0, 1))
    if part == "scale":
        attention.scale = 1.0
    elif part == "step":
        step.forward = lambda x: F.relu(Sparse.forward(step, x) + 0.1)
    else:
        attention.pool = nn.AdaptiveAvgPool2d((4, 4))
    with pytest.raises((SiteError, ProbeError), match="layer 2 of VisionTransformer"):
        wp.wrap(theirs)


def test_it_is_probed_and_judged():
    model = wp.wrap(build("cbt", SIZES, source="a test"), name="cbt")
    images = torch.randn(6, 3, 20, 20)
    result = wp.probe(model, images, ["compression", "l0", "coherence"], progress=False)
    assert len(result.curve("compression")) == 3
    audit = wp.audit([model], images, draws=2, progress=False)
    verdicts = audit.frame.set_index("claim")["verdict"]
    assert verdicts["ista_descends"] != "not applicable"
    assert verdicts["attention_descends"] != "not applicable"
