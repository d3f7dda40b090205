"""Cross-references to classes that signatures name without their module.

A class that is imported for type checkers alone stands in a signature as a bare word. It is the one
class of that name on the site; a word that several or none have is left, and so is told.
"""

from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode


def resolve(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, words: nodes.Element
) -> nodes.Element | None:
    """A link to the one class of a name."""
    name = node.get("reftarget", "")
    if node.get("refdomain") != "py" or "." in name:
        return None
    objects = env.domains.python_domain.objects
    homes = {key: entry for key, entry in objects.items() if key.rpartition(".")[2] == name}
    places = {(entry.docname, entry.node_id) for entry in homes.values() if not entry.aliased}
    if len(places) != 1:
        return None
    ((page, anchor),) = places
    return make_refnode(app.builder, node.get("refdoc", ""), page, anchor, words, name)


def setup(app: Sphinx) -> dict[str, Any]:
    """Where Sphinx finds nothing itself."""
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
