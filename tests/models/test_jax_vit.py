"""The original vision transformers' archives are read as timm reads them."""

import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer, _load_weights

import whitebox_probe as wp
from whitebox_probe._core.errors import CheckpointError

SMALL = {"img_size": 12, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2}
STATED = {"act_layer": "gelu", "norm_eps": 1e-6}
LAYER = "Transformer/encoderblock_"
ATTENTION = "MultiHeadDotProductAttention_1"


def archive(folder, name="x.npz", **changes):
    """An archive of the original code, with random numbers: d = 16, K = 2, two layers."""
    random = np.random.default_rng(0)

    def drawn(*shape):
        return random.normal(size=shape).astype(np.float32)

    held = {
        "cls": drawn(1, 1, 16),
        "embedding/kernel": drawn(4, 4, 3, 16),
        "embedding/bias": drawn(16),
        "Transformer/posembed_input/pos_embedding": drawn(1, 10, 16),
        "Transformer/encoder_norm/scale": drawn(16),
        "Transformer/encoder_norm/bias": drawn(16),
        "head/kernel": drawn(16, 5),
        "head/bias": drawn(5),
    }
    for n in range(2):
        for norm in (0, 2):
            held |= {f"{LAYER}{n}/LayerNorm_{norm}/{part}": drawn(16) for part in ("scale", "bias")}
        for third in ("query", "key", "value"):
            held[f"{LAYER}{n}/{ATTENTION}/{third}/kernel"] = drawn(16, 2, 8)
            held[f"{LAYER}{n}/{ATTENTION}/{third}/bias"] = drawn(2, 8)
        held[f"{LAYER}{n}/{ATTENTION}/out/kernel"] = drawn(2, 8, 16)
        held[f"{LAYER}{n}/{ATTENTION}/out/bias"] = drawn(16)
        held[f"{LAYER}{n}/MlpBlock_3/Dense_0/kernel"] = drawn(16, 64)
        held[f"{LAYER}{n}/MlpBlock_3/Dense_0/bias"] = drawn(64)
        held[f"{LAYER}{n}/MlpBlock_3/Dense_1/kernel"] = drawn(64, 16)
        held[f"{LAYER}{n}/MlpBlock_3/Dense_1/bias"] = drawn(16)
    held |= changes
    with (folder / name).open("wb") as file:
        np.savez(file, **{key: value for key, value in held.items() if value is not None})
    return folder / name


@pytest.mark.parametrize("name", ["x.npz", "x.pth"])
def test_it_computes_what_timms_reader_gives(tmp_path, name):
    path = archive(tmp_path, name)
    network = VisionTransformer(**SMALL, num_classes=5).eval()
    _load_weights(network, str(path))
    images = torch.randn(2, 3, 12, 12)
    arch = SMALL | STATED | {"family": "timm_vit", "num_classes": 5}
    for how in (STATED, STATED | {"heads": 2}, {"arch": arch}):
        model = wp.load(path, **how)
        assert model.dims.heads == 2  # the archive tells
        with torch.no_grad():
            assert torch.equal(model.module(images), network(images))
    with pytest.raises(CheckpointError, match="has 2 heads.*4 are asked for"):
        wp.load(path, heads=4, **STATED)
    with pytest.raises(CheckpointError, match="is of 2 heads.*has 4.*Pass num_heads=2"):
        wp.load(path, arch=arch | {"num_heads": 4})


def test_a_layer_of_its_training_is_left_out(tmp_path):
    extra = {"pre_logits/kernel": np.zeros((16, 16), "f4"), "pre_logits/bias": np.zeros(16, "f4")}
    assert wp.load(archive(tmp_path, **extra), **STATED).layers == 2


@pytest.mark.parametrize(
    ("gone", "told"),
    [
        (f"{LAYER}1/{ATTENTION}/key/kernel", "key/kernel is missing"),
        (f"{LAYER}1/LayerNorm_2/scale", "1 missing: blocks.1.norm2.weight"),
        ("embedding/kernel", "nearest to 'timm_vit'.*1 missing: embedding/kernel"),
    ],
)
def test_what_is_missing_is_named(tmp_path, gone, told):
    with pytest.raises(CheckpointError, match=told):
        wp.load(archive(tmp_path, **{gone: None}), **STATED)


