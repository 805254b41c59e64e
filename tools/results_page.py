"""docs/results.md from the tables of `data/results/`: `python tools/results_page.py`, or `--check` to compare only.

Each section has one table and, below it, the files it was made of with the command and the commits of the code that
trained. `SECTIONS` lists them in order; the last section lists every file.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import readme_blocks as blocks

from bionas.studies import results

PAGE = blocks.ROOT / "docs" / "results.md"


class Section(NamedTuple):
    """A title, what its table shows, the function that makes it, and the entries of commands.toml that it is made of."""

    title: str
    about: str
    table: Callable[[], str]
    made_of: tuple[str, ...]


SECTIONS = (
    Section(
        "Searched and random networks on photographs",
        "Field photographs at 64 px, images alone, every network under one budget. Derived and random networks are each as "
        "wide as 37 million multiply-adds allow, a quarter of ResNet-18's.",
        blocks.photographs,
        ("spine_field_orders",),
    ),
    Section(
        "Table I",
        "The fifteen experiments, each searched and trained from scratch under one budget. Accuracy on the test split, mean "
        "± standard deviation, seeds in brackets. Fusions need metadata, which the photographs do not have.",
        blocks.table_one,
        ("ablation_synthetic", "ablation_field_orders"),
    ),
    Section(
        "Tables II and III",
        "The paper's backbones, trained from scratch on the same specimens, for as many images and with the same recipe as "
        "BioAutoML-NAS, without augmentation. Where a cell has two costs, the first is on the photographs and the second on "
        "the synthetic specimens. With metadata only the two cheapest backbones were trained, hence `not run` for the others. "
        "The remaining twelve backbones were not trained because of their size; the CSV names the cost of each.",
        blocks.backbones,
        (
            "backbones_field_orders",
            "backbones_field_orders_three",
            "backbones_synthetic",
            "backbones_synthetic_three",
            "backbones_synthetic_metadata",
            "image_alone_synthetic",
        ),
    ),
    Section(
        "Table V",
        "The AutoML and NAS systems with one budget of time each on the synthetic specimens with their metadata.",
        blocks.systems,
        ("automl_synthetic",),
    ),
    Section(
        "What image and metadata contribute",
        "The embedded (synthetic) specimens: one network given the image, metadata, or both.",
        blocks.inputs,
        ("audit_inputs",),
    ),
    Section(
        "EB-LNAST",
        "Accuracy as mean ± standard deviation over repeats, parameters as the median over folds.",
        blocks.eb_lnast,
        ("eb_lnast_wdbc", "eb_lnast_colour"),
    ),
    Section(
        "SERAN",
        "The networks of the paper with a quarter of its channels, on the field photographs of 12 orders. The published "
        "errors are of 123 species and full width, so the two columns are not comparable.",
        blocks.seran,
        ("seran_field_orders", "seran_field_orders_others"),
    ),
)


def page() -> str:
    """The whole page, Markdown."""
    parts = [
        "# Results\n\n"
        "<!-- made by tools/results_page.py: edit that, or the tables in data/results/ -->\n\n"
        "Every figure of ours is from a table in `data/results/`. The last column of each table below leads to the CSV "
        "and to the command that makes it, and names the commits of the code that trained; the CSV also holds seeds, budget and source. "
        "Published figures are in columns of their own. The embedded specimens are synthetic: they are drawn by the "
        "program.\n"
    ]
    for section in SECTIONS:
        parts.append(
            f"## {section.title}\n\n{section.about}\n\n{section.table()}\n{_provenance(section.made_of)}"
        )
    parts.append(f"## Every table\n\n{blocks.listing()}")
    return "\n".join(parts)


def _provenance(names: tuple[str, ...]) -> str:
    """A small heading per entry, to which the rows link, with its files and its command."""
    parts = []
    for name in names:
        listed = ", ".join(f"[`{path.name}`]({blocks.LINK}{path.name})" for path in blocks.files_of(name))
        parts.append(f"#### {name}\n\n{listed}\n\n{blocks.code([results.command(name)])}")
    return "\n".join(parts)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 where the page is out of date"
    )
    options = parser.parse_args()
    text, before = page(), PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    if options.check:
        if text != before:
            print(f"{PAGE} is out of date: python tools/results_page.py", file=sys.stderr)
        return int(text != before)
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(text, encoding="utf-8")
    print(f"written: {Path(PAGE).relative_to(blocks.ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
