"""What single figures promise beyond the contract."""

import dataclasses
import sys
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

import whitebox_probe as wp
from tests.conftest import small_crate, small_vit
from whitebox_probe._core.errors import ProbeError, ResultError

sys.path.insert(0, str(Path(__file__).parent))
import synthetic

IMAGES = torch.randn(5, 3, 12, 12, generator=torch.Generator().manual_seed(8))


def texts(figure):
    return [each.get_text() for each in figure.findobj(mpl.text.Text)]


@pytest.fixture(scope="module")
def pair():
    torch.manual_seed(0)
    models = {"crate": small_crate(dim_head=8), "vit": small_vit()}
    return [wp.probe(wp.wrap(m, name=n), IMAGES, progress=False) for n, m in models.items()]


def test_sparsity_is_drawn_as_the_share_of_non_zeros_never_its_complement(pair):
    axes = wp.plots.sparsity(*pair).axes[0]
    assert axes.get_ylabel().startswith("non-zero")
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


@pytest.mark.parametrize("metric", ["l0", "compression"])
@pytest.mark.parametrize("draw", [wp.plots.curves, wp.plots.over_steps])
def test_numbers_that_were_taken_differently_do_not_share_an_axis(pair, metric, draw):
    other = wp.probe(wp.wrap(small_vit(), name="other"), IMAGES, class_token=False, progress=False)
    with pytest.raises(ResultError, match="differ in class_token: False, True"):
        draw(pair[1], other, metric=metric)


def test_a_null_does_not_pass_for_a_model(pair):
    model = wp.wrap(small_vit(), name="other")
    null = wp.probe(model, IMAGES, null="random_subspaces", name="mine", progress=False)
    said = texts(wp.plots.curves(pair[1], null, metric="l0"))
    assert "vit" in said
    assert "mine (null: random subspaces)" in said
    assert any("mine (null: random subspaces)" in t for t in texts(wp.plots.panel(pair[1], null)))
    given = texts(wp.plots.curves(pair[1], null, metric="l0", labels={"mine": "a null"}))
    assert "a null" in given
    named = wp.nulls(model, IMAGES, kinds=["gaussian"], progress=False)
    assert not any("(null" in t for t in texts(wp.plots.compression(pair[1], *named.values())))


def test_a_class_token_that_is_left_out_is_none_where_there_is_none(pair):
    pooled = wp.wrap(small_vit(class_token=False, global_pool="avg"), name="pooled")
    without = wp.probe(pooled, IMAGES, ["l0"], progress=False)
    patches = wp.probe(wp.wrap(small_vit(), name="p"), IMAGES, ["l0"], class_token=False)
    wp.plots.sparsity(without, patches)
    wp.plots.sparsity(without, pair[1])
    with pytest.raises(ResultError, match="differ in class_token"):
        wp.plots.sparsity(without, patches, pair[1])


def test_a_result_that_was_read_again_shares_an_axis_with_one_that_was_not(pair, tmp_path):
    loaded = wp.Result.load(pair[1].save(tmp_path / "vit"))
    other = dataclasses.replace(loaded, run=dataclasses.replace(loaded.run, model="again"))
    for metric in ("l0", "compression", "coherence_max"):
        wp.plots.curves(pair[1], other, metric=metric)


def test_steps_of_a_training_have_the_same_layers(pair):
    deeper = wp.probe(wp.wrap(small_vit(depth=4), name="deeper"), IMAGES, progress=False)
    with pytest.raises(ResultError, match="vit has it at 3 layers, deeper at 4"):
        wp.plots.over_steps(pair[1], deeper, metric="l0")


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
    figure = wp.plots.coherence(*pair, layers=[1, 3], centred=False)
    panels = [axes for axes in figure.axes if axes.images]
    assert len(panels) == 4
    np.testing.assert_array_equal(panels[1].images[0].get_array(), pair[0].matrices["coherence"][2])
    assert panels[0].images[0].get_clim() == (0, 1)
    with pytest.raises(ResultError, match="layer 4 cannot be drawn.*1 to 3"):
        wp.plots.coherence(*pair, layers=[4])


def test_coherence_is_drawn_against_random_subspaces(pair):
    panels = [ax for ax in wp.plots.coherence(*pair, layers=[2]).axes if ax.images]
    for result, ax in zip(pair, panels, strict=True):
        shown = np.ma.filled(ax.images[0].get_array(), np.nan)
        random = result.curve("coherence_random")["mean"].iloc[1]
        want = result.matrices["coherence"][1] - random
        off = ~np.eye(len(want), dtype=bool)
        np.testing.assert_allclose(shown[off], want[off], atol=1e-6)
        assert np.isnan(np.diag(shown)).all()
        low, high = ax.images[0].get_clim()
        assert low == -high
    with pytest.raises(ProbeError, match="the matrix 'overlap' cannot be centred"):
        wp.plots.coherence(*pair, matrix="overlap", centred=True)


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


