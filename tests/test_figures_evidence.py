"""Figures of what our runs say: what is drawn is what was given, each training once."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from bionas import figures


def drawn(figure, mode="markers"):
    """The points of a figure's traces that are dots and hold anything."""
    return [t for t in figure.data if getattr(t, "mode", None) == mode and t.x and t.x[0] is not None]


@pytest.fixture
def given():
    rows = [
        (inputs, choice, split, seed, accuracy + seed / 100)
        for split in ("paper", "bin_disjoint")
        for inputs, choice, accuracy in (
            ("image", "none", 0.6),
            ("metadata", "no_target", 0.9),
            ("image + metadata", "no_target", 0.92),
            ("metadata", "leak_free", 0.5),
            ("image + metadata", "leak_free", 0.65),
        )
        for seed in range(2)
    ]
    return pd.DataFrame(rows, columns=["inputs", "metadata", "split", "seed", "accuracy"])


def test_every_training_is_a_dot_and_the_image_alone_a_line(given):
    figure = figures.input_contributions(given, {"paper": 0.4, "bin_disjoint": 0.3}, "caption")
    dots = sorted(x for trace in drawn(figure) for x in trace.x)
    assert dots == pytest.approx(sorted(100 * given.loc[given["inputs"] != "image", "accuracy"]))
    lines = {(t.name, t.x[0]) for t in drawn(figure, "lines")}
    assert lines == {("majority class", 40.0), ("majority class", 30.0), ("image alone (mean)", 60.5)}
    json.dumps(figure.to_plotly_json()["data"], default=pytest.fail)  # lists, not arrays


def test_records_without_images_have_no_line_for_them(given):
    figure = figures.input_contributions(
        given[given["inputs"] == "metadata"], {"paper": 0.4, "bin_disjoint": 0.3}
    )
    assert {t.name for t in drawn(figure, "lines")} == {"majority class"}


def test_a_group_without_specimens_is_not_drawn():
    frame = pd.DataFrame(
        {
            "split": ["paper", "bin_disjoint"],
            "fields": ["genus, family", "family"],
            "model": "counting",
            "accuracy_seen": [0.9, np.nan],
            "accuracy_unseen": [0.8, 0.7],
        }
    )
    figure = figures.fields_taken_away(frame, {"paper": 0.3, "bin_disjoint": 0.3})
    assert {(t.name, t.x[0], t.y[0]) for t in drawn(figure)} == {
        ("counting, BIN in training", 90.0, 0),
        ("counting, BIN not in training", 80.0, 0),
        ("counting, BIN not in training", 70.0, 1),
    }


def test_a_bar_is_the_mean_of_its_dots():
    frame = pd.DataFrame(
        {
            "metadata": "leak_free",
            "shuffled": ["country", "image"] * 2,
            "drop": [0.01, 0.2, 0.03, 0.4],
        }
    )
    (bars,) = (t for t in figures.shuffled_inputs(frame).data if t.type == "bar")
    assert list(bars.x) == pytest.approx([2.0, 30.0]) and bars.orientation == "h"


def test_a_panel_says_its_mean_difference_and_draws_a_line_a_seed():
    frame = pd.DataFrame(
        {
            "model": ["as declared", "inherited weights"] * 2,
            "seed": [0, 0, 1, 1],
            "balanced_accuracy": [0.4, 0.5, 0.4, 0.42],
        }
    )
    figure = figures.turned_assumptions(frame)
    assert [list(t.y) for t in figure.data] == [[40.0, 50.0], [40.0, 42.0]]
    assert "+6.0 ± 4.0 points" in figure.layout.annotations[0].text


def test_a_class_stands_at_its_size():
    frame = pd.DataFrame(
        {"class": ["Diptera", "Other"] * 2, "n_train": [1300, 30] * 2, "recall": [0.9, np.nan, 0.7, np.nan]}
    )
    figure = figures.class_sizes(frame)
    mean = next(t for t in figure.data if t.name == "mean")
    assert (list(mean.x), list(mean.y), list(mean.text)) == ([1300], [80.0], ["Diptera"])
