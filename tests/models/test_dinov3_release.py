"""Files under DINOv3's own names: what timm's filter leaves out is what the network has anyway."""

import pytest
import timm
import torch

import whitebox_probe as wp
from whitebox_probe._core.errors import CheckpointError, LoadWarning

SIZES = {"img_size": 32, "depth": 2, "embed_dim": 64, "num_heads": 1}
PLAIN, BIASED = "vit_small_patch16_dinov3", "vit_small_patch16_dinov3_qkvb"
NAMES = {"reg_token": "storage_tokens", "gamma_1": "ls1.gamma", "gamma_2": "ls2.gamma"}
BIAS = "blocks.1.attn.qkv.bias"
MASK = torch.ones(3, 64)
MASK[1] = 0  # the keys have no bias


def drawn(name):
    torch.manual_seed(0)
    network = timm.create_model(name, **SIZES).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter)
    return network.requires_grad_(False)


def released(network):
    """The names of the release; the biases joined, with their mask, and the periods in bfloat16."""
    own = network.state_dict()
    state = {
        "mask_token": torch.zeros(1, 64),
        "rope_embed.periods": network.rope.periods.bfloat16(),
    }
    for key, tensor in own.items():
        if key.endswith(("q_bias", "v_bias")):
            continue
        for theirs, name in NAMES.items():
            key = key.replace(theirs, name)
        state[key] = tensor
    for stem in ("blocks.0.attn.", "blocks.1.attn."):
        q, v = (own.get(f"{stem}{part}_bias", torch.zeros(64)) for part in "qv")
        state[f"{stem}qkv.bias"] = torch.cat([q, torch.zeros(64), v])
        state[f"{stem}qkv.bias_mask"] = MASK.flatten()
    return state


def loaded(path, name):
    return wp.load(path, arch=f"timm:{name}", **SIZES).module


@pytest.mark.parametrize("name", [PLAIN, BIASED])
def test_a_release_loads_without_a_word(name, tmp_path, recwarn):
    network = drawn(name)
    x = torch.randn(2, 3, 32, 32)
    expected = network(x)
    few = {key: tensor.bfloat16() for key, tensor in released(network).items()}
    for state in (released(network), few):
        torch.save(state, tmp_path / "d.pth")
        found = loaded(tmp_path / "d.pth", name).float()(x)
        assert torch.equal(found, expected) or state is few
    assert not recwarn.list


def test_what_a_mask_takes_away_does_not_count(tmp_path):
    network = drawn(BIASED)
    state = released(network)
    state[BIAS] = state[BIAS] + (1 - MASK.flatten())  # a bias of the keys, masked
    torch.save(state, tmp_path / "d.pth")
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(loaded(tmp_path / "d.pth", BIASED)(x), network(x))


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        (PLAIN, lambda s: s[BIAS].__setitem__(0, 0.5), f"'{BIAS}'.*the architecture has none"),
        (BIASED, lambda s: s.update({f"{BIAS}_mask": torch.ones(192)}) or s[BIAS].add_(1), BIAS),
        (BIASED, lambda s: s.update({f"{BIAS}_mask": torch.zeros(192)}), "without its mask"),
        (BIASED, lambda s: s.update({f"{BIAS}_mask": torch.zeros(5)}), r"the shape \(5,\)"),
        (PLAIN, lambda s: s["rope_embed.periods"].mul_(7), "periods'.*the architecture has others"),
        (PLAIN, lambda s: s.update({"rope_embed.periods": torch.ones(3)}), "periods'.*has others"),
        (PLAIN, lambda s: s.update({BIAS: torch.ones(1, 192)}), r"it has the shape \(1, 192\)"),
        (BIASED, lambda s: s.update({BIAS: torch.tensor(1.0)}), r"it has the shape \(\)"),
    ],
)
def test_what_would_be_lost_is_told(name, change, told, tmp_path):
    state = {key: tensor.clone() for key, tensor in released(drawn(name)).items()}
    change(state)
    torch.save(state, tmp_path / "d.pth")
    with pytest.raises(CheckpointError, match=told):
        loaded(tmp_path / "d.pth", name)


def test_periods_that_the_network_has_not_are_not_left_out(tmp_path):
    torch.save(released(drawn(PLAIN)), tmp_path / "d.pth")
    with pytest.raises(CheckpointError, match="periods'.*the architecture has none"):
        wp.load(tmp_path / "d.pth", arch=f"timm:{PLAIN}", rope_type="cat", **SIZES)


def test_a_file_with_biases_is_not_of_the_model_without(tmp_path):
    torch.save(released(drawn(BIASED)), tmp_path / "d.pth")
    with pytest.raises(CheckpointError, match="Name the model in timm .*_qkvb"):
        loaded(tmp_path / "d.pth", PLAIN)


def test_what_else_the_filter_leaves_out_is_told(tmp_path):
    network = drawn(PLAIN)
    more = {"local_cls_norm.weight": torch.ones(64), "projectors.0.weight": torch.ones(2, 64)}
    torch.save(released(network) | more, tmp_path / "d.pth")
    with pytest.warns(LoadWarning, match="2 tensors .*: local_cls_norm.weight, projectors.0.w"):
        module = loaded(tmp_path / "d.pth", PLAIN)
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(module(x), network(x))


@pytest.mark.parametrize("name", ["ema.rope_embed.periods", f"ema.{BIAS}", "ema.mask_token"])
def test_what_only_ends_like_a_name_that_is_compared_is_told(name, tmp_path):
    torch.save(released(drawn(PLAIN)) | {name: torch.ones(192)}, tmp_path / "d.pth")
    with pytest.warns(LoadWarning, match=f"1 tensors of the file were left out.*{name}"):
        loaded(tmp_path / "d.pth", PLAIN)


@pytest.mark.parametrize("patch", [8, 14, 32])
def test_patches_of_another_size_are_not_resampled_in_silence(patch, tmp_path):
    """768 x 3 x 16 x 16 numbers are also those of each projection of the attention."""
    name, sizes = "vit_base_patch16_dinov3", {"img_size": 32, "depth": 1}
    state = timm.create_model(name, **sizes).state_dict()
    for theirs, of in NAMES.items():
        state = {key.replace(theirs, of): tensor for key, tensor in state.items()}
    torch.save(state, tmp_path / "d.pth")
    wp.load(tmp_path / "d.pth", arch=f"timm:{name}", **sizes)
    state["patch_embed.proj.weight"] = torch.randn(768, 3, patch, patch)
    torch.save(state, tmp_path / "d.pth")
    with pytest.raises(CheckpointError, match="does not fit the architecture"):
        wp.load(tmp_path / "d.pth", arch=f"timm:{name}", **sizes)
