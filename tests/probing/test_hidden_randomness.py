"""What draws random numbers is switched off, or seeded and told; the caller's are left alone."""

import json
import random
from functools import partial

import numpy as np
import pytest
import torch

import whitebox_probe as wp
from tests.conftest import small_vit
from tests.probing.sharing import IMAGES, model_of
from whitebox_probe.data.text import TextWindows
from whitebox_probe.models.families.crate_gpt import CrateGPT
from whitebox_probe.probing.probe import DrawsWarning

TEXT = "the quick brown fox jumps over the lazy dog " * 40
tokenizers = pytest.importorskip("tokenizers")
pytestmark = pytest.mark.usefixtures("alone")


def bpe(path):
    """A file of a tokenizer that drops merges."""
    found = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="[UNK]"))
    found.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=200, special_tokens=["[UNK]"], show_progress=False
    )
    found.train_from_iterator([TEXT], trainer)
    found.model.dropout = 0.5
    assert len({tuple(found.encode(TEXT).ids) for _ in range(3)}) > 1
    found.save(str(path))
    assert json.loads(path.read_text())["model"]["dropout"] == 0.5
    return found


def test_a_tokenizer_of_a_file_drops_no_merges(tmp_path):
    bpe(tmp_path / "tokenizer.json")
    made = [TextWindows(TEXT, tmp_path / "tokenizer.json", 16) for _ in range(3)]
    assert len({each.fingerprint for each in made}) == 1
    net = CrateGPT(vocabulary=256, block_size=16, dim=16, depth=2, heads=2)
    reads = wp.TextPreprocess(str(tmp_path / "tokenizer.json"), 16)
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    model = wp.wrap(net, preprocess=reads)
    one, two = (wp.probe(model, path, ["l0", "coding_rate"], progress=False) for _ in range(2))
    assert one == two


def test_a_tokenizer_of_transformers_drops_no_merges(tmp_path):
    transformers = pytest.importorskip("transformers")
    found = bpe(tmp_path / "tokenizer.json")
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=found, unk_token="[UNK]")
    fast.save_pretrained(tmp_path)
    made = [TextWindows(TEXT, tmp_path, 16) for _ in range(3)]
    assert len({each.fingerprint for each in made}) == 1


def noisy(patch):
    """A known family that draws in its forward pass."""
    model = model_of("vit")
    embed = model.module.patch_embed.forward
    patch.setattr(
        model.module.patch_embed, "forward", lambda x: embed(x + 0.1 * torch.randn_like(x))
    )
    return model


def test_a_model_that_draws_is_seeded_and_recorded(monkeypatch):
    model = noisy(monkeypatch)
    with pytest.warns(DrawsWarning, match="vit draws random numbers in its forward pass"):
        found = [
            wp.probe(model, IMAGES[:8], ["l0", "coding_rate"], progress=False, seed=seed)
            for seed in (0, 0, 1)
        ]
    assert found[0] == found[1]
    assert not found[0].samples.equals(found[2].samples)
    assert found[0].run.network["draws"] == "seeded"


def test_dropout_that_stays_on_is_noticed(monkeypatch):
    torch.manual_seed(0)
    model = wp.wrap(small_vit(), name="vit")
    last = model.module.blocks[0].mlp.forward
    drop = torch.nn.functional.dropout
    monkeypatch.setattr(
        model.module.blocks[0].mlp, "forward", lambda x: drop(last(x), 0.5, training=True)
    )
    with pytest.warns(DrawsWarning):
        wp.probe(model, IMAGES[:8], ["l0"], progress=False)


def test_the_callers_random_numbers_are_left_alone():
    vit, crate = model_of("vit"), model_of("crate")
    numpy = np.random.get_state
    before = torch.get_rng_state(), numpy()[1].copy(), random.getstate()
    wp.probe(vit, IMAGES[:8], ["l0", "compression"], basis="random", progress=False)
    wp.similarity(vit, crate, IMAGES[:8], rank=2, progress=False)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (numpy()[1] == before[1]).all()
    assert random.getstate() == before[2]


