"""One recorded tensor is of one forward pass: recomputation, shared modules and sizes are told."""

from functools import partial

import pytest
import timm
import torch
from torch.utils.checkpoint import checkpoint

import whitebox_probe as wp
from whitebox_probe._core.errors import SiteError

IMAGES = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def vit(**options):
    torch.manual_seed(0)
    small = {"img_size": 8, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2}
    kind = timm.models.vision_transformer.VisionTransformer
    return wp.wrap(kind(num_classes=2, **small | options).eval())


@pytest.mark.parametrize("reentrant", [True, False])
def test_what_a_backward_pass_computes_again_is_not_kept_again(reentrant):
    model = vit()
    with wp.record(model, model.sites) as plain:
        model.module(IMAGES)
    for block in model.module.blocks:
        own = block.forward
        block.forward = lambda x, own=own, **given: checkpoint(own, x, use_reentrant=reentrant)
    images = IMAGES.clone().requires_grad_()
    with wp.record(model, model.sites) as rec:
        model.module(images).sum().backward()
    recorded = plain.keys()
    for key in recorded:
        assert torch.equal(plain[key], rec[key]), key
        assert len(rec.passes(*key)) == 1


def test_timm_checkpointing_and_training_steps():
    model = vit()
    model.module.set_grad_checkpointing(True)
    with wp.record(model, ["z_half"]) as rec:
        for _ in range(2):
            model.module(IMAGES).sum().backward()
    assert rec["z_half", 1].shape[0] == 6
    assert [len(part) for part in rec.passes("z_half", 1)] == [3, 3]


def test_passes_of_two_sizes_are_given_apart():
    model = vit(dynamic_img_size=True)
    with wp.record(model, ["z_out"]) as rec, torch.no_grad():
        model.module(IMAGES)
        model.module(torch.randn(2, 3, 16, 16))
    with pytest.raises(SiteError, match=r"different sizes: \(3, 5, 16\) and \(2, 17, 16\).*passes"):
        rec["z_out", 1]
    assert [tuple(part.shape) for part in rec.passes("z_out", 1)] == [(3, 5, 16), (2, 17, 16)]


def test_passes_stay_apart_after_they_were_joined():
    model = vit()
    with wp.record(model, ["z_out"]) as rec, torch.no_grad():
        model.module(IMAGES)
        model.module(IMAGES[:1])
        assert len(rec["z_out", 1]) == 4
        model.module(IMAGES[:2])
    assert len(rec["z_out", 1]) == 6
    assert [len(part) for part in rec.passes("z_out", 1)] == [3, 1, 2]
    assert torch.equal(torch.cat(rec.passes("z_out", 1)), rec["z_out", 1])


def test_a_module_of_two_layers_is_told():
    model = vit()
    model.module.blocks[1] = model.module.blocks[0]
    with pytest.raises(SiteError, match="more than once"), wp.record(model, ["z_out"]):
        model.module(IMAGES)


def test_a_part_of_the_model_may_be_run_alone():
    model = vit()
    with wp.record(model, ["z_out"]) as rec, torch.no_grad():
        model.module.forward_features(IMAGES)
        model.module.forward_features(IMAGES)
    assert len(rec["z_out", 1]) == 6


def test_a_pass_that_failed_does_not_stop_the_next():
    model = vit()
    with wp.record(model, ["z_in"]) as rec, torch.no_grad():
        head, model.module.head.forward = model.module.head.forward, None
        with pytest.raises(TypeError):
            model.module(IMAGES)
        model.module.head.forward = head
        model.module(IMAGES)
    assert len(rec.passes("z_in", 1)) == 1


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_pass_that_failed_is_dropped_from_every_layer(error):
    model = vit()

    def stop(*_):
        raise error

    with wp.record(model, ["z_in", "z_out"]) as rec, torch.no_grad():
        model.module(IMAGES)
        fails = model.module.blocks[1].register_forward_pre_hook(stop)
        with pytest.raises(error):
            model.module(IMAGES[:2])
        fails.remove()
        model.module(IMAGES[:1])
        model.module.blocks[1].register_forward_pre_hook(stop)
        with pytest.raises(error):
            model.module(IMAGES)
    recorded = rec.keys()
    assert [len(rec[key]) for key in recorded] == [4] * 4


