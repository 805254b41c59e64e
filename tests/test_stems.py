"""Cells on a pretrained stem: its maps, kept and computed, and networks that are searched and trained on them."""

from __future__ import annotations

import dataclasses

import laboratory
import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import small
import timm
import torch

from bionas import figures
from bionas.errors import BaselineError, TrainingError, UnknownName
from bionas.genotype import Genotype
from bionas.lab.groups import divide
from bionas.lab.kinds import side_table
from bionas.network import NetworkConfig, build_stem
from bionas.specimens import BatchLoader, MetadataEncoding, load_specimens
from bionas.strategies import STRATEGIES
from bionas.strategies.evaluators import PlanEvaluator
from bionas.studies import stems as study
from bionas.system import places
from bionas.training import experiments, stems
from bionas.training.configuration import from_settings
from bionas.training.fitting import Fit
from bionas.training.loop import predict
from bionas.training.maps import Maps
from bionas.training.recipe import FitConfig
from bionas.training.runs import Run

ARCHITECTURE = "test_efficientnet"
"""timm's smallest network with batch normalisation; its stage 2 gives maps of 32 channels, an eighth of the side."""

STEM, SIZE = f"timm:{ARCHITECTURE}:2", 32
CONFIG = NetworkConfig(image_size=SIZE, channels=4, cells=2, stem=STEM)


@pytest.fixture(scope="module")
def whole():
    """A network whose statistics differ from those of an untrained one."""
    torch.manual_seed(0)
    network = timm.create_model(ARCHITECTURE, num_classes=0).train()
    with torch.no_grad():
        for _ in range(3):
            network(torch.rand(8, 3, SIZE, SIZE))
    return network.eval()


