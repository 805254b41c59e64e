"""Table I: fifteen experiments, each a primitive set, a fusion and a strategy, under one budget and over several seeds.

    prepare(plan, rows, seeds) -> Grid     ablate(grid)     run_one(grid, trial)

The experiments are data, read from `data/paper/table1_ablation.csv`; `SETS`, `FUSION_NAMES` and `STRATEGY_NAMES` translate
the paper's words. Every experiment and seed is searched by its strategy, retrained with its fusion, evaluated once on the
test split, and its cost is counted and measured. It has one run folder, `E009-seed0`, in the folder of its grid:

    config.json, provenance.json  every choice      search/    the strategy's files, its trace among them
    done.json    written last     failed.json       why it failed, with the traceback      log.txt  the output of training

so that a grid that is killed resumes with the same command. `engines` runs the trials, `table1.tables` shows what came out.

The budget is counted in training images. Its measure is the gradient search: what the plan's `search_epochs` epochs of
Algorithm 1 consume, images of theta's steps included, is what every other strategy may use. The search times of the rows
in the paper (10 to 30 hours) differ threefold; here rows differ only in what they do with the same budget.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import re
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from filelock import FileLock

from bionas.errors import BionasError, CheckpointError, UnknownName
from bionas.fusion import FUSIONS, WITHOUT_METADATA
from bionas.genotype import Genotype
from bionas.operators import primitive_set
from bionas.specimens.metadata import usable_presets
from bionas.strategies import STRATEGIES, PlanEvaluator
from bionas.strategies.differentiable import epochs_within, images_of_epoch
from bionas.strategies.evaluators import CHILDREN, SUPERNET
from bionas.strategies.searching import require_budget
from bionas.studies import published
from bionas.studies.engines import ENGINES
from bionas.studies.searches.study import theta_reach
from bionas.studies.table1.minutes import budgets_within
from bionas.system import files
from bionas.system.progress import told_to
from bionas.training import experiments, versions
from bionas.training.configuration import Plan
from bionas.training.cost import latency
from bionas.training.runs import Run, provenance

SETS = {"Full": "full", "Reduced": "reduced", "Conv-only": "conv_only", "No NAS (Fixed)": "full"}
FUSION_NAMES = {
    "Concatenation": "concatenation",
    "Bilinear Pooling": "bilinear_pooling",
    "Gating": "gating",
    "Cross-Attention": "cross_attention",
    "Transformer Fusion": "transformer",
    "Multi-Head Fusion": "multi_head",
    "Progressive Fusion": "progressive",
    "Ensemble Fusion": "ensemble",
}
STRATEGY_NAMES = {
    "Gradient-based": "gradient",
    "REINFORCE (RL)": "reinforce",
    "ENAS": "enas",
    "Random Search": "random",
    "Evolutionary": "evolutionary",
    "Manual Design": "fixed",
}
"""The paper's words -> ours. The hand-made network takes its primitives from the full set."""

BUDGETS: dict[str, dict[str, int]] = {
    "smoke": {"search_epochs": 1, "epochs": 1, "child_epochs": 1},
    "quick": {"search_epochs": 10, "epochs": 20, "child_epochs": 2},
    "full": {"search_epochs": 50, "epochs": 100, "child_epochs": 5},
}
"""Defaults of a grid by mode: epochs of the gradient search, of the retraining, and of a candidate that is trained alone.
In quick and full that is 10 to 20 candidates per search."""

DECIDED = {"mode": "--mode", "seed": "--seeds", "fusion": "--rows", "primitive_set": "--rows"}
"""Choices of a plan that the grid decides -> the option that sets them."""

LATENCY_SECONDS = {"smoke": 0.02, "quick": 1.0, "full": 2.0}
"""Seconds over which an inference is timed, by mode."""


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One row of Table I: the primitives searched, how modalities are joined, and the search strategy.

    Raises:
        UnknownName: a primitive set, fusion or strategy that there is not; the message lists the nearest.
    """

    name: str
    primitive_set: str
    fusion: str
    strategy: str

    def __post_init__(self) -> None:
        primitive_set(self.primitive_set)  # raises UnknownName, as `require` does
        FUSIONS.require(self.fusion)
        STRATEGIES.require(self.strategy)

    @property
    def needs_metadata(self) -> bool:
        return self.fusion != WITHOUT_METADATA


class Trial(NamedTuple):
    """An experiment and a seed: one search, retraining and evaluation."""

    experiment: Experiment
    seed: int

    def __str__(self) -> str:
        return f"{self.experiment.name}-seed{self.seed}"


# --- the definition -------------------------------------------------------------------------------------------------


def table_one() -> dict[str, Experiment]:
    """The rows of Table I by their names, E001-E015, in the paper's order."""
    words = published.table("table1_ablation").itertuples(index=False)
    return {
        w.exp_id: Experiment(
            w.exp_id, SETS[w.primitive_set], FUSION_NAMES[w.fusion], STRATEGY_NAMES[w.strategy]
        )
        for w in words
    }


