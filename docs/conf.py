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
myst_heading_anchors = 4
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
napoleon_use_ivar = True  # autodoc describes the fields of a dataclass already
html_theme = "sphinx_book_theme"
html_title = "bionas"
html_context = {"default_mode": "auto"}
html_favicon = "_static/logo.svg"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = [("plotly.min.js", {"priority": 100}), ("figures.js", {"priority": 101})]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "show_toc_level": 2,
    "use_download_button": True,
    "home_page_in_toc": True,
    "navbar_persistent": [],  # the search field is at the side
    "secondary_sidebar_items": {"**": ["page-toc"], "results": [], "index": []},  # wide tables need the space
}

# On a forge's runner the repository is known. Links that open a notebook elsewhere are in the pages (tools/build_site.py).
if repository := os.environ.get("GITHUB_REPOSITORY"):
    html_theme_options |= {
        "repository_url": f"https://github.com/{repository}",
        "use_repository_button": True,
    }


def plain_docstring(app, what, name, obj, options, lines):
    """Docstrings are plain text: single backticks are code, |x| is an absolute value and x * y a product, not markup.

    A block that is indented after an empty line, outside of Args, Raises and the like, is code and stays as it is.
    """
    if lines and lines[0].startswith("Alias for field number"):  # what Python says of a NamedTuple's fields
        lines[:] = []
    plain, code, section = [], False, False
    for line in lines:
        indented = line.startswith(" ")
        if line.strip() and not indented:
            code, section = False, bool(re.fullmatch(r"[A-Z][a-z]+:", line))
        if indented and not section and not code and plain and not plain[-1].strip():
            plain += ["::", ""]
            code = True
        if not code:
            line = re.sub(r"(?<!`)`([^`\n]+)`(?![`_])", r"``\1``", line)
            line = "".join(
                part if part.startswith("``") else re.sub(r"([|*])", r"\\\1", part)
                for part in re.split(r"(``.*?``)", line)
            )
        plain.append(line)
    lines[:] = plain


def setup(app):
    app.connect("autodoc-process-docstring", plain_docstring, priority=100)
