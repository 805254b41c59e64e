"""Algorithm 1 (section III-B): whose turn it is, on which data, by which optimiser, clipped when, and what stops it."""

from __future__ import annotations

import dataclasses
import functools
import operator
import warnings

import numpy as np
import pandas as pd
import pytest
import small
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from bionas.errors import CheckpointError, TrainingError, UnknownName
from bionas.genotype import EDGES, derive
from bionas.studies.backbones import BASELINES
from bionas.system.progress import progress
from bionas.trainer import BilevelTrainer, Step
from bionas.training import loop
from bionas.training.fitting import Ending, Fit, Search, SearchHooks
from bionas.training.loop import predict
from bionas.training.recipe import FitConfig, SearchConfig
from bionas.training.runs import Run

QUICK = {"epochs": 2, "batch_size": 12, "device": "cpu"}


@pytest.fixture(scope="module")
def data():
    return small.sides()


def searching(data, run, seed=0, description=None, network=None, **choices):
    train, val, encoding = data
    config = SearchConfig(**{**QUICK, "seed": seed, **choices})
    network = network or small.supernet(encoding, seed)
    return Search(network, train, val, encoding, config, Run(run), description).prepare()


def fitting(data, run, seed=0, network=None, **choices):
    train, val, encoding = data
    config = FitConfig(**{**QUICK, "seed": seed, **choices})
    return Fit(network or small.derived(encoding, seed), train, val, encoding, config, Run(run)).prepare()


def copied(tensors):
    return [tensor.detach().clone() for tensor in tensors]


def moved(before, after):
    return [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]


# --- whose turn, on which data --------------------------------------------------------------------------------------


@pytest.mark.parametrize("theta_data", ["val", "train"])
def test_even_batches_update_w_and_odd_batches_theta(data, tmp_path, theta_data, monkeypatch):
    """Algorithm 1, lines 4-12."""
    trainer = searching(data, tmp_path, epochs=1, theta_data=theta_data)
    network, turns, original = trainer.supernet, [], BilevelTrainer.update

    def watched(self, name, loss):
        w, theta = copied(network.weights()), copied(network.architecture())
        other = network.architecture() if name == "w" else network.weights()
        original(self, name, loss)
        turns.append(name)
        assert all(p.grad is None for p in other)  # each step pays for its own gradients alone
        assert any(moved(w, network.weights())) == (name == "w")
        assert any(moved(theta, network.architecture())) == (name == "theta")

    monkeypatch.setattr(BilevelTrainer, "update", watched)
    trainer.train()
    assert turns == ["w", "theta"] * (4 if theta_data == "val" else 2)
    assert all(p.requires_grad for p in network.parameters())


def test_theta_is_scored_on_validation_data(data, tmp_path):  # Eq. 12
    _train, _val, encoding = data
    trainer = searching(data, tmp_path, theta_data="val")
    for epoch in range(2):
        seen = {"w": [], "theta": []}
        for turn, batch in trainer.batches(epoch):
            seen[turn].append(small.numbers(encoding, batch.metadata))
        assert sorted(functools.reduce(operator.iadd, seen["w"], [])) == [
            *range(48)
        ]  # the training split, once
        first, second = (
            functools.reduce(operator.iadd, seen["theta"][:2], []),
            functools.reduce(operator.iadd, seen["theta"][2:], []),
        )
        assert sorted(first) == sorted(second) == [*range(48, 72)]  # the smaller one as often as is needed
        assert first != second  # each time in a new order
    orders = [
        [small.numbers(encoding, b.metadata) for t, b in trainer.batches(e) if t == "theta"] for e in (0, 1)
    ]
    assert orders[0] != orders[1]


def test_theta_can_be_scored_on_training_data(data, tmp_path):  # Algorithm 1 to the letter
    trainer = searching(data, tmp_path, theta_data="train")
    turns = [(turn, small.numbers(data[2], batch.metadata)) for turn, batch in trainer.batches(0)]
    assert [turn for turn, _ in turns] == ["w", "theta", "w", "theta"]
    assert sorted(functools.reduce(operator.iadd, (seen for _, seen in turns), [])) == [
        *range(48)
    ]  # each batch is for one of the two
    assert trainer.steps_per_epoch == 2


