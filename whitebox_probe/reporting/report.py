"""`wp.report`: results on one page that stands by itself, or in Markdown."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from whitebox_probe._core.arguments import expect, expect_usual, one_of
from whitebox_probe._core.arguments import path as a_path
from whitebox_probe._core.errors import ProbeError, nearest
from whitebox_probe._core.io import atomic_path
from whitebox_probe._core.process import as_found
from whitebox_probe.auditing.verdicts import Audit
from whitebox_probe.reporting.material import Material, gathered
from whitebox_probe.reporting.section import Part, sections
from whitebox_probe.results.compare import Comparison
from whitebox_probe.results.held import uncopied
from whitebox_probe.results.result import Result
from whitebox_probe.results.similarity import Similarity
from whitebox_probe.results.view import View

FORMATS = {"html": ".html", "md": ".md"}
Format = Literal["html", "md"]
Thing = Result | Comparison | Audit | Similarity | View | str | Path
Things = Thing | Iterable[Thing] | Mapping[Any, Result]


@as_found()
def report(
    results: Things,
    path: str | Path,
    *,
    audit: Audit | Sequence[Audit] | None = None,
    steps: Sequence[float] | None = None,
    title: str | None = None,
    format: Format | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a report of results: models, curves, verdicts, what is inside, where it came from.

    One HTML file without any network: charts that can be changed, tables, the numbers as CSV, and
    the commands that make it again. Or Markdown, for a pull request.

    Args:
        results: of `wp.probe`, with nulls of `wp.nulls`; and what `wp.compare`, `wp.audit`,
            `wp.similarity` and `wp.view` give; or folders that hold one. One, or several.
        path: of the file.
        audit: verdicts that belong to it.
        steps: of the results, where they are of one training; if not given, by their names, where
            those say so (`epoch-07`).
        title: of the page.
        format: `html` or `md`; by the path's suffix if not given.
        overwrite: whether a file that is there is replaced.

    Returns: the path.
    Raises: ProbeError for what cannot be reported, a file that exists, or a page of 8 MB and more;
        ResultError for two results of one name, or of different data.
    """
    path = Path(expect("path", path, a_path, "the page is written there"))
    expect_usual(title=title, overwrite=overwrite)
    kind = _format(path, format)
    if path.is_dir():
        raise ProbeError(f"{path} is a folder", "a report is a file", "Pass a path inside it")
    if os.path.lexists(path) and not overwrite:
        raise ProbeError(
            f"{path} exists", "a file is there already", "Pass overwrite=True, or another path"
        )
    material = gathered(results, audit=audit, steps=steps, title=title)
    text = html(material) if kind == "html" else markdown(material)
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
    return path


def html(material: Material) -> str:
    """The page, in full."""
    from whitebox_probe.reporting.page import filled

    made = {name: section.make(material) for name, section in sections().items()}
    parts: dict[str, Part] = {name: part for name, part in made.items() if part is not None}
    return filled(heading(material), subtitle(material), parts)


def markdown(material: Material) -> str:
    """The report as Markdown."""
    from whitebox_probe.reporting.markdown import written

    return written(material, heading(material), subtitle(material))


def heading(material: Material) -> str:
    """The title of the report."""
    if material.title:
        return material.title
    names = list(material.names.values())
    told = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f"{told}: what their layers do" if len(names) > 1 else f"{told}: what its layers do"


def subtitle(material: Material) -> str:
    """What was measured on what, in a line."""
    data = dict.fromkeys(str(r.run.data.get("name", "data")) for r in material.results)
    counts = sorted({len(uncopied(r, "samples")) or r.run.count for r in material.results})
    if not counts:
        return "Compression, sparsity and coherence, layer by layer"
    told = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
    return (
        f"{told} samples of {', '.join(data)}; compression, sparsity and coherence layer by layer"
    )


def _format(path: Path, format: str | None) -> str:
    if format is None:
        by = {suffix: name for name, suffix in FORMATS.items()} | {
            ".htm": "html",
            ".markdown": "md",
        }
        if path.suffix.lower() not in by:
            raise ProbeError(
                f"{path.name} does not say what to write",
                f"its suffix is '{path.suffix}'",
                "End it in .html or .md, or pass format=",
            )
        return by[path.suffix.lower()]
    if one_of(*FORMATS)(format):
        raise ProbeError(
            f"a report cannot be written as '{format}'",
            "there is no such format",
            nearest(str(format), FORMATS),
        )
    return format
