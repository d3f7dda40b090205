"""What holds for each figure, found unaided."""

import inspect

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from conftest import small_crate, small_vit
from matplotlib.figure import Figure

import whitebox_probe as wp
from whitebox_probe._core.errors import ResultError

IMAGES = torch.randn(6, 3, 12, 12, generator=torch.Generator().manual_seed(8))
CURVES = {
    "compression": {},
    "coding_rate": {},
    "rate_reduction": {},
    "sparse_rate_reduction": {},
    "sparsity": {"metric": "hoyer"},
    "curves": {"metric": "thresholded"},
}
NEEDED = {"curves": {"metric": "l0"}, "sparsity": {"metric": "l0"}}
# Of another thing than Results; drawn in the tests of what they draw.
OTHERS = {"audit", "reconstruction", "similarity"}
FIGURES = sorted(set(wp.plots.figures) - OTHERS)


def test_the_others_take_no_results():
    for name in OTHERS:
        assert "results" not in inspect.signature(wp.plots.figures[name]).parameters


@pytest.fixture(scope="module")
def results():
    torch.manual_seed(0)
    models = {
        "crate": small_crate(dim_head=8),
        "crate-init": small_crate(dim_head=8),
        "vit": small_vit(),
        "vit-init": small_vit(),
    }
    return [wp.probe(wp.wrap(m, name=name), IMAGES, progress=False) for name, m in models.items()]


@pytest.mark.parametrize("name", FIGURES)
def test_it_returns_a_figure_and_leaves_matplotlib_as_it_was(name, results):
    before, opened = dict(mpl.rcParams), plt.get_fignums()
    figure = wp.plots.figures[name](*results, **NEEDED.get(name, {}))
    assert isinstance(figure, Figure)
    assert dict(mpl.rcParams) == before
    assert plt.get_fignums() == opened
    assert wp.plots.figures[name].__doc__
    assert getattr(wp.plots, name) is wp.plots.figures[name]


@pytest.mark.parametrize("name", FIGURES)
def test_it_is_saved_byte_for_byte_the_same_with_embedded_fonts(name, results, tmp_path):
    draw = wp.plots.figures[name]
    for stem in ("a", "b"):
        figure = draw(*results, **NEEDED.get(name, {}))
        paths = wp.plots.save(figure, tmp_path / stem, ["pdf", "png", "svg"])
        assert [p.suffix for p in paths] == [".pdf", ".png", ".svg"]
    for suffix in ("pdf", "png", "svg"):
        first, second = ((tmp_path / f"{s}.{suffix}").read_bytes() for s in "ab")
        assert first == second
    assert b"/Type3" not in (tmp_path / "a.pdf").read_bytes()


@pytest.mark.parametrize("name", FIGURES)
def test_without_results_or_with_a_missing_measure_it_says_so(name, results):
    with pytest.raises(ResultError, match="nothing to draw"):
        wp.plots.figures[name](**NEEDED.get(name, {}))
    bare = wp.probe(wp.wrap(small_vit()), IMAGES, ["thresholded"], progress=False)
    with pytest.raises(ResultError, match="is not in the result|holds no matrix"):
        wp.plots.figures[name](bare, **NEEDED.get(name, {}))


@pytest.mark.parametrize("name", CURVES)
def test_lines_and_bands_are_the_numbers_of_the_table(name, results):
    options = CURVES[name]
    metric = options.get("metric", name)
    for band, edges in (("ci", None), ("std", "std"), ("sem", "sem"), (None, None)):
        figure = wp.plots.figures[name](*results, **options, band=band)
        axes = figure.axes[0]
        assert len(axes.lines) == len(results)
        assert len(axes.collections) == (0 if band is None else len(results))
        for i, result in enumerate(results):
            curve = result.curve(metric)
            np.testing.assert_array_equal(axes.lines[i].get_xdata(), curve["layer"])
            np.testing.assert_array_equal(axes.lines[i].get_ydata(), curve["mean"])
            if band is None:
                continue
            low = curve["ci_low"] if edges is None else curve["mean"] - curve[edges]
            high = curve["ci_high"] if edges is None else curve["mean"] + curve[edges]
            drawn = axes.collections[i].get_paths()[0].vertices
            for x, lo, hi in zip(curve["layer"], low, high, strict=True):
                heights = drawn[drawn[:, 0] == x, 1]
                assert heights.min() == pytest.approx(lo)
                assert heights.max() == pytest.approx(hi)


@pytest.mark.parametrize("name", CURVES)
def test_axes_and_legend_say_what_is_drawn(name, results):
    figure = wp.plots.figures[name](*results, **CURVES[name])
    axes, legend = figure.axes[0], figure.legends[0]
    assert "layer" in axes.get_xlabel()
    assert axes.get_ylabel()
    told = [text.get_text() for text in legend.get_texts()]
    assert told == [
        "crate",
        "crate, at initialisation",
        "vit",
        "vit, at initialisation",
        "band: 95% bootstrap interval of the mean",
    ]
    colours = [line.get_color() for line in axes.lines]
    assert colours[0] == colours[1] != colours[2] == colours[3]
    assert [line.get_linestyle() for line in axes.lines] == ["-", "--", "-", "--"]
    assert all(float(t).is_integer() for t in axes.get_xticks())


@pytest.mark.parametrize("name", FIGURES)
def test_nothing_is_clipped_and_the_legend_is_off_the_data(name, results):
    figure = wp.plots.figures[name](*results, **NEEDED.get(name, {}))
    figure.canvas.draw()
    box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    # A hundredth of an inch: the layout engine works to the pixel.
    assert box.x0 >= -0.01
    assert box.y0 >= -0.01
    assert box.x1 <= width + 0.01
    assert box.y1 <= height + 0.01
    for legend in figure.legends:
        assert not legend.get_window_extent().overlaps(figure.axes[0].get_window_extent())
