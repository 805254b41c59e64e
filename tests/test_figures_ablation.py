"""Figures of Table I: what is on the front by hand, which points which button shows, and what was not run is not drawn."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
import results_made_up

from bionas import figures
from bionas.figures.ablation import front
from bionas.figures.palette import STRATEGY_COLORS
from bionas.strategies import STRATEGIES
from bionas.studies import published
from bionas.studies.searches.tables import in_words


def shown(figure, label: str) -> list:
    """The traces that are visible once a button was pressed."""
    (button,) = [b for b in figure.layout.updatemenus[0].buttons if b.label == label]
    return [trace for trace, visible in zip(figure.data, button.args[0]["visible"], strict=True) if visible]


def points(traces) -> dict[str, tuple[float, float]]:
    return {t: (x, y) for trace in traces if trace.text for t, x, y in zip(trace.text, trace.x, trace.y)}


def test_the_front_is_what_nothing_beats():
    generator = np.random.default_rng(3)
    cost, score = (pd.Series(generator.integers(0, 9, 25).astype(float)) for _ in range(2))
    found = front(cost, score)
    for i in range(25):
        as_good = [j for j in range(25) if cost[j] <= cost[i] and score[j] >= score[i]]
        better = [j for j in as_good if (cost[j], score[j]) != (cost[i], score[i])]
        twins = [j for j in found if (cost[j], score[j]) == (cost[i], score[i])]
        assert (not better) == (len(twins) == 1)
    assert all(cost[a] < cost[b] and score[a] < score[b] for a, b in itertools.pairwise(found))


def test_buttons_change_between_ours_the_papers_and_both():
    figure = figures.accuracy_against_cost(results_made_up.grid())
    ours, theirs, both = (shown(figure, label) for label in ("ours", "the paper's", "both"))
    assert points(ours) == {"E007": (10.0, 60.0), "E009": (20.0, 64.0), "E012": (30.0, 61.0)}
    paper = published.table("table1_ablation").set_index("exp_id")
    assert points(theirs) == {name: (row["gflops"], row["accuracy"]) for name, row in paper.iterrows()}
    assert [t for t in figure.data if t.visible] == ours  # what a page without buttons shows
    relative = points([trace for trace in both if trace.name.startswith("ours")])
    assert relative == {"E007": (0.5, -4.0), "E009": (1.0, 0.0), "E012": (1.5, -3.0)}
    relative = points([trace for trace in both if trace.name.startswith("the paper's")])
    assert relative["E009"] == (1.0, 0.0) and relative["E007"] == (
        round(4.82 / 2.95, 4),
        round(89.74 - 96.81, 2),
    )
    assert {trace.marker.symbol for trace in theirs if trace.text} == {"diamond-open"}


def test_the_front_is_drawn_and_counted():
    figure = figures.accuracy_against_cost(results_made_up.grid())
    (line,) = [trace for trace in shown(figure, "ours") if trace.name == "front"]
    assert (list(line.x), list(line.y)) == ([10.0, 20.0], [60.0, 64.0]) and line.line.shape == "hv"
    assert "2 of 3 rows on the front" in figure.alternative
    latency = figures.accuracy_against_cost(results_made_up.grid(), "latency")
    assert points(shown(latency, "ours"))["E009"] == (5.0, 64.0)
    assert points(shown(latency, "the paper's"))["E009"] == (64.33, 96.81)


def test_as_long_as_nothing_was_run_only_the_papers_points_are_there():
    figure = figures.accuracy_against_cost(results_made_up.grid(run=()))
    assert [b.label for b in figure.layout.updatemenus[0].buttons] == ["the paper's"]
    assert all(trace.visible for trace in figure.data) and len(points(figure.data)) == 15
    without = figures.accuracy_against_cost(
        results_made_up.grid(run=("E007",))
    )  # nothing to stand relative to
    assert [b.label for b in without.layout.updatemenus[0].buttons] == ["ours", "the paper's"]


def test_spread_is_drawn_where_there_is_one():
    trace = next(
        t for t in figures.accuracy_against_cost(results_made_up.grid()).data if t.text and "E009" in t.text
    )
    assert list(trace.error_y.array) == [1.5]
    alone = results_made_up.grid()
    alone[[c for c in alone if c.endswith("_sd")]] = np.nan  # one seed
    assert all(t.error_y.array is None for t in figures.accuracy_against_cost(alone).data)


def test_gains_have_two_standard_errors_and_leave_what_was_not_run_open():
    figure = figures.gains(results_made_up.gains(), "random search")
    paper, ours = figure.data
    assert (
        list(paper.x) == [2.18, -0.3, 7.07]
        and list(ours.x) == [0.5, 4.0]
        and list(ours.error_x.array) == [2.0, 2.4]
    )
    assert list(ours.y) == ["E008 evolutionary", "E009 gradient"] and "1 of 2 beyond" in figure.alternative
    nothing = figures.gains(results_made_up.gains().assign(gain=np.nan), "random search")
    assert len(nothing.data[1].x) == 0 and nothing.alternative == "Points above random search"


def test_regret_is_in_points_and_says_how_often_it_was_measured():
    figure = figures.regret_curves(results_made_up.regret())
    lines = {trace.name: list(trace.y) for trace in figure.data}
    assert lines == {"random (60)": [10.0, 6.0, 5.0], "evolutionary (60)": [10.0, 5.0, 2.5]}
    assert "1 of 1 strategies are better than random search" in figure.alternative


def test_skips_by_epoch_with_the_limit_and_where_it_stopped():
    figure = figures.skip_courses(results_made_up.skips())
    crosses = [(trace.x[0], trace.y[0]) for trace in figure.data if trace.mode == "markers"]
    assert crosses == [(3, 3), (2, 3)]
    (limit,) = figure.layout.shapes
    assert limit.y0 == 2 and limit.xref.startswith("x2") and "5 of 9 edges" in figure.alternative


def test_the_papers_line_is_that_of_the_table():
    genotypes, experiments, lines = results_made_up.costs()
    figure = figures.cost_clouds(genotypes, experiments, lines)
    traces = {trace.name: trace for trace in figure.data}
    line, paper = traces["line through the paper's"], traces["the paper's experiments"]
    assert list(line.y) == pytest.approx([13.5 * x + 0.5 for x in line.x], abs=0.02)
    assert (
        list(paper.x) == list(published.table("table1_ablation")["gflops"])
        and "r = 0.9996" in figure.alternative
    )
    assert len(traces["random, full"].x) == 20 and "made by hand" not in traces
    counted = experiments.assign(gmacs_median=2.0, weights_mb_median=30.0)
    hand = next(t for t in figures.cost_clouds(genotypes, counted, lines).data if t.name == "made by hand")
    assert (list(hand.x), list(hand.y)) == ([2.0], [30.0])


def test_every_strategy_has_a_colour():
    assert set(STRATEGY_COLORS) == set(STRATEGIES) and len(set(STRATEGY_COLORS.values())) == len(
        STRATEGY_COLORS
    )


def test_title_axes_and_labels_follow_the_button():
    figure = figures.accuracy_against_cost(results_made_up.grid())
    buttons = {button.label: button for button in figure.layout.updatemenus[0].buttons}
    assert set(buttons) == {"ours", "the paper's", "both"}
    titles = {name: button.args[1]["title.text"] for name, button in buttons.items()}
    assert all(name in title for name, title in titles.items()) and "(ours)" not in "".join(titles.values())
    shown = [t for t, visible in zip(figure.data, buttons["both"].args[0]["visible"], strict=True) if visible]
    named = [name for trace in shown if "text" in (trace.mode or "") for name in trace.text]
    assert len(named) == len(set(named)) > 0  # ours are named, the paper's told on hover


def test_searches_are_compared_with_their_intervals_and_every_search_is_shown():
    table, runs = results_made_up.searches()
    figure = figures.searches_compared(table, runs, "made up")
    single, means, differences = figure.data
    assert list(single.x) == [39.0, 41.0, 43.0, 45.0]
    assert dict(zip(means.y, means.x)) == {"random (10.0 min)": 40.0, "halving (9.5 min)": 44.0}
    assert list(means.error_x.array) == [2.5, 2.0] and list(means.error_x.arrayminus) == [2.0, 2.0]
    assert list(differences.x) == [4.0] and list(differences.error_x.arrayminus) == [3.0]
    assert "1 of 1 are above random search" in figure.layout.title.text
    assert in_words(table)[1] == (
        "halving: 44.0 % (42.0 to 46.0); +4.0 points from random search (+1.0 to +7.0): above it"
    )
