"""Build the static site: `python tools/build_site.py OUT`.

The notebooks are taken as committed, nothing is executed. Their plotly figures become live figures without a kernel
(plotly.js is copied into the site), widgets are left out in favour of the static picture beside them, and the pages of
`docs/` and an API reference from the docstrings are added. Afterwards every internal link is checked.
"""

from __future__ import annotations

import argparse
import html.parser
import json
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from urllib.parse import unquote, urlsplit

import colab
import nbformat
import plotly
from sphinx.cmd.build import main as sphinx_build

ROOT = Path(__file__).resolve().parent.parent
PLOTLY = "application/vnd.plotly.v1+json"
WIDGET = "application/vnd.jupyter.widget-view+json"
API = {
    "operators": "Ten primitives, Eqs. 1-5",
    "cells": "Mixed edge, search cell, derived cell, Eqs. 6-9",
    "genotype": "Derivation",
    "network": "Encoders and head, Eqs. 10-11",
    "fusion": "Eight fusions",
    "trainer": "Algorithm 1",
    "strategies": "Search strategies",
    "training.configuration": "Every choice of a run",
    "training.experiments": "Search, retrain, evaluate",
    "training.evaluation": "Metrics",
    "specimens": "Collections",
    "lab": "A laboratory's own photographs",
}


def live_figure(spec: dict, name: str) -> str:
    """An HTML output that draws a plotly figure, frames and slider included, from the JSON inside the page."""
    figure = {key: spec[key] for key in ("data", "layout", "frames") if key in spec}
    figure["layout"] = {**figure.get("layout", {}), "autosize": True}
    figure["layout"].pop("width", None)
    config = {"responsive": True, "displayModeBar": False, **spec.get("config", {})}
    config.pop("plotlyServerURL", None)
    data = json.dumps({**figure, "config": config}).replace("</", "<\\/")
    height = figure["layout"].get("height", 450)
    return (
        f'<div id="{name}" class="plotly-figure" style="height:{height}px"></div>'
        f'<script type="application/json" id="{name}-data">{data}</script>'
        f'<script>drawFigure("{name}");</script>'
    )


def page_of(notebook: Path) -> nbformat.NotebookNode:
    """The notebook with outputs that need no kernel; where the repository is known, with links that open it elsewhere."""
    content = nbformat.read(notebook, as_version=4)
    if repository := os.environ.get("GITHUB_REPOSITORY"):
        title, _, rest = content.cells[0].source.partition("\n")
        links = colab.badges(notebook.stem, repository, os.environ.get("GITHUB_REF_NAME", "main"))
        content.cells[0].source = f"{title}\n\n{links}\n{rest}"
    for number, cell in enumerate(content.cells):
        if cell.cell_type != "code":
            continue
        kept = []
        for place, output in enumerate(cell.outputs):
            bundle = output.get("data", {})
            if WIDGET in bundle:
                continue
            if PLOTLY in bundle:
                figure = live_figure(bundle[PLOTLY], f"figure-{notebook.stem}-{number}-{place}")
                output["data"] = nbformat.from_dict({"text/html": figure})
            kept.append(output)
        cell.outputs = kept
        tags = cell.metadata.get("tags", [])
        if "parameters" in tags:
            cell.metadata["tags"] = [*tags, "hide-input"]
    return content


def lay_out(source: Path) -> None:
    """Write Sphinx's source folder: docs, notebooks, API pages, static files."""
    shutil.copytree(ROOT / "docs", source, ignore=shutil.ignore_patterns("slurm", "__pycache__"))
    shutil.copy(Path(plotly.__file__).parent / "package_data" / "plotly.min.js", source / "_static")
    shutil.copytree(ROOT / "figures", source / "figures")
    shutil.copytree(ROOT / "data" / "results", source / "data" / "results")
    for page in source.glob("*.md"):  # the repository's docs/ becomes the top of the site
        text = page.read_text(encoding="utf-8")
        for folder in ("data", "figures", "notebooks"):
            text = text.replace(f"](../{folder}/", f"]({folder}/")
        page.write_text(text, encoding="utf-8")
    (source / "notebooks").mkdir()
    for notebook in notebooks():
        nbformat.write(page_of(notebook), source / "notebooks" / notebook.name)
    (source / "api").mkdir()
    for module, title in API.items():
        text = f"# bionas.{module}\n\n{title}.\n\n```{{eval-rst}}\n.. automodule:: bionas.{module}\n   :members:\n```\n"
        (source / "api" / f"{module}.md").write_text(text, encoding="utf-8")
    listed = "\n".join(API)
    toc = f"# API reference\n\nFrom the docstrings.\n\n```{{toctree}}\n:maxdepth: 1\n\n{listed}\n```\n"
    (source / "api" / "index.md").write_text(toc, encoding="utf-8")


def notebooks() -> list[Path]:
    return sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))


class _Page(html.parser.HTMLParser):
    """The ids and link targets of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.targets: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("id", "name") and value:
                self.ids.add(value)
            if value and (
                (tag in ("a", "link") and name == "href") or (tag in ("img", "script") and name == "src")
            ):
                self.targets.append(value)


def broken_links(site: Path) -> list[str]:
    """Internal links of the built pages that lead nowhere, as "page: target"."""
    pages: dict[Path, _Page] = {}
    for path in site.rglob("*.html"):
        if {"_static", "_modules"} & set(
            path.parts
        ):  # the theme's templates, and Sphinx's own pages of source code
            continue
        page = _Page()
        page.feed(path.read_text(encoding="utf-8"))
        pages[path.resolve()] = page
    broken = []
    for path, page in pages.items():
        for target in page.targets:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc or target.startswith(("data:", "#!")):
                continue
            if re.fullmatch(r"#id\d+", target):  # docutils' mark at a docstring that is not reStructuredText
                continue
            at = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            missing_anchor = parts.fragment and at in pages and unquote(parts.fragment) not in pages[at].ids
            if not at.exists() or (missing_anchor and parts.fragment):
                broken.append(f"{path.relative_to(site.resolve())}: {target}")
    return sorted(set(broken))


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="the folder of the site; replaced")
    out = parser.parse_args(words).out.resolve()
    with tempfile.TemporaryDirectory() as folder:
        source, built = Path(folder) / "source", Path(folder) / "site"
        lay_out(source)
        if code := sphinx_build(["-q", "-b", "html", "-j", "auto", str(source), str(built)]):
            return code
        shutil.rmtree(built / ".doctrees", ignore_errors=True)
        if broken := broken_links(built):
            print("Broken links:\n  " + "\n  ".join(broken), file=sys.stderr)
            return 1
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(built, out)
    print(f"The site is in {out / 'index.html'} ({len(list(out.rglob('*.html')))} pages).")
    return 0


if __name__ == "__main__":
    sys.exit(main())
