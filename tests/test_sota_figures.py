"""Figures of the comparison: a dot is the row it was given, a line is where it was told, what is missing is shown."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bionas import figures
from bionas.figures.palette import PAPER
from bionas.figures.sota import LARGEST, SMALLEST

CAPTION = "as printed"


@pytest.fixture
def models():
    return pd.DataFrame(
        {
            "model": ["VGG16", "LeViT", "MAE", "Ours"],
            "table": ["II", "III", "III", "I"],
            "macs": [15.0, 0.3, 17.5, 2.95],
            "parameters": [100e6, 1e6, 25e6, np.nan],
            "first": [66.7, 65.3, 84.7, 96.8],
            "second": [68.7, np.nan, 84.6, 93.2],
        }
    )


def test_those_under_the_line_are_hollow_and_counted(models):
    figure = figures.published_scores(models, 71.57, "Diptera", "first", CAPTION)
    assert figure.alternative.startswith("2 of 3 published backbones score below always answering Diptera")
    transformers = next(t for t in figure.data if t.name.startswith("Table III"))
    assert (
        list(transformers.x) == [84.7, 65.3]
        and transformers.marker.color[0] != PAPER == transformers.marker.color[1]
    )
    assert figure.layout.shapes[0].x0 == 71.57
    assert list(figure.layout.yaxis.ticktext) == ["Ours", "MAE", "VGG16", "LeViT"]  # best on top
    assert "first" not in transformers.text[0] and transformers.text[0].startswith("<b>MAE</b>")


def test_area_is_parameters_and_hover_tells_everything(models):
    figure = figures.accuracy_against_macs(
        models, {"a": "first", "b": "second"}, "Cost", CAPTION, {"a": {"floor": 71.57}}
    )
    dots = {
        name: (x, y, size, told)
        for t in figure.data
        if t.name != "not run"
        for name, x, y, size, told in zip(t.text, t.x, t.y, t.marker.size, t.customdata)
    }
    assert (
        dots["VGG16"][:3] == (15.0, 66.7, LARGEST) and dots["MAE"][2] == LARGEST / 2
    )  # a quarter of the parameters
    assert dots["Ours"][2] == SMALLEST  # not known
    assert dots["MAE"][3].split("<br>") == [
        "<b>MAE</b>",
        "MACs per image (10⁹): 17.5",
        "parameters: 25,000,000",
        "first: 84.7",
        "second: 84.6",
    ]
    assert figure.layout.xaxis.type == "log" and figure.layout.shapes[0].y0 == 71.57
    low, high = figure.layout.yaxis.range
    assert low < 65.3 and high > 96.8


def test_a_button_draws_the_other_column_and_its_lines(models):
    figure = figures.accuracy_against_macs(
        models, {"a": "first", "b": "second"}, "Cost", CAPTION, {"a": {"floor": 71.57}}
    )
    first, second = figure.layout.updatemenus[0].buttons
    assert [list(t.y) for t in figure.data] == [list(y) for y in first.args[0]["y"]]
    assert first.args[1]["shapes"][0]["y0"] == 71.57 and not second.args[1]["shapes"]
    bubbles, crosses = (i for i, t in enumerate(figure.data) if t.legendgroup == "III")
    assert second.args[0]["y"][bubbles] == [None, 84.6] and second.args[0]["text"][bubbles] == ["", "MAE"]
    assert second.args[0]["y"][crosses][1] is None and second.args[0]["y"][crosses][0] < 84.6
    assert first.args[1]["yaxis.range"] == list(figure.layout.yaxis.range)
    assert second.args[1]["yaxis.range"][0] != first.args[1]["yaxis.range"][0]  # its own scores and lines
    assert "× not run (1): LeViT" in [note["text"] for note in second.args[1]["annotations"]]
    assert not any("not run" in note["text"] for note in first.args[1]["annotations"])
    assert not figures.accuracy_against_macs(models, {"a": "first"}, "Cost", CAPTION).layout.updatemenus


def test_what_was_not_run_stands_on_the_lower_edge(models):
    frame = models.assign(first=np.nan)
    figure = figures.accuracy_against_macs(frame, {"a": "first"}, "Cost", CAPTION, unit="10^6")
    crosses = [t for t in figure.data if t.name == "not run"]
    assert sum(y is not None for t in crosses for y in t.y) == 4
    assert all(y is None for t in figure.data if t.name != "not run" for y in t.y)
    assert "10⁶" in figure.layout.xaxis.title.text
    assert figure.layout.annotations[0].text == "× not run (4): VGG16, LeViT, MAE, Ours"


def test_names_keep_off_each_other():
    near = pd.DataFrame(
        {
            "model": ["first name", "second name", "third name"],
            "table": "II",
            "macs": [10.0, 10.2, 10.4],
            "parameters": 1e6,
            "score": [80.0, 80.1, 80.2],
        }
    )
    far = near.assign(macs=1000.0, score=50.0)
    figure = figures.accuracy_against_macs(pd.concat([near, far]), {"a": "score"}, "Cost")
    assert len(set(figure.data[0].textposition[:3])) == 3


def test_the_metadatas_part_is_what_lies_between_two_dots():
    frame = pd.DataFrame(
        {
            "model": ["A", "B", "C", "D"],
            "image": [40.0, 50.0, np.nan, np.nan],
            "image_sd": [1.0, np.nan, np.nan, np.nan],
            "both": [47.5, 51.0, 60.0, np.nan],
            "both_sd": np.nan,
            "image_seeds": 1,
            "both_seeds": 1,
            "gain": [7.5, 1.0, np.nan, np.nan],
        }
    )
    figure = figures.with_and_without_metadata(
        frame, {"majority class": 35.0, "metadata alone": 45.0}, caption=CAPTION
    )
    assert "+4.2 points of accuracy in the median" in figure.alternative  # of 7.5 and 1.0
    assert [list(t.x) for t in figure.data] == [[40.0, 50.0, None, None], [47.5, 51.0, 60.0, None]]
    said = [a.text for a in figure.layout.annotations]
    assert {
        "+7.5",
        "+1.0",
        "image: not run",
        "not run",
        "majority class: 35.0 %",
        "metadata alone: 45.0 %",
    } <= set(said)
    bars = [(s.x0, s.x1) for s in figure.layout.shapes if s.line.width == 5]
    assert bars == [(40.0, 47.5), (50.0, 51.0)]
    assert [s.x0 for s in figure.layout.shapes if s.yref == "paper"] == [35.0, 45.0]
    empty = figures.with_and_without_metadata(
        frame.assign(image=np.nan, both=np.nan, gain=np.nan), {}, caption=CAPTION
    )
    assert "median" not in empty.alternative and list(empty.layout.xaxis.range) == [0, 100]
