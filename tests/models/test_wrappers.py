"""Wrappers around a model, and inside it: the same numbers, or one clear line."""

import os

import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

import whitebox_probe as wp
from tests.conftest import small_crate, small_vit
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


def mapped(module, root):
    block = f"{root}blocks.{{layer}}"
    return wp.wrap(
        module,
        sites={"z_out": f"{block}:output", "z_in": f"{block}:input"},
        subspaces={"qkv:q": f"{block}.attn.qkv.weight:(3 K p) d"},
        prenorm=f"{block}.norm1",
        heads=2,
    )


def expect_both_paths(wrapped, root):
    models = [mapped(wrapped, each) for each in ("", root)]
    assert torch.equal(models[0].subspaces(1, "qkv:q"), models[1].subspaces(1, "qkv:q"))
    found = [wp.probe(each, IMAGES, ["hoyer", "mean_cosine"], progress=False) for each in models]
    assert found[0].samples.equals(found[1].samples)
    with pytest.raises(ProbeError, match="nothing.blocks"):
        mapped(wrapped, "nothing.")


PREFIXES = {"DataParallel": "module.", "compiled": "_orig_mod.", "twice": "module._orig_mod."}


@pytest.mark.parametrize("kind", PREFIXES)
def test_a_mapping_may_have_the_paths_of_the_wrapper(kind):
    root = PREFIXES[kind]
    wrapped = SAME[kind](model())
    assert f"{root}blocks.0" in dict(wrapped.named_modules())
    expect_both_paths(wrapped, root)


def test_a_mapping_may_have_the_paths_of_replicas(one_process):
    expect_both_paths(nn.parallel.DistributedDataParallel(model()), "module.")


