"""Adapters of peft that are not merged: the same numbers as with them merged into the weights."""

import copy

import pytest
import torch

peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

import whitebox_probe as wp  # noqa: E402
from whitebox_probe.models.registry import families  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
IDS = torch.arange(2, 20).view(2, 9)
MAPS = ["q_proj", "k_proj", "v_proj", "o_proj", "down_proj"]
ATTENTION = {"target_modules": ["k_proj", "v_proj", "down_proj"]}
KINDS = {
    "LoRA": peft.LoraConfig(r=2, target_modules=MAPS),
    "LoRA with dropout": peft.LoraConfig(r=2, target_modules=MAPS, lora_dropout=0.4),
    "LoRA, stable rank": peft.LoraConfig(r=2, target_modules=MAPS, use_rslora=True),
    "LoRA everywhere": peft.LoraConfig(r=2, target_modules="all-linear"),
    "LoRA of words": peft.LoraConfig(r=2, target_modules=["embed_tokens", "q_proj"]),
    "DoRA": peft.LoraConfig(r=2, target_modules=MAPS, use_dora=True),
    "IA3": peft.IA3Config(**ATTENTION, feedforward_modules=["down_proj"]),
    "LoHa": peft.LoHaConfig(r=2, target_modules=MAPS),
    "LoKr": peft.LoKrConfig(r=2, target_modules=MAPS),
    "AdaLoRA": peft.AdaLoraConfig(init_r=3, target_r=2, total_step=9, target_modules=MAPS),
    "OFT": peft.OFTConfig(oft_block_size=4, target_modules=MAPS),
    "norms": peft.LNTuningConfig(target_modules=["input_layernorm"]),
}


def tuned(config):
    family = families()["hf"]
    torch.manual_seed(0)
    module = peft.get_peft_model(family.build(family.example[2]), config)
    return drawn(module)


def drawn(module):
    """Its parameters that are trained, changed so that they matter."""
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return module.eval()


def numbers(module):
    names = ["compression", "attention_entropy", "hoyer", "coherence"]
    return wp.probe(wp.wrap(module), IDS, names, basis="qkv:k", name="m", progress=False).frame


def same(one, other):
    a, b = (
        torch.tensor(frame.select_dtypes("number").to_numpy(float))[:, 1:] for frame in (one, other)
    )
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-3, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("kind", KINDS)
def test_unmerged_is_as_merged(kind):
    module = tuned(KINDS[kind])
    merged = numbers(copy.deepcopy(module).merge_and_unload())
    assert same(numbers(module), merged)
    assert same(numbers(module.get_base_model()), merged)


def test_of_several_adapters_those_in_use_count():
    module = tuned(KINDS["LoRA"])
    first = numbers(module)
    module.add_adapter("other", peft.LoraConfig(r=3, target_modules=MAPS))
    assert same(numbers(module), first)
    module.set_adapter("other")
    drawn(module)
    second = numbers(module)
    assert same(second, numbers(copy.deepcopy(module).merge_and_unload()))
    assert not same(first, second)
    module.base_model.set_adapter(["default", "other"])
    both = numbers(module)
    assert same(both, numbers(copy.deepcopy(module).merge_and_unload()))
    assert not same(both, second)
    plain = copy.deepcopy(module).unload()
    with module.disable_adapter():
        assert same(numbers(module), numbers(plain))
