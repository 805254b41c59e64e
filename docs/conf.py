"""Settings of the static site (`make site`). `tools/build_site.py` lays out the source folder and calls Sphinx."""

import os
import re

project = "bionas"
author = "The bionas authors"
copyright = "The bionas authors"  # Sphinx reads this name
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
nb_execution_mode = "off"  # the notebooks are committed as executed
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
suppress_warnings = [
    "myst.header",
    "myst.xref_missing",
    "mystnb.unknown_mime_type",
    "misc.highlighting_failure",
]
exclude_patterns = ["_build", "data"]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = True
html_theme = "sphinx_book_theme"
html_title = "bionas"
html_context = {"default_mode": "auto"}
html_favicon = "_static/logo.svg"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = [("plotly.min.js", {"priority": 100})]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {"show_toc_level": 2, "use_download_button": True, "home_page_in_toc": True}

# On a forge's runner the repository is known: notebooks then get their launch buttons.
if repository := os.environ.get("GITHUB_REPOSITORY"):
    html_theme_options |= {
        "repository_url": f"https://github.com/{repository}",
        "path_to_docs": "notebooks",
        "use_repository_button": True,
        "launch_buttons": {
            "binderhub_url": "https://mybinder.org",
            "colab_url": "https://colab.research.google.com",
            "notebook_interface": "jupyterlab",
        },
    }


def plain_docstring(app, what, name, obj, options, lines):
    """Docstrings are plain text: single backticks are code, and |x| is an absolute value, not a substitution."""
    lines[:] = [re.sub(r"(?<!`)`([^`\n]+)`(?![`_])", r"``\1``", line).replace("|", r"\|") for line in lines]


def setup(app):
    app.connect("autodoc-process-docstring", plain_docstring, priority=100)
