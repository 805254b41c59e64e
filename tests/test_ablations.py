"""Table I as data: its definition, its one budget, what a grid leaves behind, and what it refuses."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
from pathlib import Path

import laboratory
import numpy as np
import pandas as pd
import pytest

from bionas.__main__ import main
from bionas.errors import BionasError, CheckpointError, SearchError
from bionas.strategies import STRATEGIES, PlanEvaluator
from bionas.studies.searches.study import Rate
from bionas.studies.table1 import grid as ablations
from bionas.studies.table1 import minutes
from bionas.studies.table1.grid import Trial, ablate, chosen_rows, prepare, table_one
from bionas.studies.table1.live import LiveTable
from bionas.studies.table1.tables import METRICS, runs_table, summary
from bionas.system import places
from bionas.training import versions
from bionas.training.runs import Run

PAPER = Path(__file__).resolve().parent.parent / "data" / "paper" / "table1_ablation.csv"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(places, "cache", lambda: cache)
        yield laboratory.photographs(tmp_path_factory.mktemp("lab") / "photographs")


@pytest.fixture(scope="module")
def told():
    return []


@pytest.fixture(scope="module")
def grid(folder, tmp_path_factory, told):
    """Four kinds of search, three sets, two fusions, run once; E003 breaks off."""
    grid = laboratory.grid(
        folder,
        tmp_path_factory.mktemp("runs"),
        "E003,E007,E012,full/transformer/gradient,reduced/gating/enas",
    )
    broken = ablations.experiments.retrain

    def retrain(plan, genotype):
        if plan.fusion == "gating" and plan.primitive_set == "full":
            raise ValueError("the lamp went out")
        return broken(plan, genotype)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ablations.experiments, "retrain", retrain)
        ablate(grid, watch=lambda task, state: told.append((str(task), state)))
    return grid


# --- the definition -------------------------------------------------------------------------------------------------


def test_the_rows_are_those_of_the_published_table():  # Table I
    with PAPER.open(newline="", encoding="utf-8") as file:
        printed = list(csv.DictReader(file))
    rows = list(table_one().values())
    assert (
        [row.name for row in rows]
        == [line["exp_id"] for line in printed]
        == [f"E{i:03d}" for i in range(1, 16)]
    )

    def letters(text):
        return re.sub(r"[^a-z]", "", text.lower())

    for row, line in zip(rows, printed):
        assert letters(row.fusion) in letters(line["fusion"])
        if line["n_ops"]:
            assert letters(row.primitive_set) == letters(line["primitive_set"])
            assert len(ablations.primitive_set(row.primitive_set)) == int(line["n_ops"])
            assert letters(row.strategy) in letters(line["strategy"])
    assert dataclasses.astuple(rows[11]) == (
        "E012",
        "full",
        "concatenation",
        "fixed",
    )  # "No NAS", "Manual Design"
    assert {row.fusion for row in rows} == set(ablations.FUSIONS)  # the eight of them
    assert [row.name for row in rows if row.needs_metadata] == [
        "E001",
        "E002",
        "E003",
        "E004",
        "E013",
        "E014",
        "E015",
    ]


@pytest.mark.parametrize(
    "text, names",
    {
        "E001-E015": [f"E{i:03d}" for i in range(1, 16)],
        "E005,E009": ["E005", "E009"],
        "E009, E001-E003": ["E009", "E001", "E002", "E003"],
        "E002,E001-E003": ["E002", "E001", "E003"],
        "E007-E007": ["E007"],
        "full/gating/nao,E001": ["full-gating-nao", "E001"],
    }.items(),
)
def test_rows_are_chosen_by_ranges_lists_and_recipes(text, names):
    assert [row.name for row in chosen_rows(text)] == names


@pytest.mark.parametrize(
    "text, words",
    {
        "E016": "unknown row of Table I 'E016'. Did you mean 'E01",
        "E001-E0015": "unknown row of Table I 'E0015'. Did you mean 'E015' or",
        "full/gatng/random": "unknown fusion 'gatng'. Did you mean 'gating'?",
        "full/gating/evolution": "unknown search strategy 'evolution'. Did you mean 'evolutionary'",
        "reduce/gating/random": "unknown primitive set 'reduce'. Did you mean 'reduced'",
        "E009-E001": "write a range as E001-E015, its smaller end first",
        " , ": "names no row",
    }.items(),
)
def test_a_row_that_there_is_not_names_the_nearest(text, words):
    with pytest.raises(BionasError, match=re.escape(words)):
        chosen_rows(text)


# --- the budget -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_budget_is_what_the_gradient_search_consumes(grid):
    gradient = Trial(grid.rows[3], 0)
    history = Run(grid.run(gradient).path / "search" / "supernet").history
    assert history["images"].sum() == grid.run(gradient).summary["search_images"] == grid.budget
    runs = runs_table(grid)
    done = runs[runs["status"] == "done"]
    assert (done["search_images"] <= grid.budget).all() and done["budget"].unique().tolist() == [grid.budget]
    assert done["images_seen"].nunique() == 1  # of the retraining
    (random,) = done[done["strategy"] == "random"].itertuples()
    child = prepare(grid.plan, grid.rows, [0]).budget // random.candidates
    assert random.search_images + child > grid.budget  # nothing is left that a candidate would have fitted in


def test_a_budget_under_one_candidate_is_refused_before_anything_runs(folder, tmp_path):
    plan = laboratory.plan(folder, tmp_path)
    with pytest.raises(
        SearchError, match="budget of 10 training images is too small: one candidate takes 32"
    ):
        prepare(plan, chosen_rows("E007"), [0], budget=10)
    with pytest.raises(SearchError, match="too small: one epoch of the supernet takes"):
        prepare(plan, chosen_rows("E009"), [0], budget=33)
    with pytest.raises(SearchError, match="one candidate takes 3,200"):
        prepare(plan, chosen_rows("E007"), [0], child_epochs=100)
    assert list(tmp_path.iterdir()) == []


# --- what is left behind --------------------------------------------------------------------------------------------


def test_a_row_is_searched_retrained_with_its_fusion_and_weighed(grid):
    for task in grid.trials[1:]:
        run, row = grid.run(task), task.experiment
        (derived,) = run.path.glob("*/seed0/derived-*")
        config = Run(derived).config
        assert config["fusion"] == row.fusion and config["genotype"]["primitive_set"] == row.primitive_set
        assert json.loads((run.path / "genotype.json").read_text()) == config["genotype"]
        assert Run(run.path / "search").genotype == run.genotype
        predictions = pd.read_csv(derived / "predictions.csv")
        assert len(predictions) == len(grid.plan.splits().test)
        assert run.metrics == Run(derived).metrics
        assert run.summary["macs"] > 0 and run.summary["weights_mb"] > 0 and run.summary["cpu_ms"] > 0
    costs = runs_table(grid).set_index("row")["mmacs"].to_dict()
    assert costs["full-transformer-gradient"] != costs["E007"]


def test_a_row_that_fails_is_recorded_and_the_others_go_on(grid):
    runs = runs_table(grid).set_index("row")
    assert runs["status"].to_dict() == {
        "E003": "failed",
        "E007": "done",
        "E012": "done",
        "full-transformer-gradient": "done",
        "reduced-gating-enas": "done",
    }
    assert runs.loc["E003", "reason"] == "ValueError: the lamp went out"
    assert pd.isna(runs.loc["E003", "accuracy"])


def test_the_watcher_hears_of_every_beginning_and_end(grid, told):
    names = [str(task) for task in grid.trials]
    assert told == [(name, state) for name in names for state in ("running", "ended")]


def test_the_table_stands_beside_the_published_one(grid):
    runs = pd.concat([runs_table(grid)])
    table = summary(grid, runs, "bionas ablate")
    assert table["row"].tolist() == ["majority class", *(row.name for row in grid.rows)]
    train, _, test = grid.plan.splits()
    commonest = np.bincount(train.labels).argmax()
    assert table["accuracy_mean"][0] == pytest.approx(100 * (test.labels == commonest).mean(), abs=0.01)
    by_row = table.set_index("row")
    assert (
        by_row.loc["E003", "n"] == 0
        and by_row.loc["E003", "not_done"] == "seed 0 failed: ValueError: the lamp went out"
    )
    assert by_row.loc["E007", "paper_accuracy"] == 89.74 and by_row.loc["E012", "paper_gflops"] == 4.12
    assert pd.isna(by_row.loc["full-transformer-gradient", "paper_accuracy"])
    assert by_row.loc["E007", "accuracy_mean"] == round(
        100 * runs.set_index("row").loc["E007", "accuracy"], 2
    )


def test_mean_and_sample_spread_over_seeds(grid):
    two = dataclasses.replace(grid, seeds=(0, 1))
    runs = runs_table(grid).query("row == 'E007'")
    other = runs.assign(seed=1, **{metric: runs[metric] - 0.1 for metric in METRICS})
    line = summary(two, pd.concat([runs, other]), "").set_index("row").loc["E007"]
    own = 100 * runs["accuracy"].iloc[0]
    assert line["n"] == 2
    assert line["accuracy_mean"] == pytest.approx(own - 5, abs=0.01) and line["accuracy_sd"] == pytest.approx(
        10 / 2**0.5, abs=0.01
    )


def test_what_is_finished_is_left_alone_and_what_failed_is_tried_again(grid, monkeypatch):
    done = {task: grid.run(task).path.joinpath("done.json").stat().st_mtime_ns for task in grid.trials[1:]}
    tried = []
    monkeypatch.setattr(ablations, "_measured", lambda grid, task, run: tried.append(str(task)) or 1 / 0)
    ablate(grid)
    assert tried == ["E003-seed0"] and grid.failure(grid.trials[0]) == "ZeroDivisionError: division by zero"
    grid.record_failure(grid.trials[0], "ValueError: the lamp went out")
    assert {task: grid.run(task).path.joinpath("done.json").stat().st_mtime_ns for task in done} == done


# --- refused --------------------------------------------------------------------------------------------------------


def test_runs_of_another_version_of_the_code_are_refused(grid, monkeypatch):
    prepare(grid.plan, grid.rows, grid.seeds)
    used = {row.strategy for row in grid.rows}
    (unused, *_) = [name for name in STRATEGIES if name not in used]
    monkeypatch.setitem(versions.VERSIONS, f"strategies/{unused}", 2)
    prepare(grid.plan, grid.rows, grid.seeds)  # a strategy that no row uses
    monkeypatch.setitem(versions.VERSIONS, f"strategies/{grid.rows[0].strategy}", 2)
    with pytest.raises(CheckpointError, match="another version of the code .* are not mixed. Choose"):
        prepare(grid.plan, grid.rows, grid.seeds)


def test_a_worker_with_another_version_of_the_code_does_not_work(grid):
    strange = dataclasses.replace(grid, versions=grid.versions | {"network": 0}, rows=chosen_rows("E008"))
    (task,) = strange.trials
    ablations.run_one(strange, task)
    assert "is not the code that began the grid" in strange.failure(task)


def test_another_collection_size_or_budget_is_another_grid(grid):
    assert (
        prepare(grid.plan, grid.rows, [5]).folder
        == grid.folder
        == prepare(grid.plan, grid.rows[:1], [0]).folder
    )
    others = [
        prepare(grid.plan, grid.rows, [0], budget=grid.budget + 1),
        prepare(grid.plan, grid.rows, [0], child_epochs=2),
    ]
    others += [prepare(dataclasses.replace(grid.plan, epochs=2), grid.rows, [0])]
    assert len({grid.folder, *(other.folder for other in others)}) == 4


def test_on_images_alone_rows_with_another_fusion_are_not_run(folder, tmp_path):
    grid = laboratory.grid(folder, tmp_path, "E001-E015", metadata="none")
    assert set(grid.unfit) == {"E001", "E002", "E003", "E004", "E013", "E014", "E015"}
    assert [task.experiment.name for task in grid.trials] == [f"E{i:03d}" for i in range(5, 13)]
    runs = runs_table(grid).set_index("row")
    assert runs.loc["E003", "status"] == "not run" and runs.loc["E009", "status"] == "waiting"
    assert "fusion 'gating' joins images with metadata, and there is none" in runs.loc["E003", "reason"]
    assert "-p metadata=" in runs.loc["E003", "reason"] and "E005-E012" in runs.loc["E003", "reason"]
    assert (
        summary(grid, runs.reset_index(), "")
        .set_index("row")
        .loc["E003", "not_done"]
        .startswith("not run: fusion")
    )


# --- watching -------------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_elsewhere_than_on_a_terminal_a_line_a_finished_run(grid):
    stream = io.StringIO()
    table = LiveTable(grid, stream)
    for state in ("running", "ended"):
        table(grid.trials[1], state)
    table(grid.trials[0], "ended")
    first, second, third = stream.getvalue().splitlines()
    assert first.startswith(f"5 runs, 4 finished before, {grid.budget} images per search")
    assert re.match(
        r"\[5/5\] E007 seed 0  full, concatenation, random: \d+\.\d %, \d+\.\d million MACs, \d+ candidates",
        second,
    )
    assert third.endswith("failed: ValueError: the lamp went out")


def test_on_a_terminal_the_table_is_redrawn_over_itself(grid):
    stream = Terminal()
    table = LiveTable(grid, stream)
    height = len(table.lines())
    table(grid.trials[0], "running")
    assert table.lines()[1].endswith("running") and f"\x1b[{height}F" in stream.getvalue()
    assert height == 1 + len(grid.rows) + 1
    table(grid.trials[0], "ended")
    assert table.lines()[1].endswith("failed")


# --- the command ----------------------------------------------------------------------------------------------------


def typed(folder, run_dir, *words) -> list[str]:
    choices = {**laboratory.CHOICES, "search_epochs": 2, "epochs": 1, "data_dir": folder, "run_dir": run_dir}
    mode = [] if "--mode" in words else ["--mode", "smoke"]
    return ["ablate", *mode, "--seeds", "1", *words, *(f"-p{k}={v}" for k, v in choices.items())]


def test_the_command_reads_finished_runs_and_writes_both_tables(grid, folder, tmp_path, capsys, monkeypatch):
    published = ablations.published.table("table1_ablation")
    monkeypatch.setattr(ablations.published, "table", lambda name: published)
    monkeypatch.setattr(places, "root", lambda: tmp_path)
    assert main(typed(folder, grid.plan.run_dir, "--rows", "E007,E012", "--out", "mine")) == 0
    assert "2 runs, 2 finished before" in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "data" / "results" / "mine.csv")
    assert (
        table["row"].tolist() == ["majority class", "E007", "E012"]
        and table["command"].str.startswith("bionas").all()
    )
    runs = pd.read_csv(tmp_path / "data" / "results" / "mine_runs.csv")
    assert {
        "row",
        "seed",
        "accuracy",
        "mmacs",
        "weights_mb",
        "cpu_ms",
        "search_images",
        "minutes",
        "code",
        "run",
    } <= {*runs}
    assert all((Path(grid.plan.run_dir) / run).is_dir() for run in runs["run"])


def test_interrupted_it_writes_what_is_finished(grid, folder, tmp_path, capsys, monkeypatch):
    published = ablations.published.table("table1_ablation")
    monkeypatch.setattr(ablations.published, "table", lambda name: published)
    monkeypatch.setattr(places, "root", lambda: tmp_path)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(ablations, "run_one", interrupted)
    assert main(typed(folder, grid.plan.run_dir, "--rows", "E007,E009", "--out", "half")) == 130
    assert "stopped. The same command resumes from" in capsys.readouterr().err
    table = pd.read_csv(tmp_path / "data" / "results" / "half.csv").set_index("row")
    assert table.loc["E007", "n"] == 1 and pd.isna(table.loc["E007", "not_done"])
    assert table.loc["E009", "n"] == 0 and table.loc["E009", "not_done"] == "seed 0 waiting"


def test_what_cannot_be_done_is_a_sentence(folder, tmp_path, capsys):
    for words, says in {
        ("--rows", "E099"): "unknown row of Table I 'E099'",
        ("--mode", "quik"): "unknown mode 'quik'. Did you mean 'quick'",
        ("--engine", "rai"): "unknown engine 'rai'. Did you mean 'ray'",
        ("-p", "fusion=gating"): "fusion=... is decided by the grid: give --rows",
        ("-p", "epoch=3"): "Did you mean 'epochs'",
        ("--rows", "E007", "--budget", "10"): "too small: one candidate takes",
        (
            "--rows",
            "E001,E015",
            "-p",
            "metadata=none",
        ): "none of these rows can be run: fusion 'bilinear_pooling' joins",
        ("--rows", "E007", "--address", "auto"): "give --engine ray too",
    }.items():
        assert main(typed(folder, tmp_path / "runs", *words)) == 2
        assert says in capsys.readouterr().err


def test_equal_core_minutes_give_every_row_its_own_images(folder, tmp_path, monkeypatch):
    """A search and its retraining fit into the minutes at the rates of this machine, here set by hand."""
    rates = {"children": Rate(0.01), "gradient": Rate(0.02, overhead=6.0), "enas": Rate(0.04)}
    monkeypatch.setattr(minutes, "measured_rates", lambda study: rates)
    plan = laboratory.plan(folder, tmp_path / "runs")
    retraining = 0.01 * PlanEvaluator(plan, plan.epochs).images
    grid = prepare(plan, chosen_rows("E006,E007,E009,E012"), [0], minutes=1.0)
    assert grid.budgets["E007"] == int((60 - retraining) / 0.01)
    assert grid.budgets["E009"] == int((60 - 6 - retraining) / 0.02)
    assert grid.budgets["E006"] == int((60 - retraining) / 0.04)
    assert [grid.budget_of(row) for row in grid.rows] == [grid.budgets[row.name] for row in grid.rows]
    other = prepare(plan, grid.rows, [0], minutes=2.0)
    assert other.folder != grid.folder != prepare(plan, grid.rows, [0]).folder
    with pytest.raises(SearchError, match="leave concatenation, reinforce nothing to search with"):
        prepare(plan, chosen_rows("E005"), [0], minutes=0.001)
