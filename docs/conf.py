"""How Sphinx builds these pages: `bash scripts/docs.sh`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_ext")]

import lg_field  # noqa: E402

project = "lg-field"
author = "The lg-field authors"
copyright = "The lg-field authors"
version = release = lg_field.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "commands", "examples"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build", "_ext"]
suppress_warnings = [
    "myst.header",  # pages may begin their sections at any level
    "myst.xref_missing",  # links to files of the repository: tests/test_docs.py follows them
    "misc.highlighting_failure",
]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"lg-field {release}"
html_show_sphinx = False
html_theme_options = {"source_repository": "", "navigation_with_keys": True}

default_role = "literal"
add_module_names = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": False}
python_use_unqualified_type_names = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
nitpicky = False


def escape_stars(app, what, name, obj, options, lines):
    """Stars of docstrings are of shapes such as (*batch, 3), never emphasis."""
    lines[:] = [re.sub(r"(`[^`]*`)|\*", lambda found: found[1] or r"\*", line) for line in lines]


def setup(app):
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", escape_stars, priority=900)
