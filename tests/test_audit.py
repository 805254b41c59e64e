"""Every claim of claims.csv names a check, and every check is computed again here, some by other means."""

from __future__ import annotations

import csv
import math
import re
import textwrap

import numpy as np
import pandas as pd
import pytest
import torch

from bionas.errors import UnknownName
from bionas.studies import audit, published
from bionas.studies.audit import scores
from bionas.system import places

CLAIMS = audit.claims().set_index("check")
PAPER = {
    path.stem: list(csv.DictReader(path.open(encoding="utf-8")))
    for path in places.data("paper").glob("*.csv")
}


def test_every_claim_names_a_check_and_every_check_has_its_claim():
    assert CLAIMS.index.is_unique and set(CLAIMS.index) == set(audit.CHECKS)
    assert set(CLAIMS["verdict"]) <= set(audit.VERDICTS)
    assert (CLAIMS[["claim", "where", "figure", "shown_in"]] != "").all(axis=None)


@pytest.mark.parametrize("check", audit.CHECKS)
def test_the_figures_and_the_verdict_are_what_the_tables_give(check):
    finding = audit.CHECKS[check]()
    assert finding.text == CLAIMS.loc[check, "figure"]
    allowed = {True: {"holds"}, False: {"does not hold"}, None: {"ambiguous", "cannot be checked here"}}
    assert CLAIMS.loc[check, "verdict"] in allowed[finding.holds]


def test_a_verdict_against_a_claim_stands_beside_its_innocent_reading_or_needs_none():
    bare = CLAIMS[(CLAIMS["verdict"] == "does not hold") & (CLAIMS["innocent_reading"] == "")].index
    assert set(bare) == {
        "cross_attention_raises",
        "convnext_is_best_transfer",
    }  # two printed figures, one sentence


def test_where_a_claim_is_shown_is_a_section_of_the_notebook():
    text = (places.notebooks() / "07_audit.py").read_text(encoding="utf-8")
    for check, row in CLAIMS.iterrows():
        section = row["shown_in"].removeprefix("07_audit, ")
        part = re.search(rf"^# ## {section} · .*?(?=^# ## )", text, re.MULTILINE | re.DOTALL)
        assert part and f'"{check}"' in part[0], (check, row["shown_in"])


# --- the figures, by other means ---------------------------------------------------------------------------------


def figures(check: str) -> dict:
    return audit.CHECKS[check]().figures


def test_f1_row_by_row():
    off = []
    for row in PAPER["table1_ablation"]:
        p, r, f1 = (float(row[name]) for name in ("precision", "recall", "f1"))
        if abs(2 / (1 / p + 1 / r) - f1) > 0.0100001:
            off.append((row["exp_id"], f1, round(2 / (1 / p + 1 / r), 2)))
    assert off == [("E009", 97.05, 97.13)]
    assert list(figures("f1_is_harmonic_mean_table1").values()) == [14, 15, *off[0]]
    above = []
    for name in scores.TABLES.values():
        for row in PAPER[name]:
            for data in ("bioscan5m", "insects1m"):
                p, r, f1 = (float(row[f"{data}_{metric}"]) for metric in ("precision", "recall", "f1"))
                if f1 > max(p, r):
                    above.append((row["model"], data, f1, p, r))
    assert above == [("Big Transfer (BiT)", "insects1m", 73.05, 72.96, 72.60)]


def test_an_averaged_f1_is_never_above_the_mean_of_averaged_precision_and_recall():
    generator = np.random.default_rng(0)
    for _ in range(200):
        p, r, weight = generator.random(5), generator.random(5), generator.dirichlet(np.ones(5))
        assert (2 * p * r / (p + r)) @ weight <= (p @ weight + r @ weight) / 2 + 1e-12


def test_recall_weighted_by_class_size_is_accuracy():
    generator = np.random.default_rng(1)
    truth, answer = generator.integers(0, 4, 300), generator.integers(0, 4, 300)
    recall = [np.mean(answer[truth == c] == c) for c in range(4)]
    assert np.average(recall, weights=np.bincount(truth)) == pytest.approx(np.mean(truth == answer))
    same = [row["exp_id"] for row in PAPER["table1_ablation"] if row["accuracy"] == row["recall"]]
    assert same == ["E009", "E010"] and len(scores.score_rows()) == 15 + 21 + 20 + 14


def test_seven_baselines_are_below_always_diptera():
    counts = {row["order"]: int(row["count"]) for row in PAPER["bioscan5m_order_counts"]}
    assert sum(counts.values()) == 5_134_987
    majority = 100 * counts["Diptera"] / sum(counts.values())
    rows = PAPER["table2_transfer_learning"][:-1] + PAPER["table3_transformers"][:-1]
    below = [row["model"] for row in rows if float(row["bioscan5m_accuracy"]) < majority]
    assert len(rows) == 20 and len(below) == 7 and "DenseNet-121" in below
    assert figures("baselines_above_majority")["always Diptera"] == 71.57


def test_memory_lies_on_a_line_in_flops():
    x, y = (
        np.array([float(row[name]) for row in PAPER["table1_ablation"]]) for name in ("gflops", "memory_mb")
    )
    found = figures("memory_by_flops")
    assert found["share of variance on the line"] == pytest.approx(np.corrcoef(x, y)[0, 1] ** 2, abs=1e-4)
    slope = np.cov(x, y)[0, 1] / x.var(ddof=1)
    assert found["MB a GFLOP"] == pytest.approx(slope, abs=0.006)