def test_a_part_of_the_models_own_is_not_taken_for_a_wrapper():
    class Holds(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = model()

        def forward(self, x):
            return self.module(x)

    assert mapped(nn.DataParallel(Holds()), "module.").layers == 3


def test_weights_in_shards_are_refused_in_one_line(one_process):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    sharded = fully_shard(model(), mesh=init_device_mesh("cpu", (1,)))
    with pytest.raises(ProbeError, match=r"in shards cannot be probed.*full_state_dict"):
        wp.wrap(sharded)


def test_moved_weights_give_the_same_numbers():
    accelerate = pytest.importorskip("accelerate")
    moved = accelerate.dispatch_model(model(), {"": "cpu"}, force_hooks=True)
    assert numbers(wp.wrap(moved)).equals(numbers(wp.wrap(model())))


@pytest.mark.filterwarnings("ignore:.*device_map keys do not match")  # parameters of the whole
@pytest.mark.parametrize("where", ["cpu", "disk", "some"])
def test_offloaded_weights_are_brought_and_give_the_same_numbers(tmp_path, where):
    accelerate = pytest.importorskip("accelerate")
    plain = model()
    if where == "cpu":
        away = accelerate.cpu_offload(model(), execution_device="cpu")
    elif where == "disk":
        away = accelerate.disk_offload(model(), str(tmp_path), execution_device="cpu")
    else:
        places = dict.fromkeys([*plain._modules, "cls_token", "pos_embed"], "cpu")
        del places["blocks"]
        places |= {"blocks.0": "cpu", "blocks.1": "disk", "blocks.2": "disk"}
        away = accelerate.dispatch_model(
            model(), places, main_device="cpu", offload_dir=str(tmp_path), force_hooks=True
        )
    wrapped, bare = wp.wrap(away), wp.wrap(plain)
    assert any(p.is_meta for p in away.parameters())
    assert wrapped.device == torch.device("cpu")
    assert numbers(wrapped).equals(numbers(bare))
    assert any(p.is_meta for p in away.parameters())
    for basis in bare.bases:
        assert torch.equal(wrapped.subspaces(2, basis), bare.subspaces(2, basis))
    with pytest.raises(ProbeError, match="offloaded, and stays where it is"):
        wp.probe(wrapped, IMAGES, "l0", device="cpu", progress=False)
    with pytest.raises(ProbeError, match="cannot be permuted: they are offloaded"):
        wp.audit([wrapped], IMAGES, draws=2, progress=False)


def test_offloaded_weights_are_told_apart_and_cast_with_the_norm():
    accelerate = pytest.importorskip("accelerate")
    from whitebox_probe.probing.identity import digest

    other = model()
    with torch.no_grad():
        other.blocks[0].attn.qkv.weight += 1e-3
    found = [digest(accelerate.cpu_offload(m, execution_device="cpu")) for m in (model(), other)]
    assert found[0] == digest(model()) != found[1]
    half = IMAGES.bfloat16()
    away = accelerate.cpu_offload(model().bfloat16(), execution_device="cpu")
    a, b = (
        wp.probe(wp.wrap(m, name="x"), half, "compression", progress=False).frame["mean"]
        for m in (away, model().bfloat16())
    )
    assert a.equals(b)


def test_the_dictionary_and_a_mapped_weight_are_brought_too():
    accelerate = pytest.importorskip("accelerate")
    plain, away = small_crate(), small_crate()
    away.load_state_dict(plain.state_dict())
    away = accelerate.cpu_offload(away, execution_device="cpu")
    D = wp.wrap(away).layer(2).operators["D"]
    assert torch.equal(D, plain.transformer.layers[1][1].fn.weight)
    weight = "transformer.layers.{layer}.0.fn.qkv.weight"
    sites = {"z_out": "transformer.layers.{layer}.1:output"}
    mapped = wp.wrap(away, sites=sites, heads=2, subspaces=weight)
    assert torch.equal(mapped.subspaces(2), wp.wrap(plain).subspaces(2))


def test_weights_that_are_used_without_their_parts_call_are_refused_in_one_line():
    accelerate = pytest.importorskip("accelerate")
    from whitebox_probe.models.registry import families

    family = families()["timm_eva"]  # a bias kept apart: its attention uses qkv.weight as it is
    away = family.build(family.example[0]).eval()
    away = accelerate.cpu_offload(away, execution_device="cpu")
    with pytest.raises(ProbeError, match=r"offloaded: 'blocks.0.attn.qkv' is not called"):
        wp.wrap(away)


def test_weights_that_a_hook_of_another_part_brings_are_refused_in_one_line():
    accelerate = pytest.importorskip("accelerate")
    away = accelerate.cpu_offload(
        model(), execution_device="cpu", preload_module_classes=["VisionTransformer"]
    )
    with pytest.raises(ProbeError, match="no weights at .*a hook of another part brings them"):
        numbers(wp.wrap(away))


def test_an_average_of_weights_is_taken_off():
    torch.manual_seed(0)
    average = torch.optim.swa_utils.AveragedModel(model())
    assert numbers(wp.wrap(average)).equals(numbers(wp.wrap(model())))


@pytest.mark.filterwarnings("ignore:.*deprecated")
def test_torchscript_and_whole_numbers_are_refused_in_one_line():
    with pytest.raises(ProbeError, match=r"it is TorchScript.*Wrap the model that it was made of"):
        wp.wrap(torch.jit.script(nn.Linear(2, 2)))
    quantised = torch.ao.quantization.quantize_dynamic(model(), {nn.Linear}, dtype=torch.qint8)
    with pytest.raises(ProbeError, match=r"quantised layers cannot be probed: 'blocks.0.attn.qkv'"):
        wp.wrap(quantised)


class Packed(nn.Module):
    """A linear layer whose weight is packed in 4 bits, two rows in a byte, as libraries keep it."""

    def __init__(self, linear):
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.scale = nn.Parameter(linear.weight.detach().abs().amax(dim=1, keepdim=True) / 7)
        whole = (linear.weight.detach() / self.scale).round().clamp(-8, 7).to(torch.int8) + 8
        low, high = whole.to(torch.uint8).chunk(2)
        self.register_buffer("packed", low | (high << 4))
        self.bias = linear.bias

    def weight_of(self):
        rows = torch.cat([self.packed & 15, self.packed >> 4])
        return (rows.float() - 8) * self.scale

    def forward(self, x):
        return nn.functional.linear(x, self.weight_of(), self.bias)


def test_packed_weights_are_read_as_what_they_compute():
    packed, plain = model(), model()
    for one, other in zip(packed.blocks, plain.blocks, strict=True):
        one.attn.qkv = Packed(one.attn.qkv)
        with torch.no_grad():
            other.attn.qkv.weight.copy_(one.attn.qkv.weight_of())
    got, want = wp.wrap(packed), wp.wrap(plain)
    for layer in (1, 2):
        U = [m.subspaces(layer, "qkv:k") for m in (got, want)]
        assert torch.allclose(*U, atol=1e-6)
    frames = [numbers(each) for each in (got, want)]
    assert torch.allclose(*(torch.tensor(f["mean"].to_numpy()) for f in frames), rtol=1e-5)


def test_weights_of_two_types_are_told_where_the_model_itself_does_not_run():
    mixed = model()
    mixed.blocks[1].mlp.to(torch.bfloat16)
    with pytest.raises(ProbeError, match=r"Convert it to one type.*bfloat16 and float32"):
        wp.wrap(mixed)


def test_the_part_that_is_meant_is_named():
    class Task(nn.Module):
        def __init__(self):
            super().__init__()
            self.loss, self.net = nn.Linear(2, 2), model()

    with pytest.raises(ProbeError, match=r"its part 'net' is a VisionTransformer.*'net'\)"):
        wp.wrap(Task())


def test_a_model_on_several_devices_stays_there(monkeypatch):
    from whitebox_probe.models import hooks
    from whitebox_probe.probing import forward

    two = [torch.device("cpu"), torch.device("cuda:1")]
    network = model()
    wrapped, want = wp.wrap(network), numbers(wp.wrap(model()))
    for place in (forward, hooks):
        monkeypatch.setattr(place, "devices_of", lambda _: two)
    monkeypatch.setattr(type(network), "to", lambda *_: pytest.fail("it was moved"))
    assert numbers(wrapped).equals(want)
    with pytest.raises(ProbeError, match="device 'cpu' cannot be used.*spread over several"):
        wp.probe(wrapped, IMAGES, "l0", device="cpu", progress=False)


def test_a_language_model_that_accelerate_has_placed_has_its_attention():
    accelerate = pytest.importorskip("accelerate")
    transformers = pytest.importorskip("transformers")
    from whitebox_probe.models.registry import families

    family, ids = families()["hf"], torch.arange(2, 20).view(2, 9)
    for arch in family.example[2:4]:
        torch.manual_seed(0)
        plain = family.build(arch).eval()
        torch.manual_seed(0)
        placed = family.build(arch).eval()
        assert isinstance(placed, transformers.PreTrainedModel)
        accelerate.dispatch_model(placed, {"": "cpu"}, force_hooks=True)
        names = ["attention_entropy", "l0"]
        frames = [
            wp.probe(wp.wrap(m), ids, names, sites={"l0": "z_out"}, progress=False).frame
            for m in (placed, plain)
        ]
        assert frames[0].equals(frames[1])