@pytest.mark.parametrize("theta_data", ["val", "train"])
def test_theta_rests_in_the_warm_up(data, tmp_path, theta_data):
    trainer = searching(data, tmp_path, epochs=3, warmup_epochs=2, theta_data=theta_data)
    steps = trainer.steps_per_epoch
    assert [turn for turn, _ in trainer.batches(1)] == ["w"] * steps
    assert [turn for turn, _ in trainer.batches(2)] == ["w", "theta"] * steps
    trainer.train()
    start, first, second, third = trainer.thetas
    assert torch.equal(start, first) and torch.equal(first, second) and not torch.equal(second, third)
    history = pd.DataFrame(trainer.history)
    assert history["theta_loss"].isna().tolist() == [True, True, False]
    assert history["images"].iloc[2] > history["images"].iloc[0]


@pytest.mark.parametrize("warmup_epochs", [2, 3])
def test_a_warm_up_leaves_epochs_to_search_in(data, tmp_path, warmup_epochs):
    with pytest.raises(TrainingError, match=f"warmup_epochs={warmup_epochs} of 2"):
        searching(data, tmp_path, epochs=2, warmup_epochs=warmup_epochs)


def test_a_warm_up_of_the_rate_leaves_epochs_at_the_full_rate(data, tmp_path):
    with pytest.raises(TrainingError, match="rate_warmup_epochs=2 of 2"):
        searching(data, tmp_path, rate_warmup_epochs=2)
    with pytest.raises(TrainingError, match="warm-up of its own"):
        searching(data, tmp_path, schedule="one_cycle", rate_warmup_epochs=1)
    trainer = searching(data, tmp_path, epochs=2, rate_warmup_epochs=1)
    rates = []
    trainer.optimizers["w"].register_step_pre_hook(lambda o, *_: rates.append(o.param_groups[0]["lr"]))
    trainer.train()
    assert rates[:5] == pytest.approx([0.25e-3, 0.5e-3, 0.75e-3, 1e-3, 1e-3]) and rates[-1] < 0.2e-3


def test_theta_reach_is_the_sum_of_the_rate_over_theta_steps(data, tmp_path):
    for rate, reach in (("paper", 8 * 3e-4), ("scaled", 1.053), (0.01, 0.08)):
        trainer = searching(data, tmp_path / str(rate), theta_learning_rate=rate)
        run = trainer.train()
        assert trainer.theta_steps == 8 and trainer.theta_reach == pytest.approx(reach)
        assert run.history["theta_reach"].tolist() == pytest.approx([reach / 2, reach])
        moved = (trainer.thetas[-1] - trainer.thetas[0]).abs().max().item()
        assert 0.3 * reach < moved < 1.5 * reach


class Hooked(SearchHooks):
    """Counts, pulls theta to zero, and ends after the second epoch with the first as the one to derive from."""

    def before_epoch(self, search, epoch):
        search.supernet.relaxation.temperature = 1.0 / (1 + epoch)

    def penalty(self, supernet):
        return 1e4 * supernet.theta.square().sum()

    def after_epoch(self, search):
        return {"temperature": search.supernet.relaxation.temperature}

    def ending(self, history):
        return Ending(1, "search: stopped by the hook") if len(history) >= 2 else None


