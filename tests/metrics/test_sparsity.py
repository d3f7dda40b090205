"""Measures of sparsity against their definitions, and where they are defined by convention."""

import math

import numpy as np
import oracle
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import whitebox_probe as wp
from tests.metrics.drawing import draw, scales, sizes
from whitebox_probe._core.errors import NonFiniteError
from whitebox_probe.metrics import functional as F

NAMES = ["l0", "hoyer", "thresholded", "l1_l2", "gini", "excess_kurtosis", "treves_rolls"]


@settings(deadline=None, max_examples=40)
@given(n=st.integers(1, 9), d=st.integers(2, 9), scale=scales)
def test_counts_and_hoyer_equal_their_loops(n, d, scale):
    Z = scale * torch.relu(torch.randn(2, n, d, dtype=torch.float64))
    for i in range(2):
        assert F.l0(Z)[i] == pytest.approx(oracle.l0(Z[i]), rel=1e-12)
        assert F.hoyer(Z)[i] == pytest.approx(oracle.hoyer(Z[i]), rel=1e-10, abs=1e-12, nan_ok=True)
        assert F.thresholded(Z)[i] == pytest.approx(
            oracle.thresholded(Z[i]), rel=1e-12, nan_ok=True
        )


@given(**sizes)
def test_graded_measures_equal_their_definitions(n, d, seed):
    Z = torch.relu(draw(n, d, seed=seed)) + 1e-3
    for i, z in enumerate(Z.numpy()):
        assert F.l1_l2(Z)[i] == pytest.approx(oracle.l1_l2(z), rel=1e-12)
        assert F.gini(Z)[i] == pytest.approx(oracle.gini(z), rel=1e-9)
        assert F.treves_rolls(Z)[i] == pytest.approx(oracle.treves_rolls(z), rel=1e-12)
        if z.std() > 1e-6 * abs(z).max():  # scipy warns of nearly equal entries
            want = oracle.excess_kurtosis(z)
            assert F.excess_kurtosis(Z)[i] == pytest.approx(want, rel=1e-9, abs=1e-12)


GRADED = [name for name in NAMES if name not in ("l0", "excess_kurtosis")]  # of tokens


@pytest.mark.parametrize("name", NAMES[1:])
def test_zero_tokens_are_not_the_sparsest(name):
    Z = torch.cat([torch.zeros(1, 4, 6), draw(4, 6, batch=1)])
    found = getattr(F, name)(Z)
    assert found.isnan().tolist() == [True, False]
    assert F.l0(Z).tolist() == [0, 1]


@pytest.mark.parametrize("name", GRADED)
def test_zero_tokens_are_left_out_of_the_mean(name):
    some = draw(5, 6, batch=2)
    more = torch.cat([some[:, :2], torch.zeros(2, 3, 6), some[:, 2:]], dim=1)
    torch.testing.assert_close(getattr(F, name)(more), getattr(F, name)(some), rtol=1e-12, atol=0)


CLASSES = {"hoyer": "Hoyer", "thresholded": "Thresholded", "l1_l2": "L1L2", "gini": "Gini",
           "excess_kurtosis": "ExcessKurtosis", "treves_rolls": "TrevesRolls"}  # fmt: skip


@pytest.mark.parametrize("name", CLASSES)
def test_a_module_has_no_value_of_zeros_either(name):
    metric = getattr(wp.metrics, CLASSES[name])()
    metric.update(torch.zeros(2, 4, 6))
    assert metric.compute().isnan()


