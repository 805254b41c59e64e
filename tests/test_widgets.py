"""The alpha explorer, driven without a browser (its life in one is in test_explorer_browser.py)."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import ipywidgets
import numpy as np
import pandas as pd
import pytest

from bionas.errors import BionasError, UnknownName
from bionas.figures.widgets import AlphaTable, alpha_explorer, alpha_snapshot_svg, leading
from bionas.genotype import EDGES, derive
from bionas.operators import PRIMITIVE_SETS

FULL = PRIMITIVE_SETS["full"]


def search_alphas(
    epochs: int = 4, cells: int = 3, names: tuple[str, ...] = FULL, seed: int = 0
) -> pd.DataFrame:
    """What a search writes to alphas.csv: epoch 0 level, then drifting apart."""
    generator = np.random.default_rng(seed)
    pull = generator.normal(size=(cells, 3, len(names)))
    rows = []
    for epoch in range(epochs + 1):
        theta = 0.4 * epoch * pull
        alpha = np.exp(theta) / np.exp(theta).sum(axis=2, keepdims=True)
        for (cell, edge, k), value in np.ndenumerate(alpha):
            rows.append((epoch, cell, cell == 1, EDGES[edge], names[k], value, theta[cell, edge, k]))
    return pd.DataFrame(rows, columns=["epoch", "cell", "reduction", "edge", "primitive", "alpha", "theta"])


def controls_and_picture(explorer):
    (controls, picture) = explorer.children
    return dict(zip(("cell", "epoch", "edge"), controls.children, strict=True)), picture


def test_explorer_is_one_vbox_of_controls_and_html():
    explorer = alpha_explorer(search_alphas())
    controls, picture = controls_and_picture(explorer)
    assert isinstance(explorer, ipywidgets.VBox) and isinstance(picture, ipywidgets.HTML)
    assert [controls[name].description for name in ("cell", "epoch")] == ["cell", "epoch"]
    inside = [explorer, *explorer.children, *controls.values()]
    assert not any(isinstance(widget, (ipywidgets.Output, ipywidgets.interactive)) for widget in inside)


@pytest.mark.parametrize(("control", "value"), [("cell", 2), ("edge", "z1->z2"), ("epoch", 1)])
def test_moving_a_control_redraws_what_the_snapshot_shows(control, value):
    alphas = search_alphas()
    controls, picture = controls_and_picture(alpha_explorer(alphas))
    state = {"cell": 0, "edge": "x->z1", "epoch": 4}
    assert picture.value == alpha_snapshot_svg(alphas, **state)
    controls[control].value = value
    assert picture.value == alpha_snapshot_svg(alphas, **{**state, control: value})
    assert picture.value != alpha_snapshot_svg(alphas, **state)


@pytest.mark.parametrize("name", PRIMITIVE_SETS)
def test_the_picture_shows_leader_margin_and_the_cell_as_derived(name):
    names = PRIMITIVE_SETS[name]
    alphas = search_alphas(names=names, seed=3)
    last = alphas[(alphas.epoch == 4) & (alphas.cell == 1)]
    weights = last.alpha.to_numpy().reshape(1, 3, len(names))
    derived = derive(weights, names, [True], name).cells[0]
    root = ET.fromstring(alpha_snapshot_svg(alphas, 1, "z1->z2"))
    words = " ".join(root.itertext())
    leader, margin, second = leading(weights[0, 2], names)
    assert sorted(weights[0, 2])[-1] - sorted(weights[0, 2])[-2] == pytest.approx(margin)
    assert f"{leader} leads by {margin:.3f} over {second}" in words
    assert "Derived: " + ", ".join(map(" on ".join, zip(derived.operations, EDGES))) in root[0].text
    assert "(reduction)" in words and "if derived at epoch 4" in words


def test_level_weights_are_not_called_a_lead():
    assert "leads by less than 0.001" in alpha_snapshot_svg(search_alphas(), epoch=0)


def test_rows_in_any_order_and_epochs_with_gaps():
    alphas = search_alphas()
    shuffled = alphas[alphas.epoch != 2].sample(frac=1, random_state=0)
    table = AlphaTable.of(shuffled, FULL)
    assert table.epochs == (0, 1, 3, 4)
    assert table.svg(1, "x->z2", 3) == alpha_snapshot_svg(alphas[alphas.epoch != 2], 1, "x->z2", 3)


def test_frames_and_choices_that_do_not_do():
    alphas = search_alphas()
    with pytest.raises(BionasError, match="no column reduction, alpha"):
        alpha_explorer(alphas.drop(columns=["alpha", "reduction"]))
    with pytest.raises(BionasError, match="empty"):
        alpha_explorer(alphas.iloc[:0])
    with pytest.raises(BionasError, match="lack epoch 0, cell 0, edge x->z1, primitive sep_conv_3x3"):
        alpha_explorer(alphas.iloc[1:])
    with pytest.raises(BionasError, match="twice"):
        alpha_explorer(pd.concat([alphas, alphas.iloc[:1]]))
    with pytest.raises(BionasError, match="no epoch 9; known are 0 to 4"):
        alpha_snapshot_svg(alphas, epoch=9)
    with pytest.raises(UnknownName, match="unknown edge 'x->z3'.*'x->z1'"):
        alpha_snapshot_svg(alphas, edge="x->z3")
