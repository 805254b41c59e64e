"""What the published numbers can and cannot mean: every claim of `data/paper/claims.csv` with the check that decides it.

A check is a small function that computes its figures from the transcribed tables (`published`) and, where a sentence of
the paper gives a number, from that number. `CHECKS` knows them by name, `claims` is the table of verdicts, `statement`
puts the two together for a reader. The checks are in `scores` (Tables I to V), `costs` (Table I's other columns),
`method` (sections III and V-A), `counts` (section IV) and `confusions` (Figure 5 and further sentences).

    CHECKS["f1_is_harmonic_mean"]() -> Finding(holds=False, figures={...})
"""

from __future__ import annotations

import textwrap

import pandas as pd

from bionas.studies.audit import confusions, costs, counts, method, scores  # each registers its checks
from bionas.studies.audit.finding import CHECKS, Finding
from bionas.system import places

__all__ = [
    "CHECKS",
    "VERDICTS",
    "Finding",
    "claims",
    "confusions",
    "costs",
    "counts",
    "method",
    "scores",
    "statement",
]

VERDICTS = ("holds", "does not hold", "ambiguous", "cannot be checked here")
"""Arithmetic decides between the first two; the others name what prevents a decision."""


def claims() -> pd.DataFrame:
    """The claims: claim; where (in the paper); check (a name of `CHECKS`); verdict; figure (what the check computes);
    shown_in (notebook and section); innocent_reading ("" where there is none).

    Raises:
        BionasError: not in a checkout of the repository, where the table lives.
    """
    return pd.read_csv(places.data("paper/claims.csv"), dtype=str, keep_default_na=False)


def statement(check: str) -> str:
    """A check computed now, under its claim: claim and place, verdict, figures, and the innocent reading if there is one.

    Raises:
        UnknownName: no such check.
    """
    figure = CHECKS[check]().text
    row = claims().set_index("check").loc[check]
    parts = [f"{row['claim']} ({row['where']})", f"{row['verdict']}: {figure}"]
    if row["innocent_reading"]:
        parts.append(f"An innocent reading: {row['innocent_reading']}")
    first, *rest = (textwrap.fill(part, 96, subsequent_indent="    ") for part in parts)
    return "\n".join([first, *(textwrap.indent(part, "    ") for part in rest)])