def test_hooks_add_a_penalty_columns_and_an_ending(data, tmp_path):
    train, val, encoding = data
    config = SearchConfig(**{**QUICK, "epochs": 4})

    def start():
        return Search(small.supernet(encoding), train, val, encoding, config, Run(tmp_path), hooks=Hooked())

    trainer = start()
    run = trainer.train()
    assert run.history["temperature"].tolist() == [1.0, 0.5] and trainer.epoch == 2
    assert (trainer.stopped, trainer.derived_epoch) == ("search: stopped by the hook", 1)
    alpha = torch.softmax(trainer.thetas[1].double(), -1)
    net = trainer.supernet
    assert run.genotype == derive(alpha, net.primitives, net.config.reductions)
    assert trainer.thetas[-1].abs().mean() < trainer.thetas[0].abs().mean()
    again = start()
    again.train()  # it has ended, and says so again
    assert again.epoch == 2 and again.stopped == trainer.stopped


@pytest.mark.parametrize("kind, alike", [("batch", False), ("running", True)])
def test_whose_statistics_a_theta_step_uses(data, tmp_path, kind, alike, monkeypatch):
    """With "running" a theta step sees the network as validation does (dropout apart) and leaves its statistics alone."""
    trainer = searching(data, tmp_path, epochs=1, theta_batch_norm=kind)
    network, original = trainer.supernet, BilevelTrainer.loss
    statistics = lambda: [b.clone() for name, b in network.named_buffers() if "running" in name]  # noqa: E731

    def watched(self, batch):
        before = statistics()
        loss = original(self, batch)
        if not network.weights()[0].requires_grad:  # theta's turn
            assert any(moved(before, statistics())) != alike
            norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
            assert norms and all(m.training != alike for m in norms)
        return loss

    monkeypatch.setattr(BilevelTrainer, "loss", watched)
    network.train()
    with progress(total=1) as bar:
        trainer.train_epoch(0, bar)
    assert all(m.training for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d))


def test_statistics_of_a_theta_step_have_two_names(data, tmp_path):
    with pytest.raises(UnknownName, match="theta_batch_norm 'runing'.*running"):
        searching(data, tmp_path, theta_batch_norm="runing")


def test_one_training_batch_cannot_alternate(data, tmp_path):
    with pytest.raises(TrainingError, match="only one of 48"):
        searching(data, tmp_path, theta_data="train", batch_size=48)


@pytest.mark.parametrize("start", [searching, fitting])
def test_only_training_images_are_augmented_and_only_if_asked(
    data, tmp_path, start
):  # section IV: no augmentation
    plain, moved_about = (start(data, tmp_path / name, augment=name) for name in ("none", "flips_and_shifts"))
    images = lambda loader: torch.cat([batch.image for batch in loader.epoch(0)])  # noqa: E731
    assert not torch.equal(images(plain.train_loader), images(moved_about.train_loader))
    assert torch.equal(images(plain.val_loader), images(moved_about.val_loader))
    if start is searching:
        assert torch.equal(images(plain.theta_loader), images(moved_about.theta_loader))


def test_validation_is_watched_and_never_learnt_from(data, tmp_path):
    train, val, encoding = data
    other = dataclasses.replace(val, labels=(val.labels + 1) % 3)
    runs = [
        fitting((train, side, encoding), tmp_path / str(i)).train() for i, side in enumerate((val, other))
    ]
    states = [run.load_checkpoint() for run in runs]
    assert not small.differences(states[0]["model"], states[1]["model"])
    assert states[0]["history"][1]["val_accuracy"] != states[1]["history"][1]["val_accuracy"]


def test_validation_scores_by_hand(data, tmp_path):
    trainer = fitting(data, tmp_path, epochs=1)
    trainer.train()
    row = trainer.history[-1]
    probabilities = predict(trainer.model, data[1], data[2], batch_size=5, device="cpu")
    assert probabilities.shape == (24, 3) and np.allclose(probabilities.sum(axis=1), 1)
    log, labels = np.log(probabilities), data[1].labels
    assert row["val_accuracy"] == (probabilities.argmax(axis=1) == labels).mean()
    smoothed = 0.9 * -log[np.arange(24), labels] + 0.1 * -log.mean(axis=1)
    assert row["val_loss"] == pytest.approx(smoothed.mean(), rel=1e-5)


# --- the two optimisers ---------------------------------------------------------------------------------------------


