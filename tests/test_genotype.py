"""Section III-B.2: "the operation with the highest alpha", and what a genotype is as data."""

from __future__ import annotations

import itertools
import json
import xml.etree.ElementTree as ET
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies

from bionas.errors import BionasError, GenotypeError
from bionas.figures.drawings.cells import cell_svg
from bionas.figures.palette import PRIMITIVE_COLORS, class_color
from bionas.genotype import EDGES, CellGenotype, Genotype, cell_key, derive, derive_cell, space_size
from bionas.operators import PRIMITIVE_SETS

FULL = PRIMITIVE_SETS["full"]
ALL_CELLS = list(itertools.product(FULL, repeat=3))
SOME = Genotype(
    (
        CellGenotype(("sep_conv_3x3", "skip_connect", "max_pool_3x3")),
        CellGenotype(("none", "dil_conv_5x5", "none"), reduction=True),
    )
)


def edge_alpha(**weights: float) -> list[float]:
    """Alpha of one edge over the full set: the named weights, the rest shared by the others."""
    rest = (1 - sum(weights.values())) / (len(FULL) - len(weights))
    return [weights.get(name, rest) for name in FULL]


# --- derivation ---------------------------------------------------------------------------------------------------


def test_each_edge_takes_the_operation_with_the_highest_alpha():
    alpha = [edge_alpha(conv_1x1=0.4), edge_alpha(skip_connect=0.3), edge_alpha(max_pool_3x3=0.2)]
    genotype = derive([alpha], FULL, [True])
    assert genotype.cells == (CellGenotype(("conv_1x1", "skip_connect", "max_pool_3x3"), True),)
    assert genotype.removed_edges() == ()


def test_a_winning_none_removes_the_edge():
    genotype = derive([[edge_alpha(conv_1x1=0.4), edge_alpha(none=0.3), edge_alpha(none=0.9)]], FULL, [False])
    assert genotype.cells[0].operations == ("conv_1x1", "none", "none")
    assert genotype.removed_edges() == ((0, "x->z2"), (0, "z1->z2"))


def test_without_removal_the_best_other_primitive_takes_the_edge():
    alpha = [
        edge_alpha(conv_1x1=0.4),
        edge_alpha(none=0.5, max_pool_3x3=0.2),
        edge_alpha(none=0.9, conv_1x1=0.05),
    ]
    kept = derive([alpha], FULL, [False], removable=False)
    assert kept.cells[0].operations == ("conv_1x1", "max_pool_3x3", "conv_1x1") and kept.removed_edges() == ()
    assert derive([alpha], FULL, [False]).cells[0].operations == ("conv_1x1", "none", "none")


def test_a_cell_cut_in_two_keeps_the_best_other_primitive_of_the_edges_from_x():
    alpha = [
        edge_alpha(none=0.8, conv_1x1=0.1),
        edge_alpha(none=0.6, avg_pool_3x3=0.2),
        edge_alpha(conv_1x1=0.5),
    ]
    assert derive_cell(alpha, FULL) == ("none", "avg_pool_3x3", "none")  # z1 stays empty: z1->z2 goes with it
    assert derive_cell([alpha[1], alpha[0], alpha[2]], FULL) == ("avg_pool_3x3", "none", "conv_1x1")


def test_equal_alphas_take_the_first_in_the_order_of_the_registry():
    assert derive_cell(np.full((3, 10), 0.1), FULL) == ("sep_conv_3x3",) * 3
    tie = [edge_alpha(none=0.8, conv_1x1=0.1), edge_alpha(none=0.8, conv_1x1=0.1), edge_alpha(conv_1x1=0.5)]
    assert derive_cell(tie, FULL)[:2] == ("conv_1x1", "none")


