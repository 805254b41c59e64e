"""The script that counts Table I's costs, at a small size: every row has its own, the network made by hand among them."""

from __future__ import annotations

import numpy as np
import pytest
import scripts
import torch

from bionas.genotype import CellGenotype, Genotype
from bionas.network import DerivedNetwork, preset
from bionas.studies import published
from bionas.studies.table1.grid import table_one

SIZE, N = "tiny", 4


@pytest.fixture(scope="module")
def script():
    return scripts.loaded("table1_cost")


@pytest.fixture(scope="module")
def genotypes(script):
    return script.distributions(SIZE, N)


@pytest.fixture(scope="module")
def table(script, genotypes):
    return script.experiments(SIZE, genotypes, script.fusions(SIZE, genotypes))


def test_a_row_an_experiment_with_the_printed_figures_in_their_own_columns(table):
    paper = published.table("table1_ablation")
    assert table["exp_id"].tolist() == paper["exp_id"].tolist() == list(table_one())
    assert table["paper_gflops"].tolist() == paper["gflops"].tolist()
    assert table["fusion"].tolist() == [row.fusion for row in table_one().values()]
    assert table["gmacs_median"].notna().all() and table["weights_mb_median"].notna().all()


def test_the_network_made_by_hand_is_one_network(table):  # E012, "No NAS (Fixed)"
    row = table.set_index("exp_id").loc["E012"]
    config = preset(SIZE)
    normal, reduction = (
        ("sep_conv_3x3", "skip_connect", "sep_conv_3x3"),
        ("sep_conv_3x3", "max_pool_3x3", "sep_conv_3x3"),
    )
    cells = tuple(CellGenotype(reduction if r else normal, r) for r in config.reductions)
    with torch.device("meta"):
        network = DerivedNetwork(Genotype(cells, "full"), config, 20, (50, 100), 5)
    assert row["weights_mb_median"] == pytest.approx(sum(p.numel() for p in network.parameters()) * 4 / 2**20)
    assert (row["primitive_set"], row["n_genotypes"], row["gmacs_of_fusion"]) == ("fixed", 1, 0)
    assert np.isnan(row["gmacs_q25"]) and np.isnan(row["gmacs_q75"])


def test_medians_and_quartiles_are_those_of_the_genotypes_with_what_the_fusion_adds(table, genotypes):
    drawn = genotypes.loc[genotypes["primitive_set"] == "full", "gmacs"].to_numpy()
    row = table.set_index("exp_id").loc["E004"]
    quartiles = [row[f"gmacs_{q}"] - row["gmacs_of_fusion"] for q in ("q25", "median", "q75")]
    assert quartiles == pytest.approx(np.percentile(drawn, [25, 50, 75])) and row["gmacs_of_fusion"] > 0
    assert (table["n_genotypes"] == [1 if name == "E012" else N for name in table["exp_id"]]).all()


def test_the_line_through_the_medians_leaves_the_single_network_out(script, table, genotypes):
    lines = script.lines(genotypes, table).set_index("points")
    assert (
        lines.loc["medians of our sets and fusions: weights, GMACs", "n"] == 10
    )  # 8 fusions, 2 smaller sets
    assert lines.loc["the paper's experiments: memory, GFLOPs", "n"] == 15
