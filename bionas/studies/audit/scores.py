"""Accuracy, precision, recall and F1 as printed in Tables I to V, and what the text says of them."""

from __future__ import annotations

import pandas as pd

from bionas.studies import published
from bionas.studies.audit.finding import CHECKS, Finding

ROUNDING = 0.01 + 1e-9
"""Printed to two decimals: a mean of two printed figures and a third printed figure may differ by 0.01."""

PROPOSED = "Ours (BioAutoML-NAS)"
TABLES = {"II": "table2_transfer_learning", "III": "table3_transformers", "V": "table5_automl_nas"}


def score_rows() -> pd.DataFrame:
    """Every printed quadruple: table, model, data, accuracy, precision, recall, f1 (percent). The row of the proposed
    model is taken from Table I, and from Table II for Insects-1M; III and V repeat it."""
    first = (
        published.table("table1_ablation")
        .rename(columns={"exp_id": "model"})
        .assign(table="I", data="BIOSCAN-5M")
    )
    parts = [first]
    for number, name in TABLES.items():
        frame = published.table(name)
        for data, prefix in (("BIOSCAN-5M", "bioscan5m_"), ("Insects-1M", "insects1m_")):
            kept = frame[(frame["model"] != PROPOSED) | ((number == "II") & (data == "Insects-1M"))]
            columns = {f"{prefix}{metric}": metric for metric in ("accuracy", "precision", "recall", "f1")}
            parts.append(kept.rename(columns=columns).assign(table=number, data=data))
    shown = ["table", "model", "data", "accuracy", "precision", "recall", "f1"]
    return pd.concat([part[shown] for part in parts], ignore_index=True)


def f1_rows() -> pd.DataFrame:
    """`score_rows` with the harmonic and the arithmetic mean of precision and recall, and F1's distance from the first."""
    rows = score_rows()
    p, r = rows["precision"], rows["recall"]
    rows = rows.assign(harmonic=2 * p * r / (p + r), arithmetic=(p + r) / 2)
    return rows.assign(off=rows["f1"] - rows["harmonic"])


def _ablation() -> pd.DataFrame:
    return published.table("table1_ablation").set_index("exp_id")


def _accuracy(table: str, data: str = "bioscan5m") -> pd.Series:
    """Accuracy of a table's models other than the proposed one, by model."""
    frame = published.table(TABLES[table]).set_index("model")
    return frame.drop(PROPOSED)[f"{data}_accuracy"]


def _proposed() -> float:
    return float(_ablation().loc["E009", "accuracy"])


@CHECKS.register("recall_is_accuracy")
def recall_is_accuracy() -> Finding:
    """Recall weighted by class size is accuracy, identically. Macro recall is another number on a long tail."""
    rows = score_rows()
    equal = (rows["recall"] - rows["accuracy"]).abs() < ROUNDING / 2
    named = ", ".join(rows.loc[equal, "model"])
    insects = rows[(rows["data"] == "Insects-1M") & (rows["model"] == PROPOSED)].iloc[0]
    return Finding(
        bool(equal.all() or not equal.any()),
        {
            "rows with recall equal to accuracy": int(equal.sum()),
            "of": len(rows),
            "namely": named,
            "proposed model on Insects-1M, recall": insects["recall"],
            "accuracy": insects["accuracy"],
        },
    )


@CHECKS.register("f1_is_harmonic_mean_table1")
def f1_is_harmonic_mean_table1() -> Finding:
    """F1 against 2PR/(P+R) in the fifteen rows of Table I."""
    rows = f1_rows().query("table == 'I'")
    off = rows[rows["off"].abs() > ROUNDING]
    first = off.iloc[0]
    return Finding(
        off.empty,
        {
            "rows that agree": len(rows) - len(off),
            "of": len(rows),
            "off": ", ".join(off["model"]),
            "printed": first["f1"],
            "harmonic mean": round(first["harmonic"], 2),
        },
    )


