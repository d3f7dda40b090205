"""What fails in a forward pass is told as what it is: the window, the ids, the weights."""

import os

import numpy as np
import pytest
import timm
import torch
from torch import nn

import whitebox_probe as wp
from whitebox_probe._core.errors import DataError, ProbeError, SiteError
from whitebox_probe._core.gate import MEND_MODEL
from whitebox_probe.cli import run as command
from whitebox_probe.cli.main import main
from whitebox_probe.metrics.catalogue import catalogue


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


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.step = nn.Linear(4, 4)

    def forward(self, z):
        return z + self.step(z)


class Odd(nn.Module):
    """A small network that does something odd in front of its last layer, once it is armed."""

    def __init__(self):
        super().__init__()
        self.stack = nn.ModuleList(Block() for _ in range(3))
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
    sites = {"z_in": "stack.{layer}:input", "attn_out": "stack.{layer}.step:output"}
    sites |= {"attn_in": "stack.{layer}.step:input"}
    sites |= {"z_half": "stack.{layer}:output", "z_out": "stack.{layer}:output"}
    module = Odd().eval()
    model = wp.wrap(module, name="odd", sites=sites, heads=1, example=TOKENS[:1])
    module.odd = does
    return model


def raising(error):
    def does(*_):
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


OF_THE_MODEL = [
    *(ImportError("flash_attn is missing"), FileNotFoundError(2, "no", "w.bin"), KeyError("k")),
    *(RecursionError("maximum depth"), NotImplementedError("no MPS"), AttributeError("a")),
]


@pytest.mark.parametrize("error", OF_THE_MODEL, ids=lambda error: type(error).__name__)
def test_what_is_not_of_the_input_is_not_told_as_that(error):
    with pytest.raises(ProbeError) as raised:
        wp.probe(odd(raising(error)), TOKENS, ["l0"], progress=False)
    told = f"the forward pass of odd failed on an input of shape (12, 5, 4): it raised {error!r:.6}"
    assert str(raised.value).startswith(told)
    assert str(raised.value).endswith(f"{MEND_MODEL}.")
    assert not isinstance(raised.value, DataError)
    module = Odd()
    module.odd = raising(error)
    with pytest.raises(DataError, match=MEND_MODEL):
        wp.wrap(module, sites={"z_out": "stack.{layer}:output"}, heads=1, example=TOKENS[:1])


@pytest.mark.parametrize("error", [NotImplementedError, RuntimeError])
def test_a_dtype_that_an_operation_lacks_may_be_the_inputs(error):
    model = odd(raising(error("\"embedding\" not implemented for 'Bool'")))
    with pytest.raises(DataError, match="cannot take an input of shape"):
        wp.probe(model, TOKENS, ["l0"], progress=False)


LACKS = [MemoryError(), torch.OutOfMemoryError("full"), OSError(12, "Cannot allocate memory")]
ON_CPU = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 40000 bytes")


@pytest.mark.parametrize("use", ["probe", "similarity", "view", "nulls", "audit"])
@pytest.mark.parametrize("error", [*LACKS, ON_CPU], ids=lambda error: type(error).__name__)
def test_a_pass_for_which_there_is_no_memory_is_told_as_that(use, error):
    told = r"odd has no memory for a batch of shape \(\d+, 5, 4\).*smaller batch_size or limit"
    with pytest.raises(DataError, match=told):
        USES[use](odd(raising(error)))
    with pytest.raises(DataError, match=r"no memory .*Use smaller inputs"):
        wp.probe(odd(raising(error)), TOKENS, ["l0"], batch_size=1, progress=False)


@pytest.mark.parametrize("error", [*LACKS, ON_CPU], ids=lambda error: type(error).__name__)
def test_a_measure_for_which_there_is_no_memory_is_told_as_that(error, monkeypatch):
    monkeypatch.setattr(catalogue()["l0"], "measure", raising(error))
    with pytest.raises(DataError, match="no memory for a batch"):
        USES["probe"](odd(lambda z: None))


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
def test_what_ends_the_program_passes(error):
    with pytest.raises(type(error)):
        USES["probe"](odd(raising(error)))


