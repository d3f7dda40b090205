"""`compare` prints what it exists for: paired differences over depth, and what has none."""

import contextlib
import io
import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import whitebox_probe as wp
from whitebox_probe.cli import _paired
from whitebox_probe.cli import main as cli

MODELS = ("crate-tiny-fmnist", "vit-tiny-fmnist")
NAME = "[red]mine[/red]\x1b[2J\u202e"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    few = ["--limit", "12", "--quiet", "--metrics"]
    for model in MODELS:
        words = ["run", model, *few, "l0,coherence,compression", "--out", str(folder / model)]
        assert cli.main(words) == 0
    named = ["--name", NAME, "--out", str(folder / "named")]
    assert cli.main(["run", MODELS[0], *few, "l0,hoyer", *named]) == 0
    official = ["--convention", "official", "--out", str(folder / "official")]
    assert cli.main(["run", MODELS[1], *few, "compression", *official]) == 0
    return folder


@pytest.fixture(scope="module")
def compared(runs):
    """Status, stdout and stderr of a comparison, each made once."""
    made = {}

    def run(*names):
        if names not in made:
            words = [str(runs / name) for name in names]
            out, err = io.StringIO(), io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                folder = ["--out", str(runs / "-".join(names)), "--formats", "png"]
                status = cli.main(["compare", *words, *folder])
            made[names] = status, out.getvalue(), err.getvalue()
        return made[names]

    return run


@pytest.fixture
def table(runs, compared):
    """The paired differences of the two models, as they were written."""
    compared(*MODELS)
    return pd.read_csv(runs / "-".join(MODELS) / "differences.csv")


def test_differences_are_printed_as_the_table_has_them(compared, table):
    status, told, err = compared(*MODELS)
    assert status == 0, err
    assert "vit-tiny-fmnist minus crate-tiny-fmnist, 12 samples in pairs" in told
    for metric in ("l0", "compression"):
        mine = table[table["metric"] == metric]
        lines = re.findall(rf"^{metric} +(\d+) +([-+.\d]+) \[(.*?)\] +(\S+) +\S+$", told, re.M)
        assert [int(layer) for layer, *_ in lines] == list(range(1, 9))
        for row, (_, value, ends, p) in zip(mine.to_dict("records"), lines, strict=True):
            low, high = map(float, ends.split(", "))
            assert abs(float(value) - row["difference"]) <= (high - low) / 10  # as it is rounded
            assert low <= float(value) <= high
            assert p == _paired.p_value(row["p_holm"])


def test_p_is_of_the_paired_t_test(runs, table):
    one, two = (wp.Result.load(runs / model) for model in MODELS)
    row = table[(table["metric"] == "l0") & (table["layer"] == 3)].iloc[0]
    keys = [r.samples["l0@z_out:3"] for r in (two, one)]
    assert row["p"] == pytest.approx(stats.ttest_rel(*keys).pvalue, rel=1e-9)
    assert (table["p_holm"] >= table["p"]).all()
    least = table["p"].min()
    assert table["p_holm"].min() == pytest.approx(min(1, least * len(table)), rel=1e-9)


def test_what_has_no_pairs_is_told_with_the_reason(compared):
    _, told, _ = compared(*MODELS)
    flat = " ".join(told.split())
    assert "not paired, read from the weights, which have no samples: " in flat
    assert "coherence_mean" in flat.partition("not paired")[2]
    _, told, _ = compared(MODELS[1], "named")
    flat = " ".join(told.split())
    assert "not paired, only vit-tiny-fmnist has it: " in flat
    assert re.search(r"only \[red\]mine.* has it: hoyer", flat)


def test_settings_that_cannot_be_paired_are_refused_with_the_reason(compared):
    status, told, err = compared(MODELS[0], "official")
    assert (status, told) == (2, "")
    assert "convention" in err
    assert "their numbers do not mean the same" in err


