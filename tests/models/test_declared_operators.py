"""What a mapping says of the steps: read from numbers, paths and functions, and checked."""

import json

import pytest
import torch
from torch import nn

import whitebox_probe as wp

D, H = 6, 10


class Step(nn.Module):
    """A proximal step from zero on a norm's tokens: relu(eta (Y D - lam)), decoded by D^T."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(D)
        self.atoms = nn.Parameter(torch.randn(H, D))
        self.weight = 0.2
        self.step = nn.Parameter(torch.tensor(0.05))
        self.code = nn.Identity()

    def forward(self, Z):
        A = self.code(torch.relu(self.step * (self.norm(Z) @ self.atoms.T - self.weight)))
        return A @ self.atoms


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(Step() for _ in range(3))

    def forward(self, Z):
        for layer in self.layers:
            Z = layer(Z)
        return Z


SITES = {
    "mlp_in": "layers.{layer}.norm:output",
    "code": "layers.{layer}.code:output",
    "z_out": "layers.{layer}:output",
}
PATHS = {"D": "layers.{layer}.atoms:T", "lam": "layers.{layer}.weight", "eta": 0.05}


def wrapped(operators, **more):
    return wp.wrap(Net(), sites=SITES, dim=D, operators=operators, **more)


def test_paths_numbers_and_functions_say_the_same():
    model = wrapped(PATHS)
    functions = {
        "D": lambda module, layer: module.layers[layer - 1].atoms.T,
        "lam": lambda module, layer: module.layers[layer - 1].weight,
        "eta": "layers.{layer}.step",
    }
    other = wp.wrap(model.module, sites=SITES, dim=D, operators=functions)
    for n in (1, 2, 3):
        mine, theirs = model.layer(n).operators, other.layer(n).operators
        assert torch.equal(mine["D"], model.module.layers[n - 1].atoms.T)
        assert torch.equal(mine["D"], theirs["D"])
        assert mine["lam"] == pytest.approx(0.2)
        assert theirs["lam"] == pytest.approx(0.2)
        assert mine["eta"] == pytest.approx(theirs["eta"])
        assert not mine["D"].requires_grad


def test_the_steps_are_measured():
    Z = torch.randn(4, 7, D)
    names = ["lasso_change", "lasso_step", "lasso_gap_closed"]
    result = wp.probe(wrapped(PATHS), Z, names, progress=False)
    assert set(result.frame["site"]) == {"code"}
    assert result.frame["mean"].notna().all()


def test_a_causal_attention_is_declared():
    assert wrapped(PATHS, causal=True).layer(2).causal
    assert not wrapped(PATHS).layer(2).causal


@pytest.mark.parametrize(
    ("operators", "told"),
    [
        ({"D": "layers.{layer}.atoms"}, r"D of layer 1 is \(10, 6\).*d = 6.*':T'"),
        ({"D": "layers.{layer}.atom:T"}, "names 'layers.0.atom', which is not in the module"),
        ({"D": "layers.{layer}.atoms:X"}, "has the layout 'X'"),
        ({"D": 3.0}, "D of layer 1 is float"),
        ({"lam": -1.0}, "lam of layer 1 is -1.0: it is a positive number"),
        ({"lam": "layers.{layer}.atoms"}, "no single number"),
        ({"kappa": 1.0}, "'kappa' is no operator"),
    ],
)
def test_what_does_not_fit_is_refused(operators, told):
    with pytest.raises(wp.ProbeError, match=told):
        wrapped(operators)


def test_without_sites_they_have_no_meaning():
    with pytest.raises(wp.ProbeError, match="a mapping without sites"):
        wp.wrap(Net(), operators=PATHS)


class Linear(nn.Module):
    """A second step without a ReLU."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(D)
        self.atoms = nn.Parameter(torch.randn(D, D) / D)

    def forward(self, Z):
        return self.norm(Z) @ self.atoms


@pytest.mark.parametrize("name", ["lasso_gap_closed", "lasso_vs_zero", "lasso_kkt", "lasso_change"])
def test_codes_with_negative_entries_are_no_codes_of_the_step(name):
    torch.manual_seed(0)
    net = Net()
    net.layers[1] = Linear()
    sites = {"mlp_in": "layers.{layer}.norm:output", "z_out": "layers.{layer}:output"}
    square = {"D": lambda module, layer: torch.eye(D), "lam": 0.1, "eta": 0.05}
    model = wp.wrap(net, sites=sites, dim=D, operators=square)
    with pytest.raises(wp.ProbeError, match=f"'{name}' .* negative entries"):
        wp.probe(model, torch.randn(3, 4, D), name, progress=False)


def test_a_written_mapping_declares_the_same(tmp_path):
    path = tmp_path / "net.yaml"
    told = {"about": "a net", "sites": SITES, "dim": D, "operators": PATHS, "causal": "flag"}
    path.write_text(json.dumps(told | {"grid": [2, 3]}))
    net = Net()
    net.flag = True
    model = wp.wrap(net, mapping=path)
    by_hand = wp.wrap(net, sites=SITES, dim=D, operators=PATHS, causal=True)
    for n in (1, 2, 3):
        mine, theirs = model.layer(n).operators, by_hand.layer(n).operators
        assert mine.keys() == theirs.keys()
        assert torch.equal(mine["D"], theirs["D"])
        assert (mine["lam"], mine["eta"]) == (theirs["lam"], theirs["eta"])
        assert model.layer(n).causal
    Z = torch.randn(4, 7, D)
    tables = [
        wp.probe(each, Z, ["lasso_change"], progress=False).frame for each in (model, by_hand)
    ]
    assert tables[0]["mean"].tolist() == tables[1]["mean"].tolist()
    assert tuple(model.anatomy.grid(net, Z)) == (2, 3)
    net.flag = False
    assert not wp.wrap(net, mapping=path).layer(1).causal
