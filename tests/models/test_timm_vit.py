"""timm's ViTs: outputs untouched, and each site the tensor that its name says."""

import pytest
import torch
from torch import nn

import whitebox_probe as wp
from tests.conftest import small_crate, small_vit
from whitebox_probe._core.errors import BasisError, ProbeError, SiteError

VARIANTS = [
    {},
    {"class_token": False, "global_pool": "avg"},
    {"reg_tokens": 3},
    {"init_values": 0.1},
    {"qk_norm": True},
    {"qkv_bias": False},
]


def tapped(model, images):
    wrapped = wp.wrap(model, name="vit")
    with wp.record(wrapped, wrapped.sites) as rec:
        model(images)
    return wrapped, rec


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_sites_are_what_the_blocks_compute(changes):
    model = small_vit(**changes)
    images = torch.randn(2, 3, 12, 12)
    wrapped, rec = tapped(model, images)
    outputs = model.forward_intermediates(
        images, output_fmt="NLC", return_prefix_tokens=True, intermediates_only=True
    )
    for layer, block in enumerate(model.blocks, start=1):
        z_in, z_half = rec["z_in", layer], rec["z_half", layer]
        torch.testing.assert_close(rec["attn_in", layer], block.norm1(z_in))
        torch.testing.assert_close(rec["attn_out", layer], block.ls1(block.attn(block.norm1(z_in))))
        torch.testing.assert_close(z_in + rec["attn_out", layer], z_half)
        torch.testing.assert_close(rec["mlp_in", layer], block.norm2(z_half))
        hidden = block.mlp.act(block.mlp.fc1(block.norm2(z_half)))
        torch.testing.assert_close(rec["mlp_hidden", layer], hidden)
        torch.testing.assert_close(rec["z_out", layer], block(z_in))
        whole = outputs[layer - 1]
        if model.num_prefix_tokens:
            patches, prefix = whole
            whole = torch.cat([prefix, patches], dim=1)
        torch.testing.assert_close(rec["z_out", layer], whole)
        U = {b: wrapped.subspaces(layer, f"qkv:{b}") for b in "qkv"}
        bias = block.attn.qkv.bias
        for i, b in enumerate("qkv"):
            shift = 0 if bias is None else bias.view(3, 2, 1, 8)[i]
            want = rec["attn_in", layer].unsqueeze(1) @ U[b] + shift
            torch.testing.assert_close(rec[f"heads_{b}", layer], want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_attention_weights_are_those_of_timms_own_unfused_softmax(changes):
    model = small_vit(**changes)
    images = torch.randn(2, 3, 12, 12)
    _, rec = tapped(model, images)
    seen = []
    for block in model.blocks:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_hook(lambda m, i, o: seen.append(o))
    model(images)
    for layer, want in enumerate(seen, start=1):
        torch.testing.assert_close(rec["attn_weights", layer], want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("build", [small_crate, small_vit])
def test_recording_every_site_changes_no_bit_of_the_output(build):
    model = build()
    images = torch.randn(2, 3, 12, 12)
    before = model(images)
    wrapped = wp.wrap(model)
    fused = [getattr(m, "fused_attn", None) for m in model.modules()]
    with wp.record(wrapped, wrapped.sites):
        during = model(images)
        assert [getattr(m, "fused_attn", None) for m in model.modules()] == fused
    assert torch.equal(during, before)
    assert torch.equal(model(images), before)


def test_prefix_tokens_are_read_from_the_model():
    assert wp.wrap(small_vit()).prefix_tokens == 1
    assert wp.wrap(small_vit(reg_tokens=4)).prefix_tokens == 5
    assert wp.wrap(small_vit(class_token=False, global_pool="avg")).prefix_tokens == 0


def test_a_timm_name_needs_no_registry_entry():
    model = wp.load("timm:vit_tiny_patch16_224", weights="random")
    assert (model.layers, model.dims.dim, model.dims.heads) == (12, 192, 3)
    assert model.preprocess.size == 224


def test_a_vit_has_no_native_basis(vit):
    with pytest.raises(BasisError, match="'native' is not in family 'timm_vit'.*qkv:k"):
        vit.subspaces(1, "native")
    with pytest.raises(SiteError, match="record 'heads_q'"):
        vit.tap("heads", 1)


class TestWrapErrors:
    def test_a_module_of_no_known_family(self):
        with pytest.raises(ProbeError, match="Linear is of no family known here"):
            wp.wrap(nn.Linear(2, 2))

    def test_a_named_family_that_does_not_fit(self):
        with pytest.raises(ProbeError, match="not of family 'crate'"):
            wp.wrap(small_vit(), family="crate")

    def test_an_unknown_family(self):
        with pytest.raises(ProbeError, match="unknown model family 'timm_vitt'.*'timm_vit'"):
            wp.wrap(small_vit(), family="timm_vitt")

    def test_blocks_of_another_kind(self):
        from timm.models.vision_transformer import ParallelThingsBlock

        with pytest.raises(SiteError, match="ParallelThingsBlock are not understood"):
            wp.wrap(small_vit(block_fn=ParallelThingsBlock))