def test_an_example_that_raises_anything_is_told_in_one_line():
    module = Odd()
    module.odd = raising(KeyError("k"))
    with pytest.raises(DataError, match="the example .* does not run: KeyError: 'k'"):
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


ROWS = {
    "one row": lambda z: z[:1],
    "no rows": lambda z: z[:0],
    "rows doubled": lambda z: torch.cat([z, z]),
    "rows joined": lambda z: z.reshape(1, -1, z.shape[-1]),
    "no tokens": lambda z: z[:, :0],
}
USES["drop"] = lambda m: wp.probe(m, TOKENS, ["l0"], batch_size=4, nonfinite="drop", progress=False)
USES["pca"] = lambda m: wp.probe(
    m, TOKENS, ["compression"], basis="pca", limit=6, batch_size=4, progress=False
)


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("rows", ROWS)
def test_rows_that_are_not_the_batchs_samples_are_refused(use, rows):
    with pytest.raises(SiteError, match=r"of layer 3 holds (\d+ rows for|no token)"):
        USES[use](odd(ROWS[rows]))


def test_a_layer_that_is_not_called_once_in_each_batch_is_refused():
    def twice(model):
        return lambda z: model.module.stack[2](z)

    def cleared(model):
        def does(_):
            for part in model.module.modules():
                part._forward_hooks.clear()
                part._forward_pre_hooks.clear()

        return does

    for made in (twice, cleared):
        for use in USES:
            model = odd(None)
            model.module.odd = made(model)
            with pytest.raises(SiteError, match="not called exactly once"):
                USES[use](model)


def test_features_of_an_earlier_batch_are_not_taken_for_those_of_a_later_one():
    class Exits(Odd):
        calls = 0

        def forward(self, tokens):
            self.calls += 1
            z = tokens
            for n, layer in enumerate(self.stack):
                if n < 2 or self.calls < 3:  # the example's pass, and the first batch
                    z = layer(z)
            return z

    module = Exits().eval()
    model = wp.wrap(module, sites={"z_out": "stack.{layer}:output"}, heads=1, example=TOKENS[:1])
    module.calls = 1
    with pytest.raises(SiteError, match="'z_out' of layer 3 passed 0 times in a batch"):
        USES["similarity"](model)


@pytest.mark.parametrize("error", [MemoryError(), ON_CPU])
def test_the_command_line_tells_a_lack_of_memory_wherever_it_is(error, monkeypatch, capsys):
    monkeypatch.setattr(command, "run", raising(error))
    assert main(["run", "crate-tiny-fmnist", "--out", "r"]) == 2
    assert "out of memory: a batch did not fit. Use a smaller" in capsys.readouterr().err


@pytest.mark.parametrize("does", ["raise KeyError(1)", "raise BrokenPipeError", "z = z[:1]"])
def test_the_command_line_ends_with_2_where_a_pass_is_at_fault(does, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.py").write_text(
        "import os, torch\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.stack = torch.nn.ModuleList(torch.nn.Linear(4, 4) for _ in range(2))\n"
        "    def forward(self, z):\n"
        "        if len(z) > 1:\n"
        f"            {does}\n"
        "        for layer in self.stack:\n"
        "            z = layer(z)\n"
        "        return z\n"
        "def make():\n"
        "    torch.manual_seed(0)\n"
        "    return Net()\n"
    )
    mapping = "sites: {z_in: 'stack.{layer}:input', attn_in: 'stack.{layer}:input', "
    mapping += "z_out: 'stack.{layer}:output'}\nheads: 1\ndim: 4\n"
    (tmp_path / "mine.yaml").write_text(mapping)
    np.save(tmp_path / "x.npy", TOKENS.numpy())
    words = ["run", "model.py:make", "--mapping", "mine.yaml", "--data", "x.npy", "--metrics", "l0"]
    assert main([*words, "--out", "out"]) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told[-1]) < 500
    assert "forward pass" in told[-1]
