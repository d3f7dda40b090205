"""What holds for each figure, found unaided.

A contract that does not apply to a figure is named in its `exempt`, with the reason.
"""

import functools
import inspect
import itertools
import re
import sys
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

import whitebox_probe as wp
from whitebox_probe._core.errors import ProbeError, ResultError
from whitebox_probe.plots.kind import Kind, kind_of

sys.path.insert(0, str(Path(__file__).parents[1] / "plots"))
import synthetic

mpl.use("agg")  # it shows nothing, so pyplot learns of no figure; see tests/plots/test_shown.py
FIGURES = list(wp.plots.figures)
LONG = "vit_giant_patch14_reg4_dinov2.lvd142m-finetuned/at-resolution-518"
NAMES = (
    LONG,
    f"{LONG}-init",
    f"org-name/{LONG}.second",
    "an ordinary name of many short words in it",
)
PAIR = ("crate", "vit")
CONTRACTS = {"axes", "names", "font", "palette"}


def kind(name):
    return kind_of(wp.plots.figures[name])


def parameters(name):
    return inspect.signature(wp.plots.figures[name]).parameters


def needed(name):
    """Keywords without a default: a measure of the figure's, if there is a choice."""
    found = {p.name for p in parameters(name).values() if p.kind is p.KEYWORD_ONLY}
    lacking = {key for key in found if parameters(name)[key].default is inspect.Parameter.empty}
    assert lacking <= {"metric"}, f"{name} needs {lacking}: give them a default"
    return dict.fromkeys(lacking, "hoyer")


def drawn(name, *, names=None, **options):
    names = names or (("crate", "crate-init", "vit", "vit-init") if name in of_depth() else PAIR)
    given = synthetic.inputs(kind(name).takes, names=names)
    return wp.plots.figures[name](*given, **needed(name), **options)


@functools.cache
def plain(name):
    """A figure as it is drawn by default, laid out and rendered once for the tests that read it."""
    figure = drawn(name)
    return figure, texts(figure), pixels(figure)


def applying(contract):
    """The figures that a contract applies to; the others say why it does not."""
    assert contract in CONTRACTS
    return [name for name in FIGURES if contract not in kind(name).exempt]


