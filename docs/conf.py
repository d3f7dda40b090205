"""The documentation site: sphinx-build -W -n --keep-going docs docs/_build."""

import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

project = "whitebox-probe"
author = "whitebox-probe"
version = release = version_of("whitebox-probe")
language = "en-GB"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx_copybutton",
    "sphinx_design",
    "_site.commands",
    "_site.docstrings",
    "_site.formulas",
    "_site.inventory",
    "_site.links",
    "_site.names",
    "_site.notebooks",
]
nitpicky = True
exclude_patterns = ["_build", "_site"]

html_theme = "furo"
html_title = "whitebox-probe"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "paths"
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
pygments_style = "friendly"
pygments_dark_style = "native"

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "fieldlist", "html_image"]
myst_heading_anchors = 4
nb_execution_mode = "off"  # they are stored with their outputs
nb_ipywidgets_js = {}  # scripts of a CDN: the stored pictures stand in the widgets' place
nb_merge_streams = True

autodoc_member_order = "groupwise"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 80
