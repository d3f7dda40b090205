"""Numbers that are none are told in one line with layer and site, or are NaN with a reason."""

import numpy as np
import pytest
import torch
from torch import nn

import whitebox_probe as wp
from tests.conftest import small_vit
from whitebox_probe._core.errors import NonFiniteError
from whitebox_probe.probing.similarity import SameFeaturesWarning

IMAGES = torch.randn(8, 3, 12, 12, generator=torch.Generator().manual_seed(0))
CLASSED = torch.utils.data.TensorDataset(IMAGES, torch.arange(8) % 4)
TOGETHER = ["class_rate", "neural_collapse", "rank_me", "token_spectrum", "intrinsic_dimension"]


def spoilt(change):
    net = small_vit()
    with torch.no_grad():
        change(net)
    return wp.wrap(net, name="spoilt")


class Overflowing(nn.Module):
    def forward(self, Z):
        return Z * 1e38 * 1e38


def overflowing(net):
    net.blocks[1].mlp.drop1 = Overflowing()


def of_dead_projections(net):
    net.blocks[1].attn.qkv.weight.zero_(), net.blocks[1].attn.qkv.bias.zero_()


def nested(tensor):
    return torch.nested.nested_tensor([tensor, tensor[:2]])


def larger_than_memory(tensor):
    return tensor[:1, :1].expand(10**6, 10**6)


def of_a_part(tensor):
    """Windows of what is finite, in memory that is not."""
    held = torch.cat(
        [tensor.new_full((5,), torch.nan), tensor.new_ones(9), tensor.new_full((5,), torch.nan)]
    )
    return held.as_strided((5, 5), (1, 1), 5)


def of_windows(tensor):
    return tensor.new_ones(2 * 10**6).as_strided((10**6, 10**6), (1, 1))


def dead(net):
    for parameter in net.parameters():
        parameter.zero_()


def probe(model, metrics=None, data=CLASSED, **options):
    return wp.probe(model, data, metrics, progress=False, **options)


@pytest.mark.parametrize("metrics", [None, *([each] for each in TOGETHER)], ids=str)
def test_what_is_not_finite_is_told_with_its_layer_and_site(metrics):
    with pytest.raises(NonFiniteError, match=r"8 of 8 samples.* at z_\w+ of layer 2.*weights"):
        probe(spoilt(overflowing), metrics)