def texts(figure):
    """The texts that are drawn: an axis keeps labels that are out of view too."""
    found, plain = [], Text.draw

    def noted(text, *args, **kwargs):
        found.append(text)
        plain(text, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", noted)
        figure.draw_without_rendering()
    return [text for text in found if text.get_visible() and text.get_text().strip()]


def assert_on_the_page(figure, found=None):
    page = figure.bbox
    for text in texts(figure) if found is None else found:
        box = text.get_window_extent()
        # A pixel: type is set on a grid of them.
        inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= page.x1 + 1 and box.y1 <= page.y1 + 1
        assert inside, f"{text.get_text()!r} at {box.extents.round()} leaves {page.extents}"
        assert text.get_fontsize() >= 2.5, f"{text.get_text()!r} is too small to read"


def of_results():
    return [name for name in FIGURES if kind(name).takes == "results"]


def of_depth():
    """Figures of one measure against depth."""
    return [name for name in of_results() if {"band", "ax"} <= set(parameters(name))]


@pytest.mark.parametrize("name", FIGURES)
def test_it_says_what_it_is(name):
    draw = wp.plots.figures[name]
    assert isinstance(kind(name), Kind)
    assert getattr(wp.plots, name) is draw
    assert len(inspect.getdoc(draw).splitlines()[0]) > 20
    assert {"labels", "palette", "size", "width", "title"} <= set(parameters(name))
    assert len({"ax", "axes"} & set(parameters(name))) == 1
    for key in parameters(name):
        told = f"{key}:" in draw.__doc__ or f"{key}," in draw.__doc__
        assert told or key in ("results", "mean", "std"), f"{name} does not say what {key} is"


@pytest.mark.parametrize("name", FIGURES)
def test_what_does_not_apply_has_a_reason(name):
    for contract, reason in kind(name).exempt.items():
        assert contract in CONTRACTS
        assert len(reason.split()) >= 4, f"{name} does not say why {contract} does not apply"


@pytest.mark.parametrize("name", FIGURES)
def test_it_returns_a_figure_and_leaves_matplotlib_as_it_was(name):
    before, opened = dict(mpl.rcParams), plt.get_fignums()
    assert isinstance(drawn(name), Figure)
    assert dict(mpl.rcParams) == before
    assert plt.get_fignums() == opened


@pytest.mark.parametrize("name", FIGURES)
def test_pyplot_knows_of_one_figure_where_it_can_show_it(name, monkeypatch):
    monkeypatch.setattr(plt, "get_backend", lambda: "a backend with windows")
    opened = plt.get_fignums()
    figure = drawn(name)
    assert plt.gcf() is figure
    assert len(plt.get_fignums()) == len(opened) + 1
    plt.close(figure)
    assert plt.get_fignums() == opened


@pytest.mark.parametrize("name", FIGURES)
def test_it_is_saved_byte_for_byte_the_same_with_embedded_fonts_and_its_run(name, tmp_path):
    # SVG tells all that is drawn; what the others add is matplotlib's, and the same for each.
    formats = [("pdf", "png")[FIGURES.index(name) % 2], "svg"]
    for stem in ("a", "b"):
        figure = drawn(name)
        paths = wp.plots.save(figure, tmp_path / stem, formats)
        assert [p.suffix for p in paths] == [f".{suffix}" for suffix in formats]
    for suffix in formats:
        first, second = ((tmp_path / f"{s}.{suffix}").read_bytes() for s in "ab")
        assert first == second
    wp.plots.save(figure, tmp_path / "fonts", "pdf")
    assert b"/Type3" not in (tmp_path / "fonts.pdf").read_bytes()
    run = wp.plots.run_of(tmp_path / "a.svg")
    assert run["figures"][0]["name"] == name
    assert bool(run["runs"]) == (kind(name).takes not in ("images", "scores"))


@pytest.mark.parametrize("name", FIGURES)
def test_an_unknown_keyword_is_told_in_one_line(name):
    with pytest.raises(ProbeError, match=f"'{name}' has no keyword 'titel'.*Did you mean 'title'"):
        drawn(name, titel="x")
    with pytest.raises(ProbeError, match="unknown width 'page'.*column, text"):
        drawn(name, width="page")
    for size in ((3,), "large", (0, 2), (float("nan"), 1)):
        with pytest.raises(ProbeError, match=r"is no size.*Pass size="):
            drawn(name, size=size)


@pytest.mark.parametrize("name", of_results())
def test_without_results_or_with_a_missing_measure_it_says_so(name):
    draw = wp.plots.figures[name]
    with pytest.raises(ResultError, match="nothing to draw"):
        draw(**needed(name))
    with pytest.raises(ResultError, match="a list cannot be drawn"):
        draw([synthetic.result("a", ["hoyer"])], **needed(name))
    bare = replace(synthetic.result("a", ["thresholded"]), matrices={})
    with pytest.raises(ResultError, match="is not in the result|holds no matrix"):
        draw(bare, **needed(name))
    if "metric" in parameters(name):
        with pytest.raises(ResultError, match="'hoier' is not in the result.*'hoyer'"):
            draw(synthetic.result("a"), metric="hoier")


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("width", ["column", "text"])
def test_no_text_leaves_the_page(name, width):
    if width == "column":  # short names have more room than these in the text's width
        assert_on_the_page(drawn(name, width=width))
    assert_on_the_page(drawn(name, width=width, names=NAMES, title=" ".join([LONG] * 3)))


@pytest.mark.parametrize("name", FIGURES)
def test_size_is_the_size_of_the_figure(name):
    figure = drawn(name, size=(5.5, 4.25))
    np.testing.assert_allclose(figure.get_size_inches(), (5.5, 4.25))
    assert_on_the_page(figure)


@pytest.mark.parametrize("name", of_depth())
def test_the_legend_is_off_the_data(name):
    figure, _, _ = plain(name)
    (legend,) = figure.legends
    assert not legend.get_window_extent().overlaps(figure.axes[0].get_window_extent())


def panels(name):
    """How many axes a figure needs, and the keyword that takes them."""
    keyword = "ax" if "ax" in parameters(name) else "axes"
    with pytest.raises(ProbeError, match=r"0 axes were given, and \d+ are needed") as told:
        drawn(name, **{keyword: []})
    return keyword, int(str(told.value).split(" are needed")[0].rpartition(" ")[2])


@pytest.mark.parametrize("name", applying("axes"))
def test_it_draws_in_the_callers_axes_and_nowhere_else(name):
    keyword, count = panels(name)
    figure = Figure(figsize=(12, 12))
    mine = figure.subplots(count + 1, 1)
    other = mine[-1]
    other.plot([1, 2])
    kept = (other.get_position().bounds, len(other.get_children()), other.get_xlim())
    before, opened = dict(mpl.rcParams), plt.get_fignums()
    given = mine[0] if keyword == "ax" else mine[:-1]
    assert drawn(name, **{keyword: given}) is figure
    assert dict(mpl.rcParams) == before
    assert plt.get_fignums() == opened
    assert (other.get_position().bounds, len(other.get_children()), other.get_xlim()) == kept
    assert not figure.legends
    assert figure._suptitle is None
    assert all(ax.lines or ax.images or ax.texts for ax in mine[:-1])
    with pytest.raises(ProbeError, match="a str was given to draw in"):
        drawn(name, **{keyword: ["x"] * count})
    with pytest.raises(ProbeError, match=f"size= and {keyword}= were both given"):
        drawn(name, size=(3, 3), **{keyword: given})


@pytest.mark.parametrize("name", applying("axes"))
def test_it_draws_in_a_subfigure(name):
    keyword, count = panels(name)
    whole = Figure(figsize=(12, 12), layout="constrained")
    left, _ = whole.subfigures(1, 2)
    axes = left.subplots(count, 1, squeeze=False)
    given = axes[0, 0] if keyword == "ax" else axes.tolist()
    assert drawn(name, **{keyword: given}) is whole
    whole.draw_without_rendering()


@pytest.mark.parametrize("name", applying("names"))
def test_labels_take_the_place_of_names(name):
    names = ("crate", "vit")
    if kind(name).takes == "images":
        names = ("image", "rebuilt")
    options = {} if kind(name).takes == "images" else {"names": names}
    found = " ".join(t.get_text() for t in texts(drawn(name, labels={names[0]: "Mine"}, **options)))
    assert "Mine" in found
    assert names[1] in found
    with pytest.raises(ProbeError, match="labels= names 'crat'"):
        drawn(name, labels={"crat": "x"}, **options)
    with pytest.raises(ProbeError, match="labels= gives 1 for"):
        drawn(name, labels=["x"], **options)


@pytest.mark.parametrize("name", applying("palette"))
def test_a_palette_colours_what_is_drawn(name):
    _, _, usual = plain(name)
    options = parameters(name)
    values = kind(name).takes in ("view", "results") and "band" not in options
    palette = "magma" if values else "tab10"
    assert (pixels(drawn(name, palette=palette)) != usual).any()
    with pytest.raises(ProbeError, match="is no colour( map)?: |in palette= is no colour"):
        drawn(name, palette=["red-ish"] * 4)
    with pytest.raises(ProbeError, match="no colour map.*Did you mean 'viridis'"):
        drawn(name, palette="viridiss")


def pixels(figure):
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba()).copy()