def chosen_rows(text: str) -> tuple[Experiment, ...]:
    """ "E001-E004,E009" -> those experiments, each once, in the order given; others are written SET/FUSION/STRATEGY.

    Raises:
        UnknownName: no such row, primitive set, fusion or strategy; the message lists the nearest.
        BionasError: nothing chosen, or a range that runs backwards.
    """
    known = table_one()
    names, chosen = list(known), {}
    for part in filter(None, re.split(r"[,\s]+", text)):
        if part.count("/") == 2:
            row = Experiment(part.replace("/", "-"), *part.split("/"))
            chosen[row.name] = row
            continue
        ends = part.split("-")
        for end in ends:
            if end not in known:
                raise UnknownName("row of Table I", end, known)
        first, last = names.index(ends[0]), names.index(ends[-1])
        if len(ends) > 2 or first > last:
            raise BionasError(f"--rows {part}: write a range as E001-E015, its smaller end first.")
        chosen |= {name: known[name] for name in names[first : last + 1]}
    if not chosen:
        raise BionasError("--rows names no row. Write E001-E015, or E005,E009.")
    return tuple(chosen.values())


# --- the grid -------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Grid:
    """Experiments and seeds under one budget; plain data, sent to other processes and machines. See `prepare`.

    Attributes:
        plan: every choice but seed, fusion and primitive set.
        budget: upper limit of training images per search.
        child_epochs: of a candidate that is trained alone.
        versions: of the subsystems that decide its numbers, when the grid was made (`training.versions`).
        unfit: rows that cannot be run on this collection -> why.
        minutes: core-minutes of a search, where the budget is in time; `budgets` then holds each row's images.
    """

    plan: Plan
    rows: tuple[Experiment, ...]
    seeds: tuple[int, ...]
    budget: int
    child_epochs: int
    versions: dict[str, int]
    unfit: dict[str, str]
    minutes: float | None = None
    budgets: dict[str, int] = dataclasses.field(default_factory=dict)

    def budget_of(self, experiment: Experiment) -> int:
        """Training images that the search of an experiment may use."""
        return self.budgets.get(experiment.name, self.budget)

    @property
    def folder(self) -> Path:
        """Named by a hash of what determines its results: another collection, size or budget is another grid."""
        common = dataclasses.replace(
            self.plan, seed=0, fusion=WITHOUT_METADATA, primitive_set="full", run_dir=""
        )
        identity = [dataclasses.asdict(common), self.budget, self.child_epochs]
        if self.minutes is not None:
            identity += [self.minutes, self.budgets]
        described = json.dumps(identity, sort_keys=True)
        name = f"ablation-{common.source}-{common.mode}-{hashlib.sha256(described.encode()).hexdigest()[:8]}"
        return Path(self.plan.run_dir) / name

    @property
    def trials(self) -> list[Trial]:
        """What can be run: all rows of a seed before the next seed, so that an unfinished grid compares all rows."""
        return [Trial(row, seed) for seed in self.seeds for row in self.rows if row.name not in self.unfit]

    def run(self, trial: Trial) -> Run:
        return Run(self.folder / str(trial))

    def plan_of(self, trial: Trial) -> Plan:
        """The plan of a trial; its runs lie inside the trial's folder, where no other process works."""
        row, seed = trial
        return dataclasses.replace(
            self.plan,
            fusion=row.fusion,
            primitive_set=row.primitive_set,
            seed=seed,
            run_dir=str(self.run(trial).path),
        )

    def failure(self, trial: Trial) -> str | None:
        """Why a trial failed, None where it did not."""
        path = self.run(trial).path / "failed.json"
        return files.read_json(path)["reason"] if path.exists() else None

    def record_failure(self, trial: Trial, reason: str, trace: str = "") -> None:
        """Write failed.json: the reason in one line, the traceback, and when."""
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        content = {"reason": reason, "traceback": trace.splitlines(), "failed": when}
        files.write_json(self.run(trial).path / "failed.json", content)