def test_optimisers_are_those_of_the_paper(data, tmp_path):  # section III-B.1
    trainer = searching(data, tmp_path)
    w, theta = (trainer.optimizers[name] for name in ("w", "theta"))
    assert type(w) is torch.optim.AdamW and type(theta) is torch.optim.Adam
    assert (w.param_groups[0]["lr"], w.param_groups[0]["weight_decay"]) == (1e-3, 1e-4)
    assert (theta.param_groups[0]["lr"], theta.param_groups[0]["weight_decay"]) == (3e-4, 1e-3)
    held = lambda optimizer: {id(p) for group in optimizer.param_groups for p in group["params"]}  # noqa: E731
    assert held(w) == {id(p) for p in trainer.supernet.weights()}
    assert held(theta) == {id(trainer.supernet.theta)}
    config = FitConfig()
    assert (config.clip_norm, config.label_smoothing, config.augment) == (1.0, 0.1, "none")
    assert SearchConfig().theta_data == "val"


def test_the_loss_is_cross_entropy_with_smoothed_labels(data, tmp_path):  # section IV: label smoothing 0.1
    trainer = fitting(data, tmp_path)
    trainer.model.eval()
    batch = next(trainer.train_loader.epoch(0))
    loss, right = trainer.algorithm.loss(batch)
    log = torch.log_softmax(trainer.model(batch.image, batch.metadata).double(), dim=1)
    target = torch.full_like(log, 0.1 / 3)
    target[torch.arange(len(log)), batch.label] += 0.9
    assert loss.item() == pytest.approx(-(target * log).sum(dim=1).mean().item(), rel=1e-6)
    assert right == (log.argmax(dim=1) == batch.label).sum()


@pytest.mark.parametrize(("name", "factor"), [("w", 1e3), ("w", 1e-3), ("theta", 1e6)])
def test_gradients_are_clipped_to_norm_one_before_the_update(data, tmp_path, name, factor):
    # Section III-B.1: "all updates employ gradient clipping with a maximum norm of 1.0"; after the update, where the
    # listing has it, it would do nothing.
    trainer = searching(data, tmp_path)
    parameters = trainer.supernet.weights() if name == "w" else trainer.supernet.architecture()
    batch = next(trainer.train_loader.epoch(0))
    trainer.model.eval()  # the same loss twice
    raw = torch.autograd.grad(trainer.algorithm.loss(batch)[0] * factor, parameters, allow_unused=True)
    norm = torch.sqrt(sum(g.double().square().sum() for g in raw if g is not None)).item()
    seen = []
    trainer.optimizers[name].register_step_pre_hook(
        lambda *_: seen.extend(None if p.grad is None else p.grad.clone() for p in parameters)
    )
    trainer.algorithm.update(name, trainer.algorithm.loss(batch)[0] * factor)
    assert (norm > 1) == (factor > 1)
    for before, at_the_step in zip(raw, seen, strict=True):
        if before is not None:
            torch.testing.assert_close(at_the_step, before / max(norm, 1.0), rtol=1e-4, atol=1e-9)
    assert torch.sqrt(sum(g.square().sum() for g in seen if g is not None)) <= 1 + 1e-5