@pytest.mark.parametrize("name", applying("font"))
def test_settings_of_the_user_win(name):
    _, usual, _ = plain(name)
    with mpl.rc_context({"font.size": 12, "font.family": "DejaVu Serif"}):
        figure = drawn(name)
        large = texts(figure)
        assert_on_the_page(figure, large)
    assert {t.get_fontfamily()[0] for t in large} == {"DejaVu Serif"}
    assert max(t.get_fontsize() for t in large) > max(t.get_fontsize() for t in usual)
    with mpl.rc_context({"figure.figsize": (5, 6), "figure.facecolor": "0.9"}):
        figure = drawn(name)
    assert figure.get_size_inches()[0] == 5
    assert figure.get_facecolor()[0] == 0.9


@pytest.mark.parametrize("name", of_depth())
def test_lines_and_bands_are_the_numbers_of_the_table(name):
    results = synthetic.inputs("results")
    (metric,) = kind(name).rows or ("hoyer",)
    options = {"metric": metric} if "metric" in parameters(name) else {}
    for band, edges in (("ci", None), ("std", "std"), ("sem", "sem"), (None, None)):
        axes = wp.plots.figures[name](*results, **options, band=band).axes[0]
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
            shape = axes.collections[i].get_paths()[0].vertices
            for x, lo, hi in zip(curve["layer"], low, high, strict=True):
                heights = shape[shape[:, 0] == x, 1]
                assert heights.min() == pytest.approx(lo)
                assert heights.max() == pytest.approx(hi)


@pytest.mark.parametrize("name", of_depth())
def test_axes_and_legend_say_what_is_drawn(name):
    figure = drawn(name, width="text", legend=True)
    axes, legend = figure.axes[0], figure.legends[0]
    assert "layer" in axes.get_xlabel()
    assert axes.get_ylabel()
    assert [text.get_text() for text in legend.get_texts()] == [
        "crate",
        "crate, at initialisation",
        "vit",
        "vit, at initialisation",
        "band: 95% interval of the mean",
    ]
    colours = [line.get_color() for line in axes.lines]
    assert colours[0] == colours[1] != colours[2] == colours[3]
    assert [line.get_linestyle() for line in axes.lines] == ["-", "--", "-", "--"]
    assert all(float(t).is_integer() for t in axes.get_xticks())


