"""One search and its final training under a budget of core-minutes, for every strategy and seed.

A core-minute is a minute of processor time of one core. The budget holds search and final training together. Strategies
count training images (so that they are deterministic and resume exactly): `measured_rates` measures once per machine what
an image costs in each, the budget is converted with these rates, and every row states the core-minutes that were used.

The final network has the plan's target size (`max_mmacs`), is trained from scratch with the plan's recipe, and reads the
test split once. Where a strategy already trained its answer so (random search, and the last rung of multi-fidelity
strategies), that training is the final one and is not repeated.
"""

from __future__ import annotations

import dataclasses
import io
import json
import math
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bionas.errors import CheckpointError, SearchError, UnknownName
from bionas.genotype import Genotype
from bionas.specimens.collection import SpecimenSet
from bionas.strategies import STRATEGIES, PlanEvaluator, SearchResult, Space, Supernet
from bionas.strategies.differentiable import images_of_epoch
from bionas.strategies.evaluators import CHILDREN, FIDELITIES, NETWORKS, SUPERNET
from bionas.strategies.fixed import require_primitives
from bionas.strategies.warm_start import DESIGNS, designs
from bionas.system import files
from bionas.system.progress import told_to
from bionas.training import experiments
from bionas.training.configuration import Plan
from bionas.training.cost import cost
from bionas.training.evaluation import evaluate, predictions_frame, write_evaluation
from bionas.training.fitting import Fit
from bionas.training.loop import predict
from bionas.training.runs import Run, commit

HAND, BASELINE, CONTROL = "hand_drawn", "resnet18", "random"
SHORT = 3
"""Candidates of REINFORCE, evolution and NAO are trained for 1 / SHORT of the epochs: there are then enough for updates."""

RATE_BATCHES = 12
"""Training batches per epoch from which a rate is measured; of two epochs the second counts."""
RATE_GENOTYPES = 4

STOP_AFTER = 3
T_95 = 4.303
"""97.5 % quantile of Student's t with two degrees of freedom: for the bound after `STOP_AFTER` searches."""


class Rate(NamedTuple):
    """What a strategy costs here: core-seconds per training image, and core-seconds of scoring at its end."""

    per_image: float
    overhead: float = 0.0


@dataclasses.dataclass(frozen=True)
class Study:
    """Every choice of the study.

    Attributes:
        plan: collection, sizes, recipe; its seed is replaced by that of the search.
        minutes: core-minutes of search and final training together.
        strategies: names of `STRATEGIES`, or "hand_drawn" or "resnet18".
        seeds: one search each.
        name: of the study's folder, in which it resumes.
    """

    plan: Plan
    minutes: float
    strategies: tuple[str, ...]
    seeds: tuple[int, ...]
    name: str = "searches"

    def __post_init__(self) -> None:
        for name in self.strategies:
            if name not in (HAND, BASELINE) and name not in STRATEGIES:
                raise UnknownName("search", name, [*STRATEGIES, HAND, BASELINE])
        if CONTROL not in self.strategies:
            raise SearchError(f"the study compares with {CONTROL!r}: add it to the strategies.")

    @property
    def folder(self) -> Path:
        return Path(self.plan.run_dir) / self.name

    def claim(self) -> None:
        """Write the choices that make rows comparable, or check that the folder holds rows of the same ones.

        Choices that a later version added are not compared; the version of the code stands in each row.

        Raises:
            CheckpointError: the folder holds another study; the message lists what differs.
        """
        apart = ("run_dir", "seed", "data_dir", "search_epochs")
        choices = {k: v for k, v in dataclasses.asdict(self.plan).items() if k not in apart}
        choices = json.loads(json.dumps(choices | {"minutes": self.minutes}, default=str))
        path = self.folder / "study.json"
        if not path.exists():
            files.write_json(path, choices)
            return
        before = files.read_json(path)
        differing = [k for k in sorted(before.keys() & choices.keys()) if before[k] != choices[k]]
        if differing:
            listed = "; ".join(f"{k}: {before[k]!r} there, {choices[k]!r} now" for k in differing)
            raise CheckpointError(
                f"{self.folder} holds another study ({listed}). Give the same choices, or another name (--out)."
            )

    def tasks(self) -> Iterator[tuple[int, str]]:
        """(seed, strategy): all strategies with one seed before any with the next."""
        return ((seed, name) for seed in self.seeds for name in self.strategies)

    def done(self) -> list[dict[str, Any]]:
        """The rows of all finished searches, by seed and in the order of `strategies`."""
        paths = (self.row_path(seed, name) for seed, name in self.tasks())
        return [files.read_json(path) for path in paths if path.exists()]

    def row_path(self, seed: int, name: str) -> Path:
        return self.folder / f"{name}-{seed}" / "row.json"


