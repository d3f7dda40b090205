"""The command `plot` finds every figure of saved results by what the figure says of itself."""

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import synthetic
from PIL import Image

from whitebox_probe import plots
from whitebox_probe.cli import main as cli
from whitebox_probe.plots import choose


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    return [
        str(synthetic.result(name, seed=i).save(folder / name))
        for i, name in enumerate(("crate", "vit"))
    ]


@pytest.fixture
def plot(saved, tmp_path, capsys):
    def call(*words):
        out = tmp_path / "figure.png"
        status = cli.main(["plot", *saved, "--out", str(out), *words])
        return status, capsys.readouterr().err, out

    return call


@pytest.mark.parametrize("name", choose.of_results())
def test_every_figure_of_results_is_drawn_by_its_name(name, plot):
    words = ["--metric", "gini"] if name == "curves" else []
    status, err, out = plot("--figure", name, *words)
    assert (status, err) == (0, "")
    assert out.exists()


@pytest.mark.parametrize("metric", ["compression", "gini", "stable_rank", "mutual_coherence"])
def test_every_measure_is_drawn_by_its_name(metric, plot):
    assert plot("--metric", metric)[0] == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--metric", "gini", "--eps", "99"], "'gini' of crate does not depend on eps"),
        (["--metric", "coding_rate", "--lam", "99"], "does not depend on lam"),
        (["--figure", "over_steps", "--metric", "gini", "--eps", "99"], "not depend on eps"),
        (["--figure", "rate_change_parts", "--lam", "99"], "does not depend on lam"),
        (["--figure", "panel", "--eps", "99"], "no measure of this figure has eps=99"),
        (["--figure", "panel", "--option", "metrics=gini", "--lam", "9"], "has lam=9"),
    ],
    ids=str,
)
def test_a_setting_that_picks_nothing_is_refused(words, told, plot):
    status, err, out = plot(*words)
    assert (status, out.exists()) == (2, False)
    assert told in err
    assert f"Leave out {words[-2]}." in err or "Did you mean" in err or "Use one of" in err


def test_a_setting_that_others_were_taken_with_is_no_mistake(plot):
    assert plot("--metric", "gini", "--eps", "0.1")[:2] == (0, "")


def test_a_setting_of_some_measures_of_a_panel_picks_these(plot):
    assert plot("--figure", "panel", "--eps", "0.1")[:2] == (0, "")


def test_looks_are_set_from_the_command_line(plot):
    words = ["--labels", "CRATE,ViT", "--palette", "#112233,#aa5500", "--size", "4,3"]
    status, err, out = plot("--metric", "l0", *words)
    assert (status, err) == (0, "")
    with Image.open(out) as picture:
        assert picture.size == (1200, 900)
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 20)}
    assert {(0x11, 0x22, 0x33), (0xAA, 0x55, 0)} <= colours


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "neither --metric nor --figure"),
        (("--figure", "reconstruction"), "is not drawn of saved results: it takes images"),
        (("--figure", "audit"), "is of one audit; 2 folders are given"),
        (("--figure", "compresion"), "no figure 'compresion'.*Did you mean 'compression'"),
        (("--metric", "hoier"), "'hoier' is not in these results.*Did you mean 'hoyer'"),
        (("--figure", "compression", "--metric", "l0"), "does not draw 'l0'.*--figure curves"),
        (("--figure", "coherence", "--site", "z_out"), "takes no --site"),
        (("--figure", "coherence", "--per-token"), "takes no --per-token"),
        (("--figure", "curves"), "needs metric="),
        (("--metric", "l0", "--size", "4"), "is not W,H"),
        (("--metric", "l0", "--palette", "virids"), "no colour map.*Did you mean 'viridis'"),
    ],
)
def test_what_cannot_be_drawn_is_told_in_one_line(words, told, plot):
    if "--size" in words:
        with pytest.raises(SystemExit):
            plot(*words)
        return
    status, err, _ = plot(*words)
    assert status == 2
    assert len(err.splitlines()) == 1
    assert re.search(told, err)


def test_compare_draws_all_that_results_share():
    results = synthetic.inputs("results", names=("crate", "vit"))
    found = choose.shared(results, ["compression", "gini", "l0", "stable_rank"])
    assert found == {
        "compression": ("compression", None),
        "sparsity-gini": ("sparsity", "gini"),
        "sparsity-l0": ("sparsity", "l0"),
        "coherence": ("coherence", None),
        "principal_angles": ("principal_angles", None),
        "spectra": ("spectra", None),
        "subspace_overlap": ("subspace_overlap", None),
    }
    assert set(choose.of_results()) <= set(plots.figures)


@pytest.mark.parametrize("name", ["attention", "attention_matrix", "tokens", "token_pca"])
def test_figures_of_samples_look_inside_a_model(name, tmp_path, capsys):
    out = tmp_path / "figure.png"
    words = ["--model", "crate-tiny-fmnist", "--data", "fashion-mnist", "--samples", "2"]
    status = cli.main(["plot", "--figure", name, *words, "--out", str(out)])
    assert (status, capsys.readouterr().err) == (0, "")
    with Image.open(out) as picture:
        assert picture.width > 300


