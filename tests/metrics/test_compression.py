"""R^c(Z; U) against textbook formulas in float64, the release's convention, and closed forms."""

import numpy as np
import oracle
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import whitebox_probe as wp
from tests.metrics.drawing import DTYPES, bases, draw, scales, shapes
from whitebox_probe._core.errors import NonFiniteError, ShapeError
from whitebox_probe.metrics import _linalg
from whitebox_probe.metrics import functional as F
from whitebox_probe.metrics.coding_rate import CodingRate
from whitebox_probe.metrics.compression import Compression
from whitebox_probe.metrics.tokens import HEADS, LayerTokens, project

G = torch.Generator().manual_seed(11)


@settings(deadline=None, max_examples=60)
@given(shape=shapes, scale=scales, dtype=st.sampled_from(DTYPES), rank=st.integers(1, 2))
def test_it_equals_the_textbook_formula(shape, scale, dtype, rank):
    n, d, K, p = shape
    Z, U = draw(n, d, scale=scale, rank=rank, dtype=dtype), bases(K, d, p)
    of = oracle.compression if scale == 1.0 else oracle.compression_by_singular_values
    for z, got in zip(Z, F.compression(Z, U, eps=0.3), strict=True):
        # The projection of float32 tokens is made in float64, so only their own rounding is left;
        # 1e-7 is the tolerance at which the package changes to singular values itself.
        np.testing.assert_allclose(got, of(z, U, 0.3), rtol=2e-7)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "d"), [(20, 50), (50, 20), (50, 50), (1, 9)])
def test_of_ordinary_tokens_it_is_right_to_ten_digits(n, d, dtype):
    Z, U = draw(n, d, dtype=dtype), bases(3, d, 4)
    for z, got in zip(Z, F.compression(Z, U, eps=0.5), strict=True):
        np.testing.assert_allclose(got, oracle.compression(z, U, 0.5), rtol=1e-10)


@settings(deadline=None, max_examples=40)
@given(n=st.integers(1, 9), K=st.integers(1, 3), p=st.integers(1, 5), scale=scales)
def test_the_official_convention_equals_the_release_head_by_head(n, K, p, scale):
    V = scale * torch.randn(2, K, n, p, dtype=torch.float64)
    for v, got in zip(V, F.official_compression(V), strict=True):
        np.testing.assert_allclose(got, oracle.official_compression(v), rtol=1e-10)


def test_zero_tokens_take_no_nats():
    assert F.compression(torch.zeros(1, 5, 4), torch.randn(2, 4, 2), eps=0.1).item() == 0
    assert F.official_compression(torch.zeros(1, 2, 5, 3)).item() == 0


def test_in_the_whole_space_it_is_the_coding_rate():
    Z = torch.randn(3, 5, 4, dtype=torch.float64)
    Q = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64)).Q
    torch.testing.assert_close(F.compression(Z, Q[None], eps=0.3), F.coding_rate(Z, eps=0.3))


def test_official_bounds_are_attained():
    K, p = 3, 4
    low, high = F.official_bounds(heads=K, dim_head=p, tokens=10)
    same = torch.ones(1, K, 10, p)
    spread = torch.eye(p).repeat(5, 1).expand(1, K, -1, -1)
    assert F.official_compression(same).item() == pytest.approx(low, rel=1e-12)
    assert F.official_compression(spread).item() == pytest.approx(high, rel=1e-12)
    few = torch.eye(p)[:3].expand(1, K, -1, -1)  # fewer tokens than directions
    _, high = F.official_bounds(heads=K, dim_head=p, tokens=3)
    assert F.official_compression(few).item() == pytest.approx(high, rel=1e-12)


def test_rotating_tokens_and_bases_together_does_not_matter_but_tokens_alone_does():
    Z, U = draw(7, 5), bases(3, 5, 2)
    Q = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64)).Q
    before = F.compression(Z, U, eps=0.3)
    torch.testing.assert_close(F.compression(Z @ Q, Q.T @ U, eps=0.3), before)
    assert not torch.allclose(F.compression(Z @ Q, U, eps=0.3), before)


