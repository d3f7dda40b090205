"""Training checkpoints of DINO's and DINOv2's code, as SimDINO releases them, load by the entry."""

import re

import pytest
import torch

import whitebox_probe as wp
from whitebox_probe import checkpoints
from whitebox_probe._core.errors import CheckpointError, LoadWarning
from whitebox_probe.checkpoints import CACHE_VARIABLE, REGISTRY_VARIABLE
from whitebox_probe.models.registry import build

SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 4, "num_heads": 2}
SMALL |= {"num_classes": 0}
REGISTERS = {"reg_tokens": 4, "no_embed_class": True, "init_values": 0.1}
ENTRY = """
checkpoints:
  small:
    family: timm_vit
    arch: {arch}
    source: {{kind: hand, filename: small.pth}}
    wrapper: teacher
"""


def drawn(arch, seed):
    torch.manual_seed(seed)
    network = build("timm_vit", arch, source="small")
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter)
    return network.requires_grad_(False)


def released(network, chunk):
    """The names of DINOv2's training: registers and class token apart, blocks in chunks."""
    state = dict(network.state_dict())
    state["register_tokens"] = state.pop("reg_token")
    row = torch.randn_like(state["cls_token"])
    state["cls_token"] = state["cls_token"] - row
    state["pos_embed"] = torch.cat([row, state["pos_embed"]], dim=1)
    state["mask_token"] = torch.zeros(1, 16)
    if chunk:
        state = {
            re.sub(r"^blocks\.(\d+)", lambda m: f"blocks.{int(m[1]) // chunk}.{m[1]}", key): t
            for key, t in state.items()
        }
    return state


def saved(tmp_path, monkeypatch, arch, **content):
    (tmp_path / "list.yaml").write_text(ENTRY.format(arch=str(arch).replace("True", "true")))
    (tmp_path / "cache" / "small").mkdir(parents=True)
    torch.save(content, tmp_path / "cache" / "small" / "small.pth")
    monkeypatch.setenv(REGISTRY_VARIABLE, str(tmp_path / "list.yaml"))
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))


def prefixed(state, prefix):
    return {prefix + key: tensor for key, tensor in state.items()}


def same(one, two):
    x = torch.randn(2, 3, 32, 32)
    return torch.allclose(one(x), two.eval()(x), rtol=1e-5, atol=1e-5)


def test_an_entrys_wrapper_is_read_unless_another_is_asked_for(tmp_path, monkeypatch):
    teacher, student = drawn(SMALL, 0), drawn(SMALL, 1)
    content = {
        "teacher": prefixed(teacher.state_dict(), "_orig_mod.backbone."),
        "student": prefixed(student.state_dict(), "module.backbone."),
        "epoch": 100,
    }
    saved(tmp_path, monkeypatch, SMALL, **content)
    assert checkpoints.entry("small").wrapper == "teacher"
    assert same(wp.load("small").module, teacher)
    assert same(wp.load("small", wrapper="student").module, student)
    with pytest.raises(CheckpointError, match="no state dict 'other'"):
        wp.load("small", wrapper="other")


@pytest.mark.parametrize("chunk", [0, 2])
def test_a_file_of_dinov2s_training_is_its_network(chunk, tmp_path, monkeypatch):
    arch = SMALL | REGISTERS
    network = drawn(arch, 0)
    state = prefixed(released(network, chunk), "backbone.")
    saved(tmp_path, monkeypatch, arch, teacher=state)
    assert same(wp.load("small").module, network)


HEADS = {  # of the losses, as the two releases name them
    "head.mlp.0.weight": torch.zeros(3, 16),
    "head.last_layer.weight_v": torch.zeros(3, 16),
    "dino_head.mlp.0.weight": torch.zeros(3, 16),
    "ibot_head.mlp.0.weight": torch.zeros(3, 16),
}