def test_several_settings_of_one_result_have_a_figure_each(tmp_path, capsys):
    given = ["--limit", "6", "--quiet", "--metrics", "l0,compression", "--eps", "0.1,0.5"]
    for model in MODELS:
        words = ["--convention", "paper,official", "--out", str(tmp_path / model)]
        assert cli.main(["run", model, *given, *words]) == 0
    capsys.readouterr()
    folders = [str(tmp_path / model) for model in MODELS]
    words = ["compare", *folders, "--out", str(tmp_path / "both"), "--formats", "png"]
    assert cli.main(words) == 0
    assert "not drawn" not in capsys.readouterr().out
    apart = [f"convention={c}-eps={e}" for c in ("official", "paper") for e in ("0.1", "0.5")]
    wanted = {f"compression-{each}" for each in apart}
    wanted |= {f"sparsity-l0-convention={c}" for c in ("official", "paper")}
    assert {path.name.removesuffix(".png") for path in (tmp_path / "both").glob("*.png")} == wanted
    for each in wanted:
        (drawn,) = wp.plots.run_of(tmp_path / "both" / f"{each}.png")["figures"]
        told = "-".join(
            f"{n}={v}" for n, v in drawn["options"].items() if n in ("convention", "eps")
        )
        assert each.endswith(told)


def test_a_name_is_printed_as_it_is_and_moves_no_cursor(compared):
    _, told, _ = compared(MODELS[1], "named")
    assert r"[red]mine[/red]\x1b[2J\u202e minus vit-tiny-fmnist" in told
    assert "\x1b" not in told
    assert "\u202e" not in told


def test_of_many_layers_some_are_printed_over_the_whole_depth():
    assert _paired._spread(8, every=False) == list(range(8))
    assert _paired._spread(24, every=True) == list(range(24))
    for count in (9, 12, 24, 100):
        found = _paired._spread(count, every=False)
        assert (found[0], found[-1], len(found)) == (0, count - 1, _paired.DEPTHS)
        assert np.ptp(np.diff(found)) <= 1


def test_models_of_other_depth_are_told_in_shares_of_it(tmp_path, capsys):
    for depth in (4, 10):
        result = wp.probe(of_depth(depth), "fashion-mnist", ["hoyer"], limit=4, progress=False)
        result.save(tmp_path / f"{depth}")
    capsys.readouterr()
    folders = [str(tmp_path / "4"), str(tmp_path / "10")]
    assert cli.main(["compare", *folders, "--out", str(tmp_path), "--formats", "png"]) == 0
    told = capsys.readouterr().out
    assert re.search(r"^measure +depth +difference \[95%\] +p +d$", told, re.M)
    assert re.findall(r"^hoyer +(\d\.\d\d) ", told, re.M) == ["0.25", "0.50", "0.75", "1.00"]


def of_depth(depth):
    """The shipped CRATE's architecture with another depth, untrained."""
    from dataclasses import replace

    from whitebox_probe.models.registry import build

    like = wp.load(MODELS[0])
    entry = wp.checkpoints.entry(MODELS[0])
    module = build("crate", dict(entry.arch) | {"depth": depth}, source="a test")
    return replace(wp.wrap(module, family="crate", name=f"of-{depth}"), preprocess=like.preprocess)


def test_the_table_for_a_paper_has_the_rows_that_are_printed(runs, tmp_path, capsys):
    words = ["compare", *(str(runs / name) for name in MODELS), "--format", "png"]
    assert cli.main([*words, "--table", "latex,markdown", "--out", str(tmp_path / "out")]) == 0
    capsys.readouterr()
    made = wp.compare([wp.Result.load(runs / name) for name in MODELS])
    assert (tmp_path / "out/comparison.tex").read_text() == made.to_latex()
    told = (tmp_path / "out/comparison.md").read_text()
    assert told == made.to_markdown()
    assert {line.split(" | ")[1] for line in told.splitlines()[2:]} >= set(MODELS)
    assert cli.main([*words, "--table", "word", "--out", str(tmp_path / "none")]) == 2
    assert "no tables in 'word'" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