def test_it_grows_with_the_scale_of_tokens_and_bases():
    Z, U = draw(7, 5), bases(3, 5, 2)
    before = F.compression(Z, U, eps=0.3)
    assert (F.compression(2 * Z, U, eps=0.3) > before).all()
    assert (F.compression(Z, 2 * U, eps=0.3) > before).all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_tokens_that_are_not_finite_are_named_not_averaged(bad):
    Z, U = torch.randn(3, 4, 5), torch.randn(2, 5, 2)
    Z[1, 2, 3] = bad
    for call in (
        lambda: F.compression(Z, U, eps=0.1),
        lambda: F.official_compression(Z[:, None]),
    ):
        with pytest.raises(NonFiniteError, match=r"1 of 3 samples.*sample 1"):
            call()


def test_a_basis_of_another_width_shows_what_came_and_what_is_needed():
    with pytest.raises(ShapeError, match=r"U has shape \(2, 4, 2\).*\(K, 5, p\)"):
        F.compression(torch.randn(1, 3, 5), torch.randn(2, 4, 2), eps=0.1)


def turned(d, seed=0):
    random = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(d, d, generator=random, dtype=torch.float64)).Q


class TestRounding:
    """What is rounding of the projection takes no nat at unit norm, whichever way it comes."""

    def made(self, dtype=torch.float32, unused=8):
        """Tokens that leave the last directions of an orthonormal basis unused, and the basis."""
        Q = turned(32)
        Z = (
            torch.randn(3, 20, 32 - unused, generator=G, dtype=torch.float64)
            @ Q[:, : 32 - unused].T
        )
        return Z.to(dtype), Q.unflatten(1, (4, 8)).transpose(0, 1).contiguous()

    def official(self, tokens, U):
        metric = Compression(convention="official")
        return metric.measure(LayerTokens(tokens, U), HEADS)

    @pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
    @pytest.mark.parametrize("unused", [8, 12, 24])
    def test_heads_that_tokens_do_not_reach_are_nothing(self, unused, scale):
        Z, U = self.made(unused=unused)
        used = U.mT.flatten(0, 1)[: 32 - unused]
        V = torch.zeros(3, 20, 32, dtype=torch.float64)
        V[..., : 32 - unused] = Z.double() @ used.T
        want = [
            oracle.official_compression([head for head in v if head.any()])
            for v in V.unflatten(-1, (4, 8)).transpose(1, 2)
        ]
        for tokens in ({"attn_in": Z * scale}, {HEADS: project(Z * scale, U)}):
            np.testing.assert_allclose(self.official(tokens, U), want, rtol=2e-6)
        found = F.official_compression(project(Z * scale, U))
        np.testing.assert_allclose(found, want, rtol=2e-6)

    def test_a_head_of_small_weights_is_signal(self):
        Z, U = self.made(unused=0)
        small = U.clone()
        small[2] *= 1e-9
        for place in ("attn_in", HEADS):
            both = [
                {"attn_in": Z} if place == "attn_in" else {HEADS: project(Z, W)} for W in (U, small)
            ]
            whole, scaled = (self.official(t, W) for t, W in zip(both, (U, small), strict=True))
            np.testing.assert_allclose(scaled, whole, rtol=1e-6)

    def test_a_token_that_is_rounding_is_nothing_in_r_either(self):
        Z = torch.randn(2, 6, 8, generator=G)
        Z[:, 3] *= 1e-8
        gone = Z.clone()
        gone[:, 3] = 0
        rate = CodingRate(convention="official")
        got, want = (rate.measure(LayerTokens({"attn_in": x}), "attn_in") for x in (Z, gone))
        assert torch.equal(got, want)

    def test_half_precision_is_rounding_of_the_tokens_themselves(self):
        Z, U = self.made()
        half = {"attn_in": Z.bfloat16()}
        Q = U.mT.flatten(0, 1)
        kept = (Z.double() @ Q[:24].T @ Q[:24]).float()
        assert abs(self.official(half, U) / self.official({"attn_in": kept}, U) - 1).max() < 0.02


