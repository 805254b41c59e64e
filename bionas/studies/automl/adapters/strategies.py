"""ENAS, NAO and the paper's search, ours over its cells (`strategies`), under a budget of time instead of images."""

from __future__ import annotations

import time
from collections.abc import Callable

from bionas.errors import AutoMLError
from bionas.genotype import Genotype
from bionas.strategies import STRATEGIES, PlanEvaluator
from bionas.strategies.differentiable import images_of_epoch
from bionas.strategies.searching import SearchResult
from bionas.studies.automl.clock import OutOfTime
from bionas.studies.automl.systems import SEARCH_SHARE, SYSTEMS, Found, Problem, System
from bionas.studies.automl.training import MARGIN, train_the_rest
from bionas.studies.table1.grid import BUDGETS
from bionas.system import files
from bionas.training.loop import predict
from bionas.training.runs import Run

OVERRUN = 0.7
"""Share of the time after which a search ends even if the machine became slower than planned."""
UNBOUNDED = 10**12
"""Training images: the time ends the search."""


def by_epochs(strategy: str) -> Callable[[Problem], Found]:
    """A search that trains a supernet: one epoch first, to measure its time; then a search of as many epochs as half of the
    time allows.

    Where the time runs out all the same, the result is that of the one epoch. The returned function raises AutoMLError
    where there is no time for one.
    """

    def search(problem: Problem) -> Found:
        plan, evaluator = problem.plan, _evaluator(problem)
        space, planned = evaluator.space(), problem.folder / f"{strategy}_epochs.json"
        supernet = evaluator.supernet(space, plan.seed)
        w, theta = images_of_epoch(supernet) if strategy == "gradient" else (images_of_epoch(supernet)[0], 0)
        warmup = supernet.config.warmup_epochs * w if strategy == "gradient" else 0

        def searched(name: str, epochs: int) -> SearchResult:
            budget = warmup + epochs * (w + theta)
            return STRATEGIES[strategy](space, evaluator, budget, plan.seed, folder=problem.folder / name)

        with problem.clock.until(OVERRUN):
            try:
                start = time.perf_counter()
                result = searched("first_epoch", 1)
                if not planned.exists():
                    *warm, epoch = Run(problem.folder / "first_epoch" / "supernet").history["seconds"]
                    # a warm-up, making the supernet, ENAS's finalists; an epoch of an earlier start was only read
                    around = max(sum(warm), time.perf_counter() - start - epoch)
                    left = SEARCH_SHARE * problem.clock.seconds - problem.clock.used
                    files.write_json(
                        planned, int((MARGIN * left - around) / (epoch + (around - sum(warm)) / 4))
                    )
            except OutOfTime:
                raise _too_short(problem, f"one epoch of the search ({strategy})") from None
            if (epochs := files.read_json(planned)) > 1:
                try:
                    result = searched("search", epochs)
                except OutOfTime:
                    print(
                        f"{strategy}: the time ran out before its {epochs} epochs; the result is that of one epoch."
                    )
        return _retrained(problem, result, {"score": "val_accuracy"})

    return search


def nao(problem: Problem) -> Found:
    """Train children for half of the time; the result is the best of those that were finished.

    Raises:
        AutoMLError: no time for one child.
    """
    evaluator, folder = _evaluator(problem), problem.folder / "search"
    with problem.clock.until(SEARCH_SHARE):
        try:
            result = STRATEGIES["nao"](
                evaluator.space(), evaluator, UNBOUNDED, problem.plan.seed, folder=folder
            )
        except OutOfTime:
            if not (folder / "trace.csv").exists():
                raise _too_short(problem, "one child of NAO") from None
            trace = Run(folder).table("trace")
            best = trace.loc[trace["score"].idxmax()]
            result = SearchResult(
                Genotype.from_json(best["genotype"]), trace, int(trace["images"].iloc[-1]), "out of time"
            )
    return _retrained(problem, result, {"score": "val_accuracy"})


def _evaluator(problem: Problem) -> PlanEvaluator:
    return PlanEvaluator(problem.plan, BUDGETS[problem.plan.mode]["child_epochs"], problem.splits)


def _too_short(problem: Problem, what: str) -> AutoMLError:
    return AutoMLError(
        f"{problem.clock.seconds / 60:g} minutes are too few: {what} was not finished. Give more."
    )


def _retrained(problem: Problem, result: SearchResult, names: dict[str, str]) -> Found:
    plan, genotype = problem.plan, result.genotype
    problem.write_candidates(result.trace.drop(columns="genotype").rename(columns=names).to_dict("records"))
    genotype.save(problem.folder / "genotype.json")
    config, description = plan.fit_config(), {"genotype": genotype.key()}
    model, trained = train_the_rest(problem, lambda: plan.derived(genotype), config, description)
    return Found(
        predict=lambda specimens: predict(model, specimens, plan.encoding(), device=plan.device),
        chosen={"genotype": genotype.key()},
        candidates=len(result.trace),
        stopped=trained.ended,
        val_accuracy=trained.val_accuracy,
        model=model,
        about={"epochs": trained.epochs, "learning_rate": config.learning_rate},
    )


_OURS = "the search of Algorithm 1 and the network it derives, as in row E009"
SYSTEMS.register("bioautoml-nas")(
    System("bioautoml-nas", "Ours (BioAutoML-NAS)", by_epochs("gradient"), _OURS)
)
SYSTEMS.register("enas")(
    System("enas", "ENAS", by_epochs("enas"), "ours, over the paper's cells; candidates are its finalists")
)
SYSTEMS.register("nao")(System("nao", "NAO", nao, "ours, over the paper's cells"))
