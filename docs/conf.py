"""Sphinx configuration. Build with `make docs`; warnings are errors and nothing is fetched."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
sys.path.insert(0, str(HERE / "_extensions"))

from evoprompt import __version__  # noqa: E402

project = "evoprompt"
author = "the evoprompt authors"
copyright = "the evoprompt authors, Apache-2.0"
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "cli_reference",
]
exclude_patterns = ["_build", "_extensions"]

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 4

# `--option` stays as it is, also outside code.
smartquotes = False

# Docstrings are written in the plain style of this repository: single backticks mean code.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_class_signature = "separated"
autodoc_default_options = {"exclude-members": "__new__, __init__"}
napoleon_numpy_docstring = False
napoleon_attr_annotations = False
napoleon_use_ivar = True

copybutton_exclude = ".linenos, .gp, .go"

html_theme = "furo"
html_title = f"evoprompt {release}"
html_show_sphinx = False
html_theme_options = {"top_of_page_buttons": []}
