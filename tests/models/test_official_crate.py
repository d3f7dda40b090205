"""A module of the official CRATE code, written here anew with the structure of the release."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import whitebox_probe as wp
from whitebox_probe._core.errors import SiteError
from whitebox_probe.models.registry import build

ARCH = {"image_size": 12, "patch_size": 4, "classes": 2}
ARCH |= {"dim": 16, "depth": 3, "heads": 2, "dim_head": 6}


class PreNorm(nn.Module):
    def __init__(self, dim, fn):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fn = fn

    def forward(self, x, **kwargs):
        return self.fn(self.norm(x), **kwargs)


class FeedForward(nn.Module):
    def __init__(self, dim, step_size=0.1):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(dim, dim))
        nn.init.kaiming_uniform_(self.weight)
        self.step_size, self.lambd = step_size, 0.1

    def forward(self, x):
        back = self.weight.t()
        twice = F.linear(F.linear(x, self.weight), back)
        update = self.step_size * (F.linear(x, back) - twice) - self.step_size * self.lambd
        return F.relu(x + update)


class Attention(nn.Module):
    def __init__(self, dim, heads, dim_head):
        super().__init__()
        self.heads, self.scale = heads, dim_head**-0.5
        self.attend = nn.Softmax(dim=-1)
        self.dropout = nn.Dropout(0.1)
        self.qkv = nn.Linear(dim, heads * dim_head, bias=False)
        self.to_out = nn.Sequential(nn.Linear(heads * dim_head, dim), nn.Dropout(0.1))

    def forward(self, x):
        w = self.qkv(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        attn = self.dropout(self.attend(w @ w.transpose(-1, -2) * self.scale))
        return self.to_out((attn @ w).transpose(1, 2).flatten(2))


class Transformer(nn.Module):
    def __init__(self, dim, depth, heads, dim_head):
        super().__init__()
        self.layers = nn.ModuleList([])
        self.heads, self.depth, self.dim = heads, depth, dim
        for _ in range(depth):
            steps = [PreNorm(dim, Attention(dim, heads, dim_head)), PreNorm(dim, FeedForward(dim))]
            self.layers.append(nn.ModuleList(steps))

    def forward(self, x):
        for attn, ff in self.layers:
            x = ff(attn(x) + x)
        return x


class Cut(nn.Module):
    def __init__(self, p):
        super().__init__()
        self.p = p

    def forward(self, x):
        B, C, H, W = x.shape
        x = x.view(B, C, H // self.p, self.p, W // self.p, self.p)
        return x.permute(0, 2, 4, 3, 5, 1).reshape(B, -1, self.p * self.p * C)


class CRATE(nn.Module):
    def __init__(self, *, image_size, patch_size, classes, dim, depth, heads, dim_head):
        super().__init__()
        wide, count = 3 * patch_size**2, (image_size // patch_size) ** 2
        self.to_patch_embedding = nn.Sequential(
            Cut(patch_size), nn.LayerNorm(wide), nn.Linear(wide, dim), nn.LayerNorm(dim)
        )
        self.pos_embedding = nn.Parameter(torch.randn(1, count + 1, dim))
        self.cls_token = nn.Parameter(torch.randn(1, 1, dim))
        self.dropout = nn.Dropout(0.1)
        self.transformer = Transformer(dim, depth, heads, dim_head)
        self.pool, self.to_latent = "cls", nn.Identity()
        self.mlp_head = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, classes))

    def forward(self, img):
        x = self.to_patch_embedding(img)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)
        x = self.dropout(x + self.pos_embedding[:, : x.shape[1]])
        return self.mlp_head(self.to_latent(self.transformer(x)[:, 0]))


@pytest.fixture
def pair():
    official = CRATE(**ARCH).double().eval()
    ours = build("crate", ARCH, source="here").double()
    ours.load_state_dict(official.state_dict())
    return official, ours


def test_it_is_recognised_and_reads_as_the_networks_own(pair):
    official, ours = pair
    images = torch.randn(2, 3, 12, 12, dtype=torch.float64)
    seen, known = wp.wrap(official, name="one"), wp.wrap(ours, name="one")
    assert seen.family.name == "crate"
    assert (seen.dims, seen.sites, seen.prefix_tokens) == (known.dims, known.sites, 1)
    with torch.inference_mode():
        before = official(images)
        with wp.record(seen, seen.sites) as got:
            assert torch.equal(official(images), before)
        with wp.record(known, known.sites) as want:
            ours(images)
    for layer in (1, 2, 3):
        assert torch.equal(seen.subspaces(layer), known.subspaces(layer))
        assert seen.layer(layer).operators["eta"] == known.layer(layer).operators["eta"] == 0.1
        for site in seen.sites:
            torch.testing.assert_close(got[site, layer], want[site, layer], rtol=1e-12, atol=1e-13)


def test_it_measures_what_the_networks_own_does(pair):
    images = torch.randn(4, 3, 12, 12, dtype=torch.float64)
    metrics = ["compression", "coding_rate", "l0", "descent_cosine"]
    one, other = (wp.probe(wp.wrap(m, name="x"), images, metrics, progress=False) for m in pair)
    for metric in metrics:
        a, b = (r.curve(metric)["mean"].to_numpy() for r in (one, other))
        assert a == pytest.approx(b, rel=1e-9)


@pytest.mark.parametrize("part", ["step", "attention"])
def test_one_that_computes_something_else_is_refused(pair, part):
    official, _ = pair
    attention, step = (official.transformer.layers[1][i].fn for i in (0, 1))
    if part == "step":
        step.forward = lambda x: F.relu(FeedForward.forward(step, x) + 0.1)
    else:
        attention.scale = 1.0
    with pytest.raises(SiteError, match="layer 2 of CRATE"):
        wp.wrap(official)