@pytest.mark.parametrize("name", PRIMITIVE_SETS)
def test_random_alphas_derive_a_path_and_otherwise_the_argmax(name):
    names = PRIMITIVE_SETS[name]
    generator = np.random.default_rng(0)
    alphas = generator.dirichlet([0.3] * len(names), size=(300, 3))
    if "none" in names:  # make the rule matter: half the cells favour `none` on both edges from x
        alphas[::2, :2, names.index("none")] += 1
        alphas /= alphas.sum(axis=2, keepdims=True)
    genotype = derive(torch.tensor(alphas), names, [False] * 300, name)
    rescued = 0
    for alpha, cell in zip(alphas, genotype.cells):
        best = [names[k] for k in alpha.argmax(axis=1)]
        assert cell.has_path
        if best[:2] == ["none", "none"]:
            rescued += 1
            weight = {
                (edge, k): alpha[edge, k] for edge in (0, 1) for k in range(len(names)) if names[k] != "none"
            }
            edge, k = max(weight, key=weight.get)
            best[edge] = names[k]
        if best[0] == "none":
            best[2] = "none"
        assert cell.operations == tuple(best)
    assert rescued > 100 or "none" not in names


@pytest.mark.parametrize(
    ("alphas", "message"),
    [
        (np.full((3, 10), 0.1), "shape"),
        (np.full((1, 2, 10), 0.1), "shape"),
        (np.zeros((0, 3, 10)), "shape"),
        (np.full((1, 3, 9), 1 / 9), "shape"),
        (np.full((1, 3, 10), np.nan), "not finite"),
        (np.eye(10)[None, :3] * 2 - 0.1, "negative"),
        (np.full((1, 3, 10), 0.2), "softmax"),
        (np.full((2, 3, 10), 0.1), "reductions"),
    ],
)
def test_alphas_that_are_no_softmax_are_refused(alphas, message):
    with pytest.raises(GenotypeError, match=message):
        derive(alphas, FULL, [False])


def test_primitives_of_another_set_are_refused():
    with pytest.raises(GenotypeError, match="primitive set 'reduced'"):
        derive(np.full((1, 3, 10), 0.1), FULL, [False], "reduced")


# --- the key: isomorphic cells, and only they, read the same --------------------------------------------------------


def computed_maps(operations, reduction, weights, x):
    """The cell run on numbers: each primitive is a non-linear function, with weights of its own edge where it learns.

    Independent of `cell_key`: nothing symbolic here. Returns {z1, z2} as an unordered pair of rounded values.
    """

    def apply(edge, value):
        name = operations[edge]
        if name == "none":
            return np.zeros_like(x)
        if name == "skip_connect" and not (reduction and edge < 2):
            return value
        function = FULL.index(name) + 2
        learned = 0.0 if name in ("avg_pool_3x3", "max_pool_3x3") else weights[edge]
        return np.sin(function * value + function**0.5 * value**2 * (1 + learned)) if value.any() else value

    z1 = apply(0, x)
    z2 = apply(1, x) + apply(2, z1)
    return tuple(sorted((tuple(np.round(z1, 9) + 0.0), tuple(np.round(z2, 9) + 0.0))))


@pytest.mark.parametrize(("reduction", "classes"), [(False, 818), (True, 863)])
def test_keys_are_equal_exactly_where_some_weights_make_the_cells_compute_the_same(reduction, classes):
    # Two cells are the same where a renaming of the learned weights makes their outputs equal. There are three edges,
    # so a cell's weights are tried in every order: the set of results over all orders names the class.
    x = np.array([0.37, -0.61, 0.83])
    by_result, by_key = {}, {}
    for operations in ALL_CELLS:
        results = frozenset(
            computed_maps(operations, reduction, weights, x)
            for weights in itertools.permutations((0.11, 0.23, 0.47))
        )
        by_result.setdefault(results, set()).add(operations)
        by_key.setdefault(cell_key(operations, reduction), set()).add(operations)
    assert sorted(map(sorted, by_result.values())) == sorted(map(sorted, by_key.values()))
    assert len(by_key) == classes


def test_the_three_named_isomorphisms():
    assert cell_key(("none", "conv_1x1", "skip_connect")) == cell_key(("none", "conv_1x1", "dil_conv_3x3"))
    assert cell_key(("conv_1x1", "sep_conv_3x3", "none")) == cell_key(("sep_conv_3x3", "conv_1x1", "none"))
    skip_first = ("skip_connect", "conv_1x1", "max_pool_3x3")
    skip_first_swapped = ("skip_connect", "max_pool_3x3", "conv_1x1")
    assert cell_key(skip_first) == cell_key(skip_first_swapped)
    assert cell_key(skip_first, True) != cell_key(
        skip_first_swapped, True
    )  # a strided skip learns: it is no identity


