"""Dinov2Model's weights in timm's network: the same tokens, from a file and from ONNX."""

import pytest
import torch
from safetensors.torch import load_file, save_file

import whitebox_probe as wp
from whitebox_probe import checkpoints
from whitebox_probe._core.errors import CheckpointError, LoadWarning
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


LAYER = "encoder.layer.0."
QUERY = f"{LAYER}attention.attention.query.weight"
STATED = {"heads": 2, "act_layer": "gelu", "norm_eps": 1e-6}
BESIDE = {  # timm's name for a tensor -> Dinov2Model's
    "cls_token": "embeddings.cls_token",
    "pos_embed": "embeddings.position_embeddings",
    "patch_embed.proj.bias": "embeddings.patch_embeddings.projection.bias",
    "norm.weight": "layernorm.weight",
    "blocks.0.norm1.weight": f"{LAYER}norm1.weight",
    "blocks.0.ls1.gamma": f"{LAYER}layer_scale1.lambda1",
    "blocks.0.attn.proj.weight": f"{LAYER}attention.output.dense.weight",
    "blocks.0.attn.qkv.weight": QUERY,
}


def refused(tmp_path, weights, told):
    """By what is written in the arguments, and by what is recognised."""
    path = tmp_path / "dinov2.pth"
    torch.save(weights, path)
    for how in ({"arch": ARCH}, STATED):
        with pytest.raises(CheckpointError, match=told) as refusal:
            wp.load(path, **how)
        assert len(str(refusal.value)) < 500
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("turned", [False, True], ids=["last", "first"])
@pytest.mark.parametrize("name", BESIDE)
def test_a_tensor_by_both_names_is_refused(tmp_path, name, turned):
    _, weights = small_dinov2(tmp_path)
    names, more = [BESIDE[name], name], {name: torch.ones_like(weights[BESIDE[name]])}
    if turned and name.startswith(("norm", "patch", "blocks.0.n", "blocks.0.l", "blocks.0.attn.p")):
        names.reverse()  # the others are read before the rest
    weights = more | weights if turned else weights | more
    told = f"two tensors .*'{name}' of .*calls them '{names[0]}' and '{names[1]}'"
    refused(tmp_path, weights, told)


@pytest.mark.parametrize("kind", [torch.uint8, torch.int64, torch.bool, torch.float8_e4m3fn])
@pytest.mark.parametrize("key", [QUERY, QUERY.replace("query.weight", "value.bias")])
def test_numbers_of_another_type_are_not_joined_to_floats(tmp_path, key, kind):
    _, weights = small_dinov2(tmp_path)
    told = "of a type that no network|Promotion for Float8"
    refused(tmp_path, weights | {key: torch.ones(weights[key].shape).to(kind)}, told)


@pytest.mark.parametrize("shape", [(-1,), (1, 16, 16), ()], ids=["flat", "deep", "scalar"])
@pytest.mark.parametrize("third", ["query", "key", "value"])
def test_thirds_that_cannot_be_joined_are_refused(tmp_path, third, shape):
    _, weights = small_dinov2(tmp_path)
    key = QUERY.replace("query", third)
    changed = weights[key].reshape(shape) if shape else torch.tensor(1.0)
    told = (
        "do not fit together|has the keys of 'timm_vit', and not its shapes|1 wrongly shaped: enc"
    )
    refused(tmp_path, weights | {key: changed}, told)


def test_what_stands_beside_its_backbone_is_told(tmp_path):
    _, weights = small_dinov2(tmp_path)
    held = {f"backbone.{key}": tensor for key, tensor in weights.items()}
    save_file(held | {"decoder.weight": torch.ones(2)}, tmp_path / "x.safetensors")
    with pytest.warns(LoadWarning, match="1 tensors .* beside its backbone.*: decoder.weight"):
        wp.load(tmp_path / "x.safetensors", arch=ARCH)