def prepare(
    plan: Plan,
    rows: Sequence[Experiment],
    seeds: Sequence[int],
    budget: int | None = None,
    child_epochs: int | None = None,
    minutes: float | None = None,
) -> Grid:
    """A grid, checked before anything runs.

    Args:
        plan: every choice but seed, fusion and primitive set; its `search_epochs` are the measure of the budget.
        budget: training images of a search; the gradient search's own consumption by default.
        child_epochs: of a candidate; by the plan's mode by default (`BUDGETS`).
        minutes: core-minutes of search and retraining together, instead of `budget`: every experiment then has its own
            number of images, at rates measured on this machine.

    Raises:
        SearchError: a budget too small for one candidate, or one epoch of the supernet.
        CheckpointError: a row's folder holds a run of another version of the code, or of other data.
    """
    child_epochs = child_epochs or BUDGETS[plan.mode]["child_epochs"]
    unfit = {
        row.name: _needs_metadata(plan, row)
        for row in rows
        if row.needs_metadata and not plan.encoding().fields
    }
    plain = dataclasses.replace(plan, fusion=WITHOUT_METADATA)  # the fusion does not change what is consumed
    evaluator = PlanEvaluator(plain, child_epochs)
    with torch.device("meta"):
        supernet = evaluator.supernet(evaluator.space(), plan.seed)
    if budget is None:
        w, theta = images_of_epoch(supernet)
        budget = plan.search_epochs * w + max(0, plan.search_epochs - plan.warmup_epochs) * theta
    budgets = {}
    if minutes is not None:
        budgets = budgets_within(plan, [row for row in rows if row.name not in unfit], minutes)
    for row in rows:
        images, needs = budgets.get(row.name, budget), STRATEGIES[row.strategy].needs
        if needs == CHILDREN:
            require_budget(images, evaluator.images, "one candidate")
        elif needs == SUPERNET:
            epochs_within(images, supernet)  # that of Algorithm 1, which takes more than that of ENAS
    grid = Grid(
        plan, tuple(rows), tuple(seeds), budget, child_epochs, _versions(rows), unfit, minutes, budgets
    )
    for trial in grid.trials:
        _require_same_code(grid, trial)
    return grid


def _needs_metadata(plan: Plan, row: Experiment) -> str:
    usable = [name for name in usable_presets(plan.specimens()) if name != "none"]
    remedy = (
        f"-p metadata={usable[0]} gives it some" if usable else "these records fill no field of any preset"
    )
    return (
        f"fusion {row.fusion!r} joins images with metadata, and there is none (source={plan.source}, "
        f"metadata={plan.metadata}): {remedy}. On images alone the rows with {WITHOUT_METADATA} work, E005-E012"
    )


def _uses(experiment: Experiment) -> tuple[str, ...]:
    return (*versions.TRAINED, versions.strategy(experiment.strategy))


def _versions(rows: Iterable[Experiment]) -> dict[str, int]:
    return versions.of(*{name for row in rows for name in _uses(row)})


def _require_same_code(grid: Grid, trial: Trial) -> None:
    run = grid.run(trial)
    if not (run.path / "config.json").exists():
        return
    config, commit = run.config, run.provenance.get("commit", "unknown")
    for what, there, now in (
        ("version of the code", config["versions"], _versions([trial.experiment])),
        ("collection", config["data_fingerprint"], grid.plan.specimens().fingerprint),
    ):
        if there != now:
            raise CheckpointError(
                f"{run.path} was run with another {what} ({there} there, at commit {commit}; {now} now), and results of two "
                "are not mixed. Choose another folder (-p run_dir=...), go back to that version, or remove "
                f"{run.path} if it is not wanted."
            )