def run(study: Study) -> list[dict[str, Any]]:
    """Run what is not finished, and return all rows. Interrupted, the same call resumes.

    Raises:
        CheckpointError: the folder holds a study of other choices.
    """
    study.claim()
    rates = measured_rates(study)
    for seed, name in study.tasks():
        path = study.row_path(seed, name)
        if path.exists():
            continue
        rows = [row for row in study.done() if row["seed"] != seed]
        if reason := stopped(name, rows):
            print(f"{name}, seed {seed}: not run, {reason}", flush=True)
            continue
        row = searched(study, name, seed, rates)
        files.write_json(path, row)
        print(
            f"{name}, seed {seed}: {100 * row['balanced_accuracy']:.1f} % balanced on test, "
            f"{row['core_minutes']:.2f} core-minutes",
            flush=True,
        )
    return study.done()


def stopped(name: str, rows: Sequence[dict[str, Any]]) -> str:
    """Why a strategy takes no further seed: the rule declared before the study, read on validation alone.

    After the first three searches, the upper 95 % bound (Student's t) of a strategy's mean balanced accuracy on validation
    lies below the mean of random search.
    """
    if name in (CONTROL, BASELINE):
        return ""
    of = {
        who: [row["val_balanced_accuracy"] for row in rows if row["strategy"] == who]
        for who in (name, CONTROL)
    }
    first, chance = of[name][:STOP_AFTER], of[CONTROL]
    if len(first) < STOP_AFTER or not chance:
        return ""
    bound = np.mean(first) + T_95 * np.std(first, ddof=1) / math.sqrt(STOP_AFTER)
    if bound >= np.mean(chance):
        return ""
    return (
        f"stopped after {STOP_AFTER} searches: upper bound {100 * bound:.1f} % on validation, random search has "
        f"{100 * np.mean(chance):.1f} %"
    )


# --- one search ------------------------------------------------------------------------------------------------------


def searched(study: Study, name: str, seed: int, rates: dict[str, Rate]) -> dict[str, Any]:
    """One search within the budget, its final training, and the test split read once: a row of plain data."""
    plan = dataclasses.replace(study.plan, seed=seed)
    folder = study.row_path(seed, name).parent
    if name == BASELINE:
        return _baseline_row(study, seed, folder)
    final = PlanEvaluator(plan, plan.epochs, at_target=True, keep_weights=True)
    training = rates[CHILDREN].per_image * final.images
    found: dict[str, Any] = {"search_core_minutes": 0.0, "candidates": 1, "stopped": "no search"}
    if name == HAND:
        genotype = hand_drawn(final.space())
    else:
        budget = search_budget(study, name, rates, training, final.images)
        core_start = time.process_time()
        evaluator = _evaluator(plan, name)
        with told_to(io.StringIO()):
            result = _resumed(name, evaluator, budget, seed, folder / "search")
        genotype, here = result.genotype, time.process_time() - core_start
        found = {
            "search_core_minutes": _core_seconds(folder / "search", result.trace, here) / 60,
            "candidates": len(result.trace),
            "updates": int(result.trace["updates"].iloc[-1]) if "updates" in result.trace else None,
            "search_images": result.images,
            "stopped": result.stopped,
            **theta_reach(folder / "search"),
        }
    genotype = final.space().canonical(genotype)  # the form that children are trained in
    score = final(genotype)
    training_minutes = score.columns["core_seconds"] / 60
    own = found["search_core_minutes"]
    if at_full_length(name):  # the final training is one of the candidates
        found["search_core_minutes"] = max(0.0, own - training_minutes)
    tested = _tested(plan, final, genotype, folder)
    return {
        "strategy": name,
        "seed": seed,
        **tested,
        "val_accuracy": score.value,
        "val_balanced_accuracy": score.columns["val_balanced_accuracy"],
        **found,
        "training_core_minutes": training_minutes,
        "core_minutes": found["search_core_minutes"] + training_minutes,
        "channels": plan.derived_network(genotype).channels,
        "genotype": json.loads(genotype.to_json()),
        "code": commit(),
        "folder": folder.name,
    }


