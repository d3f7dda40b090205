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