def test_one_convolution_seen_twice_is_not_two_convolutions():
    assert cell_key(("conv_1x1", "none", "skip_connect")) != cell_key(("conv_1x1", "conv_1x1", "none"))
    assert cell_key(("max_pool_3x3", "none", "skip_connect")) == cell_key(
        ("max_pool_3x3", "max_pool_3x3", "none")
    )


def test_key_of_a_genotype_tells_depth_and_reduction():
    cell = ("conv_1x1", "conv_1x1", "conv_1x1")
    keys = {
        Genotype((CellGenotype(cell),)).key(),
        Genotype((CellGenotype(cell, True),)).key(),
        Genotype((CellGenotype(cell), CellGenotype(cell))).key(),
    }
    assert len(keys) == 3


def test_space_size():
    assert space_size(1) == len(ALL_CELLS) == 1000
    assert space_size(6) == 10**18
    assert space_size(2, "conv_only") == 4**6


# --- random ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRIMITIVE_SETS)
def test_random_genotypes_have_paths_are_reproducible_and_use_their_set(name):
    reductions = [index % 3 == 1 for index in range(400)]
    one = Genotype.random(400, reductions, name, np.random.default_rng(5))
    assert one == Genotype.random(400, reductions, name, np.random.default_rng(5))
    assert one.reductions == tuple(reductions)
    used = Counter(operation for cell in one.cells for operation in cell.operations)
    assert set(used) == set(PRIMITIVE_SETS[name])
    assert all(cell.has_path for cell in one.cells)
    assert all(cell.operations[2] == "none" for cell in one.cells if cell.operations[0] == "none")


# --- JSON -----------------------------------------------------------------------------------------------------------


def test_json_round_trip(tmp_path):
    for seed in range(20):
        genotype = Genotype.random(
            5, [False, True, False, True, False], generator=np.random.default_rng(seed)
        )
        assert Genotype.from_json(genotype.to_json()) == genotype
    SOME.save(tmp_path / "deep" / "genotype.json")
    assert Genotype.load(tmp_path / "deep" / "genotype.json") == SOME
    assert json.loads(SOME.to_json())["cells"][1] == {
        "reduction": True,
        "x->z1": "none",
        "x->z2": "dil_conv_5x5",
        "z1->z2": "none",
    }


def changed(**fields):
    return json.dumps({**json.loads(SOME.to_json()), **fields})


def changed_cell(**fields):
    content = json.loads(SOME.to_json())
    content["cells"][1].update(fields)
    return json.dumps(content)


def without(*path):
    content = json.loads(SOME.to_json())
    inner = content
    for step in path[:-1]:
        inner = inner[step]
    del inner[path[-1]]
    return json.dumps(content)


MALFORMED = {
    "empty": ("", "not valid JSON"),
    "python": ("Genotype(normal=[('sep_conv_3x3', 1)])", "not valid JSON"),
    "cut short": (SOME.to_json()[:60], "not valid JSON"),
    "a list": ("[]", "format: expected 'bionas-genotype', found a list"),
    "a number": ("3", "format"),
    "deeply nested": ("[" * 100_000, "not valid JSON"),
    "another format": (changed(format="darts"), "format: .*'darts'"),
    "no format": (without("format"), "format"),
    "newer version": (changed(version=2), "version: 2 is newer"),
    "version true": (changed(version=True), "version: expected 1, found True"),
    "version text": (changed(version="1"), "version"),
    "version zero": (changed(version=0), "version"),
    "no version": (without("version"), "version"),
    "no set": (without("primitive_set"), "'primitive_set' is missing"),
    "unknown set": (changed(primitive_set="ful"), "primitive_set: .*'ful'.*'full'"),
    "set of a wrong type": (changed(primitive_set=["full"]), "primitive_set"),
    "outside its set": (
        changed(primitive_set="conv_only"),
        r"cells\[0\], edge 'x->z2': 'skip_connect' is not in",
    ),
    "extra field": (changed(comment="mine"), "'comment' is not a field"),
    "no cells": (without("cells"), "'cells' is missing"),
    "empty cells": (changed(cells=[]), "cells is empty"),
    "cells an object": (changed(cells={}), "cells: expected a list of cells, found an object"),
    "cells null": (changed(cells=None), "cells: .*null"),
    "a cell that is a list": (changed(cells=[["conv_1x1"] * 3]), r"cells\[0\]: expected a cell"),
    "unknown primitive": (
        changed_cell(**{"x->z1": "sep_conv_3x4"}),
        r"cells\[1\]\['x->z1'\]: .*'sep_conv_3x3'",
    ),
    "primitive a number": (changed_cell(**{"x->z2": 3}), r"cells\[1\]\['x->z2'\]: .*the number 3"),
    "primitive true": (changed_cell(**{"x->z2": True}), r"cells\[1\]\['x->z2'\]: .*found true"),
    "primitive null": (changed_cell(**{"z1->z2": None}), r"cells\[1\]\['z1->z2'\]: .*null"),
    "missing edge": (without("cells", 1, "z1->z2"), r"cells\[1\]: 'z1->z2' is missing"),
    "extra edge": (changed_cell(**{"z2->z3": "conv_1x1"}), r"cells\[1\]: 'z2->z3' is not a field"),
    "no reduction": (without("cells", 0, "reduction"), r"cells\[0\]: 'reduction' is missing"),
    "reduction one": (changed_cell(reduction=1), r"cells\[1\]\['reduction'\]: expected true or false"),
    "reduction text": (changed_cell(reduction="yes"), r"cells\[1\]\['reduction'\]"),
    "no path": (changed_cell(**{"x->z2": "none"}), r"cells\[1\]: 'x->z1' and 'x->z2' are both 'none'"),
    "a field twice": (
        SOME.to_json().replace('"version": 1', '"version": 1, "version": 1'),
        "'version' appears twice",
    ),
}


