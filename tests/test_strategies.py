"""Search strategies that train candidates one by one: the space they move in, what they are promised and what they promise."""

from __future__ import annotations

import itertools
import json
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch

from bionas import strategies
from bionas.errors import CheckpointError, GenotypeError, SearchError, UnknownName
from bionas.genotype import CellGenotype, Genotype
from bionas.operators import PRIMITIVE_SETS
from bionas.strategies import STRATEGIES, Score, Space, TableEvaluator
from bionas.strategies.controller import Controller, PolicyGradient
from bionas.strategies.evolutionary import Ageing
from bionas.strategies.nao import Ascent
from bionas.strategies.searching import PATIENCE

ONE_CELL = Space((True,), "reduced")
BY_CHILDREN = sorted(name for name, one in STRATEGIES.items() if one.needs == "children")
SEARCHING = sorted(set(BY_CHILDREN) - {"fixed"})
COMMON = ["index", "key", "genotype", "score", "images", "seconds", "core_seconds"]


def planted(space: Space, seed: int) -> dict[str, float]:
    """A score for every key: each edge adds what its primitive is worth there, so that one genotype is the best."""
    worth = np.random.default_rng([7, seed]).normal(size=(space.choices, len(space.primitives)))
    return {
        genotype.key(): 0.5 + 0.05 * sum(worth[i, k] for i, k in enumerate(space.encode(genotype)))
        for genotype in space.all()
    }