def _resumed(name: str, evaluator: PlanEvaluator, budget: int, seed: int, folder: Path) -> SearchResult:
    """The search, resumed where its folder holds one of this version of the code, and begun again where it does not."""
    try:
        return STRATEGIES[name](evaluator.space(), evaluator, budget, seed, folder=folder)
    except CheckpointError as error:
        print(f"{name}, seed {seed}: begun again ({error})", file=sys.stderr, flush=True)
        shutil.rmtree(folder)
        return STRATEGIES[name](evaluator.space(), evaluator, budget, seed, folder=folder)


def at_full_length(name: str) -> bool:
    """Whether the answer of a strategy has had the final training when its search ends."""
    return name == CONTROL or (name in STRATEGIES and STRATEGIES[name].needs == FIDELITIES)


def search_budget(study: Study, name: str, rates: dict[str, Rate], training: float, final_images: int) -> int:
    """Training images of a search: the budget in core-seconds, less the final training, at the measured rate.

    Raises:
        SearchError: the final training alone takes more than the budget.
    """
    if STRATEGIES[name].needs == NETWORKS:
        return 0
    rate = rates[name if STRATEGIES[name].needs == SUPERNET else CHILDREN]
    left = 60 * study.minutes - rate.overhead - (0 if at_full_length(name) else training)
    if left <= 0:
        raise SearchError(
            f"{study.minutes:g} core-minutes leave nothing to search with: the final training takes "
            f"{training / 60:.1f} and scoring {rate.overhead / 60:.1f}. Give more minutes, or fewer epochs."
        )
    budget = int(left / rate.per_image)
    return max(budget, final_images) if at_full_length(name) else budget


def hand_drawn(space: Space) -> Genotype:
    """The design `mixed` in every cell of a space.

    Raises:
        SearchError: the space lacks one of its primitives.
    """
    require_primitives(space, DESIGNS["mixed"])
    return designs(space)["mixed"]


