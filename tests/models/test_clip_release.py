"""OpenAI's CLIP and EVA-CLIP under their own names: the image tower loads, the rest is told."""

import pytest
import timm
import torch
from timm.models.vision_transformer import checkpoint_filter_fn

import whitebox_probe as wp
from whitebox_probe._core.errors import CheckpointError, LoadWarning
from whitebox_probe.models.families._timm_files import left_out

SIZES = {"img_size": 32, "patch_size": 8, "depth": 2, "embed_dim": 64, "num_heads": 1}
SIZES |= {"num_classes": 0}
CLIP = "vit_base_patch32_clip_224"
EVA = "eva02_base_patch16_clip_224"
# timm's names -> those of the release
OPENAI = {
    "patch_embed.proj.": "conv1.",
    "cls_token": "class_embedding",
    "pos_embed": "positional_embedding",
    "norm_pre.": "ln_pre.",
    "blocks.": "transformer.resblocks.",
    ".norm": ".ln_",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    ".qkv.": ".in_proj_",
    ".proj.": ".out_proj.",
}
TEXT = {
    "positional_embedding": torch.ones(7, 8),
    "transformer.resblocks.0.ln_1.weight": torch.ones(8),
    "text_projection": torch.ones(8, 4),
    "logit_scale": torch.tensor(4.6),
}


def drawn(name):
    torch.manual_seed(0)
    network = timm.create_model(name, **SIZES)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter)
    return network.eval().requires_grad_(False)


def openai(network):
    state = {}
    for key, tensor in network.state_dict().items():
        key = f"ln_post.{key[5:]}" if key.startswith("norm.") else key
        for theirs, name in OPENAI.items():
            key = key.replace(theirs, name)
        state[f"visual.{key}"] = tensor
    state["visual.class_embedding"] = state["visual.class_embedding"][0, 0]
    state["visual.positional_embedding"] = state["visual.positional_embedding"][0]
    return state


def loaded(path, name=CLIP):
    return wp.load(path, arch=f"timm:{name}", **SIZES).module


def test_the_image_tower_loads_and_what_stands_beside_is_told(tmp_path):
    network = drawn(CLIP)
    torch.save(openai(network) | TEXT, tmp_path / "clip.pt")
    with pytest.warns(
        LoadWarning, match="4 tensors of the file were left out: timm takes none"
    ) as told:
        module = loaded(tmp_path / "clip.pt")
    assert len(told) == 1
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(module(x), network(x))


def test_the_tower_alone_has_no_note(tmp_path, recwarn):
    torch.save(openai(drawn(CLIP)), tmp_path / "clip.pt")
    loaded(tmp_path / "clip.pt")
    assert not recwarn.list


def test_the_same_tower_with_other_numbers_is_told(tmp_path):
    network = drawn(CLIP)
    again = {f"model.{key}": tensor + 1 for key, tensor in openai(network).items()}
    torch.save(openai(network) | again, tmp_path / "clip.pt")
    with pytest.warns(LoadWarning, match=r"left out: timm takes none.* model\.visual\.class"):
        module = loaded(tmp_path / "clip.pt")
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(module(x), network(x))


def test_two_tensors_of_one_name_are_refused(tmp_path):
    state = openai(drawn(CLIP))
    state["visual.blocks.0.mlp.fc1.bias"] = torch.zeros(256)
    torch.save(state, tmp_path / "clip.pt")
    with pytest.raises(CheckpointError, match=r"two tensors of the file are 'blocks\.0\.mlp\.fc1"):
        loaded(tmp_path / "clip.pt")


def test_eva_clips_text_tower_is_told(tmp_path):
    network = drawn(EVA)
    names = {"mlp.fc1_g": "mlp.w1", "mlp.fc1_x": "mlp.w2", "mlp.fc2": "mlp.w3"}
    names |= {"mlp.norm": "mlp.ffn_ln", "attn.norm": "attn.inner_attn_ln"}
    state = {}
    for key, tensor in network.state_dict().items():
        for theirs, name in names.items():
            key = key.replace(theirs, name)
        state[f"visual.{key}"] = tensor
    text = {f"text.{key}": tensor for key, tensor in TEXT.items()}
    torch.save(state | text, tmp_path / "eva.pt")
    with pytest.warns(LoadWarning, match=r"4 tensors beside it were left out: text\.pos"):
        module = loaded(tmp_path / "eva.pt", EVA)
    x = torch.randn(2, 3, 32, 32)
    assert torch.allclose(module(x), network(x), atol=1e-6)


@pytest.mark.parametrize("width", [7, 1000])
def test_a_projection_into_the_space_of_texts_is_its_head(width, tmp_path):
    network = drawn(CLIP)
    proj = torch.randn(network.embed_dim, width)
    torch.save(openai(network) | {"visual.proj": proj}, tmp_path / "clip.pt")
    sizes = {name: size for name, size in SIZES.items() if name != "num_classes"}
    module = wp.load(tmp_path / "clip.pt", arch=f"timm:{CLIP}", **sizes).module
    x = torch.randn(2, 3, 32, 32)
    assert torch.allclose(module(x), network(x) @ proj, atol=1e-5)


def test_positions_of_another_grid_are_not_resampled_for_a_tensor_of_their_count(tmp_path):
    state = openai(drawn(CLIP))
    table = state["visual.positional_embedding"]
    beside = {"text.weight": torch.randn(table.shape)}
    rows = 4 * (len(table) - 1) + 1
    state["visual.positional_embedding"] = torch.randn(rows, table.shape[1])
    torch.save(state | beside, tmp_path / "clip.pt")
    with pytest.raises(CheckpointError, match="does not fit the architecture"):
        loaded(tmp_path / "clip.pt")


def test_thousands_of_tensors_beside_are_told_at_once(tmp_path):
    """A filter that is asked once for each of them takes minutes."""
    network, asked = drawn(CLIP), []
    weights = openai(network) | {f"text.{n}": torch.zeros(1) for n in range(500)}

    def names(held, module):
        asked.append(len(held))
        return checkpoint_filter_fn(held, module)

    (note,) = left_out(weights, network, names)
    assert "500 tensors of the file" in str(note)
    assert len(asked) < 10


def test_what_is_added_to_another_tensor_is_not_left_out():
    network = drawn(CLIP)
    weights = openai(network) | {"bias.a": torch.zeros(1), "bias.b": torch.zeros(1)}
    weights |= {f"text.{n}": torch.zeros(1) for n in range(9)}

    def names(held, module):
        found = checkpoint_filter_fn(held, module)
        return found | {"norm.bias": found["norm.bias"] + held.get("bias.a", 0)}

    (note,) = left_out(weights, network, names)
    assert "10 tensors of the file" in str(note)
    assert "bias.a" not in str(note)
