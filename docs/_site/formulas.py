r"""Formulas as drawings of paths, set by matplotlib while the site is built.

They look the same in every browser, take the colour of the text, and need no script, no font and
no network. MathJax and KaTeX are scripts that would be fetched; MathML needs a mathematical font,
which many machines lack: sums then run into their limits. Axes of figures are set by the same
hand. A screen reader is told the formula as it is written in TeX.
"""

import html
from functools import cache
from typing import Any

from docutils import nodes
from matplotlib.font_manager import FontProperties
from matplotlib.path import Path
from matplotlib.textpath import TextPath
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

log = logging.getLogger(__name__)
UNITS = 100  # of a drawing, to an em
LETTERS = {Path.MOVETO: "M", Path.LINETO: "L", Path.CURVE3: "Q", Path.CURVE4: "C"}


@cache
def drawing(tex: str) -> str:
    """A formula as SVG, on the line of the text around it.

    Raises: ValueError for what matplotlib does not understand.
    """
    font = FontProperties(math_fontfamily="stix")
    path = TextPath((0, 0), f"${tex}$", size=UNITS, prop=font)
    box = path.get_extents()
    parts = []
    for points, kind in path.iter_segments(curves=True, simplify=False):
        if kind == Path.CLOSEPOLY:
            parts.append("Z")
            continue
        pairs = points.reshape(-1, 2)
        parts.append(LETTERS[kind] + " ".join(f"{x:.1f} {-y:.1f}" for x, y in pairs))
    width, height = box.width + 4, box.height + 4
    return (
        f'<svg class="formula" role="img" aria-label="{html.escape(tex)}" '
        f'viewBox="{box.x0 - 2:.1f} {-box.y1 - 2:.1f} {width:.1f} {height:.1f}" '
        f'style="width:{width / UNITS:.3f}em;height:{height / UNITS:.3f}em;'
        f'vertical-align:{(box.y0 - 2) / UNITS:.3f}em"><path d="{"".join(parts)}"/></svg>'
    )


def drawn(node: nodes.Element, *, large: bool = False) -> str:
    """The SVG of a node; a warning where the formula is not understood."""
    tex = " ".join(node.astext().split())
    tex = tex.replace(r"\frac", r"\dfrac") if large else tex
    try:
        return drawing(tex)
    except ValueError as error:
        log.warning("formula not understood: %s: %s", tex, error, location=node)
        return ""


def inline(self: HTML5Translator, node: nodes.math) -> None:
    """A formula within a line."""
    self.body.append(drawn(node))
    raise nodes.SkipNode


def block(self: HTML5Translator, node: nodes.math_block) -> None:
    """A formula on its own, which scrolls where the page is narrower."""
    self.body.append(f'<div class="formula" tabindex="0">{drawn(node, large=True)}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the renderer under the name `paths`."""
    app.add_html_math_renderer("paths", (inline, None), (block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
