"""Copies of the notebooks for Google Colab: `python tools/colab.py OUT --repository OWNER/NAME [--ref COMMIT]`.

A copy is the notebook as executed, with a first cell that installs the package, data of the paper and committed results
included. The site's workflow puts the copies on the branch `colab`, to which the site's badges lead.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parent.parent
BRANCH = "colab"
INSTALL = """\
# Run this first: Colab has no bionas yet. It is installed at the version that this notebook belongs to.
%pip install -q "bionas[weights] @ git+{address}@{ref}\""""


def copy_of(notebook: Path, address: str, ref: str) -> nbformat.NotebookNode:
    """The notebook with the cell that installs the package from a repository's address, at a branch, tag or commit."""
    content = nbformat.read(notebook, as_version=4)
    first = nbformat.v4.new_code_cell(INSTALL.format(address=address, ref=ref), id=f"{notebook.stem}-install")
    content.cells.insert(0, first)
    return content


def github(repository: str) -> str:
    """The address of OWNER/NAME."""
    return f"https://github.com/{repository}"


def badges(notebook: str, repository: str, ref: str) -> str:
    """HTML links that open a notebook of the repository in Colab and on Binder."""
    colab = f"https://colab.research.google.com/github/{repository}/blob/{BRANCH}/{notebook}.ipynb"
    binder = f"https://mybinder.org/v2/gh/{repository}/{ref}?labpath=notebooks%2F{notebook}.ipynb"
    return f'<a class="launch" href="{colab}">Open in Colab</a> <a class="launch" href="{binder}">Open on Binder</a>'


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--repository", required=True, help="OWNER/NAME")
    parser.add_argument("--ref", default="main", help="branch, tag or commit that is installed")
    options = parser.parse_args(words)
    options.out.mkdir(parents=True, exist_ok=True)
    for notebook in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")):
        made = copy_of(notebook, github(options.repository), options.ref)
        nbformat.write(made, options.out / notebook.name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