class TestFloors:
    """Each floor of `unit_in_heads` alone: of a token within a head, and of a direction."""

    EPS = torch.finfo(torch.float32).eps

    def test_a_token_that_a_head_does_not_see_is_nothing(self):
        # Its directions are those of the other tokens, and as long as ever.
        V = torch.randn(1, 2, 9, 4, generator=G)
        V[0, 1, 3] *= 0.1 * self.EPS
        unit = _linalg.unit_in_heads(V)
        assert not unit[0, 1, 3].any()
        kept = torch.ones(2, 9, dtype=torch.bool)
        kept[1, 3] = False
        torch.testing.assert_close(unit[0].norm(dim=-1)[kept], torch.ones(17))

    @pytest.mark.parametrize("way", ["tokens", "heads"])
    def test_a_direction_that_no_token_reaches_is_nothing(self, way):
        # Each token's norm within the head is that of its other directions, and above the floor;
        # so they are of unit norm without that direction.
        Z = torch.randn(1, 9, 8, generator=G)
        Z[..., 4:] *= 1e-5  # the second head's tokens are small, and signal
        Z[..., 7] *= 1e-4  # one of its directions is rounding
        U = torch.eye(8).unflatten(1, (2, 4)).transpose(0, 1).contiguous()
        V = project(Z, U)
        unit = _linalg.unit_in_heads(V, Z, U) if way == "tokens" else _linalg.unit_in_heads(V)
        assert V[0, 1, :, 3].all()
        assert not unit[0, 1, :, 3].any()
        assert unit[0, 1, :, :3].all()
        torch.testing.assert_close(unit.norm(dim=-1), torch.ones(1, 2, 9))


def test_dependent_vectors_leave_no_direction_to_chance():
    U = torch.randn(2, 12, 4, generator=G)
    U[1, :, 2] = U[1, :, 0] - U[1, :, 1]
    Q = _linalg.orthonormalise(U)
    torch.testing.assert_close(Q[0].mT @ Q[0], torch.eye(4, dtype=torch.float64))
    values = torch.linalg.eigvalsh(Q[1].mT @ Q[1])
    torch.testing.assert_close(values, torch.tensor([0.0, 1, 1, 1], dtype=torch.float64))
    torch.testing.assert_close(Q[1] @ (Q[1].mT @ U[1].double()), U[1].double(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["crate", "vit"])
def test_the_official_convention_in_the_residual_stream(kind, request):
    model = request.getfixturevalue(kind)
    model.module.double()
    images = torch.randn(4, 3, 12, 12, dtype=torch.float64, generator=G)
    sites = ["z_in", "z_half", "z_out"]
    options = {"convention": "official", "fast": False, "progress": False}
    given = {"compression": [HEADS, *sites]}
    result = wp.probe(model, images, ["compression"], sites=given, batch_size=3, **options)
    rows = result.frame.query("site in @sites")
    assert rows["prenorm"].all()  # and its rows say so
    assert result.frame.query("site not in @sites")["prenorm"].isna().all()
    both = [True, False]  # no choice of the convention's
    again = wp.probe(model, images, ["compression"], sites=given, prenorm=both, **options)
    np.testing.assert_allclose(again.frame["mean"], result.frame["mean"], rtol=1e-12)
    with wp.record(model, sites) as rec, torch.no_grad():
        model.module(images)
    own = model.heads_site(model.default_basis)
    for layer in (1, 2, 3):
        norm, U = model.layer(layer).norm.forward, model.subspaces(layer).detach()
        for site in sites:
            with torch.no_grad():
                V = project(norm(rec[site, layer]), U)
            want = F.official_compression(V).numpy()
            got = result.values("compression", site=site)[:, layer - 1]
            np.testing.assert_allclose(got, want, rtol=1e-9)
        at_heads = result.values("compression", site=own)[:, layer - 1]
        biased = "heads_without_bias" in model.layer(layer).exempt
        if not biased:
            at_start = result.values("compression", site="z_in")[:, layer - 1]
            np.testing.assert_allclose(at_start, at_heads, rtol=1e-9)
    with pytest.raises(wp.ProbeError, match="B K n p|shape"):
        wp.probe(model, images, ["compression"], sites={"compression": "mlp_in"}, **options)


def test_the_official_convention_projects_what_an_orthonormal_basis_asks(crate):
    images = torch.randn(3, 3, 12, 12, generator=G)
    options = {"convention": "official", "orthonormal": True, "progress": False}
    sites = {"compression": [HEADS, "z_in"]}
    result = wp.probe(crate, images, ["compression"], sites=sites, **options)
    values = [result.values("compression", site=site) for site in ("heads", "z_in")]
    np.testing.assert_allclose(*values, rtol=1e-5)
