"""The systems of Table V: one budget of time, one call, and what is left where one of them breaks off."""

from __future__ import annotations

import itertools
import json

import laboratory
import numpy as np
import pandas as pd
import pytest
import torch

from bionas.__main__ import main
from bionas.errors import AutoMLError, UnknownName
from bionas.specimens.loader import BatchLoader
from bionas.studies.automl import SYSTEMS, clock, failure, measured, run, space, study, table, training
from bionas.studies.automl.adapters import optuna as on_optuna
from bionas.studies.automl.adapters import smac3 as on_smac3
from bionas.studies.automl.clock import Clock, OutOfTime, watched
from bionas.studies.automl.command import minutes
from bionas.system import places
from bionas.training.runs import Run

SHARED = ("optuna", "smac3", "enas", "nao", "bioautoml-nas")
"""The systems that share this environment."""
MINUTES = {"optuna": 1.0, "smac3": 0.6, "enas": 4.0, "nao": 1.0, "bioautoml-nas": 4.0}
"""Of the clock below, enough for a few candidates each."""
CONFIGURATION = {
    "stages": 2,
    "blocks": 1,
    "width": 8,
    "kernel": 3,
    "convolution": "plain",
    "shortcut": "no",
    "dropout": 0.1,
    "learning_rate": 1e-3,
    "weight_decay": 1e-4,
    "label_smoothing": 0.1,
    "batch_size": 32,
    "schedule": "one_cycle",
}


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    return laboratory.photographs(tmp_path_factory.mktemp("automl") / "photographs")


@pytest.fixture
def plan(photographs, tmp_path):
    return laboratory.plan(photographs, tmp_path / "runs")