class Counting(TableEvaluator):
    """A table that remembers what it was asked."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.asked: list[Genotype] = []

    def __call__(self, genotype: Genotype) -> Score:
        self.asked.append(genotype)
        return super().__call__(genotype)


def without_times(trace: pd.DataFrame) -> pd.DataFrame:
    return trace.drop(columns=["seconds", "core_seconds"])


# --- the space --------------------------------------------------------------------------------------------------------


def test_every_genotype_of_a_small_space_is_there_once():
    names = PRIMITIVE_SETS["reduced"]
    keys = set()
    for operations in itertools.product(names, repeat=3):
        if operations[:2] != ("none", "none"):
            keys.add(Genotype((CellGenotype(operations, True),), "reduced").key())
    listed = [genotype.key() for genotype in ONE_CELL.all()]
    assert ONE_CELL.size == 216 and len(listed) == ONE_CELL.distinct == len(keys) == 169
    assert set(listed) == keys
    two = Space((False, True), "conv_only")
    assert len({genotype.key() for genotype in two.all()}) == two.distinct == 64**2


@pytest.mark.parametrize(
    "space", [ONE_CELL, Space((False, True, True)), Space((False, True, True), shared=True)]
)
def test_what_is_drawn_mutated_and_decoded_is_of_the_space(space):
    generator = np.random.default_rng(3)
    for _ in range(60):
        genotype = space.random(generator)
        choices = space.encode(genotype)
        assert choices.shape == (space.choices,) and space.decode(choices) == genotype
        assert space.one_hot(genotype).argmax(axis=1).tolist() == choices.tolist()
        assert space.canonical(genotype).key() == genotype.key()
        mutant = space.mutate(genotype, generator)
        changed = np.flatnonzero(space.encode(mutant) != choices)
        assert mutant.key() != genotype.key()
        cells = set(changed // 3)
        assert len(cells) == 1
        # One edge; where x->z1 was taken away, z1->z2 goes with it.
        lost_z1 = (
            len(changed) == 2
            and changed[0] % 3 == 0
            and mutant.cells[changed[0] // 3].operations[0] == "none"
        )
        assert len(changed) == 1 or lost_z1
        if space.shared:
            assert len({cell.operations for cell in mutant.cells}) == 1


def test_isomorphic_genotypes_have_one_representative():
    for names in (("conv_1x1", "none", "none"), ("none", "conv_1x1", "none")):
        genotype = Genotype((CellGenotype(names, True),), "reduced")
        assert ONE_CELL.canonical(genotype).cells[0].operations == ("conv_1x1", "none", "none")


def test_whoever_follows_what_is_allowed_ends_at_a_path():
    space, generator = Space((False, True), "reduced"), np.random.default_rng(0)
    chosen = np.empty((400, 0), dtype=int)
    for _ in range(space.choices):
        allowed = space.allowed(chosen)
        picks = [generator.choice(np.flatnonzero(row)) for row in allowed]
        chosen = np.column_stack([chosen, picks])
    genotypes = [space.decode(row) for row in chosen]  # would raise without a path
    assert all(space.encode(genotype).tolist() == row.tolist() for genotype, row in zip(genotypes, chosen))
    assert {"none"} < {name for genotype in genotypes for name in genotype.cells[0].operations}


def test_what_is_not_a_space_or_not_of_it_is_refused(monkeypatch):
    with pytest.raises(SearchError, match="at least one cell"):
        Space(())
    with pytest.raises(UnknownName, match="'reduced'"):
        Space((True,), "reduce")
    monkeypatch.setitem(PRIMITIVE_SETS, "nothing", ("none",))
    with pytest.raises(SearchError, match="no genotype of this space has a path"):
        Space((True,), "nothing")
    with pytest.raises(SearchError, match="too many to list"):
        Space((False, True, True)).all()
    with pytest.raises(GenotypeError, match="both 'none'"):
        ONE_CELL.decode([5, 5, 0])
    with pytest.raises(GenotypeError, match="indices"):
        ONE_CELL.decode([0, 6, 0])
    with pytest.raises(GenotypeError, match="cells differ"):
        Space((False, False), "reduced", shared=True).encode(
            Space((False, False), "reduced").decode([0, 0, 0, 1, 1, 1])
        )
    with pytest.raises(GenotypeError, match="the network has 1 cells"):
        ONE_CELL.encode(Space((True, True), "reduced").decode([0] * 6))


# --- what is known beforehand -----------------------------------------------------------------------------------------


def test_a_search_sees_one_training_and_is_judged_by_all():
    genotypes = list(ONE_CELL.all())[:40]
    table = TableEvaluator({g.key(): (0.1, 0.9) for g in genotypes}, images=5, seed=1)
    seen = [table(g) for g in genotypes]
    assert Counter(score.value for score in seen).keys() == {0.1, 0.9} and {
        score.images for score in seen
    } == {5}
    assert [table(g) for g in genotypes] == seen
    other = TableEvaluator(table.scores, images=5, seed=2)
    assert [other(g) for g in genotypes] != seen
    assert table.mean(genotypes[0]) == pytest.approx(0.5) and table.best() == pytest.approx(0.5)
    with pytest.raises(SearchError, match="is not in the table of 40"):
        table(list(ONE_CELL.all())[50])


def test_a_table_comes_from_a_row_a_training():
    key = next(ONE_CELL.all()).key()
    frame = pd.DataFrame({"key": [key, key], "val_accuracy": [0.2, 0.4], "images": [60, 60]})
    assert TableEvaluator.from_frame(frame).scores == {key: (0.2, 0.4)}
    with pytest.raises(SearchError, match="no column images"):
        TableEvaluator.from_frame(frame.drop(columns="images"))
    with pytest.raises(SearchError, match="different numbers of images"):
        TableEvaluator.from_frame(frame.assign(images=[60, 61]))


# --- what every strategy promises -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BY_CHILDREN)
def test_budget_trace_and_answer(name):
    table = Counting(planted(ONE_CELL, 0), images=30)
    result = STRATEGIES[name](ONE_CELL, table, 30 * 18 + 29, seed=4)
    trace = result.trace
    n = 1 if name == "fixed" else 18  # the rest of the budget is no whole candidate
    assert len(trace) == len(table.asked) == n and result.images == 30 * n <= 30 * 18 + 29
    assert trace.columns[: len(COMMON)].tolist() == COMMON
    assert trace["index"].tolist() == list(range(n)) and trace["images"].tolist() == [
        30 * (i + 1) for i in range(n)
    ]
    assert trace["key"].is_unique  # isomorphic genotypes are scored once
    assert (trace["proposals"].diff().dropna() >= 1).all()
    written = [Genotype.from_json(text) for text in trace["genotype"]]
    assert [g.key() for g in written] == trace["key"].tolist() and written == table.asked
    assert [table.scores[key][0] for key in trace["key"]] == trace["score"].tolist()
    assert result.genotype.key() == trace["key"][trace["score"].idxmax()]

    again = STRATEGIES[name](ONE_CELL, TableEvaluator(planted(ONE_CELL, 0), images=30), 30 * 18 + 29, seed=4)
    pd.testing.assert_frame_equal(without_times(again.trace), without_times(trace), check_exact=True)
    if name != "fixed":
        other = STRATEGIES[name](ONE_CELL, TableEvaluator(planted(ONE_CELL, 0), images=30), 30 * 18, seed=5)
        assert other.trace["key"].tolist() != trace["key"].tolist()


@pytest.mark.parametrize("name", BY_CHILDREN)
def test_global_random_state_is_neither_used_nor_touched(name):
    table = TableEvaluator(planted(ONE_CELL, 0), images=1)
    torch.manual_seed(0)
    np.random.seed(0)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    STRATEGIES[name](ONE_CELL, table, 14, seed=1)
    assert torch.equal(torch.get_rng_state(), before[0]) and np.random.get_state()[1].tolist() == before[1]


@pytest.mark.parametrize("name", SEARCHING)
def test_a_space_with_less_than_the_budget_ends_the_search(name, monkeypatch):
    monkeypatch.setitem(PRIMITIVE_SETS, "pair", ("conv_1x1", "none"))
    space = Space((True,), "pair")
    result = STRATEGIES[name](space, TableEvaluator(planted(space, 0), images=1), 1000, seed=0)
    assert len(result.trace) == space.distinct or "converged" in result.stopped
    if name == "random":
        assert (
            len(result.trace) == space.distinct and result.stopped == "every genotype of the space is scored"
        )


def test_random_is_without_replacement():
    result = STRATEGIES["random"](ONE_CELL, TableEvaluator(planted(ONE_CELL, 0), images=1), 10_000, seed=0)
    assert len(result.trace) == 169 and (result.trace["proposals"] == result.trace["index"] + 1).all()
    assert result.genotype.key() == max(planted(ONE_CELL, 0).items(), key=lambda item: item[1])[0]


@pytest.mark.slow
def test_a_controller_that_proposes_the_known_for_ever_has_converged():
    space = Space((True,), "reduced")
    steep = {key: 50 * score for key, score in planted(space, 1).items()}
    result = STRATEGIES["reinforce"](
        space, TableEvaluator(steep, 1), 169, seed=0, learning_rate=0.3, entropy_weight=0.0
    )
    assert result.stopped == f"converged: {PATIENCE} proposals in a row were scored before"
    assert result.images == len(result.trace) < 169


# --- better than chance -----------------------------------------------------------------------------------------------


def late_regret(name: str, seed: int) -> float:
    """How far the best candidate so far is from the best of the space, on average from the 26th candidate to the 50th."""
    table = TableEvaluator(planted(ONE_CELL, seed), images=1)
    scores = STRATEGIES[name](ONE_CELL, table, 50, seed=seed).trace["score"].to_numpy()
    held = np.maximum.accumulate(
        np.pad(scores, (0, 50 - len(scores)), mode="edge")
    )  # one that converged keeps its answer
    return table.best() - held[25:].mean()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "seeds"), [("evolutionary", 30), ("reinforce", 6), ("nao", 4)])
def test_a_planted_optimum_is_approached_sooner_than_by_chance(name, seeds):
    searched = np.array([late_regret(name, seed) for seed in range(seeds)])
    chance = np.array([late_regret("random", seed) for seed in range(seeds)])
    assert chance.mean() > 0.015  # there is something to gain
    assert searched.mean() < 0.7 * chance.mean(), (searched, chance)


# --- the single strategies --------------------------------------------------------------------------------------------


def test_the_oldest_dies_and_not_the_worst():  # Real et al. 2019, Algorithm 1
    space = Space((False, True), "reduced")
    ageing, scores, generator = Ageing(space, 0, population=4, tournament=2), [], np.random.default_rng(1)
    for i in range(12):
        genotype = ageing.propose()
        score = 1.0 if i == 0 else float(generator.random() / 2)
        columns = ageing.observe(genotype, score)
        scores.append(score)
        assert [member[1] for member in ageing.members] == scores[-4:]
        assert (columns["parent"] == "") == (i < 4) and columns["parent_age"] <= 4
    assert 1.0 not in [member[1] for member in ageing.members]  # the best of all, but the oldest


@pytest.mark.parametrize(("candidates", "population"), {5: 2, 10: 3, 30: 10, 100: 16}.items())
def test_most_of_a_budget_is_left_to_mutation(candidates, population, tmp_path):
    table = TableEvaluator(planted(ONE_CELL, 0), images=7)
    trace = STRATEGIES["evolutionary"](ONE_CELL, table, 7 * candidates, seed=0, folder=tmp_path).trace
    assert json.loads((tmp_path / "config.json").read_text())["options"]["population"] == population
    assert (trace["parent"] == "").sum() <= population < len(trace)


def test_a_tournament_of_many_takes_the_best_parent():
    space = Space((False, True), "reduced")
    ageing = Ageing(space, 0, population=5, tournament=200)
    for i in range(5):
        ageing.observe(ageing.propose(), float(i == 2))
    best = space.decode(ageing.members[2][0])
    for _ in range(5):
        child = ageing.propose()
        assert (space.encode(child) != space.encode(best)).sum() in (1, 2)
        assert sum(a != b for a, b in zip(child.cells, best.cells)) == 1


def test_the_controllers_probabilities_are_a_distribution_over_genotypes_with_a_path():
    space = ONE_CELL
    torch.manual_seed(2)
    controller = Controller(space, hidden=16)
    with torch.no_grad():
        controller.head.weight.mul_(40)  # away from uniform
    none = space.primitives.index("none")
    rows = np.array(
        [
            choices
            for choices in itertools.product(range(6), repeat=3)
            if choices[:2] != (none, none) and (choices[0] != none or choices[2] == none)
        ]
    )
    with torch.no_grad():
        log_p, entropy = controller.log_prob(rows)
    p = log_p.double().exp()
    assert p.sum() == pytest.approx(1.0, abs=1e-5) and p.max() > 2 * p.min()
    # The entropy of a row sums what was left open at each of its steps: its mean is that of the distribution.
    assert (p * entropy).sum() == pytest.approx(-(p * log_p).sum().item(), abs=1e-4)
    drawn = controller.sample(3000, torch.Generator().manual_seed(0))
    found = Counter(map(tuple, drawn.tolist()))
    assert set(found) <= set(map(tuple, rows.tolist()))
    most = rows[p.argmax()]
    assert found[tuple(most.tolist())] / 3000 == pytest.approx(p.max().item(), abs=0.02)


def test_the_policy_moves_towards_what_did_better_than_the_average():
    policy = PolicyGradient(
        ONE_CELL, 0, learning_rate=0.02, entropy_weight=0.0, baseline_decay=0.9, hidden=16
    )
    choices = np.array([[0, 1, 2], [3, 4, 0]])
    before = policy.controller.log_prob(choices)[0].detach()
    for _ in range(5):
        columns = policy.update(choices, [0.70, 0.60])
    after = policy.controller.log_prob(choices)[0].detach()
    assert after[0] > before[0] + 0.1 and after[1] < before[1]
    assert columns["baseline"] == pytest.approx(0.65)
    assert before[0] == pytest.approx(np.log(1 / 6) * 3, abs=0.2)  # it begins near uniform


def test_nao_reads_back_what_it_encoded_and_climbs_what_it_predicts():
    space, scores = ONE_CELL, planted(ONE_CELL, 3)
    ascent = Ascent(space, 0, initial=40, batch=5, parents=5, steps=60, hidden=32)
    for _ in range(40):
        genotype = ascent.propose()
        ascent.observe(genotype, scores[genotype.key()])
    proposed = [ascent.propose()]
    proposed += [space.decode(choices) for choices in ascent.queue[1:]]
    known = torch.tensor(ascent.choices)
    with torch.no_grad():
        encoded = ascent.model.encode(known)
        assert (ascent.model.decode(encoded) == known.numpy()).mean() > 0.8
        predicted = ascent.model.predict(encoded).numpy()
    assert np.corrcoef(predicted, ascent.scores)[0, 1] > 0.8
    assert ascent.ascended >= 1 and not {g.key() for g in proposed} & ascent.seen
    found = [scores[g.key()] for g in proposed[: ascent.ascended]]
    assert np.mean(found) > np.mean(ascent.scores)


def test_the_hand_made_network_is_what_its_docstring_says():  # Table I, E012
    space = Space((False, True), "full")
    calls = []

    class One:
        offers, images, description = frozenset({"children"}), 10, {}

        def __call__(self, genotype):
            calls.append(genotype)
            return Score(0.5, 10)

    result = STRATEGIES["fixed"](space, One(), 1000)
    assert result.genotype.cells[0].operations == ("sep_conv_3x3", "skip_connect", "sep_conv_3x3")
    assert result.genotype.cells[1].operations == ("sep_conv_3x3", "max_pool_3x3", "sep_conv_3x3")
    assert len(calls) == 1 and result.images == 10
    shared = STRATEGIES["fixed"](Space((False, True), "reduced", shared=True), One(), 1000).genotype
    assert {cell.operations for cell in shared.cells} == {("sep_conv_3x3", "skip_connect", "sep_conv_3x3")}
    with pytest.raises(SearchError, match="max_pool_3x3, skip_connect, which the primitive set 'conv_only'"):
        STRATEGIES["fixed"](Space((False, True), "conv_only"), One(), 1000)


# --- what cannot be searched ------------------------------------------------------------------------------------------


def test_every_strategy_of_the_paper_has_its_name():
    of_the_paper = {"gradient", "reinforce", "enas", "random", "evolutionary", "nao", "fixed"}
    assert of_the_paper < set(STRATEGIES)
    assert strategies.__doc__ and all(name in strategies.__doc__ for name in STRATEGIES)
    with pytest.raises(UnknownName, match="Did you mean 'evolutionary'"):
        STRATEGIES["evolution"]


@pytest.mark.parametrize("name", BY_CHILDREN)
def test_a_budget_too_small_says_how_much_is_needed(name):
    table = Counting(planted(ONE_CELL, 0), images=600)
    with pytest.raises(SearchError, match="599 training images is too small: one candidate takes 600"):
        STRATEGIES[name](ONE_CELL, table, 599)
    assert not table.asked


@pytest.mark.parametrize("name", ["gradient", "enas"])
def test_a_table_cannot_train_a_supernet(name):
    table = TableEvaluator(planted(ONE_CELL, 0), images=1)
    with pytest.raises(
        SearchError, match=rf"'{name}' trains one supernet.*TableEvaluator does not offer.*evolutionary"
    ):
        STRATEGIES[name](ONE_CELL, table, 100)


@pytest.mark.parametrize(
    ("name", "options"),
    [("evolutionary", {"population": 0}), ("reinforce", {"children": 0}), ("nao", {"initial": 1})],
)
def test_options_that_leave_nothing_are_refused(name, options):
    with pytest.raises(SearchError, match="at least"):
        STRATEGIES[name](ONE_CELL, TableEvaluator(planted(ONE_CELL, 0), 1), 100, **options)


# --- kept in a folder -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BY_CHILDREN)
def test_a_finished_search_is_read_and_not_made_again(name, tmp_path):
    table = Counting(planted(ONE_CELL, 0), images=3)
    first = STRATEGIES[name](ONE_CELL, table, 40, seed=2, folder=tmp_path / "run")
    asked = len(table.asked)
    again = STRATEGIES[name](ONE_CELL, table, 40, seed=2, folder=tmp_path / "run")
    assert len(table.asked) == asked and again.genotype == first.genotype and again[2:] == first[2:]
    assert again.trace["key"].tolist() == first.trace["key"].tolist()
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["strategy"] == name and config["budget"] == 40 and config["evaluator"] == table.description


def test_a_folder_of_another_search_is_refused(tmp_path):
    table = TableEvaluator(planted(ONE_CELL, 0), images=1)
    STRATEGIES["random"](ONE_CELL, table, 5, seed=2, folder=tmp_path)
    with pytest.raises(CheckpointError, match="budget: 5 there, 6 now"):
        STRATEGIES["random"](ONE_CELL, table, 6, seed=2, folder=tmp_path)
    with pytest.raises(CheckpointError, match="strategy: 'random' there, 'evolutionary' now"):
        STRATEGIES["evolutionary"](ONE_CELL, table, 5, seed=2, folder=tmp_path)


def test_a_damaged_checkpoint_is_named(tmp_path):
    class Dying(Counting):
        def __call__(self, genotype):
            if len(self.asked) == 3:
                raise KeyboardInterrupt
            return super().__call__(genotype)

    with pytest.raises(KeyboardInterrupt):
        STRATEGIES["random"](ONE_CELL, Dying(planted(ONE_CELL, 0), images=1), 9, folder=tmp_path)
    checkpoint = tmp_path / "checkpoint" / "last.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-200])
    with pytest.raises(CheckpointError, match="last.pt cannot be read"):
        STRATEGIES["random"](ONE_CELL, TableEvaluator(planted(ONE_CELL, 0), images=1), 9, folder=tmp_path)
