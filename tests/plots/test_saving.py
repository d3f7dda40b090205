"""Files of figures: formats, determinism, and the run that they carry."""

import json
import logging
import os
import re
import stat
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import matplotlib as mpl
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

import whitebox_probe as wp
from whitebox_probe._core.errors import ProbeError
from whitebox_probe.cli import _shared
from whitebox_probe.plots import saving

sys.path.insert(0, str(Path(__file__).parent))
import synthetic

# What the pgf backend asks of TeX: a prompt after each line, and the size of each box.
TEX = """#!{python}
import sys
print("*", end="", flush=True)
for line in sys.stdin:
    if "pgf_backend_query_start" in line:
        print("pgf_backend_query_start\\n*", end="", flush=True)
    elif "sbox0" in line:
        print("\\n30.0pt,6.0pt,1.0pt\\n\\n*", end="", flush=True)
    elif "includegraphics" in line:
        print("\\n*", end="", flush=True)
    elif "@@end" in line:
        break
"""


@pytest.fixture
def tex(tmp_path, monkeypatch):
    """A TeX that says of every text that it has the same size."""
    program = tmp_path / "bin" / "xelatex"
    program.parent.mkdir()
    program.write_text(TEX.replace("{python}", sys.executable))
    program.chmod(program.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")


def pair():
    return [
        synthetic.result(name, ["compression"], seed=i, data={"name": "photos"})
        for i, name in enumerate(("crate_é", "crate_é-init"))
    ]


def test_the_run_is_read_back_from_each_format(tmp_path):
    figure = wp.plots.compression(*pair(), band="std")
    for path in wp.plots.save(figure, tmp_path / "c", ["pdf", "svg", "png"]):
        run = wp.plots.run_of(path)
        assert run["version"] == wp.__version__
        (drawn,) = run["figures"]
        assert (drawn["name"], drawn["options"]) == ("compression", {"band": "std"})
        assert [each["model"] for each in run["runs"]] == ["crate_é", "crate_é-init"]
        first = run["runs"][0]
        assert first["data"]["name"] == "photos"
        assert (first["seed"], first["eps"], first["conventions"]) == (0, [0.1], ["paper"])
        assert first["measures"] == ["compression"]
        assert run["runs"][1]["checkpoint"]["initial_of"] == "crate_é"


def test_a_name_with_signs_that_no_xml_may_hold_is_read_back_too(tmp_path):
    name = "a(b)) \\ <&> \x1b[31m \uffff\u202e"
    figure = wp.plots.compression(synthetic.result(name, ["compression"]))
    for path in wp.plots.save(figure, tmp_path / "c", ["pdf", "svg", "png"]):
        assert wp.plots.run_of(path)["runs"][0]["model"] == name


def test_other_programs_read_it_too(tmp_path):
    pdf, svg, png = wp.plots.save(
        wp.plots.compression(*pair()), tmp_path / "c", ["pdf", "svg", "png"]
    )
    with Image.open(png) as picture:
        told = picture.info
        assert json.loads(told["whitebox_probe"])["runs"][0]["model"] == "crate_é"
        assert "compression" in told["Description"]
        assert picture.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    names = {"dc": "http://purl.org/dc/elements/1.1/"}
    root = ElementTree.parse(svg)
    assert "compression" in root.find(".//dc:title", names).text
    assert (
        "samples of photos, seed 0, convention paper" in root.find(".//dc:description", names).text
    )
    assert b"/Subject" in pdf.read_bytes()
    pypdf = pytest.importorskip("pypdf")
    info = pypdf.PdfReader(pdf).metadata
    assert json.loads(info["/Keywords"])["runs"][0]["model"] == "crate_é"
    assert "/CreationDate" not in info


def test_several_figures_in_the_callers_axes_are_all_told(tmp_path):
    figure = Figure()
    left, right = figure.subplots(1, 2)
    one, two = pair()
    wp.plots.compression(one, ax=left)
    wp.plots.compression(one, two, ax=right, title="b")
    (path,) = wp.plots.save(figure, tmp_path / "c", "png")
    run = wp.plots.run_of(path)
    assert [each["options"] for each in run["figures"]] == [{}, {"title": "b"}]
    assert [each["model"] for each in run["runs"]] == ["crate_é", "crate_é-init"]


@pytest.mark.parametrize("takes", ["audit", "view", "similarity"])
def test_what_is_no_result_says_what_it_is_of(takes, tmp_path):
    name = {"audit": "robustness", "view": "tokens", "similarity": "similarity"}[takes]
    figure = wp.plots.figures[name](*synthetic.inputs(takes))
    (path,) = wp.plots.save(figure, tmp_path / "c", "svg")
    assert wp.plots.run_of(path)["runs"][0]["model"]


def test_a_figures_own_savefig_writes_it_too(tmp_path):
    wp.plots.compression(*pair()).savefig(tmp_path / "c.pdf")
    assert wp.plots.run_of(tmp_path / "c.pdf")["figures"][0]["name"] == "compression"


def test_a_file_without_a_run_is_told(tmp_path):
    (path,) = wp.plots.save(Figure(), tmp_path / "c", "pdf")
    for wrong, told in ((path, "holds no run"), (tmp_path / "none.png", "cannot be read")):
        with pytest.raises(ProbeError, match=told):
            wp.plots.run_of(wrong)


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ("eps", r"saved as eps: it has no transparency.*Use pdf"),
        ("tiff", r"saved as tiff.*pdf, png, svg, pgf"),
        ("pgf", r"saved as pgf: .*TeX.*Install one, or use pdf"),
    ],
)
def test_what_cannot_be_written_is_told_before_anything_is(form, told, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ProbeError, match=told):
        wp.plots.save(wp.plots.compression(*pair()), tmp_path / "c", ["png", form])
    assert not list(tmp_path.iterdir())


