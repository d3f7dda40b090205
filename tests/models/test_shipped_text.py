"""The language models that ship with the package are what the registry says they are."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

import whitebox_probe as wp
from whitebox_probe import checkpoints
from whitebox_probe.data import kjv
from whitebox_probe.data.text import TextWindows, open_tokenizer

pytest.importorskip("tokenizers")
transformers = pytest.importorskip("transformers")
SHIPPED = ("crate-tiny-kjv", "crate-tiny-kjv-init", "gpt2-tiny-kjv", "gpt2-tiny-kjv-init")
WEIGHTS = Path(wp.__file__).parent / "weights"
TOKENIZER = WEIGHTS / "kjv.tokenizer.json"


@pytest.fixture(scope="module")
def windows():
    return TextWindows(kjv.read(), TOKENIZER, 128, drop_last=True)


def log_of(name):
    return json.loads((WEIGHTS / f"{name}.log.json").read_text())


def next_token_logits(model, ids):
    """What the model says of every next token, from the tokens that its last layer leaves."""
    module = model.module
    if model.family.name == "hf":  # the base model ends with the final norm; the head is tied
        return module(ids).last_hidden_state @ module.wte.weight.T
    with wp.record(model, sites=["z_out"]) as recording:
        module(ids)
    return recording["z_out", model.layers] @ module.lm_head.weight.T


@pytest.mark.parametrize("name", SHIPPED)
def test_the_loss_on_the_shipped_windows_is_the_registered_one(name, windows):
    model = wp.load(name)
    total, count = 0.0, 0
    with torch.inference_mode():
        for ids in windows.ids.split(50):
            logits = next_token_logits(model, ids)[:, :-1].flatten(0, 1)
            total += float(F.cross_entropy(logits, ids[:, 1:].flatten(), reduction="sum"))
            count += ids[:, 1:].numel()
    (stated,) = model.entry.loss
    assert total / count == pytest.approx(stated["per_token"], abs=2e-4)
    encode = open_tokenizer(TOKENIZER).encode
    assert encode(kjv.read())[: windows.ids.numel()] == windows.ids.flatten().tolist()
    # Each window's first token is given, not predicted.
    tokenizer = pytest.importorskip("tokenizers").Tokenizer.from_file(str(TOKENIZER))
    length = sum(len(tokenizer.decode(ids[1:].tolist()).encode()) for ids in windows.ids)
    assert total / length == pytest.approx(stated["per_byte"], abs=2e-4)


def test_two_hundred_full_windows_ship(windows):
    assert windows.ids.shape == (200, 128)
    assert windows.mask.all()


def test_trained_models_are_better_than_untrained_ones_and_than_word_counts(windows):
    counts = torch.bincount(windows.ids.flatten(), minlength=1024).double()
    shares = counts / counts.sum()
    entropy = -float((shares[shares > 0] * shares[shares > 0].log()).sum())  # of these very counts
    for name in ("crate-tiny-kjv", "gpt2-tiny-kjv"):
        trained, drawn = (checkpoints.entry(n).loss[0]["per_token"] for n in (name, f"{name}-init"))
        assert trained < entropy - 1
        assert drawn == pytest.approx(torch.tensor(1024.0).log().item(), abs=0.5)


def test_the_four_ship_in_less_than_twelve_megabytes():
    assert sum(checkpoints.entry(name).size for name in SHIPPED) < 12e6


def test_the_pair_is_matched():
    logs = [log_of(name) for name in ("crate-tiny-kjv", "gpt2-tiny-kjv")]
    recipes = [{k: v for k, v in log["recipe"].items() if k != "kind"} for log in logs]
    assert recipes[0] == recipes[1]
    assert logs[0]["data"] == logs[1]["data"]
    assert len(logs[0]["epochs"]) == len(logs[1]["epochs"]) == recipes[0]["epochs"]
    crate, gpt = (wp.load(name) for name in ("crate-tiny-kjv", "gpt2-tiny-kjv"))
    assert crate.dims == gpt.dims
    for model, log in zip((crate, gpt), logs, strict=True):
        assert sum(p.numel() for p in model.module.parameters()) == log["parameters"]
        stated = model.entry.loss[0]
        found = log["held_out_loss"]["final"]
        assert found["nats_per_token"] == pytest.approx(stated["per_token"], abs=1e-4)
        assert found["nats_per_byte"] == pytest.approx(stated["per_byte"], abs=1e-4)


def test_gpt2_loads_with_plain_transformers(windows):
    config = transformers.GPT2Config(
        **{k: v for k, v in checkpoints.entry("gpt2-tiny-kjv").arch.items() if k != "model_type"}
    )
    model = transformers.GPT2LMHeadModel(config)
    missing, unexpected = model.load_state_dict(
        load_file(WEIGHTS / "gpt2-tiny-kjv.safetensors"), strict=False
    )
    assert missing in ([], ["lm_head.weight"])
    assert unexpected == []
    model.tie_weights()
    model.eval()
    with torch.inference_mode():
        ids = windows.ids[:4]
        ours = next_token_logits(wp.load("gpt2-tiny-kjv"), ids)
        torch.testing.assert_close(model(ids).logits, ours, rtol=1e-4, atol=1e-4)


def test_the_tokenizer_goes_with_the_architecture(tmp_path):
    own = tmp_path / "mine.safetensors"
    own.write_bytes((WEIGHTS / "crate-tiny-kjv.safetensors").read_bytes())
    models = (
        wp.load("crate-tiny-kjv"),
        wp.load("crate-tiny-kjv", weights="random"),
        wp.load(own, arch="crate-tiny-kjv"),
    )
    for model in models:
        assert model.preprocess == wp.TextPreprocess(str(TOKENIZER), 128)
    assert wp.nulls(models[0], "kjv", kinds=["random_weights"], limit=2, progress=False)


def test_models_of_the_hub_name_their_own_tokenizers(tmp_path):
    from whitebox_probe.models.hub import hub_entry

    assert hub_entry("openai-community/gpt2").preprocess["tokenizer"] == "openai-community/gpt2"
    assert hub_entry(str(tmp_path)).preprocess["tokenizer"] == str(tmp_path)
    for name in ("gpt2", "bert-base-uncased"):
        entry = checkpoints.entry(name)
        assert entry.preprocess["tokenizer"] == entry.source["repo"]