def test_a_model_that_draws_nothing_says_nothing():
    assert "draws" not in wp.probe(model_of("vit"), IMAGES[:8], ["l0"], progress=False).run.network


@pytest.mark.parametrize("draw", [lambda: np.random.rand(), random.random], ids=["numpy", "python"])  # noqa: NPY002
def test_what_draws_elsewhere_is_seeded_told_and_put_back(draw):
    network = small_vit()

    class Noise(torch.nn.Module):
        def forward(self, x):
            return x + draw()

    network.norm_pre = Noise()
    model = wp.wrap(network, name="noisy")
    images = torch.randn(4, 3, 12, 12)
    before = np.random.get_state()[1].tobytes(), random.getstate()  # noqa: NPY002
    with pytest.warns(DrawsWarning):
        one, two = (wp.probe(model, images, ["coding_rate"], progress=False) for _ in range(2))
    assert one.frame.equals(two.frame)
    assert (np.random.get_state()[1].tobytes(), random.getstate()) == before  # noqa: NPY002


class Torch:
    def __init__(self):
        self.own = torch.Generator().manual_seed(5)

    def __call__(self, x):
        return 0.1 * torch.randn(x.shape, generator=self.own)


class NumPy:
    def __init__(self):
        self.own = {"of": [np.random.default_rng(5)]}

    def __call__(self, x):
        return torch.from_numpy(self.own["of"][0].normal(size=x.shape)).to(x)


class Legacy:
    def __init__(self):
        self.own = np.random.RandomState(5)

    def __call__(self, x):
        return torch.from_numpy(self.own.normal(size=x.shape)).to(x)


def holding(make):
    """A network, one part of which adds noise by a generator that it holds."""
    noise = make()

    class Noise(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.held = noise.own

        def forward(self, x):
            return x + noise(x)

    network = small_vit()
    network.norm_pre = Noise()
    return wp.wrap(network, name="noisy"), noise


@pytest.mark.parametrize("make", [Torch, NumPy, Legacy])
def test_a_generator_that_a_part_holds_is_seeded_told_and_put_back(make):
    model, noise = holding(make)
    images = torch.randn(4, 3, 12, 12)
    with pytest.warns(DrawsWarning, match="draws random numbers"):
        one, two = (wp.probe(model, images, ["coding_rate"], progress=False) for _ in range(2))
    assert one.frame.equals(two.frame)
    assert one.run.network["draws"] == "seeded"
    after, x = noise(torch.zeros(3)), torch.zeros(3)
    assert torch.equal(after, make()(x))  # the probe did not draw of it


def bound(noise):
    return lambda _, args, out: out + noise(out)


def as_default(noise):
    return lambda _, args, out, noise=noise: out + noise(out)


def as_partial(noise):
    return partial(lambda noise, _, args, out: out + noise(out), noise)


class Hook:
    def __init__(self, noise):
        self.noise = noise

    def __call__(self, _, args, out):
        return out + self.noise(out)

    def method(self, _, args, out):
        return out + self.noise(out)


@pytest.mark.parametrize("make", [Torch, NumPy])
@pytest.mark.parametrize(
    "hook", [bound, as_default, as_partial, Hook, lambda noise: Hook(noise).method]
)
def test_a_generator_that_a_hook_holds_is_seeded_told_and_put_back(make, hook):
    noise, network = make(), small_vit()
    network.blocks[0].mlp.register_forward_hook(hook(noise))
    model = wp.wrap(network, name="noisy")
    images = torch.randn(4, 3, 12, 12)
    with pytest.warns(DrawsWarning, match="noisy draws random numbers"):
        one, two = (wp.probe(model, images, ["coding_rate"], progress=False) for _ in range(2))
    assert one.frame.equals(two.frame)