def test_the_gap_of_theta_puts_alpha_at_the_threshold():
    low, high = (float(x) for x in figures("alpha_below_threshold")["gap of theta"].split(" to "))
    all_lead, one_leads = torch.zeros(10, dtype=torch.float64), torch.full((10,), -60.0, dtype=torch.float64)
    all_lead[0], one_leads[1] = -low, 0
    one_leads[0] = -high
    for theta in (all_lead, one_leads):
        assert math.log10(torch.softmax(theta, 0)[0]) == pytest.approx(-6, abs=0.03)


def test_adam_moves_theta_by_its_rate_a_step_at_most():
    theta = torch.zeros(2, requires_grad=True)
    adam = torch.optim.Adam([theta], lr=3e-4)
    for _ in range(100):
        theta.grad = torch.tensor([1.0, -1.0])
        adam.step()
    assert (theta[1] - theta[0]).item() == pytest.approx(100 * 2 * 3e-4, rel=1e-3)
    assert figures("alpha_below_threshold")["steps, both moving apart"].startswith("19,3")


def test_clipping_after_the_step_changes_nothing():
    def stepped(clip_first: bool | None) -> list[float]:
        w = torch.zeros(2, requires_grad=True)
        optimizer = torch.optim.SGD([w], lr=1.0)
        for gradient in ([3.0, 4.0], [0.0, 5.0]):
            w.grad = torch.tensor(gradient)
            if clip_first:
                torch.nn.utils.clip_grad_norm_([w], 1.0)
            optimizer.step()
            if clip_first is False:
                torch.nn.utils.clip_grad_norm_([w], 1.0)
        return w.tolist()

    assert stepped(False) == stepped(None) == [-3.0, -9.0] and stepped(True) == pytest.approx([-0.6, -1.8])


def test_the_class_counts_by_hand():
    counts = sorted((int(row["count"]) for row in PAPER["bioscan5m_order_counts"]), reverse=True)
    assert sum(n >= 500 for n in counts) == 19 and counts.index(235) + 1 == 25
    assert (574_049 * 2 // 10, 4_689 * 2 // 10, 235 * 7 // 10) == (114_809, 937, 164)
    assert (2_573_047 - 3_675_317 * 7 // 10, 735_121 - 3_675_317 * 2 // 10) == (326, 58)
    found = figures("stated_counts_fit_one_split")
    assert found["counts that fit"] == 3 and [*found.values()][2:] == [326, 58]


def test_hours_and_megabytes_by_hand():
    images = 5_134_987 * 7 // 10
    assert figures("hours_for_an_epoch") == {
        "images an epoch": images,
        "images a second for each epoch within the hours": round(images / 36_000, 1),
        "hours of one forward pass at the printed GPU latency": round(images * 7.42e-3 / 3600, 2),
    }
    assert figures("bin_table_in_memory")["MB at dimension 32"] == round(324_411 * 32 * 4 / 1e6, 2) > 40.06


def test_the_listing_has_the_paper_s_fifteen_lines():
    paper = places.root().parent / "shared" / "paper" / "text"
    if not paper.is_dir():
        pytest.skip("../shared/paper is not here: no text to compare the listing with")
    (text,) = (path.read_text(encoding="utf-8") for path in paper.glob("001_*.txt"))
    lines = published.table("algorithm1")
    assert lines["line"].tolist() == list(range(16))
    listing = text[text.index("**Algorithm 1**") : text.index("15: end for")]
    said = ["Backpropagate and update w using AdamW", "using Adam\n", "Apply gradient clipping"]
    assert sorted(listing.index(words) for words in said) == [listing.index(words) for words in said]


def test_a_statement_is_readable():
    text = audit.statement("improvement_over_transfer")
    assert "17.58" in text and "does not hold" in text and "An innocent reading" in text
    assert all(len(line) <= 116 for line in text.splitlines())
    with pytest.raises(UnknownName, match="improvement_over_nas"):
        audit.statement("improvement_over_nass")
    assert textwrap.dedent(audit.statement("improvement_over_nas")).count("\n") == 1
    assert isinstance(published.table("context"), pd.DataFrame)


def test_the_alphabetical_reading_of_the_class_numbers():
    counts = {row["order"]: int(row["count"]) for row in PAPER["bioscan5m_order_counts"]}
    names = sorted([order for order, n in counts.items() if n >= 500 or order == "Anomopoda"] + ["Other"])
    assert len(names) == 21
    assert [names[i] for i in (6, 11, 12, 13)] == ["Ephemeroptera", "Neuroptera", "Orthoptera", "Other"]
    said = figures("class_numbers_have_a_reading")
    assert said["with an AUC below 1.00"] == "Ephemeroptera, Neuroptera, Orthoptera, Other"
    assert f"{names[15]} taken for {names[4]}" in said["confusions"]


def test_the_named_confusions_are_few_of_the_errors():
    errors = 513_539 * (100 - 96.81) / 100
    said = figures("confusions_are_the_errors")
    assert said["named confusions"] == 36 + 356 + 51 + 27
    assert abs(said["errors implied"] - errors) < 2  # the rule rounds within every order


def test_costs_of_attention_by_hand():
    said = figures("attention_doubles_the_cost")
    assert said["cross-attention, FLOPs"].startswith(f"{5.63 / 3.86:.2f}")
    assert said["transformer, FLOPs"].startswith(f"{7.82 / 3.86:.2f}")
