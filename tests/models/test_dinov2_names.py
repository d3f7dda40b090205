"""Dinov2Model's weights in timm's network: the same tokens, from a file and from ONNX."""

import pytest
import torch
from safetensors.torch import load_file, save_file

import whitebox_probe as wp
from whitebox_probe import checkpoints
from whitebox_probe._core.errors import CheckpointError
from whitebox_probe.models.keys.dinov2_names import renamed

ARCH = {
    "family": "timm_vit",
    "img_size": 12,
    "patch_size": 4,
    "num_classes": 0,
    "embed_dim": 16,
    "depth": 2,
    "num_heads": 2,
    "init_values": 1.0,
    "act_layer": "gelu",
    "norm_eps": 1e-6,
}


def small_dinov2(folder, **changes):
    """A Dinov2Model, and its tensors under the names of the hub's files."""
    transformers = pytest.importorskip("transformers")
    config = transformers.Dinov2Config(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        patch_size=4,
        **({"image_size": 12} | changes),
    )
    model = transformers.Dinov2Model(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)  # under the names that the hub's files have
    return model, load_file(folder / "model.safetensors")


@pytest.mark.parametrize("image_size", [12, 20])
@pytest.mark.parametrize("prefix", ["", "backbone."])
def test_a_dinov2models_file_gives_its_own_tokens(tmp_path, image_size, prefix):
    theirs, weights = small_dinov2(tmp_path, image_size=image_size)
    weights = {prefix + key: tensor for key, tensor in weights.items()}
    if prefix:
        weights["decoder.weight"] = torch.zeros(3)
    path = tmp_path / "dinov2.safetensors"
    save_file(weights, path)
    ours = wp.load(path, arch=ARCH)
    images = torch.randn(2, 3, 12, 12)
    with torch.no_grad():
        want = theirs(images).last_hidden_state
        torch.testing.assert_close(ours.module.forward_features(images), want)


def test_a_file_with_a_part_missing_is_refused(tmp_path):
    _, weights = small_dinov2(tmp_path)
    for key in ("embeddings.position_embeddings", "encoder.layer.0.attention.attention.key.bias"):
        part = {name: tensor for name, tensor in weights.items() if name != key}
        with pytest.raises(CheckpointError, match="not all of them"):
            renamed(part, 10)


def fetched(name):
    try:
        return wp.load(name, progress=False)
    except CheckpointError as error:
        if "could not be fetched" in str(error):
            pytest.skip(str(error))
        raise


@pytest.mark.weights
def test_imgfocus_tokens_are_those_of_onnxruntime():
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    from sklearn.datasets import load_sample_images

    model = fetched("vit-small-imgfocus")
    final = "/backbone/layernorm/Add_1_output_0"
    graph = onnx.load(str(checkpoints.locate(model.entry)))
    graph.graph.output.append(onnx.helper.make_empty_tensor_value_info(final))
    session = runtime.InferenceSession(
        graph.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    images = model.prepare(list(load_sample_images().images))
    want = torch.from_numpy(session.run([final], {"input_image": images.numpy()})[0])
    with torch.no_grad():
        got = model.module.forward_features(images)
    # Measured: 3.0e-5, with tokens of up to 10.9 in size; single precision, other kernels.
    assert (got - want).abs().max() < 1e-4