FIRST, SECOND = f"{LAYER}0/{ATTENTION}", f"{LAYER}1/{ATTENTION}"
GOES = rf"where \(16, 2, 8\) goes with {FIRST}/query/kernel \(16, 2, 8\)"
WHOLE = SMALL | STATED | {"family": "timm_vit", "num_classes": 5}
MISSHAPEN = {
    "keys of other heads": (f"{SECOND}/key/kernel", (16, 4, 4), rf"\(16, 4, 4\) {GOES}"),
    "values of other heads": (f"{FIRST}/value/kernel", (16, 4, 4), rf"\(16, 4, 4\) {GOES}"),
    "a layer's queries of other heads": (f"{SECOND}/query/kernel", (16, 4, 4), GOES),
    "the first queries of other heads": (
        f"{FIRST}/query/kernel",
        (16, 4, 4),
        rf"{FIRST}/key/kernel is \(16, 2, 8\) where \(16, 4, 4\) goes.*, and 12 more",
    ),
    "outputs of other heads": (f"{SECOND}/out/kernel", (4, 4, 16), r"where \(2, 8, 16\) goes"),
    "a bias of other heads": (f"{FIRST}/query/bias", (4, 4), r"\(4, 4\) where \(2, 8\) goes"),
    "a flat bias": (f"{SECOND}/value/bias", (16,), r"\(16,\) where \(2, 8\) goes"),
    "four axes": (f"{FIRST}/key/kernel", (16, 2, 2, 4), rf"\(16, 2, 2, 4\) {GOES}"),
    "fewer rows": (f"{FIRST}/query/kernel", (8, 2, 8), r"where \(8, 2, 8\) goes"),
    "a number": (f"{FIRST}/value/kernel", (), rf"\(\) {GOES}"),
    "flat outputs": (f"{FIRST}/out/kernel", (16, 16), r"\(16, 16\) where \(2, 8, 16\) goes"),
    "an MLP's of one axis": (f"{LAYER}1/MlpBlock_3/Dense_0/kernel", (16,), "2 dimensions"),
    "an MLP's of three": (f"{LAYER}0/MlpBlock_3/Dense_1/kernel", (64, 4, 4), "2 dimensions"),
    "a head of one axis": ("head/kernel", (16,), r"head/kernel is \(16,\) where 2 dimensions"),
}


@pytest.mark.parametrize("how", [STATED, {"arch": WHOLE}], ids=["recognised", "arch"])
@pytest.mark.parametrize("kind", MISSHAPEN)
def test_one_number_of_heads_is_that_of_every_tensor(tmp_path, kind, how):
    key, shape, told = MISSHAPEN[kind]
    path = archive(tmp_path, **{key: np.ones(shape, "f4")})
    with pytest.raises(CheckpointError, match=f"not those of one vision transformer: .*{told}"):
        wp.load(path, **how)


def test_patches_of_three_axes_are_told_where_the_network_is_stated(tmp_path):
    path = archive(tmp_path, **{"embedding/kernel": np.ones((4, 12, 16), "f4")})
    with pytest.raises(CheckpointError, match="embedding/kernel is .* where 4 dimensions"):
        wp.load(path, arch=WHOLE)


GONE = {
    "the queries' biases": [f"{layer}/query/bias" for layer in (FIRST, SECOND)],
    "a layer's biases": [f"{SECOND}/{third}/bias" for third in ("query", "key", "value")],
    "a layer's queries": [f"{SECOND}/query/kernel"],
    "a layer's outputs": [f"{FIRST}/out/kernel"],
    "an MLP's kernel": [f"{LAYER}0/MlpBlock_3/Dense_0/kernel"],
}


@pytest.mark.parametrize("how", [STATED, {"arch": WHOLE}], ids=["recognised", "arch"])
@pytest.mark.parametrize("kind", GONE)
def test_a_part_that_others_have_is_missed_by_its_own_name(tmp_path, kind, how):
    path = archive(tmp_path, **dict.fromkeys(GONE[kind]))
    with pytest.raises(CheckpointError, match=f"not all of them: {GONE[kind][0]} is missing"):
        wp.load(path, **how)


def test_queries_keys_and_values_without_any_biases_are_read(tmp_path):
    thirds = ("query", "key", "value")
    gone = [f"{layer}/{third}/bias" for layer in (FIRST, SECOND) for third in thirds]
    model = wp.load(archive(tmp_path, **dict.fromkeys(gone)), **STATED)
    assert model.module.blocks[1].attn.qkv.bias is None


BESIDE = {  # the archive's own name for the same tensor, where it has one
    "cls_token": "cls",
    "norm.weight": "Transformer/encoder_norm/scale",
    "blocks.0.norm1.weight": f"{LAYER}0/LayerNorm_0/scale",
    "blocks.1.attn.qkv.bias": f"{SECOND}/query/bias",
    "head.weight": "head/kernel",
    f"{FIRST}/key/scale": None,
    f"{SECOND}/value/kernel/mean": None,
    "pre_logits/scale": None,
}


@pytest.mark.parametrize("how", [STATED, {"arch": WHOLE}], ids=["recognised", "arch"])
@pytest.mark.parametrize("turned", [False, True], ids=["last", "first"])
@pytest.mark.parametrize("name", BESIDE)
def test_what_stands_beside_the_archives_names_is_refused(tmp_path, name, turned, how):
    path = archive(tmp_path, **{name: np.ones(16, "f4")})
    if turned:
        with np.load(path) as held:
            there = {key: held[key] for key in reversed(held.files)}
        np.savez(path, **there)
    names = [BESIDE[name], name][:: -1 if turned else 1]
    told = f"are '{name}' of .* '{names[0]}' and '{names[1]}'" if BESIDE[name] else name
    with pytest.raises(CheckpointError, match=told):
        wp.load(path, **how)


@pytest.mark.parametrize("how", [STATED, {"arch": WHOLE}], ids=["recognised", "arch"])
@pytest.mark.parametrize("kind", ["u1", "i8", "?"])
@pytest.mark.parametrize("key", [f"{FIRST}/key/kernel", f"{SECOND}/query/bias"])
def test_numbers_of_another_type_are_not_joined_to_floats(tmp_path, key, kind, how):
    with np.load(archive(tmp_path)) as held:
        whole = np.ones_like(held[key]).astype(kind)
    with pytest.raises(CheckpointError, match=f"1 not of floating point: {key}"):
        wp.load(archive(tmp_path, **{key: whole}), **how)