@CHECKS.register("f1_is_harmonic_mean_others")
def f1_is_harmonic_mean_others() -> Finding:
    """F1 against 2PR/(P+R) in Tables II, III and V."""
    rows = f1_rows().query("table != 'I'")
    off = rows[rows["off"].abs() > ROUNDING]
    worst = off.loc[off["off"].abs().idxmax()]
    agree = {
        f"agreeing in {t}": f"{(rows['table'] == t).sum() - (off['table'] == t).sum()} of {(rows['table'] == t).sum()}"
        for t in TABLES
    }
    return Finding(
        off.empty,
        {
            **agree,
            "largest distance": round(worst["off"], 2),
            "at": f"{worst['model']}, {worst['data']}",
        },
    )


@CHECKS.register("f1_below_mean")
def f1_below_mean() -> Finding:
    """Averaged over classes with any weights, F1 cannot exceed the mean of precision and recall: in each class the
    harmonic mean is at most the arithmetic one."""
    rows = f1_rows()
    over = rows[rows["f1"] - rows["arithmetic"] > ROUNDING]
    first = over.iloc[0]
    return Finding(
        over.empty,
        {
            "rows above the mean": len(over),
            "of": len(rows),
            "namely": f"{first['model']}, {first['data']}",
            "F1": first["f1"],
            "precision": first["precision"],
            "recall": first["recall"],
        },
    )


@CHECKS.register("baselines_above_majority")
def baselines_above_majority() -> Finding:
    """Baselines of Tables II and III against always answering the commonest order of BIOSCAN-5M's labelled records."""
    _, majority = published.commonest_order()
    accuracy = pd.concat([_accuracy("II"), _accuracy("III")])
    return Finding(
        bool((accuracy > majority).all()),
        {
            "always Diptera": round(majority, 2),
            "baselines below it": int((accuracy < majority).sum()),
            "of": len(accuracy),
            "lowest": accuracy.min(),
        },
    )


@CHECKS.register("improvement_over_transfer")
def improvement_over_transfer() -> Finding:
    """Points between the proposed model and the best of Table II; the abstract says approximately 16, taken as within 1."""
    best = _accuracy("II")
    points = _proposed() - best.max()
    return Finding(
        abs(points - 16) < 1,
        {"points": round(points, 2), "best of Table II": best.idxmax(), "at": best.max()},
    )


@CHECKS.register("improvement_over_transformers")
def improvement_over_transformers() -> Finding:
    """Points between the proposed model and the best of Table III; the abstract says approximately 10, taken as within 1."""
    best = _accuracy("III")
    points = _proposed() - best.max()
    return Finding(
        abs(points - 10) < 1,
        {"points": round(points, 2), "best of Table III": best.idxmax(), "at": best.max()},
    )


@CHECKS.register("improvement_over_nas")
def improvement_over_nas() -> Finding:
    """Points between the proposed model and the best of Table V; the abstract says approximately 8, taken as within 1."""
    best = _accuracy("V")
    points = _proposed() - best.max()
    return Finding(
        abs(points - 8) < 1, {"points": round(points, 2), "best of Table V": best.idxmax(), "at": best.max()}
    )


@CHECKS.register("transfer_surpassed_by_20")
def transfer_surpassed_by_20() -> Finding:
    """Points between the proposed model and each of Table II; the text says nearly 20 over all of them."""
    points = _proposed() - _accuracy("II")
    return Finding(
        True if points.min() > 19 else None,
        {
            "least": round(points.min(), 2),
            "most": round(points.max(), 2),
            "models within 18.5 to 20 points": int(points.between(18.5, 20).sum()),
        },
    )


@CHECKS.register("enas_in_two_tables")
def enas_in_two_tables() -> Finding:
    """ENAS on BIOSCAN-5M in Table I (E006) and in Table V."""
    one, two = _ablation().loc["E006", "accuracy"], _accuracy("V")["ENAS"]
    return Finding(
        True if one == two else None, {"Table I": one, "Table V": two, "points apart": round(one - two, 2)}
    )


@CHECKS.register("no_other_nas_above_90")
def no_other_nas_above_90() -> Finding:
    """Accuracy above 90 % among searched models other than the proposed: in Table V, and in Table I by other strategies."""
    above = _accuracy("V").max(), _accuracy("V", "insects1m").max()
    searched = _ablation().query("strategy not in ('Gradient-based', 'Manual Design')")["accuracy"]
    over = searched[searched > 90]
    named = ", ".join(f"{name} {value}" for name, value in over.items())
    return Finding(
        None if max(above) <= 90 and len(over) else max(above) <= 90,
        {
            "highest of Table V": max(above),
            "above 90 in Table I": named,
        },
    )


