"""What is drawn is what the table holds: each line, band, bar and cell, against the numbers.

The numbers are taken out of the frame and the matrices here, without the methods of a result.
"""

import dataclasses
import sys
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

import whitebox_probe as wp
from whitebox_probe._core.errors import ProbeError
from whitebox_probe.plots import parts

sys.path.insert(0, str(Path(__file__).parent))
import synthetic

# The figure stands where its module would.
CELLS = sys.modules["whitebox_probe.plots.robustness"].COLOURS
LAYERS = list(range(1, synthetic.LAYERS + 1))
PAIR = ("crate", "vit")


def results(metrics=None, names=PAIR):
    return [synthetic.result(name, metrics, seed=i) for i, name in enumerate(names)]


def column(result, metric, what="mean", **where):
    """A column of the table of one measure, layer by layer."""
    rows = result.frame[result.frame["metric"] == metric]
    for name, value in where.items():
        rows = rows[rows[name] == value]
    assert rows["layer"].tolist() == LAYERS
    return rows[what].to_numpy()


def edges(band):
    """The lower and the upper edge of what fill_between drew, in the order of x."""
    points = pd.DataFrame(np.asarray(band.get_paths()[0].vertices), columns=["x", "y"])
    ends = points.groupby("x")["y"].agg(["min", "max"])
    return ends["min"].to_numpy(), ends["max"].to_numpy()


def check(lines, wanted, at=None):
    """As many lines as there are wanted ones, each with its values at its places."""
    assert len(lines) == len(wanted)
    for line, values in zip(lines, wanted, strict=True):
        if at is not None:
            np.testing.assert_array_equal(line.get_xdata(), at)
        np.testing.assert_allclose(line.get_ydata(), values, rtol=1e-12)


def check_bands(bands, wanted):
    """As many bands as there are wanted ones, both edges of each."""
    assert len(bands) == len(wanted)
    for band, (low, high) in zip(bands, wanted, strict=True):
        found = edges(band)
        np.testing.assert_allclose(found[0], low, rtol=1e-9)
        np.testing.assert_allclose(found[1], high, rtol=1e-9)


def band_of(result, metric, band):
    """What a band's edges are by the table."""
    if band == "ci":
        return column(result, metric, "ci_low"), column(result, metric, "ci_high")
    mean, spread = column(result, metric), column(result, metric, band)
    return mean - spread, mean + spread


@pytest.mark.parametrize("name", ["compression", "coding_rate", "rate_reduction", "curves"])
@pytest.mark.parametrize("band", ["ci", "std", "sem"])
def test_curves_and_their_bands_are_the_table_s(name, band):
    metric = "hoyer" if name == "curves" else name
    named = {"metric": metric} if name == "curves" else {}
    given = results([metric])
    ax = wp.plots.figures[name](*given, band=band, **named).axes[0]
    check(ax.lines, [column(r, metric) for r in given], LAYERS)
    check_bands(ax.collections, [band_of(r, metric, band) for r in given])


def test_a_null_s_band_is_one_std_about_its_mean():
    given = synthetic.result("crate", ["compression"])
    null = synthetic.result("crate | gaussian", ["compression"], seed=7)
    ax = wp.plots.compression(given, nulls=[null]).axes[0]
    check(ax.lines, [column(null, "compression"), column(given, "compression")], LAYERS)
    wanted = [band_of(null, "compression", "std"), band_of(given, "compression", "ci")]
    check_bands(ax.collections, wanted)


@pytest.mark.parametrize("band", ["ci", "std"])
def test_each_panel_has_the_curves_and_bands_of_its_measure(band):
    metrics = ["compression", "coding_rate", "l0", "hoyer", "stable_rank"]
    given = results(metrics)
    axes = wp.plots.panel(*given, metrics=metrics, band=band).axes
    assert len(axes) == len(metrics)
    for ax, metric in zip(axes, metrics, strict=True):
        check(ax.lines, [column(r, metric) for r in given], LAYERS)
        bands = [band_of(r, metric, band) for r in given if np.isfinite(r.frame["std"]).any()]
        check_bands(ax.collections, bands)


def test_each_panel_of_fidelity_has_its_measure_s_curves():
    metrics = ["descent_cosine", "descent_achieved", "attention_rate_change", "lasso_gap_closed"]
    given = results()
    axes = wp.plots.fidelity(*given).axes
    assert len(axes) == len(metrics)
    for ax, metric in zip(axes, metrics, strict=True):
        check(ax.lines, [column(r, metric) for r in given], LAYERS)
        held = [r for r in given if np.isfinite(column(r, metric, "ci_low")).all()]
        check_bands(ax.collections, [band_of(r, metric, "ci") for r in held])


