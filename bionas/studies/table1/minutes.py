"""Equal core-minutes for the experiments of Table I.

A budget in core-minutes holds search and retraining together. Strategies count training images, so the minutes are
converted with the rates that `searches` measures on this machine for the experiment's own fusion and primitive set.
"""

from __future__ import annotations

import dataclasses

from bionas.errors import SearchError
from bionas.strategies import STRATEGIES, PlanEvaluator
from bionas.strategies.evaluators import CHILDREN, NETWORKS, SUPERNET
from bionas.studies.searches.study import CONTROL, Study, measured_rates
from bionas.training.configuration import Plan


def images_within(plan: Plan, strategy: str, minutes: float) -> int:
    """Training images that a search by `strategy` may use, so that it and the retraining take `minutes` core-minutes.

    Args:
        plan: of the experiment, its fusion and primitive set among its choices.

    Raises:
        SearchError: the retraining alone takes that long.
    """
    if STRATEGIES[strategy].needs == NETWORKS:
        return 0
    name = f"rates-{plan.source}-{plan.preset}-{plan.fusion}-{plan.primitive_set}"
    rates = measured_rates(
        Study(plan, minutes, tuple(dict.fromkeys((strategy, CONTROL))), (plan.seed,), name)
    )
    rate = rates[strategy if STRATEGIES[strategy].needs == SUPERNET else CHILDREN]
    retraining = rates[CHILDREN].per_image * PlanEvaluator(plan, plan.epochs).images
    left = 60 * minutes - rate.overhead - retraining
    if left <= 0:
        raise SearchError(
            f"--minutes {minutes:g} leave {plan.fusion}, {strategy} nothing to search with: the retraining takes "
            f"{retraining / 60:.1f} core-minutes and scoring {rate.overhead / 60:.1f}. Give more, or -p epochs=..."
        )
    return int(left / rate.per_image)


def budgets_within(plan: Plan, experiments: list, minutes: float) -> dict[str, int]:
    """Experiment's name -> training images of its search under `minutes` core-minutes."""
    return {
        e.name: images_within(
            dataclasses.replace(plan, fusion=e.fusion, primitive_set=e.primitive_set), e.strategy, minutes
        )
        for e in experiments
    }