@pytest.fixture(scope="module")
def weights(tmp_path_factory, whole):
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    safetensors.torch.save_file(whole.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    return laboratory.photographs(tmp_path_factory.mktemp("collection") / "photographs", 90)


@pytest.fixture
def planned(photographs, weights, tmp_path):
    """A plan on the stem, with a run folder of its own."""

    def make(**choices):
        own = {"preset": "on_stem", "image_size": SIZE, "stem": STEM, "weights": weights, "metadata": "none"}
        return laboratory.plan(photographs, tmp_path / "runs", **(own | choices))

    return make


def some_genotype(plan, seed=0):
    sizes = plan.network()
    return Genotype.random(sizes.cells, sizes.reductions, "full", np.random.default_rng(seed))


# --- the stem ---------------------------------------------------------------------------------------------------------


def test_the_maps_are_those_of_the_whole_network_on_its_own_normalisation(whole, weights):
    """Our loader's images are brought to the mean and deviation that the weights were trained with."""
    published = stems.published(stems.parse(f"{ARCHITECTURE}:2"), str(weights))
    stem = build_stem(CONFIG).eval()
    stem.stages.load_state_dict(published.state)
    seen = []
    hook = whole.blocks[2].register_forward_hook(lambda *passed: seen.append(passed[2]))
    pixels = torch.rand(4, 3, SIZE, SIZE)
    settings = whole.pretrained_cfg
    mean, std = (torch.tensor(settings[name]).reshape(3, 1, 1) for name in ("mean", "std"))
    with torch.no_grad():
        whole.forward_features((pixels - mean) / std)
        ours = stem.maps((pixels - 0.5) / 0.25)
    hook.remove()
    torch.testing.assert_close(ours, seen[0], atol=1e-4, rtol=1e-4)
    assert ours.shape[1:] == stems.map_shape(stems.parse(f"{ARCHITECTURE}:2"), SIZE)


def test_a_stage_has_the_number_that_timm_gives_it():
    """blocks.N of an EfficientNet, layerN of a ResNet, stages.N of a ConvNeXt."""
    for name, shape in {
        "tf_efficientnet_lite0:4": (112, 4, 4),
        "tf_efficientnet_lite0:6": (320, 2, 2),
        "resnet18:3": (256, 4, 4),
        "convnext_atto:1": (80, 8, 8),
    }.items():
        assert stems.map_shape(stems.parse(name), 64) == shape, name


def test_cells_begin_with_the_same_weights_on_every_stem():
    def projection(stem):
        torch.manual_seed(3)
        return build_stem(dataclasses.replace(CONFIG, stem=stem)).project[0].weight

    assert torch.equal(projection(STEM), projection(STEM))
    torch.manual_seed(3)
    expected = torch.nn.Conv2d(32, CONFIG.stages()[0][0], 1, bias=False).weight
    assert torch.equal(projection(STEM), expected)


def test_what_cannot_be_a_stem_is_refused(tmp_path, planned):
    for stem, kind in {
        "timm:resnet18": BaselineError,
        "timm:resnet18:x": BaselineError,
        "timm:resnet81:3": UnknownName,
        "timm:resnet18:9": UnknownName,
        "timm:vit_tiny_patch16_224:3": BaselineError,
    }.items():
        with pytest.raises(kind):
            build_stem(dataclasses.replace(CONFIG, stem=stem))
    with pytest.raises(BaselineError, match="no such file"):
        planned(weights=str(tmp_path / "absent.pt")).training_splits()
    with pytest.raises(TrainingError, match="takes none"):
        planned(stem="conv")


def test_weights_are_a_path_on_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = from_settings([f"stem={STEM}", "weights=mine.pt"], mode="smoke")
    assert plan.weights == str(tmp_path / "mine.pt")


# --- the maps ---------------------------------------------------------------------------------------------------------


def test_maps_kept_are_maps_computed(planned):
    plan = planned(augment="flips_and_shifts", variants=3)
    kept, plain = plan.training_splits(), plan.splits()
    stem = plan.derived(some_genotype(plan)).stem.eval()
    encoding = plan.encoding()
    for mapped, side in zip(kept, plain):
        loaders = [BatchLoader(one, encoding, 16, shuffle=False) for one in (mapped, side)]
        for maps, images in zip(*(loader.epoch(0) for loader in loaders)):
            assert torch.equal(maps.label, images.label)
            with torch.no_grad():
                expected = stem.maps(images.image)
            torch.testing.assert_close(maps.image, expected, atol=2e-3, rtol=2e-3)  # float16


def test_an_epoch_with_augmentation_draws_variants_by_seed_and_epoch(planned):
    plan = planned(augment="flips_and_shifts", variants=3)
    train = plan.training_splits().train

    def epoch(number, augment="flips_and_shifts", seed=0):
        loader = BatchLoader(train, plan.encoding(), len(train), shuffle=False, seed=seed, augment=augment)
        return next(iter(loader.epoch(number))).image

    plain, varied = epoch(0, "none"), epoch(0)
    same = (varied == plain).flatten(1).all(dim=1)
    assert 0 < same.sum() < len(train)  # about one in three is drawn as it is
    assert torch.equal(varied, epoch(0)) and not torch.equal(varied, epoch(1))
    assert not torch.equal(varied, epoch(0, seed=1))


def test_maps_are_computed_once_and_again_for_other_weights_or_photographs(planned, tmp_path):
    plan = planned()
    collection, maps = plan.specimens(), Maps(plan.published(), SIZE)
    maps.of(collection, tmp_path / "maps")
    (whole,) = (tmp_path / "maps").glob("*.npy")
    half = whole.with_name(f".{whole.name}.1-abcd.part")  # what a killed process leaves
    whole.rename(half)
    first = maps.of(collection, tmp_path / "maps")
    assert not half.exists()
    files = sorted((tmp_path / "maps").glob("*.npy"))
    before = files[0].stat().st_mtime_ns
    again = maps.of(collection, tmp_path / "maps")
    assert [path.stat().st_mtime_ns for path in files] == [before]
    assert again.images.fingerprint == first.images.fingerprint
    other = maps._replace(weights=plan.published()._replace(fingerprint="another"))
    other.of(collection, tmp_path / "maps")
    maps.of(collection.subset(np.arange(10)), tmp_path / "maps")
    assert len(list((tmp_path / "maps").glob("*.npy"))) == 3
    part = first.subset(np.array([5, 2])).images
    np.testing.assert_array_equal(part.pixels([1, 0]), first.images.pixels([2, 5]))
    assert part.fingerprint != first.images.fingerprint


# --- networks on maps -------------------------------------------------------------------------------------------------


def test_a_frozen_stem_stays_as_it_was(planned):
    plan = planned(stem_maps="computed", augment="flips_and_shifts", theta_batch_norm="running")
    before = plan.published().state
    for run in (experiments.search(plan), experiments.retrain(plan, some_genotype(plan))):
        after = run.load_checkpoint()["model"]
        for name, tensor in before.items():
            assert torch.equal(after[f"stem.stages.{name}"], tensor), name
        assert not torch.equal(
            after["stem.project.1.running_mean"], torch.zeros(plan.network().stages()[0][0])
        )


def test_a_search_on_kept_maps_is_the_search_with_the_stem_in_place(planned):
    """At a rate of theta at which a gradient of about zero, whose sign float16 may change, moves no theta far."""
    runs = [
        experiments.search(planned(stem_maps=maps, theta_learning_rate="paper"))
        for maps in ("cached", "computed")
    ]
    assert runs[0].path != runs[1].path
    alphas = [run.table("alphas")["alpha"].to_numpy() for run in runs]
    np.testing.assert_allclose(*alphas, atol=2e-4)
    for column in ("train_loss", "theta_loss", "val_loss"):
        np.testing.assert_allclose(*(run.history[column] for run in runs), atol=5e-3)


def test_a_network_trained_on_maps_gives_the_same_logits_end_to_end(planned):
    plan = planned(epochs=2)
    genotype = some_genotype(plan)
    run = experiments.retrain(plan, genotype)
    network = plan.derived(genotype)
    network.load_state_dict(run.weights())
    sides = (splits.test for splits in (plan.splits(), plan.training_splits()))
    end_to_end, on_maps = (predict(network, side, plan.encoding(), device="cpu") for side in sides)
    np.testing.assert_allclose(end_to_end, on_maps, atol=5e-3)
    assert run.summary["macs"] > 3 * 16 * 16 * 16 * 27  # that of the stem's first convolution is counted too


def test_strategies_search_on_maps(planned):
    plan = planned(epochs=2)
    evaluate = PlanEvaluator(plan, 2, at_target=True, keep_weights=True)
    found = STRATEGIES["halving"](evaluate.space(), evaluate, 3 * evaluate.images, 0)
    run = evaluate.child_run(found.genotype)
    assert run.complete and 0 <= run.summary["val_accuracy"] <= 1
    assert STRATEGIES["synflow"](evaluate.space(), evaluate, 0, 0, candidates=2).genotype


def test_a_training_on_variants_that_was_interrupted_ends_like_an_undisturbed_one(planned, tmp_path):
    """The second epoch of the interrupted one is begun twice."""
    plan = planned(augment="flips_and_shifts", variants=2)
    train, val, _ = plan.training_splits()
    config = FitConfig(epochs=3, batch_size=16, augment="flips_and_shifts", device="cpu")

    class Interrupting(Fit):
        after: int

        def train_epoch(self, epoch, bar):
            if epoch == self.after:
                raise KeyboardInterrupt
            return super().train_epoch(epoch, bar)

    def training(kind, name):
        network = plan.derived(some_genotype(plan))
        return kind(network, train, val, plan.encoding(), config, Run(tmp_path / name))

    training(Fit, "undisturbed").train()
    interrupted = training(Interrupting, "interrupted")
    interrupted.after = 1
    with pytest.raises(KeyboardInterrupt):
        interrupted.train()
    torch.manual_seed(99)
    training(Fit, "interrupted").train()
    one, other = (Run(tmp_path / name).load_checkpoint()["model"] for name in ("undisturbed", "interrupted"))
    assert not small.differences(one, other)


def test_metadata_of_a_split_and_of_its_maps_are_the_same(planned):
    plan = planned(metadata="leak_free")
    assert isinstance(plan.encoding(), MetadataEncoding)
    for mapped, side in zip(plan.training_splits(), plan.splits()):
        assert mapped.records.equals(side.records)


# --- the study --------------------------------------------------------------------------------------------------------


def made_up_runs():
    rows = [
        {"model": "majority class", "stage": None, "seed": seed, "accuracy": 0.1, "val_accuracy": None}
        for seed in (0, 1)
    ]
    for model, stage, accuracies, ms in (
        ("searched cells", 6, (0.8, 0.9), 20.0),
        ("searched cells", 4, (0.7, 0.7), 10.0),
        ("whole network, frozen", None, (0.9, 0.9), 25.0),
    ):
        rows += [
            {"model": model, "stage": stage, "seed": seed, "accuracy": accuracy, "milliseconds": ms}
            for seed, accuracy in enumerate(accuracies)
        ]
    frame = pd.DataFrame(rows)
    return frame.assign(
        balanced_accuracy=frame["accuracy"], mmacs=1.0, megabytes=1.0, core_minutes=1.0, n_test=10
    )


def test_the_summary_has_one_row_per_model_and_stage_and_the_figure_draws_those_with_a_time():
    table = study.summary(made_up_runs())
    assert list(table["n_seeds"]) == [2, 2, 2, 2]
    searched = table[(table["model"] == "searched cells") & (table["stage"] == 6)].iloc[0]
    assert searched["accuracy"] == pytest.approx(0.85)
    assert searched["accuracy_sd"] == pytest.approx(np.std([0.8, 0.9], ddof=1))
    figure = figures.accuracy_against_milliseconds(table, "photographs of pests")
    points = {
        (trace.name, text): (x, y)
        for trace in figure.data
        for text, x, y in zip(trace.text, trace.x, trace.y)
    }
    assert points == {
        ("searched cells", "stage 6"): (20.0, 85.0),
        ("searched cells", "stage 4"): (10.0, 70.0),
        ("whole network, frozen", ""): (25.0, 90.0),
    }
    assert "whole network, frozen" in figure.layout.title.text


def test_what_a_photograph_takes_is_measured_and_its_macs_are_counted():
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, 2, 1),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(4, 2),
    )
    weighed = study.weighed(network, 64)
    side = 32
    assert weighed["mmacs"] == pytest.approx((side**2 * 27 * 4 + 8) / 1e6)
    assert weighed["milliseconds"] > 0


def test_rows_of_the_study_are_of_one_division_and_end_to_end(photographs, weights, tmp_path, monkeypatch):
    monkeypatch.setenv("BIONAS_RUNS", str(tmp_path / "runs"))
    specimens = load_specimens("folder", photographs, image_size=SIZE, cache_dir=places.cache())
    sides, _ = divide(specimens, None, 0)
    at = study.Division(
        photographs, specimens, sides, side_table(specimens, sides, tmp_path), 0,
        epochs=1, architecture=ARCHITECTURE, weights=str(weights),
    )  # fmt: skip
    assert study.majority_row(at)["n_test"] == len(sides[2])
    rows = {
        "linear": study.linear_row(at, 2),
        "searched": study.cells_row(at, 2, study.searched(at, 2)),
        "tuned": study.tuned_row(at, 2, 0.5),
    }
    for name, row in rows.items():
        assert 0 <= row["accuracy"] <= 1 and row["n_test"] == len(sides[2]), name
    assert rows["tuned"]["genotype"] == rows["searched"]["genotype"]
    assert rows["tuned"]["mmacs"] == rows["searched"]["mmacs"] > rows["linear"]["mmacs"]