def with_pairs_of_heads(name, seed):
    """A result whose heads make three pairs, with angles of their own."""
    made, random = synthetic.result(name, ["l0"], seed=seed), np.random.default_rng(seed)
    angles = np.sort(random.uniform(0, 90, size=(len(LAYERS), 3, 8)))
    by_chance = np.tile(np.sort(random.uniform(0, 90, 8)), (len(LAYERS), 1))
    held = made.matrices | {"angles": angles, "angles_random": by_chance}
    return dataclasses.replace(made, matrices=held)


@pytest.mark.parametrize("centred", [True, False])
def test_principal_angles_are_means_over_pairs_between_the_smallest_and_the_largest(centred):
    given = [with_pairs_of_heads(name, i) for i, name in enumerate(PAIR)]
    axes = wp.plots.principal_angles(*given, layers=[3, 1], centred=centred).axes
    for ax, result in zip(axes, given, strict=False):
        chance = result.matrices["angles_random"][0]
        wanted = []
        for layer in (3, 1):
            angles = result.matrices["angles"][layer - 1] - (chance if centred else 0)
            wanted += [angles.sum(axis=0) / 3, angles.min(axis=0), angles.max(axis=0)]
        check(ax.lines, [*wanted, 0 * chance if centred else chance], np.arange(1, 9))


def test_spectra_are_the_shares_of_each_layer_without_what_is_rounding():
    given = results(["l0"])
    spectrum = given[1].matrices["token_spectrum"].copy()
    spectrum[2, 12:] = 1e-9 * spectrum[2, 0]
    held = given[1].matrices | {"token_spectrum": spectrum}
    given[1] = dataclasses.replace(given[1], matrices=held)
    for log in (True, False):
        axes = wp.plots.spectra(*given, layers=[2, 3], log=log).axes
        for ax, result in zip(axes, given, strict=False):
            stack = result.matrices["token_spectrum"][[1, 2]]
            least = 1e-8 * stack[:, :1] if log else 0
            check(ax.lines, np.where(stack < least, np.nan, stack), np.arange(1, 17))


def with_several_eps(name, seed):
    """A result with R^c and R at three eps, of numbers of their own."""
    made = synthetic.result(name, ["coding_rate", "compression"], seed=seed)
    random, count = np.random.default_rng(seed), len(made.frame)
    frames = [made.frame.assign(eps=e, mean=random.uniform(1, 9, count)) for e in (1.0, 0.05, 0.2)]
    return dataclasses.replace(made, frame=pd.concat(frames, ignore_index=True))


@pytest.mark.parametrize("relative", [True, False])
def test_an_eps_sweep_has_a_line_for_each_eps_by_its_size(relative):
    given = [with_several_eps(name, i) for i, name in enumerate(PAIR)]
    axes = wp.plots.eps_sweep(*given, relative=relative).axes
    for ax, result in zip(axes, given, strict=False):
        each = [column(result, "compression", eps=eps) for eps in (0.05, 0.2, 1.0)]
        check(ax.lines, [y / y[0] if relative else y for y in each], LAYERS)


def cells(ax):
    return np.ma.filled(ax.images[0].get_array().astype(float), np.nan)


def test_coherence_uncentred_is_the_matrix_and_centred_what_is_beyond_random():
    given = results()
    for at, random in enumerate((0.25, 0.5)):
        frame = given[at].frame
        frame.loc[frame["metric"] == "coherence_random", "mean"] = random
        given[at] = replace(given[at], frame=frame)
    for centred in (True, False):
        figure = wp.plots.coherence(*given, layers=[1, 3], centred=centred, colorbar=False)
        panels = iter(figure.axes)
        for result, random in zip(given, (0.25, 0.5), strict=True):
            for layer in (1, 3):
                wanted = result.matrices["coherence"][layer - 1].copy()
                if centred:
                    wanted -= random
                    np.fill_diagonal(wanted, np.nan)
                np.testing.assert_allclose(cells(next(panels)), wanted, rtol=1e-12)
        assert next(panels, None) is None