def test_an_update_of_theta_by_hand(data, tmp_path):  # Adam, its decay in the gradient, and after clipping
    trainer = searching(data, tmp_path)
    trainer.model.eval()
    theta, batch = trainer.supernet.theta, next(trainer.theta_loader.epoch(0))
    (gradient,) = torch.autograd.grad(trainer.algorithm.loss(batch)[0], [theta])
    gradient, before = gradient.double() / max(gradient.norm().item(), 1.0), theta.detach().clone().double()
    trainer.algorithm.update("theta", trainer.algorithm.loss(batch)[0])
    decayed = gradient + 1e-3 * before
    m, v = 0.1 * decayed, 0.001 * decayed**2
    expected = before - 3e-4 * (m / 0.1) / (torch.sqrt(v / 0.001) + 1e-8)
    torch.testing.assert_close(theta.detach().double(), expected, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine", "constant"])
def test_a_schedule_ends_with_the_last_update(data, tmp_path, schedule):
    trainer = fitting(data, tmp_path, schedule=schedule, epochs=2, learning_rate=1e-3)
    rates = []
    trainer.optimizers["w"].register_step_pre_hook(lambda o, *_: rates.append(o.param_groups[0]["lr"]))
    trainer.train()
    assert len(rates) == 8 and max(rates) <= 1e-3 * (1 + 1e-9)
    ends = {
        "one_cycle": rates[0] < 1e-4 and rates[-1] < 1e-4,
        "cosine": rates[0] == 1e-3 and rates[-1] < 1e-4,
    }
    assert ends.get(schedule, set(rates) == {1e-3})
    assert trainer.history[-1]["learning_rate"] < (1e-6 if schedule != "constant" else 1)


# --- loss scaling ---------------------------------------------------------------------------------------------------


class Scaled:
    """Dynamic loss scaling as mixed precision has it, on a CPU in fp32, where it should change no number."""

    def __init__(self, monkeypatch, scale):
        def accelerator(config):
            AcceleratorState._reset_state(reset_partial_state=True)
            made = Accelerator(cpu=True, mixed_precision="no")
            made.scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=1000)
            return made

        self.patch = lambda: monkeypatch.setattr(loop, "_accelerator", accelerator)

    def on(self, trainer):
        assert trainer.algorithm.scaler.is_enabled()
        return trainer


def test_loss_scaling_changes_no_number_and_is_in_the_checkpoint(
    data, tmp_path, monkeypatch
):  # section III-B.1
    plain = searching(data, tmp_path / "plain")
    plain.train()
    scaled = Scaled(monkeypatch, 2.0**8)
    scaled.patch()
    trainer = scaled.on(searching(data, tmp_path / "scaled"))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        trainer.train()
    assert not [
        w for w in warned if "lr_scheduler" in str(w.message)
    ]  # a scaled step is a step to the schedule too
    one, other = Run(tmp_path / "plain").load_checkpoint(), Run(tmp_path / "scaled").load_checkpoint()
    for part in ("model", "optimizers"):
        assert not small.differences(one[part], other[part])  # a power of two scales without rounding
    assert one["scaler"] == {} and other["scaler"]["scale"] == 2.0**8
    again = searching(data, tmp_path / "scaled")
    assert again.accelerator.scaler.state_dict() == other["scaler"]


def test_an_overflow_skips_the_step_and_halves_the_scale(data, tmp_path, monkeypatch):
    scaled = Scaled(monkeypatch, 2.0**120)
    scaled.patch()
    trainer = scaled.on(fitting(data, tmp_path, epochs=1))
    before, batch = copied(trainer.model.parameters()), next(trainer.train_loader.epoch(0))
    loss = trainer.algorithm.loss(batch)[0] * 1e6  # finite, and its gradients too, but not times 2^120
    trainer.algorithm.update("w", loss)
    assert not any(moved(before, trainer.model.parameters()))
    assert trainer.algorithm.scaler.get_scale() == 2.0**119


# --- what stops it --------------------------------------------------------------------------------------------------


def poisoned(trainer, at, value=float("nan")):
    """The trainer, with a loss that is not finite at the `at`-th step from here on."""
    original, count = trainer.algorithm.loss, iter(range(10**6))

    def loss(batch):
        found, right = original(batch)
        return (found * value if next(count) == at else found), right

    trainer.algorithm.loss = loss
    return trainer


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_with_the_last_good_checkpoint(data, tmp_path):
    trainer = poisoned(searching(data, tmp_path, epochs=3), at=8 + 5)
    with pytest.raises(TrainingError) as stopped:
        trainer.train()
    message = str(stopped.value)
    assert "the loss is nan at epoch 2, step 5" in message and str(Run(tmp_path).checkpoint_path) in message
    assert "last complete epoch, 1," in message and "learning rate" in message
    assert Run(tmp_path).load_checkpoint()["epoch"] == 1
    searching(data, tmp_path, epochs=3).train()  # goes on from it, and ends where an undisturbed run ends
    searching(data, tmp_path / "other", epochs=3).train()
    states = [Run(path).load_checkpoint() for path in (tmp_path, tmp_path / "other")]
    assert not small.differences(states[0]["model"], states[1]["model"])


