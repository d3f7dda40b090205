"""Every figure beside a picture of it that was looked at, without its texts.

After a change that is meant: python tests/plots/test_pictures.py, and look at each of them.
"""

import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

import whitebox_probe as wp
from whitebox_probe.plots.kind import kind_of

sys.path.insert(0, str(Path(__file__).parent))
import synthetic

PICTURES = Path(__file__).parent / "pictures"
DPI = 36
# Root mean square of differences, of 255: releases of FreeType shift axes by parts of a pixel.
TOLERANCE = 12
OPTIONS = {"curves": {"metric": "hoyer"}, "sparsity": {"metric": "hoyer"}}
CASES = {name: (name, OPTIONS.get(name, {})) for name in wp.plots.figures} | {
    "compression-ends": ("compression", {"width": "text"}),
    "panel-ends": ("panel", {"legend": "end"}),
    "over_steps-heatmap": ("over_steps", {"form": "heatmap"}),
}


def drawn(case, path):
    """The figure as a small picture: lines, bands and images, where the layout puts them."""
    name, options = CASES[case]
    with mpl.rc_context():
        mpl.rcdefaults()
        given = synthetic.inputs(kind_of(wp.plots.figures[name]).takes)
        figure = wp.plots.figures[name](*given, **options)
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Text, "draw", lambda *args, **kwargs: None)
            figure.savefig(path, dpi=DPI, metadata={"Software": None})


def difference(one, other):
    """Root mean square; infinite for pictures whose sizes differ by more than rounding."""
    arrays = [np.asarray(Image.open(path).convert("RGB"), dtype=float) for path in (one, other)]
    sizes = np.array([array.shape[:2] for array in arrays])
    if np.ptp(sizes, axis=0).max() > 1:
        return np.inf
    rows, columns = sizes.min(axis=0)
    first, second = (array[:rows, :columns] for array in arrays)
    return np.sqrt(((first - second) ** 2).mean())


@pytest.mark.parametrize("case", CASES)
def test_it_looks_as_it_did_when_it_was_looked_at(case, tmp_path):
    drawn(case, tmp_path / f"{case}.png")
    wanted = PICTURES / f"{case}.png"
    assert wanted.exists(), f"there is no picture of {case}: {__doc__}"
    assert difference(wanted, tmp_path / f"{case}.png") <= TOLERANCE


def test_pictures_are_small_and_each_is_of_a_figure():
    files = {path.stem: path.stat().st_size for path in PICTURES.glob("*.png")}
    assert set(files) == set(CASES)
    assert max(files.values()) < 20_000
    assert sum(files.values()) < 400_000


def test_a_changed_picture_is_found(tmp_path):
    drawn("compression", tmp_path / "a.png")
    drawn("coding_rate", tmp_path / "b.png")
    assert difference(tmp_path / "a.png", tmp_path / "b.png") > TOLERANCE


if __name__ == "__main__":
    PICTURES.mkdir(exist_ok=True)
    for each in CASES:
        drawn(each, PICTURES / f"{each}.png")