@pytest.fixture(autouse=True, scope="module")
def ticking():
    """Each look at the clock is a second later than the one before: a budget ends at the same place on any machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "monotonic", itertools.count().__next__)
        patch.setattr(on_smac3, "INITIAL", 2)
        yield


@pytest.fixture(scope="module", params=SHARED)
def finished(request, photographs, ticking, tmp_path_factory):
    """(plan, name, run) of each system."""
    plan = laboratory.plan(photographs, tmp_path_factory.mktemp(request.param))
    return plan, request.param, run(plan, request.param, MINUTES[request.param])


# --- the budget ------------------------------------------------------------------------------------------------------


def test_training_images_are_counted_and_no_others(plan, tmp_path):
    watch = Clock(tmp_path / "clock.json", minutes=1000)
    train, val, test = watched(plan.splits(), watch)
    assert test is None and train.fingerprint == plan.splits().train.fingerprint
    encoding = plan.encoding()
    for side in (train, val):
        for _ in itertools.chain.from_iterable(
            BatchLoader(side, encoding, 16, shuffle=True).epoch(e) for e in range(3)
        ):
            pass
    assert watch.images == 3 * len(train) and len(val) > 0
    watch.keep()
    assert Clock(watch.path, minutes=1000).images == 3 * len(train)


def test_time_goes_on_where_an_earlier_start_left_it(tmp_path):
    first = Clock(tmp_path / "clock.json", minutes=1)  # each look costs a second
    with pytest.raises(OutOfTime):
        for _ in range(60):
            first.saw(1)
    assert 0 < first.images < 60
    again = Clock(first.path, minutes=1)
    with pytest.raises(OutOfTime):
        again.saw(1)
    assert again.images == first.images and again.left == 0
    longer = Clock(first.path, minutes=4)
    with pytest.raises(OutOfTime), longer.until(0.5):
        for _ in range(240):
            longer.saw(1)
    assert longer.left > 0  # of the whole


def test_a_budget_is_a_time():
    assert [minutes(text) for text in ("10m", "90s", "1.5h", "3", "2min")] == [10, 1.5, 90, 3, 2]
    for text in ("ten", "10 days", "-3m", ""):
        with pytest.raises(AutoMLError, match="write a time as"):
            minutes(text)


# --- the space -------------------------------------------------------------------------------------------------------


def test_both_searches_ask_in_one_space():
    hyperparameters = dict(on_smac3.configuration_space(0))
    assert set(hyperparameters) == {dimension.name for dimension in space.SPACE}
    asked = {}

    class Trial:  # Optuna's side of the conversation
        def suggest_categorical(self, name, options):
            asked[name] = tuple(options)
            return options[0]

        def suggest_int(self, name, low, high, log):
            asked[name] = (low, high, log)
            return low

        suggest_float = suggest_int

    configuration = on_optuna.suggested(Trial())
    assert list(configuration) == [dimension.name for dimension in space.SPACE]
    for name, theirs in hyperparameters.items():
        ours = (
            tuple(theirs.choices) if hasattr(theirs, "choices") else (theirs.lower, theirs.upper, theirs.log)
        )
        assert ours == asked[name], name


@pytest.mark.parametrize(("convolution", "block"), [("plain", 8 * 16 * 9), ("separable", 8 * 9 + 8 * 16)])
def test_a_configuration_counted_by_hand(plan, convolution, block):
    configuration = CONFIGURATION | {"convolution": convolution}
    own = 8 * 8 * 9 if convolution == "plain" else 8 * 9 + 8 * 8
    cnn = space.CNN(
        **{
            name: configuration[name]
            for name in ("stages", "blocks", "width", "kernel", "convolution", "shortcut")
        }
    )
    stem = 3 * 8 * 9
    assert sum(p.numel() for p in cnn.parameters()) == stem + own + block + 2 * (
        8 + 8 + 16
    )  # weights, then BN's
    assert cnn.features == 16 and cnn(torch.zeros(2, 3, 16, 16)).shape == (2, 16)
    encoding, network = plan.encoding(), space.network(plan, configuration)
    specimens = plan.splits().val
    batch = next(BatchLoader(specimens, encoding, 4, shuffle=False).epoch(0))
    assert network(batch.image, batch.metadata).shape == (4, 3)
    config = space.training(plan, configuration, 7)
    assert (config.epochs, config.learning_rate, config.schedule, config.augment) == (
        7,
        1e-3,
        "one_cycle",
        plan.augment,
    )


def test_a_shortcut_leads_around_a_block_that_keeps_its_shape():
    block = space._Block(4, 4, 3, 1, "plain", True).eval()
    torch.nn.init.zeros_(block.body[0].weight)
    x = torch.randn(2, 4, 6, 6)
    assert torch.equal(block(x), torch.relu(x))
    assert (
        not space._Block(4, 8, 3, 1, "plain", True).shortcut
        and not space._Block(4, 4, 3, 2, "plain", True).shortcut
    )


# --- a run -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_system_leaves_a_run_like_every_other(finished, monkeypatch):
    plan, name, left = finished
    summary, kept = left.summary, json.loads((left.path / "clock.json").read_text())
    assert left.complete and summary["images_seen"] == kept["images"] > 0 and failure(left) is None
    assert summary["budget_minutes"] == MINUTES[name] and summary["candidates"] >= 1
    candidates = left.table("candidates")
    assert len(candidates) == summary["candidates"] and candidates["val_accuracy"].between(0, 1).all()
    predictions = left.table("predictions")
    right = (predictions["truth"] == predictions["predicted"]).mean()
    assert len(predictions) == len(plan.splits().test) and right == pytest.approx(left.metrics["accuracy"])
    assert summary["macs"] > 0 and summary["parameters"] > 0 and summary["epochs"] >= 1
    assert left.config["inputs"] == "image+metadata" and left.config["system"] == SYSTEMS[name].paper

    def no_more(problem):
        raise AssertionError("a finished run is only read")

    monkeypatch.setitem(SYSTEMS._things, name, study.dataclasses.replace(SYSTEMS[name], search=no_more))
    assert run(plan, name, MINUTES[name]).summary == summary


def test_the_final_training_is_of_the_best_candidate(finished):
    _, name, left = finished
    candidates, final = left.table("candidates"), Run(left.path / "final")
    best = candidates.loc[candidates["val_accuracy"].idxmax()]
    if name == "bioautoml-nas":
        best = candidates.iloc[-1]  # a candidate is an epoch; the last one's edges are derived
    if name in ("enas", "nao", "bioautoml-nas"):
        assert left.summary["chosen"] == {"genotype": best["key"]} == {"genotype": final.config["genotype"]}
        return
    best = json.loads(best["configuration"])
    assert left.summary["chosen"] == best == final.config["configuration"]
    assert candidates["val_accuracy"].max() <= left.summary["val_accuracy"]
    with_weights = {path.parent.parent.name for path in (left.path / "trials").glob("*/checkpoint/last.pt")}
    assert with_weights <= {training.identity(best)}  # of all the others only the score is kept


@pytest.mark.slow
@pytest.mark.parametrize("name", ["optuna", "smac3"])
def test_a_killed_search_goes_on(plan, name, monkeypatch):
    real, trained = training.Watched.train, []

    def train(self):
        trained.append(self.run.path.name)
        if len(trained) == 2:
            raise KeyboardInterrupt
        return real(self)

    monkeypatch.setattr(training.Watched, "train", train)
    with pytest.raises(KeyboardInterrupt):
        run(plan, name, 1.5)
    (folder,) = plan.folder().glob(f"automl-{name}-*")
    spent = json.loads((folder / "clock.json").read_text())
    before = trained.copy()
    finished = run(plan, name, 1.5)
    assert finished.path == folder and finished.complete
    again = trained[len(before) :]
    assert (
        not set(before[:1]) & set(again) and before[1] in again
    )  # finished ones are read, the broken one is trained
    done = json.loads((folder / "clock.json").read_text())
    assert done["images"] > spent["images"] and done["seconds"] > spent["seconds"]
    candidates = finished.table("candidates")
    identities = [training.identity(json.loads(text)) for text in candidates["configuration"]]
    assert identities[:1] == before[:1] and before[1] in identities


@pytest.mark.slow
def test_the_search_of_the_paper_counts_its_warm_up_apart(plan):
    left = run(study.dataclasses.replace(plan, warmup_epochs=1), "bioautoml-nas", 4.0)
    first, search = (Run(left.path / name / "supernet").history for name in ("first_epoch", "search"))
    assert len(first) == 2 and len(search) > 2  # one without theta, then those in which it moves
    assert left.table("candidates")["theta_loss"].isna().tolist()[:2] == [True, False]


def test_time_that_is_up_before_anything_is_trained_is_said(plan):
    for name in SHARED:
        with pytest.raises(AutoMLError, match="are too few"):
            run(plan, name, 0.02)


def test_the_better_of_the_short_and_the_long_training_is_the_answer(plan, tmp_path):
    watch = Clock(tmp_path / "clock.json", 1000)
    problem = study.Problem(plan, watched(plan.splits(), watch), tmp_path, watch)
    (tmp_path / "final_epochs.json").write_text("1")

    def build():
        return space.network(plan, CONFIGURATION)

    config = space.training(plan, CONFIGURATION, 2)
    short = training.train(problem, "short", build, config, {})
    model, chosen = training.train_the_rest(problem, build, config, {}, short._replace(val_accuracy=1.1))
    assert chosen.run.path == short.run.path
    kept = short.run.load_checkpoint()["model"]
    assert all(torch.equal(value, kept[name]) for name, value in model.state_dict().items())
    assert (
        training.train_the_rest(problem, build, config, {}, short._replace(val_accuracy=-1.0))[
            1
        ].run.path.name
        == "final"
    )


# --- several, and what goes wrong -------------------------------------------------------------------------------------


@pytest.fixture
def breaking(monkeypatch):
    def search(problem):
        next(BatchLoader(problem.splits.train, problem.plan.encoding(), 8, shuffle=False).epoch(0))
        print("so far so good")
        raise ZeroDivisionError("a fault of the system's own")

    broken = study.dataclasses.replace(SYSTEMS["smac3"], search=search)
    monkeypatch.setitem(SYSTEMS._things, "smac3", broken)


@pytest.fixture
def constant(monkeypatch):
    def search(problem):
        prior = np.bincount(problem.splits.train.labels, minlength=problem.n_classes) / len(
            problem.splits.train
        )
        problem.write_candidates([{"index": 0, "val_accuracy": 0.5}])
        return study.Found(
            lambda specimens: np.tile(prior, (len(specimens), 1)), {"rule": "prior"}, 1, "complete"
        )

    monkeypatch.setitem(SYSTEMS._things, "nao", study.dataclasses.replace(SYSTEMS["nao"], search=search))


def test_a_system_that_breaks_off_has_a_row_and_a_log(plan, breaking, constant):
    rows = measured(plan, ["smac3", "nao"], [0, 1], 1.0)
    assert rows["seed"].tolist() == [0, 0, 1, 1]
    broken = rows[rows["model"] == "SMAC3 (Bayesian Opt.)"]
    assert broken["note"].str.startswith("failed: ZeroDivisionError: a fault of the system's own").all()
    folder = Run(plan.folder() / broken["run"].iloc[0])
    log = (folder.path / "log.txt").read_text()
    assert "so far so good" in log and "Traceback" in log and not folder.complete
    assert failure(folder) == "ZeroDivisionError: a fault of the system's own"
    told = table(rows, plan, "bionas automl")
    assert told["model"].tolist()[:3] == ["majority class", "SMAC3 (Bayesian Opt.)", "NAO"]
    assert told["n_seeds"].tolist()[:3] == [0, 0, 2] and "seed 1 failed: " in told["note"][1]
    assert set(told["model"]) == {"majority class", *(system.paper for system in SYSTEMS.values())}
    assert told["note"].iloc[-1] == "not run: not chosen" and told["budget_minutes"].tolist()[1:3] == [
        1.0,
        1.0,
    ]
    majority = told["accuracy_mean"][0]
    assert told["accuracy_mean"][2] == pytest.approx(majority)  # it answers the prior
    assert {"images_seen", "minutes", "code", "command", "source"} <= set(told)


def test_a_broken_run_is_tried_again(plan, breaking, constant, monkeypatch):
    measured(plan, ["smac3"], [0], 1.0)
    well = study.dataclasses.replace(SYSTEMS["smac3"], search=SYSTEMS["nao"].search)
    monkeypatch.setitem(SYSTEMS._things, "smac3", well)
    (note,) = measured(plan, ["smac3"], [0], 1.0)["note"]
    assert note == ""


def test_the_command_writes_both_tables(plan, photographs, constant, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(places, "root", lambda: tmp_path)
    settings = {**laboratory.CHOICES, "data_dir": photographs, "run_dir": plan.run_dir, "mode": "smoke"}
    words = [word for name, value in settings.items() for word in ("-p", f"{name}={value}")]
    assert (
        main(
            [
                "automl",
                "--system",
                "nao",
                "--seeds",
                "0",
                "1",
                "--budget",
                "30s",
                "--out",
                "few",
                "--json",
                *words,
            ]
        )
        == 0
    )
    assert json.loads(capsys.readouterr().out)[0]["model"] == "majority class"
    runs = pd.read_csv(tmp_path / "data" / "results" / "few_runs.csv")
    assert runs["budget_minutes"].tolist() == [0.5, 0.5] and runs["seed"].tolist() == [0, 1]
    assert len(pd.read_csv(tmp_path / "data" / "results" / "few.csv")) == 1 + len(SYSTEMS)


def test_what_cannot_be_is_said(plan, capsys, monkeypatch):
    with pytest.raises(UnknownName, match="Did you mean 'optuna'"):
        run(plan, "optun", 1.0)
    assert main(["automl", "--system", "optun"]) == 2
    assert "Did you mean 'optuna'" in capsys.readouterr().err
    with pytest.raises(AutoMLError, match="give more than 0"):
        run(plan, "nao", 0)
    from bionas.studies.automl import systems

    monkeypatch.setattr(systems.importlib.util, "find_spec", lambda module: None)
    with pytest.raises(
        AutoMLError, match=r"Optuna is not installed.*pip install -c constraints.txt -e '.\[automl\]'"
    ):
        run(plan, "optuna", 1.0)
    (row,) = measured(plan, ["smac3"], [0], 1.0).to_dict("records")
    assert row["note"].startswith("not run: SMAC3 is not installed")
    assert main(["automl", "--make-env", "nao"]) == 2
    assert "shares this environment" in capsys.readouterr().err


def test_alone_it_lists_table_v(capsys):
    assert main(["automl"]) == 0
    told = capsys.readouterr().out
    published = pd.read_csv(places.data("paper/table5_automl_nas.csv"))["model"].tolist()
    assert all(name in told for name in (system.paper for system in SYSTEMS.values()))
    assert {system.paper for system in SYSTEMS.values()} <= set(published)
    assert main(["automl", "--json"]) == 0
    assert {row["typed"] for row in json.loads(capsys.readouterr().out)} == set(SYSTEMS)
