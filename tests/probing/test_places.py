"""Where patches and the class token are is told by the family, never guessed from counts."""

import pytest
import timm
import torch

import whitebox_probe as wp
from whitebox_probe._core.errors import ProbeError
from whitebox_probe.models.registry import families

SMALL = {"patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 2}
NAMES = ["attention_distance", "attention_class_share"]


def vit(**options):
    torch.manual_seed(0)
    module = timm.models.vision_transformer.VisionTransformer(**SMALL | options).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return wp.wrap(module)


def eva(**options):
    torch.manual_seed(0)
    return wp.wrap(timm.models.eva.Eva(**SMALL | options).eval())


def distance(model, images, rows, columns):
    with wp.record(model, "attn_weights") as rec, torch.no_grad():
        model.module(images)
    first = model.prefix_tokens
    A = rec["attn_weights", 1][..., first:, first:].double()
    place = torch.tensor([[i, j] for i in range(rows) for j in range(columns)]).double()
    return float(((A / A.sum(-1, keepdim=True)) * torch.cdist(place, place)).sum(-1).mean())


@pytest.mark.parametrize("make", [vit, eva])
@pytest.mark.parametrize("class_token", [True, False])
@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"img_size": (8, 32)}, (8, 32)),  # 2x8 patches, as many as 4x4
        ({"img_size": (32, 8)}, (32, 8)),
        ({"img_size": 16, "dynamic_img_size": True}, (8, 32)),
        ({"img_size": 16, "dynamic_img_size": True}, (16, 16)),
    ],
)
def test_a_grid_is_that_of_the_image(make, options, size, class_token):
    model = make(**options)
    images = torch.randn(2, 3, *size)
    result = wp.probe(model, images, NAMES[:1], class_token=class_token, progress=False)
    want = distance(model, images, size[0] // 4, size[1] // 4)
    assert result.curve("attention_distance")["mean"][0] == pytest.approx(want, rel=1e-5)


def test_registers_are_no_patches_without_the_class_token():
    model = vit(img_size=(8, 8), reg_tokens=11, class_token=True)  # 12 + 4 tokens are 4x4 as well
    images = torch.randn(2, 3, 8, 8)
    result = wp.probe(model, images, NAMES[:1], class_token=False, progress=False)
    want = distance(model, images, 2, 2)
    assert result.curve("attention_distance")["mean"][0] == pytest.approx(want, rel=1e-5)


def test_a_register_is_no_class_token():
    model = vit(img_size=8, reg_tokens=2, class_token=False, global_pool="avg")
    assert (model.prefix_tokens, model.class_index) == (2, None)
    with pytest.raises(ProbeError, match="no class token"):
        wp.probe(model, torch.randn(2, 3, 8, 8), NAMES[1:], progress=False)


@pytest.mark.parametrize("without", [False, [True, False]])
@pytest.mark.parametrize("ask", [NAMES[1:], wp.Request(NAMES[1]), wp.metrics.AttentionClassShare()])
def test_a_class_token_that_is_left_out_is_refused_before_any_pass(ask, without):
    model = vit(img_size=8, class_token=True)
    model.module.register_forward_pre_hook(lambda *_: pytest.fail("a pass has begun"))
    with pytest.raises(ProbeError, match="class_token=False leaves the class token out"):
        wp.probe(model, torch.randn(2, 3, 8, 8), ask, class_token=without, progress=False)


def mapped(**options):
    model = vit(img_size=(8, 32))
    taps = {"attn_weights": "blocks.{layer}.attn.attn_drop:output:B K n n"}
    for block in model.module.blocks:
        block.attn.fused_attn = False  # its maps then pass a module
    return model, wp.wrap(model.module, sites=taps, dim=16, heads=2, **options)


def test_a_mapped_model_states_its_grid_and_class_token():
    own, model = mapped(prefix_tokens=1, grid=(2, 8))
    images = torch.randn(2, 3, 8, 32)
    result = wp.probe(model, images, NAMES, progress=False)
    want = wp.probe(own, images, NAMES, progress=False)
    for name in NAMES:
        assert result.curve(name)["mean"].tolist() == pytest.approx(want.curve(name)["mean"])


def test_a_grid_that_is_not_known_is_not_guessed():
    _, model = mapped(prefix_tokens=1)
    with pytest.raises(ProbeError, match=r"places of 16 patches .*grid="):
        wp.probe(model, torch.randn(2, 3, 8, 32), NAMES[:1], progress=False)
    _, model = mapped(prefix_tokens=2, grid=(3, 5))
    assert model.class_index is None
    with pytest.raises(ProbeError, match="no class token"):
        wp.probe(model, torch.randn(2, 3, 8, 32), NAMES[1:], progress=False)


@pytest.mark.parametrize("name", [n for n in families() if n != "hf"])
def test_every_grid_has_as_many_places_as_patches(name):
    for arch in families()[name].example:
        family = families()[name]
        model, inputs = wp.wrap(family.build(arch).eval()), family.inputs(arch)
        grid, n = model.grid(inputs), model.dims.tokens
        if grid is not None:
            assert grid[0] * grid[1] == n - model.prefix_tokens
        if "attn_weights" in model.sites and inputs.is_floating_point():
            assert grid is not None