def _evaluator(plan: Plan, name: str) -> PlanEvaluator:
    if at_full_length(name):
        return PlanEvaluator(plan, plan.epochs, at_target=True, keep_weights=True)
    return PlanEvaluator(plan, max(1, plan.epochs // SHORT), at_target=True)


def _tested(plan: Plan, final: PlanEvaluator, genotype: Genotype, folder: Path) -> dict[str, Any]:
    """The test split, read once: evaluation and predictions in the folder of the search."""
    run, encoding, (train, _, test) = final.child_run(genotype), plan.encoding(), plan.splits()
    network = plan.derived(genotype)
    network.load_state_dict(run.weights())
    probabilities = predict(network, test, encoding, device=plan.device)
    result = evaluate(test.labels, probabilities, test.class_names, train_labels=train.labels)
    write_evaluation(
        folder, result, predictions_frame(test.records, test.labels, probabilities, test.class_names)
    )
    sizes = cost(
        network, plan.image_size, vocabulary_sizes=encoding.vocabulary_sizes, n_numeric=encoding.n_numeric
    )
    return {
        "balanced_accuracy": result.metrics["balanced_accuracy"],
        "accuracy": result.metrics["accuracy"],
        "mmacs": sizes["macs"] / 1e6,
        "parameters": sizes["parameters"],
    }


def _baseline_row(study: Study, seed: int, folder: Path) -> dict[str, Any]:
    """ResNet-18 under the plan's recipe; its training is what it costs, whatever the budget."""
    run = experiments.baseline(dataclasses.replace(study.plan, seed=seed), BASELINE)
    history = run.history
    folder.mkdir(parents=True, exist_ok=True)
    files.write_text(folder / "predictions.csv", (run.path / "predictions.csv").read_text(encoding="utf-8"))
    minutes = float(history["core_seconds"].sum()) / 60
    return {
        "strategy": BASELINE,
        "seed": seed,
        "balanced_accuracy": run.metrics["balanced_accuracy"],
        "accuracy": run.metrics["accuracy"],
        "mmacs": run.summary["macs"] / 1e6,
        "parameters": run.summary["parameters"],
        "val_accuracy": float(history["val_accuracy"].iloc[-1]),
        "val_balanced_accuracy": None,
        "search_core_minutes": 0.0,
        "candidates": 1,
        "stopped": "no search",
        "training_core_minutes": minutes,
        "core_minutes": minutes,
        "code": run.provenance["commit"],
        "folder": folder.name,
    }


def _core_seconds(folder: Path, trace: pd.DataFrame, here: float) -> float:
    """Core-seconds of a search, those before an interruption included: from its files, not from the clock of this process."""
    of_trace = float(trace["core_seconds"].sum()) if "core_seconds" in trace else here
    supernet = folder / "supernet" / "history.csv"
    if not supernet.exists():
        return of_trace
    trained = float(pd.read_csv(supernet)["core_seconds"].sum())
    epochs_in_trace = "alpha_entropy" in trace  # the trace of a differentiable search is that history
    return max(trained, of_trace) if epochs_in_trace else trained + of_trace


def theta_reach(folder: Path) -> dict[str, float]:
    """theta reach of a differentiable search: the sum of theta's learning rate over its steps."""
    history = folder / "supernet" / "history.csv"
    table = pd.read_csv(history) if history.exists() else {}
    return {"theta_reach": float(table["theta_reach"].max())} if "theta_reach" in table else {}


# --- rates -----------------------------------------------------------------------------------------------------------


def measured_rates(study: Study) -> dict[str, Rate]:
    """Core-seconds per training image on this machine, validation after each epoch included; measured once per study.

    "children": the mean of random genotypes at target size. A supernet strategy: its own second epoch over a few batches,
    and what it scores at the end, scaled to the size of the validation split.
    """
    path = study.folder / "rates.json"
    known = {name: Rate(*rate) for name, rate in files.read_json(path).items()} if path.exists() else {}
    wanted = [CHILDREN, *(n for n in study.strategies if n in STRATEGIES and STRATEGIES[n].needs == SUPERNET)]
    for name in wanted:
        if name not in known:
            with tempfile.TemporaryDirectory() as folder, told_to(io.StringIO()):
                plan = dataclasses.replace(study.plan, run_dir=folder, warmup_epochs=0)
                known[name] = _of_children(plan) if name == CHILDREN else _of_supernet(plan, name)
            files.write_json(path, {name: list(rate) for name, rate in known.items()})
    return known


def few(plan: Plan) -> tuple[SpecimenSet, SpecimenSet, float]:
    """`RATE_BATCHES` batches of training specimens, validation in the same proportion, and the share that they are."""
    train, val, _ = plan.training_splits()
    batch = plan.batch_size if isinstance(plan.batch_size, int) else 32
    n = min(len(train), RATE_BATCHES * batch)
    share = n / len(train)
    positions = np.random.default_rng(plan.data_seed).permutation
    return (
        train.subset(np.sort(positions(len(train))[:n])),
        val.subset(np.sort(positions(len(val))[: max(2, round(share * len(val)))])),
        share,
    )


def _of_children(plan: Plan) -> Rate:
    train, val, _ = few(plan)
    space = PlanEvaluator(plan, 1).space()
    generator, rates = np.random.default_rng(plan.data_seed), []
    config = dataclasses.replace(plan.fit_config(), epochs=2)
    for i in range(RATE_GENOTYPES):
        network = plan.derived(space.random(generator))
        run = Run(Path(plan.run_dir) / f"rate-{i}")
        history = Fit(network, train, val, plan.encoding(), config, run, {}).train().history
        rates.append(history["core_seconds"].iloc[1] / history["images"].iloc[1])
    return Rate(float(np.mean(rates)))


def _of_supernet(plan: Plan, name: str) -> Rate:
    class Few(PlanEvaluator):
        """The plan's supernet on a few batches."""

        def supernet(self, space: Space, seed: int) -> Supernet:
            train, val, _ = few(self.plan)
            return super().supernet(space, seed)._replace(train=train, val=val)

    evaluator, folder = Few(plan, 1), Path(plan.run_dir) / name
    supernet = evaluator.supernet(evaluator.space(), plan.seed)
    result = STRATEGIES[name](
        evaluator.space(), evaluator, 2 * sum(images_of_epoch(supernet)), plan.seed, folder=folder
    )
    history = pd.read_csv(folder / "supernet" / "history.csv")
    per_image = float(history["core_seconds"].iloc[-1] / history["images"].iloc[-1])
    if "alpha_entropy" in result.trace:
        return Rate(per_image)
    return Rate(per_image, float(result.trace["core_seconds"].sum()) / few(plan)[2])