@pytest.mark.parametrize(("text", "message"), MALFORMED.values(), ids=MALFORMED)
def test_malformed_json_is_refused_by_field(text, message, tmp_path):
    with pytest.raises(GenotypeError, match=message):
        Genotype.from_json(text)
    path = tmp_path / "genotype.json"
    path.write_text(text)
    with pytest.raises(GenotypeError, match=r"genotype\.json: "):
        Genotype.load(path)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(GenotypeError, match="nowhere.json: cannot be read"):
        Genotype.load(tmp_path / "nowhere.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(GenotypeError, match="UTF-8"):
        Genotype.load(tmp_path / "binary.json")
    with pytest.raises(GenotypeError, match="bytes|text"):
        Genotype.from_json(None)
    with pytest.raises(BionasError):
        SOME.save(tmp_path / "binary.json" / "below" / "a" / "file.json")


@pytest.mark.parametrize(
    "operations",
    [("conv_1x1",) * 2, "conv_1x1", 3, ("conv_1x1", "conv_1x1", None), ("conv_1x1", "conv_1x1", "conv")],
)
def test_a_cell_of_something_else_is_refused(operations):
    with pytest.raises(GenotypeError):
        CellGenotype(operations)
    with pytest.raises(GenotypeError, match="reduction"):
        CellGenotype(("conv_1x1",) * 3, reduction=2)


def test_a_genotype_that_does_not_fit_says_so():
    SOME.require(reductions=[False, True], primitive_set="full")
    with pytest.raises(GenotypeError, match=r"2 cells \(nR.*4 cells \(nRnR"):
        SOME.require(reductions=[False, True, False, True])
    with pytest.raises(GenotypeError, match="'full'.*'reduced'"):
        SOME.require(primitive_set="reduced")


# --- words and drawings ---------------------------------------------------------------------------------------------


def test_describe_writes_the_equations():
    assert SOME.describe().splitlines() == [
        "2 cells from the primitive set 'full'",
        "cell 0 (normal): z1 = sep_conv_3x3(x); z2 = skip_connect(x) + max_pool_3x3(z1)",
        "cell 1 (reduction): z1 = 0; z2 = dil_conv_5x5(x)",
        "removed edges: x->z1 of cell 1, z1->z2 of cell 1",
    ]


def test_drawings_are_svg_that_stands_alone():
    for svg in (
        SOME._repr_mimebundle_()[0]["image/svg+xml"],
        cell_svg(("conv_1x1", "none", "none"), title="a < b & c", reduction=True),
    ):
        root = ET.fromstring(svg)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert root.get("viewBox") and root.get("width") == "100%"
        assert root[0].tag.endswith("title") and root[0].text  # the accessible name comes first
    words = "".join(ET.fromstring(SOME.to_svg("Found")).itertext())
    assert "Found" in words and all(name in words for cell in SOME.cells for name in cell.operations)


def test_edges_wear_the_colour_of_their_primitive_and_removed_ones_do_not():
    svg = cell_svg(("conv_1x1", "none", "max_pool_3x3"), alphas=(0.5, 0.3, 0.2))
    assert PRIMITIVE_COLORS["conv_1x1"] in svg and PRIMITIVE_COLORS["max_pool_3x3"] in svg
    assert svg.count("stroke-dasharray") == 2  # the removed edge and its label
    assert "0.50" in svg and "0.30" in svg


def test_every_primitive_has_a_colour_and_every_class_one_of_its_own():
    assert tuple(PRIMITIVE_COLORS) == FULL
    assert len(set(PRIMITIVE_COLORS.values())) == len(FULL)
    names = ("Diptera", "bee fly", "ant", "Other", "robber fly")
    colors = [class_color(index, names) for index in range(len(names))]
    assert len(set(colors)) == len(names)
    assert colors == [class_color(name, names[::-1]) for name in names]


def test_edges_are_those_of_eqs_7_and_8():
    assert EDGES == ("x->z1", "x->z2", "z1->z2")


# --- per node (section III-A.1) -------------------------------------------------------------------------------------


def test_per_node_each_node_keeps_its_highest_primitive():
    names = ("conv_1x1", "max_pool_3x3", "skip_connect", "none")
    x_to_z2_wins = [[0.7, 0.1, 0.1, 0.1], [0.1, 0.6, 0.2, 0.1], [0.5, 0.2, 0.2, 0.1]]
    z1_to_z2_wins = [[0.7, 0.1, 0.1, 0.1], [0.1, 0.5, 0.3, 0.1], [0.1, 0.1, 0.6, 0.2]]
    tie = [[0.7, 0.1, 0.1, 0.1], [0.1, 0.6, 0.2, 0.1], [0.6, 0.2, 0.1, 0.1]]
    assert derive_cell(x_to_z2_wins, names, "node") == ("conv_1x1", "max_pool_3x3", "none")
    assert derive_cell(z1_to_z2_wins, names, "node") == ("conv_1x1", "none", "skip_connect")
    assert derive_cell(tie, names, "node") == ("conv_1x1", "max_pool_3x3", "none")
    assert derive_cell(x_to_z2_wins, names) == ("conv_1x1", "max_pool_3x3", "conv_1x1")
    empty = [[0.2, 0.1, 0.1, 0.6], [0.1, 0.3, 0.2, 0.4], [0.7, 0.1, 0.1, 0.1]]  # no path: the repair rule
    assert derive_cell(empty, names, "node") == ("none", "max_pool_3x3", "none")
    with pytest.raises(GenotypeError, match="per is 'cell'"):
        derive(np.full((1, 3, 10), 0.1), FULL, [False], per="cell")


# --- properties -----------------------------------------------------------------------------------------------------

CHOSEN = strategies.tuples(*[strategies.sampled_from(FULL)] * 3).filter(
    lambda names: names[:2] != ("none", "none")
)
GENOTYPES = strategies.lists(strategies.builds(CellGenotype, CHOSEN, strategies.booleans()), min_size=1).map(
    lambda cells: Genotype(tuple(cells))
)


@settings(deadline=None, max_examples=60)
@given(GENOTYPES)
def test_json_returns_the_genotype_that_was_written(genotype):
    text = genotype.to_json()
    again = Genotype.from_json(text)
    assert again == genotype and again.to_json() == text and again.key() == genotype.key()


@pytest.mark.slow
@settings(deadline=None, max_examples=150)
@given(GENOTYPES, strategies.data())
def test_a_damaged_json_is_refused_or_is_another_genotype(genotype, data):
    """Any change to one character gives a GenotypeError, or a genotype that writes itself consistently; never a crash."""
    text = genotype.to_json()
    at = data.draw(strategies.integers(0, len(text) - 1))
    damaged = text[:at] + data.draw(strategies.characters(codec="utf-8")) + text[at + 1 :]
    try:
        read = Genotype.from_json(damaged)
    except GenotypeError:
        return
    assert Genotype.from_json(read.to_json()) == read