@pytest.mark.parametrize("kind", ["dino", "dinov2"])
def test_the_heads_of_the_losses_are_left_out_aloud(kind, tmp_path, monkeypatch):
    arch = SMALL if kind == "dino" else SMALL | REGISTERS
    network = drawn(arch, 0)
    state = network.state_dict() if kind == "dino" else released(network, 2)
    saved(tmp_path, monkeypatch, arch, teacher=prefixed(state, "backbone.") | HEADS)
    with pytest.warns(LoadWarning, match=r"head\.mlp\.0\.weight, head\.last_layer") as told:
        loaded = wp.load("small").module
    assert len(told) == 1
    assert same(loaded, network)


def test_a_file_of_dinov2s_training_that_lacks_a_key_is_refused(tmp_path, monkeypatch):
    arch = SMALL | REGISTERS
    state = released(drawn(arch, 0), 2)
    del state["blocks.1.3.mlp.fc1.weight"]
    saved(tmp_path, monkeypatch, arch, teacher=state)
    with pytest.raises(CheckpointError, match=r"1 missing: blocks\.3\.mlp\.fc1\.weight"):
        wp.load("small")


def test_a_release_of_other_sizes_is_refused_or_resampled_as_asked(tmp_path):
    """timm's own filter resamples positions and patches that do not fit, without a word."""
    network = drawn(SMALL | REGISTERS, 0)
    torch.save(released(network, 2), tmp_path / "d.pth")
    arch = {"family": "timm_vit", **SMALL, **REGISTERS, "act_layer": "gelu", "norm_eps": 1e-6}
    assert same(wp.load(tmp_path / "d.pth", arch=arch).module, network)
    for change, told in (
        ({"img_size": 64}, r"1 wrongly shaped: pos_embed \(1, 16, 16\) where"),
        ({"patch_size": 4, "img_size": 16}, "1 wrongly shaped: patch_embed.proj.weight"),
        ({"no_embed_class": False}, "1 wrongly shaped: pos_embed"),
    ):
        with pytest.raises(CheckpointError, match=told):
            wp.load(tmp_path / "d.pth", arch=arch | change)
    wider = wp.load(tmp_path / "d.pth", arch=arch | {"img_size": 64}, interpolate_positions=True)
    assert wider.module.pos_embed.shape == (1, 64, 16)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda s: s.update({"blocks.0.3.mlp.fc1.weight": torch.zeros(1)}),
            "two tensors .*'blocks.3",
        ),
        (
            lambda s: s.update({"blocks.3.mlp.fc1.weight": torch.zeros(1)}),
            "two tensors .*'blocks.3",
        ),
        (lambda s: s.update({"reg_token": torch.zeros(1)}), "two tensors of the file are 'reg_tok"),
        (lambda s: s.pop("cls_token"), "1 missing: cls_token"),
        (lambda s: s.update({"pos_embed": s["pos_embed"][:, 1:]}), "1 wrongly shaped: pos_embed"),
        (lambda s: s.update({"pos_embed": torch.zeros(3)}), "1 wrongly shaped: pos_embed"),
        (lambda s: s.update({"cls_token": torch.zeros(1, 1, 3)}), "wrongly shaped: cls_token"),
    ],
)
def test_a_release_that_is_not_whole_is_refused(change, told, tmp_path):
    state = released(drawn(SMALL | REGISTERS, 0), 2)
    change(state)
    torch.save(state, tmp_path / "d.pth")
    with pytest.raises(CheckpointError, match=told):
        wp.load(tmp_path / "d.pth", arch={"family": "timm_vit", **SMALL, **REGISTERS})


@pytest.mark.parametrize(
    ("name", "tokens", "dim", "parameters"),
    [
        ("simdino-base-in1k", 197, 768, 85_798_656),
        ("simdino-large-in1k", 197, 1024, 303_301_632),
        ("simdinov2-base-in1k", 201, 768, 85_819_392),
        ("simdinov2-large-in1k", 201, 1024, 303_353_856),
    ],
)
def test_the_entries_have_the_published_sizes(name, tokens, dim, parameters):
    entry = checkpoints.entry(name)
    with torch.device("meta"):
        module = build(entry.family, entry.arch, source=name)
    model = wp.wrap(module)
    assert (model.dims.tokens, model.dims.dim) == (tokens, dim)
    assert sum(p.numel() for p in module.parameters()) == parameters
