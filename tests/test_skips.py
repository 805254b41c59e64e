"""The guard against skips: what is counted, when a search ends for it, and what is then derived."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
import small
import torch

from bionas.errors import ChoiceError, TrainingError
from bionas.genotype import EDGES, derive
from bionas.operators import PRIMITIVE_SETS
from bionas.strategies import STRATEGIES, Space
from bionas.strategies.evaluators import Supernet
from bionas.training.experiments import plan, search
from bionas.training.fitting import Search
from bionas.training.recipe import SearchConfig
from bionas.training.runs import Run
from bionas.training.skips import guard, leaders, leading_skips

FULL = PRIMITIVE_SETS["full"]


@pytest.fixture(scope="module")
def data():
    return small.sides()


def collapsing(data, run, begun=True, **choices):
    """A search in which skip_connect leads n edges after epoch n; see `small.Collapsing`."""
    network = small.supernet(data[2])
    config = SearchConfig(**{"epochs": 6, "batch_size": 12, "device": "cpu", **choices})
    network = small.Collapsing.begun(network) if begun else network
    return small.Collapsing(network, *data, config, Run(run)).prepare()


def table(thetas, primitives=FULL) -> pd.DataFrame:
    """alphas.csv of thetas (epochs, cells, 3, K)."""
    rows = [
        (epoch, cell, edge, name, theta[cell, e, k])
        for epoch, theta in enumerate(thetas)
        for cell in range(theta.shape[0])
        for e, edge in enumerate(EDGES)
        for k, name in enumerate(primitives)
    ]
    return pd.DataFrame(rows, columns=["epoch", "cell", "edge", "primitive", "alpha"])


# --- counting -------------------------------------------------------------------------------------------------------


def test_leaders_are_counted_as_a_plain_loop_counts_them():
    thetas = np.random.default_rng(0).integers(0, 4, (5, 4, 3, 10)).astype(float)  # with many equals
    counts, skips = leaders(table(thetas)), leading_skips(table(thetas))
    for epoch, theta in enumerate(thetas):
        winners = [
            FULL[row.tolist().index(row.max())] for row in theta.reshape(-1, 10)
        ]  # the first of equals
        assert counts.loc[epoch].to_dict() == {name: winners.count(name) for name in counts}
        assert skips[epoch] == winners.count("skip_connect") and counts.loc[epoch].sum() == 12
    assert [name for name in FULL if name in counts] == list(counts)


def test_a_set_without_skips_has_none_of_them():
    thetas = np.random.default_rng(0).normal(size=(3, 2, 3, 4))
    assert leading_skips(table(thetas, PRIMITIVE_SETS["conv_only"])).to_dict() == {0: 0, 1: 0, 2: 0}


def test_a_run_is_counted_from_its_file_as_from_its_memory(data, tmp_path):
    trainer = collapsing(data, tmp_path, epochs=3)
    run = trainer.train()
    assert leading_skips(run.alphas).to_dict() == {0: 0, 1: 1, 2: 2, 3: 3}
    thetas = torch.stack(trainer.thetas)
    assert (thetas.argmax(-1) == FULL.index("skip_connect")).sum((1, 2)).tolist() == [0, 1, 2, 3]


# --- the rule -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("skips", "warmup", "epoch", "stop"),
    [
        ([0, 1, 2], 0, 2, False),  # within: go on
        ([0, 1, 2, 3], 0, 2, True),  # the limit is kept, then is not
        ([9, 1, 2, 9], 0, 2, True),
        ([0, 5, 4, 3], 0, None, False),  # above from the first: nothing to go back to yet
        ([0, 5, 4, 2], 0, 3, False),
        ([0, 5, 2, 3], 0, 2, True),
        ([0, 0, 0, 5], 2, None, False),  # what dice gave before theta moved is no search
        ([4, 4, 4, 1], 2, 3, False),
        ([0, 0, 0, 1, 3], 2, 3, True),
        ([0], 0, None, False),
        ([0, 0], 1, None, False),
    ],
)
def test_the_rule_by_hand(skips, warmup, epoch, stop):  # at most 2
    assert guard(pd.Series(skips), 2, warmup) == (epoch, stop)


# --- the search -----------------------------------------------------------------------------------------------------


def test_without_a_guard_a_search_runs_to_its_end_as_in_the_paper(data, tmp_path):
    assert SearchConfig().max_skips is None and plan("smoke").max_skips is None
    trainer = collapsing(data, tmp_path, epochs=3)
    trainer.train()
    assert (trainer.epoch, trainer.derived_epoch, trainer.stopped) == (3, 3, "")
    assert trainer.genotype() == trainer.supernet.genotype() == Run(tmp_path).genotype


@pytest.mark.slow
def test_it_ends_once_skips_lead_more_and_derives_from_the_epoch_before(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("TQDM_DISABLE", "1")
    free = collapsing(data, tmp_path / "free")
    free.train()
    trainer = collapsing(data, tmp_path / "guarded", max_skips=2)
    capsys.readouterr()
    run = trainer.train()
    assert len(run.history) == 3 and run.load_checkpoint()["epoch"] == 3 and trainer.derived_epoch == 2
    sentence = (
        "search: stopped after epoch 3 of 6, where skip_connect leads 3 of 9 edges, more than max_skips=2. Derived from "
        "epoch 2, where it leads 2."
    )
    assert trainer.stopped == sentence and capsys.readouterr().out.splitlines()[-1] == sentence
    assert not small.differences(
        trainer.thetas, free.thetas[:4]
    )  # up to there it is the same search, to the bit
    alpha = torch.softmax(free.thetas[2].double(), -1)
    assert run.genotype == derive(alpha, FULL, trainer.supernet.config.reductions)
    assert run.genotype != free.genotype()
    assert "search: stopped" not in (tmp_path / "guarded" / "alphas.csv").read_text()
    again = collapsing(data, tmp_path / "guarded", max_skips=2)  # started again it has nothing to do
    again.train()
    assert again.epoch == 3 and again.stopped == sentence and again.genotype() == run.genotype


def test_the_limit_counts_every_cell_of_a_shared_theta(data, tmp_path):
    config = dataclasses.replace(small.CONFIG, shared_theta=True)
    network = small.Collapsing.begun(small.supernet(data[2], config=config))
    choices = SearchConfig(epochs=3, batch_size=12, device="cpu", max_skips=4)
    trainer = small.Collapsing(network, *data, choices, Run(tmp_path))
    trainer.train()
    assert trainer.epoch == 2 and "leads 6 of 9 edges" in trainer.stopped and trainer.derived_epoch == 1
    assert [cell.operations[0] for cell in trainer.genotype().cells] == ["skip_connect"] * 3


def test_the_warm_up_is_not_guarded(data, tmp_path):
    network = small.supernet(data[2])
    with torch.no_grad():
        network.theta[..., FULL.index("skip_connect")] = 1.0
    config = SearchConfig(epochs=3, batch_size=12, device="cpu", warmup_epochs=2, max_skips=9)
    trainer = Search(network, *data, config, Run(tmp_path))
    trainer.train()
    assert (trainer.epoch, trainer.derived_epoch, trainer.stopped) == (
        3,
        3,
        "",
    )  # 9 of 9 edges are not more than 9


def test_where_skips_lead_after_every_epoch_there_is_nothing_to_derive(data, tmp_path):
    for _ in range(2):  # and started again it says the same
        with pytest.raises(TrainingError) as refused:
            collapsing(data, tmp_path, epochs=2, max_skips=0).train()
        assert "more than max_skips=0 of 9 edges after every epoch (fewest: 1, after epoch 1)" in str(
            refused.value
        )
        assert "warmup_epochs" in str(refused.value) and str(tmp_path / "alphas.csv") in str(refused.value)
    assert Run(tmp_path).load_checkpoint()["epoch"] == 2 and len(Run(tmp_path).history) == 2


def test_fewer_than_no_skips_is_refused(data, tmp_path):
    with pytest.raises(ChoiceError, match="max_skips=-1: max_skips is a whole number of at least 0"):
        collapsing(data, tmp_path, max_skips=-1)


def test_a_run_of_another_limit_is_another_run(data, tmp_path):
    collapsing(data, tmp_path, epochs=1, max_skips=2).train()
    with pytest.raises(Exception, match="max_skips: 2 there, None now"):
        collapsing(data, tmp_path, epochs=1)


# --- where it is asked for ------------------------------------------------------------------------------------------


def test_a_plan_passes_it_on_and_the_run_folder_says_what_came_of_it(data, tmp_path, monkeypatch):
    sizes = {"search_epochs": 4, "batch_size": 12, "preset": "tiny", "limit": 120, "image_size": 16}
    asked = plan("smoke", max_skips=1, run_dir=tmp_path, **sizes)
    assert asked.search_config().max_skips == 1
    made = type(asked).supernet
    monkeypatch.setattr(type(asked), "supernet", lambda self: small.Collapsing.begun(made(self)))
    monkeypatch.setattr("bionas.training.experiments.Search", small.Collapsing)
    run = search(asked)
    assert (
        run.config["max_skips"] == 1 and run.summary["epochs"] == 2 and run.summary["derived_from_epoch"] == 1
    )
    assert run.summary["stopped"].startswith("search: stopped after epoch 2 of 4")
    assert run.genotype.cells[0].operations[0] == "skip_connect" and search(asked).path == run.path


def test_the_gradient_strategy_answers_with_what_the_guard_kept(data, tmp_path, monkeypatch):
    monkeypatch.setattr("bionas.training.fitting.Search", small.Collapsing)
    config = SearchConfig(batch_size=12, device="cpu", max_skips=1)

    class Evaluator:
        offers, images, description = frozenset({"supernet"}), 1, {"evaluator": "small"}

        def supernet(self, space, seed):
            return Supernet(small.Collapsing.begun(small.supernet(data[2], seed)), *data, config, {})

    space = Space(small.CONFIG.reductions, "full")
    for _ in range(2):
        found = STRATEGIES["gradient"](space, Evaluator(), 5 * 96, folder=tmp_path)
        assert found.stopped.startswith("search: stopped after epoch 2 of 5") and found.images == 2 * 96
        assert found.genotype.to_json().strip() != found.trace["genotype"].iloc[-1]
        assert [cell.operations.count("skip_connect") for cell in found.genotype.cells] == [1, 0, 0]
        assert found.trace["skips"].tolist() == [1, 2]
    assert Run(tmp_path / "supernet").summary["derived_from_epoch"] == 1
