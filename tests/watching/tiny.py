"""A tiny training to watch: a network that draws, keeps statistics, and remembers a table."""

import random

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

SITES = {"z_in": "blocks.{layer}:input", "z_out": "blocks.{layer}:output"}


class Block(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.linear, self.norm, self.drop = nn.Linear(dim, dim), nn.BatchNorm1d(dim), nn.Dropout()
        self.table = None  # made at the first pass, as tables of rotations are

    def forward(self, Z):
        if self.table is None:
            self.table = torch.linspace(0.5, 1.5, Z.shape[-1])
        Z = Z * self.table
        return self.drop(F.relu(self.linear(Z) + self.norm(Z.mT).mT))


class Network(nn.Module):
    """Tokens (B, 4, 8) -> two logits; it counts its passes, in evaluation mode too."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(Block(8) for _ in range(3))
        self.head = nn.Linear(8, 2)
        self.register_buffer("passes", torch.zeros(()))
        self.own = torch.Generator().manual_seed(5)
        self.calls = 0

    def forward(self, Z):
        self.passes += 1
        self.calls += 1
        Z = Z + 0.01 * torch.randn(Z.shape, generator=self.own)
        for block in self.blocks:
            Z = block(Z)
        return self.head(Z.mean(dim=1))


def network():
    torch.manual_seed(0)
    return Network()


def images(count=8, seed=1):
    return torch.randn(count, 4, 8, generator=torch.Generator().manual_seed(seed))


def train(net, steps, after=None, *, autocast=False):
    """A loop that draws from every kind of random numbers; gives all that a training leaves."""
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    random.seed(1)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    losses = []
    net.train()
    for _ in range(steps):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            Z = torch.randn(16, 4, 8) * random.random() + np.random.rand()  # noqa: NPY002
            loss = F.cross_entropy(net(Z), torch.randint(2, (16,)))
            if after is not None and autocast:
                after()  # inside the region, between forward and backward
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if after is not None and not autocast:
            after()
        losses.append(loss.item())
    return losses, left(net, optimizer)


def left(net, optimizer):
    """What can be seen of a network and of the random states, as bytes."""
    tensors = {**net.state_dict(), **{f"{n}.grad": p.grad for n, p in net.named_parameters()}}
    for number, state in optimizer.state_dict()["state"].items():
        tensors |= {f"{number}.{name}": value for name, value in state.items()}
    found = {n: None if t is None else t.detach().numpy().tobytes() for n, t in tensors.items()}
    hooks = [len(p._forward_hooks) + len(p._forward_pre_hooks) for p in net.modules()]
    modes = [part.training for part in net.modules()]
    random_states = (
        torch.get_rng_state().numpy().tobytes(),
        repr(np.random.get_state()),  # noqa: NPY002
        random.getstate(),
        net.own.get_state().numpy().tobytes() if hasattr(net, "own") else b"",
    )
    return found, hooks, modes, random_states, getattr(net, "calls", None)
