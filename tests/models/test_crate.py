"""CRATE against the published equations, shapes and names."""

import numpy as np
import oracle
import pytest
import torch

import whitebox_probe as wp
from tests.conftest import STEP, small_crate
from whitebox_probe._core.errors import BasisError, CheckpointError, ProbeError, SiteError
from whitebox_probe.checkpoints import architecture
from whitebox_probe.models.families.crate import CRATE

VARIANTS = [
    {},
    {"dim_head": 8, "heads": 2},
    {"heads": 1, "dim_head": 16},  # the release leaves out the output map here
    {"heads": 1, "dim_head": 5},
    {"channels": 1, "depth": 1, "image_size": 8, "patch_size": 2},
    {"eta": 0.3, "lam": 0.7},
]


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_outputs_equal_the_published_equations(changes, dtype, rtol):
    model = small_crate(**changes).to(dtype)
    state = {key: value.numpy() for key, value in model.state_dict().items()}
    channels, size = changes.get("channels", 3), changes.get("image_size", 12)
    image = torch.randn(channels, size, size, dtype=dtype)
    got = model(image[None])[0].detach().numpy()
    want = oracle.crate(
        state,
        image.double().numpy(),
        patch=changes.get("patch_size", 4),
        heads=changes.get("heads", 2),
        eta=changes.get("eta", 0.1),
        lam=changes.get("lam", 0.1),
    )
    assert np.linalg.norm(got - want) <= rtol * np.linalg.norm(want)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("crate_tiny", 6_090_856),
        ("crate_small", 13_116_328),
        ("crate_base", 22_796_008),
        ("crate_large", 77_641_192),
        ("crate_small_patch8", 14_118_482),
        ("crate_base_patch8", 38_831_570),
    ],
)
def test_published_sizes_have_the_published_number_of_parameters(name, parameters):
    _, arch = architecture(name)
    with torch.device("meta"):
        model = CRATE(**arch)
    assert sum(p.numel() for p in model.parameters()) == parameters


def published_shapes(dim=576, depth=12, patch_dim=768, patches=196, classes=1000):
    """Keys and shapes of the released CRATE-small, written out from its code."""
    shapes = {
        "to_patch_embedding.1.weight": (patch_dim,),
        "to_patch_embedding.1.bias": (patch_dim,),
        "to_patch_embedding.2.weight": (dim, patch_dim),
        "to_patch_embedding.2.bias": (dim,),
        "to_patch_embedding.3.weight": (dim,),
        "to_patch_embedding.3.bias": (dim,),
        "pos_embedding": (1, patches + 1, dim),
        "cls_token": (1, 1, dim),
        "mlp_head.0.weight": (dim,),
        "mlp_head.0.bias": (dim,),
        "mlp_head.1.weight": (classes, dim),
        "mlp_head.1.bias": (classes,),
    }
    for i in range(depth):
        layer = f"transformer.layers.{i}"
        for part in (
            "0.norm.weight",
            "0.norm.bias",
            "0.fn.to_out.0.bias",
            "1.norm.weight",
            "1.norm.bias",
        ):
            shapes[f"{layer}.{part}"] = (dim,)
        for part in ("0.fn.qkv.weight", "0.fn.to_out.0.weight", "1.fn.weight"):
            shapes[f"{layer}.{part}"] = (dim, dim)
    return shapes


def test_an_official_training_checkpoint_loads(tmp_path):
    state = {f"module.{k}": torch.randn(s) * 0.02 for k, s in published_shapes().items()}
    file = tmp_path / "model_best.pth.tar"
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(3))])
    torch.save(
        {
            "epoch": 150,
            "arch": "CRATE_small",
            "state_dict": state,
            "best_acc1": torch.tensor(69.2),
            "optimizer": optimizer.state_dict(),
            "scheduler": {"last_epoch": 150},
        },
        file,
    )
    model = wp.load(file, arch="crate_small")
    assert model.layers == 12
    assert model.preprocess is None or model.preprocess.size == 224
    for key, tensor in model.module.state_dict().items():
        assert torch.equal(tensor, state[f"module.{key}"])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda s: s.pop("cls_token"), "1 missing: cls_token"),
        (lambda s: s.update(extra=torch.zeros(2)), "1 unexpected: extra"),
        (
            lambda s: s.update(cls_token=torch.zeros(1, 1, 3)),
            r"wrongly shaped: cls_token \(1, 1, 3\)",
        ),
    ],
)
def test_a_state_dict_that_does_not_fit_is_refused_with_the_keys(tmp_path, change, told):
    model = small_crate()
    state = model.state_dict()
    change(state)
    torch.save(state, tmp_path / "x.pt")
    arch = {
        "family": "crate",
        "image_size": 12,
        "patch_size": 4,
        "channels": 3,
        "classes": 5,
        "dim": 16,
        "depth": 3,
        "heads": 2,
        "dim_head": 6,
    }
    with pytest.raises(CheckpointError, match=told):
        wp.load(tmp_path / "x.pt", arch=arch)


