"""One way from runs to a summary, and one formatter of mean ± standard deviation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bionas.studies import report
from bionas.system import places
from bionas.training import experiments


def test_mean_and_standard_deviation_as_text():
    assert report.mean_sd(13.238, 0.4) == "13.24 ± 0.40" and report.mean_sd(5.0, float("nan"), 1) == "5.0"
    assert (
        report.mean_sd(45.91, 1.26, 1, n=3) == "45.9 ± 1.3 (3)" and report.mean_sd(2.0, n=0, digits=0) == "2"
    )
    assert report.mean_sd(float("nan")) == report.mean_sd(None) == "not run"
    assert report.mean_sd(None, missing="") == ""


def test_a_table_of_models_gives_mean_and_standard_deviation():
    shares, ece = [0.5, 0.2, 0.4, 0.6], [None, 0.1, 0.1, 0.1]
    frame = pd.DataFrame({"model": ["b", "a", "a", "a"], "accuracy": shares, "ece": ece})
    table = report.mean_sd_table(frame, metrics=("accuracy", "ece"))
    assert table.loc["b"].to_dict() == {"n": 1, "accuracy": "50.0", "ece": ""} and list(table.index) == [
        "b",
        "a",
    ]
    assert table.loc["a", "accuracy"] == "40.0 ± 20.0" and table.loc["a", "ece"] == "10.0 ± 0.0"


def test_figures_to_look_at_are_rounded_and_empty_where_missing():
    assert [report.number(v) for v in (1e6, 2.345, float("nan"), None, "x", True)] == [
        "1,000,000",
        "2.35" if f"{2.345:.2f}" == "2.35" else "2.35"[:3] + f"{2.345:.2f}"[3:],
        "",
        "",
        "x",
        "True",
    ]


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    return experiments.plan("smoke", metadata="none", run_dir=tmp_path_factory.mktemp("runs"))


def of_runs(**more) -> pd.DataFrame:
    """Two seeds of one model and a failed third one."""
    shares = [0.4, 0.6, np.nan]
    same = {
        "model": "a",
        "augment": "none",
        "mmacs": 2.0,
        "parameters": 10,
        "minutes": 1.0,
        "search_minutes": 0.0,
    }
    same |= {"epochs": 2, "images_seen": 64, "learning_rate": 0.1, "code": "abc"}
    scores = dict.fromkeys(report.METRICS, shares)
    return pd.DataFrame({"seed": [0, 1, 2], "note": ["", "", "failed: no memory"], **same, **scores, **more})


def test_a_summary_begins_with_the_majority_class_and_ends_with_its_provenance(plan):
    table = report.summary(of_runs(), plan, "bionas compare", notes={"b": "not run: not chosen"})
    assert table["model"].tolist() == ["majority class", "a", "b"] and table["n_seeds"].tolist() == [0, 2, 0]
    train, _, test = plan.splits()
    commonest = np.bincount(train.labels).argmax()
    assert table["accuracy_mean"][0] == pytest.approx(100 * (test.labels == commonest).mean(), abs=0.01)
    own = table.loc[1]  # the failed run is in no mean and named in the note
    assert (own["accuracy_mean"], own["accuracy_sd"]) == (50.0, round(100 * 0.02**0.5, 2))
    assert own["note"] == "seed 2 failed: no memory" and table["note"][2] == "not run: not chosen"
    assert list(table)[-3:] == ["source", "code", "command"] and set(table["code"]) == {"abc"}


def test_groups_are_formed_by_the_columns_asked_for(plan):
    rows = pd.concat([of_runs(inputs="image"), of_runs(inputs="both")])
    table = report.summary(rows, plan, "", by=("augment", "inputs", "model"))
    assert table["inputs"].dropna().tolist() == ["both", "image"] or table["inputs"].dropna().tolist() == [
        "image",
        "both",
    ]


def test_tables_are_written_under_one_name(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(places, "root", lambda: tmp_path)
    assert report.write(None, {"": of_runs()}) == [] and not (tmp_path / "data").exists()
    paths = report.write("new", {"": of_runs(), "_runs": of_runs()})
    assert [p.name for p in paths] == ["new.csv", "new_runs.csv"] and all(p.exists() for p in paths)
    assert "new_runs.csv" in capsys.readouterr().out
