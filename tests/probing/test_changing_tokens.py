"""Layers that drop tokens, as pruning and merging do: what follows tokens or divides by n."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import whitebox_probe as wp
from whitebox_probe._core.errors import ResultError, ShapeError

LAYERS, TOKENS, WIDTH, HEADS = 4, 10, 16, 4
SITES = {
    "z_in": "blocks.{layer}:input",
    "attn_in": "blocks.{layer}.mix:input",
    "attn_out": "blocks.{layer}.mix:output",
    "z_half": "blocks.{layer}.rest:input",
    "z_out": "blocks.{layer}:output",
}


class Block(nn.Module):
    """Two steps, of which the first keeps so many tokens less."""

    def __init__(self, less: int) -> None:
        super().__init__()
        self.mix, self.rest = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.less = less

    def forward(self, z):
        z = (z + self.mix(z))[:, : z.shape[1] - self.less]
        return z + self.rest(z).relu()


class Pruned(nn.Module):
    """A stack of them; the first layer keeps all tokens."""

    def __init__(self, less: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(less if n else 0) for n in range(LAYERS))

    def forward(self, tokens):
        for block in self.blocks:
            tokens = block(tokens)
        return tokens


@pytest.fixture(scope="module")
def tokens():
    return torch.randn(6, TOKENS, WIDTH, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def network():
    def make(less):
        torch.manual_seed(0)
        module = Pruned(less)
        subspaces = "blocks.{layer}.mix.weight"
        return wp.wrap(module, name="pruned", sites=SITES, heads=HEADS, subspaces=subspaces)

    return make


def test_each_layer_is_measured_on_the_tokens_that_it_has(network, tokens):
    model = network(1)
    found = wp.probe(model, tokens, ["coding_rate"], prenorm=False, batch_size=4, progress=False)
    kept = []
    hooks = [
        block.register_forward_hook(lambda _, __, out: kept.append(out.double().numpy()))
        for block in model.module.blocks
    ]
    with torch.no_grad():
        model.module(tokens)
    for hook in hooks:
        hook.remove()
    for n, Z in enumerate(kept):
        assert Z.shape[1] == TOKENS - n
        gain = WIDTH / (Z.shape[1] * 0.1**2)
        rates = [np.linalg.slogdet(np.eye(WIDTH) + gain * z.T @ z)[1] / 2 for z in Z]
        np.testing.assert_allclose(found.values("coding_rate")[:, n], rates, rtol=1e-6)


@pytest.mark.parametrize("metric", ["attention_rate_change", "token_snr_growth"])
def test_what_follows_tokens_is_refused(network, tokens, metric):
    with pytest.raises(ShapeError, match=rf"'{metric}' cannot be measured in layer 2.*9 at 'z_"):
        wp.probe(network(1), tokens, [metric], progress=False)
    assert len(wp.probe(network(0), tokens, [metric], progress=False).frame) == LAYERS


@pytest.mark.parametrize("form", ["per_token", "per_entry", "position"])
def test_no_rate_is_divided_by_a_number_of_tokens_that_its_layer_has_not(network, tokens, form):
    options = {"metrics": "compression", "convention": "official", "progress": False}
    whole, fewer = (wp.probe(network(less), tokens, **options) for less in (0, 1))
    assert fewer.run.tokens_change
    assert not whole.run.tokens_change
    assert whole.run.bounds
    assert not fewer.run.bounds
    wp.plots.compression(whole, normalise=form, convention="official")
    with pytest.raises(ResultError, match="its layers hold different numbers of tokens"):
        wp.plots.compression(fewer, normalise=form, convention="official")
    wp.plots.compression(fewer, convention="official")


def test_lengths_that_differ_between_samples_are_no_change(network, tokens):
    samples = [tokens[0], tokens[1, :7], tokens[2]]
    found = wp.probe(network(0), samples, ["coding_rate"], batch_size=1, progress=False)
    assert not found.run.tokens_change


def test_an_audit_says_which_claims_these_layers_leave_open(network, tokens):
    audit = wp.audit(network(1), tokens, null=False, robustness=False, progress=False)
    told = audit.frame.set_index("claim")
    for claim in ("compresses", "keeps_expanding", "objective_improves"):
        assert told["verdict"][claim] == "not applicable"
        assert "tokens" in told["reason"][claim]


def test_what_is_put_side_by_side_says_that_there_is_no_one_n(network, tokens, tmp_path):
    options = {"prenorm": False, "progress": False}
    both = [wp.probe(network(less), tokens, ["coding_rate", "l0"], **options) for less in (0, 1)]
    named = [replace(r, run=replace(r.run, model=name)) for r, name in zip(both, "ab", strict=True)]
    with pytest.raises(ResultError, match="the layers of b hold different numbers of tokens"):
        wp.compare(named)
    twice = [replace(both[1], run=replace(both[1].run, model=name)) for name in "cd"]
    with pytest.raises(ResultError, match="cannot be compared"):
        wp.compare(twice)  # they may drop them at other layers
    page = wp.report(named, tmp_path / "page.html")
    assert "per token" not in page.read_text(encoding="utf-8")
    plain = [wp.probe(network(less), tokens, ["l0"], **options) for less in (0, 1)]
    named = [replace(r, run=replace(r.run, model=n)) for r, n in zip(plain, "ab", strict=True)]
    assert len(wp.compare(named).differences) == LAYERS
