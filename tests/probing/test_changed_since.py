"""A model that changed after it was wrapped is measured as it is now, or refused."""

import pytest
import torch
from torch.nn.utils import prune

import whitebox_probe as wp
from whitebox_probe._core.errors import SiteError

X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
PLAIN = {"z_out": "blocks.{layer}:output", "z_half": "blocks.{layer}.norm2:input"}
MAPPED = {"first_layer": 0, "heads": 2, "dim_head": 8, "dim": 16, "sites": PLAIN}
MAPPED |= {
    "subspaces": lambda module, n: module.blocks[n - 1].attn.qkv.weight[16:32].view(2, 8, 16).mT
}


def vit(seed=0):
    torch.manual_seed(seed)
    import timm

    vision = timm.models.vision_transformer
    sizes = {"img_size": 8, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2}
    return vision.VisionTransformer(**sizes, num_classes=2).eval()


def measured(model):
    options = {"prenorm": False, "progress": False}
    frame = wp.probe(model, X, ["compression"], **options).frame
    return frame["mean"].tolist()


def normed():
    module = vit()
    for block in module.blocks:
        torch.nn.utils.weight_norm(block.attn.qkv)
    return module


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("options", [{}, MAPPED], ids=["family", "mapped"])
def test_weights_loaded_after_wrapping_are_the_ones_that_u_is_read_from(options):
    module, other = normed(), normed()
    for block in other.blocks:
        block.attn.qkv.weight_g.data *= 10
    model = wp.wrap(module, **options)
    before = measured(model)
    module.load_state_dict(other.state_dict())
    after = measured(model)
    assert after != before
    assert after == measured(model) == measured(wp.wrap(other, **options))


@pytest.mark.parametrize("options", [{}, MAPPED], ids=["family", "mapped"])
def test_a_mask_lifted_after_wrapping(options):
    module = vit()
    for block in module.blocks:
        prune.random_unstructured(block.attn.qkv, "weight", 0.5)
    model = wp.wrap(module, **options)
    measured(model)
    for block in module.blocks:
        block.attn.qkv.weight_mask.fill_(1.0)
    assert measured(model) == measured(wp.wrap(vit(), **options))


def test_a_hook_set_after_wrapping_is_refused():
    model = wp.wrap(vit())
    handle = model.module.blocks[1].attn.qkv.register_forward_hook(lambda m, x, out: 3 * out)
    with pytest.raises(SiteError, match="layer 2 .* not the weight"):
        measured(model)
    handle.remove()
    assert measured(model) == measured(wp.wrap(vit()))


def test_a_trial_leaves_what_the_parts_hold():
    class Switching(torch.nn.Module):
        """Turns itself into another thing when it is first run, as BigBird's attention does."""

        def __init__(self, inner):
            super().__init__()
            self.inner, self.kind, self.seen = inner, "sparse", []

        def forward(self, *args, **kwargs):
            self.kind, self.more = "full", 1
            self.seen.append(1)
            inner, self.inner = self.inner, torch.nn.Identity()
            return inner(*args, **kwargs)

    module = vit()
    inner = module.blocks[0].ls2
    module.blocks[0].ls2 = part = Switching(inner)
    wp.wrap(module)
    assert (part.kind, part.seen, part.inner) == ("sparse", [], inner)
    assert not hasattr(part, "more")


def test_a_sparse_big_bird_is_refused_as_it_was():
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "block_size": 4}
    sizes |= {"intermediate_size": 64, "vocab_size": 200, "num_random_blocks": 1}
    config = transformers.BigBirdConfig(**sizes, attention_type="block_sparse")
    module = transformers.BigBirdModel(config).eval()
    with pytest.raises(SiteError):
        wp.wrap(module)
    assert module.attention_type == module.encoder.attention_type == "block_sparse"
    assert module.encoder.layer[0].attention.attention_type == "block_sparse"
    kinds = {type(part).__name__ for part in module.modules()}
    assert "BigBirdBlockSparseAttention" in kinds
    assert "BigBirdSelfAttention" not in kinds


def test_a_model_that_is_the_same_is_not_tried_again():
    model, calls = wp.wrap(vit()), []
    model.module.register_forward_pre_hook(lambda *_: calls.append(1))
    before = model.module.blocks[0].forward
    model.module.blocks[0].forward = lambda *args, **kwargs: (calls.append(2), before(*args))[1]
    measured(model)
    # The blocks were tried, with another last token too: one has another forward.
    assert calls == [2, 2, 1, 2]
    calls.clear()
    measured(model)
    assert calls == [1, 2]
