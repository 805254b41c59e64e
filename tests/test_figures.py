"""Figures: what is drawn is what was given, as plain numbers, under a title and beside named axes."""

from __future__ import annotations

import base64
import io
import json
import shutil

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
import results_made_up
from PIL import Image

from bionas import figures
from bionas.figures.palette import ORDER_COLORS, PRIMITIVE_COLORS
from bionas.figures.sheet import CAPTION_LETTERS, TITLE_LETTERS, WIDTH, Chart, plain
from bionas.figures.world import OTHER_NAMES, by_country, outlines
from bionas.system import places
from bionas.training.evaluation import evaluate

CAPTION = "Synthetic specimens drawn by the program"
CLASSES = ("Diptera", "Hymenoptera", "Other")
EDGES = ("x->z1", "x->z2", "z1->z2")
PRIMITIVES = tuple(PRIMITIVE_COLORS)
KINDS = [name for name in figures.__all__ if name not in ("keep", "Drawing") and not name.endswith("_svg")]


@pytest.fixture(scope="module")
def judged():
    generator = np.random.default_rng(1)
    labels = generator.choice(3, size=120, p=[0.6, 0.3, 0.1])
    logits = generator.normal(size=(120, 3)) + 2 * np.eye(3)[labels]
    return evaluate(labels, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), CLASSES)


@pytest.fixture(scope="module")
def alphas():
    """alphas.csv of two cells over four epochs, in which one primitive an edge comes to lead."""
    rows = []
    for epoch in range(4):
        for cell in range(2):
            for e, edge in enumerate(EDGES):
                theta = np.zeros(10)
                theta[8 if cell else e] = epoch
                alpha = np.exp(theta) / np.exp(theta).sum()
                rows += [
                    (epoch, cell, cell == 1, edge, p, alpha[k], theta[k]) for k, p in enumerate(PRIMITIVES)
                ]
    return pd.DataFrame(rows, columns=["epoch", "cell", "reduction", "edge", "primitive", "alpha", "theta"])


@pytest.fixture(scope="module")
def history():
    return pd.DataFrame(
        {
            "epoch": [1, 2, 3],
            "phase": "search",
            "train_loss": [2.0, 1.5, 1.25],
            "train_accuracy": [0.4, 0.5, 0.6],
            "val_loss": [2.1, 1.75, 1.5],
            "val_accuracy": [0.35, 0.45, 0.5],
            "theta_loss": [2.2, 1.8, 1.6],
        }
    )


