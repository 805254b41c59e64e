"""Strategies on networks that really train: children of a plan, and the supernet that gradient and ENAS share."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pandas as pd
import pytest
import small
import torch
from PIL import Image

from bionas.errors import SearchError, TrainingError
from bionas.genotype import CellGenotype, Genotype
from bionas.network import DerivedNetwork, NetworkConfig
from bionas.specimens import ImageStore
from bionas.strategies import STRATEGIES, PlanEvaluator, Space, Supernet
from bionas.strategies.controller import PolicyGradient
from bionas.strategies.differentiable import epochs_within
from bionas.strategies.enas import SharedWeights
from bionas.strategies.one_path import batch_statistics
from bionas.system import places
from bionas.training.configuration import plan
from bionas.training.fitting import Fit
from bionas.training.recipe import SearchConfig
from bionas.training.runs import Run

CONFIG = NetworkConfig(image_size=16, channels=4, cells=2, stem_stride=2, dropout=0.2, embedding=4)
SPACE = Space(CONFIG.reductions, "reduced")


class Tiny:
    """A supernet over 48 + 24 specimens of 16 pixels: what the strategies ask of an evaluator, and no more."""

    offers = frozenset({"supernet"})
    images = 0

    def __init__(self, **choices):
        self.sides = small.sides()
        self.choices = {"batch_size": 12, "device": "cpu", **choices}
        self.description = {"evaluator": "tiny", **self.choices}

    def supernet(self, space: Space, seed: int) -> Supernet:
        config = dataclasses.replace(CONFIG, shared_theta=space.shared)
        model = small.supernet(self.sides[2], seed, config, primitives=space.primitive_set)
        return Supernet(model, *self.sides, SearchConfig(seed=seed, **self.choices), {"network": "tiny"})


def photographs(folder, n=60):
    generator = np.random.default_rng(0)
    folder.mkdir()
    for i in range(n):
        pixels = generator.integers(0, 180, (20, 20, 3), dtype=np.uint8)
        pixels[:, :, i % 3] += 70
        Image.fromarray(pixels).save(folder / f"{i:03d}.png")
    orders = [("Coleoptera", "Diptera", "Odonata")[i % 3] for i in range(n)]
    table = pd.DataFrame({"file": [f"{i:03d}.png" for i in range(n)], "order": orders})
    table.to_csv(folder / "labels.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def tiny_plan(tmp_path_factory):
    folder = photographs(tmp_path_factory.mktemp("lab") / "photographs")
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(places, "cache", lambda: cache)
        chosen = plan(
            "smoke",
            source="folder",
            data_dir=folder,
            preset="tiny",
            image_size=16,
            metadata="none",
            batch_size=16,
            primitive_set="reduced",
            device="cpu",
            run_dir=tmp_path_factory.mktemp("runs"),
            derived_channels=16,
        )
        chosen.specimens()
        yield chosen


# --- children ---------------------------------------------------------------------------------------------------------


def test_a_child_is_trained_once_on_training_and_scored_on_validation(tiny_plan, monkeypatch):
    evaluate = PlanEvaluator(tiny_plan, epochs=2)
    space, (train, val, test) = evaluate.space(), tiny_plan.splits()
    read, trained = set(), []
    pixels, training = ImageStore.pixels, Fit.train

    def watched(self, rows, out=None):
        taken = pixels(self, rows, out)
        read.update(image.tobytes() for image in taken)
        return taken

    monkeypatch.setattr(ImageStore, "pixels", watched)
    monkeypatch.setattr(Fit, "train", lambda self: trained.append(self) or training(self))
    one = space.random(np.random.default_rng(0))
    score = evaluate(one)
    monkeypatch.setattr(ImageStore, "pixels", pixels)

    def images_of(split):
        return {image.tobytes() for image in split.images.pixels(np.arange(len(split)))}

    assert read & images_of(train) and read & images_of(val) and not read & images_of(test)
    assert score.images == evaluate.images == 2 * (len(train) // 16 * 16)  # whole batches
    (trainer,) = trained
    assert trainer.model.config.channels == tiny_plan.network().channels  # as narrow as the search
    logits, labels = [], torch.from_numpy(val.labels.copy())
    with torch.no_grad():
        logits = torch.cat([trainer.model.eval()(b.image, b.metadata) for b in trainer.val_loader.epoch(0)])
    right = logits.argmax(1) == labels
    assert score.value == pytest.approx(right.double().mean().item())
    recalls = [right[labels == c].double().mean().item() for c in labels.unique()]
    assert score.columns["val_balanced_accuracy"] == pytest.approx(np.mean(recalls))

    assert (
        evaluate(one) == score and PlanEvaluator(tiny_plan, epochs=2)(one) == score
    )  # read, not trained again
    assert len(trained) == 1
    assert not (trainer.run.path / "checkpoint").exists() and trainer.run.complete


def test_isomorphic_children_are_one(tiny_plan):
    evaluate = PlanEvaluator(tiny_plan, epochs=1)
    rest = [CellGenotype(("conv_1x1",) * 3, reduction) for reduction in tiny_plan.network().reductions[1:]]
    first = tiny_plan.network().reductions[0]
    pair = [
        Genotype((CellGenotype(names, first), *rest), "reduced")
        for names in (("conv_1x1", "none", "none"), ("none", "conv_1x1", "none"))
    ]
    folder = tiny_plan.folder()
    assert evaluate(pair[1]) == evaluate(pair[0])
    scored = [r for r in map(Run, folder.glob("child-*")) if r.config["epochs"] == 1]
    assert len(scored) == 1
    shutil.rmtree(scored[0].path)
    assert evaluate(pair[0])._replace(columns={}) == evaluate(pair[1])._replace(columns={})


def test_a_child_that_diverges_scores_nothing_and_costs_its_images(tiny_plan, monkeypatch):
    def diverge(self):
        raise TrainingError("fit: the loss is nan")

    monkeypatch.setattr(Fit, "train", diverge)
    evaluate = PlanEvaluator(dataclasses.replace(tiny_plan, learning_rate=5.0), epochs=1)
    score = evaluate(evaluate.space().random(np.random.default_rng(1)))
    assert score.value == 0.0 and score.images == evaluate.images and "loss is nan" in score.columns["failed"]


def test_children_that_were_trained_for_one_strategy_serve_another(tiny_plan, monkeypatch):
    evaluate = PlanEvaluator(tiny_plan, epochs=1)
    space, count = evaluate.space(), []
    train = Fit.train
    monkeypatch.setattr(Fit, "train", lambda self: count.append(1) or train(self))
    drawn = STRATEGIES["random"](space, evaluate, 3 * evaluate.images, seed=5)
    assert len(count) == len(drawn.trace) == 3
    evolved = STRATEGIES["evolutionary"](space, evaluate, 3 * evaluate.images, seed=5, population=3)
    assert len(count) == 3  # its first members are the same random genotypes
    columns = ["key", "score", "images", "val_balanced_accuracy"]
    pd.testing.assert_frame_equal(evolved.trace[columns], drawn.trace[columns])


def test_a_plans_supernet_spans_its_own_space_alone(tiny_plan):
    evaluate = PlanEvaluator(tiny_plan, epochs=1)
    supernet = evaluate.supernet(evaluate.space(), seed=3)
    assert supernet.model.primitive_set == "reduced" and supernet.config.seed == 3
    assert len(supernet.train) == len(tiny_plan.splits().train)
    with pytest.raises(SearchError, match="the plan's supernet spans"):
        evaluate.supernet(Space((True,), "reduced"), seed=3)


# --- gradient ---------------------------------------------------------------------------------------------------------


def test_gradient_is_algorithm_1_for_the_budget(tmp_path):
    tiny = Tiny()
    result = STRATEGIES["gradient"](
        SPACE, tiny, 3 * 96 + 95, seed=1, folder=tmp_path
    )  # 48 for w, 48 for theta an epoch
    inner = Run(tmp_path / "supernet")
    assert len(result.trace) == 3 and result.images == 3 * 96 == inner.history["images"].sum()
    assert result.trace["images"].tolist() == [96, 192, 288]
    assert result.trace["score"].tolist() == inner.history["val_accuracy"].tolist()
    assert result.genotype == inner.genotype == Run(tmp_path).genotype
    assert result.trace["key"].iloc[-1] == result.genotype.key()
    alphas = inner.alphas
    for i, epoch in enumerate(result.trace.itertuples()):
        of_epoch = alphas[alphas["epoch"] == i + 1]
        entropy = (
            -(of_epoch["alpha"] * np.log(of_epoch["alpha"]))
            .groupby([of_epoch["cell"], of_epoch["edge"]])
            .sum()
        )
        assert epoch.alpha_entropy == pytest.approx(entropy.mean())
        operations = [name for cell in Genotype.from_json(epoch.genotype).cells for name in cell.operations]
        assert epoch.skips == operations.count("skip_connect")
    unkept = STRATEGIES["gradient"](SPACE, tiny, 3 * 96, seed=1)
    assert unkept.genotype == result.genotype and unkept.trace["key"].tolist() == result.trace["key"].tolist()


@pytest.mark.parametrize(
    ("choices", "needs", "epochs_of_1000"),
    [
        ({}, 96, 10),
        ({"theta_data": "train"}, 48, 20),
        ({"batch_size": 48}, 72, 13),  # validation has no batch larger than its 24
        ({"warmup_epochs": 2}, 2 * 48 + 96, 2 + 9),
        ({"batch_size": "auto"}, 96, 10),
    ],
)
def test_the_budget_of_a_supernet_is_counted_in_its_batches(choices, needs, epochs_of_1000):
    supernet = Tiny(**choices).supernet(SPACE, 0)
    assert epochs_within(1000, supernet) == epochs_of_1000
    assert epochs_within(needs, supernet) == choices.get("warmup_epochs", 0) + 1
    with pytest.raises(SearchError, match=f"one epoch of the supernet.* takes {needs}"):
        epochs_within(needs - 1, supernet)


# --- ENAS -------------------------------------------------------------------------------------------------------------


def shared_weights(tmp_path) -> SharedWeights:
    supernet = Tiny(epochs=1).supernet(SPACE, 2)
    policy = PolicyGradient(SPACE, 2, learning_rate=0.01, entropy_weight=0.01, baseline_decay=0.9, hidden=16)
    return SharedWeights(supernet, Run(tmp_path), SPACE, {}, policy=policy, controller_steps=5).prepare()


def test_a_chosen_child_is_the_derived_network_with_the_supernets_weights(tmp_path):
    trainer = shared_weights(tmp_path)
    batch = next(trainer.val_loader.epoch(0))
    for i in range(6):
        genotype = SPACE.random(np.random.default_rng(i))
        derived = DerivedNetwork(
            genotype, CONFIG, len(small.CLASSES), **small.inputs(trainer.encoding)
        ).eval()
        derived.inherit(trainer.supernet)
        trainer.choose(SPACE.encode(genotype))
        with torch.no_grad():
            shared = trainer.supernet.eval()(batch.image, batch.metadata)
            alone = derived(batch.image, batch.metadata)
        whole = all(
            cell.operations[0] != "none" and cell.operations[1:] != ("none", "none")
            for cell in genotype.cells
        )
        # Where z1 or z2 is empty the derived cell has no channels for it: the same sum with fewer zeros in it.
        torch.testing.assert_close(shared, alone, rtol=1e-4, atol=1e-5 if whole else 1e-4)


def test_a_batch_trains_one_child_and_nothing_else(tmp_path):
    trainer = shared_weights(tmp_path)
    choices = SPACE.encode(
        Genotype((CellGenotype(("conv_1x1", "max_pool_3x3", "sep_conv_3x3"), True),) * 2, "reduced")
    )
    trainer.policy.sample = lambda n=1: choices[None]
    before = {name: p.detach().clone() for name, p in trainer.supernet.named_parameters()}
    trainer.controller_steps = 0
    trainer.train()
    moved = {name for name, p in trainer.supernet.named_parameters() if not torch.equal(p, before[name])}
    # "cells.0.edges.2.operations.sep_conv_3x3.bn.weight"
    of_edges = {tuple(name.split(".")[i] for i in (1, 3, 5)) for name in moved if ".operations." in name}
    assert of_edges == {(cell, *edge) for cell in "01" for edge in (("0", "conv_1x1"), ("2", "sep_conv_3x3"))}
    assert {name for name in before if ".operations." not in name} <= moved
    assert trainer.supernet.alpha().max(-1).values.eq(1).all()  # chosen, not learnt


def test_scoring_a_child_uses_the_batchs_statistics_and_leaves_no_trace(tmp_path):
    trainer = shared_weights(tmp_path)
    trainer.supernet.eval()
    before = {name: b.clone() for name, b in trainer.supernet.named_buffers() if "running" in name}
    genotype = SPACE.decode([0, 4, 0, 0, 4, 0])
    first, second = trainer.scored(genotype), trainer.scored(genotype)
    assert first == second and first.images == 0  # no dropout, nothing learnt
    assert all(torch.equal(b, before[name]) for name, b in trainer.supernet.named_buffers() if name in before)
    batch = next(trainer.val_loader.epoch(0))
    with torch.no_grad(), batch_statistics(trainer.supernet):
        seen = []
        handle = (
            trainer.supernet.cells[1].project[1].register_forward_hook(lambda m, i, out: seen.append(out))
        )
        trainer.supernet(batch.image, batch.metadata)
        handle.remove()
    torch.testing.assert_close(seen[0].mean(dim=(0, 2, 3)), torch.zeros(seen[0].shape[1]), atol=1e-5, rtol=0)
    assert not any(m.training for m in trainer.supernet.modules())
    assert {m.momentum for m in trainer.supernet.modules() if isinstance(m, torch.nn.BatchNorm2d)} == {0.1}


def test_enas_spends_the_budget_on_shared_weights_and_picks_among_finalists(tmp_path):
    tiny = Tiny()
    options = {"controller_steps": 7, "finalists": 6}
    result = STRATEGIES["enas"](SPACE, tiny, 3 * 48 + 40, seed=1, folder=tmp_path, **options)
    history = Run(tmp_path / "supernet").history
    assert history["images"].tolist() == [48] * 3 and result.images == 144
    assert len(result.trace) == 6 and result.trace["key"].is_unique and set(result.trace["images"]) == {144}
    assert result.genotype.key() == result.trace["key"][result.trace["score"].idxmax()]
    assert {"controller_loss", "entropy", "baseline", "likeliest"} <= set(history.columns)
    assert history["baseline"].between(0, 1).all() and (history["entropy"] > 0).all()
    again = STRATEGIES["enas"](SPACE, tiny, 3 * 48 + 40, seed=1, **options)
    pd.testing.assert_frame_equal(
        again.trace.drop(columns=["seconds", "core_seconds"]),
        result.trace.drop(columns=["seconds", "core_seconds"]),
    )
    with pytest.raises(SearchError, match="one epoch of the supernet takes 48"):
        STRATEGIES["enas"](SPACE, tiny, 47)


def test_enas_with_one_choice_for_all_cells():
    space = Space(CONFIG.reductions, "reduced", shared=True)
    genotype = STRATEGIES["enas"](space, Tiny(), 48, seed=0, controller_steps=2, finalists=3).genotype
    assert len({cell.operations for cell in genotype.cells}) == 1 and genotype.reductions == CONFIG.reductions


def test_the_controller_learns_which_child_shared_weights_favour(tmp_path):
    """Rewards replaced by "x->z1 of the first cell is a max pooling": the controller finds out through its own steps."""
    trainer = shared_weights(tmp_path)
    policy, wanted = trainer.policy, SPACE.primitives.index("max_pool_3x3")
    update = policy.update
    policy.update = lambda choices, _: update(choices, [float(choices[0, 0] == wanted)])
    trainer.controller_steps = 150
    trainer.after_batches(0)
    drawn = policy.sample(200)
    assert (drawn[:, 0] == wanted).mean() > 0.5