def demo_state():
    """The format of the segmentation demo: `head` on top of `mlp_head`, which is square."""
    shapes = published_shapes(dim=16, depth=2, patch_dim=48, patches=9, classes=16)
    shapes |= {"head.weight": (21, 16), "head.bias": (21,)}
    return {key: torch.randn(shape) * 0.2 for key, shape in shapes.items()}


def test_the_segmentation_demo_loads_with_its_second_head(tmp_path):
    state = demo_state()
    torch.save({"model": state}, tmp_path / "crate-demo.pth")
    model = wp.load(tmp_path / "crate-demo.pth", heads=2, **STEP)
    assert torch.equal(model.module.head.weight, state["head.weight"])
    image = torch.randn(3, 12, 12)
    want = oracle.crate(
        {key: value.numpy() for key, value in state.items()},
        image.double().numpy(),
        patch=4,
        heads=2,
    )
    got = model.module(image[None])[0].numpy()
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)  # the second head takes no part
    del state["head.bias"]
    torch.save({"model": state}, tmp_path / "crate-demo.pth")
    with pytest.raises(CheckpointError, match="1 missing: head.bias"):
        wp.load(tmp_path / "crate-demo.pth", heads=2)


def bicubic(row, count):
    """A row of samples at `count` places: Keys' cubic with a = -0.75, pixel centres, clamped."""
    out = []
    for i in range(count):
        x = (i + 0.5) * len(row) / count - 0.5
        total = 0.0
        for j in range(int(np.floor(x)) - 1, int(np.floor(x)) + 3):
            t = abs(x - j)
            near = 1.25 * t**3 - 2.25 * t**2 + 1
            far = -0.75 * (t**3 - 5 * t**2 + 8 * t - 4)
            total = total + (near if t <= 1 else far) * row[min(max(j, 0), len(row) - 1)]
        out.append(total)
    return np.array(out)


@pytest.mark.parametrize("side", [2, 5])
def test_positions_are_resampled_only_when_asked_for_and_by_the_stated_rule(tmp_path, side):
    state = demo_state()
    torch.save({"model": state}, tmp_path / "x.pth")
    options = {"heads": 2, "image_size": 4 * side} | STEP
    with pytest.raises(CheckpointError, match=r"1 wrongly shaped: pos_embedding \(1, 10, 16\)"):
        wp.load(tmp_path / "x.pth", **options)
    model = wp.load(tmp_path / "x.pth", interpolate_positions=True, **options)
    got = model.module.pos_embedding[0]
    assert torch.equal(got[0], state["pos_embedding"][0, 0])
    grid = state["pos_embedding"][0, 1:].double().numpy().reshape(3, 3, 16)
    rows = bicubic(grid, side)
    want = np.stack([bicubic(row, side) for row in rows])
    np.testing.assert_allclose(got[1:].numpy(), want.reshape(-1, 16), atol=1e-5)
    same = wp.load(tmp_path / "x.pth", heads=2, interpolate_positions=True, **STEP)
    assert torch.equal(same.module.pos_embedding, state["pos_embedding"])


def test_positions_that_are_no_square_grid_are_not_resampled(tmp_path):
    state = demo_state() | {"pos_embedding": torch.randn(1, 9, 16)}
    torch.save({"model": state}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="8 position embeddings cannot.*square"):
        wp.load(tmp_path / "x.pth", heads=2, interpolate_positions=True, image_size=12)