def test_a_loss_that_is_not_finite_in_the_first_epoch_leaves_no_checkpoint(data, tmp_path):
    with pytest.raises(TrainingError, match="the loss is inf at epoch 1, step 2; no epoch was complete"):
        poisoned(fitting(data, tmp_path), at=2, value=float("inf")).train()
    assert not Run(tmp_path).checkpoint_path.exists()


def test_losses_looked_at_together_name_the_step_at_fault(data, tmp_path):  # as on a GPU
    trainer = fitting(data, tmp_path)
    tally = loop.Tally(trainer)
    tally.every = 16
    for number, loss in enumerate([1.0, 2.0, float("nan"), 4.0]):
        tally.add(number, Step(torch.tensor(loss), torch.tensor(1), 10))
    with pytest.raises(TrainingError, match="step 2"):
        tally.row()
    whole = loop.Tally(trainer)
    for number, (loss, images) in enumerate([(1.0, 10), (4.0, 5)]):
        whole.add(number, Step(torch.tensor(loss), torch.tensor(3), images))
    assert whole.row() == {"train_loss": 2.0, "train_accuracy": 0.4, "images": 15}


@pytest.mark.parametrize(
    ("choice", "value", "near"),
    [
        ("schedule", "onecycle", "one_cycle"),
        ("precision", "fp61", "fp16"),
        ("theta_data", "valid", "val"),
    ],
)
def test_an_unknown_choice_is_answered_with_the_nearest(choice, value, near):
    with pytest.raises(UnknownName, match=f"Did you mean '{near}'"):
        SearchConfig(**{choice: value})