@pytest.fixture(scope="module")
def photographs():
    return np.random.default_rng(0).integers(0, 255, size=(5, 8, 8, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def every(judged, alphas, history, photographs):
    """One figure of each kind, as the notebooks make them."""
    counts = pd.Series([70, 25, 5], index=CLASSES).rename_axis("order")
    genus, latitude = ["Culex", None, "", None], [1.5, np.nan, 2, 3]
    records = pd.DataFrame({"order": ["Diptera"] * 4, "genus": genus, "coord-lat": latitude})
    split = pd.DataFrame({"class": CLASSES, "train": [49, 17, 3], "val": [14, 5, 1], "test": [7, 3, 1]})
    schemes = pd.DataFrame(
        {
            "scheme": ["paper", "bin_disjoint", "official"],
            "train": [70, 69, None],
            "val": [20, 21, None],
            "test": [10, 10, None],
            "drift": [0.5, 2.25, None],
            "bins_crossing": [7, 0, None],
            "countries_crossing": [None, None, None],
            "refused": ["", "", "no column `split`"],
        }
    )
    places = pd.DataFrame(
        {
            "country": ["Costa Rica", "costa rica ", "United States", "Nowhere", None],
            "coord-lat": [10.1, 10.3, 40.0, np.nan, np.nan],
            "coord-lon": [-84.1, -84.3, -100.0, np.nan, np.nan],
        }
    )
    leak = pd.DataFrame({"field": ["genus", "country"], "accuracy": [0.95, 0.7], "majority": 0.7})
    costs = pd.DataFrame(
        {"primitive": PRIMITIVES, "macs": np.arange(10) * 1e6, "parameters": np.arange(10) * 1e3}
    )
    scores = [0.5, 0.52, 0.54, 0.4, 0.5, 0.45]
    runs = pd.DataFrame({"model": ["derived"] * 3 + ["random"] * 3, "balanced_accuracy": scores})
    models = pd.DataFrame(
        {
            "model": ["VGG16", "MAE", "BioAutoML-NAS"],
            "table": ["II", "III", "I"],
            "bioscan5m_accuracy": [66.69, 84.67, 96.81],
            "macs": [15.5, 17.6, 2.95],
            "parameters": [1.3e8, 8.6e7, 1e7],
        }
    )
    pairs = pd.DataFrame(
        {
            "model": ["MAE", "VGG16"],
            "image": [40.0, np.nan],
            "image_sd": [1.5, np.nan],
            "image_seeds": [3, 0],
            "both": [47.5, 50.0],
            "both_sd": [1.0, np.nan],
            "both_seeds": [3, 1],
            "gain": [7.5, np.nan],
        }
    )
    responses = {"input": photographs[0], **{name: np.arange(64.0).reshape(8, 8) for name in PRIMITIVES}}
    maps = np.arange(2 * 4 * 4.0).reshape(2, 4, 4)
    errors = pd.DataFrame(
        {
            "model": ["SERAN", "SERAN-D"],
            "test_top1_error_mean": [50.0, np.nan],
            "test_top1_error_sd": [1.5, np.nan],
            "published_test_top1_error": [15.28, 13.58],
        }
    )
    population = pd.DataFrame(
        {
            "generation": [0] * 4 + [3] * 4,
            "member": [0, 1, 2, 3] * 2,
            "activation": ["relu", "tanh"] * 4,
            "parameters": [900, 50, 400, 30, 60, 50, 20, 30],
            "performance": [0.9, 0.8, 0.95, 0.6, 0.95, 0.9, 0.93, 0.9],
            "objective": [1.9, 2.1, 0.9, 4.1, 0.6, 1.1, 0.7, 1.1],
        }
    )
    sized = pd.DataFrame(
        {
            "model": ["svm", "eb_lnast", "knn"],
            "parameters": [1500, 60, 14000],
            "accuracy": [97.0, 96.0, 95.0],
            "accuracy_sd": [0.5, np.nan, 0.25],
        }
    )
    readings = np.random.default_rng(2).random((36, 3)), np.arange(36) % 3
    inputs = pd.DataFrame(
        {
            "inputs": ["image", "metadata", "image + metadata"],
            "metadata": ["none", "no_target", "no_target"],
            "split": "paper",
            "seed": 0,
            "accuracy": [0.7, 0.9, 2.8 / 3],
            "shuffled": ["image", "family", "genus"],
            "drop": [0.1, 1 / 3, 0.0],
            "fields": ["genus, family", "family", "genus"],
            "accuracy_seen": [0.9, 0.8, 2 / 3],
            "accuracy_unseen": [0.9, np.nan, 0.1],
            "class": CLASSES,
            "n_train": [1300, 200, 30],
            "recall": [0.9, 1 / 3, np.nan],
            "model": ["as declared", "no edge removed", "inherited weights"],
            "balanced_accuracy": [0.4, 0.5, 1 / 3],
        }
    )
    return {
        "attention": figures.attention(photographs[0], maps, 1 / (1 + maps), CAPTION),
        "published_errors": figures.published_errors(errors, caption=CAPTION),
        "population_evolution": figures.population_evolution(population, caption=CAPTION),
        "pareto": figures.pareto(sized, highlight=["eb_lnast"], caption=CAPTION),
        "colour_readings": figures.colour_readings(*readings, CLASSES, CAPTION),
        "input_contributions": figures.input_contributions(inputs, {"paper": 0.6}, CAPTION),
        "fields_taken_away": figures.fields_taken_away(inputs, {"paper": 0.6}, CAPTION),
        "shuffled_inputs": figures.shuffled_inputs(inputs, CAPTION),
        "turned_assumptions": figures.turned_assumptions(inputs, caption=CAPTION),
        "class_sizes": figures.class_sizes(inputs, CAPTION),
        "long_tail": figures.long_tail(counts, CAPTION, threshold=10),
        "look_alikes": figures.look_alikes(photographs, list("aabbc"), 3, CAPTION),
        "specimen_grid": figures.specimen_grid(photographs, list("abcde"), 3, CAPTION),
        "missingness": figures.missingness(records, CAPTION),
        "split_schemes": figures.split_schemes(schemes, CAPTION),
        "collected_where": figures.collected_where(places, CAPTION),
        "split_sizes": figures.split_sizes(split, CAPTION),
        "leakage_bars": figures.leakage_bars(leak, CAPTION),
        "loss_curves": figures.loss_curves(history, CAPTION),
        "alpha_trajectories": figures.alpha_trajectories(alphas, 1, CAPTION),
        "alpha_heatmap": figures.alpha_heatmap(alphas, caption=CAPTION),
        "alpha_epochs": figures.alpha_epochs(alphas, CAPTION),
        "skip_count": figures.skip_count(alphas, CAPTION),
        "primitive_responses": figures.primitive_responses(responses, CAPTION),
        "cost_bars": figures.cost_bars(costs, CAPTION),
        "confusion": figures.confusion(judged.confusion, CLASSES, caption=CAPTION),
        "roc_curves": figures.roc_curves(judged.roc, CAPTION),
        "reliability": figures.reliability(judged.reliability, CAPTION),
        "comparison": figures.comparison(runs, caption=CAPTION, highlight="derived"),
        "accuracy_against_cost": figures.accuracy_against_cost(results_made_up.grid(), caption=CAPTION),
        "gains": figures.gains(results_made_up.gains(), "random search", CAPTION),
        "regret_curves": figures.regret_curves(results_made_up.regret(), CAPTION),
        "skip_courses": figures.skip_courses(results_made_up.skips(), CAPTION),
        "searches_compared": figures.searches_compared(*results_made_up.searches(), CAPTION),
        "accuracy_against_milliseconds": figures.accuracy_against_milliseconds(
            results_made_up.stems(), CAPTION
        ),
        "error_curves": figures.error_curves(results_made_up.error_curves(), CAPTION),
        "cost_clouds": figures.cost_clouds(*results_made_up.costs(), CAPTION),
        "published_scores": figures.published_scores(models, 71.57, "Diptera", caption=CAPTION),
        "accuracy_against_macs": figures.accuracy_against_macs(
            models, {"BIOSCAN-5M": "bioscan5m_accuracy"}, "What each costs", CAPTION
        ),
        "with_and_without_metadata": figures.with_and_without_metadata(
            pairs, {"majority class": 35.0}, caption=CAPTION
        ),
    }


def test_each_kind_is_here(every):
    assert set(every) == set(KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_title_caption_axes_and_plain_numbers(every, name):
    figure = every[name]
    assert isinstance(figure, go.Figure) and len(figure.alternative) > 12
    # As wide as its column; and neither title nor caption is cut where that has 600 pixels.
    assert figure.layout.width is None and figure.layout.autosize and figure.layout.height < 1200
    title = figure.layout.title
    assert max(map(len, title.text.split("<br>"))) <= TITLE_LETTERS + len("<b></b>")
    assert max(map(len, title.subtitle.text.split("<br>"))) <= CAPTION_LETTERS
    assert CAPTION in figure.alternative
    if name not in (
        "specimen_grid",
        "look_alikes",
        "primitive_responses",
        "collected_where",
        "attention",
        "colour_readings",
    ):
        titles = [axis.title.text for axis in figure.select_xaxes()]
        assert any(titles) or name in ("alpha_heatmap", "alpha_epochs", "turned_assumptions")
    text = figure.to_json()
    assert "bdata" not in text and not _arrays(figure.to_dict())
    assert all(len(number) < 12 for number in _numbers(json.loads(text)["data"]))


def _arrays(value) -> bool:
    if isinstance(value, dict):
        return any(map(_arrays, value.values()))
    if isinstance(value, (list, tuple)):
        return any(map(_arrays, value))
    return isinstance(value, (np.ndarray, np.generic))


def _numbers(value):
    if isinstance(value, dict):
        for inner in value.values():
            yield from _numbers(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _numbers(inner)
    elif isinstance(value, float):
        yield repr(value)


def test_plain_rounds_and_leaves_holes():
    assert plain(np.array([1 / 3, np.nan, np.inf])) == [0.3333, None, None]
    assert plain(pd.Series([1, 2])) == [1, 2] and plain(["a", True]) == ["a", True]


def test_long_tail_shows_the_counts_in_the_colours_of_the_orders(every):
    bar = every["long_tail"].data[0]
    assert list(bar.x) == [70, 25, 5] and list(bar.y) == list(CLASSES)
    assert list(bar.marker.color) == [ORDER_COLORS[name] for name in CLASSES]
    assert "70.0" in bar.text[0] and "Diptera" in every["long_tail"].alternative
    assert list(bar.marker.opacity) == [
        1,
        1,
        1,
    ]  # Other is what small orders are folded into, not folded itself


def test_a_class_without_specimens_has_no_place_on_a_logarithmic_axis():
    figure = figures.long_tail(pd.Series([9, 2, 0], index=["a", "b", "c"]), threshold=5)
    assert list(figure.data[0].y) == ["a", "b"] and list(figure.data[0].marker.opacity) == [1, 0.4]


def test_the_grid_holds_the_very_pixels(every, photographs):
    source = every["specimen_grid"].data[0].source
    page = np.asarray(Image.open(io.BytesIO(base64.b64decode(source.split(",")[1]))))
    assert np.array_equal(page[:8, :8], photographs[0]) and np.array_equal(page[:8, 9:17], photographs[1])
    names = [note.text for note in every["specimen_grid"].layout.annotations]
    assert names == list("abcde")


def test_missingness_counts_empty_words_as_missing(every):
    assert list(every["missingness"].data[1].x) == [100.0, 25.0, 75.0]


def test_split_and_leakage_bars(every):
    train, _val, _test = every["split_sizes"].data
    assert list(train.x) == [70.0, 68.0, 60.0] and train.name == "train (69)"
    known, given = every["leakage_bars"].data[:2]
    assert list(known.x) == [70.0, 70.0] and list(given.x) == [25.0, 0.0]


def test_schemes_stand_side_by_side_with_what_crosses(every):
    figure = every["split_schemes"]
    assert [bar.name for bar in figure.data] == ["train", "val", "test"]
    assert list(figure.data[0].x) == [70, 69, 0]
    said = [annotation.text for annotation in figure.layout.annotations]
    assert said[0] == "7 BINs on more than one side<br>class shares drift by 0.5 points at most"
    assert said[1].startswith("0 BINs") and said[2] == "no column `split`"


def test_the_map_counts_countries_and_places(every):
    figure = every["collected_where"]
    assert "4 of 5 records name one of 3 countries" in figure.alternative
    assert "1 are too small for this map, or no country" in figure.alternative
    shaded = {trace.name: trace for trace in figure.data if trace.showlegend}
    assert list(shaded) == ["1 to 9 records"]
    outline = next(trace for trace in figure.data if trace.name == "1 to 9 records")
    west, east = min(x for x in outline.x if x is not None), max(x for x in outline.x if x is not None)
    assert west < -160 and -84 < east < -60  # Hawaii to Maine: the United States, and Costa Rica within
    dots = figure.data[-1]
    assert (
        list(dots.customdata) == [2, 1] and list(dots.y) == [10.2, 40.0] and list(dots.x) == [-84.2, -100.0]
    )


def test_countries_are_found_under_their_other_names():
    column = pd.Series(["USA", "United States", "Türkiye", "Turkiye", "Atlantis", "", "No Taxon", None])
    assert by_country(column).to_dict() == {"United States of America": 2, "Turkey": 2, "Atlantis": 1}
    assert set(OTHER_NAMES.values()) <= set(outlines()) and all(
        name == name.casefold() for name in OTHER_NAMES
    )


def test_without_any_place_there_is_no_map():
    with pytest.raises(ValueError, match="nothing to put on a map"):
        figures.collected_where(pd.DataFrame({"order": ["Diptera"]}))


def test_loss_curves_are_the_history(every, history):
    lines = {(t.name, t.yaxis): list(t.y) for t in every["loss_curves"].data}
    assert lines[("training", "y")] == list(history["train_loss"])
    assert lines[("architecture step", "y")] == list(history["theta_loss"])
    assert lines[("validation", "y2")] == [35.0, 45.0, 50.0]


def test_a_fit_has_no_architecture_step(history):
    figure = figures.loss_curves(history.head(1).drop(columns="theta_loss").assign(phase="fit"))
    assert {t.name for t in figure.data} == {
        "training",
        "validation",
    } and "1 epoch" in figure.alternative


def test_trajectories_are_one_cells_lines_in_the_primitives_colours(every, alphas):
    figure = every["alpha_trajectories"]
    assert len(figure.data) == 30 and "reduction" in figure.alternative
    skip = next(t for t in figure.data if t.name == "skip_connect")
    own = alphas[
        (alphas["cell"] == 1) & (alphas["edge"] == "x->z1") & (alphas["primitive"] == "skip_connect")
    ]
    assert list(skip.y) == pytest.approx(list(own["alpha"]), abs=1e-4)
    assert skip.line.color == PRIMITIVE_COLORS["skip_connect"]


def test_heat_map_keeps_the_order_of_edges_and_primitives(every, alphas):
    first = every["alpha_heatmap"].data[0]
    expected = alphas[(alphas["epoch"] == 3) & (alphas["cell"] == 0)]["alpha"].to_numpy().reshape(3, 10)
    assert np.array(first.z) == pytest.approx(expected, abs=1e-4)
    assert list(first.x) == list(PRIMITIVES) and list(first.y) == ["x → z1", "x → z2", "z1 → z2"]
    assert len(every["alpha_heatmap"].layout.shapes) == 6  # a frame around each leader


def test_skip_count_counts_leaders(every):
    figure = every["skip_count"]
    assert figure.alternative.startswith("skip_connect leads 3 of 6 edges")
    assert list(next(t for t in figure.data if t.name == "skip_connect").y) == [0, 3, 3, 3]


def test_confusion_is_normalised_by_the_truth(every, judged):
    drawn = every["confusion"].data[0]
    assert [sum(row) for row in drawn.z] == pytest.approx([100] * 3, abs=0.2)
    assert np.array_equal(np.array(drawn.customdata), judged.confusion)
    counts = figures.confusion(judged.confusion, CLASSES, normalise=False).data[0]
    assert np.array_equal(np.array(counts.z), judged.confusion)


def test_confusion_of_an_absent_class_is_blank():
    assert list(figures.confusion([[2, 1], [0, 0]], ("a", "b")).data[0].z[1]) == [None, None]


def test_roc_names_the_hardest_class_first_and_takes_a_dict_too(every, judged):
    names = [t.name.split("  ")[1] for t in every["roc_curves"].data[1:]]
    assert names == list(judged.by_class.sort_values("auc")["class"])
    figure = figures.roc_curves({"a": ([0, 0, 1], [0, 1, 1], 1.0)})
    assert list(figure.data[1].x) == [0, 0, 1] and figure.data[1].name == "1.000  a"


def test_reliability_says_the_calibration_error(every, judged):
    assert f"{100 * judged.metrics['ece']:.1f} points" in every["reliability"].alternative
    assert sum(every["reliability"].data[3].y) == 120


def test_comparison_shows_every_seed_and_the_spread(every):
    figure = every["comparison"]
    assert list(figure.data[0].x) == [50.0, 52.0, 54.0]
    assert "52.0 ± 2.0  (n = 3)" in {note.text for note in figure.layout.annotations}
    assert list(figure.layout.yaxis.ticktext) == ["derived", "random"]


def test_costs_carry_their_unit(every):
    assert [a.title.text for a in every["cost_bars"].select_xaxes()] == [
        "multiply-accumulates (millions)",
        "parameters (thousands)",
    ]
    assert list(every["cost_bars"].data[0].x) == list(range(10))


def test_attention_shows_the_product_of_each_channel(every, photographs):
    names = [a.text for a in every["attention"].layout.annotations]
    assert names[:4] == ["specimen", "trunk T, channel 1", "mask M, 0.06 to 1.00", "H = (1 + M) T"]
    page = _picture(every["attention"])
    assert len(names) == 8 and (page[:8, :8] == photographs[0]).all()


def test_errors_that_were_not_run_say_so_and_panels_are_apart(every):
    figure = every["published_errors"]
    assert [list(trace.x) for trace in figure.data] == [[50.0], [15.28, 13.58]]
    assert figure.data[0].error_x.array[0] == 1.5 and {t.xaxis for t in figure.data} == {"x", "x2"}
    assert [a.text for a in figure.layout.annotations] == ["ours", "as published", "not run"]


def test_the_population_is_shown_generation_by_generation(every):
    figure = every["population_evolution"]
    assert [a.text for a in figure.layout.annotations] == [
        "generation 0",
        "generation 1",
        "generation 2",
        "generation 3",
    ][::3]
    drawn = {trace.name: list(trace.x) for trace in figure.data if trace.xaxis == "x"}
    assert drawn["relu"] == [900, 400] and drawn["tanh"] == [50, 30] and drawn["smallest objective"] == [400]


def test_the_front_joins_what_no_smaller_model_equals(every):
    front = every["pareto"].data[0]
    assert list(front.x) == [60, 1500] and list(front.y) == [96.0, 97.0]
    assert {name for trace in every["pareto"].data[1:] for name in trace.text} == {"svm", "eb_lnast", "knn"}


def test_readings_are_the_colours_that_were_read(every):
    readings, labels = np.random.default_rng(2).random((36, 3)), np.arange(36) % 3
    page = _picture(every["colour_readings"])
    first = np.round(255 * readings[labels == 0][0])
    assert (page[:12, :12] == first).all()


def _picture(figure):
    source = figure.data[0].source.split(",", 1)[1]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source))).convert("RGB"))


def test_a_kept_figure_is_written_only_while_the_notebooks_are_made(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "root", lambda: tmp_path)
    monkeypatch.setenv("BIONAS_RUNS", str(tmp_path / "runs"))
    drawn = Chart(go.Bar(x=["a"], y=[1])).update_layout(height=200)
    assert figures.keep(drawn, "bars") is drawn and not list(tmp_path.rglob("*.png"))
    monkeypatch.setenv("BIONAS_PUBLISH", "1")
    if not (shutil.which("chromium") or shutil.which("google-chrome")):
        pytest.skip("a PNG takes Chromium")
    assert figures.keep(drawn, "bars") is drawn
    assert Image.open(tmp_path / "figures" / "bars.png").size == (2 * WIDTH, 400)  # twice, for dense screens