@CHECKS.register("cross_attention_raises")
def cross_attention_raises() -> Finding:
    """Accuracy of cross-attention (E002) against bilinear pooling (E001) and gating (E003), which the text compares."""
    bilinear, cross, gating = _ablation().loc[["E001", "E002", "E003"], "accuracy"]
    return Finding(
        bool(cross > max(bilinear, gating)),
        {"cross-attention": cross, "gating": gating, "bilinear": bilinear},
    )


@CHECKS.register("convnext_is_best_transfer")
def convnext_is_best_transfer() -> Finding:
    """The highest accuracy of Table II on BIOSCAN-5M."""
    accuracy = _accuracy("II")
    return Finding(
        accuracy.idxmax() == "ConvNeXt-XL",
        {
            "ConvNeXt-XL": accuracy["ConvNeXt-XL"],
            "highest": accuracy.idxmax(),
            "at": accuracy.max(),
        },
    )


@CHECKS.register("random_search_is_worst")
def random_search_is_worst() -> Finding:
    """Accuracy by search strategy at ten primitives and concatenation (E005 to E009)."""
    accuracy = _ablation().loc["E005":"E009"].set_index("strategy")["accuracy"]
    return Finding(
        accuracy.idxmin() == "Random Search",
        {
            "random search": accuracy["Random Search"],
            "lowest": accuracy.idxmin(),
            "at": accuracy.min(),
        },
    )


@CHECKS.register("reduced_sets_lose_10_to_15")
def reduced_sets_lose_10_to_15() -> Finding:
    """Points lost by the reduced and the convolution-only set."""
    lost = _proposed() - _ablation().loc[["E010", "E011"], "accuracy"]
    return Finding(bool(lost.between(10, 15).all()), {name: round(value, 2) for name, value in lost.items()})


@CHECKS.register("nao_is_best_tpot_worst")
def nao_is_best_tpot_worst() -> Finding:
    """Highest and lowest accuracy of Table V on both data sets."""
    both = _accuracy("V"), _accuracy("V", "insects1m")
    holds = all(accuracy.idxmax() == "NAO" and accuracy.idxmin() == "TPOT" for accuracy in both)
    return Finding(
        holds, {"NAO": f"{both[0].max()} and {both[1].max()}", "TPOT": f"{both[0].min()} and {both[1].min()}"}
    )


@CHECKS.register("dense_and_xception_fall")
def dense_and_xception_fall() -> Finding:
    """Points that DenseNet-201 and Xception lose from BIOSCAN-5M to Insects-1M."""
    lost = (_accuracy("II") - _accuracy("II", "insects1m"))[["DenseNet-201", "Xception"]]
    return Finding(bool((lost > 5).all()), {name: round(value, 2) for name, value in lost.items()})


@CHECKS.register("transformers_drop_one_to_two")
def transformers_drop_one_to_two() -> Finding:
    """Points that the ten transformers lose from BIOSCAN-5M to Insects-1M."""
    lost = (_accuracy("III") - _accuracy("III", "insects1m")).round(2)
    inside, near = int(lost.between(1, 2).sum()), int(lost.round().between(1, 2).sum())
    holds = True if inside > len(lost) / 2 else None if near > len(lost) / 2 else False
    return Finding(
        holds, {"between 1 and 2 points": inside, "rounded to whole points": near, "of": len(lost)}
    )


@CHECKS.register("auc_is_one_for_most")
def auc_is_one_for_most() -> Finding:
    """Classes whose area under the ROC curve is printed below 1.00, of the stated 21 (Figure 5)."""
    named = published.table("fig5_auc").query("class_index != 'other'")
    return Finding(
        len(named) < 21 / 2, {"classes below 1.00": len(named), "of": 21, "lowest": named["auc"].min()}
    )


@CHECKS.register("metadata_contribution")
def metadata_contribution() -> Finding:
    """Rows of Table I that have images alone or metadata alone."""
    fusions = _ablation()["fusion"]
    alone = int(fusions.str.contains("none|image only|metadata only", case=False).sum())
    return Finding(None, {"rows without fusion": alone, "of": len(fusions)})