def fails(part, error=ValueError):
    """A part that raises when it is called, until the handle is removed."""

    def stop(*_):
        raise error

    return part.register_forward_pre_hook(stop)


def by_parts(module):
    """What a user's own loop over the parts does."""

    def run(x):
        x = module.norm_pre(module.patch_drop(module._pos_embed(module.patch_embed(x))))
        for block in module.blocks:
            x = block(x)
        return module.norm(x)

    return run


WAYS = {
    "method": lambda module: module.forward_features,
    "another method": lambda module: partial(module.get_intermediate_layers, norm=True),
    "own loop": by_parts,
    "whole": lambda module: module,
}
FAILING = {
    "second block": lambda module: module.blocks[1],
    "within the second block": lambda module: module.blocks[1].mlp,
    "after the blocks": lambda module: module.norm,
    "before the blocks": lambda module: module.patch_embed,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("where", FAILING)
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("layers", [None, [1]])
def test_a_direct_pass_that_failed_is_dropped_from_every_layer(way, where, error, layers):
    model = vit()
    run, part = WAYS[way](model.module), FAILING[where](model.module)
    with wp.record(model, ["z_in", "z_out"], layers) as rec, torch.no_grad():
        handle = fails(part, error)
        with pytest.raises(error):
            run(IMAGES)
        assert error is KeyboardInterrupt or len(rec) == 0
        handle.remove()
        run(IMAGES[:1])
        handle = fails(part, error)
        with pytest.raises(error):
            run(IMAGES[:2])
        handle.remove()
        run(IMAGES)
        handle = fails(part, error)
        with pytest.raises(error):
            run(IMAGES[:2])
    recorded = rec.keys()
    assert [[len(each) for each in rec.passes(*key)] for key in recorded] == [[1, 3]] * (
        2 if layers else 4
    )


def test_what_fails_after_a_pass_leaves_it():
    model = vit()
    with wp.record(model, ["z_out"]) as rec, torch.no_grad():
        features = model.module.forward_features(IMAGES)
        handle = fails(model.module.head)
        with pytest.raises(ValueError):  # noqa: PT011
            model.module.forward_head(features)
        handle.remove()
        with pytest.raises(RuntimeError):
            model.module.forward_features(torch.randn(2, 5, 8, 8))
    assert [len(rec["z_out", n]) for n in (1, 2)] == [3, 3]


def test_a_part_that_fails_by_itself_is_dropped_and_others_stay():
    model = vit()
    with wp.record(model, ["z_in", "z_out"]) as rec, torch.no_grad():
        model.module.forward_features(IMAGES)
        blocks = model.module.blocks
        handle = fails(blocks[1])
        for _ in range(2):
            with pytest.raises(ValueError):  # noqa: PT011
                blocks(torch.randn(2, 5, 16))
        handle.remove()
        blocks(torch.randn(2, 5, 16))
    recorded = rec.keys()
    assert [[len(each) for each in rec.passes(*key)] for key in recorded] == [[3, 2]] * 4


def test_no_global_hook_is_left():
    module = torch.nn.modules.module
    with wp.record(vit(), ["z_out"]):
        assert module._global_forward_hooks
    with pytest.raises(ZeroDivisionError), wp.record(vit(), ["z_out"]):
        raise ZeroDivisionError
    assert not module._global_forward_hooks
    assert not module._global_forward_pre_hooks


def test_what_is_recorded_in_inference_mode_may_be_trained_on():
    model = vit()
    with wp.record(model, ["z_out"]) as rec, torch.inference_mode():
        model.module(IMAGES)
    head = torch.nn.Linear(16, 2)
    head(rec["z_out", 1]).sum().backward()
    assert head.weight.grad is not None
