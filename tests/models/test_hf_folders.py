"""Folders that save_pretrained and others wrote: loaded, or one line that says what to do."""

import json
from pathlib import Path

import pytest
import torch

transformers = pytest.importorskip("transformers")

import whitebox_probe as wp  # noqa: E402
from whitebox_probe._core.errors import ProbeError  # noqa: E402

SIZES = {
    "vocab_size": 23,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}


def network():
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES)).eval()


def state(folder, **changes):
    path = Path(folder) / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def only(folder, name, start):
    network().config.save_pretrained(folder)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(start)


def code(folder):
    network().save_pretrained(folder)
    state(folder, model_type="mine", auto_map={"AutoConfig": "c.C", "AutoModel": "m.M"})
    for name in ("c.py", "m.py"):
        (folder / name).write_text("raise SystemExit('this code was run')")


def of_timm(folder):
    network().save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({"architecture": "vit_tiny_patch16_224"}))


def adapter(folder):
    network().config.save_pretrained(folder)
    stated = {"base_model_name_or_path": "some/llama"}
    (folder / "adapter_config.json").write_text(json.dumps(stated))
    (folder / "adapter_model.safetensors").write_bytes(b"")


def heads(folder):
    network().save_pretrained(folder)
    state(folder, num_attention_heads=3)


REFUSED = {
    "code of its own": (code, "made by code that comes with it.*'mine'; such code is not run"),
    "of timm": (of_timm, "is a model of timm.*arch='timm:vit_tiny_patch16_224'"),
    "an adapter": (adapter, "holds an adapter, and not the model.*of 'some/llama'.*wrap"),
    "heads that do not share": (heads, "cannot be read: .*not a multiple of the number of"),
    "gguf": (lambda f: only(f, "m.gguf", b"GGUF"), "its weights are in m.gguf, of another format"),
    "onnx": (lambda f: only(f, "onnx/m.onnx", b"1"), "m.onnx, of another format"),
    "a variant": (
        lambda f: network().save_pretrained(f, variant="fp16"),
        r"model.fp16.safetensors, a variant.*variant='fp16'",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_folder_that_is_not_read_says_why_in_one_line(kind, tmp_path, monkeypatch):
    make, told = REFUSED[kind]
    make(tmp_path)
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("the user was asked"))
    with pytest.raises(ProbeError, match=told) as caught:
        wp.load(f"hf:{tmp_path}")
    assert len(str(caught.value).splitlines()) == 1


def test_an_encoder_that_was_saved_alone_is_built_alone(tmp_path):
    config = transformers.T5Config(d_model=16, num_layers=2, num_heads=2, d_ff=20, vocab_size=23)
    torch.manual_seed(0)
    encoder = transformers.T5EncoderModel(config).eval()
    encoder.save_pretrained(tmp_path)
    model, ids = wp.load(f"hf:{tmp_path}"), torch.arange(2, 12).view(2, 5)
    with torch.inference_mode():
        assert torch.equal(model.module(ids)[0], encoder(ids)[0])
