"""What all strategies share: the registry, the result, and the loop that scores candidates until the budget is spent.

The budget is counted in training images: those that a network was trained on, forward and backward. Images that are only
evaluated (scoring on validation) are not counted, for any strategy. What an image costs differs (a supernet computes every
primitive, a candidate one per edge), so the trace also has wall-clock seconds and core-seconds.

A `Sampler` proposes genotypes and observes their scores. `score_candidates` drives it: a genotype that computes the same as
one already scored is not trained again, and after each candidate the trace, the sampler's weights and its random state
are written to one file, so that an interrupted search resumes and ends with the same result.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
import pandas as pd

from bionas.errors import SearchError
from bionas.genotype import Genotype
from bionas.registry import Registry
from bionas.strategies.evaluators import CHILDREN, FIDELITIES, NETWORKS, SUPERNET, Evaluator, Score
from bionas.strategies.space import Space
from bionas.system import files
from bionas.system.progress import progress
from bionas.training.runs import Run, provenance

PATIENCE = 200
"""A search has converged when this many proposals in a row had been scored before."""

PARTS = ("rows", "known", "spent", "proposals", "sampler")
"""What the checkpoint of a search holds."""

OFFERED = {
    SUPERNET: "trains one supernet that all candidates share",
    CHILDREN: "has each candidate trained by itself",
    FIDELITIES: "has candidates trained for different numbers of epochs",
    NETWORKS: "builds untrained networks and counts their MACs",
}
"""What an evaluator may offer, as a clause about the strategy that needs it."""


class SearchResult(NamedTuple):
    """The result of a search.

    Attributes:
        genotype: the genotype found.
        trace: one row per candidate, in the order in which they were scored: index, key, genotype (JSON), score, images
            (cumulative), seconds and core_seconds (of this candidate), and columns of the strategy.
        images: training images used, never more than the budget.
        stopped: why the search ended.
    """

    genotype: Genotype
    trace: pd.DataFrame
    images: int
    stopped: str


class Trial(NamedTuple):
    """A proposal of a multi-fidelity strategy: a genotype, and for how many epochs to train it."""

    genotype: Genotype
    epochs: int


class Strategy(Protocol):
    """What the registry holds: `STRATEGIES["random"](space, evaluate, budget, seed) -> SearchResult`.

    `needs` is what its evaluator has to offer: one of "children", "fidelities", "supernet", "networks".
    """

    needs: str

    def __call__(
        self,
        space: Space,
        evaluate: Evaluator,
        budget: int,
        seed: int = 0,
        *,
        folder: Path | None = None,
        **options: Any,
    ) -> SearchResult:
        """
        Args:
            space: the search space.
            evaluate: scores genotypes; it has to offer what the strategy needs.
            budget: upper limit of training images.
            seed: of everything that the strategy draws.
            folder: the search is written there and resumed from there; None writes nothing.
            options: of this strategy.

        Raises:
            SearchError: a budget too small for one candidate, or an evaluator without what the strategy needs.
            CheckpointError: the folder holds another search, or its checkpoint is damaged.
        """


STRATEGIES: Registry[Strategy] = Registry("search strategy")


def strategy(name: str, needs: str = CHILDREN) -> Callable[[Callable[..., SearchResult]], Strategy]:
    """Register a strategy together with what its evaluator has to offer (a key of `OFFERED`)."""

    def keep(search: Callable[..., SearchResult]) -> Strategy:
        registered = cast(Strategy, search)
        registered.needs = needs
        return STRATEGIES.register(name)(registered)

    return keep


def require(name: str, evaluate: Evaluator) -> None:
    """Raises SearchError where the evaluator lacks what the strategy needs, or UnknownName for an unknown strategy."""
    needed = STRATEGIES[name].needs
    if needed in evaluate.offers:
        return
    others = ", ".join(other for other, one in STRATEGIES.items() if one.needs in evaluate.offers)
    raise SearchError(
        f"the strategy {name!r} {OFFERED[needed]}, which {type(evaluate).__name__} does not offer. "
        f"Give it an evaluator that does (PlanEvaluator), or use one of {others}."
    )


def require_budget(budget: int, least: int, what: str) -> None:
    """Raises SearchError where the budget is below `least`, the training images that `what` takes."""
    if budget < least:
        raise SearchError(
            f"a budget of {budget:,} training images is too small: {what} takes {least:,}. Give at least that, or make "
            "it cheaper (fewer epochs, fewer specimens)."
        )


UPDATES = 5
"""A strategy that learns takes at least this many updates after its warm-up, where the budget has the candidates."""


def candidates_within(budget: int, evaluate: Evaluator) -> int:
    """How many candidates a budget of training images pays for."""
    return budget // max(1, evaluate.images)


class Sampler:
    """Proposes candidates and learns from their scores. Its draws depend only on its seed and on what it observed."""

    def propose(self) -> Genotype | Trial | None:
        """The next candidate; None when there are no more."""
        raise NotImplementedError

    def observe(self, genotype: Genotype, score: float) -> dict[str, Any]:
        """Record the score of the proposal. Returns further columns of its trace row, plain numbers and texts."""
        return {}

    def state(self) -> dict[str, Any]:
        """Everything the next proposal depends on: tensors, numbers, texts, lists and dicts of them."""
        raise NotImplementedError

    def load_state(self, state: dict[str, Any]) -> None:
        raise NotImplementedError


def open_run(
    folder: Path | str | None,
    name: str,
    space: Space,
    evaluate: Evaluator,
    budget: int,
    seed: int,
    options: dict[str, Any],
) -> Run | None:
    """The run folder of a search, with its configuration written or checked; None without a folder.

    Raises:
        CheckpointError: the folder holds another search; the message lists what differs.
    """
    if folder is None:
        return None
    run = Run(folder)
    config = {
        "strategy": name,
        "options": options,
        "budget": budget,
        "seed": seed,
        "reductions": space.reductions,
        "primitive_set": space.primitive_set,
        "shared": space.shared,
        "evaluator": evaluate.description,
    }
    run.begin(config, provenance(seed, "cpu", str(evaluate.description.get("data_fingerprint", ""))))
    return run


def finished(run: Run | None) -> SearchResult | None:
    """The result of a completed search; None where it is not complete."""
    if run is None or not run.complete:
        return None
    summary = run.summary
    return SearchResult(run.genotype, run.table("trace"), summary["images_seen"], summary["stopped"])


def conclude(run: Run | None, result: SearchResult) -> SearchResult:
    """Write the result, done.json last."""
    if run is not None:
        files.write_csv(run.path / "trace.csv", result.trace)
        result.genotype.save(run.path / "genotype.json")
        run.finish({"images_seen": result.images, "stopped": result.stopped, "candidates": len(result.trace)})
    return result


def search_candidates(
    name: str,
    sampler: Sampler,
    space: Space,
    evaluate: Evaluator,
    budget: int,
    seed: int,
    folder: Path | str | None,
    options: dict[str, Any],
    cost: int | None = None,
) -> SearchResult:
    """A whole search whose candidates are trained one by one; see `Strategy`.

    Args:
        cost: images of the cheapest candidate, `evaluate.images` by default.
    """
    require(name, evaluate)
    cost = evaluate.images if cost is None else cost
    require_budget(budget, cost, "one candidate")
    run = open_run(folder, name, space, evaluate, budget, seed, options)
    if (result := finished(run)) is not None:
        return result
    return conclude(run, score_candidates(name, sampler, space, evaluate, run, budget, cost))


def score_candidates(
    name: str,
    sampler: Sampler,
    space: Space,
    evaluate: Callable[[Genotype], Score],
    run: Run | None,
    budget: int,
    cost: int,
    spent: int = 0,
) -> SearchResult:
    """Score what the sampler proposes until the budget is spent.

    The result is the candidate with the highest score among those trained longest (ties: the first wins).

    Args:
        cost: images of one candidate, of the cheapest where the sampler proposes `Trial`s.
        spent: images used before the first candidate.
    """
    state = run and run.load_checkpoint(parts=PARTS)
    state = state or {"rows": [], "known": {}, "spent": spent, "proposals": 0}
    rows, known, spent, proposals = (state[part] for part in ("rows", "known", "spent", "proposals"))
    if "sampler" in state:
        sampler.load_state(state["sampler"])
    repeated, stopped = 0, ""
    with progress(total=budget, initial=spent, desc=name, unit="image", unit_scale=True) as bar:
        while not stopped:
            if len(known) >= space.distinct and not any("epochs" in scored for scored in rows):
                stopped = "every genotype of the space is scored"
            elif spent + cost > budget:
                stopped = "the budget is spent"
            elif repeated >= PATIENCE:
                stopped = f"converged: {PATIENCE} proposals in a row were scored before"
            elif (proposed := sampler.propose()) is None:
                stopped = "no more candidates"
            else:
                proposals += 1
                genotype, epochs = proposed if isinstance(proposed, Trial) else (proposed, None)
                key = genotype.key() if epochs is None else f"{genotype.key()} @ {epochs}"
                if key in known:
                    repeated += 1
                    sampler.observe(genotype, known[key])
                    continue
                scorer = evaluate
                if epochs is not None:
                    scorer = trained_for = cast(Evaluator, evaluate).at(
                        epochs
                    )  # a `Trial` is for "fidelities"
                    if spent + trained_for.images > budget:
                        stopped = "the budget is spent"
                        continue
                repeated, start, core_start = 0, time.perf_counter(), time.process_time()
                canonical = space.canonical(genotype)
                score = scorer(canonical)
                spent, known[key] = spent + score.images, score.value
                common = row(len(rows), canonical, score.value, spent, time.perf_counter() - start)
                common["core_seconds"] = round(time.process_time() - core_start, 3)
                own = sampler.observe(genotype, score.value)
                trained = {} if epochs is None else {"epochs": epochs}
                rows.append({**common, "proposals": proposals, **trained, **score.columns, **own})
                if run is not None:
                    parts = (rows, known, spent, proposals, sampler.state())
                    run.save_checkpoint(dict(zip(PARTS, parts)))
                    files.write_csv(run.path / "trace.csv", pd.DataFrame(rows))
                bar.update(score.images)
                bar.set_postfix(candidates=len(rows), best=f"{max(known.values()):.3f}")
    best = max(rows, key=lambda scored: (scored.get("epochs", 0), scored["score"]))
    return SearchResult(Genotype.from_json(best["genotype"]), pd.DataFrame(rows), spent, stopped)


def row(index: int, genotype: Genotype, score: float, images: int, seconds: float) -> dict[str, Any]:
    """The columns that every trace has, core_seconds excepted."""
    written = json.dumps(json.loads(genotype.to_json()), separators=(",", ":"))
    return {
        "index": index,
        "key": genotype.key(),
        "genotype": written,
        "score": float(score),
        "images": images,
        "seconds": round(seconds, 3),
    }


def generator_state(generator: np.random.Generator) -> str:
    """The state of a generator as text (its integers are longer than the 64 bits of a checkpoint)."""
    return json.dumps(generator.bit_generator.state)


def set_generator_state(generator: np.random.Generator, state: str) -> None:
    """Restore what `generator_state` returned."""
    generator.bit_generator.state = json.loads(state)
