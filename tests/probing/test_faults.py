"""What fails in a forward pass is told as what it is: the window, the ids, the weights."""

import os

import numpy as np
import pytest
import timm
import torch
from torch import nn

import whitebox_probe as wp
from whitebox_probe._core.errors import DataError, ProbeError


def vit():
    vision = timm.models.vision_transformer
    return vision.VisionTransformer(
        img_size=8, patch_size=4, embed_dim=16, depth=2, num_heads=2, num_classes=2
    ).eval()


def text(kind, **options):
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 40}
    sizes |= {"max_position_embeddings": 12, "bos_token_id": 0, "eos_token_id": 0}
    config = transformers.AutoConfig.for_model(kind, **sizes | options)
    return wp.wrap(transformers.AutoModel.from_config(config).eval())


def probe(model, data):
    return wp.probe(model, data, ["l0"], progress=False)


@pytest.mark.parametrize(
    ("kind", "options", "most"),
    [("gpt2", {}, 12), ("bert", {}, 12), ("roberta", {"pad_token_id": 1}, 10)],
)
def test_too_long_a_window(kind, options, most):
    model = text(kind, **options)
    assert len(probe(model, torch.randint(2, 40, (2, most))).samples) == 2
    with pytest.raises(DataError, match=rf"{most + 1} tokens, .* {most} positions"):
        probe(model, torch.randint(2, 40, (2, most + 1)))


@pytest.mark.parametrize("kind", ["gpt2", "bert", "llama"])
def test_ids_beyond_the_vocabulary(kind):
    with pytest.raises(DataError, match=r"ids go from \d+ to 40, .* vocabulary has 40"):
        probe(text(kind), torch.arange(33, 41).view(2, 4))


def test_another_precision():
    with pytest.raises(DataError, match=r"of float64, and the model's weights are of float32"):
        probe(wp.wrap(vit()), torch.randn(2, 3, 8, 8).double())


def test_weights_that_are_not_there():
    model = wp.wrap(vit().to("meta"))
    with pytest.raises(ProbeError, match=r"no weights at .*cls_token.*meta device"):
        probe(model, torch.randn(2, 3, 8, 8))


def test_a_module_that_is_compiled_in_whole_is_read_as_it_is_written():
    model, images = wp.wrap(vit()), torch.randn(2, 3, 8, 8)
    want = probe(model, images)
    model.module.compile(backend="eager")
    assert probe(model, images).frame.equals(want.frame)


def test_any_other_fault_names_the_pass():
    model = wp.wrap(vit())
    model.module.head.forward = None
    with pytest.raises(DataError, match=r"its forward pass raised TypeError: 'NoneType'"):
        probe(model, torch.randn(2, 3, 8, 8))


class UnsaidError(Exception):
    def __str__(self):
        raise RuntimeError("no text")


class Odd(nn.Module):
    """A small network that does something odd in front of its last layer, once it is armed."""

    def __init__(self):
        super().__init__()
        self.stack = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
        self.odd = None

    def forward(self, tokens):
        z = tokens
        for layer in self.stack:
            if layer is self.stack[-1] and self.odd is not None:
                found = self.odd(z)
                z = z if found is None else found
            z = layer(z)
        return z


TOKENS = torch.randn(12, 5, 4, generator=torch.Generator().manual_seed(0))


def odd(does):
    """A wrapped network that does it from now on."""
    torch.manual_seed(0)
    sites = {"z_in": "stack.{layer}:input", "attn_out": "stack.{layer}:output"}
    sites |= {"z_out": "stack.{layer}:output"}
    module = Odd().eval()
    model = wp.wrap(module, name="odd", sites=sites, heads=1, example=TOKENS[:1])
    module.odd = does
    return model


def raising(error):
    def does(_):
        raise error

    return does


USES = {
    "probe": lambda m: wp.probe(m, TOKENS, ["l0"], batch_size=4, progress=False),
    "similarity": lambda m: wp.similarity(m, m, TOKENS, rank=1, batch_size=4, progress=False),
    "view": lambda m: wp.view(m, TOKENS, sites=["z_out"], limit=4),
    "nulls": lambda m: wp.nulls(m, TOKENS, ["l0"], kinds=["gaussian"], progress=False),
    "audit": lambda m: wp.audit(m, TOKENS, basis="pca", null=False, progress=False),
}
RAISED = [
    *(KeyError("k"), AttributeError("a"), ZeroDivisionError("z"), StopIteration(3), LookupError()),
    *(OSError(5, "io"), FileNotFoundError(2, "no", "f"), BrokenPipeError(), TimeoutError()),
    *(ImportError("i"), EOFError(), SyntaxError("s"), UserWarning("w"), RuntimeError("\n\n")),
    *(torch.OutOfMemoryError(), UnsaidError(), RuntimeError("\x1b[31m" + "x" * 10**6)),
]


@pytest.mark.parametrize("use", ["probe", "similarity", "view", "nulls", "audit"])
@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
def test_whatever_a_pass_raises_is_told_in_one_line(use, error):
    with pytest.raises(ProbeError) as raised:
        USES[use](odd(raising(error)))
    told = str(raised.value)
    assert len(told) < 500
    assert told.isprintable()
    if not isinstance(error, torch.OutOfMemoryError):
        assert type(error).__name__ in told


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
def test_what_ends_the_program_passes(error):
    with pytest.raises(type(error)):
        USES["probe"](odd(raising(error)))


def test_an_example_that_raises_anything_is_told_in_one_line():
    module = Odd()
    module.odd = raising(KeyError("k"))
    with pytest.raises(DataError, match="the example .* does not run: 'k'"):
        wp.wrap(module, sites={"z_out": "stack.{layer}:output"}, heads=1, example=TOKENS[:1])


def test_the_folder_and_the_default_device_that_a_pass_sets_are_put_back(tmp_path):
    def does(_):
        os.chdir(tmp_path)
        torch.set_default_device("meta")
        torch.autograd.set_detect_anomaly(True)

    before = os.getcwd()
    want = USES["probe"](odd(None))
    for use in ("probe", "similarity", "view"):
        model = odd(does)
        try:
            got = USES[use](model)
            assert os.getcwd() == before
            assert torch.get_default_device().type == "cpu"
            assert not torch.is_anomaly_enabled()
        finally:
            os.chdir(before)
            torch.set_default_device(None)
            torch.autograd.set_detect_anomaly(False)
        if use == "probe":
            assert got.frame.equals(want.frame)


def test_paths_of_a_run_are_those_of_the_folder_it_was_started_in(tmp_path):
    images = []
    for n in range(4):
        path = tmp_path / f"{n}.npy"
        np.save(path, TOKENS[n].numpy())
        images.append(path.name)

    class Files(torch.utils.data.Dataset):
        def __len__(self):
            return len(images)

        def __getitem__(self, n):
            return torch.from_numpy(np.load(images[n]))

    before = os.getcwd()
    os.chdir(tmp_path)
    try:
        found = wp.probe(
            odd(lambda _: os.chdir("/")), Files(), ["l0"], batch_size=1, progress=False
        )
    finally:
        os.chdir(before)
    assert len(found.samples) == 4