@pytest.mark.parametrize("name", of_depth())
def test_a_legend_leaves_the_page_to_the_data(name):
    for width in ("column", "text"):
        figure = drawn(name, width=width, legend=True)
        figure.draw_without_rendering()
        share = figure.legends[0].get_window_extent().height / figure.bbox.height
        assert share < 0.27
    figure, _, _ = plain(name)
    said = [text.get_text() for text in figure.legends[0].get_texts()]
    assert said == ["crate", "vit", "at initialisation", "band: 95% interval of the mean"]


@pytest.mark.parametrize("name", of_depth())
def test_names_at_the_ends_do_not_overlap_and_say_all(name):
    for width, legend in (("column", "end"), ("text", "end"), ("text", "auto")):
        figure = drawn(name, width=width, legend=legend)
        assert_on_the_page(figure)
        ends = {t.get_text().replace("\n", " "): t for t in figure.axes[0].texts}
        lines = {line.get_label(): line.get_color() for line in figure.axes[0].lines}
        assert {text: t.get_color() for text, t in ends.items()} == lines
        boxes = [Text.get_window_extent(text) for text in ends.values()]
        assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
        assert all(box.x0 >= figure.axes[0].get_window_extent().x1 for box in boxes)
        told = [text.get_text() for text in figure.legends[0].get_texts()]
        assert told == ["band: 95% interval of the mean"]


@pytest.mark.parametrize("name", of_depth())
def test_names_that_do_not_fit_at_the_ends_are_in_the_legend(name):
    figure = drawn(name, names=NAMES, width="column", legend="end")
    assert not figure.axes[0].texts
    assert len(figure.legends[0].get_texts()) >= len(NAMES)
    assert not drawn(name, legend=False).legends


@pytest.mark.parametrize("name", of_depth())
def test_a_band_that_no_one_can_see_is_not_explained(name):
    results = [synthetic.result(each, seed=i) for i, each in enumerate(PAIR)]
    for at, result in enumerate(results):
        means = result.frame["mean"]
        narrow = result.frame.assign(ci_low=means * (1 - 1e-4), ci_high=means * (1 + 1e-4))
        results[at] = replace(result, frame=narrow)
    figure = wp.plots.figures[name](*results, **needed(name))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(PAIR)
    figure = wp.plots.figures[name](*results, **needed(name), width="text")
    assert len(figure.axes[0].texts) == 2
    told = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert told in ([], ["$U$: qkv:k+qr"])


HARD = ("a_$b", r"$\frac$_100%", r"x^2#&\y", "my-init")


@pytest.mark.parametrize("name", applying("names"))
def test_names_are_drawn_as_they_are(name):
    if kind(name).takes == "images":
        return  # of no model
    for names in (HARD, HARD[::-1]):
        figure = drawn(name, names=names, title="50%_$5")
        # Read as matplotlib reads them: a formula in a name would be an error, or another text.
        read = "".join(t._preprocess_math(t.get_text())[0] for t in texts(figure))
        count = 2 if kind(name).takes in ("similarity", "audit") or name not in of_results() else 4
        flat = re.sub(r"\s", "", read.replace("\\$", "$"))
        assert "50%_$5" in flat
        drawn_names = names[:count] if name != "over_steps" else ()
        for each in drawn_names:
            plain = each.removesuffix("-init")  # which the made-up results say is one
            assert plain in flat, (plain, flat)


@pytest.mark.parametrize("metric", synthetic.rows())
def test_the_label_of_every_measure_stays_on_the_page(metric):
    results = [synthetic.result(name, [metric], seed=i) for i, name in enumerate(NAMES[1:3])]
    rates = results[0].run["measures"][metric]["unit"] == "nats"
    for normalise in [None, "per_token"] if rates else [None]:
        figure = wp.plots.curves(*results, metric=metric, width="column", normalise=normalise)
        assert_on_the_page(figure)
        axes = figure.axes[0]
        label = axes.yaxis.label
        assert label.get_window_extent().height <= axes.get_window_extent().height + 1
        assert label.get_fontsize() >= 5.5


def test_every_figure_of_a_measure_is_found_by_its_measure():
    from whitebox_probe.plots import choose

    result = synthetic.result("a")
    for name in of_depth():
        for row in kind(name).rows:
            assert choose.of_measure(row, [result]) == (name, {})
    assert choose.of_measure("gini", [result]) == ("sparsity", {"metric": "gini"})
    assert choose.of_measure("stable_rank", [result]) == ("curves", {"metric": "stable_rank"})
    assert isinstance(wp.plots.compression(result).axes[0], Axes)