def test_figures_of_audits_and_similarities_are_drawn_of_their_folders(tmp_path, capsys):
    synthetic.audit("crate", "vit").save(tmp_path / "audit")
    synthetic.similarity().save(tmp_path / "similarity")
    for name, folder in (("audit", "audit"), ("robustness", "audit"), ("similarity", "similarity")):
        out = tmp_path / f"{name}.png"
        status = cli.main(["plot", str(tmp_path / folder), "--figure", name, "--out", str(out)])
        assert (status, capsys.readouterr().err) == (0, "")
        assert out.exists()
    words = [str(tmp_path / "audit")] * 2
    assert cli.main(["plot", *words, "--figure", "audit", "--out", str(out)]) == 2
    assert "is of one audit; 2 folders are given" in capsys.readouterr().err


def test_a_keyword_of_a_figure_is_given_by_option(plot):
    assert plot("--figure", "coherence", "--option", "centred=false")[0] == 0
    status, err, _ = plot("--figure", "coherence", "--option", "centered=false")
    assert status == 2
    assert "takes no --option centered" in err
    assert "Did you mean 'centred'" in err


def pixels_of(path):
    with Image.open(path) as picture:
        return picture.convert("RGB").tobytes()


@pytest.mark.parametrize(
    ("figure", "flag"), [("spectra", "log"), ("principal_angles", "centred"), ("panel", "legend")]
)
def test_a_flag_is_what_it_is_spelled(figure, flag, plot):
    drawn = {}
    for word in ("true", "True", "false", "False"):
        status, err, out = plot("--figure", figure, "--option", f"{flag}={word}")
        assert (status, err) == (0, "")
        drawn[word] = pixels_of(out)
    assert drawn["true"] == drawn["True"] != drawn["false"] == drawn["False"]


@pytest.mark.parametrize("word", ["no", "off", "0", "[]", "", "1e400"])
def test_what_is_no_flag_is_refused(word, plot):
    status, err, _ = plot("--figure", "spectra", "--option", f"log={word}")
    assert status == 2
    assert re.search(r"--option log is .*Use True or False\.\n$", err)


@pytest.mark.parametrize(
    "option",
    ["metrics=[l0]", "metrics=l0,hoyer", 'metrics=["l0", "hoyer"]', "metrics=l0", "title=2026"],
)
def test_lists_and_texts_are_read_as_the_figure_takes_them(option, plot):
    assert plot("--figure", "panel", "--option", option)[:2] == (0, "")


def test_one_layer_is_a_list_of_one(plot):
    for figure in ("coherence", "spectra", "principal_angles", "subspace_overlap"):
        one = plot("--figure", figure, "--option", "layers=2")
        assert one[:2] == (0, "")
        drawn = pixels_of(one[2])
        assert drawn == pixels_of(plot("--figure", figure, "--option", "layers=[2]")[2])


def test_steps_are_numbers_and_may_be_negative(plot):
    words = ["--figure", "over_steps", "--metric", "l0"]
    for steps in ("5,nan", "5,inf"):
        status, err, _ = plot(*words, "--steps", steps)
        assert status == 2
        assert "--steps is [5.0, " in err
        assert "Use a list of numbers" in err
    assert plot(*words, "--steps", "-1,5")[:2] == (0, "")
    status, err, _ = plot(*words, "--steps", "-1e308,1e308")
    assert status == 2
    assert "an axis cannot hold it" in err


def test_a_number_in_a_name_that_no_axis_holds_is_no_step():
    results = [synthetic.result(name) for name in (f"a-{'9' * 400}", "a-1")]
    figure = plots.over_steps(*results, metric="l0", labels=["a", "b"])
    assert figure.axes[0].get_xlabel() == "checkpoint"
    figure.canvas.draw()


def test_an_option_that_stands_already_names_what_to_use(plot):
    status, err, _ = plot("--metric", "l0", "--option", "band=None")
    assert status == 2
    assert "Leave it out, and use --band none." in err
    assert plot("--metric", "l0", "--band", "none")[:2] == (0, "")


def test_what_says_too_much_or_too_little_is_one_line(plot, tmp_path, capsys):
    out = str(tmp_path / "x.png")
    assert cli.main(["plot", "--metric", "l0", "--out", out]) == 2
    assert "no folder is given" in capsys.readouterr().err
    assert cli.main(["plot", "--figure", "attention", "--out", out]) == 2
    assert "Give --model and --data" in capsys.readouterr().err
    status, err, _ = plot("--figure", "spectra", "--model", "crate-tiny-fmnist")
    assert status == 2
    assert "Leave out --model" in err
    status, err, _ = plot("--figure", "attention", "--model", "crate-tiny-fmnist", "--data", "x")
    assert status == 2
    assert "and no folder" in err


def test_a_picture_of_the_users_is_not_replaced_unasked(plot):
    (out := plot("--metric", "l0")[2]).unlink()
    Image.new("RGB", (4, 4)).save(out)
    before = out.read_bytes()
    status, err, _ = plot("--metric", "l0")
    assert (status, err.count("\n")) == (2, 1)
    assert "it is no figure of this program. Name another --out, or add --overwrite" in err
    assert out.read_bytes() == before
    assert plot("--metric", "l0", "--overwrite")[0] == 0
    assert out.read_bytes() != before
    assert plot("--metric", "hoyer")[0] == 0  # one of ours is
