"""What a plan can do, from a folder of photographs to an evaluated network: what is written, kept and refused."""

from __future__ import annotations

import dataclasses
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import small
import torch
from PIL import Image
from torch import nn

from bionas.errors import CheckpointError, GenotypeError, Interrupted, SpecimenError, UnknownName
from bionas.genotype import Genotype
from bionas.network import preset
from bionas.specimens import ImageStore
from bionas.studies.backbones import BASELINES, ImageOnly
from bionas.system import places
from bionas.training import configuration as plans
from bionas.training import data, experiments, versions
from bionas.training.experiments import (
    baseline,
    metadata_alone,
    plan,
    random_controls,
    random_genotype,
    retrain,
    search,
)
from bionas.training.runs import Run

OF_EVERY_RUN = {"config.json", "provenance.json", "history.csv", "done.json"}
ORDERS = ("Coleoptera", "Diptera", "Odonata")


def photographs(folder, n=72, split=None):
    """`n` coloured squares and the table of their labels, as a lab would have them."""
    generator = np.random.default_rng(0)
    folder.mkdir()
    for i in range(n):
        pixels = generator.integers(0, 180, (36, 40, 3), dtype=np.uint8)
        pixels[:, :, i % 3] += 70
        Image.fromarray(pixels).save(folder / f"{i:03d}.png")
    table = pd.DataFrame(
        {
            "file": [f"{i:03d}.png" for i in range(n)],
            "order": [ORDERS[i % 3] for i in range(n)],
            "country": [f"country {i % 5}" for i in range(n)],
        }
    )
    if split is not None:
        table["split"] = split
    table.to_csv(folder / "labels.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return photographs(tmp_path_factory.mktemp("lab") / "photographs")


@pytest.fixture(scope="module", autouse=True)
def cache_of_their_own(tmp_path_factory):
    """Decoded images do not go into the checkout, and what these tests read does not stay in memory."""
    with pytest.MonkeyPatch.context() as patch:
        cache = tmp_path_factory.mktemp("cache")
        patch.setattr(places, "cache", lambda: cache)
        yield
    data.forget()


def planned(folder, run_dir, **choices):
    smallest = {"source": "folder", "data_dir": folder, "image_size": 32, "batch_size": 16, "device": "cpu"}
    return plan("smoke", run_dir=run_dir, **{**smallest, **choices})


def files_of(path):
    return {
        str(p.relative_to(path)): (p.read_bytes(), p.stat().st_mtime_ns)
        for p in path.rglob("*")
        if p.is_file()
    }


@pytest.fixture(scope="module")
def story(folder, tmp_path_factory):
    """A search and what follows from it, run once, with a record of which images were read when."""
    whole = planned(folder, tmp_path_factory.mktemp("runs"))
    whole.splits()  # looks at every photograph once, for repeated ones
    events, starts = [], {}
    with pytest.MonkeyPatch.context() as patch:
        read, save, fit = ImageStore.pixels, Run.save_checkpoint, experiments.Fit

        def recorded_read(store, positions, **options):
            own = np.asarray(positions, dtype=np.int64)
            events.append(("read", {*(own if store._positions is None else store._positions[own]).tolist()}))
            return read(store, positions, **options)

        def recorded_save(run, state):
            events.append(("checkpoint", run.path.name, state["epoch"]))
            save(run, state)

        def recorded_fit(network, *args):
            starts[args[4].path.name] = {
                name: tensor.clone() for name, tensor in network.state_dict().items()
            }
            return fit(network, *args)

        patch.setattr(ImageStore, "pixels", recorded_read)
        patch.setattr(Run, "save_checkpoint", recorded_save)
        patch.setattr(experiments, "Fit", recorded_fit)
        found = search(whole)
        after_search = len(events)
        derived = retrain(whole, found.genotype)
        after_derived = len(events)
        inherited = retrain(whole, found.genotype, "inherited", inherit=found)
        after_inherited = len(events)
        controls = random_controls(whole, 2)
    return SimpleNamespace(
        plan=whole,
        search=found,
        derived=derived,
        inherited=inherited,
        controls=controls,
        starts=starts,
        of_search=events[:after_search],
        of_fits=[events[after_search:after_derived], events[after_derived:after_inherited]],
    )


# --- what is written ------------------------------------------------------------------------------------------------


def test_a_search_leaves_its_folder(story):  # DESIGN 2
    names = {"alphas.csv", "genotype.json", "checkpoint/last.pt"}
    assert set(files_of(story.search.path)) == OF_EVERY_RUN | names and story.search.complete
    assert len(story.search.history) == story.search.summary["epochs"] == 2
    assert len(story.search.alphas) == 3 * 3 * 3 * 10
    assert len(story.search.genotype) == 3 and story.search.genotype.primitive_set == "full"


def test_a_retraining_leaves_its_folder_and_its_evaluation(story):  # DESIGN 2
    run, test = story.derived, story.plan.splits().test
    names = {"genotype.json", "metrics.json", "predictions.csv", "metadata_encoding.json"}
    assert OF_EVERY_RUN | names <= set(files_of(run.path)) and run.genotype == story.search.genotype
    table = run.table("predictions")
    assert len(table) == len(test) and list(table["truth"]) == list(test.label_names)
    assert run.metrics["accuracy"] == pytest.approx((table["truth"] == table["predicted"]).mean())
    summary = run.summary
    assert summary["parameters"] == sum(p.numel() for p in story.plan.derived(run.genotype).parameters())
    assert (
        summary["flops"] == 2 * summary["macs"] > 0 and summary["images_seen"] == run.history["images"].sum()
    )
    assert run.config["network"]["image_size"] == 32 and run.config["source"] == "folder"
    assert run.provenance["seed"] == 0 and len(run.provenance["data_fingerprint"]) == 64


def test_the_test_split_is_read_once_and_at_the_end(story):  # section IV: the test split is held out
    sides = [{*side.images._positions.tolist()} for side in story.plan.splits()]
    assert not sides[0] & sides[2] and not sides[1] & sides[2]
    train, val, test = sides
    assert all(not event[1] & test for event in story.of_search if event[0] == "read")
    for events in story.of_fits:
        last = max(i for i, event in enumerate(events) if event[0] == "checkpoint")
        assert events[last][2] == 2
        before = set().union(*(event[1] for event in events[:last] if event[0] == "read"))
        after = Counter(i for event in events[last:] if event[0] == "read" for i in event[1])
        assert before == train | val and after == Counter(dict.fromkeys(test, 1))


# --- what is kept ---------------------------------------------------------------------------------------------------


def test_a_finished_run_is_returned_at_once(story, monkeypatch):
    def refused(*args):
        raise AssertionError("it was trained again")

    for name in ("Search", "Fit", "predict"):
        monkeypatch.setattr(experiments, name, refused)
    before = files_of(story.plan.folder())
    found = search(story.plan)
    assert found.path == story.search.path
    assert retrain(story.plan, found.genotype).path == story.derived.path
    assert retrain(story.plan, found.genotype, "inherited", inherit=found).path == story.inherited.path
    assert [run.path for run in random_controls(story.plan, 2)] == [run.path for run in story.controls]
    assert files_of(story.plan.folder()) == before


def test_what_was_cut_off_before_its_evaluation_only_catches_up(story, tmp_path, monkeypatch):
    again = dataclasses.replace(story.plan, run_dir=str(tmp_path))
    evaluate = experiments.evaluation.evaluate

    def cut_off(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(experiments.evaluation, "evaluate", cut_off)
    with pytest.raises(KeyboardInterrupt):
        retrain(again, story.search.genotype)
    monkeypatch.setattr(experiments.evaluation, "evaluate", evaluate)
    monkeypatch.setattr(experiments.Fit, "train_epoch", None)  # nothing is left to train
    run = retrain(again, story.search.genotype)
    assert run.complete and run.path.name == story.derived.path.name
    assert run.metrics == story.derived.metrics  # and the same plan gives the same numbers


def test_inherited_weights_are_where_the_retraining_starts(story):  # DESIGN 4: reported beside the headline
    genotype = story.search.genotype
    supernet = story.plan.supernet()
    supernet.load_state_dict(story.search.load_checkpoint()["model"])
    expected = story.plan.derived(genotype)
    expected.inherit(supernet)
    start = story.starts[story.inherited.path.name]
    assert not small.differences(dict(start), dict(expected.state_dict()))
    scratch = story.plan.derived(genotype).state_dict()
    assert not small.differences(dict(story.starts[story.derived.path.name]), dict(scratch))
    assert small.differences(dict(start), dict(scratch))
    assert 0 <= story.inherited.summary["inherited_val_accuracy"] <= 1
    assert "inherited_val_accuracy" not in story.derived.summary


def test_random_controls_are_trained_as_the_derived_network(story):
    drawn = [random_genotype(story.plan, i) for i in range(2)]
    assert [run.genotype for run in story.controls] == drawn and drawn[0] != drawn[1]
    differing = {"role", "genotype", "inherit"}
    for run in story.controls:
        configs = (run.config, story.derived.config)
        assert {k for k in configs[0] if configs[0][k] != configs[1].get(k)} <= differing
        assert run.metrics["n"] == story.derived.metrics["n"]


def test_random_genotypes_are_the_same_for_every_seed(folder, tmp_path):
    ours = planned(folder, tmp_path)
    other_seed = dataclasses.replace(ours, seed=5)
    assert [random_genotype(ours, i) for i in range(4)] == [random_genotype(other_seed, i) for i in range(4)]
    assert len({random_genotype(ours, i).key() for i in range(4)}) == 4
    assert (
        random_genotype(dataclasses.replace(ours, primitive_set="conv_only"), 0).primitive_set == "conv_only"
    )


def test_splits_are_the_same_for_every_seed(
    folder, tmp_path
):  # seeds are compared on the same test specimens
    splits = [planned(folder, tmp_path, seed=seed).splits() for seed in (0, 5)]
    assert [side.fingerprint for side in splits[0]] == [side.fingerprint for side in splits[1]]


# --- folders --------------------------------------------------------------------------------------------------------


@pytest.fixture
def claims(monkeypatch):
    """`claims(search, plan)` -> the run folder it would train in."""

    class Claimed(Exception):
        pass

    def claim(network, train, val, encoding, config, run, description):
        raise Claimed(run.path)

    monkeypatch.setattr(experiments, "Search", claim)
    monkeypatch.setattr(experiments, "Fit", claim)

    def claims(run, *args):
        with pytest.raises(Claimed) as claimed:
            run(*args)
        return claimed.value.args[0]

    return claims


COMMON = [
    {},
    {"seed": 1},
    {"data_seed": 1},
    {"metadata": "none"},
    {"split": "bin_disjoint"},
    {"preset": "quick"},
    {"image_size": 24},
    {"limit": 60},
    {"batch_size": 8},
    {"precision": "bf16"},
    {"shared_theta": True},
]


def test_two_plans_never_share_a_folder(folder, tmp_path, claims):
    splits = plans.SpecimenSet.split
    with pytest.MonkeyPatch.context() as patch:  # these photographs have no BINs
        patch.setattr(plans.SpecimenSet, "split", lambda self, scheme, seed: splits(self, "paper", seed))
        searched = [
            *COMMON,
            {"primitive_set": "reduced"},
            {"theta_data": "train"},
            {"search_epochs": 3},
            {"max_skips": 2},
        ]
        folders = [claims(search, planned(folder, tmp_path, **choices)) for choices in searched]
        assert len(set(folders)) == len(folders)
        ours = planned(folder, tmp_path)
        genotype = random_genotype(ours, 0)
        fitted = [*COMMON, {"epochs": 3}, {"learning_rate": 1e-4}, {"augment": "flips_and_shifts"}]
        folders += [claims(retrain, planned(folder, tmp_path, **choices), genotype) for choices in fitted]
        folders += [claims(retrain, ours, random_genotype(ours, 1)), claims(retrain, ours, genotype, "other")]
    assert len(set(folders)) == len(folders)
    elsewhere = planned(folder, tmp_path / "elsewhere")
    assert claims(search, elsewhere).name == folders[0].name  # where it lies is no part of what it is


def test_other_photographs_are_another_run(folder, tmp_path, claims):
    other = photographs(tmp_path / "photographs", n=69)
    assert claims(search, planned(other, tmp_path)) != claims(search, planned(folder, tmp_path))


def test_other_code_is_another_run(
    folder, tmp_path, claims, monkeypatch
):  # a number and the code that made it
    ours = planned(folder, tmp_path)

    def folders():
        drawn = random_genotype(ours, 0)
        build = {"network": {}, "config": ours.fit_config()}
        return {
            "search": claims(search, ours),
            "retrain": claims(retrain, ours, drawn),
            "baseline": claims_baseline(ours),
            "companion": claims(lambda: experiments.companion(ours, lambda: None, "seran", **build)),
        }

    def claims_baseline(ours):
        monkeypatch.setitem(BASELINES._things, "one_layer", lambda *a: None)
        return claims(baseline, ours, "one_layer")

    before = folders()
    concerned = {
        "network": {"search", "retrain"},
        "stems": set(),
        "training": {*before},
        "specimens": {*before},
        "evaluation": {"retrain", "baseline", "companion"},
        "backbones": {"baseline"},
        "seran": {"companion"},
        "eb_lnast": set(),
        "automl": set(),
        "strategies/enas": set(),
    }
    assert set(versions.VERSIONS) <= set(concerned)
    for subsystem, roles in concerned.items():
        with monkeypatch.context() as patch:
            patch.setitem(versions.VERSIONS, subsystem, 99)
            now = folders()
        assert {role for role in before if now[role] != before[role]} == roles, subsystem
    assert folders() == before


# --- what is refused ------------------------------------------------------------------------------------------------


def test_a_genotype_of_another_primitive_set_or_depth_is_refused(folder, tmp_path):
    ours = planned(folder, tmp_path)
    cells = preset("tiny")
    foreign = Genotype.random(cells.cells, cells.reductions, "conv_only", np.random.default_rng(0))
    with pytest.raises(GenotypeError, match="primitive set 'conv_only'.*built for 'full'"):
        retrain(ours, foreign)
    deeper = preset("laptop")
    with pytest.raises(GenotypeError, match="preset that the search used"):
        retrain(ours, Genotype.random(deeper.cells, deeper.reductions, "full", np.random.default_rng(0)))
    assert not any(tmp_path.iterdir())


def test_nothing_is_inherited_from_a_search_that_is_not_finished_or_another(story, folder, tmp_path):
    ours = dataclasses.replace(story.plan, run_dir=str(tmp_path))
    with pytest.raises(CheckpointError, match="not a finished search"):
        retrain(ours, story.search.genotype, inherit=Run(tmp_path / "search-0"))
    unfinished = Run(tmp_path / "search-1")
    unfinished.save_checkpoint(story.search.load_checkpoint())
    with pytest.raises(CheckpointError, match="not a finished search"):
        retrain(ours, story.search.genotype, inherit=unfinished)
    with pytest.raises(CheckpointError, match="another supernet .*same preset"):
        retrain(dataclasses.replace(ours, metadata="none"), story.search.genotype, inherit=story.search)


def test_a_class_too_small_is_refused_before_anything_is_written(folder, tmp_path):
    few = photographs(tmp_path / "photographs", n=8)  # the third order has two
    with pytest.raises(SpecimenError, match="Odonata"):
        search(planned(few, tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("choice", "near"), [({"mode": "smoek"}, "smoke"), ({"preset": "quik"}, "quick")])
def test_a_misspelt_choice_is_answered_with_the_nearest(choice, near):
    with pytest.raises(UnknownName, match=f"Did you mean '{near}'"):
        plan(**choice)


# --- other ways in --------------------------------------------------------------------------------------------------


def test_plans_that_share_their_data_share_one_split_and_one_leakage_report(folder, tmp_path, monkeypatch):
    calls = Counter()
    split, report = plans.SpecimenSet.split, data.leakage_report

    def counted_split(self, scheme, seed):
        calls["split"] += 1
        return split(self, scheme, seed)

    def counted_report(*args):
        calls["report"] += 1
        return report(*args)

    monkeypatch.setattr(plans.SpecimenSet, "split", counted_split)
    monkeypatch.setattr(data, "leakage_report", counted_report)
    data.forget()
    changes = [
        {"seed": seed, "augment": augment, "learning_rate": rate}
        for seed in (0, 1, 2)
        for augment in ("none", "flips_and_shifts")
        for rate in (1e-3, 3e-3)
    ]
    for _ in range(2):
        for change in changes:
            ours = planned(folder, tmp_path, **change)
            experiments.report_leakage(ours.encoding().fields, ours.splits(), Run(tmp_path / "run"))
    assert calls == {"split": 1, "report": 1}
    planned(folder, tmp_path, data_seed=1).splits()
    ours = planned(folder, tmp_path, metadata="country")
    experiments.report_leakage(ours.encoding().fields, ours.splits(), Run(tmp_path / "run"))
    experiments.report_leakage(("country", "order"), ours.splits(), Run(tmp_path / "run"))
    assert calls == {"split": 2, "report": 2}  # the fields of leak_free were the country alone


def test_metadata_follow_what_the_records_hold(folder, tmp_path, capsys):
    assert planned(folder, tmp_path).describe()["metadata"] == "leak_free"
    plain = photographs(tmp_path / "plain", n=36)
    table = pd.read_csv(plain / "labels.csv").drop(columns="country")
    table.to_csv(plain / "labels.csv", index=False)
    ours = planned(plain, tmp_path)
    assert ours.encoding().fields == () and ours.describe()["metadata"] == "none"
    assert planned(plain, tmp_path, seed=1).inputs()["vocabulary_sizes"] == ()
    assert capsys.readouterr().out.count("metadata=none") == 1
    assert ours.run("search", ours.search_config(), ours.describe()).path == (
        planned(plain, tmp_path, metadata="none").run("search", ours.search_config(), ours.describe()).path
    )


def test_a_source_without_photographs_is_told_what_it_can_train(folder, tmp_path):
    records = planned(folder, tmp_path, source="records", data_dir=folder / "labels.csv")
    drawn = random_genotype(records, 0)
    for run in (search, lambda p: retrain(p, drawn), lambda p: baseline(p, "resnet18")):
        with pytest.raises(SpecimenError, match="records without photographs.*metadata-alone"):
            run(records)
    assert not [*tmp_path.iterdir()]


def test_an_interruption_says_where_it_stopped_and_is_resumed(folder, tmp_path, monkeypatch):
    ours = planned(folder, tmp_path, epochs=3)
    drawn, epochs = random_genotype(ours, 0), []
    real = experiments.Fit.train_epoch

    def interrupted(self, epoch, *args):
        if epoch == 1 and not epochs:
            epochs.append(epoch)
            raise KeyboardInterrupt
        return real(self, epoch, *args)

    monkeypatch.setattr(experiments.Fit, "train_epoch", interrupted)
    with pytest.raises(
        Interrupted, match="derived stopped after epoch 1 of 3; run it again to resume"
    ) as stopped:
        retrain(ours, drawn)
    assert isinstance(stopped.value, KeyboardInterrupt)  # nothing that catches errors catches it
    assert stopped.value._render_traceback_() == [str(stopped.value)]
    assert retrain(ours, drawn).summary["epochs"] == 3


def test_a_small_folder_of_ones_own_is_trained_longer_and_augmented(folder, tmp_path):
    own = plan("quick", source="folder", data_dir=folder)
    assert (own.epochs, own.augment) == (60, "flips_and_shifts")
    assert dataclasses.replace(own, seed=3).epochs == 60
    chosen = plan("quick", source="folder", data_dir=folder, epochs=7, augment="none")
    assert (chosen.epochs, chosen.augment) == (7, "none")
    for other in (
        plan("quick"),
        plan("smoke", source="folder", data_dir=folder),
        plan("quick", source="folder"),
    ):
        assert other.epochs == plans.MODES[other.mode]["epochs"] and other.augment == "none"
    assert not data.has_fewer_photographs(folder, 72) and data.has_fewer_photographs(folder, 73)


def test_a_source_is_told_its_options_as_text(folder, tmp_path):
    padded = planned(folder, tmp_path, source_options="fit=pad max_unreadable=0.5")
    cropped = planned(folder, tmp_path)
    assert padded.specimens().fingerprint != cropped.specimens().fingerprint  # 40 x 36 pixels are no square
    assert padded.describe()["source_options"] == "fit=pad max_unreadable=0.5"
    with pytest.raises(SpecimenError, match="'pad' is not NAME=VALUE"):
        planned(folder, tmp_path, source_options="pad").specimens()
    with pytest.raises(UnknownName, match="Did you mean 'fit'"):
        planned(folder, tmp_path, source_options="fits=pad").specimens()


def test_records_without_a_label_can_be_a_class(tmp_path):
    folder = photographs(tmp_path / "photographs", n=24)
    table = pd.read_csv(folder / "labels.csv")
    table.loc[::4, "order"] = None
    table.to_csv(folder / "labels.csv", index=False)
    assert len(planned(folder, tmp_path / "runs").specimens()) == 18
    kept = planned(folder, tmp_path / "runs", unlabelled="class").specimens()
    assert kept.counts()["Unlabelled"] == 6 and len(kept) == 24


def test_a_split_of_their_own_is_followed(tmp_path):
    own = np.tile(["train"] * 3 + ["val"] * 3 + ["test"] * 3 + ["train"] * 3, 6)
    ours = planned(photographs(tmp_path / "photographs", split=own), tmp_path)
    assert [len(side) for side in ours.splits()] == [36, 18, 18]
    assert set(ours.splits().test.records["split"]) == {"test"}
    assert [len(side) for side in dataclasses.replace(ours, split="paper").splits()] != [36, 18, 18]


def test_metadata_alone_is_trained_without_an_image(folder, tmp_path):  # Eq. 10 under the head of Eq. 11
    planned_run = planned(folder, tmp_path, metadata="leak_free")
    run = metadata_alone(planned_run)
    assert run.complete and set(run.metrics) >= {"accuracy", "balanced_accuracy"}
    countries = 5 + 1  # and the unknown one
    encoder, head = countries * 16 + (16 * 256 + 256) + (256 * 256 + 256), (256 * 256 + 256) + (256 * 3 + 3)
    assert run.summary["parameters"] == encoder + head
    with pytest.raises(SpecimenError, match="has no field to learn from.*leak_free"):
        metadata_alone(planned(folder, tmp_path, metadata="none"))


def test_images_alone_and_a_baseline(folder, tmp_path, monkeypatch):
    def one_layer(n, image_size):
        return ImageOnly(
            nn.Sequential(nn.Conv2d(3, n, 5, 2), nn.BatchNorm2d(n), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        )

    monkeypatch.setitem(BASELINES._things, "one_layer", one_layer)
    ours = planned(folder, tmp_path, metadata="none", epochs=1)
    assert ours.inputs() == {"n_classes": 3, "vocabulary_sizes": (), "n_numeric": 0}
    run = baseline(ours, "one_layer")
    assert (
        run.complete and run.config["baseline"] == "one_layer" and run.metrics["n"] == len(ours.splits().test)
    )
    assert not (run.path / "genotype.json").exists()
    torch.manual_seed(1)  # whatever was drawn before, the plan's seed decides
    assert (
        baseline(dataclasses.replace(ours, run_dir=str(tmp_path / "again")), "one_layer").metrics
        == run.metrics
    )
    with pytest.raises(UnknownName, match="Did you mean 'resnet18'"):
        baseline(ours, "resnet-18")
