"""`record`: hooks in, hooks out, and copies that nothing can change."""

import numpy as np
import pytest
import torch
from torch import nn

import whitebox_probe as wp
from whitebox_probe._core.errors import SiteError


def hooks(module):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules())


def test_no_hook_is_left_after_the_block_or_an_exception(vit):
    with wp.record(vit, vit.sites):
        assert hooks(vit.module) > 0
    assert hooks(vit.module) == 0
    with pytest.raises(ZeroDivisionError), wp.record(vit, vit.sites):
        raise ZeroDivisionError
    assert hooks(vit.module) == 0
    with pytest.raises(Exception, match="size|shape|height"), wp.record(vit, vit.sites):
        vit.module(torch.randn(1, 3, 5, 5))
    assert hooks(vit.module) == 0
    with pytest.raises(SiteError), wp.record(vit, ["z_in", "nowhere"]):
        pass
    assert hooks(vit.module) == 0


def test_several_forward_passes_are_joined(crate):
    a, b = torch.randn(2, 3, 12, 12), torch.randn(3, 3, 12, 12)
    with wp.record(crate, "z_out", layers=[2]) as rec:
        crate.module(a)
        crate.module(b)
    with wp.record(crate, "z_out", layers=[2]) as alone:
        crate.module(b)
    assert rec["z_out", 2].shape == (5, 10, 16)
    torch.testing.assert_close(rec["z_out", 2][2:], alone["z_out", 2])
    assert rec.keys() == [("z_out", 2)]
    assert len(rec) == 1


def test_later_in_place_operations_do_not_change_what_was_recorded(vit):
    class InPlace(nn.Module):
        def forward(self, x):
            return x.mul_(0)

    images = torch.randn(1, 3, 12, 12)
    with wp.record(vit, ["z_out"], layers=[3]) as before:
        vit.module(images)
    vit.module.norm = InPlace()  # overwrites the last block's output
    with wp.record(vit, ["z_out"], layers=[3]) as after:
        vit.module(images)
    assert torch.equal(before["z_out", 3], after["z_out", 3])


def test_what_is_recorded_needs_no_gradient_and_pins_no_larger_tensor(vit):
    with wp.record(vit, ["heads_k"]) as rec:
        vit.module(torch.randn(2, 3, 12, 12))
    tensor = rec["heads_k", 1]
    assert not tensor.requires_grad
    assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()


def test_gradients_of_the_model_still_flow(crate):
    with wp.record(crate, crate.sites):
        crate.module(torch.randn(1, 3, 12, 12)).sum().backward()
    assert crate.module.cls_token.grad is not None


def test_asking_for_what_was_not_recorded_says_why(crate):
    with wp.record(crate, ["z_out"], layers=[1]) as rec:
        pass
    with pytest.raises(SiteError, match=r"not run inside the record\(\) block"):
        rec["z_out", 1]
    with pytest.raises(SiteError, match="'z_in' was not recorded"):
        rec["z_in", 1]
    with pytest.raises(SiteError, match="layer 2 was not recorded"):
        rec["z_out", 2]


WRONG_KEYS = {
    "a site alone": ("z_out", r"no key of a recording.*Use recording\['z_out', 1\]"),
    "a layer alone": (1, "no key of a recording"),
    "nothing": (None, "no key of a recording"),
    "one part": (("z_out",), "no key of a recording"),
    "three parts": (("z_out", 1, 2), "no key of a recording"),
    "a slice": (slice(None), "no key of a recording"),
    "a list": (["z_out", 1], "no key of a recording"),
    "a tensor": (torch.arange(2), "no key of a recording"),
    "the other way round": ((1, "z_out"), r"site 1 was not recorded.*sites are named by texts"),
    "a site that is none": ((None, 1), "site None was not recorded"),
    "another site": (("z_oot", 1), "'z_oot' was not recorded.*Did you mean 'z_out'"),
    "a layer in words": (("z_out", "1"), "layer '1' was not recorded"),
    "a fraction": (("z_out", 1.5), "layer 1.5 was not recorded"),
    "a truth value": (("z_out", True), "layer True was not recorded"),
    "a list of layers": (("z_out", [1, 2]), r"layer \[1, 2\] was not recorded"),
    "a slice of layers": (("z_out", slice(1, 3)), "layer slice"),
    "a layer below": (("z_out", 0), "layer 0 was not recorded"),
    "a layer above": (("z_out", 10**30), "was not recorded"),
    "a layer from the end": (("z_out", -1), "layer -1 was not recorded"),
}


@pytest.mark.parametrize(("key", "told"), WRONG_KEYS.values(), ids=WRONG_KEYS)
def test_a_key_that_is_none_is_told(vit, key, told):
    with wp.record(vit, ["z_out"]) as recording:
        vit.module(torch.randn(2, 3, 12, 12))
    with pytest.raises(SiteError, match=told) as error:
        recording[key]
    assert len(str(error.value)) < 500
    assert torch.equal(recording["z_out", np.int64(1)], recording["z_out", 1])
