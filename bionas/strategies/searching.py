"""What all strategies share: the registry, the answer, and the loop that scores candidates until the budget is spent.

The budget is counted in training images: those that a network was trained on, forward and backward. Images that are only
looked at (scoring on validation) are not counted, for any strategy. What an image costs differs (a supernet computes
every primitive, a child one an edge); the trace has seconds beside it.

A `Sampler` proposes genotypes and is told what they scored. `score_candidates` drives it: a genotype that computes the same
as one already scored is not trained again, and after each candidate the trace, the sampler's weights and its random
state are on disk in one file, so that a search that is killed goes on as if it had not been.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pandas as pd

from bionas.errors import SearchError
from bionas.genotype import Genotype
from bionas.registry import Registry
from bionas.strategies.evaluators import CHILDREN, SUPERNET, Evaluator, Score
from bionas.strategies.space import Space
from bionas.system import files
from bionas.system.progress import progress
from bionas.training.runs import Run, provenance

PATIENCE = 200
"""So many proposals in a row that were scored before, and a search has converged."""

PARTS = ("rows", "known", "spent", "proposals", "sampler")
"""What the checkpoint of a search holds."""


class SearchResult(NamedTuple):
    """What a search found.

    Attributes:
        genotype: the answer.
        trace: a row a candidate, in the order in which they were scored: index, key, genotype (JSON), score, images
            (so far), seconds (of this candidate), and what the strategy adds.
        images: training images seen, never more than the budget.
        stopped: why it ended, in words.
    """

    genotype: Genotype
    trace: pd.DataFrame
    images: int
    stopped: str


class Strategy(Protocol):
    """What the registry holds: `STRATEGIES["random"](space, evaluate, budget, seed) -> SearchResult`.

    `needs` says what its evaluator has to offer.
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
            space: what is searched.
            evaluate: what a genotype is worth; it has to offer what the strategy needs.
            budget: training images, at the most.
            seed: of everything that the strategy draws.
            folder: where the search is kept, and gone on with; None to keep nothing.
            options: the strategy's own.

        Raises:
            SearchError: a budget too small for one candidate, or an evaluator without what the strategy needs.
            CheckpointError: the folder holds another search, or its checkpoint is damaged.
        """


STRATEGIES: Registry[Strategy] = Registry("search strategy")


def strategy(name: str, needs: str = CHILDREN) -> Callable[[Callable[..., SearchResult]], Strategy]:
    """Register a strategy, with what its evaluator has to offer: children trained one by one, or a supernet."""

    def keep(search: Callable[..., SearchResult]) -> Strategy:
        search.needs = needs
        return STRATEGIES.register(name)(search)

    return keep


def require(name: str, evaluate: Evaluator) -> None:
    """Raises SearchError where the evaluator lacks what the strategy needs, or UnknownName for no such strategy."""
    needed = STRATEGIES[name].needs
    if needed in evaluate.offers:
        return
    how = {
        SUPERNET: "trains one supernet that all candidates share",
        CHILDREN: "has each candidate trained by itself",
    }[needed]
    others = ", ".join(other for other, one in STRATEGIES.items() if one.needs in evaluate.offers)
    raise SearchError(
        f"the strategy {name!r} {how}, which {type(evaluate).__name__} does not offer. "
        f"Give it an evaluator that does (PlanEvaluator), or take one of {others}."
    )


def require_budget(budget: int, least: int, what: str) -> None:
    """Raises SearchError where the budget, in training images, is under the `least` that `what` takes."""
    if budget < least:
        raise SearchError(
            f"a budget of {budget:,} training images is too small: {what} takes {least:,}. Give at least that, or make "
            "it cheaper (fewer epochs, fewer specimens)."
        )


class Sampler:
    """Proposes candidates and learns from their scores. What it draws depends on its seed and what it was told alone."""

    def propose(self) -> Genotype | None:
        """The next candidate; None when it has no more."""
        raise NotImplementedError

    def observe(self, genotype: Genotype, score: float) -> dict[str, Any]:
        """Learn what the proposal scored. Returns columns for its row in the trace, plain numbers and texts."""
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
    """The run folder of a search, claimed for it; None where nothing is to be kept.

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
    """What a search that is complete found; None where there is none yet."""
    if run is None or not run.complete:
        return None
    summary = run.summary
    return SearchResult(run.genotype, run.table("trace"), summary["images_seen"], summary["stopped"])


def conclude(run: Run | None, result: SearchResult) -> SearchResult:
    """Write the answer; done.json last."""
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
) -> SearchResult:
    """A whole search by candidates that are trained one by one; see `Strategy`."""
    require(name, evaluate)
    require_budget(budget, evaluate.images, "one candidate")
    run = open_run(folder, name, space, evaluate, budget, seed, options)
    if (result := finished(run)) is not None:
        return result
    return conclude(run, score_candidates(name, sampler, space, evaluate, run, budget, evaluate.images))


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
    """Score what the sampler proposes until the budget is spent; the best candidate, the first of equals, is the answer.

    Args:
        cost: images of one candidate.
        spent: images of what went before the first one.
    """
    state = run and run.load_checkpoint(parts=PARTS)
    state = state or {"rows": [], "known": {}, "spent": spent, "proposals": 0}
    rows, known, spent, proposals = (state[part] for part in ("rows", "known", "spent", "proposals"))
    if "sampler" in state:
        sampler.load_state(state["sampler"])
    repeated, stopped = 0, ""
    with progress(total=budget, initial=spent, desc=name, unit="image", unit_scale=True) as bar:
        while not stopped:
            if len(known) >= space.distinct:
                stopped = "every genotype of the space is scored"
            elif spent + cost > budget:
                stopped = "the budget is spent"
            elif repeated >= PATIENCE:
                stopped = f"converged: {PATIENCE} proposals in a row were scored before"
            elif (proposed := sampler.propose()) is None:
                stopped = "no more candidates"
            elif proposed.key() in known:
                proposals, repeated = proposals + 1, repeated + 1
                sampler.observe(proposed, known[proposed.key()])
            else:
                proposals, repeated, start = proposals + 1, 0, time.perf_counter()
                genotype = space.canonical(proposed)
                score = evaluate(genotype)
                spent, known[genotype.key()] = spent + score.images, score.value
                common = row(len(rows), genotype, score.value, spent, time.perf_counter() - start)
                own = sampler.observe(proposed, score.value)
                rows.append({**common, "proposals": proposals, **score.columns, **own})
                if run is not None:
                    parts = (rows, known, spent, proposals, sampler.state())
                    run.save_checkpoint(dict(zip(PARTS, parts)))
                    files.write_csv(run.path / "trace.csv", pd.DataFrame(rows))
                bar.update(score.images)
                bar.set_postfix(candidates=len(rows), best=f"{max(known.values()):.3f}")
    best = max(rows, key=lambda scored: scored["score"])
    return SearchResult(Genotype.from_json(best["genotype"]), pd.DataFrame(rows), spent, stopped)


def row(index: int, genotype: Genotype, score: float, images: int, seconds: float) -> dict[str, Any]:
    """The columns that every trace has."""
    written = json.dumps(json.loads(genotype.to_json()), separators=(",", ":"))
    return {
        "index": index,
        "key": genotype.key(),
        "genotype": written,
        "score": float(score),
        "images": images,
        "seconds": round(seconds, 3),
    }
