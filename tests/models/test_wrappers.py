"""Wrappers around a model, and inside it: the same numbers, or one clear line."""

import os

import pytest
import torch
from conftest import small_vit
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

import whitebox_probe as wp
from whitebox_probe._core.errors import ProbeError

IMAGES = torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(0))


def of_each_block(wrapper):
    def wrapped(model):
        for number, block in enumerate(model.blocks):
            model.blocks[number] = wrapper(block)
        return model

    return wrapped


def compiled(module):
    return torch.compile(module, backend="eager")


def compiled_in_place(module):
    module.compile(backend="eager")
    return module


def model():
    torch.manual_seed(0)
    return small_vit().eval()


def numbers(wrapped):
    result = wp.probe(wrapped, IMAGES, ["compression", "attention_entropy"], progress=False)
    return result.frame.drop(columns="model")


SAME = {
    "DataParallel": nn.DataParallel,
    "compiled": compiled,
    "compiled in place": compiled_in_place,
    "compiled blocks": of_each_block(compiled),
    "checkpointed": checkpoint_wrapper,
    "checkpointed blocks": of_each_block(checkpoint_wrapper),
    "twice": lambda m: nn.DataParallel(compiled(m)),
}


@pytest.mark.parametrize("kind", SAME)
def test_a_wrapper_that_changes_nothing_gives_the_same_numbers(kind):
    wrapped = wp.wrap(SAME[kind](model()))
    assert type(wrapped.module).__name__ == "VisionTransformer"
    assert numbers(wrapped).equals(numbers(wp.wrap(model())))


@pytest.mark.filterwarnings("ignore:Using .torch.compile.module")
def test_a_recording_reads_a_compiled_wrapper_that_is_called():
    inner = model()
    outer = compiled(inner)
    wrapped = wp.wrap(outer)
    for _ in range(2):  # the second time it has been compiled
        with torch.no_grad(), wp.record(wrapped, ["z_out"]) as rec:
            outer(IMAGES)
        with torch.no_grad(), wp.record(wrapped, ["z_out"]) as want:
            inner(IMAGES)
        assert torch.equal(rec["z_out", 2], want["z_out", 2])
        with torch.no_grad():
            outer(IMAGES)


@pytest.fixture
def one_process(tmp_path):
    if torch.distributed.is_initialized():
        pytest.skip("another test has processes")
    store = f"file://{tmp_path}/store"
    torch.distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.skipif(os.name == "nt", reason="gloo with files")
def test_replicas_in_processes_give_the_same_numbers(one_process):
    replica = nn.parallel.DistributedDataParallel(model())
    with torch.inference_mode(False):
        assert numbers(wp.wrap(replica)).equals(numbers(wp.wrap(model())))


def test_weights_in_shards_are_refused_in_one_line(one_process):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    sharded = fully_shard(model(), mesh=init_device_mesh("cpu", (1,)))
    with pytest.raises(ProbeError, match=r"in shards cannot be probed.*full_state_dict"):
        wp.wrap(sharded)


def test_moved_weights_give_the_same_numbers_or_one_line():
    accelerate = pytest.importorskip("accelerate")
    moved = accelerate.dispatch_model(model(), {"": "cpu"}, force_hooks=True)
    assert numbers(wp.wrap(moved)).equals(numbers(wp.wrap(model())))
    away = wp.wrap(accelerate.cpu_offload(model(), execution_device="cpu"))
    with torch.no_grad(), wp.record(away, ["z_out"]) as rec:
        out = away.module(IMAGES)
    assert torch.equal(out, model()(IMAGES))
    assert rec["z_out", 2].shape == (4, 10, 16)
    with pytest.raises(ProbeError, match="no weights at .*offloaded"):
        numbers(away)
