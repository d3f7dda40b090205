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
            if n is None:  # images of any size are taken
                with torch.inference_mode(), wp.record(model, ["z_out"]) as rec:
                    model.module(inputs)
                n = rec["z_out", 1].shape[1]
            assert grid[0] * grid[1] == n - model.prefix_tokens
        if "attn_weights" in model.sites and inputs.is_floating_point():
            assert grid is not None


class Last(torch.nn.Module):
    """A transformer whose class token stands behind its patches, or among them."""

    def __init__(self, place, patches=12, dim=16):
        super().__init__()
        torch.manual_seed(0)
        self.place = place
        self.token = torch.nn.Parameter(torch.randn(1, 1, dim))
        self.embed = torch.nn.Linear(6, dim)
        layer = torch.nn.TransformerEncoderLayer(dim, 2, 32, batch_first=True, norm_first=True)
        self.blocks = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, x):
        x = self.embed(x)
        token = self.token.expand(len(x), -1, -1)
        x = torch.cat([x[:, : self.place], token, x[:, self.place :]], dim=1)
        return self.blocks(x)


def placed(place, **options):
    taps = {"z_out": "blocks.layers.{layer}:output"}
    return wp.wrap(
        Last(place).eval(), sites=taps, dim=16, heads=2, class_token=place, grid=(3, 4), **options
    )


def features(model, x):
    with torch.no_grad():
        first = model.module.embed(x)
        token = model.module.token.expand(len(x), -1, -1)
        at = model.module.place
        Z = torch.cat([first[:, :at], token, first[:, at:]], dim=1)
        found = []
        for layer in model.module.blocks.layers:
            Z = layer(Z)
            found.append(Z.double())
    return found


def per_sample(result, name, layer=1):
    (column,) = [
        c for c in result.samples.columns if c.startswith(f"{name}@") and c.endswith(f":{layer}")
    ]
    return result.samples[column].tolist()


@pytest.mark.parametrize("place", [0, 5, 12])
def test_a_class_token_anywhere_is_left_out_and_nothing_else(place):
    model, x = placed(place), torch.randn(3, 12, 6)
    whole = wp.probe(model, x, ["l0", "coding_rate"], eps=0.5, progress=False)
    less = wp.probe(model, x, ["coding_rate"], eps=0.5, class_token=False, progress=False)
    assert (whole.run["tokens"], less.run["tokens"]) == (13, 12)
    others = [i for i in range(13) if i != place]
    for layer, Z in enumerate(features(model, x), start=1):
        want = wp.metrics.functional.coding_rate(Z[:, others], eps=0.5).mean()
        got = less.curve("coding_rate")["mean"].iloc[layer - 1]
        assert got == pytest.approx(float(want), rel=1e-6)
        want = wp.metrics.functional.coding_rate(Z, eps=0.5).mean()
        assert whole.curve("coding_rate")["mean"].iloc[layer - 1] == pytest.approx(
            float(want), rel=1e-6
        )


@pytest.mark.parametrize("place", [0, 5, 12])
def test_masks_and_a_class_token_elsewhere(place):
    """What masks leave out does not shift where the class token is looked for."""
    model, x = placed(place), torch.randn(3, 12, 6)
    mask = torch.ones(3, 13, dtype=torch.bool)
    mask[0, 3], mask[1, 4:7], mask[2, 1] = False, False, False
    mask[:, place] = True
    data = torch.utils.data.TensorDataset(x, mask)
    less = wp.probe(model, data, ["coding_rate"], eps=0.5, class_token=False, progress=False)
    Z = features(model, x)[1]
    want = []
    for row, kept in zip(Z, mask, strict=True):
        kept = kept.clone()
        kept[place] = False
        want.append(float(wp.metrics.functional.coding_rate(row[kept][None], eps=0.5)[0]))
    assert per_sample(less, "coding_rate", 2) == pytest.approx(want)


@pytest.mark.parametrize("class_token", [True, False])
@pytest.mark.parametrize("place", [13, 40])
def test_a_class_token_that_is_not_there_is_refused(place, class_token):
    model = wp.wrap(
        Last(3).eval(),
        sites={"z_out": "blocks.layers.{layer}:output"},
        dim=16,
        heads=2,
        class_token=place,
    )
    with pytest.raises(ProbeError, match=f"token {place} is not there.*13 tokens"):
        wp.probe(model, torch.randn(3, 12, 6), ["l0"], class_token=class_token, progress=False)


@pytest.mark.parametrize("place", [-1, -13])
def test_a_class_token_is_counted_from_the_first(place):
    with pytest.raises(ProbeError, match=f"class_token is {place}: .*counted from 0"):
        placed(place)


def test_a_place_that_the_example_lacks_is_told_at_once():
    with pytest.raises(ProbeError, match="token 40 is not there"):
        wp.wrap(
            Last(3).eval(),
            sites={"z_out": "blocks.layers.{layer}:output"},
            dim=16,
            heads=2,
            class_token=40,
            example=torch.randn(1, 12, 6),
        )


def test_patches_around_a_class_token_have_their_places():
    taps = {"attn_weights": "blocks.{layer}:output:B K n n"}

    class Maps(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = torch.nn.ModuleList([torch.nn.Identity()])

        def forward(self, x):
            return self.blocks[0](x)

    A = torch.rand(2, 2, 13, 13).softmax(dim=-1)
    order = [*range(5), *range(6, 13)]
    first = A[:, :, [5, *order]][..., [5, *order]]  # the same, the class token in front
    sizes = {"sites": taps, "dim": 4, "heads": 2, "grid": (3, 4)}
    among = wp.probe(wp.wrap(Maps(), class_token=5, **sizes), A, NAMES, progress=False)
    front = wp.probe(wp.wrap(Maps(), prefix_tokens=1, **sizes), first, NAMES, progress=False)
    for name in NAMES:
        assert per_sample(among, name) == pytest.approx(per_sample(front, name))
    for name, measure in {
        "attention_distance": wp.metrics.functional.attention_distance,
    }.items():
        want = measure(first, prefix=1, grid=(3, 4)).mean(dim=1)
        assert per_sample(among, name) == pytest.approx(want.tolist())


@pytest.mark.parametrize(
    "other", [{"class_token": 0}, {"class_token": None}, {"grid": (4, 3)}, {"causal": True}]
)
def test_a_pass_does_not_go_on_with_other_places(tmp_path, other):
    stated = {"sites": {"z_out": "blocks.layers.{layer}:output"}, "dim": 16, "heads": 2}
    stated |= {"class_token": 12, "grid": (3, 4)}
    options = {"batch_size": 2, "progress": False, "checkpoint": tmp_path, "save_every": 0.0}
    x = torch.arange(4 * 12 * 6).reshape(4, 12, 6) / 288
    for _ in range(2):
        wp.probe(wp.wrap(Last(12).eval(), **stated), x, ["l0"], **options)
    with pytest.raises(ProbeError, match="places of tokens|stated of the module"):
        wp.probe(wp.wrap(Last(12).eval(), **stated | other), x, ["l0"], **options)