def test_what_this_machine_cannot_do_is_said_at_once(data, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(TrainingError, match="device='auto'"):
        fitting(data, tmp_path, device="cuda")
    with pytest.raises(TrainingError, match="'bf16' or 'fp32'"):
        fitting(data, tmp_path, precision="fp16")
    with pytest.raises(UnknownName, match="'cuda'"):
        fitting(data, tmp_path, device="cude")
    assert not any(tmp_path.iterdir())  # and no folder is claimed


# --- what it leaves -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [searching, fitting])
def test_the_same_seed_gives_the_same_run_to_the_bit(data, tmp_path, start):
    for name, seed in (("one", 0), ("again", 0), ("other", 1)):
        start(data, tmp_path / name, seed=seed, augment="flips_and_shifts").train()
    one, again, other = (Run(tmp_path / name).load_checkpoint() for name in ("one", "again", "other"))
    assert not [d for part in ("model", "optimizers") for d in small.differences(one[part], again[part])]
    assert small.differences(one["model"], other["model"])
    if start is searching:
        assert torch.equal(one["thetas"], again["thetas"])


def test_a_folder_of_another_configuration_is_refused_with_what_differs(data, tmp_path):
    searching(data, tmp_path, epochs=1, description={"network": {"cells": 3}}).train()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(CheckpointError) as refused:
        searching(data, tmp_path, epochs=1, learning_rate=1e-2, description={"network": {"cells": 4}})
    message = str(refused.value)
    assert "learning_rate: 0.001 there, 0.01 now" in message
    assert "cells: 3 there, 4 now" in message
    assert "epochs" not in message and "another run_dir" in message
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_alphas_of_every_epoch_are_the_softmax_of_theta(data, tmp_path):  # Eq. 14; epoch 0 is before training
    trainer = searching(data, tmp_path, epochs=3)
    start = trainer.supernet.theta.detach().clone()
    run = trainer.train()
    table = run.alphas
    assert list(table.columns) == ["epoch", "cell", "reduction", "edge", "primitive", "alpha", "theta"]
    assert len(table) == (3 + 1) * 3 * 3 * 10
    assert list(table["edge"].unique()) == list(EDGES)
    edge = ["epoch", "cell", "edge"]
    assert np.allclose(table.groupby(edge)["alpha"].sum(), 1, atol=1e-12)
    e = np.exp(table["theta"])
    assert np.allclose(
        table["alpha"], e / e.groupby([table[name] for name in edge]).transform("sum"), rtol=1e-12
    )
    for epoch, theta in ((0, start), (3, trainer.supernet.theta.detach())):
        written = table[table["epoch"] == epoch]["theta"].to_numpy()
        assert np.array_equal(written, theta.double().flatten().numpy())
    assert set(table[table["reduction"]]["cell"]) == {1, 2}
    assert run.genotype == trainer.supernet.genotype()


def test_alphas_of_a_shared_theta_have_a_row_a_cell(data, tmp_path):
    config = dataclasses.replace(small.CONFIG, shared_theta=True)
    run = searching(data, tmp_path, epochs=1, network=small.supernet(data[2], config=config)).train()
    table = run.alphas
    assert len(table) == 2 * 3 * 3 * 10
    first, last = (
        table[table["cell"] == c].drop(columns=["cell", "reduction"]).reset_index(drop=True) for c in (0, 2)
    )
    pd.testing.assert_frame_equal(first, last)


def test_history_has_a_row_an_epoch(data, tmp_path):
    search, fit = (
        searching(data, tmp_path / "s").train().history,
        fitting(data, tmp_path / "f").train().history,
    )
    columns = {
        "epoch",
        "phase",
        "train_loss",
        "train_accuracy",
        "val_loss",
        "val_accuracy",
        "learning_rate",
        "seconds",
        "images_per_second",
    }
    assert columns <= set(fit.columns) and columns | {"theta_loss"} <= set(search.columns)
    assert (
        list(fit["epoch"]) == [1, 2] and set(fit["phase"]) == {"fit"} and set(search["phase"]) == {"search"}
    )
    assert list(fit["images"]) == [48, 48] and list(search["images"]) == [96, 96]


def test_a_baseline_is_fitted_by_the_same_loop(tmp_path):
    torch.manual_seed(0)
    data = small.sides(24, 12)
    run = fitting(data, tmp_path, network=BASELINES["resnet18"](3), epochs=1).train()
    assert run.history["train_loss"].notna().all() and not (run.path / "alphas.csv").exists()


def test_training_learns(data, tmp_path):
    history = fitting(data, tmp_path, epochs=8, learning_rate=1e-2).train().history
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[0] - 0.1
    assert history["val_accuracy"].iloc[-1] > 0.6  # three classes alike in number


def test_a_cpu_can_train_in_bfloat16(data, tmp_path):  # an option
    trainer = fitting(data, tmp_path, epochs=1, precision="bf16")
    dtypes = []
    trainer.model.stem[0].register_forward_hook(lambda module, args, out: dtypes.append(out.dtype))
    trainer.train()
    assert set(dtypes) == {torch.bfloat16} and next(trainer.model.parameters()).dtype == torch.float32


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device here: fp16 needs one")
@pytest.mark.parametrize("start", [searching, fitting])
def test_mixed_precision_on_a_gpu(data, tmp_path, start):  # section III-B.1: AMP with dynamic loss scaling
    trainer = start(data, tmp_path, device="auto", batch_size="auto", epochs=1)
    run = trainer.train()
    state = run.load_checkpoint()
    assert trainer.device.type == "cuda" and trainer.accelerator.mixed_precision == "fp16"
    assert state["scaler"]["scale"] > 0 and 32 <= state["batch_size"] <= 512
    assert run.history["train_loss"].notna().all() and run.provenance["device"].startswith("cuda")
    assert start(data, tmp_path, device="auto", batch_size="auto", epochs=1).epoch == 1
