"""Figure 5 and further sentences of sections V and IV: misclassifications, class numbers, costs of fusions, sparsity."""

from __future__ import annotations

import json

import pandas as pd

from bionas.specimens.splits import paper_counts
from bionas.studies import published
from bionas.studies.audit.counts import THRESHOLD
from bionas.studies.audit.finding import CHECKS, Finding
from bionas.system import places

CONFUSED = {(13, 1): 36, (15, 4): 356, (7, 1): 51, (7, 2): 27}
"""(true class, predicted class) -> test images, the examples of section V-B.2."""

ALONE = ("Anomopoda",)
"""Kept by the paper although it is below its own threshold (section IV-B)."""

INSECTS1M = {"images": 1_017_036, "species": 34_212, "classes": 15, "orders": 91}
"""As stated in section IV-A.3."""


def class_names() -> list[str]:
    """A reading of the 21 classes: the orders of 500 records or more, Anomopoda and Other, in alphabetical order from 0."""
    counts = published.table("bioscan5m_order_counts").set_index("order")["count"]
    return sorted([*counts.index[counts >= THRESHOLD], *ALONE, "Other"])


def test_images() -> int:
    """Images of a test split of 10 % within every order of BIOSCAN-5M."""
    counts = published.table("bioscan5m_order_counts")["count"]
    return int(sum(paper_counts(int(n))[2] for n in counts))


@CHECKS.register("confusions_are_the_errors")
def confusions_are_the_errors() -> Finding:
    """The four named confusions against all errors that the accuracy implies on a test split of 10 %."""
    accuracy = float(published.table("table1_ablation").set_index("exp_id").loc["E009", "accuracy"])
    errors, named = round(test_images() * (1 - accuracy / 100)), sum(CONFUSED.values())
    return Finding(
        None,
        {
            "named confusions": named,
            "errors implied": errors,
            "share named, percent": round(100 * named / errors, 1),
        },
    )


@CHECKS.register("class_numbers_have_a_reading")
def class_numbers_have_a_reading() -> Finding:
    """The class numbers of Figure 5 under the alphabetical reading with Anomopoda kept."""
    names = class_names()
    below = published.table("fig5_auc").query("class_index != 'other'")["class_index"].astype(int)
    confusions = ", ".join(f"{names[true]} taken for {names[said]}" for true, said in CONFUSED)
    return Finding(
        None,
        {
            "classes": len(names),
            "with an AUC below 1.00": ", ".join(names[i] for i in below),
            "confusions": confusions,
        },
    )


@CHECKS.register("efficientformer_underperforms")
def efficientformer_underperforms() -> Finding:
    """The lowest accuracy of Table III on both data sets."""
    rows = published.table("table3_transformers").set_index("model")
    columns = {"BIOSCAN-5M": "bioscan5m_accuracy", "Insects-1M": "insects1m_accuracy"}
    lowest = {f"lowest on {data}": f"{rows[c].idxmin()} {rows[c].min()}" for data, c in columns.items()}
    printed = " and ".join(str(rows.loc["EfficientFormer", c]) for c in columns.values())
    worst = all(rows[c].idxmin() == "EfficientFormer" for c in columns.values())
    return Finding(worst, {**lowest, "EfficientFormer": printed})


@CHECKS.register("attention_doubles_the_cost")
def attention_doubles_the_cost() -> Finding:
    """FLOPs and GPU milliseconds of cross-attention and transformer fusion over those of bilinear pooling and gating."""
    rows = published.table("table1_ablation").set_index("exp_id")
    ratios = {}
    for column, unit in (("gflops", "FLOPs"), ("gpu_ms", "GPU ms")):
        cheap = rows.loc[["E001", "E003"], column]
        for name, label in (("E002", "cross-attention"), ("E004", "transformer")):
            over = rows.loc[name, column] / cheap
            ratios[f"{label}, {unit}"] = f"{over.min():.2f} to {over.max():.2f}"
    low, high = (
        min(float(r.split(" to ")[0]) for r in ratios.values()),
        max(float(r.split(" to ")[1]) for r in ratios.values()),
    )
    return Finding(True if low >= 1.75 and high <= 2.25 else None, ratios)


@CHECKS.register("other_fusions_gain")
def other_fusions_gain() -> Finding:
    """Accuracy of multi-head, progressive and ensemble fusion (E013 to E015) over concatenation (E009)."""
    accuracy = published.table("table1_ablation").set_index("exp_id")["accuracy"]
    gains = (accuracy.loc[["E013", "E014", "E015"]] - accuracy["E009"]).round(2)
    others = accuracy.loc[["E001", "E002", "E003", "E004"]].max()
    return Finding(
        bool((gains > 0).all()),
        {**{name: float(value) for name, value in gains.items()}, "best of E001 to E004": float(others)},
    )


@CHECKS.register("zero_operations_remove_edges")
def zero_operations_remove_edges() -> Finding:
    """Edges that `none` won in the networks kept in data/results/spine_field_orders_genotypes.json."""
    kept = json.loads(places.data("results/spine_field_orders_genotypes.json").read_text(encoding="utf-8"))
    edges = pd.Series(
        [cell[edge] for one in kept.values() for cell in one["cells"] for edge in cell if "->" in edge]
    )
    return Finding(
        None, {"searches": len(kept), "edges": len(edges), "removed by none": int((edges == "none").sum())}
    )


@CHECKS.register("insects1m_statistics")
def insects1m_statistics() -> Finding:
    """What section IV-A.3 states; the data set's records are not public, so that nothing here can count them."""
    return Finding(None, dict(INSECTS1M))
