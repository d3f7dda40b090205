"""What single figures promise beyond the contract."""

import numpy as np
import pytest
import torch
from conftest import small_crate, small_vit

import whitebox_probe as wp
from whitebox_probe._core.errors import ProbeError, ResultError

IMAGES = torch.randn(5, 3, 12, 12, generator=torch.Generator().manual_seed(8))


@pytest.fixture(scope="module")
def pair():
    torch.manual_seed(0)
    models = {"crate": small_crate(dim_head=8), "vit": small_vit()}
    return [wp.probe(wp.wrap(m, name=n), IMAGES, progress=False) for n, m in models.items()]


def test_sparsity_is_drawn_as_the_share_of_non_zeros_never_its_complement(pair):
    axes = wp.plots.sparsity(*pair).axes[0]
    assert axes.get_ylabel().startswith("non-zero entries")
    np.testing.assert_array_equal(axes.lines[1].get_ydata(), [1, 1, 1])  # a ViT has no exact zero


def test_raw_nats_of_models_of_different_sizes_do_not_share_an_axis(pair):
    wide = wp.probe(wp.wrap(small_vit(embed_dim=32), name="wide"), IMAGES, progress=False)
    with pytest.raises(ResultError, match=r"different sizes.*d=16.*d=32.*per_token"):
        wp.plots.compression(pair[1], wide)
    figure = wp.plots.compression(pair[1], wide, normalise="per_token")
    want = wide.curve("compression")["mean"] / 10
    np.testing.assert_allclose(figure.axes[0].lines[1].get_ydata(), want)
    assert "/ token" in figure.axes[0].get_ylabel()
    wp.plots.sparsity(pair[1], wide)  # shares may be compared as they are


def test_results_of_two_conventions_do_not_share_an_axis(pair):
    official = wp.probe(
        wp.wrap(small_vit(), name="other"), IMAGES, convention="official", progress=False
    )
    with pytest.raises(ResultError, match="differ in convention"):
        wp.plots.compression(pair[1], official)
    label = wp.plots.compression(official).axes[0].get_ylabel()
    assert "official convention" in label


def test_relative_depth_ends_at_one(pair):
    line = wp.plots.compression(pair[0], relative_depth=True).axes[0].lines[0]
    np.testing.assert_allclose(line.get_xdata(), [1 / 3, 2 / 3, 1])


def test_a_measure_at_several_sites_needs_its_site_named():
    model = wp.wrap(small_vit(), name="vit")
    metrics = [wp.metrics.L0(), wp.metrics.L0()]
    once = wp.probe(model, IMAGES, metrics[:1], sites={"l0": "z_half"}, progress=False)
    with pytest.raises(ResultError, match="'l0' at z_out is not in the result"):
        wp.plots.sparsity(once, site="z_out")


def test_heatmaps_hold_the_matrices_of_the_asked_layers(pair):
    figure = wp.plots.coherence(*pair, layers=[1, 3])
    panels = [axes for axes in figure.axes if axes.images]
    assert len(panels) == 4
    np.testing.assert_array_equal(panels[1].images[0].get_array(), pair[0].matrices["coherence"][2])
    assert panels[0].images[0].get_clim() == (0, 1)
    with pytest.raises(ResultError, match="layer 4 cannot be drawn.*1 to 3"):
        wp.plots.coherence(*pair, layers=[4])


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda r: wp.plots.compression(r, band="range"), "unknown band 'range'.*ci, std, sem"),
        (lambda r: wp.plots.compression(r, width="page"), "unknown width 'page'.*column, text"),
        (lambda r: wp.plots.save(wp.plots.compression(r), "x", ["bmp"]), "saved as bmp.*pdf"),
    ],
)
def test_wrong_options_are_told(pair, call, told):
    with pytest.raises(ProbeError, match=told):
        call(pair[0])


def test_an_unknown_figure_names_those_there_are():
    with pytest.raises(AttributeError, match="no figure 'spiral'; there are: audit"):
        wp.plots.spiral  # noqa: B018
