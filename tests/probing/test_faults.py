"""What fails in a forward pass is told as what it is: the window, the ids, the weights."""

import pytest
import timm
import torch

import whitebox_probe as wp
from whitebox_probe._core.errors import DataError, ProbeError


def vit():
    vision = timm.models.vision_transformer
    return vision.VisionTransformer(
        img_size=8, patch_size=4, embed_dim=16, depth=2, num_heads=2, num_classes=2
    ).eval()


def text(kind, **options):
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 40}
    sizes |= {"max_position_embeddings": 12, "bos_token_id": 0, "eos_token_id": 0}
    config = transformers.AutoConfig.for_model(kind, **sizes | options)
    return wp.wrap(transformers.AutoModel.from_config(config).eval())


def probe(model, data):
    return wp.probe(model, data, ["l0"], progress=False)


@pytest.mark.parametrize(
    ("kind", "options", "most"),
    [("gpt2", {}, 12), ("bert", {}, 12), ("roberta", {"pad_token_id": 1}, 10)],
)
def test_too_long_a_window(kind, options, most):
    model = text(kind, **options)
    assert len(probe(model, torch.randint(2, 40, (2, most))).samples) == 2
    with pytest.raises(DataError, match=rf"{most + 1} tokens, .* {most} positions"):
        probe(model, torch.randint(2, 40, (2, most + 1)))


@pytest.mark.parametrize("kind", ["gpt2", "bert", "llama"])
def test_ids_beyond_the_vocabulary(kind):
    with pytest.raises(DataError, match=r"ids go from \d+ to 40, .* vocabulary has 40"):
        probe(text(kind), torch.arange(33, 41).view(2, 4))


def test_another_precision():
    with pytest.raises(DataError, match=r"of float64, and the model's weights are of float32"):
        probe(wp.wrap(vit()), torch.randn(2, 3, 8, 8).double())


def test_weights_that_are_not_there():
    model = wp.wrap(vit().to("meta"))
    with pytest.raises(ProbeError, match=r"no weights at .*cls_token.*meta device"):
        probe(model, torch.randn(2, 3, 8, 8))


def test_a_module_that_is_compiled_in_whole_is_read_as_it_is_written():
    model, images = wp.wrap(vit()), torch.randn(2, 3, 8, 8)
    want = probe(model, images)
    model.module.compile(backend="eager")
    assert probe(model, images).frame.equals(want.frame)


def test_any_other_fault_names_the_pass():
    model = wp.wrap(vit())
    model.module.head.forward = None
    with pytest.raises(DataError, match=r"its forward pass raised TypeError: 'NoneType'"):
        probe(model, torch.randn(2, 3, 8, 8))
