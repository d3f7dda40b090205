"""What has no value is NaN with a reason; what is left out is counted: samples, heads, pairs."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import whitebox_probe as wp
from whitebox_probe._core.errors import NonFiniteError
from whitebox_probe.metrics import functional as F

D, K, P, N, TOKENS = 8, 4, 2, 6, 5
G = torch.Generator().manual_seed(0)
X = torch.randn(N, TOKENS, D, generator=G)
OF_SAMPLES = ["mean_cosine", "spectral_decay", "token_snr", "token_snr_entropy", "token_snr_growth"]
TOGETHER = ["rank_me", "token_spectrum", "token_coherence"]


class Layer(nn.Module):
    """Tokens times a number, which may be zero, beside the subspaces of its heads."""

    def __init__(self, size, zero=()):
        super().__init__()
        self.size = size
        self.heads = nn.Parameter(torch.randn(K, D, P, generator=G))
        with torch.no_grad():
            self.heads[list(zero)] = 0

    def forward(self, Z):
        return self.size * Z


def wrapped(*layers):
    return wp.wrap(
        nn.Sequential(*layers),
        sites={"z_in": "{layer}:input", "z_out": "{layer}:output"},
        dim=D,
        subspaces=lambda net, layer: net[layer - 1].heads.detach(),
        name="net",
    )


def probed(model, metrics, data=X, **options):
    return wp.probe(model, data, metrics, progress=False, **options)


def rows(result, layer):
    return result.frame[result.frame["layer"] == layer].set_index("metric")


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_sample_of_zeros_has_none_and_the_others_have_theirs(batch_size, tmp_path):
    model = wrapped(Layer(1), Layer(2))
    some = X.clone()
    some[3] = 0
    whole = probed(model, OF_SAMPLES)
    result = probed(model, OF_SAMPLES, some, batch_size=batch_size)
    for name in OF_SAMPLES:
        row = rows(result, 2).loc[name]
        assert math.isnan(row["mean"])
        assert row["note"].startswith("none, as ")
        assert "1 of 6 samples" in row["note"]
        found, want = result.values(name)[:, 1], whole.values(name)[:, 1]
        assert np.flatnonzero(np.isnan(found)).tolist() == [3]
        np.testing.assert_allclose(np.delete(found, 3), np.delete(want, 3), rtol=1e-6, atol=1e-7)
    assert (whole.frame["note"] == "").all()
    assert wp.Result.load(result.save(tmp_path / "run")) == result


def test_a_dead_layer_has_no_value_where_the_formula_has_none(tmp_path):
    result = probed(wrapped(Layer(1), Layer(0)), [*OF_SAMPLES, *TOGETHER, "effective_rank"])
    dead = rows(result, 2)
    assert dead.loc["effective_rank", "mean"] == 0
    none = dead.drop(index="effective_rank")
    assert none["mean"].isna().all()
    assert none["note"].str.startswith("none, as ").all()
    assert none.loc["rank_me", "note"] == "none, as the mean tokens of all samples are zero"
    assert none.loc["leading_share", "note"] == "none, as all entries of all 6 samples are zero"
    heads = none.loc[["token_overlap", "token_overlap_random", "token_dimension"], "note"]
    assert heads.eq("none, as the tokens of 4 of 4 heads are zero").all()
    assert rows(result, 1)["mean"].notna().all()
    assert wp.Result.load(result.save(tmp_path / "run")) == result


def test_the_mean_spectrum_is_that_of_the_samples_that_have_one():
    some = X.clone()
    some[[1, 4]] = 0
    result = probed(wrapped(Layer(1)), ["token_spectrum"], some, batch_size=2)
    row = rows(result, 1).loc["leading_share"]
    want = F.token_spectrum(X[[0, 2, 3, 5]]).mean(dim=0)
    np.testing.assert_allclose(result.matrix("token_spectrum")[0], want, rtol=1e-6, atol=1e-9)
    assert row["mean"] == pytest.approx(float(want[0]))
    assert row["count"] == 4
    assert row["note"] == "2 of 6 samples are zero and left out"


@pytest.mark.parametrize("batch_size", [1, 6])
def test_a_sample_of_one_token_stops_no_run(batch_size):
    mask = torch.ones(N, TOKENS, dtype=torch.bool)
    mask[2, 1:] = False
    mask[5, 3:] = False
    names = [*OF_SAMPLES, "l0", "effective_rank"]
    data = {"x": X.numpy(), "mask": mask.numpy()}
    result = probed(wrapped(Layer(1)), names, wp.data(data), batch_size=batch_size)
    row = rows(result, 1)
    for name, why in (
        ("mean_cosine", "1 of 6 samples have fewer than two tokens that are not zero"),
        ("spectral_decay", "1 of 6 samples span fewer than two directions"),
    ):
        assert row.loc[name, "note"] == f"none, as {why}"
        assert np.flatnonzero(np.isnan(result.values(name)[:, 0])).tolist() == [2]
    assert row.drop(index=["mean_cosine", "spectral_decay"])["mean"].notna().all()
    assert result.values("mean_cosine")[5, 0] == pytest.approx(F.mean_cosine(X[5:, :3]).item())


def test_pairs_are_counted_without_the_heads_that_are_zero():
    result = probed(wrapped(Layer(1), Layer(1, zero=[2]), Layer(1)), ["coherence"])
    first, second, third = (rows(result, layer) for layer in (1, 2, 3))
    own = second.index != "next_layer_overlap"
    assert second.loc[own, "count"].eq(3).all()
    assert second["note"].eq("1 of 4 subspaces of layer 2 are zero and left out").all()
    assert second["mean"].notna().all()
    # Between two layers it is a mean over the heads of the first one.
    assert [each.loc["next_layer_overlap", "count"] for each in (first, second)] == [4, 3]
    told = first.loc["next_layer_overlap", "note"]
    assert told == "1 of 4 subspaces of layer 2 are zero and left out"
    for whole in (first.drop(index="next_layer_overlap"), third):
        assert whole["count"].eq(6).all()
        assert whole["note"].eq("").all()


def test_one_head_that_is_left_has_no_pair():
    result = probed(wrapped(Layer(1, zero=[0, 1, 3]), Layer(1)), ["coherence", "token_coherence"])
    row = rows(result, 1)
    assert row.loc["overlap_mean", "count"] == 0
    assert row.loc["overlap_mean", "note"] == "none, as 3 of 4 subspaces of layer 1 are zero"
    assert row.loc["token_overlap", "note"] == "none, as the tokens of 3 of 4 heads are zero"
    assert row.loc["token_dimension", "mean"] >= 1


def test_a_head_without_tokens_has_no_dimension():
    heads = Layer(1, zero=[1]), Layer(1)
    whole, some = (rows(probed(wrapped(each), ["token_coherence"]), 1) for each in reversed(heads))
    kept = Layer(1)
    kept.heads = nn.Parameter(heads[0].heads.detach()[[0, 2, 3]])
    want = rows(probed(wrapped(kept), ["token_coherence"]), 1)
    np.testing.assert_allclose(some["mean"], want["mean"])
    assert some["note"].eq("the tokens of 1 of 4 heads are zero: these are left out").all()
    assert whole["note"].eq("").all()


def test_subspaces_that_are_not_finite_are_named_by_their_weights():
    broken = Layer(1)
    with torch.no_grad():
        broken.heads[3, 0, 0] = torch.nan
    told = (
        "net has weights that are not finite: 1 of them hold NaN or infinity, the first is '1.heads"
    )
    with pytest.raises(NonFiniteError, match=told) as caught:
        probed(wrapped(Layer(1), broken), ["coherence"])
    assert "sample" not in str(caught.value)
