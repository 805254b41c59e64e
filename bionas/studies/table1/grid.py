"""Table I: fifteen rows, each a primitive set, a fusion and a strategy, all under one budget and over several seeds.

    prepare(plan, rows, seeds) -> Grid     ablate(grid)     run_one(grid, task)

The rows are data, read from `data/paper/table1_ablation.csv`; `SETS`, `FUSION_NAMES` and `STRATEGY_NAMES` say what the
paper's words are here. Every row and seed is searched by its strategy, retrained with its fusion, evaluated on the test
split once, and its cost is counted and measured. It has one run folder, `E009-seed0`, in the folder of its grid:

    config.json, provenance.json  every choice      search/    what the strategy left, its trace among it
    done.json    written last     failed.json       why it broke off, instead      log.txt  what training printed

so that a grid that is killed goes on with the same command. `engines` does the work, `ablation_tables` shows what came out.

The budget is counted in training images. Its measure is the gradient search: what the plan's `search_epochs` epochs of
Algorithm 1 consume, images of theta's steps included, is what every other strategy may spend. The rows' own search times
in the paper (10 to 30 hours) differ threefold; here a row differs from another in what it does with the same images.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import functools
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from bionas.errors import BionasError, CheckpointError, UnknownName
from bionas.fusion import FUSIONS, WITHOUT_METADATA
from bionas.genotype import Genotype
from bionas.operators import primitive_set
from bionas.specimens.metadata import usable_presets
from bionas.strategies import STRATEGIES, PlanEvaluator
from bionas.strategies.evaluators import CHILDREN, SUPERNET
from bionas.strategies.gradient import epochs_within, images_of_epoch
from bionas.strategies.searching import require_budget
from bionas.studies import published
from bionas.studies.engines import ENGINES
from bionas.system import files
from bionas.system.progress import told_to
from bionas.training import experiments
from bionas.training.configuration import Plan
from bionas.training.cost import latency
from bionas.training.runs import Run, code_fingerprint, provenance

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
"""The paper's words and ours. The hand-made network takes its primitives from the full set."""

BUDGETS: dict[str, dict[str, int]] = {
    "smoke": {"search_epochs": 1, "epochs": 1, "child_epochs": 1},
    "quick": {"search_epochs": 10, "epochs": 20, "child_epochs": 2},
    "full": {"search_epochs": 50, "epochs": 100, "child_epochs": 5},
}
"""What a grid of a mode spends where it is not told otherwise: the gradient search's epochs, those of the retraining, and
those of a candidate that is trained by itself. In quick and full that is 10 to 20 candidates a search."""

DECIDED = {"mode": "--mode", "seed": "--seeds", "fusion": "--rows", "primitive_set": "--rows"}
"""Choices of a plan that a grid makes itself, and how it is told."""

LATENCY_SECONDS = {"smoke": 0.02, "quick": 1.0, "full": 2.0}


@dataclasses.dataclass(frozen=True)
class Row:
    """One experiment: what is searched, how modalities are joined, who searches.

    Raises:
        UnknownName: a primitive set, fusion or strategy that there is not; the message lists the nearest.
    """

    name: str
    primitive_set: str
    fusion: str
    strategy: str

    def __post_init__(self) -> None:
        primitive_set(self.primitive_set), FUSIONS[self.fusion], STRATEGIES[self.strategy]

    @property
    def needs_metadata(self) -> bool:
        return self.fusion != WITHOUT_METADATA


class Task(NamedTuple):
    """A row and a seed."""

    row: Row
    seed: int

    def __str__(self) -> str:
        return f"{self.row.name}-seed{self.seed}"


# --- the definition -------------------------------------------------------------------------------------------------


def table_one() -> dict[str, Row]:
    """The rows of Table I by their names, E001-E015, in the paper's order."""
    words = published.table("table1_ablation").itertuples(index=False)
    return {
        w.exp_id: Row(w.exp_id, SETS[w.primitive_set], FUSION_NAMES[w.fusion], STRATEGY_NAMES[w.strategy])
        for w in words
    }


