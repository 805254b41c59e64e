"""Classes and counts of section IV against the records an order in BIOSCAN-5M's published statistics."""

from __future__ import annotations

import pandas as pd

from bionas.specimens.splits import paper_counts
from bionas.studies import published
from bionas.studies.audit.finding import CHECKS, Finding

TRAINING_SHARE = 0.7
"""Of a 70 / 20 / 10 split, which the paper's counts imply."""

THRESHOLD = 500
"""Orders of fewer instances become Other (section IV-B)."""

STATED = {
    ("Diptera", "train"): 2_573_047,
    ("Anomopoda", "train"): 164,
    ("Diptera", "val"): 735_121,
    ("Hymenoptera", "val"): 114_809,
    ("Mesostigmata", "val"): 937,
}
"""Images of an order on a side, as section IV-B states them."""

BIOSCAN_CLASSES, INSECTS_CLASSES, SMALLEST_INSECTS_CLASS = 21, 39, 6
"""Classes of both data sets after the rule, and the images of Opilioacarida in Insects-1M (section IV-B)."""


def _counts() -> pd.Series:
    return published.table("bioscan5m_order_counts").set_index("order")["count"]


def stated_counts() -> pd.DataFrame:
    """The stated counts beside those of a 70 / 20 / 10 split: order, side, stated, by_rule, off."""
    counts = _counts()
    rows = [
        (order, side, stated, paper_counts(int(counts[order]))[("train", "val").index(side)])
        for (order, side), stated in STATED.items()
    ]
    frame = pd.DataFrame(rows, columns=["order", "side", "stated", "by_rule"])
    return frame.assign(off=frame["stated"] - frame["by_rule"])


@CHECKS.register("number_of_classes")
def number_of_classes() -> Finding:
    """Orders of 500 records or more, and Other."""
    kept = int((_counts() >= THRESHOLD).sum())
    return Finding(
        kept + 1 == BIOSCAN_CLASSES,
        {"orders of 500 or more": kept, "with Other": kept + 1, "stated": BIOSCAN_CLASSES},
    )


@CHECKS.register("anomopoda_is_a_class")
def anomopoda_is_a_class() -> Finding:
    """Anomopoda against the rule, and how many classes there would be if all orders as large as it were kept."""
    counts = _counts()
    return Finding(
        bool(counts["Anomopoda"] >= THRESHOLD),
        {
            "records": int(counts["Anomopoda"]),
            "threshold": THRESHOLD,
            "orders at least as large": int((counts >= counts["Anomopoda"]).sum()),
        },
    )


@CHECKS.register("insects1m_smallest_class")
def insects1m_smallest_class() -> Finding:
    """Opilioacarida's images against the same rule."""
    return Finding(
        SMALLEST_INSECTS_CLASS >= THRESHOLD, {"images": SMALLEST_INSECTS_CLASS, "threshold": THRESHOLD}
    )


@CHECKS.register("stated_counts_fit_one_split")
def stated_counts_fit_one_split() -> Finding:
    """Stated counts against 70 / 20 / 10 within every order, rounded down."""
    rows = stated_counts()
    off = rows[rows["off"] != 0]
    return Finding(
        True if off.empty else None,
        {
            "counts that fit": len(rows) - len(off),
            "of": len(rows),
            **{f"{row.order}, {row.side}, too many by": int(row.off) for row in off.itertuples()},
        },
    )


@CHECKS.register("one_head_for_both")
def one_head_for_both() -> Finding:
    """Classes of the two data sets against the outputs of one head."""
    return Finding(None, {"classes of Insects-1M": INSECTS_CLASSES, "classes of BIOSCAN-5M": BIOSCAN_CLASSES})