def test_the_native_basis_is_the_projection_of_the_normalised_tokens(crate):
    images = torch.randn(2, 3, 12, 12)
    with wp.record(crate, crate.sites) as rec:
        crate.module(images)
    for layer in (1, 2, 3):
        U = crate.subspaces(layer)
        assert U.shape == (2, 16, 6)
        projected = rec["attn_in", layer].unsqueeze(1) @ U
        torch.testing.assert_close(rec["heads", layer], projected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(
            rec["z_in", layer] + rec["attn_out", layer], rec["z_half", layer]
        )
        block = crate.module.transformer.layers[layer - 1]
        torch.testing.assert_close(rec["mlp_in", layer], block[1].norm(rec["z_half", layer]))
        torch.testing.assert_close(rec["z_out", layer], block[1](rec["z_half", layer]))
        assert (rec["z_out", layer] >= 0).all()
        A = rec["attn_weights", layer]
        torch.testing.assert_close(A.sum(-1), torch.ones(2, 2, 10))
        V = rec["heads", layer]
        out = (A @ V).transpose(1, 2).flatten(2)
        torch.testing.assert_close(block[0].fn.to_out(out), rec["attn_out", layer])
    torch.testing.assert_close(rec["z_out", 1], rec["z_in", 2])


def test_sites_and_bases_that_a_crate_lacks_are_named_with_those_it_has(crate):
    with pytest.raises(SiteError, match="ISTA block has no hidden activation.*Use one of: .*z_in"):
        crate.tap("mlp_hidden", 1)
    with pytest.raises(SiteError, match="recorded as 'heads'"):
        crate.tap("heads_q", 1)
    with pytest.raises(SiteError, match="Did you mean 'z_out'"):
        crate.tap("z_oot", 1)
    with pytest.raises(SiteError, match="layers count|3 layers.*from 1 to 3"):
        crate.tap("z_out", 0)
    with pytest.raises(BasisError, match="basis 'qkv:k'.*native"):
        crate.subspaces(1, "qkv:k")


def test_random_weights_are_seeded_and_leave_the_global_state_alone():
    before = torch.random.get_rng_state()
    a, b = (wp.load("crate-tiny-fmnist", weights="random", seed=3) for _ in range(2))
    c = wp.load("crate-tiny-fmnist", weights="random", seed=4)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(a.module.cls_token, b.module.cls_token)
    assert not torch.equal(a.module.cls_token, c.module.cls_token)
    assert a.name == "crate-tiny-fmnist-random"


class TestLoadErrors:
    def test_a_file_without_architecture(self, tmp_path):
        torch.save(small_crate().state_dict(), tmp_path / "x.pt")
        with pytest.raises(CheckpointError, match=r"architecture is known.*heads=.*arch="):
            wp.load(tmp_path / "x.pt")

    def test_a_missing_file(self):
        with pytest.raises(CheckpointError, match=r"no file .*nowhere\.pt"):
            wp.load("nowhere.pt", arch="crate_small")

    def test_an_unknown_architecture(self, tmp_path):
        (tmp_path / "x.pt").write_bytes(b"x")
        with pytest.raises(ProbeError, match="crate_smal.*Did you mean 'crate_small'"):
            wp.load(tmp_path / "x.pt", arch="crate_smal")

    def test_an_architecture_without_family(self, tmp_path):
        (tmp_path / "x.pt").write_bytes(b"x")
        with pytest.raises(CheckpointError, match="no 'family'"):
            wp.load(tmp_path / "x.pt", arch={"dim": 4})

    def test_an_unknown_argument(self, tmp_path):
        (tmp_path / "x.pt").write_bytes(b"x")
        with pytest.raises(CheckpointError, match="cannot be built.*width"):
            wp.load(tmp_path / "x.pt", arch={"family": "crate", "width": 4})

    def test_an_unknown_timm_model(self):
        with pytest.raises(ProbeError, match="timm has no model 'vit_smal'"):
            wp.load("timm:vit_smal", weights="random")

    def test_the_wrong_architecture_for_a_file(self, tmp_path):
        torch.save(small_crate().state_dict(), tmp_path / "x.pt")
        with pytest.raises(CheckpointError, match="does not fit the architecture: 72 missing"):
            wp.load(tmp_path / "x.pt", arch="crate_tiny")