@pytest.mark.parametrize("name", ["attention", "audit", "segmentation", "similarity", "tokens"])
def test_a_figure_of_one_thing_refuses_another(pair, name):
    with pytest.raises(ProbeError, match=f"a Result cannot be drawn: the figure '{name}' is of"):
        wp.plots.figures[name](pair[0])
    with pytest.raises(ProbeError, match=rf"'{name}' takes one .*Pass what wp\.\w+ gave"):
        wp.plots.figures[name]()


def test_an_unknown_figure_names_those_there_are():
    with pytest.raises(AttributeError, match="no figure 'spiral'; there are: attention"):
        wp.plots.spiral  # noqa: B018


def labels_of(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


class TestNulls:
    """Nulls by kind, in a mapping, a list, or a list of mappings."""

    @staticmethod
    def null(kind, level, **run):
        null = synthetic.result(f"crate | {kind}", ["compression"], **run)
        return replace(null, frame=null.frame.assign(mean=level))

    def nulls(self, *kinds):
        return {kind: self.null(kind, 10.0 * (i + 1)) for i, kind in enumerate(kinds)}

    @pytest.mark.parametrize("kinds", [("gaussian", "random_weights"), ("shuffled", "gaussian")])
    @pytest.mark.parametrize("form", [dict, lambda n: list(n.values()), lambda n: [n]])
    def test_null_share_divides_by_the_gaussian_one_in_any_order(self, kinds, form):
        result = synthetic.result("crate", ["compression"])
        nulls = self.nulls(*kinds)
        figure = wp.plots.compression(result, nulls=form(nulls), normalise="null_share")
        want = result.curve("compression")["mean"] / nulls["gaussian"].frame["mean"].iloc[0]
        np.testing.assert_allclose(figure.axes[0].lines[-1].get_ydata(), want)

    def test_without_the_gaussian_one_it_says_what_to_pass(self):
        result = synthetic.result("crate", ["compression"])
        for nulls in ((), self.nulls("shuffled")):
            with pytest.raises(ResultError, match=r"nulls=wp\.nulls\(.*kinds=\('gaussian',\)\)"):
                wp.plots.compression(result, nulls=nulls, normalise="null_share")
        with pytest.raises(ResultError, match="'gaussian' in nulls= is no result"):
            wp.plots.compression(result, nulls=["gaussian"])

    def test_a_null_says_its_own_line(self):
        result = synthetic.result("crate", ["compression"])
        null = self.null("gaussian", 3.0, null_line=[0, [1, 2]])
        line = wp.plots.compression(result, nulls=[null]).axes[0].lines[0]
        plain = wp.plots.compression(result, nulls=[self.null("gaussian", 3.0)]).axes[0].lines[0]
        assert plain.get_linestyle() == "-."
        assert line.get_linestyle() == "--"  # as matplotlib calls any dashes of one's own
        told = labels_of(wp.plots.compression(result, nulls=[null]))
        assert "null: gaussian" in told
        assert "band of a null: ±1 std over samples" in told


class TestLooks:
    """What a user asks of colours, names and settings."""

    def test_a_list_of_colours_goes_by_models_and_a_mapping_by_names(self):
        results = synthetic.inputs("results")
        lines = wp.plots.compression(*results, palette=["red", "blue"]).axes[0].lines
        assert [line.get_color() for line in lines] == ["red", "red", "blue", "blue"]
        mine = {"crate-init": "k", "vit": "y"}
        lines = wp.plots.compression(*results, palette=mine).axes[0].lines
        assert [line.get_color() for line in lines][1:] == ["k", "y", "y"]
        with pytest.raises(ProbeError, match="palette= gives 1 colours for 2 models"):
            wp.plots.compression(*results, palette=["red"])
        with pytest.raises(ProbeError, match="palette= names 'vut'.*Did you mean 'vit'"):
            wp.plots.compression(*results, palette={"vut": "red"})

    def test_labels_of_a_model_name_its_initialisation_too(self):
        figure = wp.plots.compression(
            *synthetic.inputs("results"), labels={"vit": "ViT-S"}, width="text", legend=True
        )
        assert labels_of(figure)[2:4] == ["ViT-S", "ViT-S, at initialisation"]

    def test_a_style_sheet_in_force_wins_over_the_packages(self):
        result = synthetic.result("crate")
        with mpl.style.context("ggplot"):
            cycle = mpl.rcParams["axes.prop_cycle"].by_key()["color"]
            axes = wp.plots.compression(result).axes[0]
        assert axes.get_facecolor() == mpl.colors.to_rgba("#E5E5E5")
        assert axes.lines[0].get_color() == cycle[0]
        with mpl.rc_context({"image.cmap": "magma", "lines.linewidth": 4.5}):
            assert wp.plots.compression(result).axes[0].lines[0].get_linewidth() == 4.5
            assert wp.plots.coherence(result).axes[0].images[0].get_cmap().name == "magma"
        assert wp.plots.coherence(result).axes[0].images[0].get_cmap().name == "cividis"

    def test_in_given_axes_the_legend_is_under_them_where_room_can_be_made(self):
        results = synthetic.inputs("results")
        figure = Figure(layout="constrained", figsize=(7, 7))
        axes = figure.subplots(2, 2)
        wp.plots.compression(*results, ax=axes[0, 0])
        figure.draw_without_rendering()
        legend = axes[0, 0].get_legend().get_window_extent()
        assert not any(legend.overlaps(ax.get_window_extent()) for ax in axes.flat)
        label = axes[0, 0].yaxis.label.get_window_extent()
        assert label.y1 <= figure.bbox.y1
        plain = Figure()
        ax = plain.subplots()
        wp.plots.compression(*results, ax=ax)
        assert ax.get_legend() is not None
        assert len(ax.figure.axes) == 1


class TestRows:
    """The rows that are drawn say what they are."""

    def test_what_picks_rows_is_passed_on_and_said(self):
        asked = {}

        class Several(wp.Result):
            def curve(self, metric, site=None, **where):
                asked.update(where)
                return super().curve(metric, site).assign(convention="paper", prenorm=False)

        made = synthetic.result("crate", ["coding_rate"], convention="official")
        result = Several(made.frame, made.samples, made.matrices, made.run)
        figure = wp.plots.coding_rate(result, eps=0.5, basis="qk")
        assert asked == {"eps": 0.5, "basis": "qk"}
        label = figure.axes[0].get_ylabel().replace("\n", " ")
        assert label == r"$R(Z^{\ell+1})$, $\epsilon=0.5$ [nats]"

    def test_a_layer_that_only_some_measures_have(self):
        result = synthetic.result("crate", ["l0"])
        result = dataclasses.replace(result, frame=result.frame.drop(index=0))
        line = wp.plots.sparsity(result).axes[0].lines[0]
        assert list(line.get_xdata()) == [2, 3]

    def test_matrices_of_any_name_are_drawn(self):
        result = synthetic.result("crate", ["l0"])
        held = result.matrices | {"token_overlap": result.matrices["coherence"]}
        result = dataclasses.replace(result, matrices=held)
        figure = wp.plots.coherence(result, matrix="token_overlap", colorbar=False)
        assert len(figure.axes) == synthetic.LAYERS


@pytest.mark.parametrize("models", [1, 4, 6])
def test_an_audit_of_many_models_is_on_its_page(models):
    names = [f"vit_giant_patch14_reg4_dinov2.lvd142m-{i}" for i in range(models)]
    figure = wp.plots.audit(synthetic.audit(*names))
    figure.canvas.draw()
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert min(box.x0, box.y0) >= -0.02
    assert box.x1 <= width + 0.02
    assert box.y1 <= height + 0.02


def test_an_audit_has_a_key_of_what_is_drawn_alone():
    found = synthetic.audit("crate")
    assert "grey" in wp.plots.audit(found).get_supxlabel()
    found = replace(found, curves=found.curves.assign(null_mean=np.nan))
    assert "grey" not in wp.plots.audit(found).get_supxlabel()


def test_what_does_not_fit_is_told_in_one_line():
    with pytest.raises(ProbeError, match=r"does not fit on 1 x 1 inches.*larger size="):
        wp.plots.compression(synthetic.result("crate"), size=(1, 1))


def test_words_of_a_text_are_not_parted_at_the_end_of_a_line():
    words = (*[" a" * 10] * 4, " b", "ro", "ken", "\n", "We", " go", "x" * 120, ".")
    view = dataclasses.replace(synthetic.view(), texts=((*words, *["e"] * 5),) * 3)
    axes = wp.plots.text(view).axes[0]
    lines = {}
    for letter in axes.texts:
        lines.setdefault(letter.get_position()[1], []).append(letter.get_text())
    told = ["".join(line) for line in lines.values()]
    assert told[0] == " a" * 40 + " broken↵We"
    assert told[1:] == [" go", "x" * 120, ".eeeee"]


def test_a_label_of_none_leaves_the_name():
    pair = [synthetic.result(name, ["l0"], seed=i) for i, name in enumerate(("crate", "vit"))]
    for labels in ([None, "B"], {"vit": "B", "crate": None}):
        lines = wp.plots.sparsity(*pair, labels=labels).axes[0].lines
        assert [line.get_label() for line in lines] == ["crate", "B"]


@pytest.mark.parametrize("projection", ["3d", "polar", "mollweide"])
def test_axes_that_are_not_straight_are_refused_in_one_line(projection):
    ax, result = Figure().add_subplot(projection=projection), synthetic.result("crate", ["l0"])
    told = f"axes of the projection '{projection}' were given"
    with pytest.raises(ProbeError, match=told):
        wp.plots.sparsity(result, ax=ax)
    with pytest.raises(ProbeError, match=told):
        wp.plots.panel(result, metrics=["l0"], axes=[ax])


def test_a_panel_is_drawn_in_a_mosaic():
    result, metrics = synthetic.result("crate", ["l0", "compression"]), ["l0", "compression"]
    for given in (lambda mosaic: mosaic.values(), lambda mosaic: mosaic):
        figure = Figure()
        mosaic = figure.subplot_mosaic("AB")
        assert wp.plots.panel(result, metrics=metrics, axes=given(mosaic)) is figure
        assert all(ax.lines for ax in mosaic.values())