def ablate(
    grid: Grid, engine: str = "local", watch: Callable[[Trial, str], None] | None = None, **options: Any
) -> None:
    """Run what is not finished; a trial that fails, or whose worker dies, leaves its reason and the others continue.

    Args:
        engine: a name of `engines.ENGINES`; `options` are its own (jobs, address).
        watch: called with each trial and its state, "running" or "ended".

    Raises:
        UnknownName: no such engine.
        BionasError: the engine cannot be had, or the disk is full.
    """
    waiting = [trial for trial in grid.trials if not grid.run(trial).complete]
    for event in ENGINES[engine](functools.partial(run_one, grid), waiting, **options):
        if event.state == "lost" and not grid.run(event.task).complete:
            grid.record_failure(event.task, event.reason)
        if watch is not None:
            watch(event.task, "running" if event.state == "running" else "ended")


# --- one experiment and seed ------------------------------------------------------------------------------------------


def run_one(grid: Grid, trial: Trial) -> None:
    """Search, retrain, evaluate and measure one trial, or resume it; a finished one is left alone.

    A failure is recorded in failed.json with its traceback, which is also in log.txt, and raises nothing; the next start
    tries again.

    Raises:
        BionasError: not even that could be written.
    """
    run = grid.run(trial)
    run.path.mkdir(parents=True, exist_ok=True)
    # no other process works on the trial while the lock is held; it is released when the process ends, however that ends
    with FileLock(run.path / "lock"), (run.path / "log.txt").open("a", encoding="utf-8") as log, told_to(log):
        if run.complete:
            return
        print(f"process {os.getpid()}", file=log, flush=True)
        (run.path / "failed.json").unlink(missing_ok=True)
        try:
            run.finish(_measured(grid, trial, run))
        except Exception as error:  # one trial of hundreds must not end the grid, whatever is wrong with it
            traceback.print_exc(file=log)
            reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            grid.record_failure(trial, reason, traceback.format_exc())


def _measured(grid: Grid, trial: Trial, run: Run) -> dict[str, Any]:
    here = _versions([trial.experiment])
    if there := {name: grid.versions.get(name) for name in here if grid.versions.get(name) != here[name]}:
        now = {name: here[name] for name in there}
        raise CheckpointError(f"the code here ({now}) is not the code that began the grid ({there}).")
    experiment, budget = trial.experiment, grid.budget_of(trial.experiment)
    plan, strategy = grid.plan_of(trial), STRATEGIES[experiment.strategy]
    config = {
        **plan.describe(_uses(experiment), **dataclasses.asdict(experiment)),
        "seed": trial.seed,
        "budget": budget,
        "child_epochs": grid.child_epochs,
        "search": dataclasses.asdict(plan.search_config()),
        "fit": dataclasses.asdict(plan.fit_config()),
    }
    run.begin(config, provenance(trial.seed, plan.device, plan.specimens().fingerprint))
    evaluator, folder = PlanEvaluator(plan, grid.child_epochs), run.path / "search"
    found = strategy(evaluator.space(), evaluator, budget, trial.seed, folder=folder)
    history = Run(folder / "supernet").history if strategy.needs == SUPERNET else found.trace
    derived = experiments.retrain(plan, found.genotype)
    found.genotype.save(run.path / "genotype.json")
    files.write_json(run.path / "metrics.json", derived.metrics)
    return {
        "search_images": found.images,
        "candidates": int(found.trace["key"].nunique()),
        "updates": int(found.trace["updates"].iloc[-1]) if "updates" in found.trace else None,
        **{"theta_reach": None, **theta_reach(folder)},
        "stopped": found.stopped,
        "search_minutes": round(float(history["seconds"].sum()) / 60, 3),
        **derived.summary,
        **_latencies(plan, found.genotype),
    }


def _latencies(plan: Plan, genotype: Genotype) -> dict[str, Any]:
    """Median and interquartile range of one specimen's pass, in ms: on one CPU thread, and on the GPU if the plan uses one."""
    encoding, network = plan.encoding(), plan.derived(genotype)
    fields = (encoding.vocabulary_sizes, encoding.n_numeric)
    devices = {"cpu": "cpu"} | ({"gpu": "cuda"} if plan.device != "cpu" and torch.cuda.is_available() else {})
    measured: dict[str, Any] = {}
    for name, device in devices.items():
        threads, seconds = torch.get_num_threads(), LATENCY_SECONDS[plan.mode]
        try:
            found = latency(network, plan.image_size, *fields, device=device, threads=1, seconds=seconds)
        finally:
            torch.set_num_threads(threads)
        measured |= {f"{name}_ms": found["median_ms"], f"{name}_ms_iqr": found["iqr_ms"]}
    return measured
