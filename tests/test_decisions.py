"""Margins, entropy and agreement of searches, by hand; theta rates and reach."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from bionas.errors import ChoiceError, GenotypeError
from bionas.genotype import CellGenotype, Genotype
from bionas.training.decisions import agreement, decisiveness
from bionas.training.recipe import FitConfig, SearchConfig, schedule_of, theta_rate


def test_margins_and_entropy_by_hand():
    alphas = torch.tensor([[[0.5, 0.3, 0.2], [1.0, 0.0, 0.0], [1 / 3] * 3]])
    found = decisiveness(alphas)
    assert np.allclose(found.margins, [[0.2, 1.0, 0.0]], atol=1e-7)
    by_hand = -(0.5 * math.log(0.5) + 0.3 * math.log(0.3) + 0.2 * math.log(0.2))
    assert np.allclose(found.entropy, [[by_hand, 0.0, math.log(3)]], atol=1e-6)
    assert found.least_margin == pytest.approx(0, abs=1e-7) and found.mean_margin == pytest.approx(0.4)


def test_agreement_is_the_mean_share_of_equal_edges_over_pairs():
    def genotype(*names):
        return Genotype((CellGenotype(names),))

    one = genotype("conv_1x1", "none", "sep_conv_3x3")
    two = genotype("conv_1x1", "max_pool_3x3", "sep_conv_3x3")
    three = genotype("sep_conv_5x5", "max_pool_3x3", "dil_conv_3x3")
    assert agreement([one, one]) == 1
    assert agreement([one, two, three]) == pytest.approx((2 / 3 + 0 + 1 / 3) / 3)
    assert np.isnan(agreement([one]))
    with pytest.raises(GenotypeError, match="same number of cells"):
        agreement([one, Genotype(one.cells * 2)])


def test_a_scaled_rate_gives_the_reach_of_one_epoch_at_the_papers_scale():
    for steps in (10, 100, 3510):
        assert theta_rate("scaled", steps) * steps == pytest.approx(3510 * 3e-4)
    assert theta_rate("scaled", 100_000) == theta_rate("paper", 10) == 3e-4
    assert theta_rate(1e-2, 10) == 1e-2
    with pytest.raises(ChoiceError, match="'paper' or 'scaled'"):
        SearchConfig(theta_learning_rate="scale")


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_a_warm_up_of_the_rate_rises_linearly_and_then_follows_the_schedule(schedule):
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    config = FitConfig(epochs=5, learning_rate=1.0, schedule=schedule)
    scheduler, rates = schedule_of(optimizer, config, steps=20, warmup=4), []
    for _ in range(20):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    rest = [(1 + math.cos(math.pi * i / 16)) / 2 if schedule == "cosine" else 1.0 for i in range(16)]
    assert rates[4:] == pytest.approx(rest)
