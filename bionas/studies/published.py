"""The figures the papers print, as tables (`data/paper/*.csv`).

They are shown in a column of their own, beside ours and never mixed with them. Percentages stay per cent, as printed.
"""

from __future__ import annotations

import pandas as pd

from bionas.errors import UnknownName
from bionas.system import places


def names() -> tuple[str, ...]:
    """Every published table there is.

    Raises:
        BionasError: not in a checkout of the repository, where the tables live.
    """
    return tuple(sorted(path.stem for path in places.data("paper").glob("*.csv")))


def table(name: str) -> pd.DataFrame:
    """A published table by name: `table("table1_ablation")`. Codes and class numbers stay text; not given is NaN.

    Raises:
        UnknownName: there is no such table.
        BionasError: not in a checkout of the repository.
    """
    if name not in names():
        raise UnknownName("published table", name, names())
    as_text = {"exp_id": str, "class_index": str, "reference": str}
    return pd.read_csv(places.data(f"paper/{name}.csv"), dtype=as_text)


def commonest_order() -> tuple[str, float]:
    """The commonest order of BIOSCAN-5M's labelled records, and the percent of them that always naming it gets right."""
    counts = table("bioscan5m_order_counts").set_index("order")["count"]
    return str(counts.idxmax()), float(100 * counts.max() / counts.sum())