def test_pgf_is_written_with_its_pictures_and_names_as_they_are(tex, tmp_path):
    results = [synthetic.result("50%_a$b#&", seed=0)]
    for folder in ("a", "b"):
        curves = wp.plots.compression(*results)
        (path,) = wp.plots.save(curves, tmp_path / folder / "curves", "pgf")
        wp.plots.save(wp.plots.coherence(*results), tmp_path / folder / "heat", "pgf")
    files = sorted(each.name for each in (tmp_path / "a").iterdir())
    assert files[:2] == ["curves.pgf", "heat-img0.png"]
    assert all(
        (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
        for name in files
    )
    text = path.read_text()
    assert r"50\%\_a\$b\#\&" in text
    assert "heat-img0.png" in (tmp_path / "a" / "heat.pgf").read_text()
    assert wp.plots.run_of(path)["runs"][0]["model"] == "50%_a$b#&"


def test_the_command_knows_the_same_formats():
    assert _shared.FORMATS == saving.FORMATS


STYLE = "axes.spines.top: True\nlines.linewidth: 3\n"


@pytest.fixture
def saved(tmp_path):
    folder = tmp_path / "runs"
    return [str(r.save(folder / str(i))) for i, r in enumerate(pair())]


@pytest.mark.parametrize("command", ["plot", "compare"])
def test_a_style_sheet_and_a_width_from_the_command_line(command, saved, tmp_path, monkeypatch):
    from whitebox_probe import plots
    from whitebox_probe.cli import main as cli

    drawn = []
    monkeypatch.setattr(plots, "save", lambda figure, stem, formats: drawn.append(figure) or [])
    (tmp_path / "mine.mplstyle").write_text(STYLE)
    words = [*saved[:1], "--metric", "compression"] if command == "plot" else saved
    if command == "compare":
        monkeypatch.setattr("whitebox_probe.results.compare.compare", lambda results: _Nothing())
    args = [command, *words, "--out", str(tmp_path / "out"), "--format", "svg", "--width", "text"]
    before = dict(mpl.rcParams)
    assert cli.main([*args, "--style", str(tmp_path / "mine.mplstyle")]) == 0
    assert dict(mpl.rcParams) == before
    figure = next(each for each in drawn if each.axes[0].lines)
    assert figure.get_figwidth() == 6.8
    # It is matplotlib's default, and the user's all the same.
    assert figure.axes[0].spines["top"].get_visible()
    assert figure.axes[0].lines[0].get_linewidth() == 3


class _Nothing:
    notes = ()
    differences = pd.DataFrame(columns=["first", "second", "metric", "layer"])

    def save(self, folder):
        return folder


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--style", "gplot"], "there is no style sheet 'gplot'.*'ggplot'"),
        (["--format", "eps"], "saved as eps.*Use pdf"),
        (["--out", "x.eps"], "saved as eps.*Use pdf"),
        (["--out", "x.jpg"], "saved as jpg.*Use some of"),
    ],
)
def test_wrong_looks_are_told_in_one_line(words, told, saved, tmp_path, capsys, monkeypatch):
    from whitebox_probe.cli import main as cli

    monkeypatch.chdir(tmp_path)
    out = [] if "--out" in words else ["--out", "y"]
    status = cli.main(["plot", *saved, "--metric", "compression", *out, *words])
    err = capsys.readouterr().err
    assert status == 2
    assert len(err.splitlines()) == 1
    assert re.search(told, err)


@pytest.mark.parametrize("silenced", [False, True])
def test_a_style_sheet_with_an_unknown_setting_is_refused(silenced, tmp_path, monkeypatch):
    from whitebox_probe.plots._settings import using

    if silenced:
        for name in ("matplotlib", "matplotlib.rcsetup"):
            monkeypatch.setattr(logging.getLogger(name), "level", logging.CRITICAL)
        monkeypatch.setattr(logging.getLogger("matplotlib"), "disabled", True)
        monkeypatch.setattr(logging.root.manager, "disable", logging.CRITICAL)
    (tmp_path / "bad.mplstyle").write_text("lines.colour: red\n")
    with pytest.raises(ProbeError, match=r"cannot be read: Bad key lines\.colour"):
        with using(str(tmp_path / "bad.mplstyle")):
            pass
    if silenced:
        assert logging.getLogger("matplotlib").disabled
        assert logging.getLogger("matplotlib").level == logging.CRITICAL
        assert logging.root.manager.disable == logging.CRITICAL


def test_bytes_do_not_depend_on_the_process(tmp_path):
    code = (
        "import sys; sys.path.insert(0, {here!r}); import synthetic, whitebox_probe as wp;"
        "wp.plots.save(wp.plots.compression(synthetic.result('a_b')), {stem!r}, ['pdf', 'svg'])"
    )
    ran = code.format(here=str(Path(__file__).parent), stem=str(tmp_path / "a"))
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"  # strings have other hashes
    environment = os.environ | {"PYTHONHASHSEED": seed}
    subprocess.run([sys.executable, "-c", ran], check=True, env=environment)
    wp.plots.save(wp.plots.compression(synthetic.result("a_b")), tmp_path / "b", ["pdf", "svg"])
    for suffix in ("pdf", "svg"):
        first, second = ((tmp_path / f"{s}.{suffix}").read_bytes() for s in "ab")
        assert first == second
