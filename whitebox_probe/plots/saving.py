"""Figures as files: vector formats and pictures, with the run that they were drawn of."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from whitebox_probe._core.arguments import expect, expect_each
from whitebox_probe._core.arguments import path as a_path
from whitebox_probe._core.arguments import text as a_text
from whitebox_probe._core.errors import ProbeError
from whitebox_probe._core.io import atomic_path, temporary_folder
from whitebox_probe.plots import _provenance
from whitebox_probe.plots._provenance import run_of as run_of
from whitebox_probe.plots._settings import is_set, setting, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("pdf", "png", "svg", "pgf")
_OPAQUE = ("eps", "ps")
_TEX = ("xelatex", "lualatex", "pdflatex")


def save(
    figure: "Figure", stem: str | Path, formats: str | Sequence[str] = ("pdf", "png")
) -> list[Path]:
    """Write a figure whole, with embedded fonts; the same figure gives the same bytes.

    The file says which runs it was drawn of: `run_of` reads it, and so do pdfinfo and the like.
    PNG has 300 dpi. PGF is set in the fonts of the document that it is put into, and needs TeX.

    Args: stem: the path without its suffix. formats: of pdf, png, svg and pgf.

    Returns: the paths.
    Raises: ProbeError for another format, a stem that ends in one, or PGF without TeX.
    """
    if not callable(getattr(figure, "savefig", None)):
        raise ProbeError(
            f"a {type(figure).__name__} cannot be saved",
            "it is no figure of matplotlib",
            "Pass what a function of wp.plots gave",
        )
    expect("stem", stem, a_path, "files are named by it")
    asked = checked(formats)
    suffix = Path(stem).suffix[1:]
    if suffix in FORMATS:
        raise ProbeError(
            f"'{stem}' ends in .{suffix}",
            "each format adds its own suffix",
            f"Pass the path without it, and formats=['{suffix}']",
        )
    paths = []
    for form in asked:
        target = Path(f"{stem}.{form}")
        with styled():
            if form == "pgf":
                _save_pgf(figure, target)
            else:
                with atomic_path(target) as path:
                    told = _provenance.metadata(figure, form)
                    figure.savefig(path, format=form, metadata=told)
        paths.append(target)
    return paths


def checked(formats: str | Sequence[str]) -> list[str]:
    """The formats, once it is known that each can be written.

    Raises: ProbeError for one that cannot.
    """
    several = [formats] if isinstance(formats, str) else formats
    asked = expect_each("formats", several, a_text, "a figure is written in each")
    wrong = [form for form in asked if form not in FORMATS]
    if set(wrong) & set(_OPAQUE):
        raise ProbeError(
            f"figures cannot be saved as {', '.join(wrong)}",
            "it has no transparency, and bands would hide the curves under them",
            "Use pdf, which every TeX since pdfTeX takes",
        )
    if wrong or not asked:
        raise ProbeError(
            f"figures cannot be saved as {', '.join(wrong) or 'nothing'}",
            "the format is not known",
            f"Use some of: {', '.join(FORMATS)}",
        )
    if "pgf" in asked:
        _tex()
    return asked


def _tex() -> str:
    """The TeX that measures texts: the user's, or the first there is.

    Raises: ProbeError where there is none.
    """
    key = "pgf.texsystem"
    names = (str(setting(key)),) if is_set(key) else _TEX
    found = next((name for name in names if shutil.which(name)), None)
    if found is None:
        raise ProbeError(
            "figures cannot be saved as pgf",
            f"matplotlib asks TeX how long each text is, and there is no {' or '.join(names)}",
            "Install one, or use pdf",
        )
    return found


def _save_pgf(figure: "Figure", target: Path) -> None:
    """The figure as TeX, and the pictures that it is made of beside it."""
    import matplotlib as mpl

    with temporary_folder(target.parent, target.stem) as folder:
        written = folder / target.name  # the names of pictures begin with its name
        with mpl.rc_context({"pgf.texsystem": _tex()}), _as_drawn():
            figure.savefig(written, format="pgf")
        if told := _provenance.told(figure):
            line = f"%% whitebox_probe {_provenance.written(told)}\n"
            text = line + written.read_text(encoding="utf-8")
            written.write_text(text, encoding="utf-8")
        for path in sorted(folder.iterdir(), key=lambda each: each == written):
            with atomic_path(target.with_name(path.name)) as temporary:
                shutil.copyfile(path, temporary)


@contextmanager
def _as_drawn() -> Iterator[None]:
    """PGF in which texts are what the screen shows: matplotlib hands them to TeX as they are."""
    from unittest.mock import patch

    from matplotlib.backends import backend_pgf

    from whitebox_probe.plots._pgf import Renderer

    with patch.object(backend_pgf, "RendererPgf", Renderer):
        yield
