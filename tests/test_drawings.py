"""Drawings of networks, edges, fusions and Algorithm 1: what is written on them is what the model or the data hold."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import torch

from bionas import figures
from bionas.fusion import FUSIONS
from bionas.genotype import Genotype
from bionas.network import DerivedNetwork, NetworkConfig, SearchNetwork
from bionas.operators import PRIMITIVES
from bionas.studies.seran.network import ROWS, build

CONFIG = NetworkConfig(image_size=32, channels=4, cells=3, stem_stride=2)


def words(drawing) -> list[str]:
    root = ElementTree.fromstring(drawing)
    return ["".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")]


def test_the_whole_network_is_drawn_with_the_shapes_it_computes():
    genotype = Genotype.random(3, CONFIG.reductions, generator=np.random.default_rng(1))
    for network in (
        SearchNetwork(CONFIG, 5, (7, 9), 2),
        DerivedNetwork(genotype, CONFIG, 5, (7, 9), 2, fusion="gating"),
        DerivedNetwork(genotype, CONFIG, 5),
    ):
        before = {name: value.clone() for name, value in network.state_dict().items()}
        said = words(figures.network_svg(network.train()))
        assert network.training
        assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
        image = torch.zeros(1, 3, 32, 32)
        with torch.no_grad():
            shapes = [network.stem(image).shape, *(m.shape for m in network.eval().maps(image))]
        for shape in shapes:
            assert " × ".join(map(str, shape[1:])) in said
        assert "5 logits" in said and any("X_img" in line for line in said)
        assert (network.metadata_encoder is not None) == any("X_meta" in line for line in said)
    operations = [name for cell in genotype.cells for name in cell.operations if name != "none"]
    assert all(operations.count(name) <= said.count(name) for name in set(operations))


def test_every_fusion_has_a_drawing():
    for name in FUSIONS:
        drawing = figures.fusion_svg(name)
        assert name in words(drawing) and drawing.alternative.startswith(name)


def test_a_mixed_edge_names_every_primitive_with_its_weight():
    alpha = np.linspace(1, 2, 10) / np.linspace(1, 2, 10).sum()
    drawing = figures.mixed_edge_svg(list(PRIMITIVES), alpha)
    said = words(drawing)
    for name, weight in zip(PRIMITIVES, alpha, strict=True):
        assert f"{name} · {weight:.3f}" in said
    assert "none leads" in drawing.alternative  # the largest of the ten above
    assert "all 4 primitives" in figures.mixed_edge_svg(list(PRIMITIVES)[:4]).alternative


def test_algorithm_1_alternates_and_names_where_theta_is_scored():
    said = words(figures.algorithm_svg(theta_data="training", batches=4, theta_rate=0.01))
    assert said.count("update") == said.count("frozen") == 4  # of w and theta, one per batch each
    assert said.count("training") == 4 and "validation" not in said
    assert any("rate 0.01" in line for line in said)


def test_seran_is_drawn_from_its_module():
    for row in ("seran", "attention92"):
        network = build(row, 20, 1 / 16)
        said = words(figures.seran_svg(network))
        letters = "".join(ROWS[row].architecture.stages)
        assert [line for line in said if line in ("r", "s", "a")] == list(letters)
        assert any("20 logits" in line for line in said)
        assert any(f"({letters.count('a')})" in line for line in said)


def test_look_alikes_are_near_and_of_different_classes():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, size=(12, 16, 16, 3), dtype=np.uint8)
    labels = np.repeat(["a", "b", "c", "d"], 3)
    images[3] = images[0] + (images[0] < 255)  # "b" has one that looks like one of "a"
    images[9:] = 255 * np.arange(3, dtype=np.uint8)[:, None, None, None] // 2  # "d" looks black, grey, white
    figure = figures.look_alikes(images, labels, n=2, caption="drawn")
    names = [note.text for note in figure.layout.annotations]
    assert set(names[:2]) == {"a", "b"} and names[2:] == ["d", "d"]
    assert "different classes" in figure.alternative and "drawn" in figure.alternative


def test_the_slider_holds_every_epoch_and_moves_title_numbers_and_frames():
    rows = [
        (epoch, cell, False, edge, name, 0.1 + 0.01 * epoch * (k == epoch) - 0.01 * epoch / 10)
        for epoch in range(4)
        for cell in range(2)
        for edge in ("x->z1", "x->z2", "z1->z2")
        for k, name in enumerate(PRIMITIVES)
    ]
    alphas = pd.DataFrame(rows, columns=["epoch", "cell", "reduction", "edge", "primitive", "alpha"])
    figure = figures.alpha_epochs(alphas)
    (slider,) = figure.layout.sliders
    assert [step.label for step in slider.steps] == ["0", "1", "2", "3"] and slider.active == 3
    for epoch, step in enumerate(slider.steps):
        drawn, change = step.args
        assert drawn["z"][1][2][epoch] == pytest.approx(0.1 + 0.009 * epoch)
        assert f"epoch {epoch}" in change["title.text"]
        assert {frame["x0"] for frame in change["shapes"]} == {epoch - 0.48}
    assert [list(map(list, trace.z)) for trace in figure.data] == slider.steps[3].args[0]["z"]
    assert "bdata" not in figure.to_json()