def test_subspace_overlap_is_the_matrix_without_its_diagonal():
    given = results(["l0"])
    panels = [ax for ax in wp.plots.subspace_overlap(*given, layers=[2]).axes if ax.images]
    for ax, result in zip(panels, given, strict=False):
        wanted = result.matrices["overlap"][1].copy()
        np.fill_diagonal(wanted, np.nan)
        np.testing.assert_allclose(cells(ax), wanted, rtol=1e-12)


STEPS = ("ckpt-300", "ckpt-0", "ckpt-20")


def test_over_steps_has_a_line_for_each_layer_in_the_order_of_the_steps():
    given = results(["coding_rate", "compression"], STEPS)
    ordered = [given[1], given[2], given[0]]
    values = np.array([column(r, "compression") for r in ordered])  # (steps, layers)
    ax = wp.plots.over_steps(*given).axes[0]
    check(ax.lines, values.T, [0, 20, 300])
    ax = wp.plots.over_steps(*given, layers=[3, 1]).axes[0]
    check(ax.lines, [values[:, 2], values[:, 0]], [0, 20, 300])


def test_the_heatmap_over_steps_has_layers_as_rows_from_below_and_steps_as_columns():
    given = results(["compression"], STEPS)
    values = np.array([column(given[i], "compression") for i in (1, 2, 0)])
    ax = wp.plots.over_steps(*given, form="heatmap").axes[0]
    np.testing.assert_allclose(cells(ax), values.T, rtol=1e-12)
    assert ax.images[0].origin == "lower"
    assert [text.get_text() for text in ax.get_xticklabels()] == ["0", "20", "300"]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["1", "2", "3"]


def test_parts_of_the_rate_change_are_stacked_from_zero_by_their_sign():
    given = results()
    signs = {"common": (1, -1, 1), "radial": (-1, -1, 1), "tangential": (1, -1, -1)}
    for at, result in enumerate(given):
        frame = result.frame
        for part, sign in signs.items():
            rows = frame["metric"] == f"attention_rate_change_{part}"
            frame.loc[rows, "mean"] *= np.array(sign)
        given[at] = replace(result, frame=frame)
    for ax, result in zip(wp.plots.rate_change_parts(*given).axes, given, strict=True):
        bars, above, below = iter(ax.patches), np.zeros(3), np.zeros(3)
        for (part, sign), colour in zip(signs.items(), parts.COLOURS, strict=True):
            values = column(result, f"attention_rate_change_{part}")
            for i, value in enumerate(values):
                bar = next(bars)
                start = above[i] if sign[i] > 0 else below[i]
                assert bar.get_x() + bar.get_width() / 2 == pytest.approx(LAYERS[i])
                assert bar.get_y() == pytest.approx(start)
                assert bar.get_y() + bar.get_height() == pytest.approx(start + value)
                assert bar.get_facecolor() == mpl.colors.to_rgba(colour)
            above, below = above + values.clip(min=0), below + values.clip(max=0)
        assert next(bars, None) is None
        told = {line.get_label(): line for line in ax.lines if line.get_label()[0] != "_"}
        nulls = {words: null for null, (words, _) in parts.NULLS.items()}
        assert set(told) == {"whole", *nulls}
        check([told["whole"]], [column(result, "attention_rate_change")], LAYERS)
        for words, null in nulls.items():
            check([told[words]], [column(result, f"attention_rate_change_{null}")], LAYERS)


def test_robustness_has_the_colour_and_sign_of_each_row_in_its_cell():
    found = synthetic.audit(*PAIR)
    table = found.robustness.drop(index=[3, 11])  # settings on which a claim does not depend
    axes = wp.plots.robustness(dataclasses.replace(found, robustness=table)).axes
    for ax, model in zip(axes, PAIR, strict=True):
        claims = [text.get_text() for text in ax.get_yticklabels()]
        settings = [text.get_text() for text in ax.get_xticklabels()]
        drawn = np.asarray(ax.images[0].get_array())
        signs = {
            (claims[int(t.get_position()[1])], settings[int(t.get_position()[0])]): t.get_text()
            for t in ax.texts
        }
        rows = table[table["model"] == model].set_index(["claim", "setting"])
        assert set(signs) == set(rows.index)
        for i, claim in enumerate(claims):
            for j, setting in enumerate(settings):
                if (claim, setting) not in rows.index:
                    np.testing.assert_array_equal(drawn[i, j], (1, 1, 1))
                    continue
                row = rows.loc[(claim, setting)]
                word = "agrees" if row["agrees"] else "flips"
                word = word if row["counts"] else "does not count"
                wanted = mpl.colors.to_rgb(CELLS[word])
                np.testing.assert_allclose(drawn[i, j], wanted)
                assert signs[claim, setting] == {"agrees": "", "flips": "×"}.get(word, "·")


