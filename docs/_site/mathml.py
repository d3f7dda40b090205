"""Formulas as MathML, made by docutils while the site is built.

MathML needs no script, no font and no network, browsers draw it in the colour of the text, and
screen readers read it. MathJax and KaTeX are scripts that would be fetched; pictures of formulas
are of one colour, and say nothing to a screen reader.
"""

from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

log = logging.getLogger(__name__)


def written(tex: str, *, block: bool, node: nodes.Element) -> str:
    """The MathML of a formula; a warning where docutils does not know what it says."""
    try:
        made = tex2mathml(tex, as_block=block)
    except MathError as error:
        log.warning("formula not understood: %s: %s", tex, error, location=node)
        return ""
    return str(made)


def inline(self: HTML5Translator, node: nodes.math) -> None:
    """A formula within a line."""
    self.body.append(written(node.astext(), block=False, node=node))
    raise nodes.SkipNode


def block(self: HTML5Translator, node: nodes.math_block) -> None:
    """A formula on its own, which scrolls where the page is narrower."""
    made = written(node.astext(), block=True, node=node)
    self.body.append(f'<div class="formula" tabindex="0">{made}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the renderer under the name `mathml`."""
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
