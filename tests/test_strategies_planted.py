"""Planted problems: spaces whose best genotype is known, on which every strategy has to beat random search."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import small
import torch
from test_strategies import ONE_CELL, planted

from bionas.cells import FoldedSum, Source
from bionas.errors import SearchError
from bionas.genotype import CellGenotype, Genotype
from bionas.network import NetworkConfig
from bionas.operators import PRIMITIVE_SETS, PRIMITIVES, Primitive
from bionas.specimens.loader import BatchLoader
from bionas.strategies import STRATEGIES, Score, Space, Supernet, TableEvaluator, early_stopping
from bionas.strategies.differentiable import images_of_epoch
from bionas.strategies.early_stopping import eigenvalue, hessian_times
from bionas.strategies.fair_darts import Sigmoid
from bionas.strategies.gdas import GumbelPath
from bionas.strategies.halving import halved_brackets
from bionas.strategies.one_path import batch_statistics
from bionas.strategies.pc_darts import EdgeNormalised, PartialChannels
from bionas.strategies.synflow import synaptic_flow
from bionas.strategies.warm_start import designs
from bionas.training.fitting import Search
from bionas.training.recipe import SearchConfig
from bionas.training.runs import Run

CONFIG = NetworkConfig(image_size=16, channels=8, cells=1, stem_stride=2, dropout=0.0, embedding=4)
OPTIONS = {
    "enas": {"controller_steps": 20, "finalists": 6, "learning_rate": 0.02},
    "single_path": {"population": 4, "generations": 2},
    "pc_darts": {"share": 2},
    "beta_darts": {"largest_weight": 0.5},
    "fair_darts": {"zero_one_weight": 1.0},
}
SUPERNETS = sorted(name for name, one in STRATEGIES.items() if one.needs == "supernet")
SHARE = {"halving": 0.7, "recommended": 0.95, "dehb": 0.7, "hyperband": 0.9, "warm_start": 0.95}
"""Of random search's regret. Hyperband spends two thirds of its budget on brackets that judge late; a warm start has no one-epoch
trainings, and its designs know nothing of a planted problem."""
FIDELITIES = sorted(name for name, one in STRATEGIES.items() if one.needs == "fidelities")


class Scramble(Primitive):
    """Hands each image the features of another one: whatever it carries, it is not about this image."""

    def forward(self, x):
        return x[:, :, :: self.stride, :: self.stride].roll(1, dims=0)


@pytest.fixture
def scrambled(monkeypatch):
    """A space in which conv_1x1 carries what the image shows, and the other primitive nothing."""
    monkeypatch.setitem(PRIMITIVES._things, "scramble", Scramble)
    monkeypatch.setitem(PRIMITIVE_SETS, "planted", ("scramble", "conv_1x1"))
    return Space(CONFIG.reductions, "planted")


class Images:
    """A supernet over images alone whose class shows in one colour."""

    offers = frozenset({"supernet"})
    images, epochs = 0, 0

    def __init__(self, **choices):
        self.sides = small.sides(96, 48)
        self.choices = {"learning_rate": 1e-2, "theta_learning_rate": 5e-2, **choices}
        self.description = {"evaluator": "images", **self.choices}

    def supernet(self, space: Space, seed: int) -> Supernet:
        torch.manual_seed(seed)
        config = dataclasses.replace(CONFIG, shared_theta=space.shared)
        model = small.supernet(self.sides[2], seed, config, primitives=space.primitive_set)
        recipe = SearchConfig(seed=seed, batch_size=16, device="cpu", **self.choices)
        return Supernet(model, *self.sides, recipe, {})


# --- one strategy after the other -------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", SUPERNETS)
def test_a_supernet_finds_the_primitive_that_carries_information(name, scrambled):
    evaluate = Images()
    budget = 12 * sum(images_of_epoch(evaluate.supernet(scrambled, 0)))
    for seed in (0, 1):  # a random genotype has both edges right in one of four cases
        found = STRATEGIES[name](scrambled, evaluate, budget, seed, **OPTIONS.get(name, {}))
        assert found.images <= budget
        if name != "single_path":
            assert found.genotype.cells[0].operations[:2] == ("conv_1x1", "conv_1x1"), (name, seed)
            continue
        # One edge that carries information is enough for every photograph: such paths tie, above all others.
        informed = found.trace["genotype"].map(
            lambda text: "conv_1x1" in Genotype.from_json(text).cells[0].operations[:2]
        )
        scores = found.trace["score"]
        assert informed.nunique() == 2 and scores[informed].min() > scores[~informed].max()
        assert "conv_1x1" in found.genotype.cells[0].operations[:2]


@pytest.mark.slow
def test_derivation_by_perturbation_finds_it_where_argmax_is_misled(scrambled, tmp_path):
    class Misled(Images):
        """theta begins at the wrong primitive and hardly moves: argmax keeps it."""

        def supernet(self, space, seed):
            supernet = super().supernet(space, seed)
            with torch.no_grad():
                supernet.model.theta.copy_(torch.tensor([0.5, 0.0]).expand_as(supernet.model.theta))
            return supernet

    evaluate = Misled(theta_learning_rate=1e-6)
    budget = 14 * sum(images_of_epoch(evaluate.supernet(scrambled, 0)))
    argmax = STRATEGIES["gradient"](scrambled, evaluate, budget, 0).genotype
    assert argmax.cells[0].operations[:2] == ("scramble", "scramble")
    options = {"derivation": "perturbation", "folder": tmp_path}
    found = STRATEGIES["gradient"](scrambled, evaluate, budget, 0, **options)
    assert found.genotype.cells[0].operations[:2] == ("conv_1x1", "conv_1x1") and found.images <= budget
    (tmp_path / "done.json").unlink()  # killed before the result was written: resumed, the same result
    assert STRATEGIES["gradient"](scrambled, evaluate, budget, 0, **options).genotype == found.genotype


def fidelity_tables(seed: int) -> TableEvaluator:
    """Trainings of 1, 3 and 9 epochs; short ones rank genotypes with an error that falls with their length."""
    truth, generator = planted(ONE_CELL, seed), np.random.default_rng(seed)

    def table(epochs: int) -> TableEvaluator:
        noise = 0.1 * (1 / epochs - 1 / 9) * generator.standard_normal(len(truth))
        return TableEvaluator({key: s + e for (key, s), e in zip(truth.items(), noise)}, 10 * epochs, seed)

    tables = {epochs: table(epochs) for epochs in (1, 3, 9)}
    return TableEvaluator(tables[9].scores, 90, seed, fidelities=tables)


@pytest.mark.parametrize("name", FIDELITIES)
def test_many_short_trainings_find_more_than_few_long_ones(name):
    def regret(strategy: str, seed: int) -> float:
        table = fidelity_tables(seed)
        result = STRATEGIES[strategy](ONE_CELL, table, 90 * 12, seed)
        assert result.images <= 90 * 12
        return table.best() - table.mean(result.genotype)

    searched = np.mean([regret(name, seed) for seed in range(30)])
    chance = np.mean([regret("random", seed) for seed in range(30)])
    assert chance > 0.05 and searched < SHARE[name] * chance, (name, searched, chance)


def test_rungs_and_brackets_keep_to_the_rules():
    table = fidelity_tables(0)
    trace = STRATEGIES["halving"](ONE_CELL, table, 90 * 12, 0, eta=3).trace
    counts = trace.groupby("epochs").size()
    assert counts.index.tolist() == [1, 3, 9]
    assert counts[3] == int(counts[1] / 3) and counts[9] == int(counts[1] / 9)
    for short, long in ((1, 3), (3, 9)):  # those that go on are the best of the rung before
        before, after = trace[trace["epochs"] == short], trace[trace["epochs"] == long]
        best = before.sort_values("score", ascending=False, kind="stable")["key"].head(len(after))
        assert set(after["key"]) == set(best)
    trace = STRATEGIES["hyperband"](ONE_CELL, table, 90 * 12, 0).trace
    assert trace.groupby("bracket")["epochs"].min().tolist() == [1, 3, 9]
    trace = STRATEGIES["dehb"](ONE_CELL, table, 90 * 12, 0).trace
    assert trace["updates"].iloc[-1] >= 5 and (trace[trace["bracket"] > 0]["origin"] == "evolved").any()


def test_a_warm_start_begins_at_the_designs_and_mutates_the_best():
    table = fidelity_tables(0)
    trace = STRATEGIES["warm_start"](ONE_CELL, table, 90 * 12, 0).trace
    known = [genotype.key() for genotype in designs(ONE_CELL).values()]
    assert trace["key"].tolist()[: len(known)] == known and trace["origin"].tolist()[: len(known)] == [
        "design"
    ] * len(known)
    assert {"mutant", "random", "promoted"} <= set(trace["origin"]) and trace["updates"].iloc[-1] >= 5
    first = trace[(trace["bracket"] == 0) & (trace["rung"] == 0)]
    assert first["key"].is_unique
    without = STRATEGIES["warm_start"](ONE_CELL, table, 90 * 12, 0, random_share=0.0).trace
    assert "random" not in set(without["origin"])
    assert trace["epochs"].min() == 3  # a training of one epoch is below `shortest`
    assert STRATEGIES["warm_start"](ONE_CELL, table, 90 * 12, 0, shortest=1).trace["epochs"].min() == 1
    for wrong in ({"random_share": 2.0}, {"shortest": 0}):
        with pytest.raises(SearchError, match=next(iter(wrong))):
            STRATEGIES["warm_start"](ONE_CELL, table, 90 * 12, 0, **wrong)


def test_a_budget_is_divided_into_brackets_only_where_each_of_them_can_choose():
    table = fidelity_tables(0)
    for candidates, number in ((3, 1), (7, 2), (12, 3)):
        brackets = halved_brackets(table, 90 * candidates, 3)
        assert len(brackets) == number and (number == 1 or brackets[-1][0].candidates >= 9)
        assert sum(n * table.at(epochs).images for of in brackets for epochs, n in of) <= 90 * candidates


def test_a_warm_start_is_random_where_no_design_fits():
    space = Space((True,), "conv_only")
    assert designs(space) == {}
    scores = {g.key(): float(i) for i, g in enumerate(space.all())}
    tables = {n: TableEvaluator(scores, 10 * n) for n in (1, 3, 9)}
    table = TableEvaluator(scores, 90, fidelities=tables)
    trace = STRATEGIES["warm_start"](space, table, 90 * 4, 0, random_share=0.0).trace
    assert set(trace[trace["bracket"] == 0]["origin"]) <= {"random", "promoted"}


# --- controls ---------------------------------------------------------------------------------------------------------


class Untrained:
    """Networks of one cell whose MACs are the sum of their choices."""

    offers = frozenset({"networks"})
    images = epochs = 0
    description: dict = {}

    def __init__(self, macs_limit: float = np.inf):
        self.macs_limit = macs_limit

    def macs(self, genotype: Genotype) -> int:
        return int((5 - ONE_CELL.encode(genotype)).sum())

    def __call__(self, genotype: Genotype) -> Score:
        raise AssertionError("nothing is trained")


def test_most_macs_is_the_most_expensive_within_the_limit(tmp_path):
    found = STRATEGIES["most_macs"](ONE_CELL, Untrained(), 0, seed=3, folder=tmp_path)
    assert ONE_CELL.encode(found.genotype).tolist() == [0, 0, 0] and found.images == 0
    assert (
        STRATEGIES["most_macs"](ONE_CELL, Untrained(), 0, seed=3, folder=tmp_path).genotype == found.genotype
    )
    for seed in range(5):
        limited = STRATEGIES["most_macs"](ONE_CELL, Untrained(7), 0, seed=seed).genotype
        assert Untrained().macs(limited) == 7


def test_synaptic_flow_of_a_linear_network_is_the_product_of_its_absolute_weights():
    class Linear(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = torch.nn.Linear(3, 2, bias=False), torch.nn.Linear(2, 1, bias=False)

        def forward(self, image, metadata):
            return self.second(self.first(image.mean(dim=(2, 3))))

    network, empty = Linear(), small.specimens(1)
    flow = network.second.weight.detach().abs() @ network.first.weight.detach().abs() @ torch.ones(3, 1)
    encoding = small.sides()[2]
    metadata = next(BatchLoader(empty, encoding, 1, shuffle=False).epoch(0)).metadata
    # Each of the two layers carries the whole output once: sum |w dR/dw| = 2 R.
    assert synaptic_flow(network, torch.ones(1, 3, 4, 4), metadata) == pytest.approx(
        np.log(2 * flow.item()), rel=1e-5
    )


# --- the parts of the differentiable variants -------------------------------------------------------------------------


def test_gumbel_path_draws_the_softmax_and_passes_its_gradient():
    theta = torch.tensor([[[1.0, 0.0, -1.0]] * 3], requires_grad=True)
    path = GumbelPath(1.0, 0.1).train()
    torch.manual_seed(0)
    draws = torch.stack([path(theta)[0, 0].detach() for _ in range(4000)])
    assert set(draws.unique().tolist()) == {0.0, 1.0} and (draws.sum(1) == 1).all()
    torch.testing.assert_close(draws.mean(0), torch.softmax(theta[0, 0], 0).detach(), atol=0.03, rtol=0)
    (path(theta) * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert theta.grad.abs().sum() > 0
    assert path.eval()(theta)[0, 0].tolist() == [1.0, 0.0, 0.0]


def test_partial_channels_compute_one_share_and_pass_the_others():
    names = ("skip_connect", "none")
    edge = PartialChannels(8, 1, names, share=4)
    x, alpha = torch.randn(2, 8, 5, 5), torch.tensor([0.25, 0.75])
    out = edge(Source(x), alpha, [True, True])
    assert sum(p.numel() for p in edge.parameters()) == 0 and isinstance(edge, FoldedSum)
    # Channel i of share j goes to place 4 i + j: of each group of four, the first is the mixed one.
    for j in range(4):
        expected = x[:, 2 * j : 2 * j + 2] * (0.25 if j == 0 else 1.0)
        torch.testing.assert_close(out[:, j::4], expected)
    strided = PartialChannels(8, 2, ("avg_pool_3x3", "none"), share=4)
    assert strided(Source(x), alpha, [True, True]).shape == (2, 8, 3, 3)


def test_edge_weights_share_what_enters_a_node_and_sigmoids_do_not_compete():
    weights = EdgeNormalised(4).edge_weights()
    assert weights[:, 0].eq(1).all() and torch.allclose(weights[:, 1:].sum(1), torch.ones(4))
    theta = torch.zeros(1, 3, 4)
    raised = theta.clone()
    raised[..., 0] = 2.0
    relaxation = Sigmoid()
    assert torch.equal(relaxation(raised)[..., 1:], relaxation(theta)[..., 1:])
    assert torch.allclose(relaxation.alpha(raised).sum(-1), torch.ones(1, 3))


def test_the_eigenvalue_is_the_largest_of_the_hessian_in_theta(tmp_path, monkeypatch):
    supernet = Images().supernet(Space(CONFIG.reductions, "reduced"), 0)
    sides = supernet.train, supernet.val, supernet.encoding
    trainer = Search(supernet.model, *sides, supernet.config, Run(tmp_path)).prepare()
    net = trainer.supernet
    with torch.no_grad():  # away from uniform, where the Hessian is nearly degenerate
        net.theta.copy_(torch.randn(net.theta.shape, generator=torch.Generator().manual_seed(0)))
    monkeypatch.setattr(early_stopping, "ITERATIONS", 80)
    found = eigenvalue(trainer)
    batch = next(trainer.val_loader.epoch(0))
    n = net.theta.numel()
    with batch_statistics(net):
        units = torch.eye(n).view(n, *net.theta.shape)
        hessian = torch.stack([hessian_times(trainer, batch, unit).flatten() for unit in units])
    torch.testing.assert_close(hessian, hessian.T, atol=1e-4, rtol=1e-2)
    eigenvalues = torch.linalg.eigvalsh((hessian + hessian.T) / 2)
    assert found == pytest.approx(eigenvalues.max().item(), rel=0.1)


def test_a_rising_eigenvalue_ends_the_search_and_goes_back(tmp_path, monkeypatch):
    space = Space(CONFIG.reductions, "reduced")
    values = iter([1.0, 1.0, 1.0, 2.0, 9.0, 9.0])
    monkeypatch.setattr(early_stopping, "eigenvalue", lambda search: next(values))
    evaluate = Images()
    per_epoch = sum(images_of_epoch(evaluate.supernet(space, 0)))
    options = {"window": 1, "back": 1, "ratio": 0.75}
    found = STRATEGIES["early_stopping"](space, evaluate, 8 * per_epoch, 0, folder=tmp_path, **options)
    assert "dominant eigenvalue rose from 1 to 2" in found.stopped and len(found.trace) == 4
    assert Run(tmp_path / "supernet").summary["derived_from_epoch"] == 3
    assert found.trace["key"].iloc[2] == found.genotype.key()


def test_genotypes_of_the_planted_space_are_valid(scrambled):
    assert Genotype((CellGenotype(("conv_1x1", "conv_1x1", "scramble"), True),), "planted").key()
    assert scrambled.distinct <= 8