class TestOfAModel:
    """The table says how many tokens have no value, and why a sample has none."""

    IMAGES = torch.randn(8, 3, 12, 12, generator=torch.Generator().manual_seed(2))

    def probed(self, crate, share, **options):
        """With the last layer's output zero in some tokens: all of sample 5, and `share` of all."""
        images = self.IMAGES

        def zeros(_, inputs, output):
            output = output.clone()
            # By content, as a batch holds any of them.
            gone = (inputs[0][:, 1, 0:1] == self.first).any(dim=1)
            output[gone, : share * output.shape[1] // 4] = 0
            return output

        def keep(_, inputs, output):
            self.first = inputs[0][5, 1, 0].clone()

        block = crate.module.transformer.layers[-1][1]
        handle = block.register_forward_hook(keep)
        with torch.no_grad():
            crate.module(images)
        handle.remove()
        handle = block.register_forward_hook(zeros)
        try:
            return wp.probe(crate, images, NAMES, progress=False, **options)
        finally:
            handle.remove()

    @pytest.mark.parametrize("batch_size", [3, 8])
    def test_a_sample_of_zeros_has_none_and_the_others_do(self, crate, batch_size, tmp_path):
        result = self.probed(crate, 4, batch_size=batch_size)
        last = result.frame[result.frame["layer"] == crate.layers].set_index("metric")
        assert last.loc["l0", "note"] == ""
        assert last.loc["l0"].notna()["mean"]
        for name in NAMES[1:]:
            kind = "equal" if name == "excess_kurtosis" else "zero"
            assert math.isnan(last.loc[name, "mean"])
            assert last.loc[name, "note"] == f"none, as all entries of 1 of 8 samples are {kind}"
            values = result.values(name)[:, -1]
            assert np.flatnonzero(np.isnan(values)).tolist() == [5]
        assert result.frame[result.frame["layer"] < crate.layers]["mean"].notna().all()
        assert wp.Result.load(result.save(tmp_path / "run")) == result
        assert result.changes() is not None

    def test_zero_tokens_are_counted(self, crate):
        result = self.probed(crate, 2)
        last = result.frame[result.frame["layer"] == crate.layers].set_index("metric")
        assert last["mean"].notna().all()
        n = result.run.tokens
        want = f"{n // 2} of {8 * n} tokens are zero and left out"
        assert last.loc[GRADED, "note"].eq(want).all()
        assert last.loc[["l0", "excess_kurtosis"], "note"].eq("").all()

    def test_what_is_not_finite_is_refused_still(self, crate):
        block = crate.module.transformer.layers[-1][1]
        handle = block.register_forward_hook(lambda *_: _[-1] * math.nan)
        with pytest.raises(NonFiniteError, match="8 of 8 samples"):
            wp.probe(crate, self.IMAGES, ["hoyer"], progress=False)
        handle.remove()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("offset", [1e4, -1e4, 0.1])
def test_near_constant_tokens_have_no_kurtosis(dtype, offset):
    eps = torch.finfo(dtype).eps
    noise = torch.randn(3, 6, 8, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    flat = (offset * (1 + 0.5 * eps * noise)).to(dtype)
    flat[0] = offset
    assert F.excess_kurtosis(torch.full((1, 200, 384), offset / 3, dtype=dtype)).isnan()
    assert flat[1:].unique().numel() > 1  # they do differ, by rounding
    assert F.excess_kurtosis(flat).isnan().all()
    signal = (offset * (1 + 200 * eps * noise)).to(dtype)
    want = [oracle.excess_kurtosis(z / offset - 1) for z in signal.double().numpy()]
    assert F.excess_kurtosis(signal).tolist() == pytest.approx(want, rel=1e-2, abs=1e-2)


@pytest.mark.parametrize("name", NAMES)
def test_rank_one_and_huge_tokens_give_finite_values(name):
    one = torch.ones(1, 4, 1) @ torch.arange(1.0, 7.0)[None, None]
    for Z in (one, 1e4 * draw(4, 6), draw(40, 6, dtype=torch.float32)):
        assert getattr(F, name)(Z).isfinite().all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", NAMES)
def test_tokens_that_are_not_finite_are_named_not_averaged(name, bad):
    Z = torch.randn(3, 4, 5)
    Z[1, 2, 3] = bad
    with pytest.raises(NonFiniteError, match=r"1 of 3 samples.*sample 1"):
        getattr(F, name)(Z)
