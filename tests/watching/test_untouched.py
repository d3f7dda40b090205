"""A training that is watched is the training that it would have been, bit for bit."""

import random

import numpy as np
import pytest
import torch
from torch import nn
from watching.tiny import SITES, images, left, network, train

import whitebox_probe as wp
from tests.conftest import small_vit
from whitebox_probe.models.model import ProbeModel

pytestmark = [
    pytest.mark.usefixtures("alone"),
    pytest.mark.filterwarnings("ignore::whitebox_probe._core.errors.LoadWarning"),
]


def watched(net, **options):
    options = {"metrics": ["l0", "hoyer"], "every": 1} | options
    return wp.watch(wrapped(net), images(), **options)


def wrapped(net) -> ProbeModel:
    return wp.wrap(net, sites=SITES, dim=8, name="tiny")


@pytest.mark.parametrize("autocast", [False, True], ids=["plain", "in the middle, under autocast"])
def test_weights_gradients_buffers_modes_hooks_and_random_numbers_are_the_same(autocast):
    alone = train(network(), 6, autocast=autocast)
    net = network()
    watcher = watched(net)
    with watcher:
        together = train(net, 6, watcher.step, autocast=autocast)
    assert len(watcher.results()) == 7
    assert together == alone
    with watched(net) as watcher:  # so are those of a network that is not trained
        before = left(net, torch.optim.SGD(net.parameters()))
        assert watcher.step(1)
        assert left(net, torch.optim.SGD(net.parameters())) == before


def test_what_a_first_pass_keeps_is_made_by_the_training_and_not_by_the_watch():
    net = network()
    watched(net)
    assert [block.table for block in net.blocks] == [None] * 3
    train(net, 1)
    table = net.blocks[0].table
    watched(net).start()
    assert net.blocks[0].table is table


def test_the_trial_of_a_module_draws_nothing_of_the_callers():
    net = small_vit().train()
    net.own = torch.Generator().manual_seed(0)

    def draws(*_):
        np.random.rand(), random.random(), torch.rand(1, generator=net.own)  # noqa: NPY002

    net.blocks[0].register_forward_hook(draws)
    before = left(net, torch.optim.SGD(net.parameters()))
    wp.watch(net, torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(1))).start()
    assert left(net, torch.optim.SGD(net.parameters())) == before


def test_a_part_in_evaluation_mode_and_frozen_weights_stay_so():
    net = network()
    net.train()
    net.blocks[1].eval()
    net.head.requires_grad_(False)
    with watched(net) as watcher:
        watcher.step()
    assert [block.training for block in net.blocks] == [True, False, True]
    assert [p.requires_grad for p in net.head.parameters()] == [False, False]
    assert all(p.grad is None for p in net.parameters())


def test_an_error_in_a_measurement_leaves_no_trace_and_the_training_goes_on():
    alone = train(network(), 4)
    net = network()
    watcher = watched(net)

    def spoilt():
        keep = net.blocks[1].linear.bias.detach().clone()
        with torch.no_grad():
            net.blocks[1].linear.bias.fill_(torch.nan)
        with pytest.warns(UserWarning, match="is not logged.*not finite.*goes on"):
            watcher.step()
        watcher._warned.clear()
        with torch.no_grad():
            net.blocks[1].linear.bias.copy_(keep)

    watcher.start()
    assert train(net, 4, spoilt) == alone
    watcher.close(last=False)
    assert [result.model for result in watcher.results()] == ["tiny@0"]


def test_a_compiled_model_is_watched_as_it_is_written():
    def run(watch):
        net = network()
        compiled = torch.compile(net, backend="eager")
        if not watch:
            return train_compiled(compiled, net)
        with wp.watch(wrapped(compiled), images(), metrics=["l0"], every=1) as watcher:
            return train_compiled(compiled, net, watcher.step)

    def train_compiled(compiled, net, after=None):
        torch.manual_seed(2)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            compiled(images(16, seed=3)).square().mean().backward()
            optimizer.step()
            if after is not None:
                after()
        return {name: t.numpy().tobytes() for name, t in net.state_dict().items()}

    assert run(watch=True) == run(watch=False)


def test_the_input_is_the_same_each_time_though_a_model_writes_to_it():
    class Writes(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList(nn.Linear(8, 8) for _ in range(2))

        def forward(self, Z):
            Z.mul_(2)
            for block in self.blocks:
                Z = block(Z)
            return Z

    net = Writes()
    with watched(net, metrics=["token_norm"]) as watcher:
        watcher.step()
    first, second = (result.curve("token_norm")["mean"].tolist() for result in watcher.results())
    assert first == second


def test_a_measurement_inside_autocast_is_the_one_outside():
    net = network()
    with watched(net, metrics=["coding_rate"]) as watcher:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            watcher.step()
    first, second = (result.curve("coding_rate")["mean"] for result in watcher.results())
    assert first.tolist() == second.tolist()