def chosen_rows(text: str) -> tuple[Row, ...]:
    """ "E001-E004,E009" -> those rows, each once, in the order given; a row of one's own is SET/FUSION/STRATEGY.

    Raises:
        UnknownName: no such row, primitive set, fusion or strategy; the message lists the nearest.
        BionasError: nothing chosen, or a range that runs backwards.
    """
    known = table_one()
    names, chosen = list(known), {}
    for part in filter(None, re.split(r"[,\s]+", text)):
        if part.count("/") == 2:
            row = Row(part.replace("/", "-"), *part.split("/"))
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
    """Rows and seeds under one budget. Plain data: it travels to other processes and machines. See `prepare`.

    Attributes:
        plan: every choice but seed, fusion and primitive set.
        budget: training images of a search, at the most.
        child_epochs: of a candidate that is trained by itself.
        code: fingerprint of the code that the grid was made with.
        unfit: rows that cannot be run on this collection -> why.
    """

    plan: Plan
    rows: tuple[Row, ...]
    seeds: tuple[int, ...]
    budget: int
    child_epochs: int
    code: str
    unfit: dict[str, str]

    @property
    def folder(self) -> Path:
        """Named by what makes its results: another collection, size or budget is another grid."""
        common = dataclasses.replace(
            self.plan, seed=0, fusion=WITHOUT_METADATA, primitive_set="full", run_dir=""
        )
        identity = json.dumps([dataclasses.asdict(common), self.budget, self.child_epochs], sort_keys=True)
        name = f"ablation-{common.source}-{common.mode}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"
        return Path(self.plan.run_dir) / name

    @property
    def tasks(self) -> list[Task]:
        """What can be run: all rows of a seed before the next one, so that an unfinished grid compares all rows."""
        return [Task(row, seed) for seed in self.seeds for row in self.rows if row.name not in self.unfit]

    def run(self, task: Task) -> Run:
        return Run(self.folder / str(task))

    def plan_of(self, task: Task) -> Plan:
        """The plan of a row and seed; its runs lie inside the row's folder, where no other process works."""
        row, seed = task
        return dataclasses.replace(
            self.plan,
            fusion=row.fusion,
            primitive_set=row.primitive_set,
            seed=seed,
            run_dir=str(self.run(task).path),
        )

    def failure(self, task: Task) -> str | None:
        """Why a row broke off, None where it did not."""
        path = self.run(task).path / "failed.json"
        return files.read_json(path)["reason"] if path.exists() else None

    def record_failure(self, task: Task, reason: str) -> None:
        words = {"reason": reason, "failed": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        files.write_json(self.run(task).path / "failed.json", words)


def prepare(
    plan: Plan,
    rows: Sequence[Row],
    seeds: Sequence[int],
    budget: int | None = None,
    child_epochs: int | None = None,
) -> Grid:
    """A grid, checked before anything runs.

    Args:
        plan: every choice but seed, fusion and primitive set; its `search_epochs` are the measure of the budget.
        budget: training images of a search; the gradient search's own consumption by default.
        child_epochs: of a candidate; by the plan's mode by default (`BUDGETS`).

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
    needs = {STRATEGIES[row.strategy].needs for row in rows}
    if CHILDREN in needs:
        require_budget(budget, evaluator.images, "one candidate")
    if SUPERNET in needs:
        epochs_within(budget, supernet)  # that of Algorithm 1, which takes more than that of ENAS
    grid = Grid(plan, tuple(rows), tuple(seeds), budget, child_epochs, code_fingerprint(), unfit)
    for task in grid.tasks:
        _require_same_code(grid, task)
    return grid


def _needs_metadata(plan: Plan, row: Row) -> str:
    usable = [name for name in usable_presets(plan.specimens()) if name != "none"]
    remedy = (
        f"-p metadata={usable[0]} gives it some" if usable else "these records fill no field of any preset"
    )
    return (
        f"fusion {row.fusion!r} joins images with metadata, and there is none (source={plan.source}, "
        f"metadata={plan.metadata}): {remedy}. On images alone the rows with {WITHOUT_METADATA} work, E005-E012"
    )


def _require_same_code(grid: Grid, task: Task) -> None:
    run = grid.run(task)
    if not (run.path / "config.json").exists():
        return
    config, born = run.config, run.provenance.get("commit", "unknown")
    for what, there, now in (
        ("version of the code", config["code"], grid.code),
        ("collection", config["data_fingerprint"], grid.plan.specimens().fingerprint),
    ):
        if there != now:
            raise CheckpointError(
                f"{run.path} was run with another {what} ({there} there, at commit {born}; {now} now), and results of two "
                "are not mixed. Choose another folder (-p run_dir=...), go back to that one, or remove "
                f"{grid.folder} if it is not wanted."
            )


def ablate(
    grid: Grid, engine: str = "local", watch: Callable[[Task, str], None] | None = None, **options: Any
) -> None:
    """Run what is not finished; a row that fails, or whose worker dies, leaves its reason and the others go on.

    Args:
        engine: a name of `engines.ENGINES`; `options` are its own (jobs, address).
        watch: told of each task and its state, "running" or "ended".

    Raises:
        UnknownName: no such engine.
        BionasError: the engine cannot be had, or the disk is full.
    """
    waiting = [task for task in grid.tasks if not grid.run(task).complete]
    for event in ENGINES[engine](functools.partial(run_one, grid), waiting, **options):
        if event.state == "lost" and not grid.run(event.task).complete:
            grid.record_failure(event.task, event.reason)
        if watch is not None:
            watch(event.task, "running" if event.state == "running" else "ended")


# --- one row and seed -----------------------------------------------------------------------------------------------


def run_one(grid: Grid, task: Task) -> None:
    """Search, retrain, evaluate and weigh one row and seed, or go on where it was stopped; a finished one is left alone.

    What breaks off is recorded in failed.json, and raises nothing; the next time it is tried again.

    Raises:
        BionasError: not even that could be written.
    """
    run = grid.run(task)
    with _alone(run.path), (run.path / "log.txt").open("a", encoding="utf-8") as log, told_to(log):
        if run.complete:
            return
        (run.path / "failed.json").unlink(missing_ok=True)
        try:
            run.finish(_measured(grid, task, run))
        except Exception as error:
            grid.record_failure(
                task, f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            )


def _measured(grid: Grid, task: Task, run: Run) -> dict[str, Any]:
    if code_fingerprint() != grid.code:
        raise CheckpointError(
            f"the code here ({code_fingerprint()}) is not the code that began the grid ({grid.code})."
        )
    plan, strategy = grid.plan_of(task), STRATEGIES[task.row.strategy]
    config = {
        **plan.describe(**dataclasses.asdict(task.row)),
        "seed": task.seed,
        "budget": grid.budget,
        "child_epochs": grid.child_epochs,
        "search": dataclasses.asdict(plan.search_config()),
        "fit": dataclasses.asdict(plan.fit_config()),
    }
    run.begin(config, provenance(task.seed, plan.device, plan.specimens().fingerprint))
    evaluator, folder = PlanEvaluator(plan, grid.child_epochs), run.path / "search"
    found = strategy(evaluator.space(), evaluator, grid.budget, task.seed, folder=folder)
    shared = folder / "supernet"
    seconds = (Run(shared).history if strategy.needs == SUPERNET else found.trace)["seconds"].sum()
    derived = experiments.retrain(plan, found.genotype)
    found.genotype.save(run.path / "genotype.json")
    files.write_json(run.path / "metrics.json", derived.metrics)
    return {
        "search_images": found.images,
        "candidates": int(found.trace["key"].nunique()),
        "stopped": found.stopped,
        "search_minutes": round(float(seconds) / 60, 3),
        **derived.summary,
        **_latencies(plan, found.genotype),
    }


def _latencies(plan: Plan, genotype: Genotype) -> dict[str, Any]:
    """Median and spread of one specimen's pass, in ms: on one thread of the CPU, and on the GPU where the plan uses one."""
    encoding, network = plan.encoding(), plan.derived(genotype)
    fields = (encoding.vocabulary_sizes, encoding.n_numeric)
    devices = {"cpu": "cpu"} | ({"gpu": "cuda"} if plan.device != "cpu" and torch.cuda.is_available() else {})
    measured = {}
    for name, device in devices.items():
        threads, seconds = torch.get_num_threads(), LATENCY_SECONDS[plan.mode]
        try:
            found = latency(network, plan.image_size, *fields, device=device, threads=1, seconds=seconds)
        finally:
            torch.set_num_threads(threads)
        measured |= {f"{name}_ms": found["median_ms"], f"{name}_ms_iqr": found["iqr_ms"]}
    return measured


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other process works on a folder. Its lock goes with the process, however that ends."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