@pytest.mark.parametrize("number", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize(
    "part", ["attn.qkv.weight", "attn.qkv.bias", "mlp.fc1.weight", "norm1.bias"]
)
@pytest.mark.parametrize("metrics", [None, ["coherence"], ["rank_me"]], ids=str)
def test_weights_that_are_not_finite_are_told_by_name(part, number, metrics):
    """Fused attention makes numbers of NaN among the queries, and each value was finite."""

    def change(net):
        net.blocks[1].get_parameter(part).view(-1)[3] = number

    told = (
        f"not finite: 1 of (them|its weights) hold NaN or infinity, the first is 'blocks.1.{part}'"
    )
    with pytest.raises(NonFiniteError, match=told):
        probe(spoilt(change), metrics)
    with pytest.raises(NonFiniteError, match=told):
        probe(spoilt(change), metrics, nonfinite="drop")
    with pytest.raises(NonFiniteError, match=told):
        wp.similarity(spoilt(change), wp.wrap(small_vit()), CLASSED, progress=False)


def test_an_overflow_in_half_precision_is_told():
    def grown(net):
        net.blocks[1].mlp.fc2.weight.mul_(1e9)

    assert len(probe(spoilt(grown), ["l0"]).samples) == 8
    with pytest.raises(NonFiniteError, match="of layer 2.*float16 overflows"):
        probe(spoilt(grown), ["token_norm"], dtype="float16")


@pytest.mark.parametrize("change", [of_dead_projections, dead])
def test_a_dead_layer_gives_right_values_and_nan_with_a_reason(change):
    frame = probe(spoilt(change)).frame
    nothing = frame[~np.isfinite(frame["mean"])]
    assert len(nothing)
    assert (nothing["note"] != "").all()
    of_two = nothing[(nothing["metric"] == "coherence_mean") & (nothing["layer"] == 2)]
    assert of_two["note"].tolist() == ["none, as 2 of 2 subspaces of layer 2 are zero"]
    rates = frame[(frame["metric"] == "compression") & (frame["layer"] == 2)]
    assert rates["mean"].tolist() == [0.0]


def test_one_token_and_one_sample_have_values_or_a_reason():
    net = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    U = torch.eye(8)[None, :, :4]
    model = wp.wrap(net, sites={"z_out": "{layer}:output"}, dim=8, subspaces=lambda *_: U)
    metrics = ["l0", "coding_rate", "token_coherence", "rank_me"]
    for tokens in (torch.randn(6, 1, 8), torch.randn(1, 4, 8), torch.zeros(6, 1, 8)):
        frame = probe(model, metrics, tokens).frame
        assert (np.isfinite(frame["mean"]) | (frame["note"] != "")).all()


def test_a_similarity_of_what_is_not_finite_or_dead_is_told():
    other = wp.wrap(small_vit(), name="other")
    with pytest.raises(NonFiniteError, match="spoilt at z_out of layer 2 are not finite"):
        wp.similarity(spoilt(overflowing), other, IMAGES, rank=2, progress=False)
    with pytest.warns(SameFeaturesWarning, match="layer 1, 2, 3 of spoilt are NaN"):
        wp.similarity(spoilt(dead), other, IMAGES, rank=2, progress=False)


def test_two_models_of_one_module_are_compared():
    net = small_vit()
    found = wp.similarity(wp.wrap(net), wp.wrap(net), IMAGES, rank=2, progress=False)
    assert np.diagonal(found.cka) == pytest.approx(1)


def test_the_same_call_twice_gives_the_same_bytes(tmp_path):
    names = ["table.csv", "table.parquet", "samples.parquet", "matrices.npz"]
    net = small_vit()
    for n, options in enumerate(({}, {}, {"workers": 2}, {"batch_size": 3})):
        result = probe(wp.wrap(net), ["compression", "coherence", "rank_me"], **options)
        result.save(tmp_path / str(n))
        wp.plots.save(wp.plots.compression(result), tmp_path / str(n) / "f", ["png", "svg", "pdf"])
        wanted = [*names, "f.png", "f.svg"] if n < 3 else names[:1]
        for name in wanted if n < 3 else ():
            first, now = ((tmp_path / str(i) / name).read_bytes() for i in (0, n))
            assert first == now, name
    tables = [wp.Result.load(tmp_path / str(n)).frame["mean"].to_numpy() for n in (0, 3)]
    assert tables[0] == pytest.approx(tables[1], rel=1e-5)


@pytest.mark.filterwarnings("ignore:Sparse CSR:UserWarning")
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested:UserWarning")
@pytest.mark.parametrize(
    "make",
    [
        torch.Tensor.to_sparse,
        torch.Tensor.to_sparse_csr,
        nested,
        larger_than_memory,
        of_windows,
        of_a_part,
    ],
)
def test_weights_of_other_layouts_are_passed_over(make):
    net = small_vit()
    net.beside = nn.Parameter(make(torch.eye(3)), requires_grad=False)
    assert len(probe(wp.wrap(net), ["l0"], IMAGES).samples) == 8


def test_an_expanded_weight_that_is_not_finite_is_told():
    net = small_vit()
    net.beside = nn.Parameter(larger_than_memory(torch.eye(3) * torch.nan), requires_grad=False)
    with pytest.raises(NonFiniteError, match="1 of them hold NaN or infinity, the first is 'besid"):
        probe(wp.wrap(net), ["l0"], IMAGES)