@pytest.mark.parametrize(
    ("of", "score", "begin"), [("masks", "miou", ""), ("boxes", "box_iou", "box_")]
)
def test_the_score_of_each_head_the_best_of_each_layer_and_chance_are_the_table_s(of, score, begin):
    (scores,) = synthetic.inputs("scores")
    random = np.random.default_rng(0)
    for name in (score, f"{begin}chance", f"{begin}ci_low", f"{begin}ci_high"):
        scores[name] = random.uniform(size=len(scores))
    ax = wp.plots.segmentation(scores, of=of).axes[0]
    dots, band = ax.collections
    np.testing.assert_allclose(dots.get_offsets(), scores[["layer", score]].to_numpy())
    best = scores.sort_values(score).groupby("layer").tail(1).sort_values("layer")
    check(ax.lines, [best[score], scores.groupby("layer")[f"{begin}chance"].mean()], LAYERS)
    ends = np.sort(best[[f"{begin}ci_low", f"{begin}ci_high"]].to_numpy(), axis=1)
    check_bands([band], [ends.T])
    with pytest.raises(ProbeError, match="unknown of 'box'.*boxes"):
        wp.plots.segmentation(scores, of="box")
    with pytest.raises(ProbeError, match=f"no column '{begin}chance'"):
        wp.plots.segmentation(scores.drop(columns=f"{begin}chance"), of=of)


def test_boxes_are_drawn_about_the_connected_patches_that_hold_the_most():
    view = synthetic.view()  # 4 x 4 patches of 4 x 4 pixels
    weights = view.sites["attn_weights", 2].copy()
    weights[1, 1, 0] = 0
    # One patch alone, and three that touch.
    weights[1, 1, 0, [1 + 0, 1 + 6, 1 + 7, 1 + 11]] = 0.4, 0.2, 0.2, 0.2
    view = replace(view, sites=view.sites | {("attn_weights", 2): weights})
    options = {"layer": 2, "samples": 1, "heads": 2, "mass": 0.99}
    (box,) = wp.plots.attention(view, **options, boxes=True).axes[1].patches
    assert (*box.get_xy(), box.get_width(), box.get_height()) == (8, 4, 8, 8)
    assert not wp.plots.attention(view, **options).axes[1].patches


@pytest.mark.parametrize("causal", [True, False])
def test_an_attention_matrix_is_the_weights_and_white_behind_a_causal_mask(causal):
    view = synthetic.view()
    if causal:
        places = [("attn_weights", layer) for layer in LAYERS]
        seen = {place: np.tril(view.sites[place]) for place in places}
        view = replace(view, sites=view.sites | seen)
    options = {"layer": 2, "heads": [2, 1], "samples": [2, 0], "tokens": (3, 9)}
    figure = wp.plots.attention_matrix(view, colorbar=False, **options)
    panels = iter(figure.axes)
    for sample in (2, 0):
        for head in (2, 1):
            ax = next(panels)
            wanted = view.sites["attn_weights", 2][sample, head - 1, 3:9, 3:9].astype(float)
            if causal:
                wanted[np.triu_indices(6, 1)] = np.nan
            np.testing.assert_array_equal(cells(ax), wanted)
            words = [word.strip() for word in view.texts[sample][3:9]]
            assert [t.get_text() for t in ax.get_xticklabels()] == words
            if head == 2:  # the first column
                assert [t.get_text() for t in ax.get_yticklabels()] == words


def test_a_stretch_of_tokens_is_of_those_that_there_are():
    view = synthetic.view()
    for wrong in ((3, 3), (0, 18), (-1, 4), (1, 2, 3), 5, (0.5, 2)):
        with pytest.raises(ProbeError, match="is no stretch.*there are 17"):
            wp.plots.attention_matrix(view, tokens=wrong)
        with pytest.raises(ProbeError, match="is no stretch.*there are 17"):
            wp.plots.tokens(view, tokens=wrong)
    drawn = wp.plots.tokens(view, layers=[1], tokens=(4, 7), sort=False).axes[0]
    np.testing.assert_array_equal(cells(drawn), view.sites["z_out", 1][0, 4:7])
