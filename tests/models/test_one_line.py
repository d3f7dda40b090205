"""What cannot be measured is told in one line, and nothing is lost by trying."""

import os
import shutil
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

import whitebox_probe as wp
from whitebox_probe._core.errors import DataError, ProbeError


def vit():
    return wp.load(
        "timm:vit_tiny_patch16_224",
        weights="random",
        depth=1,
        embed_dim=6,
        num_heads=2,
        img_size=32,
    )


def test_the_meta_device_is_refused_and_the_weights_stay():
    model = vit()
    before = {k: v.clone() for k, v in model.module.state_dict().items()}
    with pytest.raises(ProbeError, match="'meta' cannot be used.*no numbers"):
        wp.probe(model, torch.randn(2, 3, 32, 32), ["l0"], device="meta", progress=False)
    with pytest.raises(ProbeError, match="'meta' cannot be used"):
        wp.similarity(model, model, torch.randn(4, 3, 32, 32), device="meta", progress=False)
    assert all(torch.equal(before[k], v) for k, v in model.module.state_dict().items())


@pytest.mark.parametrize("name", ["timm:vit_tiny_patch16_224", "timm:eva02_tiny_patch14_224"])
@pytest.mark.parametrize("size", ["depth", "num_heads", "embed_dim", "patch_size"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_size_of_0_is_one_line(name, size):
    with pytest.raises(ProbeError) as error:
        wp.load(name, weights="random", **{size: 0})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("size", ["depth", "heads", "patch_size"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_size_of_0_of_a_family_of_this_package(size):
    with pytest.raises(ProbeError) as error:
        wp.load("crate-tiny-fmnist", weights="random", **{size: 0})
    assert "\n" not in str(error.value)


def test_no_layer_in_a_module_of_ones_own():
    module = timm.models.vision_transformer.VisionTransformer(
        img_size=8, patch_size=4, embed_dim=16, depth=0, num_heads=2
    )
    with pytest.raises(ProbeError):
        wp.wrap(module)


def test_bert_like_blocks_without_norms_behind_them_are_pre_norm():
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 40}
    config = transformers.AutoConfig.for_model("roberta-prelayernorm", **sizes)
    layer = wp.wrap(transformers.AutoModel.from_config(config).eval()).layer(1)
    assert layer.after is None
    assert layer.norm is not None


def test_a_module_without_parameters_is_measured():
    class Same(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = nn.ModuleList([nn.Identity(), nn.Identity()])

        def forward(self, x):
            return self.parts[1](self.parts[0](x))

    model = wp.wrap(Same(), sites={"z_out": "parts.{layer}:output"}, dim=16)
    assert len(wp.probe(model, torch.randn(4, 9, 16), ["l0"], progress=False).samples) == 4


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
def test_a_nested_tensor_is_refused(layout):
    data = torch.nested.nested_tensor([torch.ones(3, 4), torch.ones(2, 4)], layout=layout)
    with pytest.raises(DataError, match="nested tensor"):
        wp.probe(vit(), data, ["l0"], progress=False)


def test_a_file_whose_name_is_no_text_names_its_model_all_the_same(tmp_path):
    """A table could not keep the name, and saving ended in a traceback once all was measured."""
    path = tmp_path / os.fsdecode(b"mod\xe8le.safetensors")
    shutil.copy(Path(wp.__file__).parent / "weights" / "crate-tiny-fmnist.safetensors", path)
    for how in ({"heads": 4, "eta": 0.1, "lam": 0.1}, {"arch": "crate-tiny-fmnist"}):
        model = wp.load(path, **how)
        assert model.name == r"mod\udce8le"
        result = wp.probe(model, torch.randn(2, 1, 28, 28), ["l0"], progress=False)
        assert wp.Result.load(result.save(tmp_path / "r")) == result
